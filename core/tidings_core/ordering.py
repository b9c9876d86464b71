"""From scores to the order of an answer: one rule after another, each told by name with the order that it left."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tidings_core import policy
from tidings_core.controls import Active, Boost, Bury, Keep, Pin, matching
from tidings_core.features import attribute_codes
from tidings_core.model import Diversity, Snapshot
from tidings_core.tables import Bool, Float32, Float64, Int32, Int64, best_first, picked

LAST = np.finfo(np.float32).min
"""The score of what stands behind all others but for a rule that moves it."""
_LAST_PLACES = 1e9
"""Down by so many places is behind whatever else is moved down."""


class Step(NamedTuple):
    """A rule by name, and the order that it left: positions i64[B, K], best first, -1 for no more.

    `users` bool[B] says who it is for; for the others the order is as it was.
    """

    rule: str
    order: Int64
    users: Bool


@dataclass(frozen=True, slots=True)
class Contest:
    """B lists of candidates to put in order: rows i32[B, K], padding -1 last; scores f32[B, K], -inf in the padding.

    may_lead bool[B, K] says which may be put first because they go with the context; None: nobody asks for that.
    """

    rows: Int32
    scores: Float32
    may_lead: Bool | None = None


def order(contest: Contest, diversity: Diversity | None, active: Sequence[Active], snapshot: Snapshot) -> list[Step]:
    """What each rule in turn makes of the order: at first that of the scores, ties by row; the last is the answer's.

    Boosts and buries move places, an item by the first control that wants it moved; then the spread of values, that of
    a control before that of the serving config; then what leads; then pins, which have the last word.
    """
    rows, users = contest.rows, np.ones(len(contest.rows), np.bool_)
    # Padding is last in each list, and stays there.
    made, more = best_first(contest.scores), rows >= 0
    steps = [Step("score", made, users)]
    # These kept items out before there were candidates: the order knows nothing of them.
    steps += [Step(one.control.rule, made, one.users) for one in active if isinstance(one.control.action, Keep)]
    shift = np.zeros(rows.shape)
    for one, by in _shifts(rows, active, snapshot):
        shift += by
        steps.append(Step(one.control.rule, shifted(made, shift, rows), one.users))
    for name, spread, who in _spreads(diversity, active, users):
        codes = attribute_codes(snapshot, spread.attribute, picked(rows, steps[-1].order))
        if codes is not None:
            held = _spread(steps[-1].order, codes, spread.max_per_value, rows)
            steps.append(Step(name, held if who.all() else np.where(who[:, None], held, steps[-1].order), who))
    if contest.may_lead is not None:
        lead = policy.lead(picked(contest.may_lead, steps[-1].order))
        steps.append(Step("complements", picked(steps[-1].order, lead), users))
    steps += _pinned(steps[-1].order, rows, active, snapshot)
    if more.all():
        return steps
    return [Step(rule, np.where(more, found, -1), who) for rule, found, who in steps]


def may_lead(beside: Bool, rows: Int32, context: Int32, snapshot: Snapshot) -> Bool:
    """Which candidates go with the context and are of a category that none of it has: bool[B, K].

    beside bool[B, K] says which were proposed by a source that starts from items; rows i32[B, K], context i32[B, L], -1
    in the padding.
    """
    codes = attribute_codes(snapshot, "category", rows)
    own = attribute_codes(snapshot, "category", context)
    if codes is None or own is None:
        return np.zeros(rows.shape, np.bool_)
    goes_with = beside & (context >= 0).any(axis=1, keepdims=True)
    return goes_with & (codes >= 0) & ~(codes[:, :, None] == own[:, None, :]).any(axis=2)


def shifted(made: Int64, shift: Float64, rows: Int32) -> Int64:
    """An order i64[B, K] with the candidate at each position moved up by shift f64[B, K] places, below 0: down.

    Where two come to one place, the one that moved further up comes first. -1 in `rows` is padding and stays last.
    """
    moves = picked(shift, made)
    padding = picked(rows, made) < 0
    wanted = np.where(padding, np.inf, np.arange(made.shape[1]) - moves)
    return picked(made, np.lexsort((-moves, wanted), axis=1))


def _shifts(rows: Int32, active: Sequence[Active], snapshot: Snapshot) -> Iterator[tuple[Active, Float64]]:
    """By how many places each control moves the candidates that none before it moves: f64[B, K], above 0: up."""
    free = rows >= 0
    for one in active:
        match one.control.action:
            case Boost(items=items, places=count):
                by = float(count)
            case Bury(items=items, places=count):
                by = -(_LAST_PLACES if count is None else float(count))
            case _:
                continue
        mine = free & one.users[:, None] & matching(items, rows, snapshot)
        free &= ~mine
        yield one, np.where(mine, by, 0.0)


def _spreads(
    diversity: Diversity | None, active: Sequence[Active], users: Bool
) -> Iterator[tuple[str, Diversity, Bool]]:
    """The spreads of values, each with the users it is for: each user has one, that of the first control."""
    left = users.copy()
    for one in active:
        if isinstance(one.control.action, Diversity) and (mine := one.users & left).any():
            left &= ~mine
            yield one.control.rule, one.control.action, mine
    if diversity is not None and left.any():
        yield "diversity", diversity, left


def _spread(made: Int64, codes: Int32, max_per_value: int, rows: Int32) -> Int64:
    # Padding has no code, so it is never held back and must not come before what was.
    return picked(made, policy.diversify(codes, max_per_value, rows < 0))


def _pinned(made: Int64, rows: Int32, active: Sequence[Active], snapshot: Snapshot) -> list[Step]:
    """The orders that pins leave, one for each control: what its items and those of the pins before it make of it."""
    pins = [
        (one, snapshot.items.find_many(one.control.action.item_ids), one.control.action.position)
        for one in active
        if isinstance(one.control.action, Pin)
    ]
    taken: list[dict[int, int]] = [{} for _ in rows]
    steps = []
    for one, wanted, position in pins:
        for user in np.flatnonzero(one.users).tolist():
            there = {int(row): at for at, row in enumerate(rows[user].tolist()) if row >= 0}
            at = position - 1
            for row in dict.fromkeys(wanted.tolist()):
                if row in there and there[row] not in taken[user].values():
                    while at in taken[user]:
                        at += 1
                    taken[user][at] = there[row]
                    at += 1
        steps.append(Step(one.control.rule, _with_taken(made, rows, taken), one.users))
    return steps


def _with_taken(made: Int64, rows: Int32, taken: Sequence[dict[int, int]]) -> Int64:
    """An order i64[B, K] with candidates at taken places, the others around them as they were.

    `taken` maps, for each user, a place from 0 to a position of the candidates. Past the last item places close up.
    """
    found = made.copy()
    for user, of_user in enumerate(taken):
        if of_user:
            fixed = np.array(list(of_user.values()), np.int64)
            others = made[user][(rows[user, made[user]] >= 0) & ~np.isin(made[user], fixed)]
            free = np.setdiff1d(np.arange(len(others) + len(fixed)), list(of_user))[: len(others)]
            both = np.concatenate([others, fixed])
            order = np.argsort(np.concatenate([free, list(of_user)]), kind="stable")
            # Padding stays behind them.
            found[user, : len(both)] = both[order]
            found[user, len(both) :] = made[user][rows[user, made[user]] < 0]
    return found
