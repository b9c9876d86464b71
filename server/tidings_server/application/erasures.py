"""Who was erased: known by a keyed hash of the id alone, in memory and in the store."""

import hmac
import threading
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Protocol

from tidings_core.errors import ErasedUser
from tidings_core.stored import Erased, Erasing

KEY_BYTES = 16


class Erasures(Protocol):
    """Erasing people inside a transaction."""

    def get(self, key: bytes) -> Erased | None:
        """Whether, and how, the user of a key was erased."""
        ...

    def under_way(self, key: bytes) -> Erasing | None:
        """The erasure of a key that is not done."""
        ...

    def begin(self, keys: Sequence[bytes], user_ids: Sequence[str], time: int, counts: Mapping[str, int]) -> None:
        """Say that users are erased from now on, the person's own id first, and remove their documents.

        `counts` is what else was removed in this transaction.
        """
        ...

    def step(self, key: bytes, limit: int) -> int:
        """Remove up to `limit` entries of an erasure that is under way; returns how many, 0 when none is left."""
        ...

    def finish(self, key: bytes, more: Mapping[str, int]) -> Mapping[str, int]:
        """End an erasure: of it only its receipt stays, with what else was erased. Returns the receipt."""
        ...

    def lift(self, key: bytes) -> None:
        """Say that a user came back: what was erased stays so, and what happens from now on may be recorded."""
        ...

    def hold(self, release_id: str, keys: Sequence[bytes]) -> None:
        """Say that a release has vectors of erased users."""
        ...

    def let_go(self, release_ids: Sequence[str]) -> None:
        """Forget of releases other than these that they have vectors of erased users: they are no more."""
        ...


class ErasedIds:
    """The ids that were erased and may not come back. For any thread.

    An id is put in before the store is told, so whatever runs after that in the store's one writer refuses it.
    """

    def __init__(self, key: bytes, erased: Iterable[Erased] = ()) -> None:
        """`key` is the state's own: without it nobody can tell whether an id is among the erased."""
        self._key = key
        self._keys = {one.key for one in erased if not one.lifted}
        self._changing = threading.Lock()

    def key(self, user_id: str) -> bytes:
        """The keyed hash of an id: HMAC-SHA256, cut to 16 bytes."""
        return hmac.digest(self._key, b"erased/" + user_id.encode(), sha256)[:KEY_BYTES]

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, user_id: object) -> bool:
        return bool(self._keys) and isinstance(user_id, str) and self.key(user_id) in self._keys

    def add(self, keys: Iterable[bytes]) -> None:
        """Put keys in."""
        with self._changing:
            self._keys = self._keys.union(keys)

    def remove(self, keys: Iterable[bytes]) -> None:
        """Take keys out: the erasure was lifted, or never begun."""
        with self._changing:
            self._keys = self._keys.difference(keys)

    def refuse(self, user_id: str) -> None:
        """Raise ErasedUser when a user was erased."""
        if user_id in self:
            raise ErasedUser
