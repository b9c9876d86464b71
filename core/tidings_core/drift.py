"""Drift: how far the features that are served have moved from those that the ranker learned from.

The population stability index (PSI) of a feature compares two spreads over the same bins: the sum over the bins of
(q - p) ln(q / p), p being the share that was learned from and q the one that is served. It is 0 for equal spreads, does
not depend on the unit, and is read by rules of thumb: below 0.1 nothing has moved, above 0.25 much has.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tidings_core.features import CANDIDATE_FEATURES, ITEM_FEATURES, USER_FEATURES
from tidings_core.tables import Float32, Int64

BINS = 10
"""Equally full ones, as far as the values allow. A value that fills one alone gets a bin of its own besides."""
LEAST_SHARE = 1e-4
"""A smaller share counts as this, so that an empty bin is no infinity."""
LOUD = 0.25
"""A PSI above this says that the ranker sees something else than it learned from."""
BLOCKS = {"item": ITEM_FEATURES, "user": USER_FEATURES, "pair": CANDIDATE_FEATURES}
NAMES = tuple(f"{block}.{name}" for block, names in BLOCKS.items() for name in names)
"""All features, as their spreads are named."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How the values of one feature were spread.

    Bin i holds what is above edges[i - 1] and at most edges[i]; `shares` has one entry more than the ascending `edges`.
    """

    mean: float
    std: float
    edges: tuple[float, ...]
    shares: tuple[float, ...]


def spread_of(values: Float32) -> Spread:
    """The spread of values f32[n], one at least, all finite."""
    cuts = np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf").astype(np.float32)
    edges, times = np.unique(cuts, return_counts=True)
    alone = edges[times > 1] if len(edges) > 1 else edges
    edges = np.union1d(edges, np.nextafter(alone, np.float32(-np.inf)))
    shares = _counted(edges, values) / len(values)
    return Spread(
        float(np.mean(values, dtype=np.float64)),
        float(np.std(values, dtype=np.float64)),
        tuple(edges.tolist()),
        tuple(shares.tolist()),
    )


def spreads_of(item: Float32, user: Float32, pair: Float32) -> Mapping[str, Spread]:
    """The spreads of all features, by name, of item f32[n, F], user f32[m, U] and pair features f32[n, C]."""
    return {
        f"{block}.{name}": spread_of(values[:, at])
        for (block, names), values in zip(BLOCKS.items(), (item, user, pair), strict=True)
        for at, name in enumerate(names)
    }


def count(spread: Spread, values: Float32) -> Int64:
    """How many of values f32[n] are in each bin of a spread, i64[bins]."""
    return _counted(np.array(spread.edges, np.float32), values)


def psi(spread: Spread, counts: Int64) -> float:
    """The population stability index of counts i64[bins], which must not all be 0, against a spread."""
    served = np.maximum(counts / counts.sum(), LEAST_SHARE)
    learned = np.maximum(spread.shares, LEAST_SHARE)
    return float(((served - learned) * np.log(served / learned)).sum())


def _counted(edges: Float32, values: Float32) -> Int64:
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1).astype(np.int64)
