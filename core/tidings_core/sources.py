"""Candidate sources: functions that propose items for many users at once, and the merge of what they propose.

A source takes the subjects, the snapshot and `k`, and returns Proposals. A new one is a function here, its name in
`SOURCES`, and its use in a serving config.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidings_core.exclusions import Exclusions
from tidings_core.features import HistoryBlock
from tidings_core.model import Snapshot
from tidings_core.tables import Bool, Float32, Int32, Int64

OVERFETCH_LIMIT = 256
"""Up to this many exclusions are fetched on top and dropped; above, the index is told to leave them out."""
SEEDS = 10
"""`similar` starts from the context, or from the newest 10 items of the history."""
SEED_DECAY = np.float32(0.9)
"""Each older item of a history counts this much of the one after it."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """Who an answer is for: B users as arrays.

    vectors f32[B, D] and has_vector bool[B]; context i32[B, L] item rows the answer is about (-1: padding); wanted
    i64[B] the number of items asked for.
    """

    vectors: Float32
    has_vector: Bool
    history: HistoryBlock
    context: Int32
    excluded: Exclusions
    wanted: Int64

    @property
    def personal(self) -> Bool:
        """Of whom something is known, a vector or a history: bool[B]."""
        return self.has_vector | self.history.known[:, 0]

    @property
    def by_context(self) -> Bool:
        """Who has a context item that is known: bool[B]."""
        return np.asarray((self.context >= 0).any(axis=1), np.bool_)


@dataclass(frozen=True, slots=True)
class Proposals:
    """What one source proposes, best first: rows i64[B, k] padded with -1, scores f32[B, k], larger is better."""

    rows: Int64
    scores: Float32


def ann(subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:
    """Items nearest to the user's vector. Raises IndexFailed."""
    rows = np.full((len(subjects.vectors), k), -1, np.int64)
    scores = np.zeros((len(subjects.vectors), k), np.float32)
    few = subjects.has_vector & (subjects.excluded.sizes <= OVERFETCH_LIMIT)
    if few.any():
        extra = int(subjects.excluded.sizes[few].max())
        found_rows = np.full((len(subjects.vectors), k + extra), -1, np.int64)
        found_scores = np.zeros(found_rows.shape, np.float32)
        found_rows[few], found_scores[few] = snapshot.index.search(subjects.vectors[few], k + extra)
        kept = _drop(found_rows, found_scores, subjects.excluded, k)
        rows[few], scores[few] = kept.rows[few], kept.scores[few]
    for user in np.flatnonzero(subjects.has_vector & ~few):
        found = snapshot.index.search(subjects.vectors[user : user + 1], k, subjects.excluded.of_user(int(user)))
        rows[user], scores[user] = found[0][0], found[1][0]
    return Proposals(rows, scores)


