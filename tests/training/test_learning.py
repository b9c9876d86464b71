import numpy as np
import pytest

from tests.training.shop import END, GROUPS, as_events, group, make_events
from tidings_core.features import DAY
from tidings_training import popularity
from tidings_training.als import factorise
from tidings_training.events import Events
from tidings_training.interactions import interactions
from tidings_training.neighbours import find_neighbours

EVENTS = make_events()
MATRIX = interactions(EVENTS, END)
NOW = 100 * DAY


def few() -> Events:
    """Ann bought x twice and y once, Bob y once, long ago, and z just now."""
    who = np.array([0, 0, 0, 1, 1])
    what = np.array([0, 1, 0, 1, 2])
    times = np.array([1.0 * DAY, 80.0 * DAY, 98.0 * DAY, 40.0 * DAY, 100.0 * DAY])
    return as_events(who, what, times)


def test_liking_halves_with_age_and_grows_as_a_logarithm() -> None:
    """Liking is log(1 + sum of weights), each halved by every half-life of its age."""
    liking = interactions(few(), NOW, half_life_days=20.0).toarray()
    assert liking[0, 1] == pytest.approx(np.log1p(0.5))
    assert liking[0, 0] == pytest.approx(np.log1p(0.5 ** (99 / 20) + 0.5 ** (2 / 20)))
    assert liking[1].tolist() == pytest.approx([0.0, np.log1p(0.125), np.log1p(1.0)])


def test_embeddings_find_the_planted_groups() -> None:
    """Of the 20 items with the largest inner product, nine in ten are of the user's group."""
    users, items = factorise(MATRIX, factors=16)
    best = np.argsort(-users @ items.T, axis=1)[:, :20]
    groups = np.array([group(name) for name in EVENTS.item_ids])
    own = np.array([group(name) for name in EVENTS.user_ids])
    assert (groups[best] == own[:, None]).mean() > 0.9


def test_embeddings_are_the_same_for_a_seed_whatever_the_threads() -> None:
    """Equal seeds give equal vectors on one thread and on two; another seed gives others."""
    one, again, two = (factorise(MATRIX, factors=8, seed=3, threads=threads) for threads in (1, 1, 2))
    for first, second, third in zip(one, again, two, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, third)
    assert not np.array_equal(one[0], factorise(MATRIX, factors=8, seed=4)[0])


def test_neighbours_are_of_the_same_group() -> None:
    """Nine in ten of the ten nearest neighbours share the item's group."""
    near = find_neighbours(MATRIX, limit=10)
    groups = np.array([group(name) for name in EVENTS.item_ids])
    assert near.rows.shape == (len(groups), 10)
    assert (groups[near.rows] == groups[:, None]).mean() > 0.9


def test_neighbours_are_others_best_first_and_padded() -> None:
    """No item neighbours itself, scores fall, and where there are too few the rest is -1 with score 0."""
    near = find_neighbours(MATRIX, limit=len(EVENTS.item_ids))
    own = np.arange(len(near.rows))[:, None]
    assert not (near.rows == own).any()
    assert (np.diff(near.scores, axis=1) <= 0).all()
    assert (near.scores[near.rows >= 0] > 0).all()
    assert (near.scores[near.rows < 0] == 0).all()
    assert (near.rows < 0).any()


def test_an_item_everybody_bought_is_not_everybodys_nearest() -> None:
    """An item that everyone bought shares the most buyers with every item, and is still the nearest of few."""
    rng = np.random.default_rng(0)
    users = np.arange(60)
    group_items = [rng.choice(10, 4, replace=False) + 10 * (user % 2) for user in users]
    who = np.concatenate([np.repeat(users, 4), users])
    what = np.concatenate([*group_items, np.full(60, 20)])
    events = as_events(who, what, np.full(len(who), END))
    bought = interactions(events, END)
    shared = ((bought > 0).T.astype(int) @ (bought > 0).astype(int)).toarray()[:20]
    shared[np.arange(20), np.arange(20)] = 0
    assert (shared.argmax(axis=1) == 20).all()
    assert (find_neighbours(bought, limit=3).rows[:20, 0] == 20).mean() < 0.5


def test_statistics_are_those_counted_by_hand() -> None:
    """Purchases by horizon, distinct buyers and age of a shop small enough to count."""
    found = popularity.item_statistics(few(), NOW)
    assert found.purchases.tolist() == [2, 2, 1]
    assert found.purchases_7d.tolist() == [1, 0, 1]
    assert found.purchases_30d.tolist() == [1, 1, 1]
    assert found.purchases_90d.tolist() == [1, 2, 1]
    assert found.buyers.tolist() == [1, 2, 1]
    assert found.age_days.tolist() == [99.0, 60.0, 0.0]


def test_trending_weighs_by_age_and_all_time_counts() -> None:
    """A purchase counts half of one a half-life newer; with no decay the order is by count, ties by row."""
    lately = popularity.trending(few(), NOW, half_life_days=20.0)
    assert lately.rows.tolist() == [2, 0, 1]
    assert lately.scores.tolist() == pytest.approx([1.0, 0.5 ** (99 / 20) + 0.5 ** (2 / 20), 0.5 + 0.125])
    ever = popularity.trending(few(), NOW, np.inf)
    assert (ever.rows.tolist(), ever.scores.tolist()) == ([0, 1, 2], [2.0, 2.0, 1.0])
    assert popularity.trending(few(), NOW, limit=1).rows.tolist() == [2]


def test_histories_are_newest_first_and_bounded() -> None:
    """A history holds each item once, newest first, with its last time and count; the oldest go when there are many."""
    found = popularity.histories(few())
    ann, bob = found[0], found[1]
    assert (ann.rows.tolist(), ann.counts.tolist()) == ([0, 1], [2.0, 1.0])
    assert ann.times.tolist() == [98 * DAY, 80 * DAY]
    assert bob.rows.tolist() == [2, 1]
    short = popularity.histories(few(), limit=1)
    assert (short.offsets.tolist(), short.rows.tolist()) == ([0, 1, 2], [0, 2])


def test_views_are_no_purchases() -> None:
    """What was only looked at is liked a little, and in no statistic, trend or history."""
    events = few()
    views = Events(
        events.user_ids,
        events.item_ids,
        events.users,
        events.items,
        events.times,
        np.full(5, 0.2, np.float32),
        np.array([True, True, True, True, False]),
    )
    assert interactions(views, NOW)[1, 2] == pytest.approx(np.log1p(0.2))
    assert popularity.item_statistics(views, NOW).purchases[2] == 0
    assert np.isnan(popularity.item_statistics(views, NOW).age_days[2])
    assert 2 not in popularity.trending(views, NOW).rows
    assert popularity.histories(views)[1].rows.tolist() == [1]


def test_there_are_as_many_groups_as_planted() -> None:
    """The generated shop has the structure the other tests rely on."""
    same = [
        group(EVENTS.user_ids[u]) == group(EVENTS.item_ids[i]) for u, i in zip(EVENTS.users, EVENTS.items, strict=True)
    ]
    assert 0.88 < np.mean(same) < 0.95
    assert len({group(name) for name in EVENTS.item_ids}) == GROUPS
