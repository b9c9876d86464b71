"""Filters: structured conditions over the typed attributes of items, checked, and evaluated on arrays."""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tidings_core.attributes import Attribute, Attributes, Flag, Keyword, Number, Tags, Time, code_of
from tidings_core.faults import Fault, text_fault
from tidings_core.tables import Bool, Int32

MAX_DEPTH = 4
"""A filter may hold filters, which may hold filters, so deep."""
MAX_CONDITIONS = 64
MAX_VALUES = 1000
"""So many conditions, and so many values in all of them, may one filter have."""
MAX_VALUE_BYTES = 256
_CONDITION_BYTES, _POINTER_BYTES = 256, 8
_TOLD = 20
"""So many attributes are named to who asked for one that is not there."""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The item's text is one of these, or one of its tags is."""

    attribute: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of these are among the item's tags."""

    attribute: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The item's number, or its time in Unix seconds, is within bounds; None: no bound."""

    attribute: str
    kind: Literal["number", "time"] = "number"
    gte: float | None = None
    gt: float | None = None
    lte: float | None = None
    lt: float | None = None


@dataclass(frozen=True, slots=True)
class Is:
    """The item's flag is so."""

    attribute: str
    value: bool


@dataclass(frozen=True, slots=True)
class Filter:
    """What an item must be: all of `must`, at least one of `should`, none of `must_not`.

    `should` None asks for nothing. An item that lacks an attribute meets no condition on it, and so passes its
    `must_not`.
    """

    must: tuple["Condition", ...] = ()
    should: "tuple[Condition, ...] | None" = None
    must_not: tuple["Condition", ...] = ()


Condition = AnyOf | AllOf | Range | Is | Filter


def faults(wanted: Filter, attributes: Attributes | None = None, of: str = "item") -> list[Fault]:
    """All that is wrong with a filter, by itself and, when `attributes` are given, for items that have those.

    A fault is named by its place, such as `must[2].number`; "" is the filter as a whole. `of` says what has them.
    """
    found = list(_filter_faults(wanted, "", 1, attributes, of))
    conditions, values = _size(wanted)
    if conditions > MAX_CONDITIONS:
        found.append(("", f"has {conditions} conditions, may have {MAX_CONDITIONS} at most"))
    if values > MAX_VALUES:
        found.append(("", f"has {values} values, may have {MAX_VALUES} at most"))
    return found


def passing(wanted: Filter, attributes: Attributes, count: int) -> Bool:
    """Which of `count` items pass a filter without faults, bool[count]; of an attribute that is not there none has any.

    Every attribute holds `count` items: all of a release, or the few of a delta.
    """
    mask = np.ones(count, np.bool_)
    for condition in wanted.must:
        mask &= _meets(condition, attributes, count)
    if wanted.should is not None:
        some = np.zeros(count, np.bool_)
        for condition in wanted.should:
            some |= _meets(condition, attributes, count)
        mask &= some
    for condition in wanted.must_not:
        mask &= ~_meets(condition, attributes, count)
    return mask


def _meets(condition: Condition, attributes: Attributes, count: int) -> Bool:
    if isinstance(condition, Filter):
        return passing(condition, attributes, count)
    match condition, attributes.get(condition.attribute):
        case AnyOf() | AllOf(), Keyword() as keyword:
            if isinstance(condition, AllOf) and len(set(condition.values)) > 1:
                return np.zeros(count, np.bool_)
            # Code -1 looks at the last place, which is never chosen.
            return _chosen(condition.values, keyword)[keyword.codes]
        case AnyOf(), Tags() as tags:
            return _hits(tags, _chosen(condition.values, tags)) > 0
        case AllOf(), Tags() as tags:
            return _hits(tags, _chosen(condition.values, tags)) == len(set(condition.values))
        case Range(kind="number"), Number(numbers):
            return _within(condition, numbers)
        case Range(kind="time"), Time(seconds):
            return _within(condition, seconds)
        case Is(), Flag(flags):
            return np.asarray(flags == int(condition.value))
    return np.zeros(count, np.bool_)


def _chosen(texts: Sequence[str], attribute: Keyword | Tags) -> Bool:
    """Which codes are among the texts, bool[V + 1]; the last place is for what has no code."""
    chosen = np.zeros(len(attribute.values) + 1, np.bool_)
    codes = [code_of(attribute.values, text) for text in texts]
    chosen[[code for code in codes if code >= 0]] = True
    return chosen


def _hits(tags: Tags, chosen: Bool) -> Int32:
    """How many of its tags are chosen, for each item."""
    ends = np.zeros(len(tags.codes) + 1, np.int32)
    np.cumsum(chosen[tags.codes], out=ends[1:])
    return np.diff(ends[tags.starts])


