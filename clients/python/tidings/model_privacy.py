"""Values of the client: what a person said about being addressed, and the receipt of an erasure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

_NOTHING: Mapping[str, bool | None] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class QuietSpan:
    """A time of day on a day of the week ("mon" to "sun"): of the next day when `end` is not later than `start`."""

    weekday: str
    start: str  # such as "22:00"
    end: str  # such as "08:00"; "24:00" for the end of the day


@dataclass(frozen=True, slots=True)
class QuietHours:
    """When not to disturb, in an IANA time zone such as "Europe/Berlin"; without spans: never mind."""

    time_zone: str = ""
    spans: tuple[QuietSpan, ...] = ()


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a person said. In a change: what is not named stays, and None is back to what holds for everybody.

    Channels are stream, email, sms, web_push, mobile_push and webhook; purposes of consent are profiling, marketing and
    training. `max_per_day` is the number of pushes in 24 hours, -1 for the server's setting again.
    """

    channels: Mapping[str, bool | None] = field(default_factory=lambda: _NOTHING)
    topics: Mapping[str, bool | None] = field(default_factory=lambda: _NOTHING)
    consent: Mapping[str, bool | None] = field(default_factory=lambda: _NOTHING)
    quiet_hours: QuietHours | None = None
    max_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """What was erased: how much by where it stood, and when."""

    erase_time: datetime | None
    removed: Mapping[str, int]
    due_release_ids: tuple[str, ...]  # releases that hold a vector of the person: build anew, then remove
    scrubbed: bool  # whether nothing of it can be read on the server's disk any more
