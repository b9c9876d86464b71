"""Metrics of ranked lists, on arrays: every item is ranked, none is sampled."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse

from tidings_core.tables import Bool, Float64, Int32

METRICS = ("recall", "precision", "hit_rate", "ndcg", "mrr")
"""What is measured of each question, the larger the better."""


def hits(lists: Int32, wanted: "scipy.sparse.csr_matrix") -> Bool:
    """Which places of lists i32[C, K] (item rows, -1 in the padding) hold a wanted item: bool[C, K].

    `wanted` f32[C, I] is above 0 for what is wanted.
    """
    count = wanted.shape[1]
    coo = wanted.tocoo()
    keys = coo.row.astype(np.int64)[coo.data > 0] * count + coo.col[coo.data > 0]
    asked = np.arange(len(lists))[:, None] * count + lists
    return np.asarray(np.isin(asked, keys) & (lists >= 0), np.bool_)


def measure(found: Bool, wanted: Float64, k: int) -> Float64:
    """METRICS f64[C, 5] of the first k places, from hits bool[C, K] and how many items are wanted, f64[C], above 0.

    Recall is the share of what is wanted that is found, precision the share of k places that are hits, hit rate whether
    there is one, MRR one over the place of the first. NDCG discounts a hit at place p (from 0) by 1 / log2(p + 2) and
    divides by what the best possible list would reach (Järvelin and Kekäläinen, 2002).
    """
    found = found[:, :k]
    places = np.arange(found.shape[1])
    discount = 1.0 / np.log2(places + 2.0)
    best = np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))
    count = found.sum(axis=1).astype(np.float64)
    first = np.where(found.any(axis=1), 1.0 / (found.argmax(axis=1) + 1.0), 0.0)
    ideal = best[np.minimum(wanted, k).astype(np.int64) - 1]
    return np.stack(
        [count / wanted, count / k, (count > 0).astype(np.float64), found @ discount / ideal, first], axis=1
    )


def coverage(lists: Int32, known: Bool) -> float:
    """Share of the known items, bool[I], that stand in any of lists i32[C, k]."""
    shown = np.unique(lists[lists >= 0])
    return float(known[shown].sum() / max(known.sum(), 1))


def novelty(lists: Int32, buyers: Float64, users: int) -> float:
    """Mean of -log2(share of `users` who had the item before) over all places; buyers f64[I] is how many had it.

    Self-information (Zhou et al., PNAS 2010). An item nobody had counts as if one had.
    """
    shown = lists[lists >= 0]
    if not len(shown):
        return 0.0
    return float(-np.log2(np.maximum(buyers[shown], 1.0) / max(users, 1)).mean())


def diversity(lists: Int32, matrix: "scipy.sparse.csr_matrix") -> float:
    """Mean over lists of 1 - the mean cosine of two different items' users, as `matrix` f32[U, I] has them.

    Intra-list distance (Ziegler et al., WWW 2005). Lists of fewer than two items are left out; 0 without any.
    """
    columns = matrix.tocsc(copy=True).astype(np.float64)
    columns.data[:] = 1.0
    lengths = np.sqrt(np.diff(columns.indptr))
    columns.data /= np.repeat(lengths, np.diff(columns.indptr))
    there = lists >= 0
    rows = np.broadcast_to(np.arange(len(lists))[:, None], lists.shape)[there]
    picked = scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, lists[there])), shape=(len(lists), matrix.shape[1]))
    # Over unit vectors the sum of all products is the squared length of their sum.
    total = picked @ columns.T
    squared = np.asarray(total.multiply(total).sum(axis=1)).ravel()
    own = np.asarray(picked @ (lengths > 0).astype(np.float64))
    count = there.sum(axis=1).astype(np.float64)
    several = count > 1
    if not several.any():
        return 0.0
    alike = (squared - own)[several] / (count * (count - 1.0))[several]
    return float((1.0 - alike).mean())


def means(values: Float64, names: Sequence[str] = METRICS) -> dict[str, float]:
    """Column means of f64[C, M] by name."""
    return dict(zip(names, values.mean(axis=0).tolist(), strict=True))
