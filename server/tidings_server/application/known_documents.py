"""Users' documents, decoded once: those used last, each under the version that it has on disk."""

import threading
from collections import OrderedDict

from tidings_core.stored import Document
from tidings_server.application.documents import UserDocument, read_document
from tidings_server.application.erasures import ErasedIds
from tidings_server.application.store import Store

MOST = 2048
"""So many are kept; the profile of somebody who does much takes some 50 KB."""
MOST_BYTES = 16 << 20
"""Of all that is kept, in its stored form, a tenth or so of what it takes: a wholesaler has far more."""


class KnownDocuments:
    """Documents by user and version. Only what is committed may be put in. For any thread."""

    def __init__(
        self, store: Store, most: int = MOST, most_bytes: int = MOST_BYTES, erased: ErasedIds | None = None
    ) -> None:
        """Keep `most` documents of a store, of `most_bytes` in their stored form together; none of who is `erased`."""
        self.erased = ErasedIds(b"") if erased is None else erased
        self._store = store
        self._most = most
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[int, UserDocument, int]] = OrderedDict()
        self._bytes = 0

    def read(self, user_id: str) -> tuple[int, UserDocument]:
        """Version and document of a user, as they are on disk now; version 0 when there is none.

        Raises StorageFailed when it cannot be read, or is damaged.
        """
        stored = self.stored(user_id)
        return stored.version, self.committed(user_id, stored)

    def stored(self, user_id: str) -> Document:
        """The stored form of a user's document, as it is on disk now. Raises StorageFailed when it cannot be read."""
        return self._store.user(user_id)

    def committed(self, user_id: str, stored: Document) -> UserDocument:
        """The document in a stored form that was read from disk, kept from now on.

        Raises StorageFailed when it is damaged.
        """
        found = self.find(user_id, stored.version)
        if found is None:
            found = read_document(stored)
            if stored.version:
                self.keep(user_id, stored.version, found, len(stored.content))
        return found

    def decode(self, user_id: str, stored: Document) -> UserDocument:
        """The document that a transaction sees, decoded now if need be; it may not be committed yet, so it is not kept.

        Raises ErasedUser for one who was erased, so that nothing makes a new one; StorageFailed when it is damaged.
        """
        if not stored.version:
            self.erased.refuse(user_id)
        return self.find(user_id, stored.version) or read_document(stored)

    def find(self, user_id: str, version: int) -> UserDocument | None:
        """The document of a version, if it is kept."""
        with self._lock:
            kept = self._kept.get(user_id)
            if kept is None or kept[0] != version:
                return None
            self._kept.move_to_end(user_id)
            return kept[1]

    def keep(self, user_id: str, version: int, document: UserDocument, size: int) -> None:
        """Keep a document that is on disk, unless a newer one is kept. Its stored form has `size` bytes."""
        with self._lock:
            kept = self._kept.get(user_id)
            if (kept is not None and kept[0] >= version) or user_id in self.erased:
                return
            self._bytes += size - (0 if kept is None else kept[2])
            self._kept[user_id] = version, document, size
            self._kept.move_to_end(user_id)
            while len(self._kept) > self._most or self._bytes > self._most_bytes:
                _, (_, _, gone) = self._kept.popitem(last=False)
                self._bytes -= gone

    def forget(self, user_id: str) -> bool:
        """Let go of a user's document; whether one was kept."""
        with self._lock:
            kept = self._kept.pop(user_id, None)
            if kept is not None:
                self._bytes -= kept[2]
            return kept is not None
