"""Generated worlds whose right answers are known, as logs."""

import numpy as np

from tests.training.shop import END, START, make_events
from tidings_core.events import EVENT_TYPES
from tidings_core.tables import Float32
from tidings_training.events import Events
from tidings_training.log import Log
from tidings_training.questions import Questions

NOISE = 0.3
"""Standard deviation of what no model can know of a value."""


def as_log(events: Events) -> Log:
    """Purchases as a log."""
    count = len(events)
    return Log(
        events.user_ids,
        events.item_ids,
        events.users,
        events.items,
        events.times,
        np.full(count, EVENT_TYPES.index("purchase"), np.int8),
        np.full(count, np.nan),
        np.full(count, -1, np.int32),
    )


def taste_world(shuffled: bool = False) -> Log:
    """A shop whose users buy of their own group; `shuffled`: the same purchases dealt out anew."""
    return as_log(make_events(shuffled=shuffled))


class Oracle:
    """What no model can beat in the shop: everything of one's group, and nothing else."""

    def __init__(self, log: Log, groups: int) -> None:
        self._users = np.array([int(name[1:]) % groups for name in log.user_ids])
        self._items = np.array([int(name[1:]) % groups for name in log.item_ids])

    def scores(self, asked: Questions) -> Float32:
        """1 for items of the own group."""
        return (self._users[asked.people][:, None] == self._items[None, :]).astype(np.float32)


def rated_world(users: int = 200, items: int = 150, seed: int = 0, shuffled: bool = False) -> Log:
    """Stars of 1 to 5 made of a mean, two biases, three factors and noise; `shuffled` deals the stars out anew."""
    rng = np.random.default_rng(seed)
    truth = 3.2 + rng.normal(0, 0.4, (users, 1)) + rng.normal(0, 0.4, (1, items))
    truth += rng.normal(0, 0.6, (users, 3)) @ rng.normal(0, 0.6, (3, items))
    who, what = rng.permutation(np.argwhere(rng.random((users, items)) < 0.3)).T
    stars = np.clip(truth[who, what] + rng.normal(0, NOISE, len(who)), 1.0, 5.0)
    if shuffled:
        stars = rng.permutation(stars)
    times = np.sort(START + rng.random(len(who)) * (END - START))
    return Log(
        [f"u{number:04}" for number in range(users)],
        [f"i{number:04}" for number in range(items)],
        who.astype(np.int32),
        what.astype(np.int32),
        times,
        np.full(len(who), EVENT_TYPES.index("rating"), np.int8),
        stars,
        np.full(len(who), -1, np.int32),
    )


SHORT, LONG = 60.0, 40 * 86_400.0
"""A pause within a visit, and one between visits, in seconds."""


def order_world(users: int = 200, items: int = 60, length: int = 20, seed: int = 0, shuffled: bool = False) -> Log:
    """Views in which order and time say everything: after a short pause the next item is one further, after a long one
    seven further. `shuffled` deals the items out anew."""
    rng = np.random.default_rng(seed)
    pauses = np.where(rng.random((users, length - 1)) < 0.5, SHORT, LONG)
    moves = np.where(pauses == SHORT, 1, 7)
    first = rng.integers(0, items, (users, 1))
    what = np.concatenate([first, first + np.cumsum(moves, axis=1)], axis=1) % items
    begin = START + rng.random((users, 1)) * 86_400.0
    times = np.concatenate([begin, begin + np.cumsum(pauses, axis=1)], axis=1).ravel()
    order = np.argsort(times, kind="stable")
    count = users * length
    items_of = what.ravel() if not shuffled else rng.permutation(what.ravel())
    return Log(
        [f"u{number:04}" for number in range(users)],
        [f"i{number:04}" for number in range(items)],
        np.repeat(np.arange(users, dtype=np.int32), length)[order],
        items_of.astype(np.int32)[order],
        times[order],
        np.full(count, EVENT_TYPES.index("view"), np.int8),
        np.full(count, np.nan),
        np.full(count, -1, np.int32),
    )
