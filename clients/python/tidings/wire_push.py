"""Between the client's values and the wire: pushes."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from tidings import model, wire
from tidings.v1 import push_service_pb2


def send_request(
    user_id: str,
    title: str,
    *,
    body: str,
    item_ids: Sequence[str],
    url: str,
    data: Mapping[str, str] | None,
    ttl: float | timedelta | None,
    collapse_key: str,
    request_id: str,
    topic: str = "",
    asked_for: bool = False,
) -> push_service_pb2.SendPushRequest:
    """Return the request to send a push; raises InvalidArgument naming the field for what cannot be sent."""
    request = push_service_pb2.SendPushRequest()
    texts = {
        "request_id": request_id,
        "user_id": user_id,
        "title": title,
        "body": body,
        "url": url,
        "collapse_key": collapse_key,
        "topic": topic,
    }
    for name, value in texts.items():
        wire.fill(request, name, value)
    wire.fill(request, "asked_for", asked_for)
    wire.fill_ids(request, "item_ids", item_ids)
    for key, text in (data or {}).items():
        try:
            request.data[key] = text
        except (TypeError, ValueError) as error:
            raise wire.unfit(f"data[{key!r}]", text, str(error)) from error
    if ttl is not None:
        _fill_ttl(request, ttl)
    return request


def sent_push(message: push_service_pb2.SendPushResponse) -> model.SentPush:
    """Return what became of a push."""
    return model.SentPush(
        decision=_DECISIONS.get(message.decision, model.PushDecision.UNSPECIFIED),
        reason=_SUPPRESS_REASONS.get(message.reason, model.SuppressReason.UNSPECIFIED),
        push_id=message.push_id,
        offset=message.offset,
    )


def subscribe_request(user_id: str, device_id: str, max_unacked: int | None) -> push_service_pb2.SubscribeRequest:
    """Return the request for a subscription; raises InvalidArgument naming the field for what cannot be sent."""
    request = push_service_pb2.SubscribeRequest()
    wire.fill(request, "user_id", user_id)
    wire.fill(request, "device_id", device_id)
    if max_unacked is not None:
        wire.fill(request, "max_unacked", max_unacked)
    return request


def outcome(push_id: str, disposition: model.Disposition) -> push_service_pb2.PushOutcome:
    """Return what became of a push, as it is sent; raises InvalidArgument for an unknown disposition."""
    message = push_service_pb2.PushOutcome()
    wire.fill(message, "push_id", push_id)
    try:
        wire.fill(message, "disposition", _DISPOSITION_NUMBERS[model.Disposition(disposition)])
    except (KeyError, ValueError):
        known = ", ".join(_DISPOSITION_NUMBERS)
        raise wire.invalid("disposition", f"must be one of {known}, not {disposition!r}") from None
    return message


def push(message: push_service_pb2.Push) -> model.Push:
    """Return a push."""
    return model.Push(
        push_id=message.push_id,
        offset=message.offset,
        prev_offset=message.prev_offset,
        create_time=wire.time_of(message, "create_time"),
        expire_time=wire.time_of(message, "expire_time"),
        collapse_key=message.collapse_key,
        title=message.title,
        body=message.body,
        items=tuple(wire.recommended_item(item) for item in message.items),
        url=message.url,
        data=dict(message.data),
        trigger=message.trigger,
        event_id=message.event_id,
        release_id=message.release_id,
        serving_config=message.serving_config,
    )


def _fill_ttl(request: Any, ttl: float | timedelta) -> None:
    try:
        # timedelta refuses what is no number, NaN, and more than its own range.
        request.ttl.FromTimedelta(ttl if isinstance(ttl, timedelta) else timedelta(seconds=ttl))
    except (TypeError, ValueError, OverflowError) as error:
        raise wire.unfit("ttl", ttl, str(error)) from error


_DECISIONS = wire.by_number(push_service_pb2.PushDecision, model.PushDecision)
_SUPPRESS_REASONS = wire.by_number(push_service_pb2.SuppressReason, model.SuppressReason)
# UNSPECIFIED is left out: no server takes it.
_DISPOSITION_NUMBERS = {
    value: number for number, value in wire.by_number(push_service_pb2.Disposition, model.Disposition).items() if number
}
