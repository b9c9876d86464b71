"""Inverted lists: which rows each has, which are nearest to a query, and copies of some rows in lists of their own."""

import threading
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from tidings_core.model import Metric
from tidings_core.rows import Copy, Passing, RowSet
from tidings_core.tables import Float32, Int32, Int64, picked

EVEN_SLACK = 0.05
"""The variance of the lists' shares, relative to the mean squared, that still counts as an even spread."""
TAIL = 2.0
"""The scores in a list have longer tails than the normal distribution: its variance is taken so many times as large."""
LARGEST = 30_000.0
"""Of vectors with larger numbers a copy is kept in float32: float16 ends at 65504."""


class Moments:
    """The means and variances f32[L, D] of the vectors in each list, computed when they are first asked for."""

    def __init__(self, vectors: Float32, of_row: Int32, lists: int) -> None:
        self._given = (vectors, of_row, lists)
        self._found: tuple[Float32, Float32] | None = None
        self._computing = threading.Lock()

    def __call__(self) -> tuple[Float32, Float32]:
        """The two arrays. For any thread."""
        if self._found is None:
            with self._computing:
                self._found = self._found or self._compute(*self._given)
        return self._found

    @staticmethod
    def _compute(vectors: Float32, of_row: Int32, lists: int) -> tuple[Float32, Float32]:
        means, variances = np.zeros((2, lists, vectors.shape[1]), np.float32)
        order = np.argsort(of_row, kind="stable")
        ends = np.cumsum(np.bincount(of_row, minlength=lists))
        for number, rows in enumerate(np.split(order, ends[:-1])):
            if len(rows):
                held = vectors[rows]
                means[number], variances[number] = held.mean(axis=0), held.var(axis=0)
        return means, variances


@dataclass(frozen=True, slots=True)
class Lists:
    """The inverted lists of an index: of_row i32[N] the list of each row, sizes i32[L], centroids f32[L, D].

    `plain`: the index holds the vectors as they are.
    """

    of_row: Int32
    sizes: Int32
    centroids: Float32
    moments: Moments
    quantizer: "faiss.Index"
    plain: bool

    @classmethod
    def of(cls, index: "faiss.IndexIVF", vectors: Float32) -> "Lists":
        """Read them from an index of vectors f32[N, D]."""
        lists = index.invlists
        of_row = np.zeros(index.ntotal, np.int32)
        sizes = np.array([lists.list_size(number) for number in range(index.nlist)], np.int32)
        for number in np.flatnonzero(sizes).tolist():
            of_row[faiss.rev_swig_ptr(lists.get_ids(number), int(sizes[number]))] = number
        centroids = index.quantizer.reconstruct_n(0, index.nlist)
        plain = isinstance(index, faiss.IndexIVFFlat)
        moments = Moments(vectors, of_row, index.nlist)
        return cls(of_row, sizes, centroids, moments, index.quantizer, plain)

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

    def nearest(self, queries: Float32, passing: Passing, enough: int, metric: Metric) -> tuple[Int64, Float32]:
        """The nearest lists i64[B, P] of queries f32[B, D] that have `enough` of the rows, -1: padding; distances f32.

        Distances are those of FAISS to the centroids.
        """
        assert passing.lists is not None
        centroids, counts = _of(passing, self.centroids, passing.lists)
        distances = np.empty((len(queries), len(counts)), np.float32)
        measure = faiss.fvec_L2sqr_ny if metric == "l2" else faiss.fvec_inner_products_ny
        for at in range(len(queries)):
            # One by one: a product of matrices would go to a BLAS with threads of its own.
            pointers = (faiss.swig_ptr(each) for each in (distances[at], queries[at], centroids))
            measure(*pointers, queries.shape[1], len(counts))
        there = counts > 0
        order = np.argsort(np.where(there, distances if metric == "l2" else -distances, np.float32(np.inf)), axis=1)
        seen = np.cumsum(counts[order], axis=1)
        widths = np.minimum((seen < enough).sum(axis=1) + 1, int(np.count_nonzero(there)))
        order = order[:, : int(widths.max())]
        keys = order if passing.numbers is None else passing.numbers[order]
        if len(keys) > 1:
            keys = np.where(np.arange(order.shape[1]) < widths[:, None], keys, -1)
        return np.ascontiguousarray(keys, np.int64), np.ascontiguousarray(picked(distances, order))

    def unseen(
        self, query: Float32, seen: Int64, least: float, passing: Passing, allowed: float, metric: Metric
    ) -> Int64:
        """The lists i64[P] to search besides those seen, so that no more rows than `allowed` are likely to be missed.

        Rows with a score of `least` or more for a query f32[D] are counted, as if the scores of a list's rows were
        normally distributed, with the mean, and TAIL times the variance, that its vectors have along the query.
        """
        assert passing.lists is not None
        means, variances, counts, sizes = _of(passing, *self.moments(), passing.lists, self.sizes)
        if metric == "l2":
            apart = (means - query) ** 2
            mean = -(apart + variances).sum(axis=1)
            variance = (4.0 * apart * variances + 2.0 * variances**2).sum(axis=1)
        else:
            mean, variance = np.empty((2, len(counts)), np.float32)
            for out, vector, table in ((mean, query, means), (variance, query * query, variances)):
                faiss.fvec_inner_products_ny(*map(faiss.swig_ptr, (out, vector, table)), len(query), len(counts))
        above = np.clip((np.float32(least) - mean) / np.sqrt(TAIL * variance + np.float32(1e-30)), -6.0, 6.0)
        # The tail of the normal distribution, within 2e-4 (Page, Applied Statistics 26, 1977).
        # Those of a list that pass may be its best.
        likely = np.minimum(sizes / (1.0 + np.exp(above * (1.5976 + 0.07056 * above * above))), counts)
        known = np.zeros(len(self.sizes), np.bool_)
        known[seen[seen >= 0]] = True
        likely[known if passing.numbers is None else known[passing.numbers]] = 0.0
        total = float(likely.sum())
        if total <= allowed:
            return np.empty(0, np.int64)
        order = np.argsort(-likely)
        order = order[: int(np.searchsorted(np.cumsum(likely[order]), total - allowed)) + 1]
        return order if passing.numbers is None else passing.numbers[order]


def _of(passing: Passing, *tables: Any) -> tuple[Any, ...]:
    """The entries of tables that are of lists which can have rows."""
    return tables if passing.numbers is None else tuple(table[passing.numbers] for table in tables)


def scan(
    index: "faiss.IndexIVF", queries: Float32, k: int, keys: Int64, distances: Float32, only: RowSet | None
) -> tuple[Float32, Int64]:
    """Search lists i64[B, P] (-1: none) for queries f32[B, D], for these rows only: scores f32[B, k], rows i64."""
    selector = None if only is None else faiss.IDSelectorBitmap(only.bits)
    scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    index.search_preassigned_c(
        len(queries),
        faiss.swig_ptr(queries),
        k,
        *map(faiss.swig_ptr, (keys, distances, scores, rows)),
        False,
        faiss.SearchParametersIVF(sel=selector, nprobe=keys.shape[1]),
        None,
    )
    return scores, rows


def scan_whole(index: "faiss.IndexIVF", queries: Float32, k: int, only: RowSet | None) -> tuple[Float32, Int64]:
    """Search the one list that there is."""
    return scan(index, queries, k, np.zeros((len(queries), 1), np.int64), np.zeros((len(queries), 1), np.float32), only)


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
