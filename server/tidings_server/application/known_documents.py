"""Users' documents, decoded once: those used last, each under the version that it has on disk."""

import threading
from collections import OrderedDict

from tidings_core.stored import Document
from tidings_server.application.documents import UserDocument, read_document
from tidings_server.application.store import Store

MOST = 2048
"""So many are kept; the profile of somebody who does much takes some 50 KB."""


class KnownDocuments:
    """Documents by user and version. Only what is committed may be put in. For any thread."""

    def __init__(self, store: Store, most: int = MOST) -> None:
        """Keep `most` documents of a store."""
        self._store = store
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[int, UserDocument]] = OrderedDict()

    def read(self, user_id: str) -> tuple[int, UserDocument]:
        """Version and document of a user, as they are on disk now; version 0 when there is none.

        Raises StorageFailed when it cannot be read, or is damaged.
        """
        stored = self._store.user(user_id)
        found = self.find(user_id, stored.version)
        if found is None:
            found = read_document(stored)
            if stored.version:
                self.keep(user_id, stored.version, found)
        return stored.version, found

    def decode(self, user_id: str, stored: Document) -> UserDocument:
        """The document that a transaction sees, decoded now if need be; it may not be committed yet, so it is not kept.

        Raises StorageFailed when it is damaged.
        """
        return self.find(user_id, stored.version) or read_document(stored)

    def find(self, user_id: str, version: int) -> UserDocument | None:
        """The document of a version, if it is kept."""
        with self._lock:
            kept = self._kept.get(user_id)
            if kept is None or kept[0] != version:
                return None
            self._kept.move_to_end(user_id)
            return kept[1]

    def keep(self, user_id: str, version: int, document: UserDocument) -> None:
        """Keep a document that is on disk, unless a newer one is kept."""
        with self._lock:
            kept = self._kept.get(user_id)
            if kept is not None and kept[0] >= version:
                return
            self._kept[user_id] = version, document
            self._kept.move_to_end(user_id)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
