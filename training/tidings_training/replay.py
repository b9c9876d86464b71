"""People as the server knew them at a time: profiles replayed from a log by the server's own fold and view.

A line of a file is one item; lines of one user, type and time are one event, as the lines of an order are.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tidings_core.events import EVENT_TYPES, Event, EventItem
from tidings_core.model import Person, Snapshot
from tidings_core.person import view
from tidings_core.profile import EMPTY, Profile, fold
from tidings_training.log import Log

Folded = tuple[Event, list[int]]


class Replay:
    """Replays one log; the item_no of an item is its place in the log's `item_ids`."""

    def __init__(self, log: Log) -> None:
        """Take a log in time order."""
        self._log = log
        self._order = np.argsort(log.users, kind="stable")
        self._starts = np.searchsorted(log.users[self._order], np.arange(len(log.user_ids) + 1))
        self._users: Mapping[str, int] = {user_id: number for number, user_id in enumerate(log.user_ids)}

    def profile(self, user_id: str, as_of: float) -> Profile:
        """The profile that the events of a user up to a time (Unix seconds) make."""
        number = self._users.get(user_id)
        return EMPTY if number is None else fold(EMPTY, self._events(number, as_of))

    def people(self, user_ids: Sequence[str], as_of: float, snapshot: Snapshot) -> list[Person | None]:
        """What a snapshot makes of users as of a time (Unix seconds); None for one of whom there is nothing by then."""
        rows = snapshot.items.find_many(self._log.item_ids)
        found: list[Person | None] = []
        for user_id, user_row in zip(user_ids, snapshot.users.find_many(user_ids).tolist(), strict=True):
            profile = self.profile(user_id, as_of)
            found.append(None if profile == EMPTY else view(profile, rows, snapshot, user_row))
        return found

    def _events(self, user: int, as_of: float) -> Iterator[Folded]:
        log = self._log
        lines = self._order[self._starts[user] : self._starts[user + 1]]
        lines = lines[log.times[lines] <= as_of]
        if not len(lines):
            return
        kinds, times = log.kinds[lines], log.times[lines]
        lines = lines[np.lexsort((np.arange(len(lines)), kinds, times))]
        kinds, times = log.kinds[lines], log.times[lines]
        # What rates items rates each for itself.
        apart = (kinds[1:] != kinds[:-1]) | (times[1:] != times[:-1]) | (kinds[1:] == EVENT_TYPES.index("rating"))
        for group in np.split(lines, np.flatnonzero(apart) + 1):
            items = log.items[group].tolist()
            value = float(log.values[group[0]])
            yield (
                Event(
                    f"line-{group[0]}",
                    EVENT_TYPES[log.kinds[group[0]]],
                    log.user_ids[user],
                    round(float(log.times[group[0]]) * 1000),
                    tuple(EventItem(log.item_ids[item]) for item in items),
                    value=None if np.isnan(value) else value,
                ),
                items,
            )
