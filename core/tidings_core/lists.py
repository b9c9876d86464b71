"""Inverted lists: which rows each has, which are nearest to a query, and copies of some rows in lists of their own."""

import math
from dataclasses import dataclass

import faiss
import numpy as np

from tidings_core.model import Metric
from tidings_core.rows import Copy, Reach, RowSet
from tidings_core.tables import Float32, Int32, Int64

EVEN_SLACK = 0.05
"""The variance of the lists' shares, relative to the mean squared, that still counts as an even spread."""
DROP_SLACK, DROP_SPARE, DROP_MOST = 1.1, 8, 2.5
"""So much more is searched for where what does not pass is dropped; more than so many times k are not."""
GATHERED = 0.75
"""Where rows are in fewer of the lists than this share, a table is made of the centroids of these."""
WIDER = 6.0
"""So many more lists than have enough rows on average are put in order."""
LARGEST = 30_000.0
"""Of vectors with larger numbers a copy is kept in float32: float16 ends at 65504."""


@dataclass(frozen=True, slots=True)
class Lists:
    """The inverted lists of an index: of_row i32[N] the list of each row, sizes i32[L], centroids f32[L, D].

    `plain`: the index holds the vectors as they are.
    """

    of_row: Int32
    sizes: Int32
    centroids: Float32
    quantizer: "faiss.Index"
    plain: bool

    @classmethod
    def of(cls, index: "faiss.IndexIVF") -> "Lists":
        """Read them from an index."""
        lists = index.invlists
        of_row = np.zeros(index.ntotal, np.int32)
        sizes = np.array([lists.list_size(number) for number in range(index.nlist)], np.int32)
        for number in np.flatnonzero(sizes).tolist():
            of_row[faiss.rev_swig_ptr(lists.get_ids(number), int(sizes[number]))] = number
        centroids = index.quantizer.reconstruct_n(0, index.nlist)
        plain = isinstance(index, faiss.IndexIVFFlat)
        return cls(of_row, sizes, centroids, index.quantizer, plain)

    def counts(self, rows: RowSet) -> Int32:
        """How many of some rows each list has, i32[L]."""
        if rows.count * 2 > rows.size:
            return self.sizes - self.counts(~rows)
        return np.bincount(self.of_row[rows.rows()], minlength=len(self.sizes)).astype(np.int32)

    def even(self, counts: Int32 | Float32) -> bool:
        """Whether rows, so many of them in each list, are spread over the lists as if drawn at random.

        Then the mean of the lists' squared shares is that of all rows, but for what chance adds: 1 over their number.
        Of most rows the others are looked at, which tell more.
        """
        count, size = int(counts.sum()), len(self.of_row)
        if 2 * count > size:
            count, counts = size - count, self.sizes - counts
        filled = self.sizes > 0
        squares = float((counts[filled].astype(np.float64) ** 2 / self.sizes[filled]).sum()) * size / max(count, 1) ** 2
        return squares <= 1.0 + EVEN_SLACK + len(self.sizes) / max(count, 1)

    def without(self, counts: Int32 | Float32, excluded: Int32 | Float32, left: int) -> Float32:
        """How many rows each list has when `excluded` of all its rows are left out, and `left` stay in all: a guess.

        As if in each list what is left out had nothing to do with what was there.
        """
        stay = counts * (1.0 - excluded / np.maximum(self.sizes, 1))
        whole = float(stay.sum())
        return (stay * (left / whole if whole else 0.0)).astype(np.float32)

    def reach(self, counts: Int32 | Float32, enough: int, only: RowSet | None) -> Reach:
        """How to search for rows, so many of them in each list, of which so many are enough.

        `only`: the lists hold others too.
        """
        filled = np.flatnonzero(counts)
        # Of most lists a table of their own is no gain: what has none of the rows is at times looked at for nothing.
        part = filled if len(filled) < GATHERED * len(counts) else None
        within: Int32 | Float32 = counts if part is None else counts[part]
        usual = float(within.sum()) / max(len(within), 1)
        width = max(1, min(len(within), math.ceil(WIDER * enough / max(usual, 1e-9)) + 4))
        centroids = self.centroids if part is None else self.centroids[part]
        return Reach(centroids, within, part, enough, width, only, _told(width, only), _told(width, None))

    def held(self, reach: Reach, places: Int64) -> int:
        """How many rows the lists at places i64[T] of a reach have, whether they pass or not."""
        return int(self.sizes[places if reach.numbers is None else reach.numbers[places]].sum())

    def first(
        self, index: "faiss.IndexIVF", query: Float32, k: int, reach: Reach, places: Int64
    ) -> tuple[Float32, Int64]:
        """As `scan`. Where many of what the lists have pass, all are looked at, and what does not pass is dropped."""
        if reach.only is not None and (held := self.held(reach, places)):
            more = math.ceil(k * held / max(float(reach.counts[places].sum()), 1.0) * DROP_SLACK) + DROP_SPARE
            if more <= min(DROP_MOST * k, held):
                scores, rows = scan(index, query, more, reach, places, every=True)
                kept = reach.only.holds(rows[0]).nonzero()[0][:k]
                if len(kept) == k:
                    return scores[:, kept], rows[:, kept]
        return scan(index, query, k, reach, places)

    def nearest(self, query: Float32, reach: Reach, enough: int, metric: Metric) -> tuple[Float32, Int64, int, float]:
        """How near each list of a reach is to a query f32[1, D], f32[P], and those nearest that have `enough` rows.

        They are the first so many, the third value, of places i64 in the reach, nearest first. The last value is how
        near the next one is, -inf: there is no other. Larger is nearer. Every microsecond here is one of each search.
        """
        count, width = len(reach.counts), reach.width
        near = np.empty(count, np.float32)
        measure = faiss.fvec_L2sqr_ny if metric == "l2" else faiss.fvec_inner_products_ny
        # A product of matrices would go to a BLAS with threads of its own.
        measure(*map(faiss.swig_ptr, (near, query, reach.centroids)), query.shape[1], count)
        if metric == "l2":
            np.negative(near, out=near)
        while width < count:
            some = near.argpartition(count - width - 1)[count - width - 1 :]
            order = some[near[some].argsort()[::-1]]
            taken = int(reach.counts[order].cumsum().searchsorted(enough)) + 1
            if taken <= width:
                return near, order, taken, float(near[order[taken]])
            width *= 2
        order = np.ascontiguousarray(near.argsort()[::-1])
        taken = int(reach.counts[order].cumsum().searchsorted(enough)) + 1
        if taken < count:
            return near, order, taken, float(near[order[taken]])
        return near, order, count, -math.inf


