"""Deciding survives whatever fails: the store, a timer, a template, the recommendation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.server.conftest import Clock
from tests.server.deciding.house import PATIENCE, Around, House, Logged, Open
from tidings_core.errors import Overloaded, StorageFailed, StorageFull
from tidings_core.model import Degradation, Query
from tidings_core.stored import Timer
from tidings_server.application.decide_push import LONGEST_PAUSE
from tidings_server.application.plan_push import AGAIN_SECONDS, Ask
from tidings_server.application.push_timer import PushTimer
from tidings_server.application.recommend import Answers
from tidings_server.application.store import Transaction
from tidings_server.application.write_push import log_name


@pytest.mark.parametrize("error", [StorageFull("full", 5.0), StorageFailed("the disk is gone")])
def test_a_failing_store_leaves_the_timers_and_is_left_alone_for_a_while(
    opened: Open, wrap: Any, around: list[Around], clock: Clock, error: Exception
) -> None:
    """Pauses grow up to a limit; when the store works again everything is decided, once."""
    with opened(around=wrap) as house:
        for at in range(3):
            house.act("ann", "purchase", f"item-{8 + at}")
        around[0].fails = error
        pauses = []
        for _ in range(10):
            house.decide()
            tried = around[0].tried
            house.decide()
            assert around[0].tried == tried
            pauses.append(house.decider.pause)
            clock.now += house.decider.pause
        assert pauses[:3] == [0.1, 0.2, 0.4]
        assert pauses[-1] == LONGEST_PAUSE
        assert house.entries() == []
        assert house.store.next_due() is not None
        around[0].fails = None
        house.decide()
        assert house.outcomes() == ["sent"] * 3
        assert len(house.published) == 3
        assert house.decider.pause == 0.0


def test_a_store_without_room_is_told_to_the_caller_and_nothing_is_lost(
    opened: Open, wrap: Any, around: list[Around]
) -> None:
    """What was not handed over stays to be done."""
    with opened(around=wrap) as house:
        house.decide()
        house.act("ann", "purchase", "item-8")
        around[0].fails = Overloaded("no room", 1.0)
        with pytest.raises(Overloaded):
            house.decider.decide_due()
        assert house.decider.settle(PATIENCE)
        around[0].fails = None
        house.decide()
        assert house.outcomes() == ["sent"]


def test_a_poisoned_timer_is_written_off_and_stops_nobody(house: House) -> None:
    """One that cannot be read, one whose trigger is gone, one whose user's document is damaged."""
    house.write(lambda tx: tx.timers.set(Timer("trigger/bought/x", 1, "ann", b"{")))
    gone = PushTimer("gone", house.act("bob", "rating", "item-1"))
    house.write(lambda tx: tx.timers.set(gone.timer(1)))
    house.write(lambda tx: tx.users.put("eve", b"not a document", 0))
    event = replace(house.act("cat", "rating", "item-1"), user_id="eve")
    house.write(lambda tx: tx.timers.set(PushTimer("bought", event).timer(1)))
    house.act("dan", "purchase", "item-8")
    house.decide()
    assert {user: house.outcomes(user) for user in ("ann", "bob", "eve", "dan")} == {
        "ann": ["FAILED"], "bob": ["FAILED"], "eve": ["FAILED"], "dan": ["sent"],
    }  # fmt: skip
    assert house.store.next_due() is None
    (entry,) = house.entries("bob")
    assert (entry.cause, entry.state) == ("trigger:gone", "suppressed")
    assert "no longer configured" in house.record(entry)["detail"]
    assert "damaged" in house.record(house.entries("eve")[0])["detail"]


def test_a_failure_of_the_recommendation_hurts_its_own_decision_only(opened: Open) -> None:
    """A batch that fails is asked one by one."""

    def poison(ask: Ask) -> Ask:
        def asked(queries: Sequence[Query], deadlines: Sequence[float], *, keep: bool) -> Answers:
            if any(query.search == "poison" for query in queries):
                raise ZeroDivisionError("of all things")
            return ask(queries, deadlines, keep=keep)

        return asked

    with opened(ask_around=poison) as house:
        house.act("ann", "purchase", "item-8")
        house.act("bob", "search", query="poison")
        house.act("eve", "purchase", "item-9")
        house.decide()
        assert [house.outcomes(user) for user in ("ann", "bob", "eve")] == [["sent"], ["FAILED"], ["sent"]]
        assert "ZeroDivisionError: of all things" in house.record(house.entries("bob")[0])["detail"]


