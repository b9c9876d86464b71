"""The vector index: build, open, search. Only this file, lists.py, extended.py and division.py import
faiss.

Scores are larger for nearer items under every metric: the inner product, the cosine, or minus the squared L2 distance.
"""

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np

from tidings_core import division, extended
from tidings_core.division import Division, Told
from tidings_core.errors import IndexFailed, InvalidInput
from tidings_core.extended import Extended
from tidings_core.lists import Lists, bound, copied, deviation, scan, scan_whole
from tidings_core.model import Metric
from tidings_core.rows import Passing, RowSet
from tidings_core.tables import Bool, Float32, Int32, Int64

Parameters = Mapping[str, int]

DROP_SHARE, DROP_SLACK, DROP_SPARE = 0.9, 1.2, 16
"""When so large a share of the rows may be found, so much more is searched for, and what may not is dropped."""
CROWDED, RESCORED = 0.25, 4
"""Where the k best are less than so many standard deviations apart, codes are too coarse to tell which are nearest: so
many times k are found and ordered by their exact scores."""
EXACT_SHARE = 0.7
"""When more than this share of all rows must be looked at, and there is no copy, all vectors are compared exactly."""
LOST_SHARE = 0.08
"""When lists with more than this share of what passes may hold better, all of it is looked at."""
MAX_COPY_ROWS, MAX_COPY_BYTES = 1 << 17, 64 << 20
"""Of more rows no copy is made: it would take the first search that needs it too long, and too much memory."""

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

    Up to `whole_up_to` rows are all looked at, in a copy. Of more, inverted lists are searched, nearest first, until
    enough of the rows were looked at: `even` holds pairs (rows, how many of them are enough), ascending, for rows that
    are spread over the lists as all rows are. Between two of them the number is interpolated; without any all rows are
    looked at. Of other rows so many times as many are looked at, `uneven`; or `left`, where some are left out or most
    pass. Then those lists are searched too that are
    so near that rows a number of standard deviations, `wide`, nearer than usual in them would be better than the last
    that was found. `spread` is this deviation: of the vectors in a list, on average of all lists and dimensions.
    """

    whole_up_to: int = 4096
    even: tuple[tuple[int, int], ...] = ()
    uneven: float = 2.0
    left: float = 1.0
    wide: float = 4.0
    spread: float = 0.0

    def enough(self, rows: int, times: float = 1.0) -> int:
        """Of so many rows, how many to look at: so many times as many as of rows that are spread evenly."""
        if not self.even:
            return rows
        known, told = zip(*self.even, strict=True)
        return min(rows, math.ceil(float(np.interp(rows, known, told)) * times))


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
        self._lists = Lists.of(index) if isinstance(index, faiss.IndexIVF) else None
        self._likeness: float | None = None

    @property
    def item_count(self) -> int:
        """Number of items in the index."""
        return int(self._index.ntotal)

    @property
    def lists(self) -> Lists | None:
        """The inverted lists it is made of, which can be searched one by one; None: it is not made of any."""
        return self._lists

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

    def places(self, vectors: Float32) -> Int32:
        """The inverted list that each of other vectors f32[V, D] belongs in, i32[V]; -1: in none.

        The number of lists stands for one more, of vectors that are like no list.
        """
        if self._lists is None:
            return np.full(len(vectors), -1, np.int32)
        _keep_to_threads()
        if self._likeness is None:
            self._likeness = extended.likeness(self._lists, self._vectors, self._metric)
        return extended.places(self._index, self._lists, self._likeness, vectors, self._metric)

    def extended(self, vectors: Float32, lists: Int32) -> Extended | None:
        """The index with vectors f32[V, D] in lists i32[V] besides, as `places` tells; None where there are none."""
        if self._lists is None or not len(vectors):
            return None
        probed = min(self.parameters.get("nprobe", 1), len(self._lists.sizes))
        return Extended(self._index, probed, self._metric, vectors, lists, _keep_to_threads)

    def prepare(self, rows: RowSet, *, gather: bool = True) -> Passing:
        """Make a set of rows ready to be searched for; many searches may use it, in any thread.

        `gather=False` is for rows that are to be left out: no copy of them is made.
        """
        rows = rows.resized(self.item_count)
        counts = None if self._lists is None else self._lists.counts(rows)
        if not gather:
            return Passing(rows, counts, others=self.alone(~rows, left=True))
        kept = None
        if 0 < rows.count < DROP_SHARE * rows.size and rows.count * self.dim * 4 <= MAX_COPY_BYTES:
            if counts is None or rows.count <= self.plan.whole_up_to:
                kept = copied(self._vectors, rows.rows(), self._metric)
            elif rows.count <= MAX_COPY_ROWS:
                kept = copied(self._vectors, rows.rows(), self._metric, self._lists)
        return self._listed(Passing(rows, counts, copy=kept), False)

    def alone(self, rows: RowSet, *, left: bool = False) -> Passing:
        """Make a set of rows ready to be searched for in the index itself: no copy of them is made.

        `left`: they are what is left when some rows are left out, perhaps those that are nearest.
        """
        counts = None if self._lists is None else self._lists.counts(rows)
        return self._listed(Passing(rows, counts, scattered=not left), left)

    def _listed(self, passing: Passing, left: bool, even: bool | None = None) -> Passing:
        """With what is known of rows whose numbers in every list are known; `even`: whether they are spread so."""
        if self._lists is None or passing.lists is None:
            return passing
        even = self._lists.even(passing.lists) if even is None else even
        left = left or passing.rows.count >= DROP_SHARE * passing.rows.size
        times = 1.0 if even else self.plan.left if left else self.plan.uneven
        return self.reaching(replace(passing, even=even), self.plan.enough(passing.rows.count, times))

    def reaching(self, passing: Passing, enough: int) -> Passing:
        """The same rows of an index with lists, of which so many are enough, whatever is planned."""
        assert self._lists is not None
        assert passing.lists is not None
        only = passing.rows if passing.copy is None or passing.narrowed else None
        return replace(passing, reach=self._lists.reach(passing.lists, enough, only))

    def without(self, passing: Passing | None, excluded: Passing) -> Passing:
        """The rows of `passing` (None: all) that are not among those excluded: quickly, for one search.

        What is excluded is thought to be what is nearest.
        """
        if passing is None:
            if excluded.others is not None:
                return excluded.others
            return self.alone(~excluded.rows, left=True)
        rows = passing.rows - excluded.rows
        left = replace(passing, rows=rows, narrowed=True, scattered=False, even=False)
        if self._lists is None or passing.lists is None or excluded.lists is None:
            return left
        lists = self._lists.without(passing.lists, excluded.lists, rows.count)
        even = passing.even and excluded.others is not None and excluded.others.even
        return self._listed(replace(left, lists=lists), False, even)

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
        """The cheapest way that keeps recall: drop a few, look at all of a copy, or look where the rows are."""
        if passing.rows.count == 0:
            return np.full((len(queries), k), -1, np.int64), np.zeros((len(queries), k), np.float32)
        # Lists are searched for just the rows, once it is known how many of them are enough.
        drop = passing.copy is None and passing.scattered and not (self._lists is not None and self.plan.even)
        if drop and passing.rows.count >= DROP_SHARE * passing.rows.size:
            return self._search_and_drop(queries, k, passing)
        return self._search_rows(queries, k, passing)

    def _search_and_drop(self, queries: Float32, k: int, passing: Passing) -> tuple[Int64, Float32]:
        """Find some more and drop what does not pass; where too much was dropped, look again."""
        more = min(math.ceil(k * passing.rows.size / passing.rows.count * DROP_SLACK) + DROP_SPARE, self.item_count)
        rows, scores = self._found(*self._index.search(queries, more, params=self._options(more)))
        rows, scores, short = _first(rows, scores, passing.rows.contains(rows), k)
        if short:
            again = np.flatnonzero((rows >= 0).sum(axis=1) < min(k, passing.rows.count))
            if len(again):
                rows[again], scores[again] = self._search_rows(queries[again], k, passing)
        return rows, scores

    def _search_rows(self, queries: Float32, k: int, passing: Passing) -> tuple[Int64, Float32]:
        """Search the copy, or the index itself told which rows may be found."""
        kept = passing.copy
        only = passing.rows if kept is None or passing.narrowed else None
        if kept is not None and kept.whole:
            return self._found(*scan_whole(kept.kept[0], queries, k, only))
        if self._lists is None or passing.lists is None:
            # A graph does not lead to what few rows pass: its vectors are searched one by one.
            index = self._index.storage if self._hnsw else self._index
            options = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(passing.rows.bits))
            return self._found(*index.search(queries, k, params=options))
        found = [self._search_lists(queries[at : at + 1], k, passing) for at in range(len(queries))]
        if len(found) == 1:
            return found[0]
        return np.concatenate([rows for rows, _ in found]), np.concatenate([scores for _, scores in found])

    def _search_lists(self, query: Float32, k: int, passing: Passing) -> tuple[Int64, Float32]:
        """Search the nearest lists that have enough rows; then those that are likely to have better than was found."""
        reach, kept = passing.reach, passing.copy
        assert self._lists is not None
        assert reach is not None
        index = self._index if kept is None else kept.kept[0]
        near, order, taken, beyond = self._lists.nearest(query, reach, max(reach.enough, k), self._metric)
        seen = order[:taken]
        rows, scores = self._found(*self._lists.first(index, query, k, reach, seen))
        last = min(k, passing.rows.count) - 1
        # Where fewer were found than there are, no list may be left out.
        least, full = -math.inf, rows[0, last] >= 0
        if full:
            if passing.even:
                return rows, scores
            least = bound(query, float(scores[0, last]), self.plan.wide, self.plan.spread, self._metric)
        if beyond <= least:
            return rows, scores
        likely = near > least
        likely[seen] = True
        if int(reach.counts[likely].sum()) > LOST_SHARE * passing.rows.count:
            # Nothing that passes is near: what is best is spread thin, may be anywhere, and stands out from nothing.
            if kept is None:
                best, exact = self._search_all(query, k, passing.rows)
                return best[None], exact[None]
            likely[:] = True
        likely[seen] = False
        more = likely.nonzero()[0]
        if full and not self._crowded(query, scores[0], last):
            rows, scores = _joined(rows, scores, *self._found(*scan(index, query, k, reach, more)), k)
            if not self._crowded(query, scores[0], last):
                return rows, scores
        seen = np.concatenate([seen, more])
        if kept is None and self._lists.held(reach, seen) > EXACT_SHARE * self.item_count:
            best, exact = self._search_all(query, k, passing.rows)
        else:
            found = scan(index, query, k * RESCORED, reach, seen)[1][0]
            best, exact = self._rescored(query[0], found[found >= 0], k)
        return best[None], exact[None]

    def _crowded(self, query: Float32, scores: Float32, last: int) -> bool:
        """Whether the best by their codes, f32[k], are too near to each other to be told apart by these."""
        wide = deviation(query, float(scores[last]), self.plan.spread, self._metric)
        return bool(scores[0] - scores[last] < CROWDED * wide)

    def _search_all(self, query: Float32, k: int, rows: RowSet) -> tuple[Int64, Float32]:
        """The best k of rows, compared one by one with the vectors themselves."""
        said = np.empty(self.item_count, np.float32)
        measure = faiss.fvec_L2sqr_ny if self._metric == "l2" else faiss.fvec_inner_products_ny
        vectors = np.ascontiguousarray(self._vectors)
        measure(*map(faiss.swig_ptr, (said, query, vectors)), self.dim, len(said))
        if self._metric != "l2":
            np.negative(said, out=said)
        said[~rows.mask()] = np.inf
        best = np.argpartition(said, min(k, len(said)) - 1)[:k]
        return self._rescored(query[0], best[rows.contains(best)], k)

    def _rescored(self, query: Float32, rows: Int64, k: int) -> tuple[Int64, Float32]:
        """The best k of rows by their exact scores, padded: where nothing stands out, codes are too coarse to tell."""
        near = self._vectors[rows]
        if self._metric == "l2":
            exact = -((near - query) ** 2).sum(axis=1)
        else:
            exact = np.einsum("rd,d->r", near, query)
        order = np.argsort(-exact, kind="stable")[:k]
        out_rows, out_scores = np.full(k, -1, np.int64), np.zeros(k, np.float32)
        out_rows[: len(order)], out_scores[: len(order)] = rows[order], exact[order]
        return out_rows, out_scores

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
        # What is padded is padded at the end.
        if len(rows) == 1 and rows[0, -1] >= 0:
            return rows, scores
        return rows, np.where(rows >= 0, scores, np.float32(0.0))

    def write(self, path: Path) -> None:
        """Write the index to a file. Raises OSError when it cannot be written whole."""
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:
            raise OSError(f"{path.name} cannot be written: {error}") from error


def _joined(rows: Int64, scores: Float32, others: Int64, said: Float32, k: int) -> tuple[Int64, Float32]:
    """The best k of two answers [1, k] to a query, each with the best first."""
    both, told = np.concatenate([rows, others], axis=1)[0], np.concatenate([scores, said], axis=1)[0]
    # Padding scores 0, which can be more than the best.
    order = np.where(both >= 0, -told, np.float32(np.inf)).argsort(kind="stable")[:k]
    return both[order][None], told[order][None]


def _first(rows: Int64, scores: Float32, kept: Bool, k: int) -> tuple[Int64, Float32, bool]:
    """The first k of each query that are kept, and whether any query has fewer."""
    out_rows, out_scores = np.full((len(rows), k), -1, np.int64), np.zeros((len(rows), k), np.float32)
    short = False
    for at in range(len(rows)):
        first = np.flatnonzero(kept[at])[:k]
        out_rows[at, : len(first)], out_scores[at, : len(first)] = rows[at, first], scores[at, first]
        short = short or len(first) < k
    return out_rows, out_scores, short


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
