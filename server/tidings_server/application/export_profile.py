"""Export a person: everything that is kept under an id, one thing after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tidings_core.errors import NotFound
from tidings_core.stored import Entry, StoredEvent, StoredPush, Timer
from tidings_server.application.contacts import KnownContact
from tidings_server.application.documents import UserDocument
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.store import Store

PAGE = 500
"""Entries that are read at a time."""
MOST_DECISIONS = 1_000_000


@dataclass(frozen=True, slots=True)
class KeptDocument:
    """The user's document, with the ids of the items that it has by number; `item_ids` maps the one to the other."""

    version: int
    document: UserDocument


Kept = KeptDocument | KnownContact | StoredEvent | StoredPush | Entry | Timer
"""One thing that is kept of somebody."""


class ExportProfile:
    """Exports people."""

    def __init__(
        self, store: Store, documents: KnownDocuments, contacts: Callable[[str], Sequence[KnownContact]]
    ) -> None:
        """Take the store, what decodes its documents, and what opens the contacts of a user."""
        self._contacts = contacts
        self._store = store
        self._documents = documents

    def __call__(self, user_id: str) -> Iterator[Kept]:
        """All that is kept of a user under any id, read as it is asked for: the document first, events in order.

        Raises NotFound when nothing is; StorageFailed.
        """
        stored = self._documents.stored(user_id)
        version, document = stored.version, self._documents.committed(user_id, stored)
        parts = self._rest(stored.whose(user_id))
        first = next(parts, None)
        if not version and first is None:
            raise NotFound("nothing is kept of this user: is the user_id right, or was the user erased?")
        return self._all(KeptDocument(version, document), first, parts)

    def _all(self, document: KeptDocument, first: Kept | None, rest: Iterator[Kept]) -> Iterator[Kept]:
        if document.version:
            yield document
        if first is not None:
            yield first
        yield from rest

    def _rest(self, user_id: str) -> Iterator[Kept]:
        yield from self._contacts(user_id)
        ids = (user_id, *self._store.merged(user_id))
        for name in ids:
            after = 0
            while events := self._store.user_events(name, after, PAGE):
                yield from events
                after = events[-1].number
        after = 0
        while pushes := self._store.pushes(user_id, after, PAGE):
            yield from pushes
            after = pushes[-1].offset
        decisions: Sequence[Entry] = self._store.decisions(user_id, MOST_DECISIONS)
        yield from reversed(decisions)
        for name in ids:
            yield from self._store.timers(name)
