"""The watch of tags: what came or went is found once, told once, and neither forgotten nor made up."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import Clock
from tests.server.storing import Opened
from tidings_core.changes import Change, TagMove, TagSetting, Update
from tidings_core.declared import BUILT_IN
from tidings_core.events import Event, EventItem, EventType
from tidings_core.stored import Look
from tidings_core.tag_view import DAY_MS
from tidings_core.tags import Rule, ordered, read_rule
from tidings_core.triggers import Trigger
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.merge_profiles import MergeProfiles
from tidings_server.application.people import People
from tidings_server.application.push_timer import PushTimer
from tidings_server.application.record_change import RecordChange
from tidings_server.application.record_events import RecordEvents
from tidings_server.application.serving import Serving
from tidings_server.application.user_tags import UserTags
from tidings_server.application.watch_tags import NEVER, WatchTags
from tidings_server.transport.changes import decode_logged, encode_change
from tidings_server.transport.events import encode_event

WAIT = 30.0
RULES = {
    "lifecycle": 'choose(days_since() > 60, "lapsing", known(days_since()), "active", "")',
    "clicker": "count('click') > 0 or count('view') > 5",
    "grown": "years_since(birth_date) >= 18",
}
TRIGGERS = (
    Trigger("winback", "tag", "for-you", "t", tag="lifecycle:lapsing"),
    Trigger("left", "tag", "for-you", "t", tag="lifecycle", move="left"),
    Trigger("clicked", "tag", "for-you", "t", tag="clicker"),
    Trigger("vip", "tag", "for-you", "t", tag="vip"),
    Trigger("vip-over", "tag", "for-you", "t", tag="vip", move="left"),
    Trigger("grown", "tag", "for-you", "t", tag="grown"),
)


def rules(sources: dict[str, str]) -> tuple[Rule, ...]:
    """Rules that are fine."""
    read = {name: read_rule(name, when, "", "", BUILT_IN, lambda *_: None) for name, when in sources.items()}
    return ordered({name: rule for name, rule in read.items() if rule is not None})


@dataclass
class House:
    """A store, what writes into it, and the watch; looked at when a test says so."""

    store: SqliteStore
    clock: Clock
    record: RecordEvents
    change: RecordChange
    watch: WatchTags
    documents: KnownDocuments
    woken: list[str] = field(default_factory=list)
    made: int = 0

    @property
    def now(self) -> int:
        """The time in Unix milliseconds."""
        return int(self.clock.now * 1000)

    def act(self, user: str, type: EventType, ago: float = 0.0, times: int = 1) -> None:
        """Let a user do something, `ago` days before now."""
        for _ in range(times):
            self.made += 1
            time = self.now - int(ago * DAY_MS)
            event = Event(f"{user}-{self.made}", type, user, time, (EventItem("item-1"),))
            self.record([[(event, encode_event(event))]])

    def say(self, user: str, attributes: dict[str, Any] | None = None, **tags: TagSetting | None) -> None:
        """Say something of a user."""
        self.made += 1
        change = Change(f"c{self.made}", user, self.now, Update(attributes or {}, tags))
        self.change(change, False).result(WAIT)

    def look(self) -> None:
        """Look at all who are due and never were looked at."""
        while self.watch.look():
            pass
        while self.watch.look_first():
            pass

    def moves(self, user: str) -> list[tuple[str, bool]]:
        """What the log says came and went, in order."""
        logged = [decode_logged(one.content) for one in self.store.user_events(user, 0, 1000)]
        whats = [one.what for one in logged if isinstance(one, Change)]
        return [(what.tag, what.entered) for what in whats if isinstance(what, TagMove)]

    def called(self) -> list[tuple[str, str, str]]:
        """Which triggers were called, for whom and by which tag."""
        timers = [PushTimer.read(timer) for timer in self.store.due(self.now, 1000)]
        return sorted((timer.trigger, timer.event.user_id, timer.event.tag) for timer in timers)


@contextmanager
def open_house(
    state: Path,
    serving: Serving,
    clock: Clock,
    triggers: Sequence[Trigger] = TRIGGERS,
    sources: dict[str, str] = RULES,
) -> Iterator[House]:
    """Open the store in a directory."""
    state.mkdir(exist_ok=True)
    store = SqliteStore.open(state, lambda: int(clock() * 1000))
    documents = KnownDocuments(store)
    tags = UserTags(rules(sources), BUILT_IN, lambda: serving.release, People(store, documents).rows_of)
    woken: list[str] = []
    watch = WatchTags(
        store, documents, tags, triggers, encode_change, clock, clock, lambda: woken.append("decider"), lambda _: None
    )
    asked = watch.wake if watch.watching else None
    record = RecordEvents(store, documents, (), clock, watch=asked)
    change = RecordChange(store, documents, encode_change, clock, asked)
    house = House(store, clock, record, change, watch, documents, woken)
    watch.begin()
    try:
        yield house
    finally:
        store.close()


@pytest.fixture
def house(tmp_path: Path, serving: Serving, clock: Clock) -> Iterator[House]:
    """Nothing is recorded yet."""
    with open_house(tmp_path / "state", serving, clock) as opened:
        yield opened


def test_what_comes_with_an_event_is_told_once(house: House) -> None:
    """In the log, in the profile, and as the timer of each trigger it calls."""
    house.act("ann", "view")
    house.look()
    assert house.moves("ann") == [("lifecycle:active", True)]
    assert house.documents.read("ann")[1].profile.stated.found_tags == {"lifecycle:active"}
    house.act("ann", "view", times=5)
    house.look()
    house.look()
    assert house.moves("ann") == [("lifecycle:active", True), ("clicker", True)]
    assert house.called() == [("clicked", "ann", "clicker")]
    assert house.woken == ["decider"]


def test_time_alone_changes_a_tag_and_nobody_is_looked_at_before(house: House) -> None:
    """At the millisecond that was told, not one before; then both that went and that came."""
    house.act("ann", "view")
    start = house.now
    house.look()
    assert house.store.next_look() == start + 60 * DAY_MS
    house.clock.now += 60 * 86_400
    house.look()
    assert house.moves("ann") == [("lifecycle:active", True)]
    house.clock.now += 0.001
    house.look()
    assert house.moves("ann")[1:] == [("lifecycle:active", False), ("lifecycle:lapsing", True)]
    assert house.called() == [("left", "ann", "lifecycle:active"), ("winback", "ann", "lifecycle:lapsing")]
    assert house.store.next_look() == NEVER


def test_a_tag_set_by_hand_comes_goes_and_ends(house: House) -> None:
    """By UpdateProfile, and by time."""
    house.say("ann", vip=TagSetting(1.0, house.now + 60_000))
    house.look()
    assert house.called() == [("vip", "ann", "vip")]
    house.clock.now += 61
    house.look()
    assert house.moves("ann") == [("vip", True), ("vip", False)]
    assert ("vip-over", "ann", "vip") in house.called()
    house.say("ann", vip=TagSetting())
    house.look()
    house.say("ann", vip=None)
    house.look()
    assert house.moves("ann")[2:] == [("vip", True), ("vip", False)]


def test_a_birthday_comes_by_itself(house: House) -> None:
    """What is said of a user has its day."""
    house.say("ann", {"birth_date": "2005-11-20"})  # NOW is 14 November 2023.
    house.look()
    assert house.moves("ann") == []
    house.clock.now += 7 * 86_400
    house.look()
    assert house.called() == [("grown", "ann", "grown")]


def test_what_follows_from_a_push_is_noted_and_calls_for_nothing(house: House) -> None:
    """A click gives the tag; a view with the seventh view's count would have called."""
    house.act("ann", "view")
    house.look()
    house.act("ann", "click")
    house.look()
    assert house.moves("ann")[-1] == ("clicker", True)
    assert house.called() == []


