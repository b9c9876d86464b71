"""The exact beside the approximate: what one query may find, how near each item is, and how much of it was found."""

from dataclasses import dataclass

import numpy as np

from tidings_core import sources
from tidings_core.model import Query, Snapshot
from tidings_core.subjects import Subjects, resolve
from tidings_core.tables import Bool, Float32, Int64

CHUNK = 1 << 16
"""Rows that are compared at once: 16 MB of vectors of 64 dimensions, which is all that is held besides the answer."""

PRECISION = 1e-5
"""Two ways to compute one float32 similarity differ by so much of it at most."""


def may_be_found(subjects: Subjects, user: int, snapshot: Snapshot) -> Bool:
    """Which items may be in the answer of one user of a batch, bool[N]."""
    return subjects.may_one_have(user, np.arange(len(snapshot.items)))


def selected(subjects: Subjects, user: int, snapshot: Snapshot) -> Bool:
    """Which items pass what one query asks of all of them, bool[N]; what one person must not get is among them."""
    only = subjects.selected[user]
    return np.ones(len(snapshot.items), np.bool_) if only is None else only.rows.mask()


def similarities(vector: Float32, snapshot: Snapshot) -> Float32:
    """How near every item is to a vector f32[D] under the release's metric, f32[N]: larger is nearer.

    -inf for an item that has no vector yet.
    """
    found = np.full(len(snapshot.items), -np.inf, np.float32)
    own = (snapshot.base or snapshot).item_vectors
    found[: len(own)] = near(own, vector[:, None], snapshot)[:, 0]
    if snapshot.delta is not None and len(snapshot.delta.vector_rows):
        found[snapshot.delta.vector_rows] = near(snapshot.delta.vectors, vector[:, None], snapshot)[:, 0]
    return found


def near(vectors: Float32, queries: Float32, snapshot: Snapshot) -> Float32:
    """How near vectors f32[M, D] are to queries f32[D, Q] under a snapshot's metric, f32[M, Q]: larger is nearer."""
    found = np.empty((len(vectors), queries.shape[1]), np.float32)
    for start in range(0, len(vectors), CHUNK):
        part = vectors[start : start + CHUNK]
        if snapshot.metric == "l2":
            for at, query in enumerate(queries.T):
                found[start : start + CHUNK, at] = -((part - query) ** 2).sum(axis=1)
        else:
            np.matmul(part, queries, out=found[start : start + CHUNK])
    return found


def rank_among(row: int, scores: Float32, may: Bool) -> int:
    """The place of an item, from 1, among those that may be found, by scores f32[N]; of equal ones the first leads."""
    ahead = scores > scores[row]
    ahead[:row] |= scores[:row] == scores[row]
    return int((ahead & may).sum()) + 1


@dataclass(frozen=True, slots=True)
class Recalled:
    """How much of what it should have found the index found for one query.

    `recall` is the share of the nearest `wanted` items that may be found which is among as many of those found;
    `pass_rate` the share of all items that pass what the query asks of all of them.
    """

    recall: float
    wanted: int
    pass_rate: float


def measure(query: Query, snapshot: Snapshot, now: float, most: int) -> Recalled | None:
    """Ask the source `ann` again as the query did, and compare the best of it, `most` at most, with the exact answer.

    None when the source has nothing to say. A found item counts when it is as near as the last of the exact ones, as
    far as float32 tells. Raises IndexFailed.
    """
    uses = [use for use in query.serving.sources if use.name == "ann"]
    if not uses:
        return None
    subjects, _ = resolve([query], query.serving, snapshot, now)
    if not subjects.has_vector[0]:
        return None
    passing = selected(subjects, 0, snapshot)
    may = may_be_found(subjects, 0, snapshot)
    found = sources.propose("ann", subjects, snapshot, uses[0].k).rows[0]
    scores = np.where(may, similarities(subjects.vectors[0], snapshot), -np.inf)
    wanted = min(most, max(uses[0].k, query.k), int(np.isfinite(scores).sum()))
    if wanted == 0:
        return None
    last = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
    hits = min(_hits(found[found >= 0][:wanted], scores, last - PRECISION * max(1.0, abs(last))), wanted)
    return Recalled(hits / wanted, wanted, float(passing.mean()))


def _hits(found: Int64, scores: Float32, last: float) -> int:
    """How many distinct found rows i64[k] (-1: none) have at least the score `last`."""
    rows = np.unique(found[found >= 0])
    return int((scores[rows] >= last).sum())
