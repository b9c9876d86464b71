"""Set preferences: what a person said, and that somebody who was erased came back."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace

from tidings_core.changes import Change, Said, change_faults
from tidings_core.errors import Conflict, InvalidInput
from tidings_core.faults import Fault, told
from tidings_server.application.documents import UserDocument, write_document
from tidings_server.application.erasures import ErasedIds
from tidings_server.application.record_change import Changed, RecordChange
from tidings_server.application.store import Store, Transaction


class SetPreferences:
    """Sets preferences."""

    def __init__(self, store: Store, record: RecordChange, erased: ErasedIds, now: Callable[[], float]) -> None:
        """`now` gives Unix seconds."""
        self._store = store
        self._record = record
        self._erased = erased
        self._now = now

    def __call__(
        self, change: Change, timed: bool, lift: bool = False, faults: Sequence[Fault] = ()
    ) -> "Future[Changed]":
        """The Future of what became of a change; done when it is on disk.

        `timed`: its sender says of when it is. With `lift` an erasure of the user is lifted first. `faults` are those
        found before. Raises InvalidInput with all faults, ErasedUser, Conflict when an erasure is still going on,
        Overloaded or Stopping at once; the Future raises StorageFull or StorageFailed.
        """
        assert isinstance(change.what, Said)
        found = [*faults, *change_faults(change, int(self._now() * 1000))]
        if not change.what.words and not lift:
            found.append(("preferences", "is empty: say what is to change"))
        if found:
            raise InvalidInput(*told(found))
        if lift and change.user_id in self._erased:
            self._lift(change.user_id)
        return self._record(change, timed)

    def _lift(self, user_id: str) -> None:
        """Take somebody back in, of whom nothing is known: what was done before the erasure stays unknown."""
        key = self._erased.key(user_id)

        def job(tx: Transaction) -> int:
            erased = tx.erasures.get(key)
            if tx.erasures.under_way_of(user_id) is not None or erased is None:
                raise Conflict("the erasure of this user is not done: try again when it is")
            tx.erasures.lift(key)
            if not tx.users.get(user_id).version:
                tx.users.put(user_id, write_document(replace(UserDocument(), erased_through=erased.time)), 0)
            return erased.time

        self._erased.lift(key, self._store.write(job).result())
