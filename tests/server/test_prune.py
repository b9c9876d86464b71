"""What is kept no longer goes, and what a profile adds up stays; by a real store, with a clock that is set."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.storing import WAIT, Opened, entry
from tidings_core import profile
from tidings_core.events import EVENT_TYPES, Event, EventItem, EventType
from tidings_core.profile import Profile
from tidings_core.retention import Retention, forget
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.documents import UserDocument, read_checkpoint, write_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.prune import Prune
from tidings_server.application.record_events import take_in
from tidings_server.application.store import Transaction
from tidings_server.transport.changes import decode_logged
from tidings_server.transport.events import encode_event

DAY = 86_400_000
NOW = 20_000 * DAY
TYPES: tuple[EventType, ...] = ("view", "search", "purchase", "rating", "see_less")
EVENTS = st.lists(st.tuples(st.sampled_from(TYPES), st.integers(0, 40), st.integers(0, 5)), min_size=1, max_size=25)


def event(number: int, type: EventType, days: int, item: int) -> Event:
    """The event of a number, so many days ago."""
    search = type == "search"
    return Event(
        f"e-{number}", type, "ann", NOW - days * DAY - number, () if search else (EventItem(f"item-{item}", 1, 2.5),),
        query=f"words {item}" if search else "", value=1.0 if type == "rating" else None,
    )  # fmt: skip


class Place:
    """A store with what was recorded, and what prunes it."""

    def __init__(self, folder: Path, retention: Retention) -> None:
        self.store = SqliteStore.open(folder, lambda: NOW)
        self.documents = KnownDocuments(self.store)
        self.prune = Prune(self.store, self.documents, retention, decode_logged, lambda: NOW / 1000)

    def record(self, events: list[Event]) -> None:
        """Record events."""

        def job(tx: Transaction) -> None:
            stored = tx.users.get("ann")
            before = self.documents.decode("ann", stored) if stored.version else UserDocument()
            logged = [(one, encode_event(one)) for one in events]
            document, _ = take_in(tx, before, logged, (), NOW)
            tx.users.put("ann", write_document(document), stored.version)

        self.store.write(job).result(WAIT)

    @property
    def known(self) -> Profile:
        """The profile as it is stored."""
        return self.documents.read("ann")[1].profile

    def again(self) -> Profile:
        """The profile made again from the checkpoint and what is left of the log."""
        left = [decode_logged(one.content) for one in self.store.user_events("ann", 0, 10_000)]
        numbers = {item_id: number for number, item_id in self.store.item_ids(0)}
        items = [[numbers[item.item_id] for item in one.items] if isinstance(one, Event) else [] for one in left]
        return profile.fold(read_checkpoint(self.store.checkpoint("ann")), zip(left, items, strict=True))


@settings(max_examples=40, deadline=None)
@given(EVENTS, EVENTS)
def test_a_profile_is_the_same_made_again_from_what_is_left(
    first: list[tuple[EventType, int, int]], later: list[tuple[EventType, int, int]]
) -> None:
    """However events are divided by a pass, the checkpoint and the rest of the log make the profile that is stored."""
    retention = Retention({"view": 10 * DAY, "search": 5 * DAY, "rating": 30 * DAY})
    with TemporaryDirectory() as folder:
        place = Place(Path(folder), retention)
        try:
            events = [event(number, *given_) for number, given_ in enumerate([*first, *later])]
            place.record(events[: len(first)])
            whole = place.known
            counts = place.prune.pass_over()
            past = [one for one in events[: len(first)] if retention.past(one.type, one.time, NOW)]
            assert counts["events"] == len(past)
            assert place.known == (forget(whole, retention, NOW) if past else whole)
            assert place.again() == place.known
            assert (place.known.totals, place.known.spent, place.known.bought) == (
                whole.totals, whole.spent, whole.bought,
            )  # fmt: skip
            place.record(events[len(first) :])
            place.prune.pass_over()
            assert place.again() == place.known
            assert not [one for one in place.store.events(0, 100) if one.event_id in {p.event_id for p in past}]
        finally:
            place.store.close()


def test_what_tells_of_a_single_event_goes_with_it() -> None:
    """The text of a search is nowhere any more: not in the log, nor in the profile or its checkpoint."""
    with TemporaryDirectory() as folder:
        place = Place(Path(folder), Retention(dict.fromkeys(EVENT_TYPES, 5 * DAY)))
        place.record([event(1, "search", 10, 3), event(2, "view", 10, 4), event(3, "view", 1, 5)])
        assert place.prune.pass_over() == {"events": 2, "decisions": 0}
        place.store.scrub().result(WAIT)
        known = place.known
        place.store.close()
        assert (known.searches, len(known.seen), len(known.minutes)) == ({}, 1, 1)
        assert known.totals == {"search": 1, "view": 2}
        assert [one.query for one in known.recent] == ["", "", ""]
        assert b"words 3" not in b"".join(file.read_bytes() for file in Path(folder).iterdir())


def test_decisions_and_recorded_answers_go_after_their_own_times(opened: Opened) -> None:
    """Old ones go, oldest first, each kind after its own time; new ones stay."""
    sent = [entry(number, offset=number) for number in range(1, 5)]
    answers = [entry(number, state="answered", reason="") for number in range(11, 15)]
    opened.do(lambda tx: [tx.ledger.add(one) for one in (*sent, *answers)])
    documents = KnownDocuments(opened.store)
    prune = Prune(opened.store, documents, Retention({}, decisions=10, answers=2), decode_logged, lambda: 0.0135)
    assert prune.pass_over() == {"events": 0, "decisions": 2}
    assert sorted(one.time for one in opened.store.decisions("", 20)) == [3, 4, 11, 12, 13, 14]
    prune = Prune(opened.store, documents, Retention({}, decisions=10, answers=2), decode_logged, lambda: 0.020)
    assert prune.pass_over()["decisions"] == 6


@pytest.mark.parametrize("type", get_args(EventType))
def test_every_type_of_event_can_be_kept_for_a_time(type: EventType) -> None:
    """And what is not named is kept for ever."""
    retention = Retention({type: DAY})
    assert retention.past(type, NOW - DAY - 1, NOW)
    assert not retention.past(type, NOW - DAY, NOW)
    assert not Retention().past(type, 0, NOW)