def test_who_was_there_before_is_noted_and_called_for_nothing(tmp_path: Path, serving: Serving, clock: Clock) -> None:
    """When the watch begins; who comes later is new. A second start goes on with the same watch."""
    with open_house(tmp_path / "state", serving, clock, triggers=()) as house:
        assert not house.watch.watching
        for user in range(200):
            house.act(f"user-{user:03}", "view", times=6)
        assert house.store.looks_due(house.now, 10) == []
    clock.now += 1
    with open_house(tmp_path / "state", serving, clock) as house:
        house.look()
        assert house.moves("user-007") == [("clicker", True), ("lifecycle:active", True)]
        assert house.called() == []
        house.act("new", "view", times=6)
        house.look()
        assert house.called() == [("clicked", "new", "clicker")]
    with open_house(tmp_path / "state", serving, clock) as house:
        house.look()
        assert house.called() == [("clicked", "new", "clicker")]
        assert house.store.never_looked_at("", 1000) == []
        house.clock.now += 61 * 86_400
        house.look()
        assert ("winback", "user-007", "lifecycle:lapsing") in house.called()


def test_another_watch_begins_anew(tmp_path: Path, serving: Serving, clock: Clock) -> None:
    """With another rule of the same name what it gives is noted, not told."""
    with open_house(tmp_path / "state", serving, clock) as house:
        house.act("ann", "view")
        house.look()
    clock.now += 1
    with open_house(tmp_path / "state", serving, clock, sources={**RULES, "clicker": "count('view') > 0"}) as house:
        assert house.store.never_looked_at("", 10) == ["ann"]
        house.look()
        assert house.moves("ann")[-1] == ("clicker", True)
        assert house.called() == []


