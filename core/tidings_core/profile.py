"""The profile: what recorded events make of a user.

`fold` is pure and knows no clock: the same events give the same profile in whatever order they arrive. What depends on
the time of asking (windows, decay) is computed from it when it is read.

Everything kept is a sum, a maximum, or the newest N by a fixed order, which is why the order of arrival cannot matter;
and why two profiles of disjoint parts of one history can be joined into the profile of all of it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from tidings_core import bought as purchases
from tidings_core import counters, leanings, preferences, spending, stated, visits
from tidings_core.bought import NOTHING, BoughtItems
from tidings_core.changes import Change, Logged, Said
from tidings_core.events import EVENT_TYPES, LOW_STARS, Event, EventType
from tidings_core.leanings import Leanings
from tidings_core.newest import newest
from tidings_core.preferences import Preferences, Value
from tidings_core.spending import Spans, Spending
from tidings_core.stated import Stated
from tidings_core.tables import hash_id
from tidings_core.visits import Minutes

RECENT = 100
"""So many of the newest events are kept one by one."""
RECENT_ITEMS = 16
"""Of an event with many items, so many are kept in `recent`. What was bought is kept whole elsewhere."""
SEEN = 256
"""So many of the items seen last are kept."""
BLOCKED = 1024
"""So many items, and so many categories, that the user asked to see less of; the newest."""
RATED = 256
"""So many of the items rated last are kept, each with its newest rating."""
SEARCHES = 32
"""So many of the newest searches are kept, each text once."""
CANCELLED = 256
"""So many of the orders cancelled last are kept, for purchases of them that come afterwards."""
DAYS = 31
"""Counts per day go back so far from the newest event."""
DAY_MS = 86_400_000
FORMAT = 1
_TYPE_NUMBERS: Mapping[EventType, int] = {type: number for number, type in enumerate(EVENT_TYPES)}
_SEEN_BY = ("view", "click", "impression", "add_to_cart")
_Name = TypeVar("_Name", int, str)
_Key = TypeVar("_Key")


class RecentEvent(NamedTuple):
    """An event as a profile keeps it: `time` in Unix milliseconds, `key` a hash of its id, items by item_no."""

    time: int
    key: int
    type: EventType
    items: tuple[int, ...] = ()
    category: str = ""
    query: str = ""
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a user. Items are item_no; times are Unix milliseconds, 0 when there is none.

    `totals` counts events by type; `days` by (type, day since 1970); `recent` is newest first; `spent` is hundredths of
    the currency; `seen`, the two `blocked` and `searches` map to the time it last happened, `ratings` to the time and
    the stars, `cancelled` the `order_key` of an order to when it was called off; `spending` is by day, `spans` by type
    of event; `stated` and `preferences` come from changes, and `last_change` is the time of the newest; all else comes
    from events. The dicts are shared: never change one.
    """

    first_time: int = 0
    last_time: int = 0
    totals: Mapping[EventType, int] = field(default_factory=dict)
    days: Mapping[tuple[EventType, int], int] = field(default_factory=dict)
    weights: counters.Weights = field(default_factory=dict)
    recent: tuple[RecentEvent, ...] = ()
    bought: BoughtItems = field(default_factory=lambda: NOTHING)
    seen: Mapping[int, int] = field(default_factory=dict)
    leanings: Leanings = ()
    ratings: Mapping[int, tuple[int, float]] = field(default_factory=dict)
    searches: Mapping[str, int] = field(default_factory=dict)
    minutes: Minutes = field(default_factory=dict)
    blocked_items: Mapping[int, int] = field(default_factory=dict)
    blocked_categories: Mapping[str, int] = field(default_factory=dict)
    cancelled: Mapping[int, int] = field(default_factory=dict)
    spent: int = 0
    spending: Spending = field(default_factory=dict)
    spans: Spans = field(default_factory=dict)
    stated: Stated = stated.EMPTY
    last_change: int = 0
    preferences: Preferences = preferences.EMPTY

    @property
    def disliked(self) -> list[int]:
        """The items whose newest rating is below LOW_STARS."""
        return [item for item, (_, stars) in self.ratings.items() if stars < LOW_STARS]


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
    if changes:
        profile = join(profile, _of_changes(changes))
    return join(profile, _of_events(new)) if new else profile


