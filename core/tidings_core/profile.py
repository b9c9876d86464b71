"""The profile: what recorded events make of a user.

`fold` is pure and knows no clock: the same events give the same profile in whatever order they arrive. What depends on
the time of asking (windows, decay) is computed from it when it is read.

Everything kept is a sum, a maximum, or the newest N by a fixed order, which is why the order of arrival cannot matter.
"""

import base64
import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest
from itertools import pairwise
from typing import Any, TypeVar

from tidings_core import stated
from tidings_core.changes import Change, Logged
from tidings_core.events import EVENT_TYPES, Event, EventType
from tidings_core.stated import Stated
from tidings_core.tables import hash_id

RECENT = 100
"""So many of the newest events are kept one by one."""
RECENT_ITEMS = 16
"""Of an event with many items, so many are kept in `recent`. What was bought is kept whole elsewhere."""
SEEN = 256
"""So many of the items seen last are kept."""
BLOCKED = 1024
"""So many items, and so many categories, that the user asked to see less of; the newest."""
DAYS = 31
"""Counts per day go back so far from the newest event."""
DAY_MS = 86_400_000
FORMAT = 1
_TYPE_NUMBERS: Mapping[EventType, int] = {type: number for number, type in enumerate(EVENT_TYPES)}
_SEEN_BY = ("view", "click", "impression", "add_to_cart")
_Name = TypeVar("_Name", int, str)


