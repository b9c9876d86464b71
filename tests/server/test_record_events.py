"""Recording events, by the parts that do it on a real store: what is counted once, what fails alone, what is kept."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Clock
from tidings.v1 import event_pb2
from tidings.v1 import event_service_pb2 as pb
from tidings_core.errors import InvalidInput, StorageFailed, StorageFull, TidingsError
from tidings_core.events import EVENT_TYPES, Event, EventItem, EventType
from tidings_core.triggers import Trigger
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.documents import UserDocument, read_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.push_timer import PushTimer
from tidings_server.application.record_events import TOGETHER, Proposed, Recorded, RecordEvents, Verdict
from tidings_server.metrics import Metrics
from tidings_server.transport.calls import Call
from tidings_server.transport.events import EventHandlers, decode_event, encode_event, no_decisions

BOUGHT = Trigger("bought", "purchase", "for-you", "t")
LOOKED_THRICE = Trigger("looked", "view", "for-you", "t", count=3)


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[SqliteStore]:
    """A store of the test's own."""
    opened = SqliteStore.open(tmp_path, lambda: int(clock() * 1000))
    yield opened
    opened.close()


@pytest.fixture
def record(store: SqliteStore, clock: Clock) -> RecordEvents:
    """The verb, without triggers."""
    return RecordEvents(store, KnownDocuments(store), (), clock)


def event(event_id: str, user: str = "ann", clock: Clock | None = None, **fields: Any) -> Event:
    """A view of an item, or what `fields` make of it."""
    now = int((clock or Clock())() * 1000)
    return replace(Event(event_id, "view", user, now, (EventItem("item-1"),)), **fields)


def proposed(*events: Event) -> list[Proposed | Verdict]:
    """Events as a call brings them."""
    return [(one, encode_event(one)) for one in events]


def statuses(made: Sequence[Recorded | TidingsError]) -> list[list[str]]:
    """The verdicts of calls, all of which must have been recorded."""
    assert all(isinstance(one, Recorded) for one in made), made
    return [[verdict.status for verdict in one.verdicts] for one in made if isinstance(one, Recorded)]


def total(store: SqliteStore, user: str = "ann") -> int:
    """How many events are in a user's profile."""
    return sum(read_document(store.user(user)).profile.totals.values())


def test_calls_of_one_user_that_come_together_are_folded_once(store: SqliteStore, record: RecordEvents) -> None:
    """64 calls are one change of the document, and all of them are in it."""
    assert statuses(record([proposed(event(f"e-{n}")) for n in range(64)])) == [["accepted"]] * 64
    assert store.user("ann").version == 1
    assert total(store) == 64


def test_large_calls_do_not_share_a_job(store: SqliteStore, record: RecordEvents) -> None:
    """More than TOGETHER events are several changes, so that who else writes does not wait for all of them."""
    calls = [proposed(*(event(f"e-{n}-{m}") for m in range(TOGETHER - 10))) for n in range(3)]
    assert {status for call in statuses(record(calls)) for status in call} == {"accepted"}
    assert store.user("ann").version == 3
    assert total(store) == 3 * (TOGETHER - 10)


def test_an_event_id_counts_once_wherever_its_repeats_are(store: SqliteStore, record: RecordEvents) -> None:
    """In one call, in calls that come together, and in one that comes later."""
    first = record([proposed(event("a"), event("a")), proposed(event("a"), event("b"))])
    assert statuses(first) == [["accepted", "duplicate"], ["duplicate", "accepted"]]
    assert statuses(record([proposed(event("b"), event("a", "bob"))])) == [["duplicate", "duplicate"]]
    assert total(store) == 2
    assert store.user("bob").version == 0


def test_a_batch_of_duplicates_changes_nothing(store: SqliteStore, record: RecordEvents) -> None:
    """The document keeps its version, and the token is of what is there already."""
    (first,) = record([proposed(event("a"))])
    (again,) = record([proposed(event("a"))])
    assert store.user("ann").version == 1
    assert isinstance(first, Recorded)
    assert isinstance(again, Recorded)
    assert again.token == first.token != ""


def test_what_is_rejected_is_not_recorded_and_hurts_no_other(store: SqliteStore, record: RecordEvents) -> None:
    """The verdict of an event that has a fault names it; those around it are accepted."""
    bad = replace(event("b"), items=())
    (made,) = record([[*proposed(event("a"), bad, event("c")), Verdict("rejected", [("type", "is 99")])]])
    assert statuses([made]) == [["accepted", "rejected", "accepted", "rejected"]]
    assert isinstance(made, Recorded)
    assert [field for field, _ in made.verdicts[1].faults] == ["items"]
    assert made.verdicts[3].faults == [("type", "is 99")]
    assert [one.event_id for one in store.events(0, 10)] == ["a", "c"]


def test_a_call_with_nothing_good_writes_nothing_and_has_no_token(store: SqliteStore, record: RecordEvents) -> None:
    """The store is not even asked."""
    before = store.commits
    (made,) = record([[Verdict("rejected", [("type", "is 0")])]])
    assert made == Recorded([Verdict("rejected", [("type", "is 0")])], "")
    assert store.commits == before