def bound(query: Float32, score: float, wide: float, spread: float, metric: Metric) -> float:
    """How near a list must be to a query f32[1, D] for some of its rows to be likely to have more than a score.

    `spread` is the standard deviation of the vectors in a list, of all dimensions; rows may well be so many of it
    nearer than usual, `wide`.
    """
    if metric != "l2":
        return score - wide * deviation(query, score, spread, metric)
    # A row at random is farther than the centroid by what varies in all dimensions.
    beside = (wide * spread) ** 2 - score - query.shape[1] * spread**2
    return -((wide * spread + math.sqrt(max(beside, 0.0))) ** 2)


def deviation(query: Float32, score: float, spread: float, metric: Metric) -> float:
    """The standard deviation of the scores, near this one, that the rows of a list have for a query f32[1, D]."""
    if metric != "l2":
        return spread * math.sqrt(float(query[0] @ query[0]))
    return 2.0 * spread * math.sqrt(max(-score, 0.0))


def _told(width: int, only: RowSet | None) -> "faiss.SearchParametersIVF":
    """What FAISS is told to search so many lists for these rows only."""
    return faiss.SearchParametersIVF(sel=None if only is None else faiss.IDSelectorBitmap(only.bits), nprobe=width)


def scan(
    index: "faiss.IndexIVF", query: Float32, k: int, reach: Reach, places: Int64, every: bool = False
) -> tuple[Float32, Int64]:
    """Search the lists at places i64[T] of a reach for a query f32[1, D]: scores f32[1, k], rows i64[1, k].

    With `every`, for rows that do not pass too.
    """
    keys, told = places, reach.all_told if every else reach.told
    if reach.numbers is not None:
        keys = reach.numbers[places]
    if len(keys) < reach.width:
        keys = np.concatenate([keys, np.full(reach.width - len(keys), -1, np.int64)])
    elif len(keys) > reach.width:
        told = _told(len(keys), None if every else reach.only)
    return _scan(index, query, k, keys, told)


def scan_whole(index: "faiss.IndexIVF", queries: Float32, k: int, only: RowSet | None) -> tuple[Float32, Int64]:
    """Search the one list that there is, for queries f32[B, D]: scores f32[B, k], rows i64[B, k]."""
    return _scan(index, queries, k, np.zeros(len(queries), np.int64), _told(1, only))


def _scan(
    index: "faiss.IndexIVF", queries: Float32, k: int, keys: Int64, told: "faiss.SearchParametersIVF"
) -> tuple[Float32, Int64]:
    scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    # Codes are not of what is left beside a centroid: how far that is does not matter.
    apart = np.empty(len(keys), np.float32)
    pointers = map(faiss.swig_ptr, (keys, apart, scores, rows))
    index.search_preassigned_c(len(queries), faiss.swig_ptr(queries), k, *pointers, False, told, None)
    return scores, rows


def copied(vectors: Float32, rows: Int32, metric: Metric, lists: Lists | None = None) -> Copy:
    """A copy of some rows of vectors f32[N, D]: whole, in one list and in float32, or in `lists`.

    There it is in float16, unless the index holds more, or float16 less than the vectors need.
    """
    dim = vectors.shape[1]
    chosen, ids = np.ascontiguousarray(vectors[rows]), rows.astype(np.int64)
    measure = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    if lists is None:
        quantizer, count, keys = _one(dim, measure), 1, np.zeros(len(rows), np.int64)
    else:
        quantizer, count, keys = lists.quantizer, len(lists.sizes), lists.of_row[rows].astype(np.int64)
    if lists is None or lists.plain or float(np.abs(chosen).max(initial=0.0)) > LARGEST:
        index, width = faiss.IndexIVFFlat(quantizer, dim, count, measure), 4
    else:
        index, width = faiss.IndexIVFScalarQuantizer(quantizer, dim, count, faiss.ScalarQuantizer.QT_fp16, measure), 2
        index.by_residual = False
    index.own_fields, index.is_trained = False, True
    index.add_core(len(rows), *map(faiss.swig_ptr, (chosen, ids, keys)), None)
    return Copy((index, quantizer), lists is None, len(rows) * (dim * width + 8))


def _one(dim: int, measure: int) -> "faiss.Index":
    quantizer = faiss.IndexFlat(dim, measure)
    quantizer.add(np.zeros((1, dim), np.float32))
    return quantizer
