"""Searching among some of the rows: every way of doing it against brute force over exactly those rows."""

import dataclasses
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tidings_core.index import DROP_SHARE, FaissIndex, FilterPlan, build_index, exact_search, normalise, recall
from tidings_core.model import METRICS, Metric
from tidings_core.rows import Passing, RowSet

ITEMS, DIM, K = 3000, 16, 20
KEYS = {
    "Flat": {},
    "SQfp16": {},
    "IVF32,SQfp16": {"nprobe": 8},
    "IVF32,Flat": {"nprobe": 8},
    "HNSW32": {"efSearch": 64},
}


def clustered(count: int, seed: int) -> NDArray[np.float32]:
    """Vectors f32[count, DIM] in 20 groups."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(20, DIM))
    return (centres[rng.integers(0, 20, count)] + rng.normal(0, 0.4, (count, DIM))).astype(np.float32)


VECTORS = {metric: normalise(clustered(ITEMS, 0), metric) for metric in METRICS}
QUERIES = {metric: normalise(clustered(12, 1), metric) for metric in METRICS}
INDEXES = {
    (metric, key): build_index(key, VECTORS[metric], metric, parameters)
    for metric in METRICS
    for key, parameters in KEYS.items()
}
cases = st.sampled_from(list(INDEXES))
shares = st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5, DROP_SHARE, 0.97, 1.0])
seeds = st.integers(0, 10_000)
hows, limits = st.sampled_from(["random", "near", "far"]), st.sampled_from([0, 100, ITEMS])


def some_rows(share: float, seed: int, how: str, metric: Metric) -> RowSet:
    """A share of the rows: at random, the nearest to a query, or the farthest from it."""
    rng = np.random.default_rng(seed)
    along = VECTORS[metric] @ QUERIES[metric][seed % 12]
    order = {"random": rng.permutation(ITEMS), "near": np.argsort(-along), "far": np.argsort(along)}[how]
    return RowSet.of_rows(order[: round(share * ITEMS)], ITEMS)


def check(index: FaissIndex, passing: Passing, rows: RowSet, metric: Metric, least: float) -> None:
    """What a search among rows finds: only those, as many as there are, right scores, best first, and good recall."""
    queries = QUERIES[metric]
    found, scores = index.search(queries, K, passing)
    there = found >= 0
    assert there.sum(axis=1).tolist() == [min(K, rows.count)] * len(queries)
    assert rows.contains(found[there]).all()
    for of_query in found.tolist():
        assert len({*of_query} - {-1}) == min(K, rows.count)
    assert (np.diff(scores, axis=1)[there[:, 1:]] <= 1e-6).all()
    assert (scores[~there] == 0).all()
    if rows.count:
        near = rows.rows()
        true, best = exact_search(VECTORS[metric][near], queries, K, metric)
        assert recall(found, near[true].astype(np.int64)) >= least
        np.testing.assert_allclose(scores[:, 0], best[:, 0], rtol=0.02, atol=0.02)


@settings(max_examples=80, deadline=None)
@given(cases, shares, hows, seeds, st.booleans(), limits)
def test_a_search_among_rows_finds_the_nearest_of_them_whatever_the_way(
    case: tuple[Metric, str], share: float, how: str, seed: int, gather: bool, whole_up_to: int
) -> None:
    """Dropping, searching lists, copying: all find only what may be found, all of it when it is less than k."""
    metric, key = case
    index = INDEXES[case].with_plan(FilterPlan(whole_up_to))
    rows = some_rows(share, seed, how, metric)
    # A graph, and lists at their own effort, miss some when only a few are dropped; all other ways look at all rows.
    exact = rows.count < DROP_SHARE * ITEMS or not gather or key in ("Flat", "SQfp16")
    check(index, index.prepare(rows) if gather else index.alone(rows), rows, metric, 0.97 if exact else 0.8)


@settings(max_examples=60, deadline=None)
@given(cases, shares, shares, seeds, limits)
def test_what_is_left_out_leaves_the_nearest_of_the_others(
    case: tuple[Metric, str], share: float, out: float, seed: int, whole_up_to: int
) -> None:
    """What one user may not see, much of it what is nearest, with a filter or without one, and more of it on top."""
    metric, _ = case
    index = INDEXES[case].with_plan(FilterPlan(whole_up_to))
    wanted, first = some_rows(share, seed, "random", metric), some_rows(out, seed, "near", metric)
    second = some_rows(0.01, seed + 1, "near", metric).resized(ITEMS + 77)
    excluded = [index.prepare(rows, gather=False) for rows in (first, second)]
    check(index, index.without(None, excluded[0]), ~first, metric, 0.97)
    one = index.without(index.prepare(wanted), excluded[0])
    check(index, one, wanted - first, metric, 0.97)
    check(index, index.without(one, excluded[1]), wanted - first - second, metric, 0.97)


def test_a_plan_says_how_many_rows_are_enough() -> None:
    """Between what was measured the number is interpolated, beyond it stays; there are no more than all."""
    plan = FilterPlan(100, ((1000, 500), (10_000, 1000)))
    assert [plan.enough(rows) for rows in (10, 1000, 5500, 10_000, 20_000)] == [10, 500, 750, 1000, 1000]
    assert [plan.enough(rows, 3.0) for rows in (1000, 10_000)] == [1000, 3000]
    assert FilterPlan(100).enough(777) == 777


def test_lists_are_searched_only_until_enough_rows_were_seen() -> None:
    """With a plan that asks for less, a search finds less, and never a row that may not be found."""
    metric: Metric = "inner_product"
    index = INDEXES[metric, "IVF32,SQfp16"]
    rows = some_rows(0.5, 0, "random", metric)
    queries = np.random.default_rng(4).normal(size=(50, DIM)).astype(np.float32)
    near = rows.rows().astype(np.int64)
    true = near[exact_search(VECTORS[metric][near], queries, K, metric)[0]]
    reached = []
    for enough in (30, 150, 1500):
        planned = index.with_plan(FilterPlan(0, ((1500, enough),)))
        found, _ = planned.search(queries, K, planned.prepare(rows))
        assert rows.contains(found[found >= 0]).all()
        reached.append(recall(found, true))
    assert reached[0] < reached[1] < reached[2] == pytest.approx(1.0, abs=0.02)


def test_large_vectors_fit_into_a_copy() -> None:
    """Numbers that float16 cannot hold are found and ordered like any others."""
    vectors = clustered(500, 3) * np.float32(1e7)
    for metric in get_args(Metric):
        index = build_index("IVF8,Flat", vectors, metric, {"nprobe": 8}).with_plan(FilterPlan(500))
        rows = RowSet.of_rows(np.arange(0, 500, 2), 500)
        found, scores = index.search(vectors[:5], 10, index.prepare(rows))
        true, best = exact_search(vectors[::2], vectors[:5], 10, metric)
        assert recall(found, true * 2) >= 0.98
        np.testing.assert_allclose(scores, best, rtol=1e-3)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("how", ["far", "near"])
@pytest.mark.parametrize("gather", [True, False])
def test_what_passes_is_found_also_where_the_user_has_nothing_near(metric: Metric, how: str, gather: bool) -> None:
    """With a plan for filters at random, recall holds for the half that is farthest from the user, and the nearest."""
    vectors, queries = VECTORS[metric], QUERIES[metric]
    index = build_index("IVF64,SQfp16", vectors, metric, {"nprobe": 8})
    index = index.with_plan(FilterPlan(0, ((1500, 250), (3000, 400)), 1.0, 1.0, 4.0, 0.4))
    reached, naive = [], []
    for user in range(len(queries)):
        one = queries[user : user + 1]
        rows = some_rows(0.5, user, how, metric)
        passing = index.prepare(rows) if gather else index.without(None, index.prepare(~rows, gather=False))
        near = rows.rows().astype(np.int64)
        true = near[exact_search(vectors[near], one, K, metric)[0]]
        reached.append(recall(index.search(one, K, passing)[0], true))
        naive.append(recall(index.search(one, K, dataclasses.replace(passing, even=True))[0], true))
    assert np.mean(reached) >= 0.95
    if how == "far" and metric != "l2":
        assert np.mean(naive) < 0.9


@pytest.mark.parametrize("metric", METRICS)
def test_where_nothing_that_passes_is_near_all_of_it_is_compared(metric: Metric) -> None:
    """Of what lies farthest from a query the best are told apart exactly, which coarse codes could not."""
    vectors = normalise(clustered(4000, 5), metric)
    index = build_index("IVF64,SQ4", vectors, metric, {"nprobe": 8})
    index = index.with_plan(FilterPlan(0, ((100, 100), (4000, 200)), 1.0, 1.0, 2.0, 0.4))
    reached = []
    for query in normalise(clustered(12, 7), metric):
        near = exact_search(vectors, query[None], 4000, metric)[0][0].astype(np.int64)
        rows = RowSet.of_rows(near[2800:].astype(np.int32), 4000)
        found, _ = index.search(query[None], K, index.alone(rows))
        reached.append(recall(found, near[None, 2800 : 2800 + K]))
    assert np.mean(reached) >= 0.97
