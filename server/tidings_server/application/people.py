"""People: what the serving release makes of users' profiles, made once per profile and kept."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tidings_core.errors import StorageFailed
from tidings_core.model import Person, Snapshot
from tidings_core.person import view
from tidings_core.privacy import EVERYTHING, PrivacyRules, standing_of
from tidings_core.profile import EMPTY, Profile
from tidings_core.release import Release, known_until
from tidings_core.standing import ERASED
from tidings_core.stored import Document
from tidings_core.tables import Int32
from tidings_server.application.documents import UserDocument
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.store import Store

MAX_KEPT = 20_000
"""So many people are kept, those made last: some 4 kB each, but for what is prepared of who has many items."""
MAX_MANY_BYTES = 256 << 20
"""All that is so prepared may take so much."""
CHUNK = 10_000
RELEASES = 2
"""Item rows are kept for so many releases: while one takes over, the other still answers."""
GONE = Person(standing=ERASED, unlisted=True)
"""Somebody who was erased."""


_Items = tuple[int, int]
"""Which items a release has: by which numbering new ones have their rows (0 without any), and how many all are."""
_MadeFor = tuple[int, str, _Items]
"""What a person is made for: a version, a release, and its items, since a new one may be known to the profile."""
_Worded = tuple[int, int]
"""Which items are in which categories: the numbering of a delta, and how often it changed them."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows by item_no in a release when it had such items, and the numbers of those names that have no row."""

    rows: Int32 = field(default_factory=lambda: np.empty(0, np.int32))
    items: _Items = (0, 0)
    missing: Mapping[str, int] = field(default_factory=dict)

    def brought_to(self, snapshot: Snapshot, names: Sequence[str]) -> "_Rows":
        """The same for the items of a snapshot of the release, and for all names."""
        items = _items_of(snapshot)
        rows, missing, known, own = self.rows.copy(), dict(self.missing), self.items[1], _own(snapshot)
        if known > items[1] or (known > own and self.items[0] != items[0]):
            # Of new items that have other rows here only the names are of use.
            later = np.flatnonzero(rows >= own)
            missing.update((names[number], number) for number in later.tolist())
            rows[later], known = -1, own
        for row in range(known, items[1]) if len(rows) else ():
            number = missing.get(snapshot.items[row])
            if number is not None:
                rows[number] = row
        parts = [names[start : start + CHUNK] for start in range(len(rows), len(names), CHUNK)]
        found = np.concatenate([np.empty(0, np.int32), *map(snapshot.items.find_many, parts)])
        lacking = np.flatnonzero(found < 0) + len(rows)
        missing.update((names[number], number) for number in lacking.tolist())
        return _Rows(np.concatenate([rows, found]), items, missing)


