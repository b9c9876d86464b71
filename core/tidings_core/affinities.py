"""Affinities: to which categories and brands a user's interest goes, for people to read."""

from collections.abc import Mapping
from typing import Literal

from tidings_core import text
from tidings_core.events import LIKING, liking
from tidings_core.features import attribute_text
from tidings_core.model import Snapshot
from tidings_core.profile import Profile, RecentEvent

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
    told = _of_items(profile, rows, snapshot, name)
    if name == "category":
        # After the items, whose categories are written as the release writes them.
        told += _viewed(profile)
    weights: dict[str, float] = {}
    written: dict[str, str] = {}
    for value, weight in told:
        key = text.fold(value)
        if key and key not in blocked:
            weights[key] = weights.get(key, 0.0) + weight
            written.setdefault(key, value)
    whole = sum(weights.values())
    best = sorted(weights, key=lambda key: (-weights[key], key))[:MOST]
    return [(written[key], weights[key] / whole) for key in best]


def _of_items(profile: Profile, rows: Mapping[int, int], snapshot: Snapshot, name: str) -> list[tuple[str, float]]:
    """The values of the liked items of the recent events, each with what all of them say for it."""
    weights: dict[str, float] = {}
    for event in profile.recent:
        liked = liking(event.type, event.value) * _fresh(event, profile)
        if liked <= 0.0:
            continue
        for item in event.items:
            value = attribute_text(snapshot, name, rows.get(item, -1))
            if value is not None and item not in profile.blocked_items:
                weights[value] = weights.get(value, 0.0) + liked
    return list(weights.items())


def _viewed(profile: Profile) -> list[tuple[str, float]]:
    """The categories viewed by themselves, one by one."""
    return [
        (event.category, LIKING["view"] * _fresh(event, profile))
        for event in profile.recent
        if event.type == "view" and event.category
    ]


def _fresh(event: RecentEvent, profile: Profile) -> float:
    """How much of an event's weight is left, against the newest event: what was done long ago must not vanish."""
    return 2.0 ** ((event.time - profile.last_time) / HALF_LIFE)
