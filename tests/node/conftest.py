"""The Node client, installed once from the public registry into tests/node/node_modules."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

RunNode = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Return the folder of the installed packages; skip where Node or npm is not there."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: the Node client is not tested")
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    modules = HERE / "node_modules"
    if any(_version(modules / name) != version for name, version in wanted.items()):
        install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
        done = subprocess.run(install, cwd=HERE, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"npm install failed:\n{done.stdout}{done.stderr}"
    return modules


def _version(package: Path) -> str | None:
    try:
        version: str = json.loads((package / "package.json").read_text())["version"]
    except FileNotFoundError:
        return None
    return version


@pytest.fixture
def recommend_from_node(node_modules: Path) -> RunNode:
    """Return the function that runs recommend.js with its arguments: exit status, and the JSON it printed."""

    def run(*arguments: str | Path) -> tuple[int, Any]:
        done = subprocess.run(
            ["node", str(node_modules.parent / "recommend.js"), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.stdout.count("\n") == 1, done.stdout + done.stderr
        return done.returncode, json.loads(done.stdout)

    return run
