"""Item-to-item neighbours: which items the same users like, by significance rather than by count."""

from typing import TYPE_CHECKING

import numpy as np
from implicit.nearest_neighbours import ItemItemRecommender, bm25_weight

from tidings_core.model import Neighbours

if TYPE_CHECKING:
    import scipy.sparse

NEIGHBOURS = 50
K1, B = 1.2, 0.75
"""The usual parameters of BM25 (Robertson and Zaragoza, 2009): K1 bounds what repeats add, B what long lists add."""


def find_neighbours(matrix: "scipy.sparse.csr_matrix", limit: int = NEIGHBOURS, threads: int = 1) -> Neighbours:
    """At most `limit` neighbours per item of liking f32[U, I]: the inner product of the items' BM25-weighted users.

    BM25 discounts an item that everybody bought and a user who bought everything: sharing either says little.
    """
    model = ItemItemRecommender(K=limit + 1, num_threads=threads)
    # Not implicit's BM25Recommender: it warns about the layout of its own matrix.
    model.fit(bm25_weight(matrix.T, K1, B).T.tocsr(), show_progress=False)
    near = model.similarity.tocoo()
    others = (near.row != near.col) & (near.data > 0)
    items, rows, scores = near.row[others], near.col[others], near.data[others]
    order = np.lexsort((rows, -scores, items))
    items, rows, scores = items[order], rows[order], scores[order]
    counts = np.bincount(items, minlength=matrix.shape[1])
    place = np.arange(len(items)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = place < limit
    width = min(limit, int(counts.max(initial=0)))
    out = Neighbours(np.full((len(counts), width), -1, np.int32), np.zeros((len(counts), width), np.float32))
    out.rows[items[kept], place[kept]] = rows[kept]
    out.scores[items[kept], place[kept]] = scores[kept]
    return out
