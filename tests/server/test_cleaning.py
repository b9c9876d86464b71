"""What does not count stands in the log, flagged, and is nowhere else."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.conftest import Clock
from tidings_core.changes import Change, Logged
from tidings_core.cleaning import Cleaning, Whose
from tidings_core.errors import InvalidInput
from tidings_core.events import Event, EventItem, EventType
from tidings_core.flags import GOOD, Flag
from tidings_core.profile import EMPTY, Profile, fold
from tidings_core.triggers import Trigger
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.documents import UserDocument, read_document, write_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.record_events import Door, RecordEvents
from tidings_server.application.replay import replay
from tidings_server.metrics import Metrics
from tidings_server.settings import load
from tidings_server.show_flags import count_flags
from tidings_server.transport.changes import decode_logged
from tidings_server.transport.events import encode_event

RULES = Cleaning(
    bots=Whose(patterns=("bot-*",)), tests=Whose(ids=frozenset({"qa"})), events_per_minute=5, events_per_day=1000
)


@dataclass
class Shop:
    """A store and what records into it."""

    store: SqliteStore
    clock: Clock
    directory: Path
    flagged: list[Flag] = field(default_factory=list)
    made: int = 0

    def record(self, *events: Event) -> list[str]:
        """Record events in one call; returns what became of each."""
        trigger = Trigger("viewed", "view", "for-you", "t")
        record = RecordEvents(
            self.store, KnownDocuments(self.store), (trigger,), self.clock, lambda: None,
            door=Door(RULES, decode_logged), flagged=self.flagged.append,
        )  # fmt: skip
        (done,) = record([[(event, encode_event(event)) for event in events]])
        assert not isinstance(done, Exception)
        return [verdict.status for verdict in done.verdicts]

    def event(self, type: EventType = "view", user: str = "ann", ago: int = 0, **more: Any) -> Event:
        """An event some milliseconds ago, with an id of its own."""
        self.made += 1
        items = () if type in ("cancel", "search") else (EventItem("hat"),)
        given = {"event_id": f"e-{self.made}", "items": items, **more}
        return Event(type=type, user_id=user, time=int(self.clock.now * 1000) - ago, **given)

    def flags(self) -> list[Flag]:
        """The flags of all events of the log, in order."""
        return [one.flags for one in self.store.events(0, 10_000)]

    def document(self, user: str = "ann") -> UserDocument:
        """What is stored of a user."""
        return read_document(self.store.user(user))

    def made_again(self, user: str = "ann") -> Profile:
        """The profile from the log."""
        found: Profile = self.store.write(lambda tx: replay(tx, user, decode_logged)).result(30)
        return found

    def from_scratch(self) -> Profile:
        """The profile that the events of the log that are good make, by a plain fold."""
        numbers = {item: number for number, item in self.store.item_ids(0)}
        good: list[Logged] = [decode_logged(one.content) for one in self.store.events(0, 10_000) if not one.flags]
        items = [[] if isinstance(one, Change) else [numbers[item.item_id] for item in one.items] for one in good]
        return fold(EMPTY, zip(good, items, strict=True))


@pytest.fixture
def shop(tmp_path: Path, clock: Clock) -> Iterator[Shop]:
    """Nothing is recorded yet."""
    with closing(SqliteStore.open(tmp_path, lambda: int(clock() * 1000))) as store:
        yield Shop(store, clock, tmp_path)


def test_bots_and_test_users_are_in_the_log_and_nowhere_else(shop: Shop) -> None:
    """Accepted and flagged: no profile, no trigger; a repeat is a duplicate; others of the same call count."""
    events = [shop.event(user="bot-7"), shop.event(user="qa"), shop.event(user="ann")]
    assert shop.record(*events) == ["accepted"] * 3
    assert shop.record(*events) == ["duplicate"] * 3
    assert shop.flags() == [Flag.BOT, Flag.TEST, GOOD]
    assert [shop.store.user(user).version for user in ("bot-7", "qa", "ann")] == [0, 0, 1]
    assert [timer.user_id for timer in shop.store.due(1 << 60, 9)] == ["ann"]
    assert shop.store.newest_users(9) == ["ann"]
    assert shop.flagged == [Flag.BOT, Flag.TEST]


def test_a_flood_is_logged_and_goes_no_further(shop: Shop) -> None:
    """What is above the bound of a minute is neither folded nor calls for pushes, in one call or in several."""
    shop.record(*(shop.event() for _ in range(4)))
    shop.record(*(shop.event() for _ in range(4)))
    before = shop.store.user("ann")
    shop.record(shop.event(), shop.event())
    assert shop.store.user("ann") == before
    assert shop.flags() == [GOOD] * 5 + [Flag.FLOOD] * 5
    assert shop.document().profile.totals == {"view": 5}
    assert len(shop.store.due(1 << 60, 99)) == 5
    shop.record(shop.event(ago=120_000))
    assert shop.document().profile.totals == {"view": 6}


@pytest.mark.parametrize("first", ["purchase", "cancel"])
def test_a_cancelled_order_is_out_of_the_profile_whichever_comes_first(shop: Shop, first: str) -> None:
    """As if it had not been bought: what was bought, money, and counts; push state stays."""
    shop.store.write(lambda tx: tx.users.put("ann", write_document(UserDocument(push_times=(5,))), 0)).result(30)
    bought = shop.event("purchase", order_id="o-1", value=80.0)
    cancel = shop.event("cancel", order_id="o-1")
    kept = shop.event("purchase", value=20.0, ago=90_000_000)
    for one in (kept, *((bought, cancel) if first == "purchase" else (cancel, bought))):
        shop.record(one)
    document = shop.document()
    assert (document.profile.spent, document.profile.totals) == (2000, {"purchase": 1, "cancel": 1})
    assert document.push_times == (5,)
    assert document.profile == shop.from_scratch() == shop.made_again()
    flags = {decode_logged(one.content).event_id: one.flags for one in shop.store.events(0, 9)}
    assert flags == {bought.event_id: Flag.CANCELLED, cancel.event_id: GOOD, kept.event_id: GOOD}
    assert shop.flagged == [Flag.CANCELLED]


def test_an_order_without_an_id_is_that_of_its_purchase_under_any_id_of_the_person(shop: Shop) -> None:
    """Cancelled by the event's own id, also where a visitor bought who is the user now."""
    shop.record(shop.event("purchase", "visitor", event_id="o-9"), shop.event("view", "ann"))

    def merge(tx: Any) -> None:
        theirs, ours = (read_document(tx.users.get(name)) for name in ("visitor", "ann"))
        tx.users.merge("visitor", "ann")
        tx.users.put("ann", write_document(ours.joined(theirs)), tx.users.get("ann").version)

    shop.store.write(merge).result(30)
    assert len(shop.document().profile.bought) == 1
    shop.record(shop.event("cancel", "visitor", order_id="o-9"))
    assert len(shop.document().profile.bought) == 0
    assert shop.document().profile == shop.made_again() == shop.from_scratch()
    shop.record(shop.event("cancel", "ann", order_id="o-9"))
    assert shop.document().profile == shop.from_scratch()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["view", "purchase", "purchase", "return", "cancel"]),
            st.sampled_from(["", "o-1", "o-2", "o-3"]),
            st.sampled_from([0, 30_000, 90_000_000]),
        ),
        max_size=16,
    ),
    st.integers(1, 4),
)
def test_the_profile_is_always_what_the_events_that_count_make(
    shop: Shop, steps: list[tuple[EventType, str, int]], together: int
) -> None:
    """Floods, orders cancelled before and after, one by one or together: from the log comes the same, byte for byte."""
    shop.made += 1
    user = f"u-{shop.made}"
    events = []
    for type, order, ago in steps:
        order = f"{user}-{order}" if order and type in ("purchase", "return", "cancel") else ""
        if order or type != "cancel":
            events.append(shop.event(type, user, ago, order_id=order))
    for start in range(0, len(events), together):
        shop.record(*events[start : start + together])
    assert shop.document(user).profile == shop.made_again(user)
    cancelled = {one.order_id for one in events if one.type == "cancel"}
    flags = {decode_logged(one.content).event_id: one.flags for one in shop.store.user_events(user, 0, 99)}
    counted = [one for one in events if not flags[one.event_id]]
    if any(one.type == "cancel" for one in counted):
        good = {one.order_id for one in counted if one.type == "cancel"}
        assert not [one for one in counted if one.type == "purchase" and one.order_id in good]
    assert all(Flag.CANCELLED not in flags[one.event_id] or one.order_id in cancelled for one in events)


