"""What other controls would make of recent answers: their recorded candidates put in order anew, under each in turn."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tidings_core.candidates import PINNED
from tidings_core.controls import Active, Control, Keep, active, matching, pinned_rows
from tidings_core.model import ServingConfig, Snapshot
from tidings_core.ordering import LAST, Contest, may_lead, order
from tidings_core.sources import starts_from_items
from tidings_core.tables import Bool, Float32, Int32

ITEMS = 10
"""So many of the items that come more often, and less often, are told."""
EXAMPLES = 3
"""So many of the answers that change are shown."""


@dataclass(frozen=True, slots=True)
class ControlEffect:
    """One of the new controls: for how many answers it is in force, and how many would be others without it.

    Only answers that change at all are counted in `changed`, and it is 0 for a control that is among the old ones.
    """

    name: str
    kind: str
    in_force: int
    changed: int


@dataclass(frozen=True, slots=True)
class ItemEffect:
    """An item whose place changes: in how many of the answers it stands before and after."""

    item_id: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Example:
    """An answer that changes: whose, of which serving config, and the items before and after."""

    decision_id: str
    user_id: str
    serving_config: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What would change. Fits JSON after `dataclasses.asdict`.

    `answers` are those compared; `left_out` were recorded of a serving config that is no more, or hold no item that the
    release knows. `added` and `gone` count items that come into or fall out of an answer; `moved` those that stay and
    change place. `more` and `fewer` are the items that come more and less often, the most so first.
    """

    answers: int = 0
    left_out: int = 0
    changed: int = 0
    added: int = 0
    gone: int = 0
    moved: int = 0
    controls: tuple[ControlEffect, ...] = ()
    more: tuple[ItemEffect, ...] = ()
    fewer: tuple[ItemEffect, ...] = ()
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class _Recorded:
    """One recorded answer in the terms of a snapshot: candidates i32[K], ascending, with scores f32[K].

    beside bool[K]: a source that starts from items proposed it; alone bool[K]: only a pin did. barred i32 rows must not
    be in the answer.
    """

    decision: Mapping[str, Any]
    serving: ServingConfig
    k: int
    category: str
    tags: Collection[str]
    rows: Int32
    scores: Float32
    beside: Bool
    alone: Bool
    context: Int32
    barred: Int32


@dataclass(slots=True)
class _Tally:
    changed: int = 0
    added: int = 0
    gone: int = 0
    moved: int = 0
    before: Counter[int] = field(default_factory=Counter)
    after: Counter[int] = field(default_factory=Counter)
    in_force: Counter[str] = field(default_factory=Counter)
    changing: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)


def preview(
    decisions: Iterable[Mapping[str, Any]],
    old: Sequence[Control],
    new: Sequence[Control],
    serving_configs: Mapping[str, ServingConfig],
    snapshot: Snapshot,
    now: float,
) -> Preview:
    """Compare recorded decisions, as `read_record` gives them, under the old and the new controls, at `now` (Unix s).

    Both in the order in which they have their way, and fit for the snapshot. A decision without candidates is passed
    over. What a filter takes out of an answer is followed by the recorded candidates that are left: what the sources
    would find in its place is not known. Nor is what a user bought, so a pin may be told of that will not come.
    """
    tally, answers, left_out = _Tally(), 0, 0
    for decision in decisions:
        if "candidates" not in decision:
            continue
        recorded = _recorded(decision, serving_configs, snapshot)
        if recorded is None:
            left_out += 1
            continue
        answers += 1
        _compare(recorded, old, new, snapshot, now, tally)
    change = {row: tally.after[row] - tally.before[row] for row in {*tally.before, *tally.after}}
    ranked = sorted(change, key=lambda row: (-abs(change[row]), row))
    effects = [(change[row], ItemEffect(snapshot.items[row], tally.before[row], tally.after[row])) for row in ranked]
    return Preview(
        answers=answers,
        left_out=left_out,
        changed=tally.changed,
        added=tally.added,
        gone=tally.gone,
        moved=tally.moved,
        controls=tuple(
            ControlEffect(one.name, one.kind, tally.in_force[one.name], tally.changing[one.name]) for one in new
        ),
        more=tuple(effect for by, effect in effects if by > 0)[:ITEMS],
        fewer=tuple(effect for by, effect in effects if by < 0)[:ITEMS],
        examples=tuple(tally.examples),
    )