def _within(bounds: Range, values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Bool:
    mask = ~np.isnan(values)
    if bounds.gte is not None:
        mask &= values >= bounds.gte
    if bounds.gt is not None:
        mask &= values > bounds.gt
    if bounds.lte is not None:
        mask &= values <= bounds.lte
    if bounds.lt is not None:
        mask &= values < bounds.lt
    return np.asarray(mask)


def conditions(wanted: Filter) -> "Iterator[AnyOf | AllOf | Range | Is]":
    """The tests in a filter and in those it holds."""
    for _, condition in _clauses(wanted):
        if isinstance(condition, Filter):
            yield from conditions(condition)
        else:
            yield condition


def _clauses(wanted: Filter) -> Iterator[tuple[str, Condition]]:
    """All conditions of a filter, each with where it stands."""
    for clause, conditions in (("must", wanted.must), ("should", wanted.should or ()), ("must_not", wanted.must_not)):
        for at, condition in enumerate(conditions):
            yield f"{clause}[{at}]", condition


def _size(wanted: Filter) -> tuple[int, int]:
    """The number of conditions and of values in a filter and those it holds."""
    conditions, values = 0, 0
    for _, condition in _clauses(wanted):
        conditions += 1
        if isinstance(condition, Filter):
            inner = _size(condition)
            conditions, values = conditions + inner[0], values + inner[1]
        elif isinstance(condition, AnyOf | AllOf):
            values += len(condition.values)
    return conditions, values


def nbytes(wanted: Filter) -> int:
    """About the bytes of memory that a filter takes: its texts are what counts."""
    found = _CONDITION_BYTES
    for _, condition in _clauses(wanted):
        if isinstance(condition, Filter):
            found += nbytes(condition)
        else:
            found += _CONDITION_BYTES
            if isinstance(condition, AnyOf | AllOf):
                found += sum(_POINTER_BYTES + sys.getsizeof(value) for value in condition.values)
    return found


def _filter_faults(wanted: Filter, at: str, depth: int, attributes: Attributes | None, of: str) -> Iterator[Fault]:
    if depth > MAX_DEPTH:
        yield at, f"is {depth} filters deep, may be {MAX_DEPTH} at most"
        return
    if wanted.should == ():
        yield _join(at, "should"), "is empty, and of nothing none can be met; leave it out or name a condition"
    elif not (wanted.must or wanted.should or wanted.must_not):
        yield at, "is empty; name a condition in must, should or must_not"
    for place, condition in _clauses(wanted):
        where = _join(at, place)
        if isinstance(condition, Filter):
            yield from _filter_faults(condition, _join(where, "filter"), depth + 1, attributes, of)
        else:
            yield from _condition_faults(condition, where, attributes, of)


def _join(at: str, place: str) -> str:
    return f"{at}.{place}" if at else place


_FITS: dict[str, tuple[type[Attribute], ...]] = {
    "any_of": (Keyword, Tags),
    "all_of": (Keyword, Tags),
    "number": (Number,),
    "time": (Time,),
    "flag": (Flag,),
}
_ASKS = {"keyword": "any_of", "tags": "any_of or all_of", "number": "number", "time": "time", "flag": "flag"}
"""How to ask for an attribute of each kind."""


def _condition_faults(
    condition: AnyOf | AllOf | Range | Is, where: str, attributes: Attributes | None, of: str
) -> Iterator[Fault]:
    test = _test(condition)
    if problem := text_fault(condition.attribute, MAX_VALUE_BYTES, 1):
        yield f"{where}.attribute", problem
    elif attributes is not None:
        there = attributes.get(condition.attribute)
        if there is None:
            yield f"{where}.attribute", f"is {condition.attribute!r:.80}, which no {of} has; {_known(attributes)}"
        elif not isinstance(there, _FITS[test]):
            yield f"{where}.{test}", f"is not for {condition.attribute}, a {there.kind}; use {_ASKS[there.kind]}"
        elif isinstance(condition, AllOf) and isinstance(there, Keyword) and len(set(condition.values)) > 1:
            yield f"{where}.all_of", f"asks for several texts of {condition.attribute}, of which one {of} has one"
    if isinstance(condition, AnyOf | AllOf):
        if not condition.values:
            yield f"{where}.{test}", "is empty; name a value"
        for at, value in enumerate(condition.values):
            if problem := text_fault(value, MAX_VALUE_BYTES, 1):
                yield f"{where}.{test}[{at}]", problem
    elif isinstance(condition, Range):
        yield from ((f"{where}.{test}", problem) for problem in _range_faults(condition))


def _test(condition: AnyOf | AllOf | Range | Is) -> str:
    match condition:
        case AnyOf():
            return "any_of"
        case AllOf():
            return "all_of"
        case Range():
            return condition.kind
        case Is():
            return "flag"


def _known(attributes: Attributes) -> str:
    names = [f"{name} ({attribute.kind})" for name, attribute in sorted(attributes.items())]
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return f"there are {', '.join(names[:_TOLD])}{more}" if names else "the release has no attributes"


def _range_faults(bounds: Range) -> Iterator[str]:
    given = {name: getattr(bounds, name) for name in ("gte", "gt", "lte", "lt")}
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        yield "has no bound; give one of gte, gt, lte and lt"
        return
    odd = [f"{name} is {value}" for name, value in given.items() if not math.isfinite(value)]
    if odd:
        yield f"{', '.join(odd)}: a bound must be a finite number"
        return
    for pair in (("gte", "gt"), ("lte", "lt")):
        if all(name in given for name in pair):
            yield f"has both {pair[0]} and {pair[1]}; give one of them"
            return
    low, high = [next((given[name] for name in pair if name in given), None) for pair in (("gte", "gt"), ("lte", "lt"))]
    if low is not None and high is not None and (low > high or (low == high and not {"gte", "lte"} <= given.keys())):
        yield f"lets nothing through: no {bounds.kind} is " + " and ".join(f"{n} {v:g}" for n, v in given.items())
