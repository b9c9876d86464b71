"""Reading profiles as they were stored first, in JSON. What they did not keep is empty until they are made again."""

import base64
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tidings_core import stated
from tidings_core.bought import NOTHING, BoughtItems, Columns
from tidings_core.events import EVENT_TYPES
from tidings_core.profile import FORMAT, Profile, RecentEvent


def from_json(fields: Mapping[str, Any]) -> Profile:
    """The profile in the values of a JSON text. Raises ValueError, KeyError or TypeError when there is none."""
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
        bought=_bought(array("q", base64.b64decode(fields["bought"]))),
        seen=dict(fields["seen"]),
        blocked_items=dict(fields["blocked_items"]),
        blocked_categories=dict(fields["blocked_categories"]),
        spent=fields["spent"],
        stated=stated.from_json(fields["stated"]) if "stated" in fields else stated.EMPTY,
        last_change=fields.get("changed", 0),
    )


def _bought(flat: Sequence[int]) -> BoughtItems:
    """What was bought. Raises ValueError when the numbers are not of whole entries."""
    if not flat:
        return NOTHING
    items = flat[::5]
    ascending = all(before < item < 1 << 32 for before, item in pairwise((-1, *items)))
    if len(flat) % 5 == 0 and ascending:
        return _columns(zip(*[iter(flat)] * 5, strict=True))
    # The first documents did not count what was kept; read as if they did, times stand where items should.
    entries = zip(*[iter(flat)] * 4, strict=True)
    return _columns((item, time, bought, returned, bought - returned) for item, time, bought, returned in entries)


def _columns(rows: Iterable[tuple[int, ...]]) -> BoughtItems:
    return BoughtItems(Columns(*np.ascontiguousarray(np.array(list(rows), np.int64).T)))
