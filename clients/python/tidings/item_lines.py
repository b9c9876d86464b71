"""Items as JSON lines: one object per line, its keys the fields of `CatalogItem`, times as ISO 8601."""

import dataclasses
import json
from typing import Any

from tidings import errors, event_lines, model, wire

_FIELDS = tuple(field.name for field in dataclasses.fields(model.CatalogItem))
_TIMES = ("update_time", "publish_time", "expire_time")
_MAPPINGS = ("shown", "attributes")


def parse(line: str) -> model.CatalogItem:
    """Return the item of one line; raises InvalidArgument naming what makes the line none.

    In `attributes` a text that is a whole ISO 8601 time with its zone is a time; any other is a text.
    """
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise wire.invalid("the line", f"is not JSON: {error}") from None
    event_lines.check(fields, _FIELDS, ("item_id", "update_time"), "the line")
    for name in _TIMES:
        if fields.get(name) is not None:
            try:
                fields[name] = event_lines.time_of(fields[name])
            except (TypeError, ValueError) as error:
                raise wire.invalid(name, str(error)) from None
    for name in _MAPPINGS:
        if not isinstance(fields.get(name, {}), dict):
            raise wire.invalid(name, "must be an object")
    fields["attributes"] = {name: _value(value) for name, value in fields.get("attributes", {}).items()}
    return model.CatalogItem(**fields)


def _value(value: Any) -> Any:
    if isinstance(value, str) and len(value) >= 20:
        try:
            return event_lines.time_of(value)
        except ValueError:
            return value
    return value


def faults(error: errors.InvalidArgument) -> list[model.EventFault]:
    """Return what is wrong with a line or an item, by field."""
    return event_lines.faults(error)
