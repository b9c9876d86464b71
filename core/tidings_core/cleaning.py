"""Cleaning: which events stand in the log and count for nothing, since no customer did them, or nobody could.

Pure: what it goes by is the profile as it is before, and the events. An event is judged when it is recorded, and its
flags are stored with it, so that a profile that is made again from the log is the same.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache

from tidings_core.changes import AttributeValue
from tidings_core.events import Event
from tidings_core.flags import GOOD, Flag
from tidings_core.profile import DAY_MS, Profile, order_key
from tidings_core.visits import MINUTE_MS

EVENTS_PER_MINUTE = 600
"""More events of one user within a minute of event time are a flood, when the settings do not say."""
EVENTS_PER_DAY = 20_000
"""More events of one user within a day of UTC are a bot's, when the settings do not say."""


@dataclass(frozen=True, slots=True)
class Whose:
    """Users of a kind: by id, by a pattern of ids (`*` and `?` as in file names), or by the value of an attribute."""

    ids: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)

    def match(self, user_id: str, profile: Profile) -> bool:
        """Whether a user is of this kind."""
        if user_id in self.ids or (self.patterns and _matches(self.patterns, user_id)):
            return True
        if not self.attributes:
            return False
        said = profile.stated.values()
        return any(said.get(name) == value for name, value in self.attributes.items())


@dataclass(frozen=True, slots=True)
class Cleaning:
    """The rules. `events_per_minute` and `events_per_day` bound the events of one user that count, 0: without bound."""

    bots: Whose = field(default_factory=Whose)
    tests: Whose = field(default_factory=Whose)
    events_per_minute: int = EVENTS_PER_MINUTE
    events_per_day: int = EVENTS_PER_DAY


def judged(rules: Cleaning, profile: Profile, events: Sequence[Event]) -> list[Flag]:
    """The flags of new events of one user, each GOOD or why it counts for nothing. `profile` is that before them.

    An order that is cancelled in any of them is so in all. What is flagged takes no room under the bounds.
    """
    if not events:
        return []
    user_id = events[0].user_id
    always = Flag.BOT if rules.bots.match(user_id, profile) else GOOD
    always |= Flag.TEST if rules.tests.match(user_id, profile) else GOOD
    cancelled = {*profile.cancelled, *(order_key(event.order_id) for event in events if event.type == "cancel")}
    # Who has done no more than this in all cannot have done it in a day.
    many = rules.events_per_day and sum(profile.totals.values()) + len(events) > rules.events_per_day
    minutes, days = Counter[int](), Counter[int]()
    flags = []
    for event in events:
        flag = always | (Flag.CANCELLED if cancelled and is_of(event, cancelled) else GOOD)
        minute, day = event.time // MINUTE_MS, event.time // DAY_MS
        if many and _in_day(profile, day) + days[day] >= rules.events_per_day:
            flag |= Flag.BOT
        in_minute = profile.minutes.get(minute, (0, 0))[0] + minutes[minute]
        if rules.events_per_minute and in_minute >= rules.events_per_minute:
            flag |= Flag.FLOOD
        if not flag:
            minutes[minute] += 1
            days[day] += 1
        flags.append(flag)
    return flags


def is_of(event: Event, orders: Collection[int]) -> bool:
    """Whether an event is of one of some orders (by `order_key`): a purchase without an order id is one by its own."""
    if event.type not in ("purchase", "return"):
        return False
    name = event.order_id or (event.event_id if event.type == "purchase" else "")
    return bool(name) and order_key(name) in orders


def _in_day(profile: Profile, day: int) -> int:
    return sum(count for (_, of), count in profile.days.items() if of == day)


@lru_cache(64)
def _compiled(patterns: tuple[str, ...]) -> "re.Pattern[str]":
    return re.compile("|".join(translate(pattern) for pattern in patterns))


@lru_cache(10_000)
def _matches(patterns: tuple[str, ...], user_id: str) -> bool:
    return _compiled(patterns).match(user_id) is not None
