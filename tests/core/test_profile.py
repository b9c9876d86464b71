"""The fold: the same events make the same profile, however they arrive."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidings_core import counters, leanings, profile, visits
from tidings_core.events import EVENT_TYPES, Event, EventItem, EventType
from tidings_core.profile import (
    BLOCKED,
    DAY_MS,
    DAYS,
    EMPTY,
    RECENT,
    RECENT_ITEMS,
    SEEN,
    Profile,
    count_since,
    fold,
    join,
)

START = 1_700_000_000_000
Folded = tuple[Event, list[int]]


@st.composite
def histories(draw: st.DrawFn, most: int = 40) -> list[Folded]:
    """Events with distinct ids, of every type, some at the same millisecond, some months apart."""
    found: list[Folded] = []
    for number in range(draw(st.integers(0, most))):
        type = draw(st.sampled_from(EVENT_TYPES))
        items = draw(st.lists(st.integers(0, 12), max_size=4))
        prices = draw(st.lists(st.none() | st.floats(0, 1e6, width=32), min_size=len(items), max_size=len(items)))
        found.append(
            (
                Event(
                    event_id=f"event-{number}",
                    type=type,
                    user_id="u",
                    time=START + draw(st.sampled_from([0, 1, 2, DAY_MS, 20 * DAY_MS, 60 * DAY_MS])),
                    items=tuple(EventItem(f"i{item}", 2, price) for item, price in zip(items, prices, strict=True)),
                    category=draw(st.sampled_from(["", "Home", "Garten", "家居"]))
                    if type in ("view", "see_less")
                    else "",
                    query=draw(st.sampled_from(["mug", "手机"])) if type == "search" else "",
                    value=draw(st.none() | st.floats(0, 5, width=32)),
                ),
                items,
            )
        )
    return found


def as_bytes(made: Profile) -> bytes:
    """A profile as it is stored."""
    return msgspec.msgpack.encode(profile.to_values(made))


@settings(max_examples=150, deadline=None)
@given(histories(), st.randoms(use_true_random=False), st.integers(1, 6), st.sampled_from([2, 5, 1000]))
def test_any_order_and_any_split_of_arrival_makes_the_same_profile_and_the_same_bytes(
    events: list[Folded], dice: random.Random, parts: int, limit: int
) -> None:
    """Late, early, one by one or all at once, whatever no longer fits: nobody can tell from the profile."""
    shuffled = events.copy()
    dice.shuffle(shuffled)
    cuts = sorted(dice.randrange(len(events) + 1) for _ in range(parts))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RECENT", "SEEN", "BLOCKED", "RATED", "SEARCHES"):
            patch.setattr(profile, name, limit)
        for part in (counters, leanings, visits):
            patch.setattr(part, "KEPT", limit)
        at_once = fold(EMPTY, events)
        bit_by_bit = EMPTY
        for start, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
            bit_by_bit = fold(bit_by_bit, shuffled[start:end])
    assert len(at_once.recent) <= limit
    assert bit_by_bit == at_once
    assert as_bytes(bit_by_bit) == as_bytes(at_once)


@settings(max_examples=100, deadline=None)
@given(histories())
def test_a_profile_comes_back_from_the_store_as_it_was(events: list[Folded]) -> None:
    """Nothing of it is lost on the way through the store's bytes."""
    made = fold(EMPTY, events)
    assert profile.from_values(profile.to_values(made)) == made
    assert profile.from_values(msgspec.msgpack.decode(as_bytes(made))) == made


def event(number: int, type: EventType = "view", time: int = START, **more: object) -> Event:
    """An event with an id of its own."""
    return Event(f"event-{number}", type, "u", time, **more)  # type: ignore[arg-type]


def test_only_the_newest_are_kept_and_everything_is_counted() -> None:
    """A profile doesn't grow without end: events, items seen, items blocked, items of one event, days."""
    views = [(event(at, time=START + at), [at]) for at in range(2000)]
    less = [(event(5000 + at, "see_less", START + at), [at]) for at in range(2000)]
    made = fold(fold(EMPTY, views[:1500]), views[1500:] + less)
    assert (made.totals, len(made.recent)) == ({"view": 2000, "see_less": 2000}, RECENT)
    assert set(made.seen) == set(range(2000 - SEEN, 2000))
    assert set(made.blocked_items) == set(range(2000 - BLOCKED, 2000))
    basket = tuple(EventItem(str(number)) for number in range(50))
    large = fold(made, [(event(9000, "purchase", START + DAYS * DAY_MS, items=basket), list(range(50)))])
    assert large.recent[0].items == tuple(range(RECENT_ITEMS))
    assert set(large.bought) == set(range(50))
    assert {type for type, _ in large.days} == {"purchase"}


def test_money_is_what_was_bought_less_what_was_given_back() -> None:
    """In hundredths: the value of the whole, or else prices times quantities."""
    items = (EventItem("a", 3, 0.1), EventItem("b", 1, 0.2), EventItem("c"))
    events = [
        (event(1, "purchase", items=items), [1, 2, 3]),
        (event(2, "purchase", items=items, value=100.0), [1, 2, 3]),
        (event(3, "return", items=(EventItem("a", 1, 0.1),)), [1]),
    ]
    made = fold(EMPTY, events)
    assert made.spent == 50 + 10_000 - 10
    assert (made.bought[1].purchases, made.bought[1].returns, made.bought[3].purchases) == (2, 1, 2)
    # Twice three less one.
    assert (made.bought[1].kept, made.bought[3].kept) == (5, 2)


def test_days_are_counted_back_from_the_day_that_is_asked_about() -> None:
    """Whole days of UTC, the day of asking being one; what is later does not count."""
    made = fold(EMPTY, [(event(at, time=START - at * DAY_MS), [at]) for at in range(5)])
    assert [count_since(made, "view", START, days) for days in (1, 2, 30)] == [1, 2, 5]
    assert count_since(made, "view", START - 2 * DAY_MS, 30) == 3
    assert count_since(made, "click", START, 30) == 0


def test_nothing_new_changes_nothing() -> None:
    """A fold of no events gives the very same profile."""
    made = fold(EMPTY, [(event(1), [1])])
    assert fold(made, []) is made


@settings(max_examples=150, deadline=None)
@given(histories(), st.randoms(use_true_random=False), st.sampled_from([2, 5, 1000]))
def test_profiles_of_the_parts_of_a_history_join_into_that_of_the_whole(
    events: list[Folded], dice: random.Random, limit: int
) -> None:
    """However it was divided, in whichever order and grouping they are joined; and nothing joined changes nothing."""
    parts: list[list[Folded]] = [[], [], []]
    for one in events:
        parts[dice.randrange(3)].append(one)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RECENT", "SEEN", "BLOCKED", "RATED", "SEARCHES"):
            patch.setattr(profile, name, limit)
        for part in (counters, leanings, visits):
            patch.setattr(part, "KEPT", limit)
        whole = fold(EMPTY, events)
        a, b, c = (fold(EMPTY, part) for part in parts)
        assert join(join(a, b), c) == join(a, join(b, c)) == join(c, join(b, a)) == whole
        assert join(whole, EMPTY) == join(EMPTY, whole) == whole
        assert as_bytes(join(join(c, a), b)) == as_bytes(whole)
