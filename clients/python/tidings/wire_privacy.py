"""Between the client's values and the wire: preferences, exports and erasures."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from tidings import model_privacy, wire
from tidings.v1 import erasure_pb2
from tidings.v1 import preferences_pb2 as pb

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES = 24 * 60
_CLOCK = re.compile(r"(\d{2}):(\d{2})")


def preferences_request(
    user_id: str, said: model_privacy.Preferences, event_time: datetime | None, event_id: str, lift_erasure: bool
) -> pb.SetPreferencesRequest:
    """Return the request to set preferences; raises InvalidArgument for what cannot be sent."""
    request = pb.SetPreferencesRequest()
    wire.fill(request, "event_id", event_id)
    wire.fill(request, "user_id", user_id)
    wire.fill(request, "lift_erasure", lift_erasure)
    wire.fill_time(request, "event_time", event_time)
    message = request.preferences
    for name, choice in said.channels.items():
        message.channels.add(channel=_number(pb.Channel, "CHANNEL", "channels", name), choice=_choice(choice, name))
    for name, choice in said.consent.items():
        message.purposes.add(purpose=_number(pb.Purpose, "PURPOSE", "consent", name), choice=_choice(choice, name))
    for name, choice in said.topics.items():
        if not isinstance(name, str):
            raise wire.unfit("topics", name, "a text is wanted")
        message.topics[name] = _choice(choice, name)
    if said.quiet_hours is not None:
        message.quiet_hours.SetInParent()
        wire.fill(message.quiet_hours, "time_zone", said.quiet_hours.time_zone, "quiet_hours.")
        for at, span in enumerate(said.quiet_hours.spans):
            _add_span(message.quiet_hours, span, f"quiet_hours.spans[{at}]")
    if said.max_per_day is not None:
        wire.fill(message, "max_per_day", said.max_per_day)
    return request


def preferences(message: pb.Preferences) -> model_privacy.Preferences:
    """Return preferences."""
    return model_privacy.Preferences(
        channels={_name(pb.Channel, "CHANNEL", one.channel): one.choice == pb.CHOICE_YES for one in message.channels},
        topics={topic: choice == pb.CHOICE_YES for topic, choice in sorted(message.topics.items())},
        consent={_name(pb.Purpose, "PURPOSE", one.purpose): one.choice == pb.CHOICE_YES for one in message.purposes},
        quiet_hours=_hours(message.quiet_hours) if message.HasField("quiet_hours") else None,
        max_per_day=message.max_per_day if message.HasField("max_per_day") else None,
    )


def erase_request(user_id: str) -> erasure_pb2.EraseProfileRequest:
    """Return the request to erase a person."""
    request = erasure_pb2.EraseProfileRequest()
    wire.fill(request, "user_id", user_id)
    return request


def export_request(user_id: str) -> erasure_pb2.ExportProfileRequest:
    """Return the request for everything that is kept of a person."""
    request = erasure_pb2.ExportProfileRequest()
    wire.fill(request, "user_id", user_id)
    return request


def receipt(message: erasure_pb2.EraseProfileResponse) -> model_privacy.ErasureReceipt:
    """Return the receipt of an erasure."""
    return model_privacy.ErasureReceipt(
        erase_time=wire.time_of(message, "erase_time"),
        removed=dict(sorted(message.removed.items())),
        due_release_ids=tuple(message.due_release_ids),
        scrubbed=message.scrubbed,
    )


def _number(enum: "type[pb.Channel] | type[pb.Purpose]", prefix: str, field: str, name: object) -> int:
    known = {each.removeprefix(f"{prefix}_").lower(): number for each, number in enum.items() if number}
    if name not in known:
        raise wire.unfit(field, name, f"known are {', '.join(known)}")
    return known[str(name)]


def _name(enum: "type[pb.Channel] | type[pb.Purpose]", prefix: str, number: int) -> str:
    names = {value: each for each, value in enum.items()}
    return names.get(number, "unknown").removeprefix(f"{prefix}_").lower()


def _choice(choice: object, name: object) -> "pb.Choice":
    if choice is None:
        return pb.CHOICE_DEFAULT
    if not isinstance(choice, bool):
        raise wire.unfit(str(name), choice, "True, False or None is wanted")
    return pb.CHOICE_YES if choice else pb.CHOICE_NO


def _add_span(hours: pb.QuietHours, span: model_privacy.QuietSpan, field: str) -> None:
    if span.weekday not in _DAYS:
        raise wire.unfit(f"{field}.weekday", span.weekday, f"one of {', '.join(_DAYS)} is wanted")
    hours.spans.add(
        weekday=pb.Weekday.Name(_DAYS.index(span.weekday) + 1),
        start_minute=_minute(span.start, f"{field}.start"),
        end_minute=_minute(span.end, f"{field}.end"),
    )


def _minute(clock: object, field: str) -> int:
    match = _CLOCK.fullmatch(clock) if isinstance(clock, str) else None
    if match is None or int(match[2]) > 59 or int(match[1]) * 60 + int(match[2]) > _DAY_MINUTES:
        raise wire.unfit(field, clock, 'a time of day such as "22:00" is wanted')
    return int(match[1]) * 60 + int(match[2])


def _hours(message: pb.QuietHours) -> model_privacy.QuietHours:
    return model_privacy.QuietHours(
        message.time_zone,
        tuple(
            model_privacy.QuietSpan(_DAYS[span.weekday - 1], _clock(span.start_minute), _clock(span.end_minute))
            for span in message.spans
        ),
    )


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def lines(parts: Iterable[erasure_pb2.ExportProfileResponse]) -> Iterator[dict[str, Any]]:
    """Yield the objects of an export's parts, each of which holds whole lines."""
    for part in parts:
        yield from map(json.loads, part.lines.splitlines())
