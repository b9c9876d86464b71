"""Who was erased: known by a keyed hash of the id alone, in memory and in the store."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from tidings_core.erased import erased_key
from tidings_core.errors import ErasedUser
from tidings_core.stored import Erased, Erasing


class Erasures(Protocol):
    """Erasing people inside a transaction."""

    def get(self, key: bytes) -> Erased | None:
        """Whether, and how, the user of a key was erased."""
        ...

    def under_way(self, key: bytes) -> Erasing | None:
        """The erasure of a key that is not done."""
        ...

    def under_way_of(self, user_id: str) -> Erasing | None:
        """The erasure that is not done of the person who has an id, under whichever of the ids it was asked for."""
        ...

    def begin(self, keys: Sequence[bytes], user_ids: Sequence[str], time: int, counts: Mapping[str, int]) -> None:
        """Say that users are erased from now on, the person's own id first, and remove their documents.

        `counts` is what else was removed in this transaction.
        """
        ...

    def step(self, key: bytes, limit: int) -> int:
        """Remove up to `limit` entries of an erasure that is under way; returns how many, 0 when none is left."""
        ...

    def finish(self, keys: Sequence[bytes], more: Mapping[str, int]) -> Mapping[str, int]:
        """End the erasure of the first key: of it only its receipt stays, with what else was erased; returns it.

        The other keys, of the same person, get the same receipt.
        """
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
        known = list(erased)
        self._keys = {one.key for one in known if not one.lifted}
        self._lifted = {one.key: one.time for one in known if one.lifted}
        self._changing = threading.Lock()

    def key(self, user_id: str) -> bytes:
        """The keyed hash of an id."""
        return erased_key(self._key, user_id)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, user_id: object) -> bool:
        return bool(self._keys) and isinstance(user_id, str) and self.key(user_id) in self._keys

    def among(self, users: Sequence[str], known_until: int) -> list[str]:
        """Those of some users who were erased, also who came back if that was after `known_until` (Unix milliseconds).

        Some microseconds for each user when anybody was erased.
        """
        if not self._keys and not self._lifted:
            return []
        keyed = ((user_id, self.key(user_id)) for user_id in users)
        return [one for one, key in keyed if key in self._keys or self._lifted.get(key, -1) >= known_until]

    def add(self, keys: Iterable[bytes]) -> None:
        """Put keys in."""
        with self._changing:
            self._keys = self._keys.union(keys)

    def lift(self, key: bytes, time: int) -> None:
        """Say that who was erased at `time` (Unix milliseconds) came back."""
        with self._changing:
            self._lifted = {**self._lifted, key: time}
            self._keys = self._keys.difference([key])

    def remove(self, keys: Iterable[bytes]) -> None:
        """Take keys out: the erasure was never begun."""
        with self._changing:
            self._keys = self._keys.difference(keys)

    def refuse(self, user_id: str) -> None:
        """Raise ErasedUser when a user was erased."""
        if user_id in self:
            raise ErasedUser
