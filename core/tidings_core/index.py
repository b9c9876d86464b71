"""The vector index: build, open, search. Only this file and division.py import faiss.

Scores are larger for nearer items under every metric: the inner product, the cosine, or minus the squared L2 distance.
"""

from collections.abc import Mapping
from pathlib import Path

import faiss
import numpy as np

from tidings_core import division
from tidings_core.division import Division, Told
from tidings_core.errors import IndexFailed, InvalidInput
from tidings_core.model import Metric
from tidings_core.tables import Float32, Int32, Int64

Parameters = Mapping[str, int]

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


class FaissIndex:
    """A FAISS index over item vectors that answers with rows and larger-is-nearer scores. Read-only once built.

    `key` is the FAISS factory string; `parameters` the search parameters, any of `nprobe` and `efSearch`.
    """

    def __init__(self, index: "faiss.Index", metric: Metric, key: str, parameters: Parameters) -> None:
        self.key = key
        self.parameters = dict(parameters)
        self._index = index
        self._metric: Metric = metric
        self._ivf = isinstance(index, faiss.IndexIVF)
        self._hnsw = isinstance(index, faiss.IndexHNSW)

    @property
    def item_count(self) -> int:
        """Number of items in the index."""
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self._index.d)

    def with_parameters(self, parameters: Parameters) -> "FaissIndex":
        """The same index searched with other parameters."""
        return FaissIndex(self._index, self._metric, self.key, parameters)

    def search(self, queries: Float32, k: int, excluded: Int32 | None = None) -> tuple[Int64, Float32]:
        """Nearest items of queries f32[B, D]: rows i64[B, k] padded with -1, scores f32[B, k] (0 in the padding).

        `excluded` holds item rows i32[E], for all queries, that must not be found. Raises IndexFailed.
        """
        _keep_to_threads()
        options: faiss.SearchParameters | None = None
        selector = None
        if excluded is not None and len(excluded):
            bits = np.zeros((self.item_count + 7) // 8, np.uint8)
            np.bitwise_or.at(bits, excluded >> 3, np.left_shift(1, excluded & 7).astype(np.uint8))
            selector = faiss.IDSelectorNot(faiss.IDSelectorBitmap(bits))
        if self._ivf:
            options = faiss.SearchParametersIVF(sel=selector, nprobe=self.parameters.get("nprobe", 1))
        elif self._hnsw:
            # Looking at fewer than k items would find fewer than k good ones.
            options = faiss.SearchParametersHNSW(sel=selector, efSearch=max(k, self.parameters.get("efSearch", 16)))
        elif selector is not None:
            options = faiss.SearchParameters(sel=selector)
        try:
            scores, rows = self._index.search(np.ascontiguousarray(queries, np.float32), k, params=options)
        except (RuntimeError, AssertionError) as error:
            raise IndexFailed(f"the index could not be searched: {error}") from error
        if self._metric == "l2":
            scores = -scores
        return rows, np.where(rows >= 0, scores, np.float32(0.0))

    def write(self, path: Path) -> None:
        """Write the index to a file. Raises OSError when it cannot be written whole."""
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:
            raise OSError(f"{path.name} cannot be written: {error}") from error


def open_index(path: Path, metric: Metric, key: str, parameters: Parameters) -> FaissIndex:
    """Open an index file, memory-mapped, so that processes share it. Raises IndexFailed when it cannot be read."""
    try:
        # Plain IO_FLAG_MMAP keeps inverted lists on disk and is several times slower; IFC maps them in place.
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise IndexFailed(f"the index file cannot be read: {error}") from error
    expected = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    if index.metric_type != expected:
        raise IndexFailed(f"the index file compares by FAISS metric {index.metric_type}, not by {metric}")
    return FaissIndex(index, metric, key, parameters)


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
    return FaissIndex(index, metric, key, parameters)


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
