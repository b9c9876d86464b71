"""What leaves for training: rows of a log, in parts that go on, and nothing of those who may not be in it."""

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import tidings
from tests.server.conftest import Clock, Shop
from tests.support.server import start_server
from tidings_core.changes import Change, Said
from tidings_core.errors import InvalidInput
from tidings_core.events import Event, EventItem
from tidings_core.features import CANDIDATE_FEATURES, ITEM_FEATURES, SCHEMA_HASH, USER_FEATURES
from tidings_core.flags import Flag
from tidings_index_builder.catalogue import read_catalogue
from tidings_server.adapters import export_directory
from tidings_server.adapters.export_directory import MANIFEST, ExportDirectory, read_export
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.adapters.state_directory import StateDirectory
from tidings_server.application.documents import UserDocument, read_document, write_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.record_events import RecordEvents, take_in
from tidings_server.application.store import Transaction
from tidings_server.cli import command
from tidings_server.transport.changes import encode_change
from tidings_server.transport.events import encode_event
from tidings_training.event_files import fingerprint, read_log

START = 1_600_000_000_000


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory, with its key."""
    StateDirectory.open(tmp_path / "state").close()
    return tmp_path / "state"


def opened(state: Path) -> "closing[SqliteStore]":
    """The store of a state directory."""
    return closing(SqliteStore.open(state, lambda: START))


def record(state: Path, *events: Event) -> None:
    """Record events."""
    with opened(state) as store:
        RecordEvents(store, KnownDocuments(store), (), Clock())([[(one, encode_event(one)) for one in events]])


def order(number: int, user: str = "", *items: str) -> Event:
    """A purchase."""
    bought = tuple(EventItem(item, 2, 1.5) for item in items or ("hat",))
    return Event(f"e{number}", "purchase", user or f"u{number % 3}", START + number, bought, value=9.0)


def export(state: Path, out: Path, what: str = "events", *options: str) -> dict[str, Any]:
    """Run the command; what it says."""
    ran = CliRunner().invoke(command, ["export", what, "--out", str(out), "--state", str(state), *options, "--json"])
    assert ran.exit_code == 0, ran.output
    return dict(json.loads(ran.stdout))


def rows(out: Path) -> list[dict[str, Any]]:
    """All rows of an export, in order."""
    return [row for part in read_export(out).parts for row in pq.read_table(out / part.file).to_pylist()]


def ids(out: Path) -> list[str]:
    """The events of the rows of an export, in order of their numbers."""
    return sorted((row["event_id"] for row in rows(out)), key=lambda name: int(name[1:]))


def test_each_item_of_an_event_is_a_row_in_order_of_the_log(state: Path, tmp_path: Path) -> None:
    """With all that was said of it; what has no item is one row."""
    search = Event("s", "search", "ann", START + 1, query="hats")
    record(state, order(0, "ann", "hat", "scarf"), search)
    told = export(state, tmp_path / "out")
    assert (told["rows"], told["position"]) == (3, 2)
    first, second, third = rows(tmp_path / "out")
    assert first == second | {"item_id": "hat"}
    assert second["item_id"] == "scarf"
    assert {name: first[name] for name in ("number", "user_id", "event_type", "value", "quantity", "price")} == {
        "number": 1,
        "user_id": "ann",
        "event_type": "purchase",
        "value": 9.0,
        "quantity": 2,
        "price": 1.5,
    }
    assert first["timestamp"].timestamp() * 1000 == START
    assert (third["item_id"], third["query"], third["quantity"]) == (None, "hats", None)


def test_the_next_export_goes_on_where_the_log_was(state: Path, tmp_path: Path) -> None:
    """What came since is in a file of its own; where nothing came there is none."""
    out = tmp_path / "out"
    record(state, *(order(number) for number in range(5)))
    export(state, out)
    record(state, *(order(number) for number in range(5, 8)))
    assert export(state, out)["position"] == 8
    assert export(state, out)["rows"] == 8
    assert ids(out) == [f"e{number}" for number in range(8)]
    assert [(part.first, part.last, part.rows) for part in read_export(out).parts] == [(1, 5, 5), (6, 8, 3)]


def test_flagged_events_and_people_who_do_not_consent_are_left_out_and_counted(state: Path, tmp_path: Path) -> None:
    """Nor are those whose document cannot be read, of whom nobody knows."""
    record(state, *(order(number, f"u{number % 4}") for number in range(12)))
    with opened(state) as store:
        store.write(lambda tx: tx.events.set_flags(1, Flag.BOT)).result()
        store.write(lambda tx: tx.users.put("u2", b"\x00", tx.users.get("u2").version)).result()
    _withdraw(state, "u3")
    told = export(state, tmp_path / "out")
    assert told["left_out"] == {"flagged": 1, "unreadable": 3, "no_consent": 3}
    assert {row["user_id"] for row in rows(tmp_path / "out")} == {"u0", "u1"}
    assert "e0" not in ids(tmp_path / "out")


def _withdraw(state: Path, user: str) -> None:
    """Say that a user does not agree to training any more."""

    def job(tx: Transaction) -> None:
        stored = tx.users.get(user)
        change = Change(f"no-{user}", user, START + 99, Said({"consent/training": False}))
        document, _ = take_in(tx, read_document(stored), [(change, encode_change(change))], (), START)
        tx.users.put(user, write_document(document), stored.version)

    with opened(state) as store:
        store.write(job).result()


def test_what_may_not_stay_is_taken_out_of_earlier_exports(state: Path, tmp_path: Path) -> None:
    """Events flagged since, kept no longer, or of people who took their consent back; the rest stays as it is."""
    out = tmp_path / "out"
    record(state, *(order(number, f"u{number % 4}") for number in range(12)))
    export(state, out)
    with opened(state) as store:
        numbers = {one.event_id: one.number for one in store.events(0, 99)}
        store.write(lambda tx: tx.events.set_flags(numbers["e0"], Flag.CANCELLED)).result()
        store.write(lambda tx: tx.events.remove([numbers["e1"]])).result()
    _withdraw(state, "u3")
    told = export(state, out)
    assert told["taken_out"] == 5
    assert ids(out) == ["e2", "e4", "e5", "e6", "e8", "e9", "e10"]
    assert export(state, out)["taken_out"] == 0


def test_a_merged_visitor_is_exported_as_the_person(state: Path, tmp_path: Path) -> None:
    """Also of what was done before the merge; what went out under the old id is taken out."""
    out = tmp_path / "out"
    record(state, order(0, "visitor"), order(1, "ann"))
    with opened(state) as store:
        store.write(lambda tx: tx.users.merge("visitor", "ann")).result()
        content = write_document(UserDocument())
        store.write(lambda tx: tx.users.put("ann", content, tx.users.get("ann").version)).result()
    export(state, out)
    assert [row["user_id"] for row in rows(out)] == ["ann", "ann"]


def test_parts_are_of_bounded_size_and_an_export_cut_off_goes_on(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is finished or it is not there; what was begun is thrown away, and nothing is there twice."""
    monkeypatch.setattr(export_directory, "PART_ROWS", 4)
    monkeypatch.setattr("tidings_server.application.export_log.PAGE", 2)
    out = tmp_path / "out"
    record(state, *(order(number) for number in range(11)))
    finish = ExportDirectory._finish
    finished: list[int] = []

    def failing(self: ExportDirectory, writer: Any) -> None:
        if len(finished) == 1:
            raise KeyboardInterrupt
        finished.append(1)
        finish(self, writer)

    monkeypatch.setattr(ExportDirectory, "_finish", failing)
    CliRunner().invoke(command, ["export", "events", "--out", str(out), "--state", str(state)])
    assert [part.last for part in read_export(out).parts] == [4]
    (out / "part.unfinished").write_bytes(b"half")
    monkeypatch.setattr(ExportDirectory, "_finish", finish)
    export(state, out)
    assert ids(out) == [f"e{number}" for number in range(11)]
    assert [part.rows for part in read_export(out).parts] == [4, 4, 3]
    assert not list(out.glob("*.unfinished"))


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda out: (out / "notes.txt").write_text("mine"), "holds files and is no export"),
        (lambda out: (out / MANIFEST).write_text("{"), "cannot be read"),
        (lambda out: (out / MANIFEST).write_text('{"format": 9}'), "format 9"),
        (lambda out: ExportDirectory(out, "events", "other")._write(read(out, "events", "other")), "of the history"),
        (lambda out: ExportDirectory(out, "decisions", "x")._write(read(out, "decisions", "x")), "export of decisions"),
    ],
    ids=["files", "damaged", "newer", "another history", "another kind"],
)
def test_a_directory_that_is_something_else_is_left_alone(state: Path, tmp_path: Path, prepare: Any, said: str) -> None:
    """It is named, and nothing in it is changed."""
    record(state, order(0))
    out = tmp_path / "out"
    out.mkdir()
    prepare(out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    ran = CliRunner().invoke(command, ["export", "events", "--out", str(out), "--state", str(state)])
    assert ran.exit_code == 1
    assert said in ran.output
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def read(out: Path, kind: Any, epoch: str) -> export_directory.Export:
    """An export without parts."""
    return export_directory.Export(kind, epoch)


def test_training_reads_an_export_as_it_is(state: Path, tmp_path: Path) -> None:
    """All parts, rows of items alone; the fingerprint changes with what is in it."""
    out = tmp_path / "out"
    record(state, order(0, "ann", "hat", "scarf"), Event("s", "search", "ann", START + 1, query="hats"))
    export(state, out)
    before = fingerprint(out)
    record(state, Event("v", "view", "ben", START + 5000, (EventItem("coat"),)))
    export(state, out)
    log = read_log(out)
    assert (log.user_ids, log.item_ids, len(log)) == (["ann", "ben"], ["coat", "hat", "scarf"], 3)
    assert log.times.tolist() == [START / 1000, START / 1000, START / 1000 + 5]
    assert fingerprint(out) != before
    (out / MANIFEST).write_text((out / MANIFEST).read_text().replace('"events"', '"decisions"'))
    with pytest.raises(InvalidInput, match="events are needed"):
        read_log(out)


def test_features_go_out_as_they_were_served_and_the_catalogue_as_it_is_shown(built_shop: Shop, tmp_path: Path) -> None:
    """Beside a running server: each item of a recorded answer with what the ranker saw; every item with its columns."""
    state, out = tmp_path / "state", tmp_path / "decisions"
    config = tmp_path / "server.toml"
    config.write_text("record_share = 1.0\n")
    with start_server(built_shop.path, state, "--config", str(config)) as running:
        with tidings.Client(running.address) as client:
            client.promote_release(built_shop.a)
            item = client.recommend("user-3", k=5).items[0].item
            client.upsert_items(
                tidings.CatalogItem(item.item_id, datetime.now(UTC), title="Renamed", price=7.5, categories=["x", "y"]),
            )
            shown = {one.item_id: one for one in client.list_items()}
        running.stop()
    told = export(state, out, "decisions")
    (found,) = {row["decision_id"] for row in rows(out)}
    assert told["rows"] == len(rows(out)) == 5
    first = rows(out)[0]
    assert (first["user_id"], first["item_id"], first["place"], first["schema"]) == (
        "user-3",
        item.item_id,
        1,
        SCHEMA_HASH,
    )
    lengths = [len(first[name]) for name in ("user_features", "item_features", "pair_features")]
    assert lengths == [len(USER_FEATURES), len(ITEM_FEATURES), len(CANDIDATE_FEATURES)]
    assert found.startswith("answer/")
    export(state, tmp_path, "catalogue", "--releases", str(built_shop.path))
    table = pq.read_table(tmp_path / "catalogue.parquet").to_pylist()
    assert {row["id"] for row in table} == set(shown)
    (renamed,) = [row for row in table if row["id"] == item.item_id]
    assert (renamed["title"], renamed["price"], renamed["categories"]) == ("Renamed", 7.5, ["x", "y"])
    catalogue = read_catalogue(tmp_path / "catalogue.parquet")
    assert sorted(catalogue.ids) == sorted(shown)
