"""What a user bought and gave back, item by item: kept whole, however much it is, and therefore as arrays."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tidings_core.columns import check, pack, unpack
from tidings_core.events import Event
from tidings_core.tables import Int64


class Bought(NamedTuple):
    """What became of one item: when it was last bought (Unix milliseconds, 0: never), how often, and given back.

    `kept` is how many were bought less how many were given back.
    """

    time: int
    purchases: int
    returns: int
    kept: int


class Columns(NamedTuple):
    """Items by item_no, ascending, and what `Bought` says of each: all i64[n]. They are shared: never change one."""

    items: Int64
    times: Int64
    purchases: Int64
    returns: Int64
    kept: Int64


class BoughtItems(Mapping[int, Bought]):
    """Bought by item_no. Immutable.

    Kept as columns or in its stored form, whichever it came in. Each is made of the other when somebody asks for it:
    most events are no purchases, and need neither.
    """

    __slots__ = ("_columns", "_values")

    def __init__(self, columns: Columns | None, values: Sequence[Any] | None = None) -> None:
        """Use `NOTHING`, `of_events`, `join` or `from_values`."""
        self._columns = columns
        self._values = values

    @property
    def columns(self) -> Columns:
        """All of it."""
        if self._columns is None:
            assert self._values is not None
            self._columns = _unpacked(self._values)
        return self._columns

    def to_values(self) -> Sequence[Any]:
        """It as numbers and bytes, the same for equal ones."""
        if self._values is None:
            assert self._columns is not None
            self._values = _packed(self._columns)
        return self._values

    def __len__(self) -> int:
        return len(self.columns.items)

    def __iter__(self) -> Iterator[int]:
        return iter(self.columns.items.tolist())

    def __getitem__(self, item: int) -> Bought:
        items, *columns = self.columns
        at = int(items.searchsorted(item))
        if at == len(items) or items[at] != item:
            raise KeyError(item)
        return Bought(*(int(column[at]) for column in columns))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BoughtItems):
            return NotImplemented
        return all(map(np.array_equal, self.columns, other.columns))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"BoughtItems({dict(self)!r})"


_NONE = np.empty(0, np.int64)
NOTHING = BoughtItems(Columns(_NONE, _NONE, _NONE, _NONE, _NONE), ())


def of_events(events: Iterable[tuple[Event, Sequence[int]]]) -> BoughtItems:
    """What some events did, each with the item_no of its items, in the same order."""
    found: dict[int, tuple[int, int, int, int]] = {}
    for event, items in events:
        if event.type not in ("purchase", "return"):
            continue
        for item, quantity in _quantities(event, items).items():
            time, purchases, returns, kept = found.get(item, (0, 0, 0, 0))
            if event.type == "purchase":
                found[item] = max(time, event.time), purchases + 1, returns, kept + quantity
            else:
                found[item] = time, purchases, returns + 1, kept - quantity
    if not found:
        return NOTHING
    rows = np.array(sorted((item, *row) for item, row in found.items()), np.int64)
    return BoughtItems(Columns(*np.ascontiguousarray(rows.T)))


def join(one: BoughtItems, other: BoughtItems) -> BoughtItems:
    """What two disjoint parts of a history did together: counts added up, of times the later one."""
    if one is NOTHING or other is NOTHING:
        return one if other is NOTHING else other
    # Into the columns of the longer one.
    old, new = sorted((one.columns, other.columns), key=lambda columns: -len(columns.items))
    places = np.minimum(old.items.searchsorted(new.items), len(old.items) - 1)
    known = old.items[places] == new.items
    at = places[known]
    times, purchases, returns, kept = (column.copy() for column in old[1:])
    times[at] = np.maximum(times[at], new.times[known])
    purchases[at] += new.purchases[known]
    returns[at] += new.returns[known]
    kept[at] += new.kept[known]
    joined = Columns(old.items, times, purchases, returns, kept)
    if known.all():
        return BoughtItems(joined)
    longer = [np.concatenate([column, more[~known]]) for column, more in zip(joined, new, strict=True)]
    order = np.argsort(longer[0], kind="stable")
    return BoughtItems(Columns(*(column[order] for column in longer)))


def from_values(values: Sequence[Any]) -> BoughtItems:
    """What `to_values` made values of. Raises ValueError or TypeError when they are none."""
    if not values:
        return NOTHING
    count, newest, distinct, *columns = values
    if not isinstance(count, int) or not isinstance(newest, int) or len(columns) != 6 or not 0 < distinct <= count:
        raise ValueError("what was bought is not as it is stored")
    for column, length in zip(columns, (distinct, *[count] * 5), strict=True):
        check(column, length)
    return BoughtItems(None, values)


def _packed(columns: Columns) -> Sequence[Any]:
    if not len(columns.items):
        return ()
    # What was bought together was bought at one time.
    distinct, which = np.unique(columns.times, return_inverse=True)
    newest = int(distinct[-1])
    rest = (columns.items, columns.purchases, columns.returns, columns.kept)
    return [len(which), newest, len(distinct), *map(pack, (newest - distinct, which, *rest))]


def _unpacked(values: Sequence[Any]) -> Columns:
    count, newest, distinct, before, *packed = values
    which, items, purchases, returns, kept = map(partial(unpack, count=count), packed)
    return Columns(items, newest - unpack(before, distinct)[which], purchases, returns, kept)


def _quantities(event: Event, items: Sequence[int]) -> dict[int, int]:
    """How many of each item an event is about."""
    found: dict[int, int] = {}
    for item, number in zip(event.items, items, strict=True):
        found[number] = found.get(number, 0) + item.quantity
    return found
