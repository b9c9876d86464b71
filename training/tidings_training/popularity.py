"""What was bought: statistics of items, what is trending, and the histories of users. Only purchases count here."""

import numpy as np
from numpy.typing import NDArray

from tidings_core.features import DAY, ItemStatistics
from tidings_core.model import Histories, Trending
from tidings_training.events import Events

TRENDING_HALF_LIFE_DAYS = 14.0
HISTORY_LIMIT = 2048
"""So many of the newest items of a user are kept."""


def item_statistics(events: Events, as_of: float) -> ItemStatistics:
    """Statistics of the items of `events` as of a time (Unix seconds) that no event is after."""
    items, times, users = events.items[events.purchases], events.times[events.purchases], events.users[events.purchases]
    count = len(events.item_ids)

    def within(days: float) -> NDArray[np.float64]:
        return np.bincount(items[times > as_of - days * DAY], minlength=count).astype(np.float64)

    first = np.full(count, np.inf)
    np.minimum.at(first, items, times)
    pairs = np.unique(users.astype(np.int64) * count + items)
    return ItemStatistics(
        purchases=within(np.inf),
        purchases_7d=within(7.0),
        purchases_30d=within(30.0),
        purchases_90d=within(90.0),
        buyers=np.bincount(pairs % count, minlength=count).astype(np.float64),
        age_days=np.where(np.isfinite(first), (as_of - first) / DAY, np.nan),
    )


def trending(
    events: Events, as_of: float, half_life_days: float = TRENDING_HALF_LIFE_DAYS, limit: int | None = None
) -> Trending:
    """The items with the most purchases, each counting half of one that is `half_life_days` newer, best first.

    An infinite half-life gives all-time popularity.
    """
    age_days = np.maximum(as_of - events.times, 0.0) / DAY
    weights = np.where(events.purchases, np.exp2(-age_days / half_life_days), 0.0)
    scores = np.bincount(events.items, weights, minlength=len(events.item_ids)).astype(np.float32)
    order = np.argsort(-scores, kind="stable")[: int((scores > 0).sum())][:limit]
    return Trending(order.astype(np.int32), scores[order])


def histories(events: Events, limit: int = HISTORY_LIMIT) -> Histories:
    """Each user's distinct items, newest first, with the last time and the number of purchases.

    Among items of one time, as those of one order are, the more often bought comes first, then the lower row.
    """
    chosen = events.purchases
    keys = events.users[chosen].astype(np.int64) * len(events.item_ids) + events.items[chosen]
    pairs, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
    last = np.full(len(pairs), -np.inf)
    np.maximum.at(last, places, events.times[chosen])
    users, items = np.divmod(pairs, len(events.item_ids))
    times = np.floor(last).astype(np.int64)
    order = np.lexsort((items, -counts, -times, users))
    users = users[order]
    place = np.arange(len(users)) - np.searchsorted(users, users)
    order = order[place < limit]
    offsets = np.zeros(len(events.user_ids) + 1, np.int64)
    np.cumsum(np.bincount(users[place < limit], minlength=len(events.user_ids)), out=offsets[1:])
    return Histories(offsets, items[order].astype(np.int32), times[order], counts[order].astype(np.float32))
