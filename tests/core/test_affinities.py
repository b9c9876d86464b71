"""To which categories and brands a user's interest goes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import NOW, make_world
from tidings_core.affinities import HALF_LIFE, MOST, affinities, prices
from tidings_core.attributes import Keyword
from tidings_core.events import EVENT_TYPES, Event, EventItem, EventType, liking
from tidings_core.features import ITEM_FEATURES
from tidings_core.model import Snapshot
from tidings_core.profile import EMPTY, Profile, fold
from tidings_core.tables import BytesTable

ITEMS = 60
BRANDS = [b"Aurora", b"Borealis"]
BARE = make_world(items=ITEMS, groups=6, bare=True).snapshot()
SNAPSHOT = replace(
    BARE,
    attributes={
        "category": Keyword(
            (np.arange(ITEMS) % 6).astype(np.int32), BytesTable.of([b"Group-%d" % group for group in range(6)])
        ),
        # The last items are of no brand.
        "brand": Keyword(
            np.where(np.arange(ITEMS) < 50, np.arange(ITEMS) % 2, -1).astype(np.int32), BytesTable.of(BRANDS)
        ),
    },
)
ROWS = np.arange(ITEMS, dtype=np.int32)
NOW_MS = round(NOW * 1000)


def event(
    type: EventType, *items: int, ago: int = 0, category: str = "", value: float | None = None, name: str = ""
) -> tuple[Event, tuple[int, ...]]:
    """An event some milliseconds before NOW, with the item_no of its items, which are their rows."""
    things = tuple(EventItem(str(item)) for item in items)
    event_id = name or f"{type}-{items}-{ago}-{category}"
    return Event(event_id, type, "u", NOW_MS - ago, things, category, value=value), items


def profile(*events: tuple[Event, tuple[int, ...]]) -> Profile:
    """The profile that events make."""
    return fold(EMPTY, events)


def close(*shares: tuple[str, float]) -> list[object]:
    """Shares as they are expected, but for rounding."""
    return [(value, pytest.approx(share)) for value, share in shares]


def test_shares_go_by_how_much_an_event_says() -> None:
    """A purchase is worth five views; what says nothing of an item says nothing here."""
    found = profile(
        event("purchase", 0),
        event("view", 1),
        event("add_to_cart", 2),
        event("return", 4),
        event("dismiss", 5),
        event("remove_from_cart", 3),
        event("purchase", 9),
        event("return", 9, ago=-1),
    )
    assert affinities(found, ROWS, SNAPSHOT, "category") == close(
        ("Group-0", 1.0 / 1.7), ("Group-2", 0.5 / 1.7), ("Group-1", 0.2 / 1.7)
    )
    assert affinities(found, ROWS, SNAPSHOT, "brand") == close(("Aurora", 1.5 / 1.7), ("Borealis", 0.2 / 1.7))


def test_a_low_rating_speaks_against() -> None:
    """It takes away from what speaks for its category; where nothing is left there is no interest."""
    found = profile(
        event("add_to_cart", 0), event("view", 1), event("rating", 6, value=1.5), event("rating", 7, value=0)
    )
    assert affinities(found, ROWS, SNAPSHOT, "category") == [("Group-0", 1.0)]
    half = profile(event("add_to_cart", 0), event("view", 2), event("rating", 6, value=1.5))
    assert affinities(half, ROWS, SNAPSHOT, "category") == close(("Group-0", 0.25 / 0.45), ("Group-2", 0.2 / 0.45))


def test_prices_are_those_of_what_is_liked_by_how_much() -> None:
    """Quartiles of the interest, not of the items; what has no price and what speaks against says nothing."""
    features = np.zeros((ITEMS, len(ITEM_FEATURES)), np.float32)
    features[:4, ITEM_FEATURES.index("log_price")] = np.log1p([10.0, 20.0, 40.0, 1000.0])
    snapshot = replace(SNAPSHOT, item_features=features)
    found = profile(event("purchase", 0), event("view", 1), event("purchase", 2), event("rating", 3, value=0.0))
    known = prices(found, ROWS, snapshot)
    assert known is not None
    assert known == pytest.approx((10.0, 20.0, 40.0), rel=1e-5)
    assert prices(profile(event("purchase", 30)), ROWS, snapshot) is None
    assert prices(EMPTY, ROWS, snapshot) is None


def test_what_was_done_long_ago_is_deeper_than_the_newest_hundred_events() -> None:
    """A purchase counts however much came after it."""
    many = [event("view", 1, ago=at) for at in range(200)]
    found = profile(event("purchase", 0, ago=1000), *many)
    assert dict(affinities(found, ROWS, SNAPSHOT, "category"))["Group-0"] == pytest.approx(1.0 / 41.0, rel=1e-3)


def test_interest_fades() -> None:
    """What was done a half-life earlier counts half."""
    found = profile(event("view", 0, ago=HALF_LIFE), event("view", 1))
    assert affinities(found, ROWS, SNAPSHOT, "category") == close(("Group-1", 2 / 3), ("Group-0", 1 / 3))


def test_a_category_viewed_counts_like_an_item_viewed_however_it_is_written() -> None:
    """One category with that of the items, as the release writes it; one that the release lacks, as it was said."""
    found = profile(event("view", category="group-0"), event("view", 0, ago=1), event("view", category="Gärten"))
    shares = dict(affinities(found, ROWS, SNAPSHOT, "category"))
    assert shares == {"Group-0": pytest.approx(2 / 3), "Gärten": pytest.approx(1 / 3)}
    assert affinities(found, ROWS, SNAPSHOT, "brand") == [("Aurora", 1.0)]


def test_what_the_user_asked_to_see_less_of_is_no_interest() -> None:
    """Neither a category, however written, nor an item."""
    found = profile(
        event("purchase", 0),
        event("view", 1),
        event("purchase", 2),
        event("see_less", category="GROUP-0"),
        event("see_less", 2),
    )
    assert affinities(found, ROWS, SNAPSHOT, "category") == [("Group-1", 1.0)]


@pytest.mark.parametrize(
    ("events", "snapshot"),
    [
        ((), SNAPSHOT),
        ((event("search"), event("impression", 1)), SNAPSHOT),
        ((event("purchase", ITEMS + 1),), SNAPSHOT),
        ((event("purchase", 1),), BARE),
    ],
    ids=["no event", "nothing liked", "an item that the release lacks", "a release without attributes"],
)
def test_without_anything_to_go_by_there_are_none(
    events: tuple[tuple[Event, tuple[int, ...]], ...], snapshot: Snapshot
) -> None:
    """An empty list, and no division by nothing."""
    assert affinities(profile(*events), ROWS, snapshot, "category") == []
    assert affinities(profile(*events), ROWS, snapshot, "brand") == []


def test_no_more_than_the_best_are_told_and_the_others_keep_their_part() -> None:
    """A share is one of all interest, not of what is listed."""
    found = profile(*(event("view", category=f"Category {number:02}") for number in range(MOST + 5)))
    shares = affinities(found, ROWS, SNAPSHOT, "category")
    assert [value for value, _ in shares] == [f"Category {number:02}" for number in range(MOST)]
    assert [share for _, share in shares] == pytest.approx([1 / (MOST + 5)] * MOST)


EVENTS = st.lists(
    st.builds(
        lambda number, type, items, ago, category: event(
            type,
            *(() if type == "search" else items),
            ago=ago,
            category=category if type in ("view", "see_less") else "",
            value=4.0 if type == "rating" else None,
            name=str(number),
        ),
        st.uuids(),
        st.sampled_from(EVENT_TYPES),
        st.lists(st.integers(0, ITEMS + 5), min_size=1, max_size=4, unique=True),
        st.integers(0, 20 * 365 * 86_400_000),
        st.sampled_from(["", "group-1", "GROUP-1", "Elsewhere", " "]),
    ),
    max_size=30,
    unique_by=lambda entry: entry[0].event_id,
)


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_shares_are_parts_of_one(events: list[tuple[Event, tuple[int, ...]]]) -> None:
    """Largest first, each value once, 1 in all; and only of categories of what was liked or viewed."""
    found = profile(*events)
    shares = affinities(found, ROWS, SNAPSHOT, "category")
    parts = [share for _, share in shares]
    assert parts == sorted(parts, reverse=True)
    assert all(0.0 <= part <= 1.0 for part in parts)
    if parts:
        assert sum(parts) == pytest.approx(1.0)
    told = {value.lower() for value, _ in shares}
    assert len(told) == len(shares)
    blocked = {item for one, items in events if one.type == "see_less" for item in items}
    closed = {one.category.lower() for one, _ in events if one.type == "see_less"}
    said = {
        item for one, items in events if one.type != "purchase" and liking(one.type, one.value) > 0 for item in items
    }
    kept = {item for item, one in found.bought.items() if one.kept > 0 and one.purchases}
    liked = {f"group-{item % 6}" for item in said | kept if item < ITEMS and item not in blocked}
    viewed = {one.category.lower() for one, _ in events if one.type == "view" and one.category.strip()}
    assert told == (liked | viewed) - closed


@settings(max_examples=50, deadline=None)
@given(EVENTS, st.integers(0, 5 * 365 * 86_400_000))
def test_waiting_changes_no_share(events: list[tuple[Event, tuple[int, ...]]], later: int) -> None:
    """The same events all so much earlier give the same shares: no clock has a part in them."""
    earlier = [(replace(one, time=one.time - later), items) for one, items in events]
    for now, then in zip(
        affinities(profile(*events), ROWS, SNAPSHOT, "category"),
        affinities(profile(*earlier), ROWS, SNAPSHOT, "category"),
        strict=True,
    ):
        assert now == then
