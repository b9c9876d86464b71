"""The vector index: build, open, search. Only this file and division.py import faiss.

Scores are larger for nearer items under every metric: the inner product, the cosine, or minus the squared L2 distance.
"""

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np

from tidings_core import division
from tidings_core.division import Division, Told
from tidings_core.errors import IndexFailed, InvalidInput
from tidings_core.model import Metric
from tidings_core.rows import Copy, Passing, RowSet
from tidings_core.tables import Float32, Int32, Int64, picked, widened

Parameters = Mapping[str, int]

DROP_SHARE, DROP_SLACK, DROP_SPARE = 0.9, 1.2, 16
"""When so large a share of the rows may be found, so much more is searched for, and what may not is dropped."""
EVEN_SLACK = 0.05
"""The variance of the lists' shares, relative to the mean squared, that still counts as an even spread."""
MAX_COPY_BYTES = 64 << 20
"""Of rows whose copy would be larger none is made."""
RESCORED = 16
"""Found beyond k in a copy of float16, so that the exact order of the best k is known."""

_threads = 1


def set_threads(count: int) -> None:
    """Number of cores that one call may use, whichever thread makes it. 1 until set: a search must not spread over the
    cores that serve other requests.
    """
    global _threads
    _threads = count


def _keep_to_threads() -> None:
    # OpenMP keeps this number per thread, so every call sets it for the thread it is made in (0.2 microseconds).
    faiss.omp_set_num_threads(_threads)


def normalise(vectors: Float32, metric: Metric) -> Float32:
    """Vectors f32[N, D] as the metric compares them: unit length for the cosine (zero vectors stay zero)."""
    if metric != "cosine":
        return vectors
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


@dataclass(frozen=True, slots=True)
class FilterPlan:
    """How an index is searched for some of its rows only, as measured when it was built.

    Of up to `gather_up_to` rows a copy is kept and searched exactly. Of more, inverted lists are searched, nearest
    first, until enough of the rows were looked at: `even` holds pairs (rows, how many of them are enough), ascending,
    for rows that are spread over the lists as all rows are, `uneven` for others. Between two of them the shares are
    interpolated; without any all rows are looked at.
    """

    gather_up_to: int = 4096
    even: tuple[tuple[int, int], ...] = ()
    uneven: tuple[tuple[int, int], ...] = ()

    def enough(self, rows: int, *, even: bool) -> int:
        """Of so many rows, how many to look at."""
        scan = self.even if even else self.uneven
        if not scan:
            return rows
        counts, enough = np.array(scan, np.float64).T
        return min(rows, math.ceil(rows * float(np.interp(rows, counts, enough / counts))))


