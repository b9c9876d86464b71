"""Affinities: to which categories, brands and prices a user's interest goes, for tags to use and for people to read.

They are made of what is kept by item, in the terms of the catalogue as it is now. What was bought counts as much as a
purchase says (`events.LIKING`) for each time it was bought, unless all of it was given back; what else was done counts
as it leans, and a low rating leans against. A category viewed by itself counts like an item viewed. All of it fades
with HALF_LIFE. No clock is asked: waiting changes all weights by one factor, and so no share.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from tidings_core import text
from tidings_core.events import LIKING
from tidings_core.features import ITEM_FEATURES, attribute_codes, attribute_text
from tidings_core.leanings import SCALE
from tidings_core.model import Snapshot
from tidings_core.profile import Profile
from tidings_core.tables import Float64, Int32, Int64

HALF_LIFE = 30 * 86_400_000
"""Milliseconds. What was done counts half of the same done so much later."""
MOST = 20
"""So many values are told; the others have their part of the whole all the same."""
_LOG_PRICE = ITEM_FEATURES.index("log_price")

Share = tuple[str, float]
"""A value, and the part of 1 that it has of all interest."""


class Prices(NamedTuple):
    """Of the prices of what a user likes, by how much: the first quartile, the median, the third quartile."""

    low: float
    middle: float
    high: float


def affinities(profile: Profile, rows: Int32, snapshot: Snapshot, name: Literal["category", "brand"]) -> list[Share]:
    """The values of an attribute that the user likes, those liked most first, MOST at most.

    rows i32[n] is an item's row in the snapshot by item_no, -1 when it has none; an item without one says nothing. Left
    out is what the user asked to see less of, and that against which as much speaks as for it. Values that differ in
    case only are one, written as the release writes it.
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
    weights = {key: weight for key, weight in weights.items() if weight > 0.0}
    whole = sum(weights.values())
    best = sorted(weights, key=lambda key: (-weights[key], key))[:MOST]
    return [(written[key], weights[key] / whole) for key in best]


def prices(profile: Profile, rows: Int32, snapshot: Snapshot) -> Prices | None:
    """The prices of the items that a user likes; None when none of them has one. `rows` as for `affinities`."""
    of_items, weights = _weights(profile, rows)
    if not len(of_items):
        return None
    found = np.expm1(np.asarray(snapshot.item_features[of_items, _LOG_PRICE], np.float64))
    kept = (found > 0.0) & (weights > 0.0)
    if not kept.any():
        return None
    order = np.argsort(found[kept], kind="stable")
    through = np.cumsum(weights[kept][order])
    places = np.searchsorted(through, through[-1] * np.array([0.25, 0.5, 0.75]))
    return Prices(*found[kept][order][places].tolist())


def _weights(profile: Profile, rows: Int32) -> tuple[Int32, Float64]:
    """The rows i32[n] of the items that anything speaks for or against, each once, and how much f64[n] in all."""
    bought = profile.bought.columns
    kept = (bought.kept > 0) & (bought.purchases > 0)
    leanings = np.array(profile.leanings, np.int64).reshape(-1, 3)
    items = np.concatenate([bought.items[kept], leanings[:, 1]])
    times = np.concatenate([bought.times[kept], leanings[:, 0]])
    says = np.concatenate([LIKING["purchase"] * bought.purchases[kept], leanings[:, 2] / SCALE])
    of_items = _rows_of(items, rows)
    there = (of_items >= 0) & ~np.isin(items, list(profile.blocked_items))
    distinct, which = np.unique(of_items[there], return_inverse=True)
    fresh = np.exp2((times[there] - profile.last_time) / HALF_LIFE)
    weights: Float64 = np.bincount(which, says[there] * fresh, len(distinct)).astype(np.float64)
    return distinct, weights


def _rows_of(items: Int64, rows: Int32) -> Int32:
    known = items < len(rows)
    found = np.full(len(items), -1, np.int32)
    found[known] = rows[items[known]]
    return found


def _of_items(profile: Profile, rows: Int32, snapshot: Snapshot, name: str) -> list[tuple[str, float]]:
    """The values of the items, each with what all of its items say."""
    of_items, weights = _weights(profile, rows)
    codes = attribute_codes(snapshot, name, of_items)
    if codes is None:
        return []
    distinct, first, which = np.unique(codes, return_index=True, return_inverse=True)
    sums = np.bincount(which, weights, len(distinct))
    told: Iterable[tuple[str | None, float]] = (
        (attribute_text(snapshot, name, int(of_items[at])), weight)
        for code, at, weight in zip(distinct.tolist(), first.tolist(), sums.tolist(), strict=True)
        if code >= 0
    )
    return [(value, weight) for value, weight in told if value is not None]


def _viewed(profile: Profile) -> list[tuple[str, float]]:
    """The categories viewed by themselves, one by one."""
    return [
        (event.category, LIKING["view"] * 2.0 ** ((event.time - profile.last_time) / HALF_LIFE))
        for event in profile.recent
        if event.type == "view" and event.category
    ]
