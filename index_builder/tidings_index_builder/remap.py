"""What a model or a release says of items, brought onto other rows."""

import numpy as np
from numpy.typing import NDArray

from tidings_core.model import Histories, Neighbours, Trending
from tidings_core.tables import Int32


def remapped_neighbours(neighbours: Neighbours, item_from: Int32, item_to: Int32) -> Neighbours:
    """Neighbours of other items: row i is what item_from[i] was (-1: nothing); item_to maps old rows to new ones."""
    safe = np.maximum(item_from, 0)
    near = neighbours.rows[safe]
    kept = (near >= 0) & (item_from >= 0)[:, None]
    rows = np.where(kept, item_to[np.maximum(near, 0)], np.int32(-1))
    scores = np.where(rows >= 0, neighbours.scores[safe], np.float32(0.0))
    # Close the gaps that items which are not served leave behind, keeping the order.
    order = np.argsort(rows < 0, axis=1, kind="stable")
    return Neighbours(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1))


def remapped_trending(trending: Trending, item_to: Int32) -> Trending:
    """What trends among other items: item_to maps old rows to new ones, -1 to none."""
    rows = item_to[trending.rows]
    return Trending(rows[rows >= 0], trending.scores[rows >= 0])


def remapped_histories(histories: Histories, user_from: Int32, item_to: Int32) -> Histories:
    """Histories of other users and items: user i was user_from[i] (-1: nobody), item_to maps old rows to new ones."""
    safe = np.maximum(user_from, 0)
    starts = histories.offsets[safe]
    lengths = np.where(user_from >= 0, histories.offsets[safe + 1] - starts, 0)
    at = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(int(lengths.sum()))
    rows = item_to[histories.rows[at]]
    kept = rows >= 0
    users: NDArray[np.int64] = np.repeat(np.arange(len(user_from)), lengths)[kept]
    offsets = np.zeros(len(user_from) + 1, np.int64)
    np.cumsum(np.bincount(users, minlength=len(user_from)), out=offsets[1:])
    return Histories(offsets, rows[kept], histories.times[at][kept], histories.counts[at][kept])
