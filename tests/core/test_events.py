"""Which events are fit to be recorded, and what is said of those that are not."""

import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings_core.events import (
    AHEAD_MS,
    EARLIEST_MS,
    EVENT_TYPES,
    LIKING,
    MAX_EVENT_ITEMS,
    Event,
    EventItem,
    EventType,
    event_faults,
    liking,
)

NOW = 1_700_000_000_000
ITEM = (EventItem("mug"),)
GOOD: dict[EventType, dict[str, Any]] = {
    "view": {"category": "Home"},
    "search": {"query": "mug"},
    "add_to_cart": {"items": ITEM},
    "remove_from_cart": {"items": ITEM},
    "purchase": {"items": (EventItem("mug", 3, 4.5),), "value": 13.5},
    "return": {"items": ITEM},
    "impression": {"items": ITEM, "push_id": "p1"},
    "click": {"items": ITEM},
    "dismiss": {"items": ITEM},
    "see_less": {"category": "Home", "items": ITEM},
    "rating": {"items": ITEM, "value": 5.0},
    "cancel": {"order_id": "o-17"},
}


def made(type: EventType = "view", **more: Any) -> Event:
    """A good event of a type, but for what is changed."""
    return Event(**{"event_id": "e1", "type": type, "user_id": "ann", "time": NOW, **GOOD[type], **more})


@pytest.mark.parametrize("type", EVENT_TYPES)
def test_a_good_event_of_every_type_has_no_fault(type: EventType) -> None:
    """Every type there is can be recorded."""
    assert event_faults(made(type), NOW) == []


@pytest.mark.parametrize(
    ("event", "field", "said"),
    [
        (made("cancel", order_id=""), "order_id", "must have 1 to 256"),
        (made("view", order_id="o-1"), "order_id", "only purchase, return, cancel may name one"),
        (made("cancel", items=ITEM), "items", "which is of a whole order: of one item record a return"),
        (made(event_id=""), "event_id", "must have 1 to 256"),
        (made(user_id="ä" * 129), "user_id", "has 258 bytes"),
        (made(user_id="a\nb"), "user_id", "control character"),
        (made(user_id="a\x85b"), "user_id", "control character"),
        (made(time=NOW // 1000), "event_time", "is it in seconds?"),
        (made(time=EARLIEST_MS - 1), "event_time", "before 2000-01-01"),
        (made(time=NOW + AHEAD_MS + 1000), "event_time", "301 s ahead"),
        (made(value=math.nan), "value", "is nan"),
        (made(value=-1.0), "value", "must be 0 to"),
        (made("rating", value=5.5), "value", "is 5.5, must be 0 to 5"),
        (made("rating", value=None), "value", "needs its stars"),
        (made("search", query=""), "query", "must have 1 to 1024"),
        (made("search", query="x" * 1025), "query", "has 1025 bytes"),
        (made("click", query="mug"), "query", "only a search has one"),
        (made("click", category="Home"), "category", "only view and see_less"),
        (made("view", category="x" * 257), "category", "has 257 bytes"),
        (made("view", category=""), "items", "needs items, or a category"),
        (made("purchase", items=()), "items", "a purchase needs the items"),
        (made("purchase", items=ITEM * (MAX_EVENT_ITEMS + 1)), "items", "has 1001 entries"),
        (made("purchase", items=(*ITEM, EventItem(""))), "items[1].item_id", "has 0 bytes"),
        (made("purchase", items=(EventItem("a", 0),)), "items[0].quantity", "is 0, must be 1 to"),
        (made("purchase", items=(EventItem("a", 1, math.inf),)), "items[0].price", "is inf"),
        (made(push_id="x" * 257), "push_id", "has 257 bytes"),
    ],
)
def test_a_fault_names_the_field_and_the_way_out(event: Event, field: str, said: str) -> None:
    """Each of these is refused for one thing, and says which."""
    faults = event_faults(event, NOW)
    assert [name for name, _ in faults] == [field]
    assert said in faults[0][1]


def test_all_faults_are_told_at_once() -> None:
    """Nobody has to try again to learn of the next one."""
    event = made("purchase", event_id="", user_id="", time=0, items=(EventItem("", 0, -1.0),), value=-1.0)
    assert [field for field, _ in event_faults(event, NOW)] == [
        "event_id",
        "user_id",
        "event_time",
        "value",
        "items[0].item_id",
        "items[0].quantity",
        "items[0].price",
    ]


def test_the_edges_of_what_is_allowed_are_allowed() -> None:
    """A limit is inside."""
    assert event_faults(made(time=NOW + AHEAD_MS), NOW) == []
    assert event_faults(made(time=EARLIEST_MS, user_id="x" * 256), NOW) == []
    assert event_faults(made("search", query="手" * 341), NOW) == []
    assert event_faults(made("purchase", items=ITEM * MAX_EVENT_ITEMS), NOW) == []


@given(
    st.builds(
        Event,
        event_id=st.text(max_size=3),
        type=st.sampled_from(get_args(EventType)),
        user_id=st.text(max_size=3),
        time=st.integers(-(2**62), 2**62),
        items=st.lists(
            st.builds(EventItem, st.text(max_size=3), st.integers(-(2**40), 2**40), st.none() | st.floats()), max_size=3
        ).map(tuple),
        category=st.text(max_size=3),
        query=st.text(max_size=3),
        value=st.none() | st.floats(),
        push_id=st.text(max_size=3),
    )
)
def test_whatever_is_sent_faults_are_texts_and_never_a_failure(event: Event) -> None:
    """Validation itself cannot be broken by what it looks at."""
    assert all(field and problem for field, problem in event_faults(event, NOW))


def test_stars_decide_whether_a_rating_likes() -> None:
    """Three stars and more do; fewer, or none said, do not; other values say nothing of it."""
    assert [liking("rating", stars) for stars in (None, 0.0, 2.9, 3.0, 5.0)] == [0.0, 0.0, 0.0, 0.5, 0.5]
    assert liking("purchase", 0.5) == 1.0
    assert set(LIKING) == set(EVENT_TYPES)
