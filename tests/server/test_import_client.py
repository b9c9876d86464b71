"""History, end to end: a real server on each front, the real client and its command."""

import asyncio
import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import tidings
from tests.server.conftest import Shop
from tests.support.server import RunningServer, start_server
from tidings import history
from tidings.model_import import Imported

LONG_AGO = datetime(2011, 12, 9, tzinfo=UTC)
TRIGGER = """
[trigger.bought]
event = "purchase"
serving_config = "for-you"
template = "bought"
[template.bought]
title = "More"
"""


def events(count: int) -> Iterator[tidings.Event]:
    """Purchases of long ago."""
    for n in range(count):
        time = LONG_AGO + timedelta(minutes=n)
        yield tidings.Event(f"u{n % 50}", "purchase", [f"item-{n % 9}"], event_time=time, event_id=f"e{n}")


@pytest.fixture
def running(built_shop: Shop, tmp_path: Path, front: str) -> Iterator[RunningServer]:
    """A server that pushes to whoever bought."""
    (tmp_path / "server.toml").write_text(TRIGGER)
    with start_server(
        built_shop.path, tmp_path / "state", "--front", front, "--config", str(tmp_path / "server.toml")
    ) as running:
        yield running


def test_history_is_imported_by_either_client_and_calls_for_no_push(running: RunningServer) -> None:
    """What one began the other goes on with; the profiles have it all, and nobody is told of anything."""
    told: list[Imported] = []
    with tidings.Client(running.address) as client:
        first = client.import_events("march", events(300), on_progress=told.append)
        assert (first.next_row, first.accepted, first.rejected) == (300, 300, 0)
        assert [state.next_row for state in told] == [0, 300]

        async def go_on() -> Imported:
            async with tidings.aio.Client(running.address) as other:
                return await other.import_events("march", events(500))

        done = asyncio.run(go_on())
        assert (done.next_row, done.accepted, done.duplicates) == (500, 500, 0)
        profile = client.get_profile("u7", consistency_token=done.consistency_token)
        assert [(count.type, count.total) for count in profile.counts] == [("purchase", 10)]
        assert profile.first_event_time == LONG_AGO + timedelta(minutes=7)
        assert client.import_events("april", events(10)).duplicates == 10
    assert running.metric('tidings_imported_rows_total{status="accepted"}') == 500
    assert running.metric('tidings_decisions_total{cause="trigger:bought",outcome="sent"}') == 0


def test_an_import_goes_on_after_the_server_was_killed_in_the_middle(
    built_shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill at any time: what was done stays, and no row is lost or counted twice."""
    monkeypatch.setattr(history, "ROWS_PER_CALL", 400)
    monkeypatch.setattr(history, "PAUSES", (0.0,) * 5)
    state = tmp_path / "state"
    seen: list[int] = []
    for _ in range(2):
        with start_server(built_shop.path, state) as running, tidings.Client(running.address, max_attempts=1) as client:
            rows = _killing(running, 1500) if not seen else events(1500)
            try:
                done = client.import_events("march", rows)
            except tidings.TidingsError:
                seen.append(0)
    assert seen == [0]
    assert (done.next_row, done.accepted, done.duplicates) == (1500, 1500, 0)


def _killing(running: RunningServer, count: int) -> Iterator[tidings.Event]:
    """Rows that kill the server when it has some of them."""
    for number, event in enumerate(events(count)):
        if number == 1000:
            running.process.kill()
            running.process.wait()
        yield event


def test_the_command_names_bad_rows_and_goes_on_by_itself(running: RunningServer, tmp_path: Path) -> None:
    """A file has a name of its content: running it twice does nothing twice, and tells the same."""
    path = tmp_path / "history.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["event_id", "customer", "timestamp", "event_type", "item_id"])
        writer.writerows([f"c{n}", "ann", "soon" if n == 4 else LONG_AGO.isoformat(), "view", "hat"] for n in range(9))
    command = [sys.executable, "-m", "tidings", "import-events", str(path), "--columns", "user_id=customer"]
    for _ in range(2):
        ran = subprocess.run(
            [*command, "--server", running.address, "--json"], capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 1
        assert "tidings: row 5: event_time" in ran.stderr
        told = json.loads(ran.stdout)
        assert (told["next_row"], told["accepted"], told["rejected"]) == (9, 8, 1)
    assert "going on after 9 rows" in ran.stderr
