"""Many people at once, read beside the answers: nothing that is kept for those makes room for them."""

from collections.abc import Mapping, Sequence

import structlog

from tidings_core.audience import Known
from tidings_core.errors import StorageFailed
from tidings_core.model import Person
from tidings_core.release import Release
from tidings_server.application.people import GONE, People
from tidings_server.application.store import Store

TOGETHER = 256
"""Documents that are read and held at a time."""
NEWEST_EVENTS = 5000
"""Whose events are among so many, the newest, did something lately."""

log = structlog.get_logger(__name__)


class ManyPeople:
    """Finds many people. For any thread."""

    def __init__(self, store: Store, people: People) -> None:
        """Make people as `people` does."""
        self._store = store
        self._people = people

    def find(self, user_ids: Sequence[str], release: Release) -> Mapping[str, Person | None]:
        """What a release makes of users, of those of whom anything is recorded, and of those who were erased.

        None where the record is damaged, and for the other id of somebody.

        What an acknowledged write did is in it. Raises StorageFailed when nothing can be read.
        """
        found: dict[str, Person | None] = {}
        if len(self._people.erased):
            found.update((user_id, GONE) for user_id in user_ids if user_id in self._people.erased)
        others: list[str] = []
        for user_id, version in self._store.versions(user_ids).items():
            kept = self._people.find_kept(user_id, version, release)
            if not version:
                found[user_id] = None
            elif kept is None:
                others.append(user_id)
            else:
                found[user_id] = kept
        for start in range(0, len(others), TOGETHER):
            part = others[start : start + TOGETHER]
            for user_id, stored in self._store.users(part).items():
                if not stored.content:
                    found[user_id] = None  # Merged into another since the versions were read.
                    continue
                try:
                    found[user_id] = self._people.look(user_id, stored, release)
                except StorageFailed as error:
                    found[user_id] = None
                    log.error("a profile is damaged", problem=str(error))
        return found

    def lately(self, release: Release) -> Sequence[Known]:
        """The people kept for answers, and those of the newest events. Raises StorageFailed."""
        user_ids = list(dict.fromkeys([*self._people.kept_ids, *self._store.newest_users(NEWEST_EVENTS)]))
        users = release.snapshot.users
        found = self.find(user_ids, release).items()
        # What the release has of somebody who was erased and came back is not theirs any more.
        return [
            Known(user_id, -1 if person.unlisted else users.find(user_id), person)
            for user_id, person in found
            if person is not None
        ]
