"""An index with what a delta adds: found as surely as what was always there, against brute force over all of it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tidings_core.index import FaissIndex, build_index, exact_search, normalise, recall
from tidings_core.model import METRICS, Metric
from tidings_core.patched import PatchedIndex

ITEMS, NEW, DIM, K = 2000, 200, 16, 20
KEYS = ("IVF16,Flat", "IVF16,SQfp16", "IVF16,SQ8", "Flat", "HNSW32")


def vectors(count: int, seed: int, metric: Metric) -> NDArray[np.float32]:
    """Vectors f32[count, DIM] in 16 groups, the same for every seed."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(16, DIM))
    return normalise(
        (centres[rng.integers(0, 16, count)] + rng.normal(0, 0.3, (count, DIM))).astype(np.float32), metric
    )


def patched(
    index: FaissIndex, known: NDArray[np.float32], new: NDArray[np.float32], metric: Metric
) -> tuple[PatchedIndex, NDArray[np.int32], NDArray[np.float32]]:
    """The index with half of the new vectors in place of those of its first rows and half in new rows, and some gone.

    With the rows that count and their vectors.
    """
    again = np.arange(0, len(new) // 2 * 3, 3, dtype=np.int32)
    rows = np.concatenate([again, ITEMS + np.arange(len(new) - len(again), dtype=np.int32)])
    gone = np.union1d(again, np.arange(1, ITEMS, 50)).astype(np.int32)
    kept = np.setdiff1d(np.arange(ITEMS), gone).astype(np.int32)
    made = PatchedIndex(index, metric, known, ITEMS + len(new) - len(again), gone, rows, new, index.places(new))
    return made, np.concatenate([kept, rows]), np.concatenate([known[kept], new])


def check(
    made: PatchedIndex,
    rows: NDArray[np.int32],
    there: NDArray[np.float32],
    queries: NDArray[np.float32],
    metric: Metric,
    least: float,
) -> None:
    """What is found is what brute force finds, best first, each item once, with right scores."""
    true, best = exact_search(there, queries, K, metric)
    for one in (queries, queries[:1]):
        found, scores = made.search(one, K)
        assert np.isin(found, rows).all()
        assert all(len(set(of_query)) == K for of_query in found.tolist())
        assert (np.diff(scores, axis=1) <= 1e-5).all()
        assert recall(found, rows[true[: len(one)]].astype(np.int64)) >= least
        np.testing.assert_allclose(scores, best[: len(one)], rtol=0.03, atol=0.03)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("key", KEYS)
def test_what_a_delta_adds_is_found_as_by_brute_force(metric: Metric, key: str) -> None:
    """Whatever the index: new vectors in its lists or beside it, none of those they replace, nothing that is gone."""
    known = vectors(ITEMS, 0, metric)
    index = build_index(key, known, metric, {"nprobe": 16, "efSearch": 256})
    check(
        *patched(index, known, vectors(NEW, 1, metric), metric),
        vectors(12, 2, metric),
        metric,
        0.93 if "SQ8" in key else 0.97,
    )


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_like_no_list_is_found_however_few_are_searched(metric: Metric) -> None:
    """New items of a kind that the release knows nothing of are looked at by every search."""
    known = vectors(ITEMS, 0, metric)
    index = build_index("IVF16,SQfp16", known, metric, {"nprobe": 1})
    strange = normalise(np.random.default_rng(3).normal(0, 1.0, (NEW, DIM)).astype(np.float32), metric)
    lists = index.places(strange)
    assert (lists == 16).sum() > 10
    made, rows, there = patched(index, known, strange, metric)
    alone = np.flatnonzero(lists == 16)
    wanted = rows[-NEW:][alone]
    found, _ = made.search(strange[alone], K)
    true = rows[exact_search(there, strange[alone], 1, metric)[0][:, 0]]
    itself = true == wanted
    assert itself.any()
    assert (found[itself, 0] == wanted[itself]).all()


@pytest.mark.parametrize("key", ["IVF16,SQ8", "IVF16,SQfp16"])
def test_a_vector_that_the_codes_of_the_index_cannot_hold_is_found_by_itself(key: str) -> None:
    """Many times longer than all that the index was made for: its exact score counts."""
    metric: Metric = "inner_product"
    known = vectors(ITEMS, 0, metric)
    index = build_index(key, known, metric, {"nprobe": 4})
    long = vectors(4, 1, metric) * np.float32(1e5)
    assert (index.places(long) == -1).all()
    made, _, _ = patched(index, known, long, metric)
    found, scores = made.search(long, K)
    assert found[:, 0].min() >= 0
    np.testing.assert_allclose(scores[:, 0], (long @ long.T).max(axis=1), rtol=1e-5)


def test_where_too_little_is_left_in_the_lists_all_are_searched() -> None:
    """When nearly everything near is gone, as many as asked for still come."""
    metric: Metric = "inner_product"
    known = vectors(ITEMS, 0, metric)
    index = build_index("IVF16,SQfp16", known, metric, {"nprobe": 6})
    query = vectors(1, 2, metric)
    near = np.argsort(-(known @ query[0])).astype(np.int32)[:300]
    new = vectors(NEW, 1, metric)
    rows = ITEMS + np.arange(NEW, dtype=np.int32)
    made = PatchedIndex(index, metric, known, ITEMS + NEW, np.sort(near), rows, new, index.places(new))
    found, _ = made.search(query, 150)
    assert len(set(found[0].tolist()) - {-1}) == 150
    assert not np.isin(found, near).any()


def test_a_query_that_lacks_some_in_the_lists_changes_no_other() -> None:
    """Where nearly everything near to one query is gone, what others find is what they find alone."""
    metric: Metric = "inner_product"
    known = vectors(ITEMS, 0, metric)
    index = build_index("IVF16,SQfp16", known, metric, {"nprobe": 1})
    queries = vectors(12, 2, metric)
    near = np.argsort(-(known @ queries[0])).astype(np.int32)[:300]
    new = np.random.default_rng(3).normal(0, 2.0, (NEW, DIM)).astype(np.float32)
    rows = ITEMS + np.arange(NEW, dtype=np.int32)
    made = PatchedIndex(index, metric, known, ITEMS + NEW, np.sort(near), rows, new, index.places(new))
    found, scores = made.search(queries, K)
    for at in range(len(queries)):
        alone, said = made.search(queries[at : at + 1], K)
        np.testing.assert_array_equal(found[at], alone[0])
        np.testing.assert_array_equal(scores[at], said[0])
