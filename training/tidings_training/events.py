"""Events as arrays: what everything else is learned from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidings_core.events import EventType
from tidings_core.tables import Bool, Int32

PURCHASE: EventType = "purchase"


@dataclass(frozen=True, slots=True)
class Events:
    """E events in time order, each of which says something good of its item.

    users i32[E] and items i32[E] are places in `user_ids` and `item_ids`, which are sorted and hold no id without an
    event; times f64[E] Unix seconds; weights f32[E] how much the event says that the user likes the item;
    purchases bool[E].
    """

    user_ids: list[str]
    item_ids: list[str]
    users: Int32
    items: Int32
    times: NDArray[np.float64]
    weights: NDArray[np.float32]
    purchases: Bool

    def __len__(self) -> int:
        return len(self.times)

    def where(self, chosen: Bool) -> "Events":
        """Only the chosen events, bool[E], with only the users and items that have one."""
        users, user_rows = np.unique(self.users[chosen], return_inverse=True)
        items, item_rows = np.unique(self.items[chosen], return_inverse=True)
        return Events(
            [self.user_ids[user] for user in users],
            [self.item_ids[item] for item in items],
            user_rows.astype(np.int32),
            item_rows.astype(np.int32),
            self.times[chosen],
            self.weights[chosen],
            self.purchases[chosen],
        )

    def between(self, start: float, end: float) -> "Events":
        """Events after `start` and up to `end`, both Unix seconds."""
        return self.where((self.times > start) & (self.times <= end))

    @property
    def enough(self) -> bool:
        """Whether there is something to learn from: a purchase, and two users and items or more."""
        return bool(self.purchases.any()) and len(self.user_ids) >= 2 and len(self.item_ids) >= 2