@dataclass(frozen=True, slots=True)
class _Lists:
    """The inverted lists of an index: of_row i32[N] the list of each row, sizes i32[L], centroids f32[L, D]."""

    of_row: Int32
    sizes: Int32
    centroids: Float32

    @classmethod
    def of(cls, index: "faiss.IndexIVF") -> "_Lists":
        lists = index.invlists
        of_row = np.zeros(index.ntotal, np.int32)
        sizes = np.array([lists.list_size(number) for number in range(index.nlist)], np.int32)
        for number in np.flatnonzero(sizes).tolist():
            of_row[faiss.rev_swig_ptr(lists.get_ids(number), int(sizes[number]))] = number
        return cls(of_row, sizes, index.quantizer.reconstruct_n(0, index.nlist))

    def counts(self, rows: RowSet) -> Int32:
        """How many of some rows each list has, i32[L]."""
        if rows.count * 2 > rows.size:
            return self.sizes - self.counts(~rows)
        return np.bincount(self.of_row[rows.rows()], minlength=len(self.sizes)).astype(np.int32)

    def even(self, lists: Int32) -> bool:
        """Whether rows, so many of them in each list, are spread over the lists as if drawn at random.

        Then the mean of the lists' squared shares is that of all rows, but for what chance adds: 1 over their number.
        """
        count, size = int(lists.sum()), int(self.sizes.sum())
        filled = np.flatnonzero(self.sizes)
        squares = float((lists[filled].astype(np.float64) ** 2 / self.sizes[filled]).sum()) * size / max(count, 1) ** 2
        return squares <= 1.0 + EVEN_SLACK + len(filled) / max(count, 1)

    def nearest(self, queries: Float32, passing: Passing, enough: int, metric: Metric) -> tuple[Int64, Float32]:
        """The nearest lists i64[B, P] of queries f32[B, D] that have `enough` of the rows, -1: padding; distances f32.

        Distances are those of FAISS to the centroids. Ties go to the list of the smaller number.
        """
        assert passing.lists is not None
        assert passing.possible is not None
        distances = np.empty((len(queries), len(self.sizes)), np.float32)
        measure = faiss.fvec_L2sqr_ny if metric == "l2" else faiss.fvec_inner_products_ny
        for query, row in zip(queries, distances, strict=True):
            # One by one: a product of matrices would go to a BLAS with threads of its own.
            measure(*map(faiss.swig_ptr, (row, query, self.centroids)), len(query), len(self.sizes))
        numbers = np.flatnonzero(passing.possible)
        near = distances[:, numbers] if metric == "l2" else -distances[:, numbers]
        order = numbers[np.argsort(near, axis=1, kind="stable")]
        seen = np.cumsum(passing.lists[order], axis=1)
        widths = np.minimum((seen < enough).sum(axis=1) + 1, len(numbers))
        order = order[:, : int(widths.max())]
        keys = np.where(np.arange(order.shape[1]) < widths[:, None], order, -1)
        return np.ascontiguousarray(keys, np.int64), np.ascontiguousarray(picked(distances, order))


