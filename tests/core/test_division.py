"""Inverted lists: every row is in one, they repeat with the seed, and under the inner product long items are found."""

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidings_core.division import MAX_POWER, divide
from tidings_core.errors import InvalidInput
from tidings_core.index import build_index, exact_search, normalise, recall
from tidings_core.model import METRICS, Metric
from vectors import KINDS, Kind, generate


def _vectors(seed: int, count: int, spread: float, zeros: int) -> np.ndarray:
    """Random vectors f32[count, 6] whose lengths vary by `spread`, the first `zeros` of them zero."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(count, 6)) * rng.lognormal(0, spread, (count, 1))
    made[:zeros] = 0
    return made.astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 200),
    share=st.floats(0.01, 1.0),
    spread=st.sampled_from([0.0, 0.2, 1.0, 5.0]),
    zeros=st.integers(0, 200),
    metric=st.sampled_from(METRICS),
)
def test_every_row_is_in_a_list_and_representatives_are_weighted_means(
    seed: int, count: int, share: float, spread: float, zeros: int, metric: Metric
) -> None:
    """Whatever the lengths, zeros too: lists repeat, representatives are finite and as the definition says."""
    vectors = normalise(_vectors(seed, count, spread, zeros), metric)
    lists = max(1, int(share * count))
    made, again = divide(vectors, lists, metric, seed), divide(vectors, lists, metric, seed)
    assert made.of_row.shape == (count,)
    assert 0 <= made.of_row.min() <= made.of_row.max() < lists
    assert made.representatives.shape == (lists, 6)
    assert np.isfinite(made.representatives).all()
    np.testing.assert_array_equal(made.of_row, again.of_row)
    np.testing.assert_array_equal(made.representatives, again.representatives)
    if metric != "inner_product":
        return
    lengths = np.linalg.norm(vectors, axis=1).astype(np.float64)
    if not lengths.any():
        return
    logs = np.log(lengths[lengths > 0])
    power = min(MAX_POWER, 2.0 / max(logs.std(), 1e-9))
    for number in range(lists):
        rows = made.of_row == number
        weights = (lengths[rows] / lengths.max()) ** power
        if weights.sum() > 0:
            mean = (vectors[rows] * weights[:, None]).sum(axis=0) / weights.sum()
            np.testing.assert_allclose(made.representatives[number], mean, rtol=1e-3, atol=1e-4 * lengths.max())


def test_items_of_one_length_weigh_the_same() -> None:
    """Where no item is longer than others, what a query is compared with is the plain mean."""
    vectors = normalise(_vectors(3, 400, 0.5, 0), "cosine")
    made = divide(vectors, 8, "inner_product", 0)
    for number in range(8):
        np.testing.assert_allclose(made.representatives[number], vectors[made.of_row == number].mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_under_the_inner_product_a_list_is_found_by_its_long_items(kind: Kind) -> None:
    """Reading no more items, more of the nearest are found than with the lists FAISS makes by itself."""
    made = generate(kind, 8000, 32, 200)
    true = exact_search(made.items, made.users, 50, "inner_product")[0]
    ours = build_index("IVF128,Flat", made.items, "inner_product", {"nprobe": 8})
    counter = faiss.cvar.indexIVF_stats
    counter.reset()
    reached = recall(ours.search(made.users, 50)[0], true)
    read = counter.ndis
    plain = faiss.index_factory(32, "IVF128,Flat", faiss.METRIC_INNER_PRODUCT)
    plain.train(made.items)
    plain.add(made.items)
    for plain.nprobe in range(1, 129):
        counter.reset()
        found = plain.search(made.users, 50)[1]
        if counter.ndis >= read:
            break
    assert reached > recall(found, true) + 0.02


def test_how_far_it_is_told() -> None:
    """Every block of rows is told, the last as done."""
    told: list[tuple[int, int]] = []
    divide(_vectors(0, 70_000, 0.1, 0), 4, "l2", 0, lambda done, total: told.append((done, total)))
    assert told == [(65_536, 70_000), (70_000, 70_000)]


def test_more_lists_than_vectors_are_refused() -> None:
    """FAISS would end in an error of its own."""
    with pytest.raises(InvalidInput, match="more lists than there are vectors, 3"):
        build_index("IVF4,SQ8", _vectors(0, 3, 0.1, 0), "l2", {})
