"""Between the client's values and the wire: events and profiles."""

from collections.abc import Iterable

from tidings import model, wire
from tidings.v1 import event_pb2, event_service_pb2, profile_service_pb2

MAX_EVENTS = 1000
"""So many events go in one call."""


def record_request(events: model.Event | Iterable[model.Event]) -> event_service_pb2.RecordEventsRequest:
    """Return the request to record one event or many.

    Raises InvalidArgument for more than 1000, and naming `events[i].field` for a value that cannot be sent.
    """
    listed = [events] if isinstance(events, model.Event) else list(events)
    if len(listed) > MAX_EVENTS:
        raise wire.invalid(
            "events", f"has {len(listed)} entries, may have {MAX_EVENTS} at most: record them in several calls"
        )
    return event_service_pb2.RecordEventsRequest(
        events=[event(one, f"events[{at}].") for at, one in enumerate(listed)],
    )


def event(value: model.Event, prefix: str = "") -> event_pb2.Event:
    """Return an event as it is sent; raises InvalidArgument naming `prefix` + field for what cannot be."""
    if not isinstance(value, model.Event):
        raise wire.unfit(prefix.removesuffix(".") or "event", value, "a tidings.Event is wanted")
    message = event_pb2.Event()
    wire.fill(message, "type", _type_number(value.type, prefix))
    for name in ("event_id", "user_id", "category", "query", "push_id"):
        wire.fill(message, name, getattr(value, name), prefix)
    if value.value is not None:
        wire.fill(message, "value", value.value, prefix)
    wire.fill_time(message, "event_time", value.event_time, prefix)
    # A text is a sequence of texts too: it would go out as one item per letter.
    if isinstance(value.items, str | bytes):
        raise wire.unfit(f"{prefix}items", value.items, "a list of items is wanted, not one text")
    for at, item in enumerate(value.items):
        _add_item(message, item, f"{prefix}items[{at}].")
    return message


def recorded(message: event_service_pb2.RecordEventsResponse) -> model.Recorded:
    """Return what became of recorded events."""
    return model.Recorded(
        verdicts=tuple(
            model.EventVerdict(
                status=_STATUSES.get(verdict.status, model.EventStatus.UNSPECIFIED),
                faults=tuple(model.EventFault(fault.field, fault.description) for fault in verdict.faults),
            )
            for verdict in message.verdicts
        ),
        consistency_token=message.consistency_token,
    )


def profile_request(user_id: str, consistency_token: str) -> profile_service_pb2.GetProfileRequest:
    """Return the request for a profile."""
    request = profile_service_pb2.GetProfileRequest()
    wire.fill(request, "user_id", user_id)
    wire.fill(request, "consistency_token", consistency_token)
    return request


def profile(response: profile_service_pb2.GetProfileResponse) -> model.Profile:
    """Return a profile."""
    message = response.profile
    return model.Profile(
        user_id=message.user_id,
        version=message.version,
        first_event_time=wire.time_of(message, "first_event_time"),
        last_event_time=wire.time_of(message, "last_event_time"),
        counts=tuple(
            model.EventCount(_type(count.type), count.total, count.last_day, count.last_week, count.last_month)
            for count in message.counts
        ),
        recent_events=tuple(_recent_event(event) for event in message.recent_events),
        bought_items=tuple(
            model.BoughtItem(item.item_id, wire.time_of(item, "last_time"), item.purchases, item.returns)
            for item in message.bought_items
        ),
        bought_item_count=message.bought_item_count,
        blocked_item_ids=tuple(message.blocked_item_ids),
        blocked_categories=tuple(message.blocked_categories),
        categories=tuple(model.Affinity(affinity.value, affinity.share) for affinity in message.categories),
        brands=tuple(model.Affinity(affinity.value, affinity.share) for affinity in message.brands),
        known_to_release=message.known_to_release,
        spent=message.spent,
    )


def _recent_event(message: profile_service_pb2.RecentEvent) -> model.RecentEvent:
    return model.RecentEvent(
        type=_type(message.type),
        event_time=wire.time_of(message, "event_time"),
        item_ids=tuple(message.item_ids),
        category=message.category,
        query=message.query,
        value=message.value if message.HasField("value") else None,
    )


def _add_item(message: event_pb2.Event, item: str | model.EventItem, prefix: str) -> None:
    added = message.items.add()
    if isinstance(item, model.EventItem):
        wire.fill(added, "item_id", item.item_id, prefix)
        wire.fill(added, "quantity", item.quantity, prefix)
        if item.price is not None:
            wire.fill(added, "price", item.price, prefix)
    else:
        wire.fill(added, "item_id", item, prefix)


def _type(number: int) -> model.EventType:
    return _TYPES.get(number, model.EventType.UNSPECIFIED)


def _type_number(value: model.EventType | str, prefix: str) -> int:
    try:
        return _TYPE_NUMBERS[model.EventType(value)]
    except (KeyError, ValueError):
        known = ", ".join(_TYPE_NUMBERS)
        raise wire.invalid(f"{prefix}type", f"must be one of {known}, not {value!r}") from None


_TYPES = wire.by_number(event_pb2.EventType, model.EventType)
# UNSPECIFIED is left out: no server takes it.
_TYPE_NUMBERS = {value: number for number, value in _TYPES.items() if number}
_STATUSES = wire.by_number(event_service_pb2.EventStatus, model.EventStatus)
