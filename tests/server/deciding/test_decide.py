"""From a trigger to a push that is on disk, or an entry in the ledger that says why not."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.server.conftest import Clock, Shop
from tests.server.deciding.house import (
    PATIENCE,
    TRIGGERS,
    Around,
    House,
    Open,
    Setting,
    groups,
    items_of,
    open_house,
)
from tidings_core.model import Query
from tidings_core.stored import StoredPush
from tidings_core.triggers import Trigger
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.application.decide_push import MAX_IN_FLIGHT, MAX_PUT_OFF, SWEEP_SECONDS, TOGETHER
from tidings_server.application.plan_push import AGAIN_SECONDS, Ask
from tidings_server.application.push_timer import PushTimer
from tidings_server.application.recommend import Answers
from tidings_server.application.serving import Serving
from tidings_server.application.store import Transaction
from tidings_server.application.write_push import push_id_of

DAY = 86_400.0
_T = TypeVar("_T")


def meanwhile(house: House, around: Around, happens: Callable[[], object]) -> None:
    """Decide; something happens after the recommendation, and before the decision is written."""
    real = around._store.write
    done = threading.Event()

    def late(job: Callable[[Transaction], _T]) -> "Future[_T]":
        around._store.write = real  # type: ignore[method-assign]
        happens()
        done.set()
        return real(job)

    around._store.write = late  # type: ignore[method-assign]
    house.decide()
    assert done.is_set()


def test_three_triggers_lead_to_three_pushes_that_fit(house: House) -> None:
    """A purchase, a search and a look at a category, each by its serving config and in the words of its template."""
    house.act("ann", "purchase", "item-8")
    house.act("bob", "search", query="Group 4")
    house.act("eve", "view", category="group-3")
    house.decide()
    (ann,), (bob,), (eve,) = (house.pushes(user) for user in ("ann", "bob", "eve"))
    assert ann.title == "For your Group 2 thing 8"
    assert items_of(ann)[:2] == ["item-9", "item-15"]
    assert groups(items_of(ann)[2:]) == {2}
    assert "item-8" not in items_of(ann)
    assert ann.body == ", ".join(item.item.title for item in ann.items)
    assert ann.items[0].reasons[0].item_id == "item-8"
    assert bob.title == "You searched for Group 4"
    assert groups(items_of(bob)) == {4}
    assert bob.url == f"https://shop.example/{items_of(bob)[0]}"
    assert eve.title == "New in group-3"
    assert groups(items_of(eve)) == {3}
    assert [len(push.items) for push in (ann, bob, eve)] == [3, 3, 3]
    assert [(push.trigger, push.event_id, push.serving_config) for push in (ann, bob, eve)] == [
        ("bought", "event-1", "goes-with"),
        ("searched", "event-2", "search"),
        ("browsed", "event-3", "browse"),
    ]
    assert house.store.next_due() is None


def test_a_push_says_when_it_was_made_and_how_long_it_is_of_use(house: House, clock: Clock) -> None:
    """Times are the server's; the id comes from the decision, so it is the same however often it is made."""
    event = house.act("ann", "purchase", "item-8")
    house.decide()
    (push,) = house.pushes("ann")
    (stored,) = house.store.pushes("ann", 0, 10)
    assert push.create_time.ToMilliseconds() == house.now
    assert push.expire_time.ToMilliseconds() == stored.expires == house.now + 86_400_000
    assert push.push_id == stored.push_id == push_id_of(PushTimer("bought", event).key)
    assert (push.offset, push.prev_offset, stored.offset) == (0, 0, 1)


def test_subscribers_are_told_when_a_push_is_on_disk(house: House) -> None:
    """In the order of the offsets, and never of what was not sent."""
    for item in (8, 14, 20):
        house.act("ann", "purchase", f"item-{item}")
    house.act("ann", "search", query="nothing like it")
    house.decide()
    assert house.published == [("ann", push, ()) for push in house.store.pushes("ann", 0, 10)]
    assert len(house.published) == 3


def test_what_is_not_sent_says_why(house: House, clock: Clock) -> None:
    """Nothing found, and an event that waited too long."""
    house.act("ann", "search", query="zebra")
    house.decide()
    house.act("ann", "search", query="Group 4", age=3599.0)
    clock.now += 2.0
    house.decide()
    assert house.outcomes("ann") == ["NO_CANDIDATE", "EXPIRED"]
    assert house.pushes("ann") == []
    assert house.published == []
    assert house.document("ann").newest_offset == 0
    assert house.counted.decisions == {("trigger:searched", "NO_CANDIDATE"): 1, ("trigger:searched", "EXPIRED"): 1}


