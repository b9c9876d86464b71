"""People: what the serving release makes of users' profiles, made once per profile and kept."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tidings_core.model import Person
from tidings_core.person import view
from tidings_core.profile import Profile
from tidings_core.release import Release
from tidings_core.tables import Int32
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.store import Store

MAX_KEPT = 20_000
"""So many people are kept, those made last: some 4 kB each."""
CHUNK = 10_000
RELEASES = 2
"""Item rows are kept for so many releases: while one takes over, the other still answers."""


class People:
    """Finds people. For any thread."""

    def __init__(
        self,
        store: Store,
        documents: KnownDocuments,
        kept: int = MAX_KEPT,
        count: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """`count` is told of each lookup whether it found the person kept."""
        self._store = store
        self._documents = documents
        self._kept = kept
        self._count = count
        self._people: OrderedDict[str, tuple[int, str, Person]] = OrderedDict()
        self._rows: OrderedDict[str, Int32] = OrderedDict()
        self._names: list[str] = []
        self._changing = threading.Lock()

    def prepare(self, release: Release) -> None:
        """Find the rows of all numbered items in a release, before anyone asks for it. Raises StorageFailed."""
        self._rows_of(release, None)

    def find(self, user_id: str, release: Release) -> Person | None:
        """What a release makes of a user; None for one of whom nothing is recorded.

        What an acknowledged write did is in it. Raises StorageFailed.
        """
        stored = self._store.user(user_id)
        if stored.version == 0:
            return None
        release_id = release.manifest.release_id
        kept = self._people.get(user_id)
        if kept is not None and kept[0] == stored.version and kept[1] == release_id:
            self._count(True)
            return kept[2]
        self._count(False)
        profile = self._documents.committed(user_id, stored).profile
        snapshot = release.snapshot
        person = view(profile, self._rows_of(release, profile), snapshot, snapshot.users.find(user_id))
        person = replace(person, version=stored.version)
        with self._changing:
            self._people[user_id] = (stored.version, release_id, person)
            self._people.move_to_end(user_id)
            while len(self._people) > self._kept:
                self._people.popitem(last=False)
        return person

    def item_ids(self, numbers: Sequence[int]) -> list[str]:
        """The ids of items by item_no. Raises StorageFailed."""
        if numbers and max(numbers) >= len(self._names):
            with self._changing:
                self._learn_names()
        return [self._names[number] for number in numbers]

    def _rows_of(self, release: Release, profile: Profile | None) -> Int32:
        """Rows by item_no i32[n], complete for the items of a profile; with none, for all items there are."""
        release_id = release.manifest.release_id
        rows = self._rows.get(release_id)
        # An item may have got its number since. Reads see all that is acknowledged, so one look is enough.
        if rows is not None and profile is not None and _newest_item(profile) < len(rows):
            return rows
        with self._changing:
            self._learn_names()
            rows = self._rows.get(release_id, np.empty(0, np.int32))
            parts = [self._names[start : start + CHUNK] for start in range(len(rows), len(self._names), CHUNK)]
            found = map(release.snapshot.items.find_many, parts)
            self._rows[release_id] = rows = np.concatenate([rows, *found])
            while len(self._rows) > RELEASES:
                self._rows.popitem(last=False)
        return rows

    def _learn_names(self) -> None:
        """Read the items numbered since. A number that was never given has no name."""
        for number, item_id in self._store.item_ids(len(self._names)):
            self._names.extend("" for _ in range(len(self._names), number))
            self._names.append(item_id)


def _newest_item(profile: Profile) -> int:
    """The largest item_no in a profile, -1 when there is none."""
    recent = (item for event in profile.recent for item in event.items)
    return max((*profile.bought, *profile.seen, *profile.blocked_items, *recent), default=-1)
