"""Retention: how long what a user did is kept, and what a profile forgets of what is not.

What a profile adds up (counts, sums, what was bought) stays. What tells of a single event goes: its entry among the
recent ones is blanked, and keeps its place there, so that it makes no difference whether a profile forgets before or
after more is folded into it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from tidings_core import visits
from tidings_core.events import EVENT_TYPES, EventType
from tidings_core.profile import Profile, RecentEvent

SEEN_BY: tuple[EventType, ...] = ("view", "click", "impression", "add_to_cart")
LEANT_BY: tuple[EventType, ...] = tuple(
    type for type in EVENT_TYPES if type not in ("purchase", "search", "impression")
)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long events are kept by type, decisions about pushes, and recorded answers: milliseconds, 0 for ever."""

    events: Mapping[EventType, int] = field(default_factory=lambda: MappingProxyType({}))
    decisions: int = 0
    answers: int = 0

    def past(self, type: EventType, time: int, now: int) -> bool:
        """Whether an event of `time` is kept no longer at `now` (Unix milliseconds)."""
        age = self.events.get(type, 0)
        return bool(age) and time < now - age

    @property
    def shortest(self) -> int:
        """After so long events of some type go; 0: none ever do."""
        return min(self.events.values(), default=0)


def forget(profile: Profile, retention: Retention, now: int) -> Profile:
    """The profile without what tells of single events that are kept no longer at `now` (Unix milliseconds)."""
    if not retention.events:
        return profile
    recent = tuple(
        RecentEvent(event.time, event.key, event.type) if retention.past(event.type, event.time, now) else event
        for event in profile.recent
    )
    seen, leant = _oldest(retention, SEEN_BY, now), _oldest(retention, LEANT_BY, now)
    searched, rated = _oldest(retention, ("search",), now), _oldest(retention, ("rating",), now)
    minute = _oldest(retention, EVENT_TYPES, now) // visits.MINUTE_MS
    return replace(
        profile,
        recent=recent,
        seen={item: time for item, time in profile.seen.items() if time >= seen},
        leanings=tuple(leaning for leaning in profile.leanings if leaning[0] >= leant),
        searches={query: time for query, time in profile.searches.items() if time >= searched},
        ratings={item: rating for item, rating in profile.ratings.items() if rating[0] >= rated},
        minutes={at: counts for at, counts in profile.minutes.items() if at >= minute},
    )


def _oldest(retention: Retention, types: Sequence[EventType], now: int) -> int:
    """What is older than this tells of no event of these types that is kept; 0: all of it may."""
    ages = [retention.events.get(type, 0) for type in types]
    return now - max(ages) if all(ages) else 0