def test_nothing_is_said_to_be_in_a_category_that_it_is_not_in(house: House) -> None:
    """Somebody whose taste is known gets no push about a category that is unknown, or of which they asked less."""
    house.act("user-7", "view", category="no such thing")
    house.act("user-8", "see_less", category="group-2")
    house.act("user-8", "view", category="group-2")
    house.act("user-9", "view", category="group-2")
    house.decide()
    assert [house.outcomes(f"user-{user}") for user in (7, 8, 9)] == [["NO_CANDIDATE"], ["NO_CANDIDATE"], ["sent"]]
    (push,) = house.pushes("user-9")
    assert groups(items_of(push)) == {2}


def test_a_push_waits_for_a_release(
    tmp_path: Path, serving: Serving, directory: ReleaseDirectory, shop: Shop, clock: Clock
) -> None:
    """Looked at again every few seconds, not more often; once a release answers it is sent."""
    asked: list[int] = []

    def counting(ask: Ask) -> Ask:
        def counted(queries: Sequence[Query], deadlines: Sequence[float], *, keep: bool) -> Answers:
            asked.append(len(queries))
            return ask(queries, deadlines, keep=keep)

        return counted

    with open_house(tmp_path, serving, clock, Setting(ask_around=counting)) as house:
        house.act("ann", "purchase", "item-8")
        for _ in range(3):
            house.decide()
        assert asked == [1]
        assert house.outcomes() == []
        assert house.store.next_due() is not None
        clock.now += AGAIN_SECONDS
        house.decide()
        assert asked == [1, 1]
        serving.swap(directory.open(shop.a), serving.record.promoted(shop.a, 1.0))
        clock.now += AGAIN_SECONDS
        house.decide()
        assert house.outcomes() == ["sent"]
        assert house.store.next_due() is None
        assert house.counted.push_seconds == [pytest.approx(2 * AGAIN_SECONDS)]


def test_without_a_release_the_ledger_says_so_in_the_end(tmp_path: Path, serving: Serving, clock: Clock) -> None:
    """When the event will be too old at the next look; the timer is gone, so it is not answered hours later."""
    with open_house(tmp_path, serving, clock, Setting()) as house:
        max_age = TRIGGERS["bought"].max_age_seconds
        house.act("ann", "purchase", "item-8")
        clock.now += max_age - AGAIN_SECONDS
        house.decide()
        assert house.outcomes() == []
        clock.now += AGAIN_SECONDS
        house.decide()
        assert house.outcomes() == ["NO_RELEASE"]
        house.act("bob", "purchase", "item-8")
        clock.now += max_age + 1
        house.decide()
        assert house.outcomes() == ["NO_RELEASE", "EXPIRED"]
        assert house.store.next_due() is None


def test_what_waits_for_a_release_is_in_nobodys_way(opened: Open, serving: Serving) -> None:
    """More than are taken up at once wait, and behind them what needs no release is decided; the wait is bounded."""
    serving.release = None
    with opened(max_per_day=1) as house:
        house.change("zoe", lambda document: document.with_push(1, house.now, ("item-1",)))
        for at in range(3 * TOGETHER):
            house.act(f"user-{at}", "purchase", "item-8")
        house.act("zoe", "purchase", "item-8")
        house.decide()
        assert house.outcomes() == ["CAP_DAY"]
        assert not house.decider.decide_due()
        event = house.act("ann", "rating", "item-8")
        more = [PushTimer("bought", replace(event, event_id=f"more-{at}")) for at in range(MAX_PUT_OFF)]

        def set_all(tx: Transaction) -> None:
            for timer in more:
                tx.timers.set(timer.timer(house.now))

        house.write(set_all)
        house.decide()
        assert len(house.decider._put_off) == MAX_PUT_OFF
        assert house.outcomes() == ["CAP_DAY"]


