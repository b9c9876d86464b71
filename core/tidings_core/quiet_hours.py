"""Quiet hours: when a person is not to be disturbed, by weekday and in the person's own time zone.

Instants are Unix milliseconds. Every instant has one local time, so that is never in doubt; the other way round it is,
twice a year. A span begins at the first instant that shows its beginning, or would have, and ends with the last that
shows its end: an hour that comes twice is quiet both times, and one that never comes moves to where the clock jumps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from tidings_core.faults import Fault

DAY_MINUTES = 1440
MAX_SPANS = 50
"""Spans of one person."""
LONGEST_DAYS = 8
"""Who is never to be disturbed is quiet for so long from now, and then asked again."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """From a minute of a weekday (0: Monday) to another, which is of the next day when it does not come later.

    `start` is 0 to 1439, `end` 1 to 1440.
    """

    weekday: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Spans in an IANA time zone."""

    time_zone: str
    spans: tuple[Span, ...]


def quiet_faults(given: QuietHours) -> list[Fault]:
    """All that is wrong with quiet hours, [] for nothing."""
    found: list[Fault] = []
    if given.time_zone not in _zones():
        told = f"is {given.time_zone[:64]!r}, must be the name of an IANA time zone, such as Europe/Berlin"
        found.append(("time_zone", told))
    if len(given.spans) > MAX_SPANS:
        found.append(("spans", f"has {len(given.spans)} entries, may have {MAX_SPANS} at most"))
        return found
    for at, span in enumerate(given.spans):
        if not 0 <= span.weekday <= 6:
            found.append((f"spans[{at}].weekday", f"is {span.weekday}, must be 0 (Monday) to 6 (Sunday)"))
        if not 0 <= span.start < DAY_MINUTES:
            found.append((f"spans[{at}].start", f"is minute {span.start}, must be 0 to {DAY_MINUTES - 1}"))
        if not 1 <= span.end <= DAY_MINUTES:
            found.append((f"spans[{at}].end", f"is minute {span.end}, must be 1 to {DAY_MINUTES}"))
    return found


def quiet_until(hours: QuietHours, now: int) -> int | None:
    """When the quiet that holds at `now` ends; None when none does.

    Spans that touch or overlap are one quiet. It ends LONGEST_DAYS from now at the latest.
    """
    try:
        zone = _zone(hours.time_zone)
    except (OSError, ValueError):  # A zone that this system does not know any more.
        zone = _zone("UTC")
    today = datetime.fromtimestamp(now / 1000, zone).date()
    intervals = sorted(_intervals(hours, zone, today))
    end = None
    for first, last in intervals:
        if first <= (now if end is None else end) < last:
            end = last
    return None if end is None else min(end, now + LONGEST_DAYS * DAY_MINUTES * 60_000)


def _intervals(hours: QuietHours, zone: ZoneInfo, today: date) -> Iterator[tuple[int, int]]:
    """The spans as instants [first, last), from those of two days ago to those LONGEST_DAYS ahead."""
    for offset in range(-2, LONGEST_DAYS + 1):
        day = today + offset * _DAY
        for span in hours.spans:
            if day.weekday() == span.weekday:
                length = span.end - span.start if span.end > span.start else span.end + DAY_MINUTES - span.start
                midnight = datetime(day.year, day.month, day.day)
                start = midnight + timedelta(minutes=span.start)
                yield _instant(start, zone, 0), _instant(start + timedelta(minutes=length), zone, 1)


def _instant(local: datetime, zone: ZoneInfo, fold: int) -> int:
    """The instant of a local time, the earlier (`fold` 0) or the later one; where there is none, the jump over it."""
    early, late = (local.replace(tzinfo=zone, fold=at).astimezone(UTC) for at in (0, 1))
    if early <= late:
        return _milliseconds(late if fold else early)
    # PEP 495: of a time that is skipped, fold 0 goes by the offset before the jump, which puts it after the jump.
    before, after = _milliseconds(late) // 1000, _milliseconds(early) // 1000
    offset = _offset(before, zone)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (middle, after) if _offset(middle, zone) == offset else (before, middle)
    return after * 1000


def _offset(second: int, zone: ZoneInfo) -> timedelta | None:
    return datetime.fromtimestamp(second, zone).utcoffset()


def _milliseconds(instant: datetime) -> int:
    return int(instant.timestamp()) * 1000


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