def test_what_is_flagged_is_counted_by_why(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """In the metrics as it happens, and from the log by `tidings-server flags`."""
    shop.record(shop.event(user="bot-7"), shop.event(user="qa"), shop.event("purchase", order_id="o"))
    shop.record(shop.event("cancel", order_id="o"))
    metrics = Metrics()
    for flag in [*shop.flagged, Flag.BOT | Flag.FLOOD]:
        metrics.flagged(flag)
    counted = {
        flag: metrics.registry.get_sample_value("tidings_events_flagged_total", {"flag": flag})
        for flag in ("bot", "test", "cancelled", "flood")
    }
    assert counted == {"bot": 2, "test": 1, "cancelled": 1, "flood": 1}
    assert count_flags(shop.directory) == {GOOD: 1, Flag.BOT: 1, Flag.TEST: 1, Flag.CANCELLED: 1}


def test_the_settings_say_who_and_how_many(tmp_path: Path) -> None:
    """[cleaning] as it is written, and every fault of it at once, by its place."""
    file = tmp_path / "server.toml"
    file.write_text(
        """
        [cleaning]
        events_per_minute = 100
        [cleaning.bots]
        patterns = ["bot-*"]
        [cleaning.tests]
        ids = ["qa"]
        attributes = { city = "Testville", interests = ["test"] }
        """
    )
    rules = load(file, {}).cleaning.rules
    assert rules == Cleaning(
        Whose(patterns=("bot-*",)),
        Whose(frozenset({"qa"}), attributes={"city": "Testville", "interests": ("test",)}),
        100,
    )
    file.write_text(
        """
        [cleaning.bots]
        patterns = ["**", ""]
        ids = ["a\\u0000"]
        [cleaning.tests]
        attributes = { tester = true, age = "old" }
        """
    )
    with pytest.raises(InvalidInput) as refused:
        load(file, {})
    assert {place for place, _ in refused.value.violations} == {
        "cleaning.bots.patterns[0]",
        "cleaning.bots.patterns[1]",
        "cleaning.bots.ids[0]",
        "cleaning.tests.attributes['tester']",
        "cleaning.tests.attributes['age']",
    }
    file.write_text("[cleaning]\nevents_per_hour = 5")
    with pytest.raises(InvalidInput, match="known are events_per_minute, events_per_day, bots, tests"):
        load(file, {})


def test_the_command_tells_how_many_and_why(shop: Shop) -> None:
    """For people and for machines."""
    from typer.testing import CliRunner

    from tidings_server.cli import command

    shop.record(shop.event(user="bot-7"), shop.event())
    run = CliRunner().invoke(command, ["flags", "--state", str(shop.directory)])
    assert run.output.splitlines() == [
        "2 entries in the log, 1 of them count for nothing",
        "          1  bot         no person did it",
    ]
    run = CliRunner().invoke(command, ["flags", "--state", str(shop.directory), "--json"])
    assert json.loads(run.output)["bot"] == 1
