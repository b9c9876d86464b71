"""Ten thousand listeners on one process: all come at once, all are told, and none costs much."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FANOUT = Path(__file__).parents[2] / "loadtest" / "fanout.py"
LISTENERS = 10_000
BYTES = {"native": 20_000, "grpcio": 32_000}
"""Memory of one who waits, at most. Measured: 18,000 and 27,000."""


@pytest.mark.long
@pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="there is no C compiler")
@pytest.mark.parametrize("front", ["native", "grpcio"])
def test_ten_thousand_who_come_at_once_are_let_in_and_told(front: str) -> None:
    """None is reset, all within ten seconds; a push to each reaches each, in a burst and as fast as pushes are sent."""
    if front == "native":
        pytest.importorskip("pygrpc_native", reason="the extra [native] is not installed")
    command = [sys.executable, str(FANOUT), "--front", front, "--subscribers", str(LISTENERS), "--rounds", "1"]
    said = subprocess.run([*command, "--json", "-"], capture_output=True, text=True, check=True, timeout=300)
    found = json.loads(said.stdout)
    assert (found["open"], found["refused"], found["silent"]) == (LISTENERS, 0, 0)
    assert found["storm_seconds"] < 10
    assert found["burst_received"] == found["stream_received"] == LISTENERS
    assert found["bytes_per_subscriber"] < BYTES[front]
