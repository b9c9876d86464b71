"""Profiles made again from the log: equal to the live ones on the real data set, and damage is found and put right."""

import json
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.server.conftest import Clock
from tests.server.storing import entry, push
from tests.support.server import server_environment
from tidings_core.changes import Change, TagSetting, Update
from tidings_core.events import Event, EventItem, EventType
from tidings_core.flags import Flag
from tidings_core.profile import EMPTY, fold
from tidings_core.retention import Retention
from tidings_server.adapters.sqlite_log import open_log
from tidings_server.adapters.sqlite_schema import FILE
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.adapters.state_directory import StateDirectory
from tidings_server.application.documents import read_document, write_checkpoint, write_document
from tidings_server.application.import_events import ImportEvents
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.merge_profiles import MergeProfiles
from tidings_server.application.prune import Prune
from tidings_server.application.record_events import RecordEvents, take_in
from tidings_server.application.replay import item_numbers
from tidings_server.application.store import Transaction
from tidings_server.rebuild_cli import EVERY, MARK, _repair, _verify
from tidings_server.show_progress import ShownProgress
from tidings_server.transport.changes import decode_logged, encode_change
from tidings_server.transport.events import encode_event

SHOP = Path(__file__).parents[2] / "examples" / "online_retail" / "online_retail.parquet"
START = 1_600_000_000_000
TYPES: tuple[EventType, ...] = ("view", "click", "add_to_cart", "purchase", "purchase", "return", "see_less", "rating")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory, with its key."""
    StateDirectory.open(tmp_path / "state").close()
    return tmp_path / "state"


def opened(state: Path) -> "closing[SqliteStore]":
    """The store of a state directory."""
    return closing(SqliteStore.open(state, lambda: START))


def event(number: int, chance: random.Random) -> Event:
    """Something that somebody did at some time, in no order."""
    type = chance.choice(TYPES)
    items = tuple(EventItem(f"i{chance.randrange(60)}", chance.randint(1, 3), 2.5) for _ in range(chance.randint(1, 3)))
    value = float(chance.randint(0, 5)) if type == "rating" else None
    return Event(f"e{number}", type, f"u{chance.randrange(20)}", START + chance.randrange(10**10), items, value=value)


def record(store: SqliteStore, events: list[Event]) -> None:
    """Record events as calls of a few."""
    record = RecordEvents(store, KnownDocuments(store), (), Clock())
    for start in range(0, len(events), 7):
        record([[(one, encode_event(one)) for one in events[start : start + 7]]])


def lived(state: Path, count: int = 1500) -> dict[str, bytes]:
    """A state in which much happened: events, changes, a merge, flags; the documents by user."""
    chance = random.Random(3)
    with opened(state) as store:
        events = [event(number, chance) for number in range(count)]
        record(store, events[: count // 2])
        documents = KnownDocuments(store)
        update = Update({"city": "Rome", "age": 25.0}, {"vip": TagSetting(2.0)}, "crm")
        for user in ("u1", "u2", "new"):
            change = Change(f"change-{user}", user, START + 5, update)
            store.write(lambda tx, change=change: _take_in(tx, change)).result()  # type: ignore[misc]
        merge = MergeProfiles(
            store, documents, encode_change, lambda *_: None, lambda *_: None, lambda _: None, Clock()
        )
        merge("u3", "u4").result()
        record(store, events[count // 2 :])
        with open_log(state) as log:
            users = list(log.all_user_ids())
        return {user: store.user(user).content for user in users if not store.user(user).user_id}


def _take_in(tx: Transaction, change: Change) -> None:
    stored = tx.users.get(change.user_id)
    document, _ = take_in(tx, read_document(stored), [(change, encode_change(change))], (), START)
    tx.users.put(change.user_id, write_document(document), stored.version)


def verify(state: Path, user: str = "") -> dict[str, str]:
    """What is wrong, by user."""
    with ShownProgress() as progress:
        return {one.user_id: one.problem for one in _verify(state, user, progress)[0]}


def repair(state: Path, user: str = "") -> tuple[dict[str, str], int]:
    """What was wrong, by user, and how many were looked at."""
    with ShownProgress() as progress:
        found, checked = _repair(state, user, progress)
    return {one.user_id: one.problem for one in found}, checked


def test_what_was_recorded_merged_and_changed_is_what_the_log_says(state: Path) -> None:
    """In whatever order it came; nothing is found, and nothing is written."""
    before = lived(state)
    assert verify(state) == {}
    assert repair(state) == ({}, len(before) + 1)
    with opened(state) as store:
        assert {user: store.user(user).content for user in before} == before


def test_history_that_was_imported_is_what_the_log_says_on_the_real_shop(state: Path) -> None:
    """Orders of hundreds of customers of Online Retail, with returns, imported in rows and recorded live."""
    rows = [row for row in pq.read_table(SHOP).slice(0, 12_000).to_pylist() if row["customer_id"] is not None]
    events = [
        Event(
            f"row-{at}",
            "purchase" if row["quantity"] > 0 else "return",
            str(row["customer_id"]),
            int(row["invoice_date"].timestamp() * 1000),
            (EventItem(row["stock_code"], abs(row["quantity"]), row["unit_price"]),),
        )
        for at, row in enumerate(rows)
    ]
    with opened(state) as store:
        take = ImportEvents(store, KnownDocuments(store), lambda: False, Clock())
        take("history", 0, [(one, encode_event(one)) for one in events[:4000]])
        record(store, events[4000:])
        assert store.position > 5000
    assert verify(state) == {}


def test_damaged_documents_are_found_and_put_right_byte_for_byte(state: Path) -> None:
    """A count that is off, bytes that are none, and a document that is gone; the others stay as they are."""
    before = lived(state)
    with opened(state) as store:
        wrong = read_document(store.user("u1"))
        wrong = replace(wrong, profile=replace(wrong.profile, spent=wrong.profile.spent + 1))
        store.write(lambda tx: tx.users.put("u1", write_document(wrong), tx.users.get("u1").version)).result()
        store.write(lambda tx: tx.users.put("u2", b"\x00", tx.users.get("u2").version)).result()
    with closing(sqlite3.connect(state / FILE)) as database, database:
        database.execute("DELETE FROM users WHERE user_id = 'u5'")
    expected = {"u1": "differs", "u2": "unreadable", "u5": "missing"}
    assert verify(state) == expected
    assert verify(state, "u1") == {"u1": "differs"}
    assert repair(state)[0] == expected
    assert verify(state) == {}
    with opened(state) as store:
        for user, content in before.items():
            assert write_checkpoint(read_document(store.user(user)).profile) == write_checkpoint(
                read_document(replace(store.user(user), content=content, version=1)).profile
            )


def test_the_push_state_stays_or_is_found_again(state: Path) -> None:
    """Of a readable document all of it; of a lost one the offset, so that none is taken twice, and the cap of a day."""
    lived(state)
    with opened(state) as store:
        kept = read_document(store.user("u1"))
        kept = replace(kept, newest_offset=9, fired={"t": 5}, profile=replace(kept.profile, spent=-1))
        store.write(lambda tx: tx.users.put("u1", write_document(kept), tx.users.get("u1").version)).result()
        store.write(lambda tx: tx.users.put("u2", b"", tx.users.get("u2").version)).result()
        store.write(lambda tx: tx.streams.append("u2", push(3))).result()
        store.write(lambda tx: tx.ledger.add(entry(1, "u2", offset=7))).result()
    repair(state)
    with opened(state) as store:
        found = read_document(store.user("u1"))
        assert (found.newest_offset, found.fired) == (9, {"t": 5})
        assert read_document(store.user("u2")).newest_offset == 7


def test_who_is_being_erased_does_not_come_back(state: Path) -> None:
    """An erasure that was cut off leaves events without a document for a while: none is made again from them."""
    lived(state)
    with opened(state) as store:
        store.write(lambda tx: tx.erasures.begin([b"k" * 32], ["u4", "u3"], START, {})).result()
        assert store.user_events("u4", 0, 10)
    assert verify(state) == {}
    assert repair(state)[0] == {}
    with opened(state) as store:
        assert store.user("u4").version == store.user("u3").version == 0


def test_what_was_taken_out_of_the_log_counts_by_its_checkpoint(state: Path) -> None:
    """Old events are folded into the checkpoint and go: what the profile adds up is still what the log says."""
    lived(state)

    def prune(tx: Transaction) -> int:
        old = [one for one in tx.events.of_user("u4", 0, 1000) if not one.flags][:20]
        logged = [decode_logged(one.content) for one in old]
        tx.checkpoints.put("u4", write_checkpoint(fold(EMPTY, [(one, item_numbers(tx, one)) for one in logged])))
        return tx.events.remove([one.number for one in old])

    with opened(state) as store:
        assert store.write(prune).result() == 20
    assert verify(state) == {}


def test_after_retention_took_events_out_profiles_are_what_checkpoint_and_log_say(state: Path) -> None:
    """By the pruning that a server does: counts stay, traces of single events go, and the two are still equal."""
    lived(state)
    day = 86_400_000
    kept = Retention({"view": 30 * day, "click": 30 * day, "purchase": 60 * day})
    with opened(state) as store:
        now = START / 1000 + 100 * 86_400
        assert Prune(store, KnownDocuments(store), kept, decode_logged, lambda: now).pass_over()["events"] > 100
    assert verify(state) == {}


def test_a_damaged_entry_of_the_log_is_told_and_leaves_the_document_alone(state: Path) -> None:
    """Nobody's profile is made of half a log."""
    before = lived(state)
    with opened(state) as store:
        number = store.write(lambda tx: tx.events.append("bad", "u1", START, b"\xff")).result()
        assert number
    assert verify(state) == {"u1": "log damaged"}
    assert repair(state)[0] == {"u1": "log damaged"}
    with opened(state) as store:
        assert store.user("u1").content == before["u1"]
        store.write(lambda tx: tx.events.set_flags(number, Flag.TEST)).result()
    assert verify(state) == {}


