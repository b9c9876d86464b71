"""Filters: what every item of an answer must be.

    tidings.Filter(
        must=[tidings.any_of("brand", "Lumo", "Aurora"), tidings.less_than("price", 20)],
        must_not=[tidings.any_of("categories", "Garden")],
    )

The server knows which attributes there are; it refuses what does not fit them, and says where.
"""

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime

Bound = float | datetime
"""What a number or a time is compared with; a datetime needs a time zone."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of one attribute: `any_of` and `all_of` of texts, bounds, or a flag. Made by the functions beside it."""

    attribute: str
    _: KW_ONLY
    any_of: Sequence[str] | None = None
    all_of: Sequence[str] | None = None
    gte: Bound | None = None
    gt: Bound | None = None
    lte: Bound | None = None
    lt: Bound | None = None
    flag: bool | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """What an item must be: all of `must`, one of `should` (None: asks nothing), none of `must_not`."""

    must: "Sequence[Condition | Filter]" = ()
    should: "Sequence[Condition | Filter] | None" = None
    must_not: "Sequence[Condition | Filter]" = ()


def any_of(attribute: str, *values: str) -> Condition:
    """Return the condition that the attribute, or one of its tags, is one of these texts."""
    return Condition(attribute, any_of=values)


def all_of(attribute: str, *values: str) -> Condition:
    """Return the condition that all of these texts are among the attribute's tags."""
    return Condition(attribute, all_of=values)


def at_least(attribute: str, bound: Bound) -> Condition:
    """Return the condition that a number, or a time, is `bound` or more."""
    return Condition(attribute, gte=bound)


def at_most(attribute: str, bound: Bound) -> Condition:
    """Return the condition that a number, or a time, is `bound` or less."""
    return Condition(attribute, lte=bound)


def more_than(attribute: str, bound: Bound) -> Condition:
    """Return the condition that a number, or a time, is more than `bound`."""
    return Condition(attribute, gt=bound)


def less_than(attribute: str, bound: Bound) -> Condition:
    """Return the condition that a number, or a time, is less than `bound`."""
    return Condition(attribute, lt=bound)


def between(attribute: str, low: Bound, high: Bound) -> Condition:
    """Return the condition that a number, or a time, is `low`, `high` or between them."""
    return Condition(attribute, gte=low, lte=high)


def flag(attribute: str, value: bool = True) -> Condition:
    """Return the condition that a flag is set, or not."""
    return Condition(attribute, flag=value)


_WHERE = re.compile(r"\s*([0-9A-Za-z_][0-9A-Za-z_-]*)\s*(==|!=|<=|>=|=|<|>)\s*(.*?)\s*", re.DOTALL)
_BOUNDS = {"<": less_than, "<=": at_most, ">": more_than, ">=": at_least}


def parse(texts: Sequence[str]) -> Filter | None:
    """Return the filter that all of some short texts ask for, None for none; raises ValueError for one that is none.

    `brand=Lumo,Aurora` is any of these texts and `brand!=Lumo` none of them; `new=true` is a flag; `price<20`,
    `price<=20`, `price>20`, `price>=20` and `price==20` compare a number, or a time: `publish_time>=2024-05-01`.
    """
    must: list[Condition] = []
    must_not: list[Condition] = []
    for text in texts:
        match = _WHERE.fullmatch(text)
        if match is None or not match[3]:
            raise ValueError(f"{text!r} must be such as brand=Lumo,Aurora or price<20 or new=true")
        name, sign, value = match.groups()
        if sign in _BOUNDS:
            must.append(_BOUNDS[sign](name, _bound(value, text)))
        elif sign == "==":
            bound = _bound(value, text)
            must.append(between(name, bound, bound))
        else:
            known = {"true": flag(name), "false": flag(name, False)}.get(value)
            condition = known or any_of(name, *(part.strip() for part in value.split(",")))
            (must if sign == "=" else must_not).append(condition)
    return Filter(must, None, must_not) if must or must_not else None


def _bound(value: str, text: str) -> Bound:
    try:
        return float(value)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{text!r} must compare with a number or a time, such as 20 or 2024-05-01") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
