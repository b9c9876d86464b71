"""The vector of a user from what they like."""

from dataclasses import replace

import numpy as np
import pytest

from tests.support.world import make_world
from tidings_core.fold_in import HALF_LIFE_DAYS, folded, likings
from tidings_core.model import FoldIn, Metric
from tidings_core.tables import Float32, Float64, Int32

DAY = 86_400.0
WORLD = make_world()
SNAPSHOT = WORLD.snapshot()


def some(count: int = 30, seed: int = 0) -> tuple[Int32, Float64, Float32]:
    """Things done to a few items, some twice."""
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, 20, count).astype(np.int32),
        rng.uniform(0, 300 * DAY, count),
        rng.choice([0.2, 0.5, 1.0], count).astype(np.float32),
    )


def test_liking_is_the_log_of_weights_that_halve_in_sixty_days() -> None:
    """Item by item, against the formula written out; only the distance to the newest counts, not the date."""
    rows, times, weights = some()
    items, liking = likings(rows, times, weights)
    for item, found in zip(items.tolist(), liking.tolist(), strict=True):
        aged = [
            weight * 0.5 ** ((times.max() - time) / DAY / HALF_LIFE_DAYS)
            for row, time, weight in zip(rows.tolist(), times.tolist(), weights.tolist(), strict=True)
            if row == item
        ]
        assert found == pytest.approx(np.log1p(sum(aged)), rel=1e-6)
    later = likings(rows, times + 1e9, weights)
    np.testing.assert_array_equal(later[0], items)
    np.testing.assert_allclose(later[1], liking, rtol=1e-9)


def test_the_vector_is_the_best_one_for_the_als_loss() -> None:
    """No small step away from it lowers the loss over all items that alternating least squares minimises."""
    items, liking = likings(*some())
    assert SNAPSHOT.fold_in is not None
    alpha, regularization = SNAPSHOT.fold_in.alpha, SNAPSHOT.fold_in.regularization
    vectors = SNAPSHOT.item_vectors.astype(np.float64)
    confidence = np.ones(len(vectors))
    confidence[items] = alpha * liking
    preferred = np.zeros(len(vectors))
    preferred[items] = 1.0

    def loss(vector: Float64) -> float:
        return float((confidence * (preferred - vectors @ vector) ** 2).sum() + regularization * vector @ vector)

    found = folded(items, liking, SNAPSHOT)
    assert found is not None
    assert found.dtype == np.float32
    rng = np.random.default_rng(1)
    for _ in range(50):
        assert loss(found.astype(np.float64)) < loss(found + rng.normal(0, 0.01, len(found)))


def test_more_regularization_makes_a_shorter_vector() -> None:
    """The constants of the release are used."""
    items, liking = likings(*some())
    assert SNAPSHOT.fold_in is not None
    lengths = []
    for regularization in (0.1, 1.0, 100.0):
        constants = FoldIn(SNAPSHOT.fold_in.gram, 4.0, regularization)
        vector = folded(items, liking, replace(SNAPSHOT, fold_in=constants))
        assert vector is not None
        lengths.append(float(np.linalg.norm(vector)))
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(("metric", "length"), [("inner_product", 2.5), ("cosine", 1.0), ("l2", None)])
def test_without_the_constants_it_is_the_mean_of_what_is_liked(metric: Metric, length: float | None) -> None:
    """As long as the release's user vectors for the inner product, of unit length for the cosine, as it is for l2."""
    snapshot = replace(make_world(metric=metric).snapshot(), fold_in=None, user_norm=2.5)
    rows, liking = np.array([3, 9], np.int32), np.array([1.0, 3.0])
    mean = (snapshot.item_vectors[3] + 3.0 * snapshot.item_vectors[9]) / 4.0
    expected = mean if length is None else mean / np.linalg.norm(mean) * length
    found = folded(rows, liking, snapshot)
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_nothing_liked_gives_no_vector() -> None:
    """Nothing is made up."""
    nothing = likings(np.empty(0, np.int32), np.empty(0), np.empty(0, np.float32))
    assert folded(*nothing, SNAPSHOT) is None


def test_opposite_vectors_that_cancel_out_give_no_nonsense() -> None:
    """A mean of length zero stays zero."""
    vectors = SNAPSHOT.item_vectors.copy()
    vectors[1] = -vectors[0]
    snapshot = replace(SNAPSHOT, fold_in=None, item_vectors=vectors)
    found = folded(np.array([0, 1], np.int32), np.array([1.0, 1.0]), snapshot)
    assert found is not None
    assert not found.any()
