"""Features against plain Python, one user and one pair at a time."""

import dataclasses
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.world import NOW, make_world
from tidings_core.features import (
    CANDIDATE_FEATURES,
    DAY,
    HISTORY_LIMIT,
    ITEM_FEATURES,
    RECENCY_LIMIT_DAYS,
    USER_FEATURES,
    ItemStatistics,
    attribute_columns_fault,
    attribute_features,
    candidate_features,
    history_block,
    item_features,
    user_features,
)
from tidings_core.model import EMPTY_HISTORY, History

WORLD = make_world()
SNAPSHOT = WORLD.snapshot()
SOURCES = ("ann", "similar", "trending")


def make_history(rows: list[int]) -> History:
    """Bought one after another, ten days apart, the newest yesterday; item r bought r % 3 + 1 times."""
    times = [NOW - DAY * (1 + 10 * age) for age in range(len(rows))]
    return History(
        np.array(rows, np.int32), np.array(times, np.int64), np.array([row % 3 + 1 for row in rows], np.float32)
    )


histories = st.lists(st.lists(st.integers(0, 299), unique=True, max_size=12), min_size=1, max_size=4)


@given(histories)
def test_user_features_are_what_their_names_say(rows_of_users: list[list[int]]) -> None:
    """Each feature of each user equals a plain calculation; a user without history has zeros only."""
    found = user_features(history_block([make_history(rows) for rows in rows_of_users], NOW), SNAPSHOT)
    for at, rows in enumerate(rows_of_users):
        user = dict(zip(USER_FEATURES, found[at].tolist(), strict=True))
        if not rows:
            assert set(user.values()) == {0.0}
            continue
        prices = [math.log1p(WORLD.prices[row]) for row in rows]
        groups = Counter(int(WORLD.group_of_item[row]) for row in rows)
        mean = sum(prices) / len(prices)
        wanted = {
            "log_items": math.log1p(len(rows)),
            "log_purchases": math.log1p(sum(row % 3 + 1 for row in rows)),
            "log_days_since_last": math.log1p(1.0),
            "mean_log_purchases": float(SNAPSHOT.item_features[rows, ITEM_FEATURES.index("log_purchases")].mean()),
            "mean_log_price": mean,
            "spread_log_price": math.sqrt(sum((price - mean) ** 2 for price in prices) / len(prices)),
            "category_spread": 1 - max(groups.values()) / len(rows),
        }
        assert user == pytest.approx(wanted, rel=1e-4, abs=1e-5)


@given(histories, st.lists(st.integers(0, 299), min_size=1, max_size=6, unique=True))
def test_candidate_features_are_what_their_names_say(rows_of_users: list[list[int]], candidates: list[int]) -> None:
    """Each feature of each pair equals a plain calculation."""
    block = history_block([make_history(rows) for rows in rows_of_users], NOW)
    shape = (len(rows_of_users), len(candidates))
    rng = np.random.default_rng(0)
    present = rng.random((*shape, 3)) < 0.5
    scores = np.where(present, rng.random((*shape, 3)), 0.0).astype(np.float32)
    vector_scores = rng.random(shape).astype(np.float32)
    rows = np.broadcast_to(np.array(candidates, np.int32), shape)
    found = candidate_features(block, rows, vector_scores, present, scores, SOURCES, SNAPSHOT)
    for at, history in enumerate(rows_of_users):
        for place, item in enumerate(candidates):
            pair = dict(zip(CANDIDATE_FEATURES, found[at, place].tolist(), strict=True))
            same = sum(WORLD.group_of_item[row] == WORLD.group_of_item[item] for row in history)
            mean = sum(math.log1p(WORLD.prices[row]) for row in history) / max(len(history), 1)
            bought = item in history
            wanted = {
                "vector_score": vector_scores[at, place],
                "similar_score": scores[at, place, 1],
                "trending_score": scores[at, place, 2],
                "from_ann": float(present[at, place, 0]),
                "from_similar": float(present[at, place, 1]),
                "from_trending": float(present[at, place, 2]),
                "category_affinity": same / max(len(history), 1),
                "brand_affinity": 0.0,
                "price_distance": abs(math.log1p(WORLD.prices[item]) - mean) if history else 0.0,
                "log_times_bought": math.log1p(item % 3 + 1) if bought else 0.0,
                "log_days_since_bought": math.log1p(1 + 10 * history.index(item)) if bought else 0.0,
            }
            assert pair == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_items_without_a_price_say_nothing_of_a_users_price_level() -> None:
    """The mean is over priced items; without one, or for a candidate without a price, the distance is 0."""
    features = SNAPSHOT.item_features.copy()
    features[[3, 5], ITEM_FEATURES.index("log_price")] = 0.0
    snapshot = dataclasses.replace(SNAPSHOT, item_features=features)
    block = history_block([make_history([3, 4]), make_history([3])], NOW)
    mean = user_features(block, snapshot)[:, USER_FEATURES.index("mean_log_price")]
    assert mean.tolist() == pytest.approx([math.log1p(WORLD.prices[4]), 0.0], rel=1e-4)
    rows = np.array([[5, 6], [5, 6]], np.int32)
    nothing = np.zeros((2, 2, 0), np.float32)
    pairs = candidate_features(block, rows, np.zeros((2, 2), np.float32), nothing > 0, nothing, (), snapshot)
    distance = pairs[:, :, CANDIDATE_FEATURES.index("price_distance")]
    assert distance[0, 1] == pytest.approx(abs(math.log1p(WORLD.prices[6]) - mean[0]), rel=1e-4)
    assert distance[0, 0] == distance[1, 0] == distance[1, 1] == 0.0