class People:
    """Finds people. For any thread."""

    def __init__(
        self,
        store: Store,
        documents: KnownDocuments,
        kept: int = MAX_KEPT,
        kept_bytes: int = MAX_MANY_BYTES,
        count: Callable[[bool], None] = lambda _: None,
        rules: PrivacyRules = EVERYTHING,
    ) -> None:
        """`count` is told of each lookup whether it found the person kept.

        `rules` say what profiles may be used for.
        """
        self._rules = rules
        self.nobody = Person(standing=standing_of(EMPTY, rules))
        """Somebody of whom nothing is recorded, not what they say of privacy either."""
        if not self.nobody.standing.may("answer", 0):
            self.nobody = replace(self.nobody, unlisted=True)
        self.erased = documents.erased
        self._store = store
        self._documents = documents
        self._kept = kept
        self._kept_bytes = kept_bytes
        self._count = count
        # How items were categorised concerns those alone who asked to see less of a category.
        self._people: OrderedDict[str, tuple[_MadeFor, _Worded | None, Person]] = OrderedDict()
        self._many_bytes = 0
        self._rows: OrderedDict[str, _Rows] = OrderedDict()
        self._names: list[str] = []
        self._changing = threading.Lock()

    def prepare(self, release: Release) -> None:
        """Find the rows of all numbered items in a release, before anyone asks for it. Raises StorageFailed."""
        self.rows_of(release, None)

    def find(self, user_id: str, release: Release) -> Person | None:
        """What a release makes of a user; None for one of whom nothing is recorded.

        What an acknowledged write did is in it. Raises StorageFailed, but not for one who was erased: what the release
        has of them is not used either.
        """
        try:
            return self._find(user_id, release)
        except StorageFailed:
            if user_id in self.erased:
                return GONE
            raise

    def _find(self, user_id: str, release: Release) -> Person | None:
        stored = self._store.user(user_id)
        if stored.version == 0:
            if user_id in self.erased:
                return GONE
            return None if self.nobody.standing.may("answer", 0) else self.nobody
        kept = self.find_kept(user_id, stored.version, release)
        self._count(kept is not None)
        if kept is not None:
            return kept
        document = self._documents.committed(user_id, stored)
        person = self._make(user_id, stored, document, release)
        worded = _worded(release.snapshot) if document.profile.blocked_categories else None
        with self._changing:
            if user_id in self.erased:
                return GONE
            self._drop(user_id)
            self._people[user_id] = (_made_for(stored.version, release), worded, person)
            self._many_bytes += person.many_bytes
            while len(self._people) > self._kept or self._many_bytes > self._kept_bytes:
                self._drop(next(iter(self._people)))
        return person

    def _drop(self, user_id: str) -> bool:
        """Let go of a user while nobody else changes what is kept; whether anything was."""
        found = self._people.pop(user_id, None)
        if found is None:
            return False
        self._many_bytes -= found[2].many_bytes
        return True

    @property
    def kept_ids(self) -> list[str]:
        """The users of whom people are kept."""
        with self._changing:
            return list(self._people)

    def forget(self, user_id: str) -> bool:
        """Let go of a user; whether anything was kept."""
        with self._changing:
            return self._drop(user_id)

    def look(self, user_id: str, stored: Document, release: Release) -> Person:
        """What a release makes of a user's document, which was read from disk and is there. It is not kept.

        Raises StorageFailed when the document is damaged.
        """
        return self._make(user_id, stored, self._documents.decode(user_id, stored), release)

    def find_kept(self, user_id: str, version: int, release: Release) -> Person | None:
        """What a release makes of a version of a user's document, if it is kept."""
        kept = self._people.get(user_id)
        if kept is None or kept[0] != _made_for(version, release):
            return None
        return kept[2] if kept[1] is None or kept[1] == _worded(release.snapshot) else None

    def _make(self, user_id: str, stored: Document, document: UserDocument, release: Release) -> Person:
        profile, snapshot = document.profile, release.snapshot
        standing = standing_of(profile, self._rules)
        if "profiling" not in standing.consent:
            return Person(version=stored.version, standing=standing, unlisted=True, user_id=stored.user_id)
        unlisted = known_until(release.manifest) <= document.erased_through
        row = -1 if unlisted else snapshot.users.find(stored.whose(user_id))
        person = view(profile, self.rows_of(release, profile), snapshot, row)
        return replace(person, version=stored.version, standing=standing, unlisted=unlisted, user_id=stored.user_id)

    def item_ids(self, numbers: Sequence[int]) -> list[str]:
        """The ids of items by item_no. Raises StorageFailed."""
        if numbers and max(numbers) >= len(self._names):
            with self._changing:
                self._learn_names()
        return [self._names[number] for number in numbers]

    def rows_of(self, release: Release, profile: Profile | None) -> Int32:
        """Rows by item_no i32[n], complete for the items of a profile; with none, for all items there are."""
        release_id, snapshot = release.manifest.release_id, release.snapshot
        items, known = _items_of(snapshot), self._rows.get(release_id)
        # An item may have got its number since. Reads see all that is acknowledged, so one look is enough.
        if known is not None and profile is not None and _newest_item(profile) < len(known.rows):
            if known.items == items:
                return known.rows
            if known.items > items and items[0] in (0, known.items[0]):
                # Another thread has seen more items than this snapshot has.
                return np.where(known.rows < items[1], known.rows, -1)
        with self._changing:
            self._learn_names()
            known = self._rows.get(release_id, _Rows())
            brought = known.brought_to(snapshot, self._names)
            self._rows[release_id] = brought
            while len(self._rows) > RELEASES:
                self._rows.popitem(last=False)
        return brought.rows

    def _learn_names(self) -> None:
        """Read the items numbered since. A number that was never given has no name."""
        for number, item_id in self._store.item_ids(len(self._names)):
            self._names.extend("" for _ in range(len(self._names), number))
            self._names.append(item_id)


def _made_for(version: int, release: Release) -> _MadeFor:
    return version, release.manifest.release_id, _items_of(release.snapshot)


def _items_of(snapshot: Snapshot) -> _Items:
    delta = snapshot.delta
    return 0 if delta is None or not len(delta.ids) else delta.numbering, len(snapshot.items)


def _worded(snapshot: Snapshot) -> _Worded:
    return (0, 0) if snapshot.delta is None else (snapshot.delta.numbering, snapshot.delta.worded)


def _own(snapshot: Snapshot) -> int:
    """The number of items of the release itself, whose rows never change."""
    return len((snapshot.base or snapshot).items)


def _newest_item(profile: Profile) -> int:
    """The largest item_no in a profile, -1 when there is none."""
    recent = (item for event in profile.recent for item in event.items)
    few = max((*profile.seen, *profile.blocked_items, *profile.ratings, *recent), default=-1)
    bought = profile.bought.columns.items
    return max(few, int(bought[-1])) if len(bought) else few
