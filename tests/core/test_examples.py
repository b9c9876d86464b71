"""The vector that examples make."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tidings_core.examples import example_vector
from tidings_core.model import METRICS, Metric

NONE = np.empty((0, 3), np.float32)


def vectors(*rows: list[float]) -> NDArray[np.float32]:
    """Vectors by row."""
    return np.array(rows, np.float32)


number = st.floats(-100, 100, width=32)
some = st.lists(st.lists(number, min_size=3, max_size=3), min_size=1, max_size=5).map(
    lambda rows: np.array(rows, np.float32)
)


@given(some, st.one_of(st.just(NONE), some), st.sampled_from(["inner_product", "cosine"]), st.floats(0.1, 50))
def test_it_is_as_long_as_user_vectors_are_and_finite(
    liked: NDArray[np.float32], disliked: NDArray[np.float32], metric: Metric, length: float
) -> None:
    """A ranker sees scores of the size it learned from, whatever the examples; or there is no vector at all."""
    found = example_vector(liked, disliked, metric, length)
    if found is not None:
        assert np.linalg.norm(found) == pytest.approx(1.0 if metric == "cosine" else length, rel=1e-4)


@given(some, some, st.sampled_from(METRICS))
def test_examples_count_in_any_order(liked: NDArray[np.float32], disliked: NDArray[np.float32], metric: Metric) -> None:
    """What is given as two sets is two sets."""
    one, other = example_vector(liked, disliked, metric, 1.0), example_vector(liked[::-1], disliked[::-1], metric, 1.0)
    if one is None or other is None:
        return
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_it_is_the_mean_pushed_away_from_what_is_disliked() -> None:
    """By hand: places for L2, directions for the others."""
    liked, disliked = vectors([2.0, 0.0, 0.0], [0.0, 2.0, 0.0]), vectors([0.0, 4.0, 0.0])
    half = float(np.sqrt(0.5))
    away = np.array([2 * half, 2 * half - 1.0, 0.0])
    for bad, metric, expected in (
        (NONE, "l2", [1.0, 1.0, 0.0]),
        (disliked, "l2", [2.0, -2.0, 0.0]),
        (NONE, "inner_product", [10 * half, 10 * half, 0.0]),
        (disliked, "cosine", (away / np.linalg.norm(away)).tolist()),
    ):
        found: Any = example_vector(liked, bad, metric, 10.0)  # type: ignore[arg-type]
        assert found.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_liked_makes_no_vector(metric: Metric) -> None:
    """What is disliked alone says where not to look, not where."""
    assert example_vector(NONE, vectors([1.0, 0.0, 0.0]), metric, 1.0) is None


def test_what_cancels_out_makes_no_vector() -> None:
    """Opposite tastes have no direction in common."""
    opposite: Any = vectors([1.0, 0.0, 0.0], [-1.0, 0.0, 0.0])
    assert example_vector(opposite, NONE, "inner_product", 1.0) is None
