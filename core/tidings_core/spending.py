"""Spending: on which days a user bought, and for how much; and when each type of event happened first and last."""

from collections.abc import Iterable, Mapping
from heapq import nlargest

from tidings_core.events import Event, EventType

DAY_MS = 86_400_000
KEPT = 128
"""So many of the newest days with a purchase or a return are kept."""

Spending = Mapping[int, tuple[int, int]]
"""By day since 1970: purchases, and their money less that of returns, in hundredths."""
Spans = Mapping[EventType, tuple[int, int]]
"""When the first and the last event of a type happened, Unix milliseconds."""


def add(days: dict[int, tuple[int, int]], event: Event, money: int) -> None:
    """Add a purchase or return, whose money in hundredths is below 0."""
    day = event.time // DAY_MS
    orders, sum_ = days.get(day, (0, 0))
    days[day] = orders + (event.type == "purchase"), sum_ + money


def join(one: Spending, other: Spending) -> Spending:
    """The spending of two disjoint parts of a history."""
    if (not one and len(other) <= KEPT) or not other:
        return one or other
    joined = dict(one)
    for day, (orders, money) in other.items():
        before = joined.get(day, (0, 0))
        joined[day] = before[0] + orders, before[1] + money
    return joined if len(joined) <= KEPT else {day: joined[day] for day in nlargest(KEPT, joined)}


def spans_of(events: Iterable[Event]) -> Spans:
    """First and last of some events."""
    found: dict[EventType, tuple[int, int]] = {}
    for event in events:
        first, last = found.get(event.type, (event.time, event.time))
        found[event.type] = min(first, event.time), max(last, event.time)
    return found


def join_spans(one: Spans, other: Spans) -> Spans:
    """First and last of two parts of a history."""
    if not one or not other:
        return one or other
    joined = dict(one)
    for type, (first, last) in other.items():
        before = joined.get(type, (first, last))
        joined[type] = min(before[0], first), max(before[1], last)
    return joined