class FaissIndex:
    """A FAISS index over item vectors that answers with rows and larger-is-nearer scores. Read-only once built.

    `key` is the FAISS factory string; `parameters` the search parameters, any of `nprobe` and `efSearch`; `vectors`
    f32[N, D] the vectors in it.
    """

    def __init__(
        self,
        index: "faiss.Index",
        metric: Metric,
        key: str,
        parameters: Parameters,
        vectors: Float32,
        plan: FilterPlan = FilterPlan(),
    ) -> None:
        self.key = key
        self.parameters = dict(parameters)
        self.plan = plan
        self._index = index
        self._metric: Metric = metric
        self._vectors = vectors
        self._hnsw = isinstance(index, faiss.IndexHNSW)
        self._lists = _Lists.of(index) if isinstance(index, faiss.IndexIVF) else None

    @property
    def item_count(self) -> int:
        """Number of items in the index."""
        return int(self._index.ntotal)

    @property
    def has_lists(self) -> bool:
        """Whether it is made of inverted lists, which can be searched one by one."""
        return self._lists is not None

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self._index.d)

    def distances(self, queries: Float32) -> float:
        """How many distances a search for one of queries f32[B, D] computes on average, to items and to their lists.

        Without inverted lists, one for each item.
        """
        if self._lists is None:
            return float(self.item_count)
        _keep_to_threads()
        probed = self.parameters.get("nprobe", 1)
        nearest = self._index.quantizer.search(np.ascontiguousarray(queries, np.float32), probed)[1]
        return len(self._lists.sizes) + float(self._lists.sizes[nearest].sum(axis=1).mean())

    def with_parameters(self, parameters: Parameters) -> "FaissIndex":
        """The same index searched with other parameters."""
        return self._with(parameters, self.plan)

    def with_plan(self, plan: FilterPlan) -> "FaissIndex":
        """The same index searched for some of its rows by another plan."""
        return self._with(self.parameters, plan)

    def _with(self, parameters: Parameters, plan: FilterPlan) -> "FaissIndex":
        other = copy(self)
        other.parameters, other.plan = dict(parameters), plan
        return other

    def prepare(self, rows: RowSet, *, gather: bool = True) -> Passing:
        """Make a set of rows ready to be searched for; many searches may use it, in any thread.

        `gather=False` is for rows that are to be left out: no copy of them is made.
        """
        rows = rows.resized(self.item_count)
        lists = None if self._lists is None else self._lists.counts(rows)
        small = rows.count * self.dim * 2 <= MAX_COPY_BYTES
        worth = rows.count < DROP_SHARE * rows.size if lists is None else rows.count <= self.plan.gather_up_to
        kept = self._gathered(rows.rows()) if gather and small and worth and rows.count else None
        if lists is None or self._lists is None:
            return Passing(rows, copy=kept, scattered=gather)
        return Passing(rows, lists, lists > 0, kept, scattered=gather, even=self._lists.even(lists))

    def without(self, passing: Passing | None, excluded: Passing) -> Passing:
        """The rows of `passing` (None: all) that are not among those excluded: quickly, for one search.

        What is excluded is thought to be what is nearest.
        """
        if passing is None:
            rows = ~excluded.rows
            lists, possible = (None, None) if self._lists is None else (self._lists.sizes, self._lists.sizes > 0)
            passing = Passing(rows, lists, possible)
        else:
            rows = passing.rows - excluded.rows
        kept = passing.copy
        if kept is not None:
            left = RowSet.of_mask(~excluded.rows.contains(kept.rows))
            kept = replace(kept, left=left if kept.left is None else left & kept.left)
        if passing.lists is None or excluded.lists is None:
            return Passing(rows, copy=kept, scattered=False)
        # Of what is excluded, not all need be among what passes: so many rows are left at least.
        lists = np.maximum(passing.lists - excluded.lists, 0)
        return Passing(rows, lists, passing.possible, kept, scattered=False)

    def search(self, queries: Float32, k: int, passing: Passing | None = None) -> tuple[Int64, Float32]:
        """Nearest items of queries f32[B, D]: rows i64[B, k] padded with -1, scores f32[B, k] (0 in the padding).

        With `passing`, prepared by this index, nothing else is found. Raises IndexFailed.
        """
        _keep_to_threads()
        queries = np.ascontiguousarray(queries, np.float32)
        try:
            if passing is None:
                return self._found(*self._index.search(queries, k, params=self._options(k)))
            return self._search_among(queries, k, passing)
        except (RuntimeError, AssertionError) as error:
            raise IndexFailed(f"the index could not be searched: {error}") from error

    def _search_among(self, queries: Float32, k: int, passing: Passing) -> tuple[Int64, Float32]:
        """The cheapest way that keeps recall: drop a few, search the copy, or look where the rows are."""
        count, size = passing.rows.count, passing.rows.size
        if count == 0:
            return np.full((len(queries), k), -1, np.int64), np.zeros((len(queries), k), np.float32)
        if passing.copy is not None:
            return self._search_copy(queries, k, passing.copy)
        if passing.scattered and count >= DROP_SHARE * size:
            return self._search_and_drop(queries, k, passing)
        return self._search_rows(queries, k, passing)

    def _search_and_drop(self, queries: Float32, k: int, passing: Passing) -> tuple[Int64, Float32]:
        """Find some more and drop what does not pass; where too much was dropped, look again."""
        more = min(math.ceil(k * passing.rows.size / passing.rows.count * DROP_SLACK) + DROP_SPARE, self.item_count)
        rows, scores = self._found(*self._index.search(queries, more, params=self._options(more)))
        kept = passing.rows.contains(rows)
        order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
        rows, scores = picked(rows, order), picked(scores, order)
        kept = picked(kept, order)
        rows, scores = np.where(kept, rows, -1), np.where(kept, scores, np.float32(0.0))
        rows, scores = widened(rows, k, -1), widened(scores, k, 0.0)
        again = (rows >= 0).sum(axis=1) < min(k, passing.rows.count)
        if again.any():
            rows[again], scores[again] = self._search_rows(queries[again], k, passing)
        return rows, scores

    def _search_rows(self, queries: Float32, k: int, passing: Passing) -> tuple[Int64, Float32]:
        """Search the index itself, told which rows may be found."""
        selector = faiss.IDSelectorBitmap(passing.rows.bits)
        if self._lists is None or passing.lists is None:
            # A graph does not lead to what few rows pass: its vectors are searched one by one.
            index = self._index.storage if self._hnsw else self._index
            return self._found(*index.search(queries, k, params=faiss.SearchParameters(sel=selector)))
        enough = max(self.plan.enough(passing.rows.count, even=passing.even), k)
        keys, distances = self._lists.nearest(queries, passing, enough, self._metric)
        scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        self._index.search_preassigned_c(
            len(queries),
            faiss.swig_ptr(queries),
            k,
            faiss.swig_ptr(keys),
            faiss.swig_ptr(distances),
            faiss.swig_ptr(scores),
            faiss.swig_ptr(rows),
            False,
            faiss.SearchParametersIVF(sel=selector, nprobe=keys.shape[1]),
            None,
        )
        return self._found(scores, rows)

    def _search_copy(self, queries: Float32, k: int, kept: Copy) -> tuple[Int64, Float32]:
        """Search a copy, and order what was found by its exact scores."""
        options = None
        if kept.left is not None:
            options = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(kept.left.bits))
        wide = min(k + RESCORED, len(kept.rows))
        _, places = kept.vectors.search(queries / np.float32(kept.scale), wide, params=options)
        rows = np.where(places >= 0, kept.rows[np.maximum(places, 0)], -1).astype(np.int64)
        near = self._vectors[np.maximum(rows, 0)]
        if self._metric == "l2":
            exact = -((near - queries[:, None, :]) ** 2).sum(axis=2)
        else:
            exact = np.einsum("bkd,bd->bk", near, queries)
        exact = np.where(rows >= 0, exact, np.float32(-np.inf))
        order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
        rows, exact = picked(rows, order), picked(exact, order)
        rows, exact = widened(rows, k, -1), widened(exact, k, 0.0)
        return rows, np.where(rows >= 0, exact, np.float32(0.0))

    def _gathered(self, rows: Int32) -> Copy:
        vectors = self._vectors[rows]
        scale = float(np.abs(vectors).max(initial=0.0)) or 1.0
        metric = faiss.METRIC_L2 if self._metric == "l2" else faiss.METRIC_INNER_PRODUCT
        index = faiss.IndexScalarQuantizer(self.dim, faiss.ScalarQuantizer.QT_fp16, metric)
        vectors /= np.float32(scale)
        index.train(vectors)
        index.add(vectors)
        return Copy(rows, index, int(index.codes.size()), scale)

    def _options(self, k: int) -> "faiss.SearchParameters | None":
        if self._lists is not None:
            return faiss.SearchParametersIVF(nprobe=self.parameters.get("nprobe", 1))
        if self._hnsw:
            # Looking at fewer than k items would find fewer than k good ones.
            return faiss.SearchParametersHNSW(efSearch=max(k, self.parameters.get("efSearch", 16)))
        return None

    def _found(self, scores: Float32, rows: Int64) -> tuple[Int64, Float32]:
        """What FAISS found, with scores that are larger for nearer rows and 0 in the padding."""
        if self._metric == "l2":
            scores = -scores
        return rows, np.where(rows >= 0, scores, np.float32(0.0))

    def write(self, path: Path) -> None:
        """Write the index to a file. Raises OSError when it cannot be written whole."""
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:
            raise OSError(f"{path.name} cannot be written: {error}") from error


