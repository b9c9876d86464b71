"""Preferences as messages: what a request says, what the log keeps, and what GetProfile shows."""

from collections.abc import Iterable, Mapping, Sequence

from tidings.v1 import preferences_pb2 as pb
from tidings_core.faults import Fault
from tidings_core.preferences import CAP, CHANNELS, PURPOSES, QUIET, Channel, Purpose, Value
from tidings_core.quiet_hours import QuietHours, Span

CHANNEL_NUMBERS: Mapping[Channel, "pb.Channel"] = {
    channel: getattr(pb, f"CHANNEL_{channel.upper()}") for channel in CHANNELS
}
PURPOSE_NUMBERS: Mapping[Purpose, "pb.Purpose"] = {
    purpose: getattr(pb, f"PURPOSE_{purpose.upper()}") for purpose in PURPOSES
}
_CHANNELS = {int(number): channel for channel, number in CHANNEL_NUMBERS.items()}
_PURPOSES = {int(number): purpose for purpose, number in PURPOSE_NUMBERS.items()}
_WORDS: Mapping[int, bool | None] = {pb.CHOICE_YES: True, pb.CHOICE_NO: False, pb.CHOICE_DEFAULT: None}
_MOST = 32
"""Entries of channels and purposes that are looked at: there are fewer of either."""


def read_preferences(message: pb.Preferences) -> tuple[dict[str, Value], list[Fault]]:
    """What a message says, by the names that `preferences` has, and what cannot be meant by it."""
    words: dict[str, Value] = {}
    faults: list[Fault] = []
    named: Sequence[tuple[str, str, list[tuple[int, int]], Mapping[int, str]]] = [
        ("channels", "channel", [(one.channel, one.choice) for one in message.channels[:_MOST]], _CHANNELS),
        ("purposes", "consent", [(one.purpose, one.choice) for one in message.purposes[:_MOST]], _PURPOSES),
    ]
    for field, kind, given, known in named:
        for at, (number, choice) in enumerate(given):
            name = known.get(int(number))
            if name is None:
                faults.append((f"{field}[{at}]", f"names {int(number)}; known are {', '.join(known.values())}"))
            elif f"{kind}/{name}" in words:
                faults.append((f"{field}[{at}]", f"is about {name}, which is named before: name it once"))
            elif fault := _choice_fault(choice):
                faults.append((f"{field}[{at}].choice", fault))
            else:
                words[f"{kind}/{name}"] = _WORDS[choice]
    for topic, choice in message.topics.items():
        if fault := _choice_fault(choice):
            faults.append((f"topics[{topic!r:.80}]", fault))
            break
        words[f"topic/{topic}"] = _WORDS[choice]
    if message.HasField("quiet_hours"):
        spans = [
            Span(span.weekday - 1, span.start_minute, span.end_minute) for span in message.quiet_hours.spans[:1000]
        ]
        words[QUIET] = QuietHours(message.quiet_hours.time_zone, tuple(spans)) if spans else None
    if message.HasField("max_per_day"):
        words[CAP] = None if message.max_per_day == -1 else message.max_per_day
    return words, faults


def _choice_fault(choice: int) -> str:
    return "" if choice in _WORDS else f"is {choice}, must be YES, NO or DEFAULT"


def fill_preferences(message: pb.Preferences, words: Mapping[str, Value]) -> None:
    """Set a message to what was said, by name."""
    for name, value in sorted(words.items()):
        kind, _, rest = name.partition("/")
        if kind == "channel":
            message.channels.add(channel=CHANNEL_NUMBERS[rest], choice=_choice(value))  # type: ignore[index]
        elif kind == "consent":
            message.purposes.add(purpose=PURPOSE_NUMBERS[rest], choice=_choice(value))  # type: ignore[index]
        elif kind == "topic":
            message.topics[rest] = _choice(value)
        elif kind == QUIET:
            _fill_hours(message.quiet_hours, value)
        elif kind == CAP:
            message.max_per_day = -1 if not isinstance(value, int) else value


def shown(words: Iterable[tuple[str, Value]]) -> pb.Preferences:
    """The message of what stands: words that were taken back are left out."""
    message = pb.Preferences()
    fill_preferences(message, {name: value for name, value in words if value is not None})
    return message


def _choice(value: Value) -> "pb.Choice":
    return pb.CHOICE_DEFAULT if value is None else pb.CHOICE_YES if value else pb.CHOICE_NO


def _fill_hours(message: pb.QuietHours, value: Value) -> None:
    message.SetInParent()
    if isinstance(value, QuietHours):
        message.time_zone = value.time_zone
        for span in value.spans:
            message.spans.add(weekday=span.weekday + 1, start_minute=span.start, end_minute=span.end)
