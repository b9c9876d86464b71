"""Erase a person: all that is stored under the id goes, and a keyed hash stays that keeps the id from coming back.

First one transaction says that it is so, and which ids are to go: from then on nothing is answered from what is known,
nothing is recorded and nothing sent. What is stored then goes in small transactions, so that no other write waits long.
A crash in between leaves the first transaction's word, and the next start goes on from there.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from tidings_core.errors import StorageFailed, TidingsError
from tidings_core.stored import Erasing
from tidings_server.application.erasures import ErasedIds
from tidings_server.application.store import Store, Transaction

ROWS = 500
"""Entries removed in one transaction."""
SCRUBS = 20
SCRUB_SECONDS = 0.05
"""So often, and with such pauses, the disk is asked to forget what was removed, while somebody reads from it."""

log = structlog.get_logger(__name__)

Forget = Callable[[str], bool]
"""Lets go of what is kept in memory of a user; whether there was anything."""
Holding = Callable[[Sequence[str]], Mapping[str, Sequence[int]]]
"""The releases that know any of some users, each with the places of those in the list."""
Aliases = Callable[[str], Iterable[str]]
"""The other ids of the same person: those that were merged into this one, whatever led to them."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was erased: how much of what, at what time (Unix milliseconds); `due` are releases to build anew.

    `scrubbed`: nothing of it can be read on disk any more. If not, a reader such as a backup stood in the way, and it
    is done when that ends; or the database is too large to be rewritten.
    """

    time: int
    counts: Mapping[str, int]
    due: Sequence[str]
    scrubbed: bool


class _Merged(Exception):
    """The person came to have other ids since these were looked up."""


class EraseProfile:
    """Erases people, one after the other. Blocks its thread until it is done."""

    def __init__(
        self,
        store: Store,
        erased: ErasedIds,
        forget: Sequence[Forget],
        holding: Holding,
        aliases: Aliases,
        settle: Callable[[float], bool],
        now: Callable[[], float],
        pause: Callable[[float], object],
    ) -> None:
        """`settle` waits so many seconds until answers that are to be recorded are. `now` gives Unix seconds.

        `pause` waits so many seconds.
        """
        self._store = store
        self._erased = erased
        self._forget = forget
        self._holding = holding
        self._aliases = aliases
        self._settle = settle
        self._now = now
        self._pause = pause
        self._one = threading.Lock()

    def __call__(self, user_id: str) -> Receipt:
        """Erase a person. Doing it again finds nothing more, and gives the receipt of then.

        Raises StorageFull, StorageFailed, Overloaded or Stopping; when it had begun, the next call or start goes on.
        """
        with self._one:
            while True:
                ids = list(dict.fromkeys([user_id, *self._aliases(user_id)]))
                keys = [self._erased.key(one) for one in ids]
                try:
                    if any(one not in self._erased for one in ids):
                        self._begin(ids, keys)
                except _Merged:
                    continue
                return self._finish(keys[0], user_id)

    def resume(self) -> int:
        """Finish what a crash or a full disk interrupted; returns how many erasures. Raises as a call does."""
        with self._one:
            left = self._store.erasing()
            for one in left:
                self._finish(one.key, one.user_ids[0])
            return len(left)

    def _begin(self, ids: Sequence[str], keys: Sequence[bytes]) -> None:
        """Say that it is so. Whatever the store does from now on comes after, and finds the ids among the erased."""
        now = int(self._now() * 1000)
        holding = {release_id: [keys[at] for at in places] for release_id, places in self._holding(ids).items()}
        new = [key for one, key in zip(ids, keys, strict=True) if one not in self._erased]
        self._erased.add(keys)
        try:
            self._store.write(partial(_begun, keys, ids, holding, now)).result()
        except BaseException:
            self._erased.remove(new)
            raise

    def _finish(self, key: bytes, user_id: str) -> Receipt:
        # It may have been begun under another id of the person.
        erasing = self._store.write(lambda tx: tx.erasures.under_way_of(user_id)).result()
        if erasing is not None:
            self._remove(erasing)
        scrubbed = self._scrub()
        found = self._store.write(lambda tx: tx.erasures.get(key)).result()
        if found is None:
            raise StorageFailed("the erasure is not in the store that was told of it")
        return Receipt(found.time, found.receipt, sorted(self._store.erased_vectors(key)), scrubbed)

    def _remove(self, erasing: Erasing) -> None:
        # What was on its way to the ledger gets there first, and goes with the rest; what comes later is refused.
        self._settle(1.0)
        cached = sum([forget(user_id) for user_id in erasing.user_ids for forget in self._forget])
        while self._store.write(partial(_step, erasing.key)).result():
            pass
        more = {"cached": cached, "ids": len(erasing.user_ids)}
        keys = [erasing.key, *(self._erased.key(one) for one in erasing.user_ids[1:])]
        self._store.write(lambda tx: tx.erasures.finish(keys, more)).result()

    def _scrub(self) -> bool:
        for _ in range(SCRUBS):
            if self._store.scrub().result():
                return True
            self._pause(SCRUB_SECONDS)
        return False


def _begun(
    keys: Sequence[bytes], ids: Sequence[str], holding: Mapping[str, Sequence[bytes]], now: int, tx: Transaction
) -> None:
    whose = tx.users.get(ids[0]).whose(ids[0])
    if not {whose, *tx.users.merged(whose)} <= set(ids):
        raise _Merged
    # With the key of a user's contacts all of them are gone, wherever they were copied to.
    contacts = sum([tx.contacts.erase(user_id) for user_id in ids])
    tx.erasures.begin(keys, ids, now, {"contacts": contacts})
    for release_id, held in holding.items():
        tx.erasures.hold(release_id, held)


def _step(key: bytes, tx: Transaction) -> int:
    return tx.erasures.step(key, ROWS)


def resume_quietly(erase: EraseProfile) -> None:
    """Finish what was interrupted, before anything is answered; what cannot be finished waits for the next start."""
    try:
        done = erase.resume()
    except TidingsError as error:
        log.error("an erasure cannot be finished; the next start tries again", problem=str(error))
    else:
        if done:
            log.info("interrupted erasures are finished", erasures=done)