def test_a_damaged_document_fails_its_own_call_only(store: SqliteStore, record: RecordEvents) -> None:
    """Neighbours that came in the same moment are recorded; the call at fault has recorded nothing."""
    store.write(lambda tx: tx.users.put("eve", b"{", 0)).result()
    made = record([proposed(event("a")), proposed(event("b", "bob"), event("c", "eve")), proposed(event("d", "dan"))])
    assert statuses([made[0], made[2]]) == [["accepted"]] * 2
    assert isinstance(made[1], StorageFailed)
    assert [store.user(user).version for user in ("ann", "bob", "dan")] == [1, 0, 1]
    assert [one.event_id for one in store.events(0, 10)] == ["a", "d"]


def test_a_full_disk_refuses_all_calls_changes_nothing_and_passes(store: SqliteStore, record: RecordEvents) -> None:
    """Every call has StorageFull with a time to come back; reads go on; with room again the same calls succeed."""
    record([proposed(event("before"))])
    ((pages,),) = store.write(lambda tx: tx.users._sql.rows("PRAGMA page_count")).result()
    store.write(lambda tx: tx.users._sql.rows(f"PRAGMA max_page_count = {pages}")).result()
    many = [proposed(*(event(f"e-{n}-{m}", f"u{n}-{m}") for m in range(100))) for n in range(4)]
    made = record(many)
    assert all(isinstance(one, StorageFull) and one.retry_after > 0 for one in made), made
    assert total(store) == 1
    assert len(store.events(0, 1000)) == 1
    store.write(lambda tx: tx.users._sql.rows("PRAGMA max_page_count = 1000000")).result()
    assert statuses(record(many)) == [["accepted"] * 100] * 4


def test_many_threads_lose_nothing_and_count_nothing_twice(store: SqliteStore, record: RecordEvents) -> None:
    """Eight threads record overlapping events of few users; each id is accepted once, whoever came first."""

    def work(thread: int) -> list[str]:
        ids = [f"e-{(thread * 37 + n) % 200}" for n in range(100)]
        made = [record([proposed(event(name, f"user-{len(name) % 3}"))]) for name in ids]
        return [name for name, one in zip(ids, made, strict=True) if statuses(one) == [["accepted"]]]

    with ThreadPoolExecutor(8) as pool:
        accepted = [name for names in pool.map(work, range(8)) for name in names]
    assert len(accepted) == len(set(accepted)) == len(store.events(0, 1000))
    assert sum(total(store, f"user-{n}") for n in range(3)) == len(accepted)


def test_an_acknowledged_event_is_in_the_next_read_of_every_thread(store: SqliteStore, record: RecordEvents) -> None:
    """Six writers, each sure to read what it was told is written, from caches that readers fill all the while."""
    documents, stop = record._documents, threading.Event()

    def read_on() -> None:
        while not stop.is_set():
            for n in range(6):
                documents.read(f"user-{n}")

    def work(n: int) -> list[int]:
        seen = []
        for m in range(60):
            record([proposed(event(f"e-{n}-{m}", f"user-{n}"))])
            seen.append(sum(documents.read(f"user-{n}")[1].profile.totals.values()))
        return seen

    readers = [threading.Thread(target=read_on) for _ in range(2)]
    for reader in readers:
        reader.start()
    with ThreadPoolExecutor(6) as pool:
        seen = list(pool.map(work, range(6)))
    stop.set()
    for reader in readers:
        reader.join()
    assert seen == [list(range(1, 61))] * 6


def test_an_older_document_never_takes_the_place_of_a_newer_one(store: SqliteStore) -> None:
    """Whoever comes late with what was on disk before is passed over."""
    documents = KnownDocuments(store)
    newer, older = UserDocument(newest_offset=2), UserDocument(newest_offset=1)
    documents.keep("ann", 2, newer, 10)
    documents.keep("ann", 1, older, 10)
    assert documents.find("ann", 2) is newer
    assert documents.find("ann", 1) is None


def test_a_trigger_sets_a_timer_in_the_transaction_of_its_event(store: SqliteStore, clock: Clock) -> None:
    """With the event as its content, and one wake-up; an event that calls for nothing wakes nobody."""
    woken: list[int] = []
    record = RecordEvents(store, KnownDocuments(store), (BOUGHT, LOOKED_THRICE), clock, lambda: woken.append(1))
    record([proposed(event("v"))])
    assert woken == []
    purchase = event("p", type="purchase")
    record([proposed(purchase)])
    (timer,) = store.due(int(clock() * 1000), 10)
    assert PushTimer.read(timer) == PushTimer("bought", purchase)
    assert woken == [1]
    record([proposed(purchase)])
    assert len(store.due(int(clock() * 1000), 10)) == 1