def open_index(
    path: Path,
    metric: Metric,
    key: str,
    parameters: Parameters,
    vectors: Float32,
    plan: FilterPlan = FilterPlan(),
) -> FaissIndex:
    """Open the index file of vectors f32[N, D], memory-mapped, so that processes share it.

    Raises IndexFailed when it cannot be read.
    """
    try:
        # Plain IO_FLAG_MMAP keeps inverted lists on disk and is several times slower; IFC maps them in place.
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise IndexFailed(f"the index file cannot be read: {error}") from error
    expected = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    if index.metric_type != expected:
        raise IndexFailed(f"the index file compares by FAISS metric {index.metric_type}, not by {metric}")
    if (index.ntotal, index.d) != vectors.shape:
        shape = " x ".join(map(str, vectors.shape))
        raise IndexFailed(f"the index file holds {index.ntotal} x {index.d}, not {shape}")
    return FaissIndex(index, metric, key, parameters, vectors, plan)


def divide(vectors: Float32, lists: int, metric: Metric, seed: int = 0, told: Told | None = None) -> Division:
    """Divide vectors f32[N, D] into inverted lists that several indexes can share: see division.py."""
    _keep_to_threads()
    return division.divide(vectors, lists, metric, seed, told)


def build_index(
    key: str, vectors: Float32, metric: Metric, parameters: Parameters, seed: int = 0, divided: Division | None = None
) -> FaissIndex:
    """Train and fill an index over vectors f32[N, D] that `normalise` has prepared.

    `key` is a FAISS factory string such as "Flat", "IVF512,SQfp16" or "HNSW32". Inverted lists are made by `divide`,
    unless they are given. Deterministic given the seed, FAISS's version and the number of threads. Raises InvalidInput
    for a key that FAISS does not know, and for more lists than vectors.
    """
    _keep_to_threads()
    faiss_metric = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    try:
        index = faiss.index_factory(int(vectors.shape[1]), key, faiss_metric)
    except RuntimeError as error:
        raise InvalidInput(("index key", f"FAISS does not know {key!r}: {error}")) from error
    vectors = np.ascontiguousarray(vectors, np.float32)
    if isinstance(index, faiss.IndexIVF):
        if index.nlist > len(vectors):
            raise InvalidInput(("index key", f"{key!r} has more lists than there are vectors, {len(vectors)}"))
        _fill_lists(index, vectors, divided or divide(vectors, index.nlist, metric, seed))
    else:
        if not index.is_trained:
            index.train(vectors)
        index.add(vectors)
    return FaissIndex(index, metric, key, parameters, vectors)


