"""Filters over users: the conditions of `filters`, over what is stated of users and over their tags."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tidings_core.attributes import Attributes, Kind, attribute_of, blank
from tidings_core.changes import AttributeValue
from tidings_core.declared import Declarations, UserKind, value_fault
from tidings_core.faults import Fault
from tidings_core.filters import AllOf, AnyOf, Filter, Is, Range, conditions, faults, passing
from tidings_core.tables import Bool
from tidings_core.tag_view import as_seen
from tidings_core.tags import Rule, attributes_of

TAGS = "tags"
"""What a condition on tags names: an attribute of the kind tags, which holds the names of a user's tags."""


def user_filter_faults(
    wanted: Filter, declared: Declarations, rules: Sequence[Rule], barred: Collection[str]
) -> list[Fault]:
    """All that is wrong with a filter over users; none may go by the attributes in `barred`, nor by way of a tag."""
    shapes: Attributes = {name: blank(_kind(one.kind), 0) for name, one in declared.items()}
    found = faults(wanted, {**shapes, TAGS: blank("tags", 0)}, of="user")
    for condition in conditions(wanted):
        name, read = condition.attribute, frozenset({condition.attribute})
        if name == TAGS:
            read = attributes_of(_texts(condition), rules)
        if closed := sorted(read & set(barred)):
            found.append(("", f"goes by {' and '.join(closed)}: sensitive, and not among privacy.allow_sensitive"))
    return found


def tags_in(wanted: Filter) -> frozenset[str]:
    """The names of the tags that a filter asks for."""
    return frozenset(text for one in conditions(wanted) if one.attribute == TAGS for text in _texts(one))


def users_passing(
    wanted: Filter,
    stated: Sequence[Mapping[str, AttributeValue]],
    tags: Sequence[Collection[str]],
    declared: Declarations,
    now: float,
) -> Bool:
    """Which users pass a filter without faults, bool[U]: by what is stated of each, and the tags of each.

    A value that is not as declared any more is none. `now` is Unix seconds.
    """
    columns: dict[str, Any] = {TAGS: attribute_of("tags", [tuple(of_user) for of_user in tags])}
    for name in {one.attribute for one in conditions(wanted)} & declared.keys():
        declaration = declared[name]
        values = []
        for of_user in stated:
            value = of_user.get(name)
            fits = value is not None and not value_fault(declaration, value, now)
            seen = as_seen(declaration.kind, value) if fits and value is not None else None
            values.append(seen / 1000 if seen is not None and _kind(declaration.kind) == "time" else seen)
        columns[name] = attribute_of(_kind(declaration.kind), values)
    return passing(wanted, columns, len(stated))


def _texts(condition: AnyOf | AllOf | Range | Is) -> tuple[str, ...]:
    return condition.values if isinstance(condition, AnyOf | AllOf) else ()


def _kind(kind: UserKind) -> Kind:
    """The kind of an item's attribute that a filter takes a user's for: a day is the moment it begins at."""
    return "time" if kind == "date" else kind
