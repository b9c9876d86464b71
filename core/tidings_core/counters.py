"""Decayed counters: how much of each type of event a user did, what is long past counting less.

An event counts 2^-(age / HALF_LIFE). Sums of such weights come out the same in any order only when they are whole
numbers of one scale, and a scale that fits today is too fine for years ago. So time is cut into half-lives: within one,
an event counts SCALE times 2^(how far into it), a whole number, and those numbers are added up. What each half-life is
worth at the time of asking is one more factor. Half-lives long past are dropped by their number alone.
"""

from collections.abc import Iterable, Mapping

from tidings_core.events import Event, EventType

HALF_LIFE = 30 * 86_400_000
"""Milliseconds."""
KEPT = 16
"""So many half-lives are kept, back from that of the newest event: what is older counts less than 2^-15."""
SCALE = 1 << 16

Weights = Mapping[tuple[EventType, int], int]
"""Sums by type and number of the half-life since 1970."""


def of_events(events: Iterable[Event]) -> Weights:
    """What some events count."""
    found: dict[tuple[EventType, int], int] = {}
    for event in events:
        number, into = divmod(event.time, HALF_LIFE)
        key = event.type, number
        found[key] = found.get(key, 0) + round(SCALE * 2.0 ** (into / HALF_LIFE))
    return kept(found)


def join(old: Weights, new: Weights) -> Weights:
    """What two disjoint parts of a history count together."""
    if not new or not old:
        return old or new
    joined = dict(old)
    for key, sum_ in new.items():
        joined[key] = joined.get(key, 0) + sum_
    return kept(joined)


def kept(weights: Weights) -> Weights:
    """Without the half-lives that are long past."""
    oldest = max((number for _, number in weights), default=0) - KEPT
    return {key: sum_ for key, sum_ in weights.items() if key[1] > oldest}


def decayed(weights: Weights, type: EventType, now_ms: int) -> float:
    """How many events of a type there were, each counting half for every HALF_LIFE that it is older than `now_ms`.

    An event ahead of `now_ms` (Unix milliseconds) counts more than one.
    """
    halves = now_ms / HALF_LIFE
    return sum(sum_ / SCALE * 2.0 ** (number - halves) for (kind, number), sum_ in weights.items() if kind == type)