def _fill_lists(index: "faiss.IndexIVF", vectors: Float32, divided: Division) -> None:
    index.quantizer.add(divided.representatives)
    # Codes are of the vectors, not of what is left beside a centre: what represents a list is not its centre, and a
    # scan need not add one.
    index.by_residual = False
    index.train(vectors)
    rows = np.arange(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), division.BLOCK):
        parts = (each[start : start + division.BLOCK] for each in (vectors, rows, divided.of_row))
        pointers = [faiss.swig_ptr(part) for part in parts]
        index.add_core(min(division.BLOCK, len(vectors) - start), *pointers, None)


def exact_search(vectors: Float32, queries: Float32, k: int, metric: Metric) -> tuple[Int64, Float32]:
    """The true nearest items of queries f32[B, D] among vectors f32[N, D]: rows i64[B, k], scores f32[B, k].

    Ties go to FAISS. k is cut to N.
    """
    _keep_to_threads()
    k = min(k, len(vectors))
    faiss_metric = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    scores, rows = faiss.knn(
        np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(vectors, np.float32), k, metric=faiss_metric
    )
    return rows, -scores if metric == "l2" else scores


def recall(found: Int64, true: Int64) -> float:
    """Mean share of the true rows i64[B, k] that are among the found rows i64[B, k']; padding (-1) never counts."""
    hits = [
        len(np.intersect1d(f[f >= 0], t[t >= 0])) / max(int((t >= 0).sum()), 1)
        for f, t in zip(found, true, strict=True)
    ]
    return float(np.mean(hits)) if hits else 0.0
