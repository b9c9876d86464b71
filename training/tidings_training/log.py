"""The log: every event of a file as arrays, before anybody decides what is learned from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidings_core.errors import InvalidInput
from tidings_core.events import EVENT_TYPES, LIKED_STARS, LIKING, EventType
from tidings_core.tables import Bool, Float32, Float64, Int32
from tidings_training.events import PURCHASE, Events

_AS_MUCH = {LIKING[kind]: EVENT_TYPES.index(kind) for kind in reversed(EVENT_TYPES) if kind != "rating"}
"""How much an event says -> the place of the first type that says so much, stars apart."""


@dataclass(frozen=True, slots=True)
class Log:
    """E events, good and bad, in time order unless said otherwise.

    users i32[E] and items i32[E] are places in `user_ids` and `item_ids`, which are sorted; parts of a log keep the ids
    of the whole, so that a number means the same in all of them. times f64[E] Unix seconds; kinds i8[E] places in
    EVENT_TYPES; values f64[E], NaN where there is none; sessions i32[E] numbers of the file's sessions, -1 for none.
    """

    user_ids: list[str]
    item_ids: list[str]
    users: Int32
    items: Int32
    times: Float64
    kinds: NDArray[np.int8]
    values: Float64
    sessions: Int32

    def __len__(self) -> int:
        return len(self.times)

    def of(self, kind: EventType) -> Bool:
        """Which events are of a type, bool[E]."""
        return np.asarray(self.kinds == EVENT_TYPES.index(kind), np.bool_)

    @property
    def weights(self) -> Float32:
        """How much each event says that the user likes the item, f32[E]; 0 for nothing, or the contrary."""
        weights = np.array([LIKING[kind] for kind in EVENT_TYPES], np.float32)[self.kinds]
        # Written so that a rating without stars is none that likes.
        weights[self.of("rating") & ~(self.values >= LIKED_STARS)] = 0.0
        return weights

    @property
    def wanted(self) -> Bool:
        """What recommending aims at, bool[E]: purchases, or whatever says something good where nobody buys."""
        bought = self.of(PURCHASE)
        return bought if bought.any() else np.asarray(self.weights > 0, np.bool_)

    def where(self, chosen: Bool | NDArray[np.int64]) -> "Log":
        """The chosen events, bool[E] or places i64[n], with the ids of the whole."""
        return Log(
            self.user_ids,
            self.item_ids,
            self.users[chosen],
            self.items[chosen],
            self.times[chosen],
            self.kinds[chosen],
            self.values[chosen],
            self.sessions[chosen],
        )

    def liked(self) -> Events:
        """The events that say something good, with only the users and items that have one."""
        weights = self.weights
        events = Events(self.user_ids, self.item_ids, self.users, self.items, self.times, weights, self.of(PURCHASE))
        return events.where(weights > 0)


def log_of(events: Events) -> Log:
    """Events as a log that likes the same as much: each of a type that says as much as it did."""
    kinds = np.array([_AS_MUCH[round(float(weight), 6)] for weight in np.unique(events.weights)], np.int8)
    of_event = kinds[np.unique(events.weights, return_inverse=True)[1]]
    of_event[events.purchases] = EVENT_TYPES.index(PURCHASE)
    count = len(events)
    return Log(
        events.user_ids,
        events.item_ids,
        events.users,
        events.items,
        events.times,
        of_event,
        np.full(count, np.nan),
        np.full(count, -1, np.int32),
    )


def core(log: Log, least: int) -> Log:
    """The largest part of a log in which every user and every item has `least` events or more; the k-core.

    Events of one user with one item count once.
    """
    kept = np.ones(len(log), np.bool_)
    while True:
        pairs = np.unique(np.stack([log.users[kept], log.items[kept]]), axis=1)
        users = np.bincount(pairs[0], minlength=len(log.user_ids)) >= least
        items = np.bincount(pairs[1], minlength=len(log.item_ids)) >= least
        left = kept & users[log.users] & items[log.items]
        if left.sum() == kept.sum():
            return log.where(kept)
        kept = left


def cored(log: Log, least: int) -> Log:
    """The core, or the log itself when `least` is below 2. Raises InvalidInput when nobody is in it."""
    if least < 2:
        return log
    left = core(log, least)
    if not len(left):
        raise InvalidInput(("core", f"no user and item has {least} of each other; name a smaller number"))
    return left