def join(one: Profile, other: Profile) -> Profile:
    """The profile of two disjoint parts of a history: however it was divided, and whichever part comes first."""
    return Profile(
        first_time=min(one.first_time or other.first_time, other.first_time or one.first_time),
        last_time=max(one.last_time, other.last_time),
        totals=_sums(one.totals, other.totals),
        days=_last_days(_sums(one.days, other.days)),
        weights=counters.join(one.weights, other.weights),
        recent=_newest_events(one.recent, other.recent),
        bought=purchases.join(one.bought, other.bought),
        seen=newest(one.seen, other.seen, SEEN),
        leanings=leanings.join(one.leanings, other.leanings),
        ratings=newest(one.ratings, other.ratings, RATED),
        searches=newest(one.searches, other.searches, SEARCHES),
        minutes=visits.join(one.minutes, other.minutes),
        blocked_items=newest(one.blocked_items, other.blocked_items, BLOCKED),
        blocked_categories=newest(one.blocked_categories, other.blocked_categories, BLOCKED),
        cancelled=newest(one.cancelled, other.cancelled, CANCELLED),
        spent=one.spent + other.spent,
        spending=spending.join(one.spending, other.spending),
        spans=spending.join_spans(one.spans, other.spans),
        stated=stated.join(one.stated, other.stated),
        preferences=preferences.join(one.preferences, other.preferences),
        last_change=max(one.last_change, other.last_change),
    )


def count_since(profile: Profile, type: EventType, now_ms: int, days: int) -> int:
    """Events of a type in the last `days` whole days of UTC, the day of `now_ms` (Unix milliseconds) being one."""
    today = now_ms // DAY_MS
    return sum(count for (kind, day), count in profile.days.items() if kind == type and today - days < day <= today)


def _of_changes(changes: Sequence[Change]) -> Profile:
    """The profile of some changes alone, one at least."""
    last = max(change.time for change in changes)
    return replace(
        EMPTY,
        stated=stated.fold(stated.EMPTY, changes),
        preferences=preferences.fold(preferences.EMPTY, _said(changes)),
        last_change=last,
    )


def _said(changes: Iterable[Change]) -> Iterator[tuple[int, int, Mapping[str, Value]]]:
    """What changes say of preferences: when, under which key, and what."""
    for change in changes:
        if isinstance(change.what, Said):
            yield change.time, hash_id(change.event_id.encode()), change.what.words


