"""Between the client's values and the wire: events."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from tidings import errors, model, wire
from tidings.v1 import event_pb2, event_service_pb2

MAX_EVENTS = 1000
"""So many events go in one call."""


def record_request(
    events: model.Event | Iterable[model.Event],
) -> tuple[event_service_pb2.RecordEventsRequest | None, dict[int, model.EventVerdict]]:
    """Return the request to record one event or many, and the verdict of each that cannot be sent, by its place.

    The request is None when there were events, and none of them can be sent. Raises InvalidArgument for more than 1000,
    and for what is no events at all.
    """
    listed = _listed(events)
    if len(listed) > MAX_EVENTS:
        raise wire.invalid(
            "events", f"has {len(listed)} entries, may have {MAX_EVENTS} at most: record them in several calls"
        )
    sent = []
    rejected = {}
    for at, one in enumerate(listed):
        try:
            sent.append(event(one))
        except errors.InvalidArgument as error:
            faults = tuple(model.EventFault(field, description) for field, description in error.fields)
            rejected[at] = model.EventVerdict(model.EventStatus.REJECTED, faults)
    # Without any events the server is asked all the same: it is the one to say how many there must be.
    return (event_service_pb2.RecordEventsRequest(events=sent) if sent or not rejected else None), rejected


def event(value: model.Event) -> event_pb2.Event:
    """Return an event as it is sent; raises InvalidArgument with all the fields that cannot be."""
    if not isinstance(value, model.Event):
        raise wire.unfit("event", value, "a tidings.Event is wanted")
    message = event_pb2.Event()
    faults: list[tuple[str, str]] = []
    for fill in _FILLS:
        try:
            fill(message, value)
        except errors.InvalidArgument as error:
            faults.extend(error.fields)
    if faults:
        raise errors.InvalidArgument("; ".join(f"{field} {problem}" for field, problem in faults), fields=faults)
    return message


def recorded(
    message: event_service_pb2.RecordEventsResponse | None, rejected: Mapping[int, model.EventVerdict]
) -> model.Recorded:
    """Return what became of events: of those sent as `message` says, of the others as `rejected` does, by place."""
    message = message or event_service_pb2.RecordEventsResponse()
    verdicts = [
        model.EventVerdict(
            status=_STATUSES.get(verdict.status, model.EventStatus.UNSPECIFIED),
            faults=tuple(model.EventFault(fault.field, fault.description) for fault in verdict.faults),
        )
        for verdict in message.verdicts
    ]
    # From the first place on, so that each insertion finds all that stand before it.
    for at in sorted(rejected):
        verdicts.insert(at, rejected[at])
    return model.Recorded(tuple(verdicts), message.consistency_token)


def _listed(events: object) -> list[model.Event]:
    if isinstance(events, model.Event):
        return [events]
    # The parts of a text or of a mapping would each be rejected; the mistake is one.
    if isinstance(events, str | bytes | Mapping) or not isinstance(events, Iterable):
        raise wire.unfit("events", events, "a tidings.Event is wanted, or a list of them")
    return list(events)


def _fill_type(message: event_pb2.Event, value: model.Event) -> None:
    wire.fill(message, "type", _type_number(value.type))


def _fill_text(name: str, message: event_pb2.Event, value: model.Event) -> None:
    wire.fill(message, name, getattr(value, name))


def _fill_value(message: event_pb2.Event, value: model.Event) -> None:
    if value.value is not None:
        wire.fill(message, "value", value.value)


def _fill_time(message: event_pb2.Event, value: model.Event) -> None:
    wire.fill_time(message, "event_time", value.event_time)


def _fill_items(message: event_pb2.Event, value: model.Event) -> None:
    # A text is a sequence of texts too: it would go out as one item per letter.
    if isinstance(value.items, str | bytes | Mapping):
        kind = "mapping" if isinstance(value.items, Mapping) else "text"
        raise wire.unfit("items", value.items, f"a list of items is wanted, not one {kind}")
    if not isinstance(value.items, Iterable):
        raise wire.unfit("items", value.items, "a list of items is wanted")
    for at, item in enumerate(value.items):
        _add_item(message, item, f"items[{at}].")


def _add_item(message: event_pb2.Event, item: str | model.EventItem, prefix: str) -> None:
    added = message.items.add()
    if isinstance(item, model.EventItem):
        wire.fill(added, "item_id", item.item_id, prefix)
        wire.fill(added, "quantity", item.quantity, prefix)
        if item.price is not None:
            wire.fill(added, "price", item.price, prefix)
    else:
        wire.fill(added, "item_id", item, prefix)


def event_type(number: int) -> model.EventType:
    """Return the type of a number of the wire."""
    return _TYPES.get(number, model.EventType.UNSPECIFIED)


def _type_number(value: model.EventType | str) -> int:
    try:
        return _TYPE_NUMBERS[model.EventType(value)]
    except (KeyError, ValueError):
        known = ", ".join(_TYPE_NUMBERS)
        raise wire.invalid("type", f"must be one of {known}, not {wire.shown(value)}") from None


_FILLS: tuple[Callable[[event_pb2.Event, model.Event], None], ...] = (
    _fill_type,
    *(
        partial(_fill_text, name)
        for name in ("event_id", "user_id", "category", "query", "push_id", "order_id", "decision_token")
    ),
    _fill_value,
    _fill_time,
    _fill_items,
)


_TYPES = wire.by_number(event_pb2.EventType, model.EventType)
# UNSPECIFIED is left out: no server takes it.
_TYPE_NUMBERS = {value: number for number, value in _TYPES.items() if number}
_STATUSES = wire.by_number(event_service_pb2.EventStatus, model.EventStatus)
