"""The table [cleaning] of the settings: whose events, and which, stand in the log and count for nothing."""

import time
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tidings_core.changes import AttributeValue
from tidings_core.cleaning import EVENTS_PER_DAY, EVENTS_PER_MINUTE, Cleaning, Whose
from tidings_core.declared import Declarations, values_faults
from tidings_core.events import id_fault
from tidings_core.faults import text_fault
from tidings_server.push_settings import refuse

MAX_IDS = 10_000
MAX_PATTERNS = 100
MAX_PATTERN_BYTES = 256
_WHOSE = ("bots", "tests")

Value = Annotated[
    str | bool | float | tuple[str, ...],
    BeforeValidator(lambda given: tuple(given) if isinstance(given, list) else given),
]


class WhoseTable(BaseModel):
    """A table [cleaning.bots] or [cleaning.tests]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ids: tuple[str, ...] = Field((), max_length=MAX_IDS, description=f"Ids of users, {MAX_IDS:,} at most.")
    patterns: tuple[str, ...] = Field(
        (), max_length=MAX_PATTERNS, description='Patterns of ids, such as "qa-*"; * is any text, ? any one character.'
    )
    attributes: dict[str, Value] = Field({}, description="Values of attributes: who has one of them is meant.")

    @property
    def whose(self) -> Whose:
        """The users that this table means."""
        attributes: dict[str, AttributeValue] = dict(self.attributes)
        return Whose(frozenset(self.ids), self.patterns, attributes)


_NOBODY = WhoseTable.model_validate({})


class CleaningTable(BaseModel):
    """The table [cleaning]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events_per_minute: int = Field(
        EVENTS_PER_MINUTE, ge=0, le=1_000_000, description="Events of one user and minute that count; 0: all."
    )
    events_per_day: int = Field(
        EVENTS_PER_DAY, ge=0, le=100_000_000, description="Events of one user and day that a person can do; 0: any."
    )
    bots: WhoseTable = Field(_NOBODY, description="Table [cleaning.bots]: users who are no persons.")
    tests: WhoseTable = Field(_NOBODY, description="Table [cleaning.tests]: users with whom the shop tries itself.")

    @property
    def rules(self) -> Cleaning:
        """The rules that this table makes."""
        return Cleaning(self.bots.whose, self.tests.whose, self.events_per_minute, self.events_per_day)


EVERYBODY_COUNTS = CleaningTable.model_validate({})
"""The table as it is when nothing is said."""


def cleaning_checked(table: CleaningTable, declared: Declarations | None) -> CleaningTable:
    """The table as it is, if its ids, patterns and attributes can be any; None: what is declared is not known.

    Raises ValidationError.
    """
    refuse(fault for kind in _WHOSE for fault in _faults(kind, getattr(table, kind), declared))
    return table


def _faults(kind: str, table: WhoseTable, declared: Declarations | None) -> Iterator[tuple[tuple[Any, ...], str]]:
    for at, name in enumerate(table.ids):
        if problem := id_fault(name):
            yield (kind, "ids", at), problem
    for at, pattern in enumerate(table.patterns):
        problem = text_fault(pattern, MAX_PATTERN_BYTES, 1)
        if not problem and not pattern.strip("*"):
            problem = "means every user: name some part of their ids"
        if problem:
            yield (kind, "patterns", at), problem
    if declared is not None:
        for field, problem in values_faults(dict(table.attributes), declared, time.time()):
            yield (kind, field), problem