def test_nothing_is_pushed_that_was_bought_or_pushed_or_is_not_wanted(house: House) -> None:
    """What the log knows to be bought, whatever the serving config; what was pushed before; what is asked less of."""
    bought = [f"item-{row}" for row in range(2, 200, 6)]
    house.act("ann", "see_less", "item-200", "item-206")
    house.act("ann", "purchase", *bought)
    for _ in range(4):
        house.act("ann", "view", category="group-2")
        house.decide()
    pushed = [item for push in house.pushes("ann") for item in items_of(push)]
    assert len(pushed) == len(set(pushed)) == 15
    assert not set(pushed) & {*bought, "item-200", "item-206"}


def test_a_serving_config_that_shows_bought_items_pushes_none(opened: Open) -> None:
    """The page of an item may show what one has; a push may not."""
    trigger = Trigger("bought", "purchase", "similar", "found", k=5)
    with opened(triggers={"bought": trigger}) as house:
        house.act("ann", "purchase", *(f"item-{row}" for row in range(2, 260, 6)))
        house.decide()
        house.act("ann", "purchase", "item-296")
        house.decide()
        have = {f"item-{row}" for row in range(2, 260, 6)}
        first, second = house.pushes("ann")
        assert not have & set(items_of(first))
        assert not {*have, "item-296"} & set(items_of(second))
        assert len(first.items) == len(second.items) == 5


def test_the_cap_holds_when_many_triggers_fire_at_once(opened: Open, clock: Clock) -> None:
    """Decisions made side by side cannot spend the same place; after a day there is room again."""
    with opened(max_per_day=3) as house:
        for at in range(20):
            house.act("ann", "purchase", f"item-{8 + at}")
            house.act("bob", "search", query="Group 1")
        house.decide()
        for user in ("ann", "bob"):
            assert sorted(house.outcomes(user)) == ["CAP_DAY"] * 17 + ["sent"] * 3
            assert len(house.pushes(user)) == 3
        clock.now += DAY - 1
        house.act("ann", "purchase", "item-100")
        house.decide()
        clock.now += 1
        house.act("ann", "purchase", "item-101")
        house.decide()
        assert house.outcomes("ann")[-2:] == ["CAP_DAY", "sent"]


def test_no_pushes_at_all_when_the_cap_is_zero(opened: Open) -> None:
    """Zero is a limit too."""
    with opened(max_per_day=0) as house:
        house.act("ann", "purchase", "item-8")
        house.decide()
        assert house.outcomes() == ["CAP_DAY"]


def test_a_trigger_rests_for_its_cooldown_after_a_push(opened: Open, clock: Clock) -> None:
    """Of events recorded together one leads to a push; another trigger is not concerned, nor what sent nothing."""
    triggers = {**TRIGGERS, "searched": replace(TRIGGERS["searched"], cooldown_seconds=60.0)}
    with opened(triggers=triggers) as house:
        house.act("ann", "search", query="zebra")
        house.decide()
        house.act("ann", "search", query="Group 1")
        house.act("ann", "search", query="Group 2")
        house.act("ann", "purchase", "item-8")
        house.decide()
        clock.now += 59.9
        house.act("ann", "search", query="Group 2")
        house.decide()
        clock.now += 0.1
        house.act("ann", "search", query="Group 3")
        house.decide()
        by_cause = [(entry.cause, entry.reason or entry.state) for entry in house.entries("ann")]
    searched = [outcome for cause, outcome in by_cause if cause == "trigger:searched"]
    assert searched == ["NO_CANDIDATE", "sent", "COOLDOWN", "COOLDOWN", "sent"]
    assert ("trigger:bought", "sent") in by_cause


def test_events_that_were_counted_once_lead_to_one_push(
    opened: Open, wrap: Any, around: list[Around], clock: Clock
) -> None:
    """One more event, before the decision or while it is made, is no count of its own; as many again are."""
    triggers = {"looked": Trigger("looked", "view", "similar", "found", count=2)}
    with opened(triggers=triggers, around=wrap) as house:
        house.decide()
        for item in (8, 14, 20):
            house.act("ann", "view", f"item-{item}")
        house.decide()
        assert house.outcomes("ann") == ["sent", "COOLDOWN"]

        def one_more() -> None:
            clock.now += 0.05
            house.act("bob", "view", "item-20")

        house.act("bob", "view", "item-8")
        house.act("bob", "view", "item-14")
        meanwhile(house, around[0], one_more)
        house.decide()
        assert house.outcomes("bob") == ["sent", "COOLDOWN"]
        clock.now += 1.0
        for item in (26, 32):
            house.act("ann", "view", f"item-{item}")
        house.decide()
        assert house.outcomes("ann") == ["sent", "COOLDOWN", "sent"]


