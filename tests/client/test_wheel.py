"""The wheel as a user gets it: built, installed alone into an empty environment, and asked."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in an empty environment, away from the checkout, and return what it printed."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of this checkout."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    built = subprocess.run(build, capture_output=True, text=True, check=False, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel with its base dependencies into a new environment and return that one's bin folder."""
    home = tmp_path_factory.mktemp("base") / "venv"
    venv.create(home, with_pip=True)
    # Without the empty environment of `run`: pip has its own settings in a user's.
    install = [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "bin"


def test_the_base_install_is_small(installed: Path, tmp_path: Path) -> None:
    """The client brings gRPC and protobuf, and nothing that computes, parses settings or draws."""
    listed = run(installed / "python", "-m", "pip", "list", "--format=freeze", cwd=tmp_path).stdout
    names = {line.partition("==")[0].lower().replace("_", "-") for line in listed.splitlines()} - {"pip", "setuptools"}
    assert names == {
        "tidings",
        "grpcio",
        "grpcio-status",
        "googleapis-common-protos",
        "protobuf",
        "typing-extensions",  # of grpcio
    }


def test_the_installed_client_works(installed: Path, tmp_path: Path) -> None:
    """`import tidings` and the command run on the base install, and the command knows its version."""
    imported = run(
        installed / "python", "-c", "import tidings; print(tidings.Client, tidings.aio.Client)", cwd=tmp_path
    )
    assert (imported.returncode, imported.stderr) == (0, "")
    helped = run(installed / "tidings", "--help", cwd=tmp_path)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "recommend" in helped.stdout
    assert run(installed / "tidings", "--version", cwd=tmp_path).stdout.split()[1][0].isdigit()


def test_the_wheel_carries_the_proto_files(wheel: Path, installed: Path, tmp_path: Path) -> None:
    """`proto_dir` of the installed package holds every .proto file of the repository, byte for byte."""
    found = run(installed / "python", "-c", "import tidings; print(tidings.proto_dir())", cwd=tmp_path)
    folder = Path(found.stdout.strip())
    assert folder.is_relative_to(installed.parent)
    ours = sorted((ROOT / "protos").rglob("*.proto"))
    assert ours
    for file in ours:
        assert (folder / file.relative_to(ROOT / "protos")).read_bytes() == file.read_bytes()
    assert len(sorted(folder.rglob("*.proto"))) == len(ours)
    assert "tidings/py.typed" in zipfile.ZipFile(wheel).namelist()


@pytest.mark.parametrize(
    ("program", "extra"), [("tidings-server", "server"), ("tidings-build-index", "builder"), ("tidings-train", "train")]
)
@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_a_command_without_its_extra_names_it(
    installed: Path, tmp_path: Path, program: str, extra: str, arguments: list[str]
) -> None:
    """The other commands, installed without their libraries, end with one line that says what to install."""
    done = run(installed / program, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(program)
    assert f'pip install "tidings[{extra}]"' in line
