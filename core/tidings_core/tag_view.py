"""view(profile, now): what tag expressions see of a user at a moment, and until when it stays so by itself.

Time alone changes what a window holds and how long ago something was, so every value comes with the first moment at
which it may be another although nothing happens. Of a number that grows with time its rate is known, so that a
comparison with another number is known to hold until the moment at which the two meet.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

import numpy as np

from tidings_core import text
from tidings_core.affinities import affinities
from tidings_core.attributes import keyword
from tidings_core.changes import AttributeValue
from tidings_core.declared import Declarations, day_of, value_fault
from tidings_core.events import NEVER, EventType
from tidings_core.features import ITEM_FEATURES, attribute_codes, attribute_text
from tidings_core.model import Snapshot
from tidings_core.profile import Profile
from tidings_core.tables import Int32

DAY_MS = 86_400_000
FOREVER = math.inf
NO_ROWS: Int32 = np.empty(0, np.int32)
_PRICE_RANK = ITEM_FEATURES.index("price_rank")


@dataclass(frozen=True, slots=True)
class Seen:
    """A value, None for one that is not known; `until` is the first moment (Unix milliseconds) that may change it.

    `rate` is what a number grows by in a millisecond.
    """

    value: Any
    until: float = FOREVER
    rate: float = 0.0


UNKNOWN = Seen(None)


class View:
    """A profile at a moment. For one thread; what it worked out it keeps.

    rows i32[n] is an item's row in the snapshot by item_no, -1 when it has none; without a snapshot nothing is known of
    items.
    """

    def __init__(
        self,
        profile: Profile,
        now_ms: int,
        declared: Declarations,
        rows: Int32 = NO_ROWS,
        snapshot: Snapshot | None = None,
    ) -> None:
        """`now_ms` is Unix milliseconds."""
        self.profile = profile
        self.now = now_ms
        self._declared = declared
        self._rows = rows
        self._snapshot = snapshot
        self._stated = profile.stated.values()
        self._attributes: dict[str, Any] = {}
        self._spans = [span for kind, span in profile.spans.items() if kind not in NEVER]
        self._bought: dict[str, Mapping[str, tuple[str, list[int]]]] = {}
        self._shares: dict[str, Mapping[str, tuple[str, float]]] = {}

    def attribute(self, name: str) -> Any:
        """An attribute as an expression has it; None without one, or when what was set is not of its kind any more."""
        if name not in self._attributes:
            declaration, value = self._declared.get(name), self._stated.get(name)
            seen = None
            if declaration is not None and value is not None:
                fits = not value_fault(declaration, value, self.now / 1000)
                seen = as_seen(declaration.kind, value) if fits else None
            self._attributes[name] = seen
        return self._attributes[name]

    def texts(self, name: str) -> list[str]:
        """What a family of tags over `name` goes through: an attribute's texts, or the user's categories or brands."""
        if name in ("category", "brand"):
            found = {key: written for key, (written, _) in self._shares_of(name).items()}
            for key, (written, _) in self._bought_by(name).items():
                found.setdefault(key, written)
            return list(found.values())
        value = self.attribute(name)
        return [value] if isinstance(value, str) else list(value or ())

    def count(self, type: EventType, days: int | None) -> Seen:
        """Events of a type, ever or in the last whole days of UTC, today being one."""
        if days is None:
            return Seen(float(self.profile.totals.get(type, 0)))
        by_day = ((day, count) for (kind, day), count in self.profile.days.items() if kind == type)
        return self._window(by_day, days)

    def spent(self, days: int | None) -> Seen:
        """Money spent less what came back, in the shop's currency."""
        if days is None:
            return Seen(self.profile.spent / 100)
        seen = self._window(((day, money) for day, (_, money) in self.profile.spending.items()), days)
        return Seen(seen.value / 100, seen.until)

    def orders(self, days: int | None) -> Seen:
        """Purchases."""
        if days is None:
            return self.count("purchase", None)
        return self._window(((day, orders) for day, (orders, _) in self.profile.spending.items()), days)

    def last(self, type: EventType | None) -> int | None:
        """When the last event of a type was, or of any but those that follow from a push (Unix milliseconds)."""
        spans = self.profile.spans
        if type is not None:
            return spans[type][1] if type in spans else None
        return max((last for _, last in self._spans), default=None)

    def first(self, type: EventType | None) -> int | None:
        """When the first event of a type was, or of any but those that follow from a push (Unix milliseconds)."""
        spans = self.profile.spans
        if type is not None:
            return spans[type][0] if type in spans else None
        return min((first for first, _ in self._spans), default=None)

    def days_since(self, moment: float | None) -> Seen:
        """Days, and parts of them, since a moment."""
        return UNKNOWN if moment is None else Seen((self.now - moment) / DAY_MS, FOREVER, 1 / DAY_MS)

    def bought(self, name: str | None, value: str | None, days: int | None) -> Seen:
        """Items bought and not given back, of a category or brand (None: of any), last bought within so many days."""
        if name is None:
            columns = self.profile.bought.columns
            times = sorted(columns.times[(columns.kept > 0) & (columns.purchases > 0)].tolist())
        else:
            times = self._bought_by(name).get(text.fold(value or ""), ("", []))[1]
        if days is None:
            return Seen(float(len(times)))
        left_out = bisect_right(times, self.now - days * DAY_MS)
        inside = times[left_out:]
        return Seen(float(len(inside)), inside[0] + days * DAY_MS if inside else FOREVER)

    def affinity(self, name: str, value: str) -> Seen:
        """The share of all interest that a category or brand has."""
        return Seen(self._shares_of(name).get(text.fold(value), ("", 0.0))[1])

    def price_rank(self) -> Seen:
        """How dear within their categories what was bought is, in the mean: 0 to 1; not known without any."""
        columns, snapshot = self.profile.bought.columns, self._snapshot
        if snapshot is None:
            return UNKNOWN
        items = columns.items[(columns.kept > 0) & (columns.purchases > 0)]
        rows = self._rows[items[items < len(self._rows)]]
        block = snapshot.item_features[rows[rows >= 0]]
        priced = block[block[:, ITEM_FEATURES.index("log_price")] > 0, _PRICE_RANK]
        return Seen(float(np.mean(priced))) if len(priced) else UNKNOWN

    def _window(self, by_day: Iterable[tuple[int, int]], days: int) -> Seen:
        """The sum over the last whole days of UTC; it changes when a day leaves it, or one that is ahead comes."""
        today, sum_, until = self.now // DAY_MS, 0, FOREVER
        for day, amount in by_day:
            if day > today:
                until = min(until, day * DAY_MS)
            elif day > today - days:
                sum_ += amount
                until = min(until, (day + days) * DAY_MS)
        return Seen(float(sum_), until)

    def _bought_by(self, name: str) -> Mapping[str, tuple[str, list[int]]]:
        """Of each category or brand of what was bought and kept, folded: as it is written, and the times, ascending."""
        if name not in self._bought:
            self._bought[name] = self._grouped(name)
        return self._bought[name]

    def _grouped(self, name: str) -> Mapping[str, tuple[str, list[int]]]:
        columns, snapshot = self.profile.bought.columns, self._snapshot
        if snapshot is None or keyword(snapshot.attributes, name) is None:
            return {}
        kept = (columns.kept > 0) & (columns.purchases > 0) & (columns.items < len(self._rows))
        times, rows = columns.times[kept], self._rows[columns.items[kept]]
        codes = attribute_codes(snapshot, name, rows)
        assert codes is not None
        found: dict[str, tuple[str, list[int]]] = {}
        order = np.argsort(times, kind="stable")
        order = order[codes[order] >= 0]
        written: dict[int, str] = {}
        for code, row, time in zip(codes[order].tolist(), rows[order].tolist(), times[order].tolist(), strict=True):
            if code not in written:
                written[code] = attribute_text(snapshot, name, row) or ""
            found.setdefault(text.fold(written[code]), (written[code], []))[1].append(time)
        found.pop("", None)
        return found

    def _shares_of(self, name: str) -> Mapping[str, tuple[str, float]]:
        """Of each category or brand that the user likes, folded: as it is written, and its share."""
        if name not in self._shares:
            snapshot = self._snapshot
            of = cast(Literal["category", "brand"], name)
            told = [] if snapshot is None else affinities(self.profile, self._rows, snapshot, of)
            self._shares[name] = {text.fold(value): (value, share) for value, share in told}
        return self._shares[name]


def as_seen(kind: str, value: AttributeValue) -> Any:
    """A value of an attribute as an expression has it: a date or time as Unix milliseconds."""
    if kind == "date":
        day = day_of(str(value))
        return None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000
    return value * 1000 if kind == "time" and isinstance(value, float) else value
