"""Filters in the settings: tables of the same shape as the messages of the API, checked as those are."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tidings_core.filters import AllOf, AnyOf, Condition, Filter, Is, Range, faults
from tidings_server.push_settings import refuse

TESTS = ("any_of", "all_of", "number", "time", "flag", "filter")


class NumberTable(BaseModel):
    """Bounds of a number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gte: float | None = Field(None, description="At least this.")
    gt: float | None = Field(None, description="More than this.")
    lte: float | None = Field(None, description="At most this.")
    lt: float | None = Field(None, description="Less than this.")


class TimeTable(BaseModel):
    """Bounds of a time; UTC unless they say otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gte: datetime | None = Field(None, description="At this time or later.")
    gt: datetime | None = Field(None, description="Later than this.")
    lte: datetime | None = Field(None, description="At this time or earlier.")
    lt: datetime | None = Field(None, description="Earlier than this.")


class ConditionTable(BaseModel):
    """One condition: an attribute and a test of it, or a filter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attribute: str = Field("", description="Attribute of the catalogue, such as brand or price.")
    any_of: tuple[str, ...] | None = Field(None, description="It, or one of its tags, is one of these texts.")
    all_of: tuple[str, ...] | None = Field(None, description="All of these texts are among its tags.")
    number: NumberTable | None = Field(None, description="It is within gte, gt, lte and lt.")
    time: TimeTable | None = Field(None, description="It is within gte, gt, lte and lt, which are times.")
    flag: bool | None = Field(None, description="It is true, or false.")
    filter: "FilterTable | None" = Field(None, description="Instead of all that: the item passes this filter.")

    @model_validator(mode="after")
    def _one_test(self) -> "ConditionTable":
        given = [name for name in TESTS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"has {' and '.join(given) or 'no test'}; give one of {', '.join(TESTS)}")
        if (self.filter is not None) == bool(self.attribute):
            raise ValueError("must name an attribute" if self.filter is None else "has an attribute beside a filter")
        return self

    @property
    def condition(self) -> Condition:
        """The condition that this table describes."""
        if self.any_of is not None:
            return AnyOf(self.attribute, self.any_of)
        if self.all_of is not None:
            return AllOf(self.attribute, self.all_of)
        if self.number is not None:
            return Range(self.attribute, "number", **self.number.model_dump())
        if self.time is not None:
            bounds = {name: moment and _seconds(moment) for name, moment in self.time.model_dump().items()}
            return Range(self.attribute, "time", **bounds)
        if self.flag is not None:
            return Is(self.attribute, self.flag)
        assert self.filter is not None
        return self.filter.filter


class FilterTable(BaseModel):
    """A filter: what an item must be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    must: tuple[ConditionTable, ...] = Field((), description="Conditions an item must meet, all of them.")
    should: tuple[ConditionTable, ...] | None = Field(None, description="Conditions of which it must meet one.")
    must_not: tuple[ConditionTable, ...] = Field((), description="Conditions of which it must meet none.")

    @property
    def filter(self) -> Filter:
        """The filter that this table describes."""
        should = None if self.should is None else tuple(table.condition for table in self.should)
        return Filter(
            tuple(table.condition for table in self.must), should, tuple(table.condition for table in self.must_not)
        )


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _checked(table: FilterTable) -> FilterTable:
    refuse((_place(place), problem) for place, problem in faults(table.filter))
    return table


def _place(place: str) -> tuple[str | int, ...]:
    """The parts of a place such as must[2].number."""
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"\w+", place))


CheckedFilter = Annotated[FilterTable, AfterValidator(_checked)]
"""A filter that says what can be meant; whether there are such attributes, a release has to say."""