def _of_events(events: Sequence[tuple[Event, Sequence[int]]]) -> Profile:
    """The profile of some events alone, one at least. Only what may not be longer is cut: `join` does the rest."""
    totals: dict[EventType, int] = {}
    days: dict[tuple[EventType, int], int] = {}
    recent: list[RecentEvent] = []
    seen: dict[int, int] = {}
    ratings: dict[int, tuple[int, float]] = {}
    searches: dict[str, int] = {}
    blocked_items: dict[int, int] = {}
    blocked_categories: dict[str, int] = {}
    cancelled: dict[int, int] = {}
    spent = 0
    by_day: dict[int, tuple[int, int]] = {}
    for event, items in events:
        type, time = event.type, event.time
        totals[type] = totals.get(type, 0) + 1
        day = (type, time // DAY_MS)
        days[day] = days.get(day, 0) + 1
        if type != "impression":
            recent.append(_recent(event, items))
        if type in ("purchase", "return"):
            money = _money(event) if type == "purchase" else -_money(event)
            spent += money
            spending.add(by_day, event, money)
        elif type in _SEEN_BY:
            _last(seen, items, time)
        elif type == "search":
            _last(searches, (event.query,), time)
        elif type == "rating":
            stars = event.value or 0.0
            ratings.update((item, max((time, stars), ratings.get(item, (0, 0.0)))) for item in items)
        elif type == "see_less":
            _last(blocked_items, items, time)
            if event.category:
                _last(blocked_categories, (event.category,), time)
        elif type == "cancel":
            _last(cancelled, (order_key(event.order_id),), time)
    times = [event.time for event, _ in events]
    return Profile(
        min(times),
        max(times),
        totals,
        days,
        counters.of_events(event for event, _ in events),
        tuple(recent),
        purchases.of_events(events),
        seen,
        leanings.of_events(events),
        ratings,
        searches,
        visits.of_events(event for event, _ in events),
        blocked_items,
        blocked_categories,
        cancelled,
        spent,
        by_day,
        spending.spans_of(event for event, _ in events),
    )


def order_key(order_id: str) -> int:
    """The hash by which an order is remembered."""
    return hash_id(order_id.encode())


def _last(times: dict[_Name, int], names: Iterable[_Name], time: int) -> None:
    """Note that something happened to all of `names`."""
    for name in names:
        if time > times.get(name, 0):
            times[name] = time


def _recent(event: Event, items: Sequence[int]) -> RecentEvent:
    kept = tuple(dict.fromkeys(items))[:RECENT_ITEMS]
    key = hash_id(event.event_id.encode())
    return RecentEvent(event.time, key, event.type, kept, event.category, event.query, event.value)


def _money(event: Event) -> int:
    """What a purchase or return was worth, in hundredths: whole numbers add up the same in any order."""
    worth = event.value
    if worth is None:
        worth = sum(item.price * item.quantity for item in event.items if item.price is not None)
    return round(worth * 100)


def _newest_events(one: tuple[RecentEvent, ...], other: tuple[RecentEvent, ...]) -> tuple[RecentEvent, ...]:
    if not other:
        return one
    # By time and key; the rest of two events is never compared, since no two have both.
    return tuple(sorted(one + other, reverse=True)[:RECENT])


def _sums(one: Mapping[_Key, int], other: Mapping[_Key, int]) -> Mapping[_Key, int]:
    if not one or not other:
        return one or other
    return {**one, **{key: one.get(key, 0) + count for key, count in other.items()}}


def _last_days(days: Mapping[tuple[EventType, int], int]) -> Mapping[tuple[EventType, int], int]:
    oldest = max((day for _, day in days), default=0) - DAYS
    return {of: count for of, count in days.items() if of[1] > oldest}


def to_values(profile: Profile) -> dict[str, Any]:
    """The profile as numbers, texts, bytes and lists and maps of them, the same for equal profiles.

    What is empty is left out. Times are how long before the newest event: small numbers take little room.
    """
    last = profile.last_time
    values: dict[str, Any] = {"format": FORMAT, "first": profile.first_time, "last": last, "spent": profile.spent}
    for name, (flatten, _) in _STORED.items():
        part = getattr(profile, name)
        if part:
            values[name] = flatten(part, last)
    if profile.bought is not NOTHING:
        values["bought"] = profile.bought.to_values()
    if profile.last_change:
        values["changed"] = profile.last_change
        values["stated"] = stated.to_json(profile.stated)
    if profile.preferences.words:
        values["preferences"] = preferences.to_json(profile.preferences)
    return values


def from_values(values: Mapping[str, Any]) -> Profile:
    """The profile that `to_values` made values of. Raises ValueError, KeyError or TypeError when they are none."""
    if values["format"] != FORMAT:
        raise ValueError(f"a profile of format {values['format']!r}; this version reads {FORMAT}")
    last = values.get("last", 0)
    parts = {name: read(values[name], last) for name, (_, read) in _STORED.items() if name in values}
    if "bought" in values:
        parts["bought"] = purchases.from_values(values["bought"])
    if "changed" in values:
        parts["last_change"] = values["changed"]
        parts["stated"] = stated.from_json(values.get("stated", {}))
    if "preferences" in values:
        parts["preferences"] = preferences.from_json(values["preferences"])
    return Profile(values.get("first", 0), last, spent=values.get("spent", 0), **parts)


Flat = list[Any]
"""Rows of a part one after the other, each of the same number of values."""


def _typed(part: Mapping[EventType, int], _last: int) -> Flat:
    return [n for type, count in sorted(part.items()) for n in (_TYPE_NUMBERS[type], count)]


def _of_typed(flat: Flat, _last: int) -> Mapping[EventType, int]:
    return {EVENT_TYPES[type]: count for type, count in _rows(flat, 2)}


def _dated(part: Mapping[tuple[EventType, int], int], _last: int) -> Flat:
    return [n for (type, number), sum_ in sorted(part.items()) for n in (_TYPE_NUMBERS[type], number, sum_)]


def _of_dated(flat: Flat, _last: int) -> Mapping[tuple[EventType, int], int]:
    return {(EVENT_TYPES[type], number): sum_ for type, number, sum_ in _rows(flat, 3)}


def _timed(part: Mapping[int, int], last: int) -> Flat:
    return [n for name, time in sorted(part.items()) for n in (name, last - time)]


def _of_timed(flat: Flat, last: int) -> Mapping[int, int]:
    return {name: last - before for name, before in _rows(flat, 2)}


def _texts(part: Mapping[str, int], last: int) -> dict[str, int]:
    return {name: last - time for name, time in sorted(part.items())}


def _pairs(part: Mapping[int, tuple[int, int]], _last: int) -> Flat:
    return [n for name, (one, other) in sorted(part.items()) for n in (name, one, other)]


def _of_pairs(flat: Flat, _last: int) -> Mapping[int, tuple[int, int]]:
    return {name: (one, other) for name, one, other in _rows(flat, 3)}


def _rated(part: Mapping[int, tuple[int, float]], last: int) -> Flat:
    return [n for item, (time, stars) in sorted(part.items()) for n in (item, last - time, stars)]


def _of_rated(flat: Flat, last: int) -> Mapping[int, tuple[int, float]]:
    return {item: (last - before, stars) for item, before, stars in _rows(flat, 3)}


def _leaned(part: Leanings, last: int) -> Flat:
    return [n for time, item, weight in part for n in (last - time, item, weight)]


def _of_leaned(flat: Flat, last: int) -> Leanings:
    return tuple([(last - before, item, weight) for before, item, weight in _rows(flat, 3)])


def _spanned(part: Spans, last: int) -> Flat:
    return [n for type, (first, end) in sorted(part.items()) for n in (_TYPE_NUMBERS[type], last - first, last - end)]


def _of_spanned(flat: Flat, last: int) -> Spans:
    return {EVENT_TYPES[type]: (last - first, last - end) for type, first, end in _rows(flat, 3)}


def _recent_rows(part: tuple[RecentEvent, ...], last: int) -> list[Flat]:
    return [_recent_row(event, last) for event in part]


def _of_recent_rows(rows: list[Flat], last: int) -> tuple[RecentEvent, ...]:
    return tuple([_recent_event(last, *row) for row in rows])


def _rows(flat: Flat, width: int) -> Iterator[tuple[Any, ...]]:
    """The rows that were flattened."""
    return zip(*[iter(flat)] * width, strict=True)


def _recent_row(event: RecentEvent, last: int) -> Flat:
    time, key, type, items, category, query, value = event
    if value is not None:
        return [last - time, key, _TYPE_NUMBERS[type], items, category, query, value]
    if category or query:
        return [last - time, key, _TYPE_NUMBERS[type], items, category, query]
    return [last - time, key, _TYPE_NUMBERS[type], items]


def _recent_event(
    last: int, before: int, key: int, type: int = 0, items: Sequence[int] = (), *rest: Any
) -> RecentEvent:
    return RecentEvent(last - before, key, EVENT_TYPES[type], tuple(items), *rest)


_STORED: Mapping[str, tuple[Callable[[Any, int], Any], Callable[[Any, int], Any]]] = {
    "totals": (_typed, _of_typed),
    "days": (_dated, _of_dated),
    "weights": (_dated, _of_dated),
    "recent": (_recent_rows, _of_recent_rows),
    "seen": (_timed, _of_timed),
    "leanings": (_leaned, _of_leaned),
    "ratings": (_rated, _of_rated),
    "searches": (_texts, lambda texts, last: {name: last - before for name, before in texts.items()}),
    "minutes": (_pairs, _of_pairs),
    "blocked_items": (_timed, _of_timed),
    "blocked_categories": (_texts, lambda texts, last: {name: last - before for name, before in texts.items()}),
    "cancelled": (_timed, _of_timed),
    "spending": (_pairs, _of_pairs),
    "spans": (_spanned, _of_spanned),
}
"""Parts of a profile by their names, with how each is stored and read; one that is not there is empty."""
