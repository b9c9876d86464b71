"""Which events count for nothing: bots, test users, cancelled orders, and more than a person can do."""

import pytest

from tidings_core.changes import Change, Update
from tidings_core.cleaning import Cleaning, Whose, is_of, judged
from tidings_core.events import Event, EventItem, EventType
from tidings_core.flags import GOOD, Flag
from tidings_core.profile import DAY_MS, EMPTY, Profile, fold, order_key

START = 1_700_000_000_000 // DAY_MS * DAY_MS


def event(number: int, type: EventType = "view", time: int = START, user: str = "ann", **more: object) -> Event:
    """An event with an id of its own."""
    items = () if type == "cancel" else (EventItem("hat"),)
    return Event(f"e-{number}", type, user, time, items, **more)  # type: ignore[arg-type]


def made(*events: Event) -> Profile:
    """The profile of events."""
    return fold(EMPTY, [(one, [0] * len(one.items)) for one in events])


WHOSE = Whose(frozenset({"probe"}), ("qa-*", "*@test.example", "load?"), {"tester": True, "role": "crawler"})


@pytest.mark.parametrize(
    ("user", "meant"),
    [
        *((name, True) for name in ("probe", "qa-", "qa-7", "x@test.example", "load1")),
        *((name, False) for name in ("QA-7", "load12", "ann", "prob", "sqa-7", "x@test.example.com")),
    ],
)
def test_users_are_meant_by_id_and_by_pattern(user: str, meant: bool) -> None:
    """An id as it is, a pattern from end to end."""
    assert WHOSE.match(user, EMPTY) is meant
    assert judged(Cleaning(bots=WHOSE), EMPTY, [event(1, user=user)]) == [Flag.BOT if meant else GOOD]
    assert judged(Cleaning(tests=WHOSE), EMPTY, [event(1, user=user)]) == [Flag.TEST if meant else GOOD]


def test_users_are_meant_by_what_is_said_of_them() -> None:
    """By any one of the attributes, with that very value."""
    for attributes, meant in (({"tester": True}, True), ({"role": "crawler"}, True), ({"tester": False}, False)):
        profile = fold(EMPTY, [(Change("c", "ann", START, Update(attributes)), [])])
        assert WHOSE.match("ann", profile) is meant
    both = Cleaning(bots=WHOSE, tests=Whose(ids=frozenset({"probe"})))
    assert judged(both, EMPTY, [event(1, user="probe")]) == [Flag.BOT | Flag.TEST]


def test_what_is_more_than_so_many_in_a_minute_is_a_flood() -> None:
    """Minutes of event time; what was there before counts, what is flagged does not; 0 is no bound."""
    rules = Cleaning(events_per_minute=3)
    before = made(event(1), event(2, time=START + 59_999))
    new = [event(number, time=START + number) for number in range(3, 6)] + [event(9, time=START + 60_000)]
    assert judged(rules, before, new) == [GOOD, Flag.FLOOD, Flag.FLOOD, GOOD]
    assert judged(Cleaning(events_per_minute=0), before, new) == [GOOD] * 4


def test_who_does_more_in_a_day_than_a_person_can_is_a_bot() -> None:
    """From the bound on, and on that day."""
    rules = Cleaning(events_per_day=4)
    before = made(
        *(event(number, ("view", "search", "click")[number], START + number * 3_600_000) for number in range(3))
    )
    new = [event(number, time=START + number * 3_600_000) for number in range(4, 7)] + [event(9, time=START + DAY_MS)]
    assert judged(rules, before, new) == [GOOD, Flag.BOT, Flag.BOT, GOOD]


def test_a_purchase_of_a_cancelled_order_does_not_count_whichever_comes_first() -> None:
    """By its order's id or, without one, by its own; a return of the order does not either; other orders do."""
    cancel = event(1, "cancel", order_id="o-1")
    new = [
        event(2, "purchase", order_id="o-1"),
        event(3, "purchase", order_id="o-2"),
        Event("o-1", "purchase", "ann", START, (EventItem("hat"),)),
        event(4, "return", order_id="o-1"),
        event(5, "return"),
        event(6, "view"),
    ]
    expected = [Flag.CANCELLED, GOOD, Flag.CANCELLED, Flag.CANCELLED, GOOD, GOOD]
    assert judged(Cleaning(), made(cancel), new) == expected
    assert judged(Cleaning(), EMPTY, [*new, cancel]) == [*expected, GOOD]
    assert not is_of(event(3, "purchase", order_id="o-2"), {order_key("e-3")})


def test_nothing_is_judged_of_nothing() -> None:
    """No events have no flags."""
    assert judged(Cleaning(), EMPTY, []) == []
