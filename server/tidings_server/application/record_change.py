"""Record what is said of a user: a change, in the log and in the profile, in one transaction."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

from tidings_core.changes import Change
from tidings_core.errors import InvalidInput
from tidings_core.faults import Fault, told
from tidings_server.application.consistency import write_token
from tidings_server.application.documents import UserDocument, write_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.record_events import take_in
from tidings_server.application.store import Store, Transaction

Refuse = Callable[[UserDocument], Sequence[Fault]]
"""What is wrong with a change for a user with this document, as it is before."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of a change, and the token that makes reads see it. `duplicate`: its id was there before."""

    duplicate: bool
    token: str


@dataclass(frozen=True, slots=True)
class _Done:
    """What a job did. `version` is 0 when the document was not changed; `size` is the length of its stored form."""

    document: UserDocument
    version: int
    size: int


class RecordChange:
    """Records changes of profiles."""

    def __init__(
        self,
        store: Store,
        documents: KnownDocuments,
        encode: Callable[[Change], bytes],
        now: Callable[[], float],
        watch: Callable[[], None] | None = None,
    ) -> None:
        """`encode` makes what the log keeps of a change; `now` gives Unix seconds.

        `watch` is called, after a commit, when tags are watched; None: they are not.
        """
        self._store = store
        self._documents = documents
        self._encode = encode
        self._now = now
        self._watch = watch

    def __call__(self, change: Change, timed: bool, refuse: Refuse = lambda _: ()) -> "Future[Changed]":
        """The Future of what became of a change without faults; done when it is on disk.

        One that was not `timed` by who sent it is later than all changes of the user before it. The Future raises
        InvalidInput with what `refuse` says in the transaction, unless the change was recorded before; StorageFull or
        StorageFailed. Raises Overloaded or Stopping at once.
        """
        done = self._store.write(partial(self._job, change, timed, refuse, int(self._now() * 1000)))
        answer: Future[Changed] = Future()
        done.add_done_callback(partial(self._told, change.user_id, answer))
        return answer

    def _job(self, change: Change, timed: bool, refuse: Refuse, now_ms: int, tx: Transaction) -> _Done:
        stored = tx.users.get(change.user_id)
        before = self._documents.decode(change.user_id, stored)
        change = replace(change, user_id=stored.whose(change.user_id))
        if not timed:
            # Of two words within a millisecond the second one must stand.
            change = replace(change, time=max(change.time, before.profile.last_change + 1))
        document, (new,) = take_in(
            tx, before, [(change, self._encode(change))], (), now_ms, watching=self._watch is not None
        )
        if not new:
            return _Done(before, 0, 0)
        faults = refuse(before)
        if faults:
            raise InvalidInput(*told(faults))  # What was appended is undone with the job.
        written = write_document(document)
        return _Done(document, tx.users.put(change.user_id, written, stored.version), len(written))

    def _told(self, user_id: str, answer: "Future[Changed]", done: "Future[_Done]") -> None:
        """Keep what is on disk now. In the store's writer thread."""
        error = done.exception()
        if error is not None:
            answer.set_exception(error)
            return
        made = done.result()
        if made.version:
            self._documents.keep(user_id, made.version, made.document, made.size)
            if self._watch is not None:
                self._watch()
        answer.set_result(Changed(not made.version, write_token(self._store)))
