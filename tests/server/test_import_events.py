"""Importing history, by the parts that do it on a real store: where it goes on, what counts once, who waits."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.conftest import Clock
from tidings.v1 import event_service_pb2 as pb
from tidings_core.errors import InvalidInput, Stopping
from tidings_core.events import Event, EventItem
from tidings_core.stored import StoredImport
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.consistency import write_token
from tidings_server.application.documents import UserDocument, read_document, write_document
from tidings_server.application.import_events import MAX_FAULTS, TOGETHER, ImportEvents, Row, read_faults
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.record_events import RecordEvents, Verdict
from tidings_server.metrics import Metrics
from tidings_server.transport.events import encode_event
from tidings_server.transport.import_events import ImportHandler

LONG_AGO = 1_200_000_000_000


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[SqliteStore]:
    """A store of the test's own."""
    with closing(SqliteStore.open(tmp_path, lambda: int(clock() * 1000))) as opened:
        yield opened


def importer(store: SqliteStore, busy: bool = False, rests: "list[float] | None" = None) -> ImportEvents:
    """The verb; it does not rest but notes how long it would."""
    noted = [] if rests is None else rests
    return ImportEvents(store, KnownDocuments(store), lambda: busy, Clock(), rest=noted.append)


def row(number: int, user: str = "") -> Row:
    """A purchase of long ago."""
    event = Event(f"e{number}", "purchase", user or f"u{number % 7}", LONG_AGO + number, (EventItem(f"i{number % 5}"),))
    return event, encode_event(event)


def counts(state: StoredImport) -> tuple[int, int, int, int]:
    """How far it came and what became of the rows."""
    return state.next_row, state.accepted, state.duplicates, state.rejected


def numbers(store: SqliteStore) -> list[int]:
    """The rows that stand in the log, in order."""
    return sorted(int(event.event_id[1:]) for event in store.events(0, 100_000))


def test_history_stands_in_log_and_profile_as_if_it_had_been_recorded(store: SqliteStore, tmp_path: Path) -> None:
    """The documents are byte for byte those that RecordEvents makes of the same events."""
    rows = [row(number) for number in range(TOGETHER)]
    assert counts(importer(store)("march", 0, rows)) == (len(rows), len(rows), 0, 0)
    (tmp_path / "other").mkdir()
    with closing(SqliteStore.open(tmp_path / "other", lambda: 0)) as other:
        RecordEvents(other, KnownDocuments(other), (), Clock())([rows])
        users = [f"u{number}" for number in range(7)]
        assert numbers(store) == numbers(other)
        assert {u: store.user(u).content for u in users} == {u: other.user(u).content for u in users}


def test_it_goes_on_where_it_was_also_after_the_store_was_opened_again(store: SqliteStore, tmp_path: Path) -> None:
    """How far it came is asked for by its name, and rows that are sent again are passed over."""
    rows = [row(number) for number in range(40)]
    importer(store)("march", 0, rows[:25])
    store.close()
    with closing(SqliteStore.open(tmp_path, lambda: 0)) as again:
        assert importer(again).come("march").next_row == 25
        assert counts(importer(again)("march", 10, rows[10:])) == (40, 40, 0, 0)
        assert counts(importer(again)("march", 0, rows)) == (40, 40, 0, 0)
        assert numbers(again) == list(range(40))


