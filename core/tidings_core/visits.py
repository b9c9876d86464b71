"""Visits: when a user came and went, told from the minutes in which something was done.

Kept are the newest minutes with anything in them, and how much was done in each. A visit is a run of minutes with no
GAP between them: it is found when it is asked for, so that an event which comes late can join two visits into one.
"""

from collections.abc import Iterable, Mapping
from heapq import nlargest
from typing import NamedTuple

from tidings_core.events import Event

MINUTE_MS = 60_000
KEPT = 256
"""So many of the newest minutes in which anything was done are kept."""
GAP = 30
"""Minutes. Who does nothing for so long, and then something, has come again."""
_NO_VISIT = ("impression", "return", "cancel")
"""What happens to somebody who need not be there."""

Minutes = Mapping[int, tuple[int, int]]
"""By minute since 1970: how many events there were, and how many of them say that the user was there."""


class Visit(NamedTuple):
    """From the first to the last minute with a sign of the user, both as Unix milliseconds, and the signs' number."""

    start: int
    end: int
    events: int


def of_events(events: Iterable[Event]) -> Minutes:
    """The minutes of some events."""
    found: dict[int, tuple[int, int]] = {}
    for event in events:
        minute = event.time // MINUTE_MS
        of_all, there = found.get(minute, (0, 0))
        found[minute] = of_all + 1, there + (event.type not in _NO_VISIT)
    return _newest(found)


def join(old: Minutes, new: Minutes) -> Minutes:
    """The minutes of two disjoint parts of a history."""
    if not new or not old:
        return old or new
    joined = dict(old)
    for minute, (of_all, there) in new.items():
        before = joined.get(minute, (0, 0))
        joined[minute] = before[0] + of_all, before[1] + there
    return _newest(joined)


def visits(minutes: Minutes) -> list[Visit]:
    """The visits of the minutes that are kept, newest first. Of the last one the beginning may be missing."""
    found: list[Visit] = []
    for minute in sorted(minutes, reverse=True):
        there = minutes[minute][1]
        if not there:
            continue
        start = minute * MINUTE_MS
        if found and found[-1].start - start <= GAP * MINUTE_MS:
            found[-1] = Visit(start, found[-1].end, found[-1].events + there)
        else:
            found.append(Visit(start, start, there))
    return found


def _newest(minutes: dict[int, tuple[int, int]]) -> Minutes:
    if len(minutes) <= KEPT:
        return minutes
    return {minute: minutes[minute] for minute in nlargest(KEPT, minutes)}
