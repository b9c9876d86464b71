"""Recall against exact search, so that anyone can compute the same number again.

An item found counts when its exact score, computed in float64, reaches that of the k-th best item. Items of equal score
are equally right, so duplicates in the catalogue cost an index nothing. In plain NumPy, with S f64[Q, N] the scores of
all items: `kth = np.sort(S)[:, -k]`, a hit is `S[q, row] >= kth[q] - TIE * max(abs(S[q].max()), abs(kth[q]))`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidings_core.division import Told
from tidings_core.index import exact_search
from tidings_core.model import Metric
from tidings_core.tables import Float32, Int64

TIE = 1e-6
"""Scores nearer than this share of the larger one are equal: float32 cannot tell them apart."""
_EXTRA = 32
_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Truth:
    """What exact search says for queries f32[Q, D]: the least score f64[Q] that is among the k best."""

    vectors: Float32
    queries: Float32
    metric: Metric
    k: int
    least: NDArray[np.float64]

    def recall(self, found: Int64) -> float:
        """Mean share of the k best among found rows i64[Q, k], distinct per query, padded with -1."""
        return float(self.shares(found).mean())

    def shares(self, found: Int64) -> NDArray[np.float64]:
        """The share f64[Q] of each query's k best among found rows i64[Q, k]."""
        hits = np.empty(len(found))
        for start in range(0, len(found), _AT_ONCE):
            rows = found[start : start + _AT_ONCE, : self.k]
            queries = self.queries[start : start + _AT_ONCE]
            scores = _scores(self.vectors, queries, np.maximum(rows, 0), self.metric)
            right = (scores >= self.least[start : start + _AT_ONCE, None]) & (rows >= 0)
            hits[start : start + _AT_ONCE] = right.sum(axis=1)
        return hits / self.k


def true_nearest(vectors: Float32, queries: Float32, k: int, metric: Metric, told: Told | None = None) -> Truth:
    """Search exactly for queries f32[Q, D] among vectors f32[N, D], both as `normalise` leaves them. k is cut to N.

    `told` is called with how many queries are done, and of how many.
    """
    k = min(k, len(vectors))
    least = np.empty(len(queries))
    for start in range(0, len(queries), _AT_ONCE):
        if told is not None:
            told(start, len(queries))
        part = queries[start : start + _AT_ONCE]
        # A few more than k: float32 may swap near ties around place k, float64 sets them right.
        rows, _ = exact_search(vectors, part, k + _EXTRA, metric)
        scores = np.sort(_scores(vectors, part, rows, metric), axis=1)
        best, kth = scores[:, -1], scores[:, -k]
        least[start : start + _AT_ONCE] = kth - TIE * np.maximum(np.abs(best), np.abs(kth))
    return Truth(vectors, queries, metric, k, least)


def _scores(vectors: Float32, queries: Float32, rows: Int64, metric: Metric) -> NDArray[np.float64]:
    """Exact scores f64[Q, k] of rows i64[Q, k], larger is nearer."""
    wide = queries.astype(np.float64)
    near = vectors[rows].astype(np.float64)
    if metric == "l2":
        return -((near - wide[:, None, :]) ** 2).sum(axis=2)
    return np.einsum("qkd,qd->qk", near, wide)