def similar(subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:
    """Neighbours of the context's items or, without context, of the newest items of the history; scores add up."""
    assert snapshot.neighbours is not None
    starts = seeds(subjects)
    weights = _seed_weights(subjects, starts)
    near = snapshot.neighbours.rows[np.maximum(starts, 0)].astype(np.int64)
    said = snapshot.neighbours.scores[np.maximum(starts, 0)] * weights[:, :, None]
    near = np.where((starts >= 0)[:, :, None], near, -1).reshape(len(starts), -1)
    rows, totals = _add_up(near, said.reshape(near.shape))
    order = np.argsort(-np.where(rows >= 0, totals, -np.inf), axis=1, kind="stable")
    rows, totals = np.take_along_axis(rows, order, 1), np.take_along_axis(totals, order, 1)
    return _drop(rows, totals, subjects.excluded, k)


def trending(subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:
    """Items bought by many lately; the same for everyone but for the exclusions."""
    assert snapshot.trending is not None
    users = len(subjects.vectors)
    reach = min(len(snapshot.trending.rows), k + int(subjects.excluded.sizes.max(initial=0)))
    rows = np.broadcast_to(snapshot.trending.rows[:reach].astype(np.int64), (users, reach))
    scores = np.broadcast_to(snapshot.trending.scores[:reach], (users, reach))
    return _drop(rows, scores, subjects.excluded, k)


Source = Callable[[Subjects, Snapshot, int], Proposals]
SOURCES: Mapping[str, Source] = {"ann": ann, "similar": similar, "trending": trending}


def propose(name: str, subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:
    """Ask one source for k items for each user, or for as many as that user's query wants when that is more.

    Each user's proposals are cut to their own number, so that they do not depend on who else is in the batch. Raises
    IndexFailed.
    """
    numbers = np.minimum(np.maximum(k, subjects.wanted), len(snapshot.items))
    found = SOURCES[name](subjects, snapshot, int(numbers.max()))
    within = np.arange(found.rows.shape[1]) < numbers[:, None]
    return Proposals(np.where(within, found.rows, -1), np.where(within, found.scores, np.float32(0.0)))


def seeds(subjects: Subjects) -> Int32:
    """The items `similar` starts from, i32[B, L], -1: padding."""
    by_context = subjects.by_context
    width = max(subjects.context.shape[1], min(SEEDS, subjects.history.rows.shape[1]))
    starts = np.full((len(by_context), width), -1, np.int32)
    starts[by_context, : subjects.context.shape[1]] = subjects.context[by_context]
    newest = subjects.history.rows[~by_context, : min(SEEDS, width)]
    starts[~by_context, : newest.shape[1]] = newest
    return starts


def _seed_weights(subjects: Subjects, starts: Int32) -> Float32:
    """Weight of each seed f32[B, L]: 1 for the context, decaying with age for a history."""
    by_context = subjects.by_context
    decay = SEED_DECAY ** np.arange(starts.shape[1], dtype=np.float32)
    return np.where(by_context[:, None], np.float32(1.0), decay[None, :]).astype(np.float32)


def _drop(rows: Int64, scores: Float32, excluded: Exclusions, k: int) -> Proposals:
    """Take excluded rows out, close the gaps keeping the order, and cut or pad to k columns."""
    kept = (rows >= 0) & ~excluded.contains(rows)
    order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    rows = np.where(np.take_along_axis(kept, order, 1), np.take_along_axis(rows, order, 1), -1)
    scores = np.where(rows >= 0, np.take_along_axis(scores, order, 1), np.float32(0.0))
    if rows.shape[1] < k:
        short = ((0, 0), (0, k - rows.shape[1]))
        rows, scores = np.pad(rows, short, constant_values=-1), np.pad(scores, short)
    return Proposals(rows, scores)


def _groups(rows: Int64) -> tuple[Int64, Bool, Int64]:
    """Sort rows [B, W] and number equal ones: order i64[B, W], valid bool[B, W] and group i64[B, W] in that order."""
    order = np.argsort(rows, axis=1)
    ordered = np.take_along_axis(rows, order, 1)
    valid = ordered >= 0
    first = valid.copy()
    first[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    return order, valid, np.cumsum(first, axis=1) - 1


def _add_up(rows: Int64, scores: Float32) -> tuple[Int64, Float32]:
    """Sum the scores of equal rows, per user: distinct rows i64[B, G] padded with -1, sums f32[B, G]."""
    order, valid, group = _groups(rows)
    users = np.nonzero(valid)[0]
    width = int(group.max(initial=0)) + 1
    flat = users * width + group[valid]
    sums = np.bincount(flat, np.take_along_axis(scores, order, 1)[valid], minlength=len(rows) * width)
    distinct = np.full((len(rows), width), -1, np.int64)
    distinct[users, group[valid]] = np.take_along_axis(rows, order, 1)[valid]
    return distinct, sums.reshape(distinct.shape).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The distinct items proposed for B users, in row order.

    rows i32[B, K] (-1: padding); for each of the S `sources`: present bool[B, K, S], scores f32[B, K, S] (0 where not
    present), ranks i32[B, K, S] place in that source from 0.
    """

    sources: tuple[str, ...]
    rows: Int32
    present: Bool
    scores: Float32
    ranks: Int32


def merge(names: Sequence[str], proposals: Sequence[Proposals], users: int) -> Candidates:
    """Join what several sources proposed for the same B users."""
    widths = [proposal.rows.shape[1] for proposal in proposals]
    rows = np.concatenate([np.empty((users, 0), np.int64), *(p.rows for p in proposals)], axis=1)
    scores = np.concatenate([np.empty((users, 0), np.float32), *(p.scores for p in proposals)], axis=1)
    source = np.repeat(np.arange(len(names)), widths)
    rank = np.concatenate([np.empty(0, np.int64), *(np.arange(width) for width in widths)]).astype(np.int32)
    order, valid, group = _groups(rows)
    width = int(group.max(initial=-1)) + 1
    at = (np.nonzero(valid)[0], group[valid])
    place = order[valid]
    out = np.full((users, width), -1, np.int32)
    out[at] = np.take_along_axis(rows, order, 1)[valid]
    by_source = (*at, source[place])
    present = np.zeros((users, width, len(names)), np.bool_)
    present[by_source] = True
    out_scores = np.zeros(present.shape, np.float32)
    out_scores[by_source] = np.take_along_axis(scores, order, 1)[valid]
    out_ranks = np.zeros(present.shape, np.int32)
    out_ranks[by_source] = rank[place]
    return Candidates(tuple(names), out, present, out_scores, out_ranks)
