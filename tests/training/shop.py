"""A generated shop whose structure is planted: users of a group buy that group's items, a few things from anywhere."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tidings_core.features import DAY
from tidings_training.events import Events

START = 1_600_000_000.0
DAYS = 200.0
END = START + DAYS * DAY
GROUPS = 6


def make_events(
    users: int = 240, items: int = 144, purchases: int = 14, seed: int = 0, shuffled: bool = False, tail: int = 0
) -> Events:
    """Events of users u0.. who buy items of their group (number modulo GROUPS) nine times in ten.

    `shuffled` deals the items out anew, so that nothing can be learned of a user; another `tail` gives other items in
    the last 28 days, and the same before.
    """
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(users), purchases)
    of_group = rng.integers(0, items // GROUPS, len(who)) * GROUPS + who % GROUPS
    what = np.where(rng.random(len(who)) < 0.9, of_group, rng.integers(0, items, len(who)))
    times = np.sort(np.round(START + rng.random(len(who)) * DAYS * DAY))
    times[-1] = END
    order = rng.permutation(len(who))
    who, what = who[order], what[order]
    if shuffled:
        what = rng.permutation(what)
    if tail:
        late = times > END - 28 * DAY
        what = np.where(late, np.random.default_rng(tail).integers(0, items, len(who)), what)
    return as_events(who, what, times)


def as_events(who: NDArray[np.int64], what: NDArray[np.int64], times: NDArray[np.float64]) -> Events:
    """Purchases by user and item numbers; ids are u0000 and i0000, so that they sort as the numbers do."""
    user_numbers, users = np.unique(who, return_inverse=True)
    item_numbers, items = np.unique(what, return_inverse=True)
    return Events(
        [f"u{number:04}" for number in user_numbers],
        [f"i{number:04}" for number in item_numbers],
        users.astype(np.int32),
        items.astype(np.int32),
        times,
        np.ones(len(times), np.float32),
        np.ones(len(times), np.bool_),
    )


def group(name: str) -> int:
    """The group of a user or an item by its id."""
    return int(name[1:]) % GROUPS


def write_events(path: Path, events: Events) -> Path:
    """Write events as Parquet."""
    table = {
        "user_id": [events.user_ids[user] for user in events.users],
        "item_id": [events.item_ids[item] for item in events.items],
        "timestamp": pa.array((events.times * 1000).astype(np.int64)).cast(pa.timestamp("ms", "UTC")),
    }
    pq.write_table(pa.table(table), path)
    return path


def write_catalogue(path: Path, items: int = 144) -> Path:
    """Write a catalogue with a price and the group as category."""
    names = [f"i{number:04}" for number in range(items)]
    pq.write_table(
        pa.table(
            {
                "id": names,
                "title": [f"Thing {name}" for name in names],
                "price": [1.0 + number % 7 for number in range(items)],
                "categories": [[f"group {group(name)}"] for name in names],
            }
        ),
        path,
    )
    return path