def test_a_crash_between_event_and_decision_leaves_one_decision(opened: Open) -> None:
    """The timer is still there after opening again: decided once, and not again after the next opening."""
    with opened() as house:
        house.act("ann", "purchase", "item-8")
    for _ in range(2):
        with opened() as house:
            house.decide()
            assert house.outcomes() == ["sent"]
            assert len(house.pushes("ann")) == 1
            assert house.document("ann").newest_offset == 1


def test_a_decision_that_was_made_is_not_made_again(house: House) -> None:
    """A timer of the same key, set once more, changes nothing and is removed."""
    event = house.act("ann", "purchase", "item-8")
    house.decide()
    house.write(lambda tx: tx.timers.set(PushTimer("bought", event).timer(house.now)))
    house.decide()
    assert house.outcomes() == ["sent"]
    assert len(house.pushes("ann")) == 1
    assert len(house.published) == 1
    assert house.store.next_due() is None


def test_a_newer_push_takes_the_place_of_those_not_acknowledged(opened: Open) -> None:
    """Of the same key; one acknowledged, and one of another key, stay. Subscribers are told which are withdrawn."""
    triggers = {**TRIGGERS, "browsed": replace(TRIGGERS["browsed"], collapse_key="browsing")}
    with opened(triggers=triggers) as house:
        house.act("ann", "view", category="group-0")
        house.decide()
        house.change("ann", lambda document: document.with_acknowledged("phone", 1, house.now))
        house.act("ann", "purchase", "item-8")
        house.decide()
        for group in (1, 2):
            house.act("ann", "view", category=f"group-{group}")
            house.decide()
        kept = [(push.offset, push.collapse_key) for push in house.store.pushes("ann", 0, 10)]
        assert kept == [(1, "browsing"), (2, ""), (4, "browsing")]
        assert house.outcomes("ann") == ["sent", "sent", "collapsed", "sent"]
        assert [withdrawn for _, _, withdrawn in house.published] == [(), (), (), (house.entries("ann")[2].push_id,)]


def test_expired_pushes_leave_their_streams(opened: Open, clock: Clock) -> None:
    """Now and then, and the ledger says so; what was delivered stays delivered, what lives on stays."""
    triggers = {**TRIGGERS, "bought": replace(TRIGGERS["bought"], ttl_seconds=10.0)}
    with opened(triggers=triggers) as house:
        house.act("ann", "purchase", "item-8")
        house.act("bob", "purchase", "item-8")
        house.act("eve", "search", query="Group 1")
        house.decide()
        house.write(lambda tx: tx.ledger.advance("bob", 0, 1, "delivered", house.now))
        clock.now += SWEEP_SECONDS
        house.decide()
        assert [len(house.pushes(user)) for user in ("ann", "bob", "eve")] == [0, 0, 1]
        assert [house.outcomes(user) for user in ("ann", "bob", "eve")] == [["expired"], ["delivered"], ["sent"]]
        assert house.document("ann").lost_through == 0


def test_a_stream_is_bounded_and_says_what_was_lost(opened: Open) -> None:
    """The oldest go first; one that was acknowledged is not lost."""
    with opened(max_per_day=1000, history=3) as house:
        house.act("ann", "purchase", "item-8")
        house.decide()
        house.change("ann", lambda document: document.with_acknowledged("phone", 1, house.now))
        house.write(lambda tx: tx.ledger.advance("ann", 0, 1, "delivered", house.now))
        for at in range(5):
            house.act("ann", "purchase", f"item-{9 + at}")
            house.decide()
        assert [push.offset for push in house.store.pushes("ann", 0, 100)] == [4, 5, 6]
        assert house.outcomes("ann") == ["delivered", "lost", "lost", "sent", "sent", "sent"]
        assert house.document("ann").lost_through == 3
    with opened(max_per_day=1000, history=1) as house:
        house.made = 100
        house.act("ann", "purchase", "item-50")
        house.decide()
        assert [push.offset for push in house.store.pushes("ann", 0, 100)] == [7]
        assert house.document("ann").lost_through == 6


