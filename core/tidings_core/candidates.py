"""What sources propose for many users at once, and the candidates it is merged into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidings_core.tables import Bool, Float32, Int32, Int64, ascending, begins

PINNED = "pinned"
"""Stands among the sources of an item that a control put into the answer."""


@dataclass(frozen=True, slots=True)
class Proposals:
    """What one source proposes, best first: rows i64[B, k] padded with -1, scores f32[B, k], larger is better.

    `texts` maps, for each user, a row to the words it rests on; empty for a source that goes by no words. `seeds`
    i32[B, k], of a source that starts from items, are those that name each row most strongly; else None.
    """

    rows: Int64
    scores: Float32
    texts: Sequence[Mapping[int, str]] = ()
    seeds: Int32 | None = None


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
    there = np.flatnonzero(rows >= 0)
    user = there // max(rows.shape[1], 1)
    keys, place = ascending((user << 32) | rows.reshape(-1).take(there), users << 32)
    new = begins(keys)
    user = keys >> 32
    counts = np.bincount(user[new], minlength=users)
    width = int(counts.max(initial=0))
    # Of each proposal its place among the candidates of its user, and from there in the whole.
    slot = np.cumsum(new) - 1 + (np.arange(users) * width - np.cumsum(counts) + counts).take(user)
    out = np.full((users, width), -1, np.int32)
    out.reshape(-1)[slot] = keys
    there = there.take(place)
    column = there % max(rows.shape[1], 1)
    by_source = slot * len(names) + source.take(column)
    present = np.zeros((users, width, len(names)), np.bool_)
    present.reshape(-1)[by_source] = True
    out_scores = np.zeros(present.shape, np.float32)
    out_scores.reshape(-1)[by_source] = scores.reshape(-1).take(there)
    out_ranks = np.zeros(present.shape, np.int32)
    out_ranks.reshape(-1)[by_source] = rank.take(column)
    return Candidates(tuple(names), out, present, out_scores, out_ranks)
