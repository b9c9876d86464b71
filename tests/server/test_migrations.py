"""State directories of every version of the tables that ever landed: opened, brought up, and answering right.

They were made by the real servers of their time (`states/make.py`).
"""

import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest

from tests.server.conftest import Shop
from tests.server.states import make
from tests.support.server import start_server
from tidings.v1 import catalog_service_pb2, event_pb2, event_service_pb2, profile_service_pb2, push_service_pb2
from tidings.v1.catalog_service_pb2_grpc import CatalogServiceStub
from tidings.v1.event_service_pb2_grpc import EventServiceStub
from tidings.v1.profile_service_pb2_grpc import ProfileServiceStub
from tidings.v1.push_service_pb2_grpc import PushServiceStub
from tidings_core.stored import Document
from tidings_server.adapters.sqlite_schema import FILE, MIGRATIONS, open_database
from tidings_server.application.documents import read_document

STATES = sorted(path.name.removesuffix(".tar.xz") for path in make.HERE.glob("*.tar.xz"))
OLDEST = "version_1"
DYING = """
import os, signal, sqlite3, sys
from pathlib import Path
from tidings_server.adapters import sqlite_schema

until, connect = int(sys.argv[2]), sqlite3.connect
seen = 0

def step(statement):
    global seen
    seen += 1
    if seen > until:
        os.kill(os.getpid(), signal.SIGKILL)

def watched(*given, **named):
    connection = connect(*given, **named)
    connection.set_trace_callback(step)
    return connection

sqlite3.connect = watched
sqlite_schema.open_database(Path(sys.argv[1])).close()
"""
"""Opens a state directory and dies before its statement of that number."""


def unpack(name: str, folder: Path) -> Path:
    """A state directory as a server of its time left it."""
    with tarfile.open(make.HERE / f"{name}.tar.xz") as archive:
        archive.extractall(folder / "state", filter="data")
    return folder / "state"


@contextmanager
def connected(address: str) -> Iterator[grpc.Channel]:
    """A channel to a server."""
    with grpc.insecure_channel(address) as channel:
        yield channel


def schema(file: Path) -> dict[str, str]:
    """The tables and indexes of a database, with what made them."""
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
        return {name: " ".join(sql.split()) for name, sql in rows}


def contents(file: Path) -> dict[str, int]:
    """How many rows each of the oldest tables has."""
    tables = ("events", "event_keys", "items", "users", "pushes", "decisions")
    with closing(sqlite3.connect(file)) as connection:
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}


def test_every_state_there_is_was_made_by_another_code() -> None:
    """One for each version that landed but the newest, and none that is too large to keep."""
    assert OLDEST in STATES
    assert all((make.HERE / f"{name}.tar.xz").stat().st_size < 50_000 for name in STATES)
    assert {int(name.split("_")[1]) for name in STATES} >= set(range(1, len(MIGRATIONS)))


@pytest.mark.parametrize("name", STATES)
def test_what_is_brought_up_has_the_tables_of_a_new_one(name: str, tmp_path: Path) -> None:
    """All tables and indexes, columns too, and every row that was there."""
    state, new = unpack(name, tmp_path), tmp_path / "new"
    before = contents(state / FILE)
    new.mkdir()
    for folder in (state, new):
        open_database(folder).close()
    assert set(schema(state / FILE)) == set(schema(new / FILE))
    columns = 'SELECT m.name, c.name, c.type, c."notnull", c.pk FROM sqlite_schema m, pragma_table_info(m.name) c'
    found = []
    for folder in (state, new):
        with closing(sqlite3.connect(folder / FILE)) as connection:
            found.append(sorted(connection.execute(columns)))
    assert found[0] == found[1]
    assert contents(state / FILE) == before
    assert before == {"events": 5, "event_keys": 5, "items": 2, "users": 2, "pushes": 3, "decisions": 3}


@pytest.mark.parametrize("name", STATES)
def test_an_old_state_answers_as_it_did(name: str, tmp_path: Path, built_shop: Shop) -> None:
    """The profile is what the events made it, repeats are known, pushes have their places, and new items are taken."""
    state = unpack(name, tmp_path)
    with start_server(built_shop.path, state) as server, connected(server.address) as channel:
        profiles, events = ProfileServiceStub(channel), EventServiceStub(channel)
        profile = profiles.GetProfile(profile_service_pb2.GetProfileRequest(user_id="ann")).profile
        totals = {(count.type, count.total) for count in profile.counts}
        kinds = event_pb2.EventType
        assert totals == {(kinds.EVENT_TYPE_VIEW, 2), (kinds.EVENT_TYPE_PURCHASE, 1), (kinds.EVENT_TYPE_RETURN, 1)}
        assert (profile.spent, profile.bought_items[0].item_id) == (0, "coat")
        assert [event.event_time.seconds for event in profile.recent_events] == [
            make.TIME + 60 * at for at in (4, 2, 1, 0)
        ]
        again = [event_pb2.Event(**fields, event_time={"seconds": make.TIME}) for fields in make.EVENTS]  # type: ignore[arg-type]
        verdicts = events.RecordEvents(event_service_pb2.RecordEventsRequest(events=again)).verdicts
        assert {verdict.status for verdict in verdicts} == {event_service_pb2.EVENT_STATUS_DUPLICATE}
        pushes = PushServiceStub(channel)
        for at, title in enumerate(make.PUSHES, 1):
            asked = push_service_pb2.SendPushRequest(request_id=f"r-{title}", user_id="ann", title=title)
            assert pushes.SendPush(asked).offset == at
        item = catalog_service_pb2.CatalogItem(item={"item_id": "hat"}, update_time={"seconds": make.TIME})
        done = CatalogServiceStub(channel).UpsertItems(catalog_service_pb2.UpsertItemsRequest(items=[item]))
        assert list(done.results) == [catalog_service_pb2.UPSERT_RESULT_APPLIED]
        assert server.stop() == 0


@pytest.mark.parametrize("name", STATES)
def test_an_old_document_is_read_and_kept(name: str, tmp_path: Path) -> None:
    """With the place of the device and how far the log is folded in."""
    with closing(open_database(unpack(name, tmp_path))) as connection:
        row = connection.execute("SELECT version, content FROM users WHERE user_id = 'ann'").fetchone()
    document = read_document(Document(*row))
    assert (document.applied_through, document.newest_offset, document.acknowledged) == (5, 3, 1)
    assert document.devices["phone"][0] == 1


def test_a_state_whose_server_died_while_bringing_it_up_is_whole(tmp_path: Path) -> None:
    """Killed before each statement in turn: the next start brings it up, and nothing is missing or there twice."""
    first = unpack(OLDEST, tmp_path)
    rows, until, died = contents(first / FILE), 0, 0
    wanted = None
    while True:
        state = tmp_path / f"state-{until}"
        shutil.copytree(first, state)
        ended = subprocess.run([sys.executable, "-c", DYING, str(state), str(until)], check=False, timeout=60)
        open_database(state).close()
        wanted = wanted or schema(state / FILE)
        assert (schema(state / FILE), contents(state / FILE)) == (wanted, rows)
        shutil.rmtree(state)
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
        until, died = until + 1, died + 1
    assert died > 4 * (len(MIGRATIONS) - 1)