def test_features_do_not_depend_on_who_else_is_in_the_batch() -> None:
    """Padding to a longer neighbour changes nothing: offline batches and single requests agree."""
    short, long = make_history([3, 5]), make_history(list(range(40)))
    alone = user_features(history_block([short], NOW), SNAPSHOT)
    together = user_features(history_block([short, long, EMPTY_HISTORY], NOW), SNAPSHOT)
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-6)


def test_a_long_history_is_cut_to_its_newest_but_counted_whole() -> None:
    """Only the newest entries are looked at; the totals are of everything."""
    block = history_block([make_history(list(range(HISTORY_LIMIT + 20)))], NOW)
    assert block.rows.shape == (1, HISTORY_LIMIT)
    assert block.rows[0].tolist() == list(range(HISTORY_LIMIT))
    assert block.total_items[0] == HISTORY_LIMIT + 20


def test_days_are_bounded_and_never_negative() -> None:
    """A purchase long ago, or by a clock that was ahead, gives no feature outside its range."""
    history = History(
        np.array([1, 2], np.int32),
        np.array([NOW + 100 * DAY, NOW - 9000 * DAY], np.int64),
        np.ones(2, np.float32),
    )
    assert history_block([history], NOW).days[0].tolist() == [0.0, RECENCY_LIMIT_DAYS]


def test_item_features_are_finite_whatever_is_missing() -> None:
    """No price, no category, no statistics: zeros, never NaN."""
    nothing = item_features(ItemStatistics.unknown(3), np.full(3, np.nan, np.float32), np.full(3, -1, np.int32))
    assert np.isfinite(nothing).all()
    assert (nothing == 0).all()


def test_the_price_rank_is_the_place_within_the_category() -> None:
    """Cheapest 0, dearest 1, in between by place; items without price stay at 0."""
    prices = np.array([5, 1, 9, 2, np.nan, 4], np.float32)
    categories = np.array([0, 0, 0, 1, 1, 1], np.int32)
    block = item_features(ItemStatistics.unknown(6), prices, categories)
    assert block[:, ITEM_FEATURES.index("price_rank")].tolist() == [0.5, 0.0, 1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, [0, 0, 0, 0]),
        ({"age": 25.0, "member": True, "gender": "female", "interests": ("tea", "tech")}, [25, 1, 1, 1]),
        ({"age": "old", "member": False, "gender": "male", "interests": ("tea",)}, [0, 0, 0, 0]),
        ({"age": float("inf"), "gender": ("female",), "interests": "tech"}, [0, 0, 1, 1]),
    ],
)
def test_what_is_stated_of_a_user_is_columns_of_a_ranker(stated: dict[str, Any], expected: list[float]) -> None:
    """Numbers and flags as they are, a text as whether it is that; what is not there, or of another kind, is 0."""
    names = ("age", "member", "gender=female", "interests=tech")
    assert attribute_columns_fault(names) == ""
    assert attribute_features(names, stated).tolist() == expected
