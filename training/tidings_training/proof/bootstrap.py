"""How sure a difference is: the paired bootstrap."""

import numpy as np

from tidings_core.tables import Float64, Int32

RESAMPLES = 1000
CONFIDENCE = 0.95


def bootstrap(
    gains: Float64, people: Int32, seed: int, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> tuple[Float64, Float64]:
    """Percentile interval of the column means of gains f64[C, M], low and high f64[M], by drawing people i32[C].

    People are drawn with replacement, each with all their questions, since those are no independent witnesses; paired,
    since a gain is one row (Efron and Tibshirani, 1993, chapter 13). Deterministic given the seed.
    """
    _, who = np.unique(people, return_inverse=True)
    count = int(who.max()) + 1
    sizes = np.bincount(who, minlength=count).astype(np.float64)
    sums = np.stack([np.bincount(who, column, minlength=count) for column in gains.T], axis=1)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, gains.shape[1]))
    for row in means:
        times = np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64)
        row[:] = times @ sums / (times @ sizes)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail], axis=0)
    return low, high
