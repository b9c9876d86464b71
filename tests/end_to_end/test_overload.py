"""A server with too much to do, and with callers who misbehave, goes on serving."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caller import ENDED
from overload import recovered

OVERLOAD = Path(__file__).parents[2] / "loadtest" / "overload.py"


@pytest.fixture(scope="module", params=["native", "grpcio"])
def rows(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What a short run says."""
    if not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("there is no C compiler")
    if request.param == "native":
        pytest.importorskip("pygrpc_native", reason="the extra [native] is not installed")
    command = [sys.executable, str(OVERLOAD), "--front", request.param, "--items", "3000", "--users", "500"]
    command += ["--seconds", "8", "--deadline-ms", "1000", "--json", "-"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert said.returncode == 0, said.stderr
    found: list[dict[str, Any]] = json.loads(said.stdout)
    return found


@pytest.mark.long
def test_three_times_too_much_passes_and_leaves_nothing_behind(rows: list[dict[str, Any]]) -> None:
    """Some are answered meanwhile, nobody waits past the deadline; afterwards memory has not run away, and none fails.

    How soon, and how many are refused, depends on what else the machine does: that is for the benchmark to say.
    """
    (surge,) = (row for row in rows if "recovered_s" in row)
    assert surge["offered_over_carried"] > 1.5
    assert surge["answered_over_carried"] > 0
    assert surge["answered_p99_ms"] < 1_100
    assert [row["later_failed"] for row in rows if "later_failed" in row] == [0] * 4
    # The native library holds what came and was not looked at: more when the processor has other things to do. The
    # allocator may keep it; a second surge takes no more.
    assert surge["memory_peak_mib"] - surge["memory_before_mib"] < 300
    assert surge["memory_after_mib"] - surge["memory_before_mib"] < 200


@pytest.mark.long
def test_callers_who_misbehave_harm_nobody_else(rows: list[dict[str, Any]]) -> None:
    """A thousand connections, deadlines of a millisecond, calls left, subscribers who never read."""
    hostile = {row["callers"]: row for row in rows if "callers" in row}
    assert len(hostile) == 4
    for name, row in hostile.items():
        # On a machine that does other things too, a call may wait past its deadline.
        assert row["beside_failed"] <= 0.05 * row["beside_calls"] > 0, name
        assert row["later_failed"] == 0, name
        assert row["memory_growth_mib"] < 100, name
    many = hostile["1,000 connections"]
    assert many["answered"] + many["refused"] == many["calls"] > 0
    assert hostile["never read"]["arrived"] == hostile["never read"]["pushes_to_who_reads"] > 0


def test_recovered_means_answered_and_fast_for_half_a_second() -> None:
    """The first such half second after the surge counts, not a lucky moment in between."""
    rows = np.zeros(500, ENDED)
    rows["due"] = np.arange(500) * 10_000_000  # One each 10 ms.
    rows["ms"] = 2.0
    rows["ms"][100:220] = 90.0
    rows["code"][230] = 8
    # Slow until 2.2 s, refused at 2.3: the half second that begins then is the first good one, 1.3 s after the surge.
    assert recovered(rows, 1_000_000_000, 3.0) == pytest.approx(1.3, abs=0.11)
    rows["ms"] = 90.0
    assert recovered(rows, 1_000_000_000, 3.0) == "never"