def test_a_failure_inside_the_transaction_is_written_down(
    opened: Open, wrap: Any, around: list[Around], logged: Logged
) -> None:
    """Nothing of the failed decision is kept but that it failed, and why; the log has the whole of it."""
    with opened(around=wrap) as house:
        house.decide()
        house.act("ann", "purchase", "item-8")

        def fail(tx: Transaction) -> None:
            raise ZeroDivisionError("of all things")

        around[0].before = fail
        house.decide()
        house.decide()
        (entry,) = house.entries("ann")
        assert (entry.reason, house.record(entry)["detail"]) == ("FAILED", "ZeroDivisionError: of all things")
        assert house.pushes("ann") == []
        assert house.document("ann").newest_offset == 0
        assert house.store.next_due() is None
        (line,) = logged
        assert (line["event"], line["decision"]) == ("a decision failed", log_name(entry.decision_id))
        assert isinstance(line["exc_info"], ZeroDivisionError)


def test_what_cannot_even_be_written_off_is_left_until_the_next_start(
    opened: Open, wrap: Any, around: list[Around]
) -> None:
    """It is tried twice and then passed over; the others go on."""
    with opened(around=wrap) as house:
        house.decide()
        house.act("ann", "purchase", "item-8")
        around[0].fails = ZeroDivisionError("always")
        house.decide()
        house.decide()
        around[0].fails = None
        tried = around[0].tried
        house.act("bob", "purchase", "item-8")
        house.decide()
        assert around[0].tried == tried + 1
        assert house.outcomes() == ["sent"]
    with opened() as house:
        house.decide()
        assert house.outcomes("ann") == ["sent"]


def test_a_template_that_fails_is_written_down_and_stops_nobody(opened: Open) -> None:
    """A purchase of an item that no release has leaves `because` empty; this template did not expect that."""
    with opened() as house:
        house.act("ann", "purchase", "unheard-of")
        house.act("bob", "purchase", "unheard-of", "item-8")
        house.decide()
        assert house.outcomes("ann") == ["FAILED"]
        assert "template.goes-with.title: line 1" in house.record(house.entries("ann")[0])["detail"]
        assert house.pushes("bob")[0].title == "For your Group 2 thing 8"


def test_nothing_is_pushed_to_somebody_while_their_profile_cannot_be_read(opened: Open, clock: Clock) -> None:
    """The answer would be made without it, and might be what was bought. Once it can be read, the push is sent."""
    sees = False

    def blind(ask: Ask) -> Ask:
        def asked(queries: Sequence[Query], deadlines: Sequence[float], *, keep: bool) -> Answers:
            made = ask(queries, deadlines, keep=keep)
            if sees:
                return made
            missing = Degradation("failed", "profile", "answered without what is recorded of the user")
            answers = [one if isinstance(one, Exception) else replace(one, degraded=(missing,)) for one in made.answers]
            return replace(made, answers=answers)

        return asked

    with opened(ask_around=blind) as house:
        house.act("ann", "purchase", "item-8")
        house.decide()
        assert house.outcomes() == []
        sees = True
        clock.now += AGAIN_SECONDS
        house.decide()
        assert house.outcomes() == ["sent"]


def test_a_read_that_fails_once_costs_nobody_a_push(
    opened: Open, wrap: Any, around: list[Around], clock: Clock, logged: Logged
) -> None:
    """The timer stays, and is tried again after a pause; meanwhile others are decided."""
    with opened(around=wrap) as house:
        house.act("ann", "search", query="Group 1")
        house.act("bob", "search", query="Group 1")
        around[0].unreadable = {"ann"}
        house.decide()
        assert (house.outcomes("ann"), house.outcomes("bob")) == ([], ["sent"])
        house.decide()
        (line,) = logged
        assert (line["event"], line["problem"]) == ("pushes wait", "the database failed")
        around[0].unreadable = set()
        clock.now += AGAIN_SECONDS
        house.decide()
        assert house.outcomes("ann") == ["sent"]
        assert house.store.next_due() is None


def test_telling_subscribers_may_fail_without_harm(house: House, logged: Logged) -> None:
    """The push is on disk; a subscriber that was not told finds it when it reads."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("of all things")

    house.decider._publish = broken
    house.act("ann", "purchase", "item-8")
    house.act("bob", "purchase", "item-8")
    house.decide()
    assert house.outcomes() == ["sent", "sent"]
    assert house.decider.close(PATIENCE)
    assert [line["event"] for line in logged] == ["telling of a decision failed"] * 2
