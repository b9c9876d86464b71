"""The tables [attribute.NAME] of the settings: what users may have, and what for."""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime

from pydantic import BaseModel, ConfigDict, Field

from tidings_core.declared import BUILT_IN, MAX_TEXT_BYTES, Declaration, Declarations, UserKind
from tidings_core.faults import text_fault
from tidings_server.push_settings import refuse

MAX_ATTRIBUTES = 64
"""So many attributes may be declared, those built in among them."""
MAX_VALUES = 10_000
_BOUNDED: Mapping[UserKind, str] = {"number": "a number", "date": "a day, such as 1900-01-01", "time": "a time"}


class AttributeTable(BaseModel):
    """A table [attribute.NAME]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: UserKind = Field(description="keyword, tags, number, date, time or flag.")
    values: tuple[str, ...] = Field(
        (), max_length=MAX_VALUES, description="Texts it may have, for a keyword or tags; empty for any."
    )
    min: float | datetime | date | None = Field(None, description="The least number, date or time; none for no bound.")
    max: float | datetime | date | None = Field(None, description="The largest number, date or time.")
    past: bool = Field(False, description="Whether a date or time must lie in the past.")
    purpose: str = Field("", max_length=256, description="What it is for, in words.")
    sensitive: bool = Field(False, description="Whether it may be used for nothing that was not allowed.")

    def declaration(self, name: str) -> Declaration:
        """The declaration that this table makes."""
        return Declaration(
            name,
            self.kind,
            self.values,
            _number(self.kind, self.min),
            _number(self.kind, self.max),
            self.past,
            self.purpose,
            self.sensitive,
        )


def attributes_checked(tables: dict[str, AttributeTable]) -> dict[str, AttributeTable]:
    """The tables as they are, if each makes sense. Raises ValidationError."""
    refuse(fault for name, table in tables.items() for fault in _faults(name, table))
    return tables


def declarations(tables: Mapping[str, AttributeTable]) -> Declarations:
    """The built-in declarations as these tables change and add to them."""
    return {**BUILT_IN, **{name: table.declaration(name) for name, table in tables.items()}}


def _faults(name: str, table: AttributeTable) -> Iterator[tuple[tuple[str, ...], str]]:
    kind = table.kind
    if table.values and kind not in ("keyword", "tags"):
        yield (name, "values"), f"is for a keyword or tags, not for a {kind}: leave it out"
    for at, value in enumerate(table.values):
        if problem := text_fault(value, MAX_TEXT_BYTES, 1):
            yield (name, "values", str(at)), problem
    for bound in ("min", "max"):
        given = getattr(table, bound)
        if given is None:
            continue
        if kind not in _BOUNDED:
            yield (name, bound), f"is for a number, a date or a time, not for a {kind}: leave it out"
        elif _number(kind, given) is None:
            yield (name, bound), f"is {given}, must be {_BOUNDED[kind]}"
    if table.past and kind not in ("date", "time"):
        yield (name, "past"), f"is for a date or a time, not for a {kind}: leave it out"
    low, high = _number(kind, table.min), _number(kind, table.max)
    if low is not None and high is not None and low > high:
        yield (name, "min"), f"is {table.min}, above max, which is {table.max}: nothing lies between"


def _number(kind: UserKind, bound: float | date | None) -> float | None:
    """A bound as a Declaration has it; None for none, and for one of another kind."""
    match kind, bound:
        case "number", float() | int() if math.isfinite(bound):
            return float(bound)
        case "time", datetime():
            return (bound if bound.tzinfo else bound.replace(tzinfo=UTC)).timestamp()
        case "date", date() if not isinstance(bound, datetime):
            return float(bound.toordinal())
        case "date", datetime() if bound == datetime(bound.year, bound.month, bound.day):
            return float(bound.toordinal())  # As pydantic reads a day.
    return None
