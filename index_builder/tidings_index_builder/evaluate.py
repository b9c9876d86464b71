"""How well a release's index finds what it should, and how fast."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidings_core.errors import InvalidInput
from tidings_core.index import normalise, recall
from tidings_core.model import Index, Snapshot
from tidings_core.release import open_release
from tidings_core.tables import Float32, Int64
from tidings_index_builder.embeddings import Embeddings
from tidings_index_builder.ids import named, rows_of
from tidings_index_builder.progress import Progress, silent
from tidings_index_builder.recall import true_nearest
from tidings_index_builder.table_files import readable

BATCH = 256
TIMED_QUERIES = 1000


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Recall@k of a release for some queries, against exact search or a given truth, and the median µs per query."""

    release_id: str
    queries: int
    k: int
    recall: float
    against: str
    microseconds_per_query: float


def evaluate(
    folder: Path,
    queries: Embeddings,
    k: int,
    truth: Path | None = None,
    *,
    seed: int = 0,
    progress: Progress = silent,
    clock: Callable[[], float] = time.perf_counter,
) -> Evaluation:
    """Measure the index of the release in `folder`; k is cut to the number of items.

    `truth` is a `.npy` file [Q, k or more], the best items of each query first: item rows, or item ids as text.
    Raises NotFound, ReleaseRefused, or InvalidInput.
    """
    if k < 1:
        raise InvalidInput(("k", f"is {k}, must be 1 or more"))
    progress("opening the release")
    release = open_release(folder)
    snapshot, manifest = release.snapshot, release.manifest
    if queries.vectors.shape[1] != manifest.dim:
        raise InvalidInput(
            ("queries", f"have {queries.vectors.shape[1]} dimensions, the release {manifest.release_id} {manifest.dim}")
        )
    k = min(k, manifest.item_count)
    asked = normalise(queries.vectors, manifest.metric)
    right = None if truth is None else _read_truth(truth, snapshot, len(asked), k)
    found = np.concatenate(
        [_search(snapshot.index, asked, start, k, progress) for start in range(0, len(asked), BATCH)]
    )
    if right is not None:
        share = recall(found, right)
    else:
        progress("searching exactly")
        share = true_nearest(snapshot.item_vectors, asked, k, manifest.metric).recall(found)
    progress("measuring speed, one query at a time")
    return Evaluation(
        release_id=manifest.release_id,
        queries=len(asked),
        k=k,
        recall=share,
        against="exact search" if truth is None else str(truth),
        microseconds_per_query=_median_microseconds(snapshot.index, asked, k, seed, clock),
    )


def _search(index: Index, queries: Float32, start: int, k: int, progress: Progress) -> Int64:
    progress("searching", start, len(queries))
    return index.search(queries[start : start + BATCH], k)[0]


def _median_microseconds(index: Index, queries: Float32, k: int, seed: int, clock: Callable[[], float]) -> float:
    rows = np.random.default_rng(seed).permutation(len(queries))[:TIMED_QUERIES]
    times = []
    for row in rows:
        start = clock()
        index.search(queries[row : row + 1], k)
        times.append(clock() - start)
    return float(np.median(times)) * 1e6


def _read_truth(path: Path, snapshot: Snapshot, queries: int, k: int) -> Int64:
    with readable(path, "truth"):
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    if array.ndim != 2 or array.shape[0] != queries or array.shape[1] < k:
        raise InvalidInput(("truth", f"{path} has shape {list(array.shape)}, must be [{queries}, {k} or more]"))
    array = array[:, :k]
    if array.dtype.kind == "U":
        ids = [snapshot.items[row] for row in range(len(snapshot.items))]
        rows = rows_of(array.reshape(-1).tolist(), ids).reshape(array.shape).astype(np.int64)
        unknown = [repr(str(name)) for name in array[rows < 0][:1000]]
        if unknown:
            raise InvalidInput(("truth", f"{path} names {named(unknown)}, which the release does not hold"))
    elif array.dtype.kind in "iu":
        rows = array.astype(np.int64)
        outside = np.argwhere((rows < 0) | (rows >= len(snapshot.items)))
        if len(outside):
            query, place = outside[0]
            raise InvalidInput(
                (
                    "truth",
                    f"{path} has item row {rows[query, place]} for query {query}, "
                    f"must be 0 to {len(snapshot.items) - 1}",
                )
            )
    else:
        raise InvalidInput(("truth", f"{path} holds {array.dtype}, must be whole numbers (item rows) or text (ids)"))
    ordered = np.sort(rows, axis=1)
    twice = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    if len(twice):
        raise InvalidInput(("truth", f"{path} names an item twice for query {twice[0]}"))
    return rows
