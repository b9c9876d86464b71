"""Which items may be found: what a query's filters let pass, and what always holds.

Never found is an item that is not available or has a stock of 0, that is not yet published, or has expired; of times
the minute counts: an item leaves when the minute begins in which it expires.
"""

import math
from collections.abc import Sequence

import numpy as np

from tidings_core import text
from tidings_core.attributes import Attributes, Time
from tidings_core.faults import Fault
from tidings_core.filters import Filter, Is, Range, faults, nbytes, passing
from tidings_core.model import Snapshot
from tidings_core.patched import PatchedIndex
from tidings_core.rows import Passing, RowSet
from tidings_core.tables import Bool, Float64

MINUTE = 60.0
KEY_BYTES = 2048
"""About what remembering takes besides the filters and what was found."""


def select(wanted: Sequence[Filter], category: str | None, snapshot: Snapshot, now: float) -> Passing | None:
    """The items that pass all filters, are in a category (None: in any), and may be found at `now` (Unix seconds).

    None: every item. The filters have no faults. What was selected before is remembered with the snapshot, as much as
    fits: of the release, for as long as it serves, and of what changed since, until it changes again.
    """
    filters = tuple(dict.fromkeys(wanted))
    named = None if category is None else text.fold(category)
    base = snapshot.base or snapshot
    key = (filters, named, _turn(base, base.attributes, now))

    def size(made: Passing | None) -> int:
        return KEY_BYTES + sum(map(nbytes, filters)) + (0 if made is None else made.nbytes)

    found: Passing | None = base.selections.get(key, lambda: _select(filters, category, base, now), size)
    if snapshot.delta is None:
        return found
    later = (*key, _turn(snapshot, snapshot.delta.attributes, now))
    changed: Passing | None = snapshot.selections.get(
        later, lambda: _select_changed(filters, category, snapshot, now, found), size
    )
    return changed


def filter_faults(wanted: Filter, snapshot: Snapshot) -> Sequence[Fault]:
    """What is wrong with a filter for the items of a snapshot, remembered with it."""
    found: list[Fault] = snapshot.selections.get(
        ("faults", wanted), lambda: faults(wanted, snapshot.attributes), lambda told: _told_bytes(wanted, told)
    )
    return found


def standing(now: float) -> Filter:
    """What always holds, at `now` (Unix seconds)."""
    minute = math.floor(now / MINUTE) * MINUTE
    return Filter(
        must_not=(
            Is("available", False),
            Range("stock", lte=0.0),
            Range("publish_time", "time", gt=minute),
            Range("expire_time", "time", lt=minute + MINUTE),
        )
    )


def _select(filters: tuple[Filter, ...], category: str | None, base: Snapshot, now: float) -> Passing | None:
    """What is selected of a release alone."""
    count = len(base.items)
    mask = passing(Filter(must=(*filters, standing(now))), base.attributes, count)
    if category is not None:
        mask &= _in_category(category, base)
    return None if mask.all() else base.index.prepare(RowSet.of_mask(mask))


def _select_changed(
    filters: tuple[Filter, ...], category: str | None, snapshot: Snapshot, now: float, found: Passing | None
) -> Passing | None:
    """What is selected of a release and its delta, `found` being what is of the release alone."""
    base, delta, index = snapshot.base, snapshot.delta, snapshot.index
    assert base is not None
    assert delta is not None
    assert isinstance(index, PatchedIndex)
    count = len(snapshot.items)
    mask = passing(Filter(must=(*filters, standing(now))), delta.attributes, len(delta.rows))
    if category is not None:
        mask &= _in_category(category, snapshot)[delta.rows]
    if found is None and mask.all() and not len(delta.deleted):
        return None
    held = np.zeros(count, np.bool_)
    held[: len(base.items)] = True if found is None else found.rows.mask()
    held[delta.rows] = mask
    held[delta.deleted] = False
    return index.patch(RowSet.of_mask(held), found)


def _in_category(category: str, snapshot: Snapshot) -> Bool:
    mask = np.zeros(len(snapshot.items), np.bool_)
    if snapshot.categories is not None:
        mask[text.category_items(category, snapshot.categories, len(mask))] = True
    return mask


def _told_bytes(wanted: Filter, told: Sequence[Fault]) -> int:
    return KEY_BYTES + nbytes(wanted) + sum(len(place) + len(problem) for place, problem in told)


def _turn(snapshot: Snapshot, attributes: Attributes, now: float) -> float:
    """The last minute, up to `now`, in which an item was published or expired: until the next, nothing changes."""
    turns: Float64 = snapshot.selections.get("turns", lambda: _turns(attributes), lambda found: int(found.nbytes))
    at = int(np.searchsorted(turns, now, side="right"))
    return float(turns[at - 1]) if at else -math.inf


def _turns(attributes: Attributes) -> Float64:
    """The minutes in which items are published or expire, ascending Unix seconds f64[T]."""
    found = [np.empty(0, np.float64)]
    for name, rounded in (("publish_time", np.ceil), ("expire_time", np.floor)):
        times = attributes.get(name)
        if isinstance(times, Time):
            seconds = times.seconds[~np.isnan(times.seconds)]
            found.append(rounded(seconds / MINUTE) * MINUTE)
    return np.unique(np.concatenate(found))
