"""The documents say what is true."""

import functools
import re
import shlex
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import tidings
from tests.support.server import start_server
from tests.support.world import make_world
from tidings_core.model import SERVING_CONFIGS
from tidings_index_builder.settings import RebuildSettings
from tidings_server.control_settings import read_controls
from tidings_server.metrics import METRICS
from tidings_server.settings import Settings
from tidings_server.transport.status import CODES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = {
    "tidings": [
        "recommend",
        "explain",
        "audience",
        "record",
        "import-events",
        "profile",
        "update-profile",
        "set-preferences",
        "export-profile",
        "erase-profile",
        "merge-profiles",
        "send",
        "subscribe",
        "contacts add",
        "contacts list",
        "contacts remove",
        "items upsert",
        "items get",
        "items list",
        "items delete",
        "releases list",
        "releases promote",
        "releases rollback",
    ],
    "tidings-server": [
        "decisions",
        "flags",
        "renew-epoch",
        "backup",
        "restore",
        "verify",
        "erasures",
        "export events",
        "export catalogue",
        "export decisions",
        "rebuild-profiles",
        "export-changes",
        "controls check",
        "controls preview",
        "tags preview",
        "",
    ],
    "tidings-build-index": ["build", "inspect", "evaluate", "rebuild", "fold"],
    "tidings-train": ["fit", "carts", "check", "evaluate", "run"],
}


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language in a page."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def shell_lines(page: Path) -> list[str]:
    """Every command of a page's shell blocks."""
    return [line for block in blocks(page, "sh") for line in block.splitlines() if line.strip()]


@functools.cache
def helps() -> dict[tuple[str, str], str]:
    """What `--help` of every command prints, asked side by side: each starts a process."""
    every = [(program, command) for program, commands in COMMANDS.items() for command in commands]
    with ThreadPoolExecutor() as pool:
        return dict(zip(every, pool.map(_help_of, every), strict=True))


def _help_of(named: tuple[str, str]) -> str:
    program, command = named
    words = [str(Path(sys.executable).with_name(program)), *command.split(), "--help"]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60, env={"COLUMNS": "200"}).stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    """A relative link names a file that is there."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_the_pages_exists_with_its_options(page: Path) -> None:
    """Each `tidings…` line of a shell block names a command, and options, that its --help knows."""
    for line in shell_lines(page):
        words = shlex.split(line.removeprefix(".venv/bin/"))
        if words[0] not in COMMANDS:
            assert words[0] in ("make", "pip"), line
            continue
        known = [command for command in COMMANDS[words[0]] if " ".join(words[1:]).startswith(command)]
        assert known, line
        text = helps()[words[0], known[0]]
        for option in (word for word in words[1:] if re.match(r"--?[a-z]", word)):
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), f"{option} in: {line}"


def test_every_command_is_documented() -> None:
    """Whatever a user can run stands in a page."""
    text = "\n".join(page.read_text() for page in PAGES)
    for program, commands in COMMANDS.items():
        for command in commands:
            assert f"{program} {command}".strip() in text


def test_the_chinese_readme_has_the_same_commands() -> None:
    """Same commands, same code, in the same order."""
    english, chinese = ROOT / "README.md", ROOT / "README.zh-CN.md"
    assert shell_lines(english) == shell_lines(chinese)
    assert blocks(english, "python") == blocks(chinese, "python")


def test_the_readme_program_runs_against_a_real_server(tmp_path: Path) -> None:
    """The Python block of the README, with nothing changed but the port, prints an answer."""
    release_id = make_world().write(tmp_path / "releases").release_id
    with start_server(tmp_path / "releases", tmp_path / "state") as server:
        with tidings.Client(server.address) as client:
            client.promote_release(release_id)
        (program,) = blocks(ROOT / "README.md", "python")
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", program.replace("127.0.0.1:50051", server.address)],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    assert release_id in ran.stdout
    assert len(ran.stdout.splitlines()) == 7


def test_every_metric_setting_and_error_is_documented() -> None:
    """What an operator meets stands in docs/operations.md."""
    text = (ROOT / "docs" / "operations.md").read_text()
    for name in [*(metric.name for metric in METRICS), *Settings.model_fields]:
        assert f"`{name}`" in text, name
    for error, code in CODES.items():
        assert re.search(rf"\| {code.name} \| [A-Z_, ]*{error.reason}", text), f"{code.name} {error.reason}"


def test_the_rebuild_file_in_the_pages_is_a_valid_one() -> None:
    """Every key of the example is a setting of `rebuild`."""
    (example,) = blocks(ROOT / "docs" / "building.md", "toml")
    RebuildSettings.model_validate(tomllib.loads(example))


@pytest.mark.parametrize("page", ["push.md", "recommending.md", "profiles.md", "privacy.md"])
def test_the_settings_in_the_pages_are_valid(page: str, tmp_path: Path) -> None:
    """The triggers, templates and serving configs of the examples pass `--check-config`."""
    example = blocks(ROOT / "docs" / page, "toml")[0]
    config = tmp_path / "server.toml"
    config.write_text(example)
    words = [str(Path(sys.executable).with_name("tidings-server")), "--check-config", "--config", str(config)]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr


def test_the_controls_in_the_pages_are_valid(tmp_path: Path) -> None:
    """The example of controls is read without a fault."""
    (example,) = (text for text in blocks(ROOT / "docs" / "recommending.md", "toml") if "[control." in text)
    (tmp_path / "controls.toml").write_text(example)
    assert len(read_controls(tmp_path / "controls.toml", SERVING_CONFIGS)) == 5


def test_make_alone_prints_every_target() -> None:
    """`make` without a word is the help, and it names all that can be made."""
    printed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    targets = {line.split()[0] for line in printed.splitlines()}
    assert {
        "demo",
        "test",
        "test-long",
        "check",
        "protos",
        "protos-check",
        "bench",
        "bench-retrieval",
        "crash",
        "load",
        "clean",
    } <= targets


def test_the_stubs_floor_is_the_floor_of_the_client() -> None:
    """Stubs refuse an older runtime, so what generates them and what the client asks for must agree."""
    generator = (ROOT / "protos" / "requirements.txt").read_text().strip().removeprefix("grpcio-tools==")
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"grpcio>={generator}" in needs
    assert f"grpcio-status>={generator}" in needs
    stamped = re.search(
        r"Protobuf Python Version: (\d+)\.(\d+)", (ROOT / "clients/python/tidings/v1/item_pb2.py").read_text()
    )
    assert stamped is not None
    assert any(need.startswith(f"protobuf>={stamped[1]}.{stamped[2]}") for need in needs)
