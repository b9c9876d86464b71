"""What sources propose for many users at once, and the candidates it is merged into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidings_core.tables import Bool, Float32, Int32, Int64, picked, smallest_first

PINNED = "pinned"
"""Stands among the sources of an item that a control put into the answer."""


@dataclass(frozen=True, slots=True)
class Proposals:
    """What one source proposes, best first: rows i64[B, k] padded with -1, scores f32[B, k], larger is better.

    `texts` maps, for each user, a row to the words it rests on; empty for a source that goes by no words.
    """

    rows: Int64
    scores: Float32
    texts: Sequence[Mapping[int, str]] = ()


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
    out[at] = picked(rows, order)[valid]
    by_source = (*at, source[place])
    present = np.zeros((users, width, len(names)), np.bool_)
    present[by_source] = True
    out_scores = np.zeros(present.shape, np.float32)
    out_scores[by_source] = picked(scores, order)[valid]
    out_ranks = np.zeros(present.shape, np.int32)
    out_ranks[by_source] = rank[place]
    return Candidates(tuple(names), out, present, out_scores, out_ranks)


def _groups(rows: Int64) -> tuple[Int64, Bool, Int64]:
    """Sort rows [B, W] and number equal ones: order i64[B, W], valid bool[B, W] and group i64[B, W] in that order."""
    order = smallest_first(rows)
    ordered = picked(rows, order)
    valid = ordered >= 0
    first = valid.copy()
    first[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    return order, valid, np.cumsum(first, axis=1) - 1


def add_up(rows: Int64, scores: Float32) -> tuple[Int64, Float32]:
    """Sum the scores of equal rows, per user: distinct rows i64[B, G] padded with -1, sums f32[B, G]."""
    order, valid, group = _groups(rows)
    users = np.nonzero(valid)[0]
    width = int(group.max(initial=0)) + 1
    flat = users * width + group[valid]
    sums = np.bincount(flat, picked(scores, order)[valid], minlength=len(rows) * width)
    distinct = np.full((len(rows), width), -1, np.int64)
    distinct[users, group[valid]] = picked(rows, order)[valid]
    return distinct, sums.reshape(distinct.shape).astype(np.float32)
