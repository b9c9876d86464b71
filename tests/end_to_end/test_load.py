"""The load test that users get runs, finds no failure, and leaves a report."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

import tidings
from people import find_people, read_people
from tests.support.server import start_server
from tests.support.world import make_world

LOAD = Path(__file__).parents[2] / "loadtest" / "load.py"
SMALL = ["--items", "3000", "--shop-users", "500"]


def load(folder: Path, *given: str) -> dict[str, int]:
    """Run a load test without a failure; how often each thing was done."""
    words = [sys.executable, str(LOAD), *given, "--html", str(folder / "load.html"), "--csv", str(folder / "load")]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode == 0, ended.stderr
    with (folder / "load_stats.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["Name"] for row in rows if int(row["Failure Count"])] == []
    assert "recommend for-you" in (folder / "load.html").read_text()
    return {row["Name"]: int(row["Request Count"]) for row in rows}


@pytest.mark.long
def test_twenty_seconds_of_everyone_end_without_a_failure(tmp_path: Path) -> None:
    """A generated shop is served; people look, act and listen, and all of it is answered in full."""
    done = load(tmp_path, *SMALL, "--seconds", "20", "--users", "15")
    assert done["Aggregated"] > 300
    assert {"recommend similar", "recommend after event", "record view", "send push"} <= done.keys()
    assert done["send push to receipt"] == done["send push"] > 3


@pytest.mark.long
def test_a_shop_day_runs_from_several_processes(tmp_path: Path) -> None:
    """A master and two workers; as many people as were asked for come to the sale, and few are left after it."""
    done = load(tmp_path, *SMALL, "--scenario", "shop-day", "--seconds", "15", "--users", "12", "--workers", "2")
    assert done["Aggregated"] > 100
    with (tmp_path / "load_stats_history.csv").open() as file:
        there = [int(row["User Count"]) for row in csv.DictReader(file) if row["Name"] == "Aggregated"]
    assert max(there) == 12
    assert min(there[there.index(12) :]) < 6


def test_a_server_names_people_of_its_release(tmp_path: Path) -> None:
    """Where the release's directory is not at hand they are asked for, and are some of those who stand in it."""
    releases = tmp_path / "releases"
    name = make_world(items=300, users=50).write(releases).release_id
    with start_server(releases, tmp_path / "state") as server, tidings.Client(server.address) as client:
        with pytest.raises(SystemExit, match="knows no users"):
            find_people(client)
        client.promote_release(name)
        found = find_people(client)
    assert len(found) == len(set(found)) > 10
    assert set(found) <= set(read_people(str(releases)))
    with pytest.raises(SystemExit, match="has no release"):
        read_people(str(tmp_path))
