"""Candidate sources: functions that propose items for many users at once, and the merge of what they propose.

A source takes the subjects, the snapshot and `k`, and returns Proposals. A new one is a function here, its name in
`SOURCES`, and its use in a serving config.
"""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass

import numpy as np

from tidings_core import text
from tidings_core.exclusions import Exclusions
from tidings_core.model import Snapshot
from tidings_core.subjects import Subjects
from tidings_core.tables import Bool, Float32, Int32, Int64, places

OVERFETCH_LIMIT = 256
"""Up to this many exclusions are fetched on top and dropped; above, the index is told to leave them out."""
SEED_DECAY = np.float32(0.9)
"""Each older item counts this much of the one after it."""
SEARCH_DECAY = 0.5
"""Each older search counts this much of the one after it."""


@dataclass(frozen=True, slots=True)
class Proposals:
    """What one source proposes, best first: rows i64[B, k] padded with -1, scores f32[B, k], larger is better.

    `texts` maps, for each user, a row to the words it rests on; empty for a source that goes by no words.
    """

    rows: Int64
    scores: Float32
    texts: Sequence[Mapping[int, str]] = ()


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
    """Neighbours of the context's items or, without context, of the items liked or bought last; scores add up."""
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


def recent(subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:  # noqa: ARG001 - as every source
    """What was looked at or put into the cart and not bought, newest first; a score is one over the place."""
    width = max(k, *(len(rows) for rows in subjects.unbought))
    rows = np.full((len(subjects.unbought), width), -1, np.int64)
    for user, found in enumerate(subjects.unbought):
        rows[user, : len(found)] = found
    scores = np.where(rows >= 0, 1.0 / np.arange(1.0, width + 1.0), 0.0).astype(np.float32)
    return _drop(rows, scores, subjects.excluded, k)


def search(subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:
    """What fits the searches best; a score is relative to the best of its search, older searches counting less."""
    words = snapshot.words
    assert words is not None

    def found(query: str, number: int, most: int) -> tuple[Int64, Float32]:
        rows, scores = text.search(query, words, most)
        return rows, scores / scores[:1] * np.float32(SEARCH_DECAY**number)

    return _by_text(subjects.searches, found, subjects.excluded, k)


def tagged(subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:
    """The most popular items of the categories, dealt out in turn: the first gets twice as many as the second.

    A score is one over the place within the category, times one over the place of the category.
    """
    categories = snapshot.categories
    assert categories is not None

    def found(name: str, number: int, most: int) -> tuple[Int64, Float32]:
        rows = text.category_items(name, categories, most)
        return rows.astype(np.int64), np.float32(1.0) / (np.arange(1, len(rows) + 1, dtype=np.float32) * (number + 1))

    return _by_text(subjects.categories, found, subjects.excluded, k)


def _by_text(
    texts: Sequence[Sequence[str]],
    found: Callable[[str, int, int], tuple[Int64, Float32]],
    excluded: Exclusions,
    k: int,
) -> Proposals:
    """What `found` finds for each text of each user, `found` being told its number and how many items to find.

    An item of several texts takes its best score, and rests on the text that gave it.
    """
    width = k + int(excluded.sizes.max(initial=0))
    rows = np.full((len(texts), width), -1, np.int64)
    scores = np.zeros(rows.shape, np.float32)
    rest_on: list[Mapping[int, str]] = []
    for user, of_user in enumerate(texts):
        reach = k + int(excluded.sizes[user])
        said = [found(one, number, reach) for number, one in enumerate(of_user)]
        all_rows = np.concatenate([np.empty(0, np.int64), *(part for part, _ in said)])
        all_scores = np.concatenate([np.empty(0, np.float32), *(part for _, part in said)])
        source = np.repeat(np.arange(len(said)), [len(part) for part, _ in said])
        order = np.argsort(-all_scores, kind="stable")
        _, first = np.unique(all_rows[order], return_index=True)
        best = order[np.sort(first)][:reach]
        rows[user, : len(best)], scores[user, : len(best)] = all_rows[best], all_scores[best]
        names = [of_user[number] for number in source[best].tolist()]
        rest_on.append(dict(zip(all_rows[best].tolist(), names, strict=True)))
    kept = _drop(rows, scores, excluded, k)
    return Proposals(kept.rows, kept.scores, rest_on)


Source = Callable[[Subjects, Snapshot, int], Proposals]
SOURCES: Mapping[str, Source] = {
    "ann": ann,
    "similar": similar,
    "trending": trending,
    "recent": recent,
    "search": search,
    "tagged": tagged,
}


def silent(name: str, subjects: Subjects) -> bool:
    """Whether a source has nothing to say to any of the users, so that it need not be asked."""
    said: Mapping[str, Sequence[Sized]] = {
        "recent": subjects.unbought,
        "search": subjects.searches,
        "tagged": subjects.categories,
    }
    return name in said and not any(len(of_user) for of_user in said[name])


def propose(name: str, subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:
    """Ask one source for k items for each user, or for as many as that user's query wants when that is more.

    Each user's proposals are cut to their own number, so that they do not depend on who else is in the batch. Items
    that may not be in a user's answer leave gaps: the others keep their places. Raises IndexFailed.
    """
    numbers = np.minimum(np.maximum(k, subjects.wanted), len(snapshot.items))
    found = SOURCES[name](subjects, snapshot, int(numbers.max()))
    kept = np.arange(found.rows.shape[1]) < numbers[:, None]
    for user, only in enumerate(subjects.within):
        if only is not None:
            kept[user] &= np.isin(found.rows[user], only)
    if snapshot.delta is not None and len(snapshot.delta.deleted):
        kept &= ~places(snapshot.delta.deleted, found.rows)[1]
    return Proposals(np.where(kept, found.rows, -1), np.where(kept, found.scores, np.float32(0.0)), found.texts)


def seeds(subjects: Subjects) -> Int32:
    """The items `similar` starts from, i32[B, L], -1: padding."""
    by_context = subjects.by_context
    width = max(subjects.context.shape[1], subjects.interests.shape[1])
    starts = np.full((len(by_context), width), -1, np.int32)
    starts[by_context, : subjects.context.shape[1]] = subjects.context[by_context]
    starts[~by_context, : subjects.interests.shape[1]] = subjects.interests[~by_context]
    return starts


def _seed_weights(subjects: Subjects, starts: Int32) -> Float32:
    """Weight of each seed f32[B, L]: 1 for the context, decaying with age for interests."""
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