def _recorded(
    decision: Mapping[str, Any], serving_configs: Mapping[str, ServingConfig], snapshot: Snapshot
) -> _Recorded | None:
    """A decision in the terms of a snapshot; None when it says nothing there."""
    candidates, question = decision["candidates"], decision.get("question") or {}
    serving = serving_configs.get(decision["serving_config"])
    rows = snapshot.items.find_many(candidates["item_ids"])
    if serving is None or not (rows >= 0).any():
        return None
    # By row, since equal scores go by row.
    by_row = np.argsort(rows, kind="stable")
    by_row = by_row[rows[by_row] >= 0]
    proposed = {
        name: np.array([one is not None for one in said], np.bool_)[by_row]
        for name, said in candidates["sources"].items()
    }
    alone = ~_any([said for name, said in proposed.items() if name != PINNED], len(by_row))
    context = snapshot.items.find_many(question.get("context_item_ids", []))
    excluded = snapshot.items.find_many(question.get("exclude_item_ids", []))
    return _Recorded(
        decision,
        serving,
        decision["k"],
        question.get("category", ""),
        question.get("tags", ()),
        rows[by_row],
        np.where(alone, LAST, np.array(candidates["scores"], np.float32)[by_row]),
        _any([said for name, said in proposed.items() if starts_from_items(name)], len(by_row)),
        alone,
        context[context >= 0],
        np.concatenate([context, excluded]),
    )


def _any(columns: Sequence[Bool], count: int) -> Bool:
    return np.asarray(np.any([*columns, np.zeros(count, np.bool_)], axis=0), np.bool_)


def _compare(
    recorded: _Recorded,
    old: Sequence[Control],
    new: Sequence[Control],
    snapshot: Snapshot,
    now: float,
    tally: _Tally,
) -> None:
    before, after = (_answer(recorded, controls, snapshot, now) for controls in (old, new))
    tally.before.update(before)
    tally.after.update(after)
    in_force = _active(recorded, new, now)
    tally.in_force.update(one.control.name for one in in_force)
    if before == after:
        return
    tally.changed += 1
    tally.added += len(set(after) - set(before))
    tally.gone += len(set(before) - set(after))
    tally.moved += sum(after.index(row) != at for at, row in enumerate(before) if row in after)
    for one in in_force:
        others = [control for control in new if control.name != one.control.name]
        if one.control not in old and _answer(recorded, others, snapshot, now) != after:
            tally.changing[one.control.name] += 1
    if len(tally.examples) < EXAMPLES:
        names = [tuple(snapshot.items[row] for row in rows) for rows in (before, after)]
        tally.examples.append(
            Example(
                recorded.decision["decision_id"],
                recorded.decision["user_id"],
                recorded.serving.name,
                names[0],
                names[1],
            )
        )


def _active(recorded: _Recorded, controls: Sequence[Control], now: float) -> list[Active]:
    return active(controls, recorded.serving.name, [(recorded.category, recorded.tags)], now)


def _answer(recorded: _Recorded, controls: Sequence[Control], snapshot: Snapshot, now: float) -> list[int]:
    """The rows of the answer that controls make of recorded candidates."""
    in_force = _active(recorded, controls, now)
    recorded = _with_pins(recorded, in_force, snapshot)
    kept = np.ones(len(recorded.rows), np.bool_)
    for one in in_force:
        if isinstance(one.control.action, Keep):
            kept &= matching(one.control.action.items, recorded.rows, snapshot)
    rows, scores = recorded.rows[kept][None, :], recorded.scores[kept][None, :]
    lead = None
    if recorded.serving.complements:
        lead = may_lead(recorded.beside[kept][None, :], rows, recorded.context[None, :], snapshot)
    contest = Contest(rows, scores, lead)
    made = order(contest, recorded.serving.diversity, in_force, snapshot)[-1].order[0]
    found: list[int] = rows[0, made[made >= 0]][: recorded.k].tolist()
    return found


def _with_pins(recorded: _Recorded, in_force: Sequence[Active], snapshot: Snapshot) -> _Recorded:
    """The candidates with what is pinned and was none, behind all others but for its pin; without what only an old pin
    brought in.
    """
    pinned = np.unique(pinned_rows(in_force, snapshot, 1)).astype(np.int32)
    new = pinned[(pinned >= 0) & ~np.isin(pinned, recorded.rows) & ~np.isin(pinned, recorded.barred)]
    kept = ~recorded.alone | np.isin(recorded.rows, pinned)
    rows = np.concatenate([recorded.rows[kept], new])
    scores = np.concatenate([recorded.scores[kept], np.full(len(new), LAST, np.float32)])
    beside = np.concatenate([recorded.beside[kept], np.zeros(len(new), np.bool_)])
    by_row = np.argsort(rows, kind="stable")
    return replace(recorded, rows=rows[by_row], scores=scores[by_row], beside=beside[by_row])