@settings(max_examples=25, deadline=None)
@given(parts=st.lists(st.tuples(st.integers(-3, 30), st.integers(1, 20)), max_size=8))
def test_however_it_is_cut_and_sent_again_each_row_counts_once(
    parts: Sequence[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any parts that overlap as they like: what was taken in is the rows, once; one that leaves rows out is refused."""
    rows = [row(number) for number in range(200)]
    with closing(SqliteStore.open(tmp_path_factory.mktemp("store"), lambda: 0)) as store:
        take, reached = importer(store), 0
        for back, length in parts:
            start = max(0, reached - back)
            if start > reached:
                with pytest.raises(InvalidInput, match="rows are done up to"):
                    take("march", start, rows[start : start + length])
            else:
                reached = max(reached, start + length)
                assert take("march", start, rows[start : start + length]).next_row == reached
        assert counts(take.come("march")) == (reached, reached, 0, 0)
        assert numbers(store) == list(range(reached))
        total = sum(sum(read_document(store.user(f"u{n}")).profile.totals.values()) for n in range(7))
        assert total == reached


def test_what_is_there_already_is_a_duplicate_whatever_brought_it(store: SqliteStore) -> None:
    """An event that was recorded, or came with another import, counts once."""
    RecordEvents(store, KnownDocuments(store), (), Clock())([[row(3)]])
    rows = [row(number) for number in range(6)]
    assert counts(importer(store)("march", 0, [*rows, row(1)])) == (7, 5, 2, 0)
    assert counts(importer(store)("april", 0, rows)) == (6, 0, 6, 0)


def test_rejected_rows_are_named_the_first_hundred_of_them(store: SqliteStore) -> None:
    """With their number in the whole import, however many calls it took; the good ones around them are in."""
    bad: Row = Verdict("rejected", [("type", "is 99")])
    for start in range(0, 300, 60):
        importer(store)("march", start, [bad if n % 2 else row(n) for n in range(start, start + 60)])
    state = importer(store).come("march")
    assert counts(state) == (300, 150, 0, 150)
    assert read_faults(state) == [(n, [("type", "is 99")]) for n in range(1, 2 * MAX_FAULTS, 2)]


def test_an_event_of_tomorrow_or_of_the_last_century_is_no_history(store: SqliteStore) -> None:
    """The bounds of a recorded event hold; any time between is fine."""
    times = (946_684_799_000, 946_684_800_000, int(Clock()() * 1000), int(Clock()() * 1000) + 10**9)
    events = [Event(f"e{n}", "view", "ann", time, (EventItem("i"),)) for n, time in enumerate(times)]
    state = importer(store)("march", 0, [(event, encode_event(event)) for event in events])
    assert [(number, wrong[0][0]) for number, wrong in read_faults(state)] == [(0, "event_time"), (3, "event_time")]


def test_it_leaves_the_writer_to_others_when_they_wait(store: SqliteStore) -> None:
    """After each of its small transactions it rests as long as that took; alone it does not."""
    rests: list[float] = []
    rows = [row(number) for number in range(3 * TOGETHER)]
    importer(store, busy=True, rests=rests)("march", 0, rows)
    assert len(rests) >= 3
    assert all(seconds > 0 for seconds in rests)
    before = len(rests)
    importer(store, rests=rests)("april", 0, rows)
    assert len(rests) == before


# The handler


def handler(store: SqliteStore) -> ImportHandler:
    """The handler over a real verb."""
    return ImportHandler(importer(store), ThreadPoolExecutor(1), Clock(), Metrics(), lambda: write_token(store))


async def sent(*messages: pb.ImportEventsRequest) -> AsyncIterator[bytes]:
    """Messages as they come from a wire."""
    for message in messages:
        yield message.SerializeToString()


def ask(store: SqliteStore, *messages: pb.ImportEventsRequest) -> pb.ImportEventsResponse:
    """What the handler answers."""
    return pb.ImportEventsResponse.FromString(asyncio.run(handler(store).import_events(sent(*messages))))


def message(first: int, count: int, import_id: str = "march") -> pb.ImportEventsRequest:
    """A message of some rows."""
    request = pb.ImportEventsRequest(import_id=import_id, first_row=first)
    for number in range(first, first + count):
        made = row(number)
        assert not isinstance(made, Verdict)
        request.events.add().ParseFromString(made[1])
    return request


def test_a_call_answers_how_far_the_import_has_come(store: SqliteStore) -> None:
    """A call of several messages, and one that only asks; before the first row there is no token."""
    before = ask(store, pb.ImportEventsRequest(import_id="march"))
    assert (before.next_row, before.consistency_token) == (0, "")
    after = ask(store, message(0, 5), message(5, 5), message(8, 4))
    assert (after.next_row, after.accepted) == (12, 12)
    assert after.consistency_token == write_token(store)
    assert ask(store, pb.ImportEventsRequest(import_id="march")) == after


def test_a_row_without_a_time_or_without_anything_is_rejected_by_its_number(store: SqliteStore) -> None:
    """History says when it was; an empty row stands for one that could not be read."""
    request = message(0, 3)
    request.events[1].ClearField("event_time")
    request.events[2].Clear()
    answer = ask(store, request)
    assert [(fault.row, [f.field for f in fault.faults]) for fault in answer.faults] == [
        (1, ["event_time"]),
        (2, ["type", "event_id", "user_id", "event_time"]),
    ]
    assert answer.accepted == 1


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ((), "import_id"),
        ((pb.ImportEventsRequest(),), "import_id"),
        ((pb.ImportEventsRequest(import_id="a\nb"),), "import_id"),
        ((message(0, 1), message(1, 1, "april")), "import_id"),
        ((message(0, 1001),), "events"),
        ((message(1, 1),), "first_row"),
        ((pb.ImportEventsRequest(import_id="march", first_row=-1, events=message(0, 1).events),), "first_row"),
    ],
    ids=["no message", "no name", "a bad name", "two imports", "too many", "rows left out", "a row below 0"],
)
def test_a_call_that_is_not_as_it_must_be_is_refused(
    store: SqliteStore, messages: Sequence[pb.ImportEventsRequest], field: str
) -> None:
    """The field is named; what came before it stays."""
    with pytest.raises(InvalidInput) as refused:
        ask(store, *messages)
    assert [name for name, _ in refused.value.violations] == [field]
    assert importer(store).come("march").next_row == (1 if len(messages) == 2 else 0)


def test_a_server_that_stops_ends_an_import_between_two_messages(store: SqliteStore) -> None:
    """The call ends with Stopping, and the rows that came before are done."""
    stopping = handler(store)

    async def messages() -> AsyncIterator[bytes]:
        yield message(0, 5).SerializeToString()
        stopping.stop()
        yield message(5, 5).SerializeToString()

    with pytest.raises(Stopping):
        asyncio.run(stopping.import_events(messages()))
    assert importer(store).come("march").next_row == 5


def test_an_erased_person_does_not_come_back_with_an_import(store: SqliteStore) -> None:
    """Rows of what was done before are rejected and change nothing; others around them are taken in."""
    store.write(lambda tx: tx.users.put("u1", write_document(UserDocument(erased_through=LONG_AGO + 8)), 0)).result(9)
    state = importer(store)("march", 0, [row(number) for number in range(16)])
    assert counts(state) == (16, 14, 0, 2)
    assert read_faults(state)[0][0] == 1
    assert [event.event_id for event in store.user_events("u1", 0, 9)] == ["e15"]


def test_rows_of_an_id_that_is_somebody_elses_now_are_that_ones(store: SqliteStore) -> None:
    """History may come after its visitor was merged into the user."""
    store.write(lambda tx: tx.users.merge("visitor", "ann")).result()
    store.write(lambda tx: tx.users.put("ann", write_document(UserDocument()), 1)).result()
    importer(store)("march", 0, [row(1, "visitor"), row(2, "ann")])
    assert read_document(store.user("ann")).profile.totals == {"purchase": 2}
    assert [event.user_id for event in store.user_events("ann", 0, 9)] == ["ann", "ann"]
