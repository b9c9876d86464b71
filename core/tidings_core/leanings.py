"""Leanings: what a user's events said for and against single items, the newest of them one by one.

They are kept by item and not by category or brand: those are looked up when somebody asks, in the catalogue as it is
then. What was bought is no part of it: that is kept whole elsewhere.
"""

from collections.abc import Iterable, Sequence
from heapq import nlargest

from tidings_core.events import Event, leaning

KEPT = 256
"""So many are kept, the newest. Equal ones are each kept: which of them goes makes no difference."""
SCALE = 100

Leaning = tuple[int, int, int]
"""When (Unix milliseconds), to which item (item_no), and how much in hundredths, below 0: against it."""
Leanings = tuple[Leaning, ...]
"""Newest first."""


def of_events(events: Iterable[tuple[Event, Sequence[int]]]) -> Leanings:
    """What some events said, each with the item_no of its items, in the same order."""
    found: list[Leaning] = []
    for event, items in events:
        weight = round(SCALE * leaning(event.type, event.value))
        if weight and event.type != "purchase":
            found += [(event.time, item, weight) for item in dict.fromkeys(items)]
    return join((), tuple(found))


def join(old: Leanings, new: Leanings) -> Leanings:
    """What two disjoint parts of a history said."""
    return tuple(nlargest(KEPT, old + new)) if new else old