def test_a_count_of_events_calls_for_a_push_however_they_come(store: SqliteStore, clock: Clock) -> None:
    """The third view fires, whether the three come alone, together in one call, or in calls that come together."""
    record = RecordEvents(store, KnownDocuments(store), (LOOKED_THRICE,), clock)
    for n in range(3):
        record([proposed(event(f"a-{n}", "ann", time=int(clock() * 1000) + n))])
    record([proposed(*(event(f"b-{n}", "bob", time=int(clock() * 1000) + n) for n in range(3)))])
    record([proposed(event(f"c-{n}", "cy", time=int(clock() * 1000) + n)) for n in range(3)])
    timers = [PushTimer.read(timer).event.event_id for timer in store.due(int(clock() * 1000), 10)]
    assert sorted(timers) == ["a-2", "b-2", "c-2"]


def test_a_trigger_that_rests_is_called_all_the_same(store: SqliteStore, clock: Clock) -> None:
    """Every event that matches sets a timer: what a cooldown suppresses has its decision in the ledger too."""
    rested = replace(BOUGHT, cooldown_seconds=60)
    record = RecordEvents(store, KnownDocuments(store), (rested,), clock)
    now = int(clock() * 1000)
    record([proposed(*(event(f"p-{n}", type="purchase", time=now - n) for n in range(20)))])
    assert len(store.due(now, 100)) == 20


def test_events_that_together_make_one_count_full_call_once(store: SqliteStore, clock: Clock) -> None:
    """Of seven views in one batch the newest sets the only timer of "three views"."""
    record = RecordEvents(store, KnownDocuments(store), (LOOKED_THRICE,), clock)
    now = int(clock() * 1000)
    record([proposed(*(event(f"p-{n}", time=now - abs(n - 4)) for n in range(7)))])
    (timer,) = store.due(now, 100)
    assert PushTimer.read(timer).event.event_id == "p-4"


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_the_log_keeps_every_event_whole(store: SqliteStore, record: RecordEvents, kind: EventType) -> None:
    """What is read back from the log is what was recorded, for each type."""
    texts: dict[str, Any] = {"query": "red dress 连衣裙"} if kind == "search" else {"push_id": "p-1"}
    texts |= {"category": "Fashion"} if kind in ("view", "see_less") else {}
    texts |= {"order_id": "o-17"} if kind in ("purchase", "return", "cancel") else {}
    items = () if kind in ("search", "cancel") else (EventItem("item-1", 3, 9.5), EventItem("item-2"))
    value = 4.5 if kind in ("rating", "purchase", "return") else None
    given = event("e", type=kind, items=items, value=value, **texts)
    assert statuses(record([proposed(given)])) == [["accepted"]]
    (kept,) = store.events(0, 10)
    assert decode_event(kept.content) == given
    assert (kept.event_id, kept.user_id, kept.time) == (given.event_id, given.user_id, given.time)


def test_a_damaged_entry_of_the_log_is_said_to_be(store: SqliteStore) -> None:
    """Neither garbage nor a type that is none (99) passes for an event."""
    for content in (b"\xff", b"\x0a\x01a\x10\x63"):
        with pytest.raises(StorageFailed, match="damaged"):
            decode_event(content)


@pytest.fixture
def desk(record: RecordEvents, clock: Clock) -> EventHandlers:
    """The handler of RecordEvents."""
    return EventHandlers(record, clock, Metrics(), no_decisions)


def sent(desk: EventHandlers, *requests: pb.RecordEventsRequest | bytes) -> list[bytes | TidingsError]:
    """Send calls together."""
    bodies = [request if isinstance(request, bytes) else request.SerializeToString() for request in requests]
    return desk.record_events([Call(body, 1e12) for body in bodies])


def view(event_id: str, **fields: Any) -> event_pb2.Event:
    """An event on the wire."""
    given = {"type": "EVENT_TYPE_VIEW", "user_id": "ann", "items": [event_pb2.EventItem(item_id="item-1")], **fields}
    return event_pb2.Event(event_id=event_id, **given)


def test_calls_that_are_bad_as_a_whole_hurt_no_other(desk: EventHandlers, store: SqliteStore) -> None:
    """Empty, too large and damaged ones name what is wrong; the good one between them is recorded, theirs are not."""
    large = pb.RecordEventsRequest(events=[view(f"x-{n}") for n in range(1001)])
    made = sent(desk, pb.RecordEventsRequest(), b"\xff", pb.RecordEventsRequest(events=[view("good")]), large)
    assert [isinstance(one, InvalidInput) for one in made] == [True, True, False, True]
    assert "has 0 entries, must have 1 to 1000" in str(made[0])
    assert "is not a RecordEventsRequest" in str(made[1])
    assert "has 1001 entries, must have 1 to 1000" in str(made[3])
    assert [one.event_id for one in store.events(0, 10)] == ["good"]


def test_a_time_that_is_not_given_is_the_servers(desk: EventHandlers, store: SqliteStore, clock: Clock) -> None:
    """And stands in the log."""
    sent(desk, pb.RecordEventsRequest(events=[view("a")]))
    (kept,) = store.events(0, 10)
    assert kept.time == decode_event(kept.content).time == int(clock() * 1000)
