"""Controls: the shop's dated rules over answers.

A boost moves items up by places and a bury moves them down, not by a factor of their scores: scores of a ranker and of
fusion have no scale in common, and may lie below zero, where a factor above one is a fall. A place is a place whatever
scored.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tidings_core.attributes import keyword
from tidings_core.faults import Fault
from tidings_core.filters import Filter, faults, passing
from tidings_core.model import Diversity, Query, Snapshot
from tidings_core.tables import Bool, Int32, Int64, places
from tidings_core.text import category_items, fold

Kind = Literal["boost", "bury", "pin", "filter", "diversify"]


@dataclass(frozen=True, slots=True)
class Boost:
    """Items that pass come so many places further up."""

    items: Filter
    places: int


@dataclass(frozen=True, slots=True)
class Bury:
    """Items that pass come so many places further down; None: after all others. None of them is left out."""

    items: Filter
    places: int | None = None


@dataclass(frozen=True, slots=True)
class Pin:
    """These items stand at `position` (from 1) and the positions after it, if they may be in the answer at all."""

    item_ids: tuple[str, ...]
    position: int = 1


@dataclass(frozen=True, slots=True)
class Keep:
    """Only items that pass may be in the answer."""

    items: Filter


Action = Boost | Bury | Pin | Keep | Diversity
_KINDS: dict[type[Action], Kind] = {Boost: "boost", Bury: "bury", Pin: "pin", Keep: "filter", Diversity: "diversify"}


@dataclass(frozen=True, slots=True)
class Control:
    """A rule: what it does, to which answers, and when.

    `serving_configs` and `categories` name those it is for, empty: all; a category must be the query's own. Of `tags`,
    or families of them, the user must have one, empty: everybody. It is in force from `start` up to but not at `end`,
    in Unix seconds. Where two want different things of one item, one position, or one spread of values, the larger
    `priority` has its way, then the name that comes first.
    """

    name: str
    action: Action
    serving_configs: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    start: float = -math.inf
    end: float = math.inf
    priority: int = 0

    @property
    def kind(self) -> Kind:
        """What kind of rule it is."""
        return _KINDS[type(self.action)]

    @property
    def rule(self) -> str:
        """Its name among the rules of an answer."""
        return f"{self.kind}:{self.name}"

    def in_force(self, serving_config: str, now: float) -> bool:
        """Whether it is in force for answers of a serving config, at `now` (Unix seconds)."""
        return self.start <= now < self.end and (not self.serving_configs or serving_config in self.serving_configs)

    def meant_for(self, category: str, tags: Collection[str] = ()) -> bool:
        """Whether it is for a query of this category, "" for one of none, of a user with these tags and families."""
        if self.tags and not any(tag in tags for tag in self.tags):
            return False
        return not self.categories or (bool(category) and fold(category) in {fold(name) for name in self.categories})


@dataclass(frozen=True, slots=True)
class Active:
    """A control in force, and for which of B users: bool[B]."""

    control: Control
    users: Bool


def ordered(controls: Iterable[Control]) -> tuple[Control, ...]:
    """Controls in the order in which they have their way."""
    return tuple(sorted(controls, key=lambda control: (-control.priority, control.name)))


def unfit(control: Control, snapshot: Snapshot) -> Sequence[Fault]:
    """What of a control means nothing for a snapshot: attributes that it lacks, or has of another kind."""
    match control.action:
        case Boost(items=items) | Bury(items=items) | Keep(items=items):
            found = faults(items, snapshot.attributes)
            return [(f"items.{place}" if place else "items", problem) for place, problem in found]
        case Diversity(attribute=name):
            if keyword(snapshot.attributes, name) is None:
                return [("attribute", f"is {name!r}, and the release has no text attribute of that name")]
    return []


def idle(control: Control, snapshot: Snapshot) -> Sequence[Fault]:
    """What of a control finds nothing in a snapshot: items, categories, or whatever its filter lets through.

    It fits all the same: the items may come, and a misspelt name looks just like this.
    """
    found: list[Fault] = []
    match control.action:
        case Pin(item_ids=item_ids):
            rows = snapshot.items.find_many(item_ids).tolist()
            found += [
                (f"item_ids[{at}]", f"is {name!r}, and the release has no such item")
                for at, (name, row) in enumerate(zip(item_ids, rows, strict=True))
                if row < 0
            ]
        case Boost(items=items) | Bury(items=items) | Keep(items=items):
            if not passing(items, snapshot.attributes, len(snapshot.items)).any():
                found.append(("items", "lets through no item of the release"))
    for at, name in enumerate(control.categories):
        if snapshot.categories is None or not len(category_items(name, snapshot.categories, 1)):
            found.append((f"categories[{at}]", f"is {name!r}, and the release has no item of such a category"))
    return found


def active(
    controls: Sequence[Control],
    serving_config: str,
    asked: Sequence[tuple[str, Collection[str]]],
    now: float,
) -> list[Active]:
    """The controls in force for queries of one serving config, in the order given.

    `asked` holds the category of each query, and the tags of its user.
    """
    found = []
    for control in controls:
        if control.in_force(serving_config, now):
            users = np.array([control.meant_for(category, tags) for category, tags in asked], np.bool_)
            if users.any():
                found.append(Active(control, users))
    return found


def narrowed(query: Query, controls: Sequence[Control], now: float) -> Query:
    """A query that asks for what passes its own filter and those of the controls that are in force for it."""
    wanted = [
        control.action.items
        for control in controls
        if isinstance(control.action, Keep)
        and control.in_force(query.serving.name, now)
        and control.meant_for(query.category, query.tags)
    ]
    if not wanted:
        return query
    own = () if query.filter is None else (query.filter,)
    return replace(query, filter=Filter(must=(*own, *wanted)))


def pinned_rows(active: Sequence[Active], snapshot: Snapshot, users: int) -> Int64:
    """The rows that pins want in the answers of B users, i64[B, P], -1: none."""
    pins = [(one.users, one.control.action.item_ids) for one in active if isinstance(one.control.action, Pin)]
    wanted = [np.where(who[:, None], snapshot.items.find_many(ids)[None, :], -1) for who, ids in pins]
    return np.concatenate([np.empty((users, 0), np.int64), *wanted], axis=1).astype(np.int64)


def matching(wanted: Filter, rows: Int32, snapshot: Snapshot) -> Bool:
    """Which of rows (any shape, -1: padding) hold items that pass a filter: bool of that shape."""
    distinct, at = np.unique(rows, return_inverse=True)
    return _passing_at(wanted, distinct.astype(np.int32), snapshot)[at].reshape(rows.shape) & (rows >= 0)


def _passing_at(wanted: Filter, rows: Int32, snapshot: Snapshot) -> Bool:
    base = snapshot.attributes
    count = len((snapshot.base or snapshot).items)
    held = np.where(rows < count, rows, np.int32(-1))
    mask = passing(wanted, {name: attribute.take(held) for name, attribute in base.items()}, len(rows))
    if snapshot.delta is not None and len(snapshot.delta.rows):
        found, changed = places(snapshot.delta.rows, rows)
        if changed.any():
            own = {name: attribute.take(found[changed]) for name, attribute in snapshot.delta.attributes.items()}
            mask[changed] = passing(wanted, own, int(changed.sum()))
    return mask
