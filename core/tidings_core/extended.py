"""The inverted lists of an index with more vectors in them, searched as one: what a delta adds to a release."""

from collections.abc import Callable, Sequence

import faiss
import numpy as np

from tidings_core.errors import IndexFailed
from tidings_core.lists import Lists
from tidings_core.model import Metric
from tidings_core.tables import Float32, Int32, Int64

SAMPLED, UNLIKE = 4096, 10.0
"""A vector is like the rows of a list when it points as much to what represents it as they do, of which so many are
looked at, but for so many in a hundred: those are what lists were not made for."""
COARSE = 0.05
"""A code is a vector's own when it is off by no larger share of its length."""


def likeness(lists: Lists, vectors: Float32, metric: Metric) -> float:
    """How like the lists they would be looked for in the vectors f32[N, D] of an index are, but for a few of them."""
    rows = np.linspace(0, len(vectors) - 1, min(len(vectors), SAMPLED)).astype(np.int64)
    return float(np.percentile(_nearest(np.ascontiguousarray(vectors[rows], np.float32), lists, metric)[1], UNLIKE))


def places(index: "faiss.IndexIVF", lists: Lists, least: float, vectors: Float32, metric: Metric) -> Int32:
    """The list that each of other vectors f32[V, D] belongs in, i32[V]: where a search for itself would look first.

    The number of lists stands for one that is less like every list than `least`, and -1 for one that the index has no
    code for.
    """
    if not len(vectors):
        return np.empty(0, np.int32)
    vectors = np.ascontiguousarray(vectors, np.float32)
    found, like = _nearest(vectors, lists, metric)
    numbers = np.where(like < least, len(lists.sizes), found).astype(np.int32)
    if isinstance(index, faiss.IndexIVFScalarQuantizer):
        off = np.linalg.norm(vectors - index.sq.decode(index.sq.compute_codes(vectors)), axis=1)
        numbers[off > COARSE * np.linalg.norm(vectors, axis=1)] = -1
    return numbers


def _nearest(vectors: Float32, lists: Lists, metric: Metric) -> tuple[Int64, Float32]:
    """The list nearest to each vector i64[V], and how like it the vector is: the cosine, or minus the L2 distance."""
    found = lists.quantizer.search(vectors, 1)[1][:, 0]
    centroids = lists.centroids[found]
    if metric == "l2":
        return found, -np.linalg.norm(vectors - centroids, axis=1)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(centroids, axis=1)
    return found, np.einsum("vd,vd->v", vectors, centroids) / np.maximum(lengths, np.float32(1e-30))


class Extended:
    """An index with vectors f32[V, D] besides those of its N rows, in lists i32[V]; they are found as rows from N on.

    FAISS looks at the lists of the index where they are, `probed` of them, at as many others that have what is beside,
    and at the one of vectors that are like none. `before` is called before each search, in its thread.
    """

    def __init__(
        self,
        index: "faiss.IndexIVF",
        probed: int,
        metric: Metric,
        vectors: Float32,
        lists: Int32,
        before: Callable[[], None],
    ) -> None:
        self._before = before
        self._metric: Metric = metric
        self._probed = probed
        # The keys of a query: those of the index, the others beside them, and of what is like no list.
        self._keys = np.full((1, 2 * probed + 1), 2 * index.nlist, np.int64)
        self._lists = index.nlist
        self._quantizer = index.quantizer
        own = _like(index, index.nlist + 1)
        ids = index.ntotal + np.arange(len(vectors), dtype=np.int64)
        numbers, vectors = lists.astype(np.int64), np.ascontiguousarray(vectors, np.float32)
        own.add_core(len(vectors), *map(faiss.swig_ptr, (vectors, ids, numbers)), None)
        both = faiss.InvertedListsPtrVector()
        for each in (index, own):
            both.push_back(each.invlists)
        stacked = faiss.VStackInvertedLists(both.size(), both.data())
        self._index = _like(index, 2 * index.nlist + 1)
        self._index.replace_invlists(stacked, False)
        self._told = faiss.SearchParametersIVF(nprobe=2 * probed + 1)
        # FAISS refers to these and does not hold them.
        self._held: Sequence[object] = (index, own, both, stacked)

    def search(self, query: Float32, k: int) -> tuple[Float32, Int64]:
        """The nearest of both to a query f32[1, D]: scores f32[1, k], larger is nearer, and rows i64[1, k], -1: none.

        Raises IndexFailed.
        """
        self._before()
        probed = self._probed
        keys, apart = self._keys.copy(), np.empty((1, 2 * probed + 1), np.float32)
        scores, rows = np.empty((1, k), np.float32), np.empty((1, k), np.int64)
        pointers = [faiss.swig_ptr(each) for each in (query, apart, keys, scores, rows)]
        asked, apart_at, keys_at, scores_at, rows_at = pointers
        try:
            self._quantizer.search_c(1, asked, probed, apart_at, keys_at)
            np.add(keys[:, :probed], self._lists, out=keys[:, probed:-1])
            # Codes are not of what is left beside a centroid: how far that is does not matter.
            self._index.search_preassigned_c(
                1, asked, k, keys_at, apart_at, scores_at, rows_at, False, self._told, None
            )
        except (RuntimeError, AssertionError) as error:
            raise IndexFailed(f"the index could not be searched: {error}") from error
        if self._metric == "l2":
            np.negative(scores, out=scores)
        return scores, rows


def _like(index: "faiss.IndexIVF", lists: int) -> "faiss.IndexIVF":
    """An empty index with codes of the same kind, in so many lists."""
    if isinstance(index, faiss.IndexIVFScalarQuantizer):
        made = faiss.IndexIVFScalarQuantizer(index.quantizer, index.d, lists, index.sq.qtype, index.metric_type)
        made.sq = index.sq
        made.by_residual = False
    else:
        made = faiss.IndexIVFFlat(index.quantizer, index.d, lists, index.metric_type)
    made.own_fields, made.is_trained = False, True
    return made
