"""The load test that users get runs, and finds no failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tidings
from tests.support.server import start_server
from tests.support.world import make_world

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_locust_shoppers_are_all_answered_in_full(tmp_path: Path) -> None:
    """Ten seconds of shoppers against a real server: many calls, none failed or cut short."""
    releases = tmp_path / "releases"
    # Neighbours enough that an item's page can always show ten.
    name = make_world(items=2000, users=500).write(releases).release_id
    with start_server(releases, tmp_path / "state") as server, tidings.Client(server.address) as client:
        client.promote_release(name)
        command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless"]
        command += ["--users", "10", "--spawn-rate", "10", "--run-time", "10s", "--csv", str(tmp_path / "load")]
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "TIDINGS_SERVER": server.address, "TIDINGS_RELEASES": str(releases)},
        )
    assert ended.returncode == 0, ended.stderr
    total = (tmp_path / "load_stats.csv").read_text().splitlines()[-1].split(",")
    assert (total[1], total[3]) == ("Aggregated", "0"), ended.stderr
    assert int(total[2]) > 300
