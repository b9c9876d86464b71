"""Filter users: which of some pass conditions on what is stated of them and on their tags."""

from collections.abc import Callable, Collection, Sequence

import structlog

from tidings_core.changes import base_of
from tidings_core.errors import ErasedUser, StorageFailed
from tidings_core.faults import Fault
from tidings_core.filters import Filter
from tidings_core.profile import EMPTY, Profile
from tidings_core.tables import Bool
from tidings_core.tags import attributes_of
from tidings_core.user_filter import tags_in, user_filter_faults, users_passing
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.store import Store
from tidings_server.application.user_tags import UserTags

log = structlog.get_logger(__name__)


class FilterUsers:
    """Filters users. For any thread."""

    def __init__(
        self,
        store: Store,
        documents: KnownDocuments,
        tags: UserTags,
        barred: Collection[str],
        now: Callable[[], float],
    ) -> None:
        """No filter may go by the attributes in `barred`. `now` gives Unix seconds."""
        self._store = store
        self._documents = documents
        self._tags = tags
        self._barred = barred
        self._now = now

    def faults(self, wanted: Filter) -> Sequence[Fault]:
        """All that is wrong with a filter."""
        return user_filter_faults(wanted, self._tags.declared, self._tags.rules, self._barred)

    def passing(self, wanted: Filter, user_ids: Sequence[str]) -> Bool:
        """Which users pass a filter without faults, bool[U]. One whose record is damaged is as one without.

        Raises StorageFailed when nothing can be read.
        """
        now, names = self._now(), tags_in(wanted)
        stored = self._store.users(user_ids)
        profiles: list[Profile] = []
        for user_id in user_ids:
            profile = EMPTY
            if user_id in stored and stored[user_id].content:
                try:
                    profile = self._documents.decode(user_id, stored[user_id]).profile
                    profile = profile if self._tags.usable(profile, int(now * 1000)) else EMPTY
                except ErasedUser:
                    pass
                except StorageFailed as error:
                    log.error("a profile is damaged", problem=str(error))
            profiles.append(profile)
        tags: list[Collection[str]] = [()] * len(profiles)
        if names:
            tags = [self._named(names, profile, int(now * 1000)) for profile in profiles]
        return users_passing(wanted, [one.stated.values() for one in profiles], tags, self._tags.declared, now)

    def tags_of(self, user_id: str, names: Collection[str]) -> Collection[str]:
        """Of tags and families of these names those that a user has now, the tags with their families.

        None that go by attributes that are barred. Raises StorageFailed.
        """
        names = [name for name in names if attributes_of([name], self._tags.rules).isdisjoint(self._barred)]
        return self._named(names, self._documents.read(user_id)[1].profile, int(self._now() * 1000))

    def _named(self, names: Collection[str], profile: Profile, now_ms: int) -> Collection[str]:
        """The tags of these names that a user has; of a family of which there is any, the family."""
        if profile is EMPTY:
            return ()
        found = self._tags.found(names, profile, now_ms)[0]
        return {*found, *map(base_of, found)}
