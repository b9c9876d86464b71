"""The benchmark of calls runs on both fronts, and every answer in it is whole."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RATIO = Path(__file__).parents[2] / "loadtest" / "ratio.py"


@pytest.mark.long
@pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="there is no C compiler")
@pytest.mark.parametrize("front", ["native", "grpcio"])
def test_every_call_of_the_benchmark_is_answered_in_full(front: str) -> None:
    """On a small shop; and the load generator is good for three times what is measured."""
    if front == "native":
        pytest.importorskip("pygrpc_native", reason="the extra [native] is not installed")
    command = [sys.executable, str(RATIO), "--front", front, "--items", "3000", "--users", "500", "--seconds", "2"]
    said = subprocess.run([*command, "--rounds", "1", "--json", "-"], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert (found["short_answers"], found["failed"]) == (0, 0)
    assert found["calls_per_second"] > 50
    assert found["generator_calls_per_second"] == 0 or found["generator_over_calls"] >= 3
    if "two_over_one" in found:  # There are two cores.
        assert found["two_failed"] == 0
        assert 0 < found["two_generator_cores"] < 1
    assert sum(share for name, share in found.items() if name.startswith("share_")) == pytest.approx(1.0)