def test_a_crash_between_the_event_and_the_look_forgets_nothing(tmp_path: Path, serving: Serving, clock: Clock) -> None:
    """Who is to be looked at stands in the store with the event."""
    with open_house(tmp_path / "state", serving, clock) as house:
        house.act("ann", "view", times=6)
    with open_house(tmp_path / "state", serving, clock) as house:
        house.look()
        assert house.called() == [("clicked", "ann", "clicker")]


def test_a_profile_that_changes_under_the_look_is_looked_at_again(house: House) -> None:
    """The transaction of a look that came too late changes nothing, and the user stays due."""
    house.act("ann", "view")
    stale = Look("ann", house.now, loud=True, looked=False)
    found = house.watch._found(stale, house.now)
    house.act("ann", "view")
    house.store.write(lambda tx: house.watch._job([found], house.now, tx)).result(WAIT)
    assert house.moves("ann") == []
    house.look()
    assert house.moves("ann") == [("lifecycle:active", True)]


def test_of_two_ids_of_one_person_the_one_that_stands_is_looked_at(house: House) -> None:
    """What both did counts together; the other id is looked at no more."""
    house.act("visitor", "view", times=4)
    house.act("ann", "view", times=3)
    house.look()
    assert house.called() == []
    merge = MergeProfiles(
        house.store,
        house.documents,
        encode_change,
        lambda *_: None,
        lambda *_: None,
        lambda _: None,
        house.clock,
        house.watch.wake,
    )
    merge("visitor", "ann").result(WAIT)
    assert [look.user_id for look in house.store.looks_due(house.now, 10)] == ["ann"]
    house.look()
    assert house.called() == [("clicked", "ann", "clicker")]
    assert house.moves("ann")[-1] == ("clicker", True)
    house.act("visitor", "view")
    house.look()
    assert house.store.never_looked_at("", 10) == []
    assert {look.user_id for look in house.store.looks_due(NEVER, 10)} == {"ann"}


def test_a_store_keeps_who_is_to_be_looked_at(opened: Opened) -> None:
    """One entry a user: the earlier moment, and loud when one of two that wait is."""
    store = opened.store
    opened.do(lambda t: t.looks.ask("ann", 5, False))
    opened.do(lambda t: t.looks.ask("ann", 7, True))
    opened.do(lambda t: t.looks.ask("ben", 6, False))
    assert store.looks_due(5, 9) == [Look("ann", 5, True, False)]
    assert store.looks_due(9, 9) == [Look("ann", 5, True, False), Look("ben", 6, False, False)]
    assert store.looks_due(9, 1) == [Look("ann", 5, True, False)]
    opened.do(lambda t: t.looks.set("ann", 100))
    opened.do(lambda t: t.looks.ask("ann", 8, False))
    assert store.looks_due(8, 9) == [Look("ben", 6, False, False), Look("ann", 8, False, True)]
    opened.do(lambda t: t.looks.remove("ben"))
    assert store.next_look() == 8
    opened.do(lambda t: [t.users.put(user, b"x", 0) for user in ("ann", "cid", "dora")])
    assert store.never_looked_at("", 9) == ["cid", "dora"]
    assert store.never_looked_at("cid", 9) == ["dora"]
    assert opened.do(lambda t: t.looks.begin("one", 50)) == 50
    assert store.next_look() is None
    opened.do(lambda t: t.looks.set("ann", 100))
    opened.reopen()
    assert opened.do(lambda t: t.looks.begin("one", 60)) == 50
    assert opened.store.next_look() == 100
    assert opened.do(lambda t: t.looks.begin("two", 70)) == 70
    assert opened.store.next_look() is None