def test_a_run_that_was_cut_off_goes_on_where_it_was(state: Path) -> None:
    """By the number of users that are done; of another history, or of more users than there are, nothing is."""
    before = lived(state)
    with open_log(state) as log:
        epoch, users = log.epoch, log.user_count
    for told, checked in (
        ({"epoch": epoch, "users": users, "done": 5}, len(before) - 4),
        ({"epoch": "another", "users": users, "done": 5}, len(before) + 1),
        ({"epoch": epoch, "users": users + 1, "done": 5}, len(before) + 1),
    ):
        (state / MARK).write_text(json.dumps(told))
        assert repair(state)[1] == checked
        assert not (state / MARK).exists()
    assert EVERY > 0


def test_the_command_says_what_it_found(state: Path) -> None:
    """As lines and as JSON; the exit status tells whether something is left to be done."""
    lived(state, 60)
    with opened(state) as store:
        store.write(lambda tx: tx.users.put("u1", b"\x00", tx.users.get("u1").version)).result()
    ran = _run("--state", str(state), "--verify", "--json")
    assert ran.returncode == 1
    assert json.loads(ran.stdout)["problems"] == {"unreadable": 1}
    ran = _run("--state", str(state))
    assert (ran.returncode, "1 put right" in ran.stdout, "u1: unreadable" in ran.stderr) == (0, True, True)
    with closing(StateDirectory.open(state)):
        assert _run("--state", str(state)).returncode == 1
        assert _run("--state", str(state), "--verify").returncode == 0


def _run(*options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tidings_server", "rebuild-profiles", *options]
    return subprocess.run(command, env=server_environment(), capture_output=True, text=True, timeout=60, check=False)
