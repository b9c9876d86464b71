"""Exploration: propensities are what is counted, the floor holds, and without it nothing changes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.world import NOW, make_world
from tidings_core.controls import Control, Pin
from tidings_core.exploration import draw, propensities, uniform
from tidings_core.model import SERVING_CONFIGS, Exploration, Query, ServingConfig
from tidings_core.recommend import recommend

SNAPSHOT = make_world().snapshot()
FOR_YOU = SERVING_CONFIGS["for-you"]
RULES = st.builds(Exploration, st.integers(1, 30), st.floats(0.001, 0.5), st.integers(0, 5))


def exploring(rule: Exploration) -> ServingConfig:
    """The serving config for-you that explores."""
    return replace(FOR_YOU, exploration=rule)


@given(RULES, st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 30), st.integers(0, 2**64))
def test_no_chance_is_below_the_floor_and_as_many_are_drawn_as_there_are_places(
    rule: Exploration, pinned: list[bool], wanted: int, seed: int
) -> None:
    """What may be in an answer has the floor at least, and all chances add up to its size, which the draw keeps."""
    stays, count, wanted_by = np.array([pinned]), np.array([len(pinned)]), np.array([wanted])
    chances = propensities(rule, stays, count, wanted_by)
    size = min(wanted, len(pinned))
    assert chances.sum() == pytest.approx(size)
    given_any = chances > 0.0
    assert given_any[0, :size].all()
    assert (chances[given_any] >= rule.floor - 1e-9).all()
    assert np.count_nonzero(given_any[0, size:]) <= rule.items
    places = draw(chances, uniform([seed]), wanted_by)
    assert sorted(places[0].tolist()) == list(range(len(pinned)))
    assert (chances[0, places[0, :size]] > 0.0).all()
    held = np.flatnonzero(chances[0, :size] >= 1.0)
    assert places[0, held].tolist() == held.tolist()
    assert set(np.flatnonzero(stays[0, :size])) | set(range(min(rule.kept, size))) <= set(held.tolist())
    drawn = np.setdiff1d(np.arange(size), held)
    assert (np.diff(places[0, drawn]) > 0).all()


@pytest.mark.parametrize("rule", [Exploration(20, 0.02), Exploration(5, 0.3, 0), Exploration(40, 0.2, 3)])
def test_propensities_are_what_many_seeds_count(rule: Exploration) -> None:
    """Every item is in the answer as often as its propensity says, within what chance allows."""
    draws, width, wanted = 20_000, 60, 12
    stays = np.zeros((1, width), np.bool_)
    stays[0, 6] = True
    chances = propensities(rule, stays, np.array([50]), np.array([wanted]))
    places = draw(np.repeat(chances, draws, axis=0), uniform(range(draws)), np.full(draws, wanted))
    seen = np.bincount(places[:, :wanted].reshape(-1), minlength=width) / draws
    apart = np.abs(seen - chances[0])
    assert (apart <= 5.0 * np.sqrt(chances[0] * (1.0 - chances[0]) / draws) + 1e-9).all()
    assert not seen[50:].any()


def test_what_an_answer_tells_of_its_propensities_is_what_many_answers_show() -> None:
    """From the query to the answer, with the ranker and diversity before it."""
    serving, times = exploring(Exploration(10, 0.1)), 3000
    answers = recommend([Query("user-1", serving, 8, seed=seed) for seed in range(times)], SNAPSHOT, NOW)
    told: dict[int, float] = {}
    seen: dict[int, int] = {}
    for answer in answers:
        assert len(answer.items) == 8
        assert answer.items.propensities is not None
        for item, chance in zip(answer.items, answer.items.propensities.tolist(), strict=True):
            assert told.setdefault(item.row, chance) == chance
            seen[item.row] = seen.get(item.row, 0) + 1
    assert len(told) == 18
    for row, chance in told.items():
        assert abs(seen[row] / times - chance) <= 5.0 * np.sqrt(chance * (1 - chance) / times)


def test_without_a_seed_or_without_the_setting_nothing_is_drawn() -> None:
    """The answers are those of always."""
    queries = [Query(f"user-{user}", FOR_YOU, 10, seed=user) for user in range(20)]
    plain = recommend(queries, SNAPSHOT, NOW)
    assert all(answer.items.propensities is None for answer in plain)
    unseeded = [replace(query, serving=exploring(Exploration()), seed=None) for query in queries]
    assert recommend(unseeded, SNAPSHOT, NOW) == plain
    drawn = recommend([replace(query, serving=exploring(Exploration(30, 0.25))) for query in queries], SNAPSHOT, NOW)
    assert drawn != plain


def test_a_draw_depends_on_its_seed_alone() -> None:
    """Not on who else is asked for at the same time; another seed draws something else."""
    serving = exploring(Exploration(20, 0.2))
    queries = [Query(f"user-{user}", serving, 10, seed=seed) for user in range(5) for seed in (1, 2, 3)]
    together = recommend(queries, SNAPSHOT, NOW)
    assert [recommend([query], SNAPSHOT, NOW)[0] for query in queries] == together
    assert len({tuple(item.row for item in answer.items) for answer in together[:3]}) > 1


def test_a_pinned_item_stays_where_the_shop_put_it() -> None:
    """A draw gives away no place that a control holds."""
    pin = Control("pin", Pin(("item-250",), 3))
    snapshot = replace(SNAPSHOT, controls=(pin,))
    serving = exploring(Exploration(30, 0.3))
    for answer in recommend([Query("user-2", serving, 6, seed=seed) for seed in range(40)], snapshot, NOW):
        assert answer.items[2].row == SNAPSHOT.items.find("item-250")
        assert answer.items.propensities is not None
        assert answer.items.propensities[2] == 1.0


def test_there_may_be_too_few_candidates_or_places_for_a_draw() -> None:
    """One place that is kept, or no candidates after the answer: the answer is that of always."""
    plain = ServingConfig("trend", FOR_YOU.sources[2:3], rerank=False)
    serving = replace(plain, exploration=Exploration())
    for k in (1, 500):
        asked = Query("user-3", serving, k, seed=7)
        assert recommend([asked], SNAPSHOT, NOW) == recommend([replace(asked, serving=plain)], SNAPSHOT, NOW)
    empty = ServingConfig("none", (), exploration=Exploration())
    assert not recommend([Query("user-3", empty, 5, seed=1)], SNAPSHOT, NOW)[0].items
