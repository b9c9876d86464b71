"""What is bought together: pairs of items that orders join more often than chance would."""

import numpy as np
import scipy.sparse

from tidings_core.model import Neighbours
from tidings_core.tables import Bool, Float64, Int32, Int64
from tidings_training.events import Events

COMPLEMENTS = 50
SIGNIFICANT = 10.83
"""By chance a log-likelihood ratio is this large once in a thousand pairs (chi squared, one degree of freedom)."""
BUYERS = 2
"""So many users must have bought both items: one customer's standing order says nothing of others."""
TOGETHER = 0.5
"""Two items of one category are complements when there is at least half an order with both for each user who has both;
when people buy them in different orders, one replaces the other."""
LARGEST_BASKET = 500
"""An order of more items says little of any two of them, and takes the square of its size to count."""
BLOCK = 512
"""Items whose pairs are counted at once: what bounds the memory."""


def find_complements(events: Events, categories: Int32 | None = None, limit: int = COMPLEMENTS) -> Neighbours:
    """At most `limit` complements per item, from what one user bought at one time.

    categories i32[I] are codes, -1 where an item has none. A score is the log-likelihood ratio of the pair (Dunning,
    1993) over the root of the item's number of orders: the ratio grows with that number, and in a cart the item that
    sells most would drown the others.
    """
    baskets = _baskets(events)
    of_item, buyers = baskets.T.tocsr(), _buyers(events)
    total, orders = baskets.shape[0], np.diff(of_item.indptr).astype(np.float64)
    found: list[tuple[Int32, Int32, Float64]] = []
    for start in range(0, len(orders), BLOCK):
        pairs = (of_item[start : start + BLOCK] @ baskets).tocoo()
        items, others, both = pairs.row + np.int32(start), pairs.col, pairs.data.astype(np.float64)
        more = (items != others) & (both * total > orders[items] * orders[others])
        items, others, both = items[more], others[more], both[more]
        ratios = log_likelihood_ratio(both, orders[items], orders[others], total)
        kept = np.flatnonzero(ratios >= SIGNIFICANT)
        items, others, both, ratios = items[kept], others[kept], both[kept], ratios[kept]
        kept = np.flatnonzero(_sound(items, others, both, buyers, categories))
        found.append((items[kept], others[kept], ratios[kept] / np.sqrt(orders[items[kept]])))
    items, others, scores = (np.concatenate(column) for column in zip(*found, strict=True))
    return _best(items, others, scores, len(orders), limit)


def log_likelihood_ratio(both: Float64, first: Float64, second: Float64, total: float) -> Float64:
    """How unlikely chance is to bring two things together so often, f64[P]: 0 when they meet as often as chance has it.

    Of `total` orders `first` f64[P] have the one, `second` the other, `both` both. G squared of the 2 x 2 table (T.
    Dunning, Accurate methods for the statistics of surprise and coincidence, Computational Linguistics 19, 1993).
    """
    table = (
        (both, first, second),
        (first - both, first, total - second),
        (second - both, total - first, second),
        (total - first - second + both, total - first, total - second),
    )
    ratio = np.zeros(len(both))
    for seen, row, column in table:
        there = seen > 0
        ratio[there] += seen[there] * np.log(seen[there] * total / (row * column)[there])
    return 2.0 * np.maximum(ratio, 0.0)


def orders_of(events: Events) -> tuple[Int64, Int32]:
    """What was bought together: the order that starts at entry starts[o], i64[O], of items i32[E], each once per order.

    An order is what one user bought at one time.
    """
    bought = events.purchases
    _, times = np.unique(events.times[bought], return_inverse=True)
    orders = events.users[bought].astype(np.int64) * (int(times.max(initial=0)) + 1) + times
    lines = np.unique(np.stack([orders, events.items[bought]]), axis=1)
    starts = np.flatnonzero(np.diff(lines[0], prepend=-1))
    return starts, lines[1].astype(np.int32)


def _baskets(events: Events) -> "scipy.sparse.csr_matrix":
    """Which items each order holds, f32[orders, I], the largest orders left out."""
    starts, items = orders_of(events)
    ends = np.append(starts, len(items))
    matrix = scipy.sparse.csr_matrix(
        (np.ones(len(items), np.float32), items, ends), shape=(len(starts), len(events.item_ids))
    )
    return matrix[np.diff(ends) <= LARGEST_BASKET]


def _buyers(events: Events) -> "scipy.sparse.csr_matrix":
    """Who bought each item, f32[I, users]: 1 however often."""
    bought = events.purchases
    ones = np.ones(int(bought.sum()), np.float32)
    shape = (len(events.item_ids), len(events.user_ids))
    matrix = scipy.sparse.csr_matrix((ones, (events.items[bought], events.users[bought])), shape=shape)
    matrix.data[:] = 1.0
    return matrix


def _sound(
    items: Int32, others: Int32, both: Float64, buyers: "scipy.sparse.csr_matrix", categories: Int32 | None
) -> Bool:
    """Which pairs rest on several users and are no substitutes: bool[P]. `buyers` is f32[I, users]."""
    having = np.asarray(buyers[items].multiply(buyers[others]).sum(axis=1)).ravel()
    kept = having >= BUYERS
    if categories is not None:
        alike = (categories[items] >= 0) & (categories[items] == categories[others])
        kept &= ~alike | (both >= TOGETHER * having)
    return kept


def _best(items: Int32, others: Int32, scores: Float64, count: int, limit: int) -> Neighbours:
    """The pairs of the largest scores of each of `count` items, ties by row."""
    order = np.lexsort((others, -scores, items))
    items, others, scores = items[order], others[order], scores[order]
    place = np.arange(len(items)) - np.searchsorted(items, items)
    kept = place < limit
    width = min(limit, int(place.max(initial=-1)) + 1)
    out = Neighbours(np.full((count, width), -1, np.int32), np.zeros((count, width), np.float32))
    out.rows[items[kept], place[kept]] = others[kept]
    out.scores[items[kept], place[kept]] = scores[kept]
    return out
