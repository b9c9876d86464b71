"""The file of controls: tables [control.NAME], read apart from the settings so that it can change while they stay."""

import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from tidings_core.changes import MAX_NAME_BYTES
from tidings_core.controls import Action, Boost, Bury, Control, Keep, Kind, Pin, ordered
from tidings_core.errors import InvalidInput
from tidings_core.faults import Fault
from tidings_core.model import MAX_CATEGORY_BYTES, MAX_ID_BYTES, MAX_K, Diversity
from tidings_server.filter_settings import CheckedFilter
from tidings_server.push_settings import refuse
from tidings_server.settings import Name, known_settings, setting_fault

MAX_CONTROLS = 1000
MAX_PINNED = 100
"""Items of one pin."""
_NEEDS: Mapping[Kind, tuple[str, ...]] = {
    "boost": ("items", "places"),
    "bury": ("items",),
    "pin": ("item_ids",),
    "filter": ("items",),
    "diversify": ("attribute", "max_per_value"),
}
_TAKES: Mapping[Kind, tuple[str, ...]] = {**_NEEDS, "bury": ("items", "places"), "pin": ("item_ids", "position")}
_ALWAYS = ("kind", "serving_configs", "categories", "tags", "start", "end", "priority")

ItemId = Annotated[str, Field(min_length=1, max_length=MAX_ID_BYTES)]


class ControlTable(BaseModel):
    """A table [control.NAME]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["boost", "bury", "pin", "filter", "diversify"] = Field(
        description="What it does: boost, bury, pin, filter, diversify."
    )
    items: CheckedFilter | None = Field(
        None, description="boost, bury, filter: the items it is about, as a filter of must, should and must_not."
    )
    places: int | None = Field(
        None, ge=1, le=1000, description="boost, bury: places up or down, 1 to 1000; a bury without them goes last."
    )
    item_ids: tuple[ItemId, ...] | None = Field(
        None, min_length=1, max_length=MAX_PINNED, description=f"pin: the items, {MAX_PINNED} at most."
    )
    position: int = Field(1, ge=1, le=MAX_K, description=f"pin: position of the first of them, 1 to {MAX_K}.")
    attribute: str | None = Field(
        None, min_length=1, description="diversify: the attribute, such as category or brand."
    )
    max_per_value: int | None = Field(
        None, ge=1, le=1000, description="diversify: items with one value before any other has its turn."
    )
    serving_configs: tuple[str, ...] = Field((), description="Serving configs it is for; none: all.")
    categories: tuple[Annotated[str, Field(min_length=1, max_length=MAX_CATEGORY_BYTES)], ...] = Field(
        (), description="Categories of the query it is for; none: all queries."
    )
    tags: tuple[Annotated[str, Field(min_length=1, max_length=MAX_NAME_BYTES)], ...] = Field(
        (), description="Tags, or families such as lifecycle, of which the user must have one; none: everybody."
    )
    start: AwareDatetime | None = Field(None, description="In force from this time on, such as 2026-11-27T00:00:00Z.")
    end: AwareDatetime | None = Field(None, description="No longer in force from this time on.")
    priority: int = Field(
        0, ge=-1000, le=1000, description="The larger has its way where two want different things; then the name."
    )

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "ControlTable":
        refuse(((field,), problem) for field, problem in _faults(self))
        return self

    def control(self, name: str) -> Control:
        """The control that this table without faults describes."""
        times = {side: moment.timestamp() for side in ("start", "end") if (moment := getattr(self, side)) is not None}
        return Control(
            name, self._action, self.serving_configs, self.categories, self.tags, priority=self.priority, **times
        )

    @property
    def _action(self) -> Action:
        items = None if self.items is None else self.items.filter
        if self.kind == "pin":
            return Pin(self.item_ids or (), self.position)
        if self.kind == "diversify":
            return Diversity(self.attribute or "", self.max_per_value or 1)
        assert items is not None
        if self.kind == "boost":
            return Boost(items, self.places or 1)
        return Bury(items, self.places) if self.kind == "bury" else Keep(items)


class ControlsFile(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    control: dict[Name, ControlTable] = Field({}, max_length=MAX_CONTROLS, description="Tables [control.NAME].")


def _faults(table: ControlTable) -> Iterator[Fault]:
    for field in _NEEDS[table.kind]:
        if getattr(table, field) is None:
            yield field, f"is missing: a {table.kind} needs it"
    for field in sorted(table.model_fields_set - {*_TAKES[table.kind], *_ALWAYS}):
        yield field, f"is nothing for a {table.kind}, which takes {', '.join(_TAKES[table.kind])}"
    if table.start is not None and table.end is not None and table.end <= table.start:
        yield "end", f"is {table.end.isoformat()}, which is not after its start, {table.start.isoformat()}"


def read_controls(path: Path, serving_configs: Collection[str]) -> tuple[Control, ...]:
    """The controls of a file, in the order in which they have their way. Raises InvalidInput with every fault at once.

    `serving_configs` are the names that there are. Whether a release has the attributes, `controls.unfit` says.
    """
    try:
        given = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        what = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise InvalidInput(("controls", f"{path} cannot be read: {what}")) from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(("controls", f"{path} is not TOML: {error}")) from error
    unknown = list(_unknown_configs(given, serving_configs))
    try:
        found = ControlsFile.model_validate(given)
    except ValidationError as error:
        faults = [setting_fault(dict(fault), _known) for fault in error.errors()]
        raise InvalidInput(*faults, *unknown) from error
    if unknown:
        raise InvalidInput(*unknown)
    return ordered(table.control(name) for name, table in found.control.items())


def _unknown_configs(given: Mapping[str, Any], known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Serving configs that are not there: looked for in the raw file, so that other faults hide none of them."""
    tables = given.get("control")
    for name, table in tables.items() if isinstance(tables, dict) else ():
        named = table.get("serving_configs") if isinstance(table, dict) else None
        for at, config in enumerate(named if isinstance(named, list) else ()):
            if isinstance(config, str) and config not in known:
                yield f"control.{name}.serving_configs[{at}]", f"is {config!r}: not known; known are {_names(known)}"


def _names(names: Collection[str]) -> str:
    return ", ".join(sorted(names))[:300]


def _known(loc: list[Any]) -> list[str]:
    """Names of the settings that stand where a fault is."""
    match loc:
        case ["control", name, "items", *rest]:
            return known_settings(["serving", name, "filter", *rest])
        case ["control", _, _]:
            return list(ControlTable.model_fields)
    return list(ControlsFile.model_fields)