def test_what_is_bought_between_recommending_and_writing_is_not_pushed(
    opened: Open, wrap: Any, around: list[Around]
) -> None:
    """Others take its place, and the words speak of them."""
    with opened(around=wrap) as house:
        house.decide()
        house.act("ann", "purchase", "item-8")
        house.act("bob", "purchase", "item-8")
        house.decide()
        (expected,) = (items_of(push) for push in house.pushes("bob"))
        assert expected == [item for push in house.pushes("ann") for item in items_of(push)]
        house.act("cat", "purchase", "item-8")
        meanwhile(house, around[0], lambda: house.change_profile("cat", "purchase", expected[0]))
        (push,) = house.pushes("cat")
        assert items_of(push)[:2] == expected[1:]
        assert len(push.items) == 3
        assert push.body == ", ".join(item.item.title for item in push.items)
        (entry,) = house.entries("cat")
        assert [item["item_id"] for item in house.record(entry)["chosen"]] == items_of(push)


def test_what_is_asked_less_of_between_recommending_and_writing_is_not_pushed(
    opened: Open, wrap: Any, around: list[Around]
) -> None:
    """Neither the item nor its category; when nothing is left, nothing is sent."""
    with opened(around=wrap) as house:
        house.decide()
        house.act("ann", "view", category="group-2")
        meanwhile(house, around[0], lambda: house.change_profile("ann", "see_less", category="group-2"))
        assert house.outcomes("ann") == ["NO_CANDIDATE"]
        house.act("bob", "view", category="group-2")
        house.act("eve", "view", category="group-2")
        house.decide()
        first = items_of(house.pushes("eve")[0])[0]
        house.act("cat", "view", category="group-2")
        meanwhile(house, around[0], lambda: house.change_profile("cat", "see_less", first))
        assert items_of(house.pushes("cat")[0])[:2] == items_of(house.pushes("bob")[0])[1:]


def test_two_pushes_decided_together_speak_of_different_items(house: House) -> None:
    """The second sees what the first took, though both were recommended for before."""
    house.act("ann", "purchase", "item-8")
    house.act("ann", "purchase", "item-14")
    house.decide()
    first, second = house.pushes("ann")
    assert not set(items_of(first)) & set(items_of(second))
    assert len(second.items) == 3


def test_more_than_fits_at_once_is_decided_in_turn(house: House) -> None:
    """Many timers at once, bounded in flight, each decided once."""
    users = [f"user-{at}" for at in range(2 * MAX_IN_FLIGHT + TOGETHER // 2)]
    for user in users:
        house.act(user, "purchase", "item-8")
    while house.decider.decide_due():
        pass
    while house.store.next_due() is not None:
        house.decide()
    assert sorted(entry.user_id for entry in house.entries()) == sorted(users)
    assert set(house.outcomes()) == {"sent"}


def test_the_thread_decides_when_it_is_woken_and_ends_with_everything_on_disk(house: House) -> None:
    """Wake it after an event; what was taken up when it ends is on disk."""
    arrived = threading.Semaphore(0)
    publish = house.decider._publish

    def told(user: str, push: StoredPush, withdrawn: Sequence[str]) -> None:
        publish(user, push, withdrawn)
        arrived.release()

    house.decider._publish = told
    house.decider.start()
    for at in range(20):
        house.act(f"user-{at}", "purchase", "item-8")
        house.decider.wake()
    for _ in range(20):
        assert arrived.acquire(timeout=PATIENCE)
    assert house.decider.close(PATIENCE)
    assert house.outcomes() == ["sent"] * 20


def test_what_was_due_before_the_start_is_decided_without_a_wake(opened: Open) -> None:
    """The timers of the last run are found."""
    with opened() as house:
        house.act("ann", "purchase", "item-8")
    with opened() as house:
        arrived = threading.Event()
        house.decider._publish = lambda *_: arrived.set()
        house.decider.start()
        assert arrived.wait(PATIENCE)


def test_decisions_are_counted_and_timed(house: House, clock: Clock) -> None:
    """By cause and outcome; a push by the time since its event was recorded."""
    house.act("ann", "purchase", "item-8")
    house.act("ann", "search", query="zebra")
    clock.now += 0.25
    house.decide()
    assert house.counted.decisions == {("trigger:bought", "sent"): 1, ("trigger:searched", "NO_CANDIDATE"): 1}
    assert house.counted.push_seconds == [pytest.approx(0.25, abs=0.001)]
    assert house.counted.decide_seconds == [0.0, 0.0]
