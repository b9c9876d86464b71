"""Affinities: to which categories and brands a user's interest goes, for people to read."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Literal

from tidings_core import text
from tidings_core.events import LIKING, liking
from tidings_core.model import Attribute, Snapshot
from tidings_core.profile import Profile

HALF_LIFE = 30 * 86_400_000
"""Milliseconds. What was done counts half of the same done so much later."""
MOST = 20
"""So many values are told; the others have their part of the whole all the same."""

Share = tuple[str, float]
"""A value, and the part of 1 that it has of all interest."""


def affinities(
    profile: Profile, rows: Mapping[int, int], snapshot: Snapshot, name: Literal["category", "brand"]
) -> list[Share]:
    """The values of an attribute that the recent events were about, those liked most first, MOST at most.

    rows maps an item_no to its row in the snapshot; an item without one says nothing. An item counts by how much its
    event says that the user likes it (`events.LIKING`), a category viewed by itself like an item viewed, and all of it
    fades with HALF_LIFE. No clock is asked: waiting changes all weights by one factor, and so no share. Left out is
    what the user asked to see less of. Values that differ in case only are one, written as the release writes it.
    """
    blocked = {text.fold(category) for category in profile.blocked_categories} if name == "category" else set()
    told = _of_items(profile, rows, snapshot.attributes.get(name))
    if name == "category":
        # After the items, whose categories are written as the release writes them.
        told = chain(told, _viewed(profile))
    weights: dict[str, float] = {}
    written: dict[str, str] = {}
    for value, liked, time in told:
        key = text.fold(value)
        if key and key not in blocked:
            # Against the newest event, so that what a user did long ago does not vanish.
            weights[key] = weights.get(key, 0.0) + liked * 2.0 ** ((time - profile.last_time) / HALF_LIFE)
            written.setdefault(key, value)
    whole = sum(weights.values())
    best = sorted(weights, key=lambda key: (-weights[key], key))[:MOST]
    return [(written[key], weights[key] / whole) for key in best]


def _of_items(
    profile: Profile, rows: Mapping[int, int], attribute: Attribute | None
) -> Iterator[tuple[str, float, int]]:
    """The value of each liked item of each recent event, with how much it was liked and when."""
    if attribute is None:
        return
    for event in profile.recent:
        liked = liking(event.type, event.value)
        if liked <= 0.0:
            continue
        for item in event.items:
            row = rows.get(item, -1)
            code = -1 if row < 0 or item in profile.blocked_items else int(attribute.codes[row])
            if code >= 0:
                yield attribute.values[code].decode(), liked, event.time


def _viewed(profile: Profile) -> Iterator[tuple[str, float, int]]:
    """The categories viewed by themselves."""
    for event in profile.recent:
        if event.type == "view" and event.category:
            yield event.category, LIKING["view"], event.time