@dataclass(frozen=True, slots=True)
class RecentEvent:
    """An event as a profile keeps it: `time` in Unix milliseconds, `key` a hash of its id, items by item_no."""

    time: int
    key: int
    type: EventType
    items: tuple[int, ...] = ()
    category: str = ""
    query: str = ""
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Bought:
    """What became of one item: when it was last bought (Unix milliseconds, 0: never), how often, and given back.

    `kept` is how many were bought less how many were given back.
    """

    time: int
    purchases: int
    returns: int
    kept: int


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a user. Items are item_no; times are Unix milliseconds, 0 when there is none.

    `totals` counts events by type; `days` by (type, day since 1970); `recent` is newest first; `spent` is hundredths of
    the currency; `seen` and the two `blocked` map to the time it last happened; `stated` comes from changes, and
    `last_change` is the time of the newest; all else comes from events. The dicts are shared: never change one.
    """

    first_time: int = 0
    last_time: int = 0
    totals: Mapping[EventType, int] = field(default_factory=dict)
    days: Mapping[tuple[EventType, int], int] = field(default_factory=dict)
    recent: tuple[RecentEvent, ...] = ()
    bought: Mapping[int, Bought] = field(default_factory=dict)
    seen: Mapping[int, int] = field(default_factory=dict)
    blocked_items: Mapping[int, int] = field(default_factory=dict)
    blocked_categories: Mapping[str, int] = field(default_factory=dict)
    spent: int = 0
    stated: Stated = stated.EMPTY
    last_change: int = 0


EMPTY = Profile()


def fold(profile: Profile, logged: Iterable[tuple[Logged, Sequence[int]]]) -> Profile:
    """The profile after more of the log, each event with the item_no of its items in order; a change has none.

    Each event and each change must be new.
    """
    new: list[tuple[Event, Sequence[int]]] = []
    changes: list[Change] = []
    for one, items in logged:
        if isinstance(one, Change):
            changes.append(one)
        else:
            new.append((one, items))
    return _changed(_done(profile, new) if new else profile, changes)


def _changed(profile: Profile, changes: Sequence[Change]) -> Profile:
    """The profile after changes."""
    if not changes:
        return profile
    last = max(profile.last_change, *(change.time for change in changes))
    return replace(profile, stated=stated.fold(profile.stated, changes), last_change=last)


def _done(profile: Profile, new: Sequence[tuple[Event, Sequence[int]]]) -> Profile:
    """The profile after events."""
    totals, days = dict(profile.totals), dict(profile.days)
    recent = list(profile.recent)
    bought: dict[int, Bought] = {}
    seen: dict[int, int] = {}
    blocked_items: dict[int, int] = {}
    blocked_categories: dict[str, int] = {}
    spent = profile.spent
    times = [event.time for event, _ in new]
    for event, items in new:
        totals[event.type] = totals.get(event.type, 0) + 1
        day = (event.type, event.time // DAY_MS)
        days[day] = days.get(day, 0) + 1
        if event.type != "impression":
            recent.append(_recent(event, items))
        if event.type in ("purchase", "return"):
            spent += _money(event) if event.type == "purchase" else -_money(event)
            for item, quantity in _quantities(event, items).items():
                bought[item] = _buy(bought.get(item) or profile.bought.get(item), event, quantity)
        elif event.type in _SEEN_BY:
            seen.update((item, max(event.time, seen.get(item, 0))) for item in items)
        elif event.type == "see_less":
            blocked_items.update((item, max(event.time, blocked_items.get(item, 0))) for item in items)
            if event.category:
                last = blocked_categories.get(event.category, 0)
                blocked_categories[event.category] = max(event.time, last)
    return Profile(
        first_time=min(times) if profile.first_time == 0 else min(profile.first_time, *times),
        last_time=max(profile.last_time, *times),
        totals=totals,
        days=_last_days(days),
        recent=tuple(nlargest(RECENT, recent, key=_age)),
        bought={**profile.bought, **bought} if bought else profile.bought,
        seen=_newest(profile.seen, seen, SEEN),
        blocked_items=_newest(profile.blocked_items, blocked_items, BLOCKED),
        blocked_categories=_newest(profile.blocked_categories, blocked_categories, BLOCKED),
        spent=spent,
        stated=profile.stated,
        last_change=profile.last_change,
    )


def count_since(profile: Profile, type: EventType, now_ms: int, days: int) -> int:
    """Events of a type in the last `days` whole days of UTC, the day of `now_ms` (Unix milliseconds) being one."""
    today = now_ms // DAY_MS
    return sum(count for (kind, day), count in profile.days.items() if kind == type and today - days < day <= today)


def _recent(event: Event, items: Sequence[int]) -> RecentEvent:
    kept = tuple(dict.fromkeys(items))[:RECENT_ITEMS]
    key = hash_id(event.event_id.encode())
    return RecentEvent(event.time, key, event.type, kept, event.category, event.query, event.value)


def _age(event: RecentEvent) -> tuple[int, int]:
    return event.time, event.key


def _quantities(event: Event, items: Sequence[int]) -> dict[int, int]:
    """How many of each item an event is about."""
    found: dict[int, int] = {}
    for item, number in zip(event.items, items, strict=True):
        found[number] = found.get(number, 0) + item.quantity
    return found


def _buy(before: Bought | None, event: Event, quantity: int) -> Bought:
    old = before or Bought(0, 0, 0, 0)
    if event.type == "return":
        return Bought(old.time, old.purchases, old.returns + 1, old.kept - quantity)
    return Bought(max(old.time, event.time), old.purchases + 1, old.returns, old.kept + quantity)


def _money(event: Event) -> int:
    """What a purchase or return was worth, in hundredths: whole numbers add up the same in any order."""
    worth = event.value
    if worth is None:
        worth = sum(item.price * item.quantity for item in event.items if item.price is not None)
    return round(worth * 100)


def _last_days(days: dict[tuple[EventType, int], int]) -> Mapping[tuple[EventType, int], int]:
    oldest = max(day for _, day in days) - DAYS
    return {of: count for of, count in days.items() if of[1] > oldest}


def _newest(old: Mapping[_Name, int], new: Mapping[_Name, int], most: int) -> Mapping[_Name, int]:
    """Join two maps to times, the later time winning, and keep the entries of the latest times."""
    if not new:
        return old
    joined = {**old, **{name: max(time, old.get(name, 0)) for name, time in new.items()}}
    if len(joined) <= most:
        return joined
    return dict(nlargest(most, joined.items(), key=lambda entry: (entry[1], entry[0])))


def to_json(profile: Profile) -> dict[str, Any]:
    """The profile as values that fit JSON, the same for equal profiles."""
    bought = sorted(profile.bought.items())
    flat = array("q", (n for item, b in bought for n in (item, b.time, b.purchases, b.returns, b.kept)))
    return {
        "format": FORMAT,
        "first": profile.first_time,
        "last": profile.last_time,
        "totals": sorted((_TYPE_NUMBERS[type], count) for type, count in profile.totals.items()),
        "days": sorted((_TYPE_NUMBERS[type], day, count) for (type, day), count in profile.days.items()),
        "recent": [
            (e.time, e.key, _TYPE_NUMBERS[e.type], e.items, e.category, e.query, e.value) for e in profile.recent
        ],
        # Packed: a customer of many years has bought thousands of items.
        "bought": base64.b64encode(flat.tobytes()).decode(),
        "seen": sorted(profile.seen.items()),
        "blocked_items": sorted(profile.blocked_items.items()),
        "blocked_categories": sorted(profile.blocked_categories.items()),
        "spent": profile.spent,
        **({"stated": stated.to_json(profile.stated), "changed": profile.last_change} if profile.last_change else {}),
    }


def from_json(fields: Mapping[str, Any]) -> Profile:
    """The profile that `to_json` made values of. Raises ValueError, KeyError or TypeError when they are none."""
    if fields["format"] != FORMAT:
        raise ValueError(f"a profile of format {fields['format']!r}; this version reads {FORMAT}")
    return Profile(
        first_time=fields["first"],
        last_time=fields["last"],
        totals={EVENT_TYPES[type]: count for type, count in fields["totals"]},
        days={(EVENT_TYPES[type], day): count for type, day, count in fields["days"]},
        recent=tuple(
            RecentEvent(time, key, EVENT_TYPES[type], tuple(items), category, query, value)
            for time, key, type, items, category, query, value in fields["recent"]
        ),
        bought=_read_bought(array("q", base64.b64decode(fields["bought"]))),
        seen=dict(fields["seen"]),
        blocked_items=dict(fields["blocked_items"]),
        blocked_categories=dict(fields["blocked_categories"]),
        spent=fields["spent"],
        stated=stated.from_json(fields["stated"]) if "stated" in fields else stated.EMPTY,
        last_change=fields.get("changed", 0),
    )


def _read_bought(flat: Sequence[int]) -> dict[int, Bought]:
    """What was bought, by item. Raises ValueError when the numbers are not of whole entries."""
    items = flat[::5]
    ascending = all(before < item < 1 << 32 for before, item in pairwise((-1, *items)))
    if len(flat) % 5 == 0 and ascending:
        return {item: Bought(*of_item) for item, *of_item in zip(*[iter(flat)] * 5, strict=True)}
    # The first documents did not count what was kept; read as if they did, times stand where items should.
    entries = zip(*[iter(flat)] * 4, strict=True)
    return {item: Bought(time, bought, returned, bought - returned) for item, time, bought, returned in entries}


def as_text(profile: Profile) -> str:
    """The profile as one line of JSON, byte for byte the same for equal profiles."""
    return json.dumps(to_json(profile), ensure_ascii=False, separators=(",", ":"))
