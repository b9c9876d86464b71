"""Drift: equal spreads are none, moved ones are loud, and nothing depends on the unit or on what values there are."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tidings_core.drift import BINS, LEAST_SHARE, LOUD, NAMES, count, psi, spread_of, spreads_of
from tidings_core.features import CANDIDATE_FEATURES, ITEM_FEATURES, USER_FEATURES

RNG = np.random.default_rng(7)
NORMAL = RNG.normal(3.0, 2.0, 20_000).astype(np.float32)
values = arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e6, 1e6, width=32).map(lambda x: round(x, 1)))


@given(values)
def test_what_a_spread_was_made_of_has_not_moved(found: np.ndarray) -> None:
    """Its bins hold all values once, its shares are theirs, and its index is 0."""
    spread = spread_of(found)
    counts = count(spread, found)
    assert counts.sum() == len(found)
    assert list(spread.edges) == sorted(set(spread.edges))
    np.testing.assert_allclose(counts / len(found), spread.shares)
    assert psi(spread, counts) == pytest.approx(0.0, abs=1e-9)


def test_bins_are_about_equally_full() -> None:
    """Where values are spread without lumps."""
    assert spread_of(NORMAL).shares == pytest.approx([1 / BINS] * BINS, abs=0.001)
    assert (spread_of(NORMAL).mean, spread_of(NORMAL).std) == pytest.approx((NORMAL.mean(), NORMAL.std()), rel=1e-4)


def test_a_sample_of_the_same_is_quiet_and_what_moved_is_loud() -> None:
    """By the rules of thumb: a thousand values of the same, then moved by a standard deviation, then half as wide."""
    spread = spread_of(NORMAL)
    assert psi(spread, count(spread, RNG.normal(3.0, 2.0, 1000).astype(np.float32))) < 0.05
    assert psi(spread, count(spread, RNG.normal(5.0, 2.0, 1000).astype(np.float32))) > LOUD
    assert psi(spread, count(spread, RNG.normal(3.0, 1.0, 1000).astype(np.float32))) > LOUD


def test_a_lump_at_nothing_is_told_from_what_is_near_it() -> None:
    """Many features are 0 where nothing is known: that they come to be known, or cease to be, is seen."""
    known = RNG.random(1000).astype(np.float32) + 0.001
    learned = np.where(np.arange(1000) % 2 == 0, np.float32(0.0), known)
    spread = spread_of(learned)
    assert psi(spread, count(spread, known)) > LOUD
    assert psi(spread, count(spread, np.zeros(1000, np.float32))) > LOUD
    assert psi(spread, count(spread, -known)) > LOUD


@pytest.mark.parametrize("other", [-1.0, 1.0])
def test_a_feature_that_never_varied_is_loud_when_it_does(other: float) -> None:
    """In either direction; as it was it is quiet."""
    spread = spread_of(np.zeros(50, np.float32))
    assert psi(spread, count(spread, np.zeros(9, np.float32))) == 0.0
    assert psi(spread, count(spread, np.full(9, other, np.float32))) > LOUD


@given(values, values)
def test_the_index_is_the_sum_it_is_said_to_be(learned: np.ndarray, served: np.ndarray) -> None:
    """Against the formula written out; never below 0, never infinite."""
    spread = spread_of(learned)
    counts = count(spread, served)
    expected = 0.0
    edges = [-np.inf, *spread.edges, np.inf]
    for at, (low, high) in enumerate(pairwise(edges)):
        q = max(sum(low < value <= high for value in served.tolist()) / len(served), LEAST_SHARE)
        p = max(spread.shares[at], LEAST_SHARE)
        expected += (q - p) * np.log(q / p)
    assert psi(spread, counts) == pytest.approx(expected)
    assert 0.0 <= psi(spread, counts) < 100.0


def test_every_feature_has_a_spread_of_its_own() -> None:
    """Also those that are called the same in two blocks."""
    item, user = np.zeros((3, len(ITEM_FEATURES)), np.float32), np.ones((1, len(USER_FEATURES)), np.float32)
    found = spreads_of(item, user, np.full((3, len(CANDIDATE_FEATURES)), 2.0, np.float32))
    assert tuple(found) == NAMES
    assert (found["item.log_purchases"].mean, found["user.log_purchases"].mean) == (0.0, 1.0)
