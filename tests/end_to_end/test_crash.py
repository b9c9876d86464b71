"""A server that is killed at any moment, and loses what was not synced, keeps what it promised."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "loadtest" / "crash.py"


@pytest.mark.long
@pytest.mark.parametrize("mode", ["kill", "drop"])
def test_no_promise_is_broken_by_ten_crashes(mode: str, tmp_path: Path) -> None:
    """Under mixed load: nothing acknowledged is lost, nothing happens twice, nothing is damaged."""
    if mode == "drop" and shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("there is no C compiler (cc) to play power cuts with")
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(SCRIPT), "--rounds", "10", "--mode", mode, "--seed", "1", "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert figures.exists(), done.stderr
    told = json.loads(figures.read_text())
    assert (told["lost"], told["doubled"], told["corrupt"]) == (0, 0, 0), told["faults"]
    assert told["rounds"] == 10
    assert min(told["events"], told["pushes"], told["acknowledged"]) > 100
    assert min(told["items"], told["folds"], told["erased"], told["backups"]) > 0
    assert told["promises_checked"] > 10_000
    if mode == "drop":
        assert told["unsynced_writes"] > 0
