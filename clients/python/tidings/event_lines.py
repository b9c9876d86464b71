"""Events as JSON lines: one object per line, its keys the fields of `Event`, items as ids or as objects."""

import dataclasses
import json
from datetime import datetime
from typing import Any

from tidings import errors, model, wire

_FIELDS = tuple(field.name for field in dataclasses.fields(model.Event))
_ITEM_FIELDS = tuple(field.name for field in dataclasses.fields(model.EventItem))


def parse(line: str) -> model.Event:
    """Return the event of one line; raises InvalidArgument naming what makes the line none."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise wire.invalid("the line", f"is not JSON: {error}") from None
    check(fields, _FIELDS, ("user_id", "type"), "the line")
    if "event_time" in fields:
        try:
            fields["event_time"] = time_of(fields["event_time"])
        except (TypeError, ValueError) as error:
            raise wire.invalid("event_time", str(error)) from None
    if isinstance(fields.get("items"), list):
        fields["items"] = [_item(item, f"items[{at}]") for at, item in enumerate(fields["items"])]
    return model.Event(**fields)


def time_of(text: str) -> datetime:
    """Return the time in an ISO 8601 text; raises ValueError for a text that is none or lacks its time zone."""
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise ValueError(f"{text!r} is not a time: write it as 2024-05-01T12:30:00Z") from None
    if time.utcoffset() is None:
        raise ValueError(f"{text!r} has no time zone: add Z for UTC, or one such as +02:00")
    return time


def _item(item: Any, place: str) -> str | model.EventItem:
    if isinstance(item, str):
        return item
    check(item, _ITEM_FIELDS, ("item_id",), place)
    return model.EventItem(**item)


def check(fields: Any, known: tuple[str, ...], needed: tuple[str, ...], place: str) -> None:
    """Raise InvalidArgument unless `fields` is an object with what is needed and nothing unknown."""
    if not isinstance(fields, dict):
        raise wire.invalid(place, f"must be an object with {', '.join(needed)}, not {json.dumps(fields)[:50]}")
    for name in fields:
        if name not in known:
            raise wire.invalid(place, f"has {name!r}, which is not one of {', '.join(known)}")
    for name in needed:
        if name not in fields:
            raise wire.invalid(place, f"lacks {name!r}")


def faults(error: errors.InvalidArgument) -> list[model.EventFault]:
    """Return what is wrong with a line, as a server says what is wrong with an event."""
    return [model.EventFault(field, description) for field, description in error.fields]
