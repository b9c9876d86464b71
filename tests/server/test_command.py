"""The command: what is wrong is one clear line per fault on standard error and exit status 1, never a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.conftest import Shop
from tests.support.server import run_server, server_environment
from tidings_server.default_config import default_config


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command with these arguments alone."""
    return subprocess.run(
        [sys.executable, "-m", "tidings_server", *arguments],
        env=server_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def lines(ended: "subprocess.CompletedProcess[str]") -> list[str]:
    """What a command that failed said."""
    assert ended.returncode == 1, ended
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()


def test_the_default_config_is_printed_and_checks_out(tmp_path: Path) -> None:
    """--print-default-config and --check-config are two ends of one thing."""
    printed = command("--print-default-config")
    assert printed.returncode == 0
    assert printed.stdout == default_config()
    (tmp_path / "tidings.toml").write_text(printed.stdout)
    checked = command("--config", str(tmp_path / "tidings.toml"), "--check-config")
    assert (checked.returncode, checked.stdout) == (0, "the settings are fine\n")


def test_each_fault_of_the_settings_is_a_line(tmp_path: Path) -> None:
    """File and command line together."""
    (tmp_path / "tidings.toml").write_text("max_batch = 0\nnonsense = 1\n")
    said = lines(command("--config", str(tmp_path / "tidings.toml"), "--listen", "here", "--check-config"))
    assert len(said) == 3
    assert all(line.startswith("tidings-server: ") for line in said)
    assert sorted(line.split(": ")[1] for line in said) == ["listen", "max_batch", "nonsense"]


def test_a_missing_releases_directory_is_one_line_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """The server makes its own state directory, but not where others put releases."""
    (line,) = lines(run_server(tmp_path / "none", tmp_path / "state"))
    assert "releases: there is no directory" in line
    assert not (tmp_path / "state").exists()


def test_a_state_directory_that_cannot_be_is_one_line(shop: Shop, tmp_path: Path) -> None:
    """A file stands where the directory should be."""
    (tmp_path / "state").write_text("in the way")
    (line,) = lines(run_server(shop.path, tmp_path / "state"))
    assert "state: " in line
    assert "cannot be used" in line


def test_a_damaged_record_is_one_line(shop: Shop, tmp_path: Path) -> None:
    """The server does not start on a state it cannot read, and says what to do."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "serving.json").write_text("{")
    (line,) = lines(run_server(shop.path, tmp_path / "state"))
    assert "serving.json is damaged" in line


@pytest.mark.parametrize("module", ["typer", "grpc_health", "structlog", "aiohttp", "prometheus_client", "faiss"])
def test_a_missing_library_is_named_with_the_way_out(module: str) -> None:
    """On the base install the command says what to install."""
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "sys.argv = ['tidings-server', '--help']\n"
        "from tidings_server.__main__ import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert lines(ended) == [
        f'tidings-server needs more than the base install: pip install "tidings[server]" (missing: {module})'
    ]
