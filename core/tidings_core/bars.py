"""What keeps an item out of an answer, however well it does: clause by clause, and exclusion by exclusion."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from tidings_core.attributes import Attributes
from tidings_core.controls import Keep
from tidings_core.filters import AllOf, AnyOf, Condition, Filter, Is, Range, passing
from tidings_core.model import Query, Snapshot
from tidings_core.selection import standing
from tidings_core.subjects import Exclusion, Subjects, excluded, history_of
from tidings_core.tables import Int32
from tidings_core.text import category_items

Bar = Literal["deleted", "unavailable", "out_of_stock", "not_published", "expired", "filtered", Exclusion]
"""The item is gone; it may not be sold now, by what always holds; a filter, or the category, lets it not through; it is
excluded.
"""
Barred = tuple[Bar, str]
"""A bar, and a sentence for a person."""

_ALWAYS: dict[str, Barred] = {
    "available": ("unavailable", "the catalogue says that it is not available"),
    "stock": ("out_of_stock", "its stock is 0"),
    "publish_time": ("not_published", "it is not published yet"),
    "expire_time": ("expired", "it has expired"),
}
EXCLUDED: dict[Exclusion, str] = {
    "context": "the answer is about it",
    "example": "it is one of the request's examples",
    "request": "the request excludes it",
    "blocked": "the user asked to see less of it, or of its category",
    "disliked": "the user rated it low",
    "bought": "the user bought it",
    "returned": "the user gave it back",
    "seen": "the user has seen it lately",
}
_SHOWN = 5
"""So many values of a condition are told."""


class Bars:
    """What keeps items out of the answer to one query."""

    def __init__(self, query: Query, subjects: Subjects, snapshot: Snapshot, now: float) -> None:
        """`subjects` are those of the query alone."""
        self._query = query
        self._snapshot = snapshot
        self._now = now
        self._selected = subjects.selected[0]
        person_row = int(snapshot.users.find(query.user_id))
        history = history_of(query.person, person_row, snapshot)
        context = snapshot.items.find_many(query.context_item_ids)
        examples = snapshot.items.find_many([*query.liked_item_ids, *query.disliked_item_ids])
        self._excluded: Sequence[tuple[Exclusion, Int32]] = excluded(
            query, context, examples, history, query.serving, snapshot
        )

    def of(self, row: int) -> tuple[Barred, ...]:
        """All that keeps the item of a row out, strongest first."""
        return (*self._of_all(row), *((why, EXCLUDED[why]) for why, rows in self._excluded if (rows == row).any()))

    def _of_all(self, row: int) -> Iterator[Barred]:
        """What keeps it out of the answer of anybody who asks this."""
        delta = self._snapshot.delta
        if delta is not None and row in delta.deleted:
            yield "deleted", "the shop took it out of the catalogue"
            return
        if self._selected is None or self._selected.rows.contains(np.array([row]))[0]:
            return
        attributes = attributes_of(row, self._snapshot)
        for condition in standing(self._now).must_not:
            assert not isinstance(condition, Filter)
            if _meets(condition, attributes):
                yield _ALWAYS[condition.attribute]
        category = self._query.category if self._query.serving.within_category else ""
        if category and not self._in_category(row, category):
            yield "filtered", f"it is not in the category {category}"
        for whose, wanted in self._filters():
            yield from (("filtered", f"{whose} asks {clause}") for clause in unmet(wanted, attributes))

    def _filters(self) -> Iterator[tuple[str, Filter]]:
        """The filters of the query, each with whose it is."""
        query = self._query
        if query.serving.filter is not None:
            yield f"the filter of the serving config {query.serving.name}", query.serving.filter
        if query.filter is not None:
            yield "the request's filter", query.filter
        for control in self._snapshot.controls:
            meant = control.in_force(query.serving.name, self._now) and control.meant_for(query.category, query.tags)
            if meant and isinstance(control.action, Keep):
                yield f"the control {control.name}", control.action.items

    def _in_category(self, row: int, category: str) -> bool:
        categories = self._snapshot.categories
        if categories is None:
            return False
        return bool((category_items(category, categories, len(self._snapshot.items)) == row).any())


def attributes_of(row: int, snapshot: Snapshot) -> Attributes:
    """The attributes of one item, as arrays of one."""
    delta = snapshot.delta
    if delta is not None:
        at = int(np.searchsorted(delta.rows, row))
        if at < len(delta.rows) and delta.rows[at] == row:
            return {name: held.take(np.array([at], np.int32)) for name, held in delta.attributes.items()}
    return {name: held.take(np.array([row], np.int32)) for name, held in snapshot.attributes.items()}


def unmet(wanted: Filter, attributes: Attributes, at: str = "") -> Iterator[str]:
    """The clauses of a filter that one item does not pass, each by its place and what it asks, inner ones by theirs."""
    for clause, conditions, meets in (("must", wanted.must, True), ("must_not", wanted.must_not, False)):
        for number, condition in enumerate(conditions):
            if _meets(condition, attributes) != meets:
                place = f"{at}{clause}[{number}]"
                if isinstance(condition, Filter) and meets:
                    yield from unmet(condition, attributes, f"{place}.filter.")
                else:
                    yield f"{'' if meets else 'not '}{told(condition)} ({place})"
    if wanted.should is not None and not any(_meets(condition, attributes) for condition in wanted.should):
        yield f"{' or '.join(map(told, wanted.should))} ({at}should)"


def _meets(condition: Condition, attributes: Attributes) -> bool:
    return bool(passing(Filter(must=(condition,)), attributes, 1)[0])


def told(condition: Condition) -> str:
    """A condition in words."""
    match condition:
        case AnyOf(attribute, values):
            return f"{attribute} to be {_listed(values, 'or')}"
        case AllOf(attribute, values):
            return f"{attribute} to have {_listed(values, 'and')}"
        case Range(attribute):
            signs = (("≥", condition.gte), (">", condition.gt), ("≤", condition.lte), ("<", condition.lt))
            return (
                f"{attribute} to be {' and '.join(f'{sign} {bound:g}' for sign, bound in signs if bound is not None)}"
            )
        case Is(attribute, value):
            return f"{attribute} to be {'true' if value else 'false'}"
    return "a filter of its own"


def _listed(values: Sequence[str], joined: str) -> str:
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return f" {joined} ".join(values[:_SHOWN]) + more
