"""Merge profiles: two ids are found to be one person. Profile, push state and stream are joined in one transaction."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b

from tidings_core.changes import Change, Merge
from tidings_core.errors import Conflict, InvalidInput
from tidings_core.profile import fold
from tidings_core.stored import Document, StoredPush
from tidings_server.application.consistency import write_token
from tidings_server.application.documents import UserDocument, write_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.store import Store, Transaction
from tidings_server.application.write_push import Publish, expire

JoinContacts = Callable[[Transaction, str, str], object]
"""Makes the contacts of one user those of another. Raises StorageFailed."""
PAGE = 256
"""Pushes moved at a time."""


@dataclass(frozen=True, slots=True)
class Merged:
    """Under which id a person is known now, whether the two ids were one before, and the token for reads to see it."""

    user_id: str
    already: bool
    token: str


@dataclass(frozen=True, slots=True)
class _Done:
    """What a job did: `document` of that version and size is the user's now, None when nothing was changed."""

    user_id: str
    document: UserDocument | None = None
    version: int = 0
    size: int = 0
    moved: tuple[StoredPush, ...] = ()


class MergeProfiles:
    """Merges profiles."""

    def __init__(
        self,
        store: Store,
        documents: KnownDocuments,
        encode: Callable[[Change], bytes],
        join_contacts: JoinContacts,
        publish: Publish,
        leave: Callable[[str], None],
        now: Callable[[], float],
        watch: Callable[[], None] | None = None,
    ) -> None:
        """`encode` makes what the log keeps of a change; `now` gives Unix seconds.

        `publish` tells of a push, `leave` ends the subscriptions of an id that is somebody else's now, `watch` has tags
        looked at (None: they are not watched); all are called in the store's writer thread.
        """
        self._watch = watch
        self._store = store
        self._documents = documents
        self._encode = encode
        self._join_contacts = join_contacts
        self._publish = publish
        self._leave = leave
        self._now = now

    def __call__(self, visitor_id: str, user_id: str) -> "Future[Merged]":
        """The Future of what became of two ids without faults; done when it is on disk.

        It raises InvalidInput for a merge in a circle, Conflict when the visitor is a third user, StorageFull or
        StorageFailed. Raises InvalidInput for a merge with oneself, Overloaded or Stopping at once.
        """
        if visitor_id == user_id:
            raise InvalidInput(("user_id", "is the visitor: name the id that the visitor turned out to be"))
        done = self._store.write(partial(self._job, visitor_id, user_id, int(self._now() * 1000)))
        answer: Future[Merged] = Future()
        done.add_done_callback(partial(self._told, visitor_id, answer))
        return answer

    def _job(self, visitor_id: str, user_id: str, now_ms: int, tx: Transaction) -> _Done:
        """The transaction of one merge."""
        visitor, user = tx.users.get(visitor_id), tx.users.get(user_id)
        if user.user_id == visitor_id:
            raise InvalidInput(
                ("user_id", f"is merged into {visitor_id!r} already: a merge in a circle; that id is the person's")
            )
        user_id = user.user_id or user_id
        if visitor.user_id == user_id:
            return _Done(user_id)
        if visitor.user_id:
            raise Conflict(
                f"visitor {visitor_id!r} is merged into {visitor.user_id!r} already: "
                f"if {user_id!r} is the same person, merge {visitor.user_id!r} into it"
            )
        return self._merge(tx, visitor_id, visitor, user_id, user, now_ms)

    def _merge(
        self, tx: Transaction, visitor_id: str, visitor: Document, user_id: str, user: Document, now_ms: int
    ) -> _Done:
        """Join the visitor into the user, neither of whom is merged."""
        change = Change(_name(visitor_id), user_id, now_ms, Merge(visitor_id))
        number = tx.events.append(change.event_id, user_id, now_ms, self._encode(change))
        if number is None:
            raise Conflict(f"an event has the id {change.event_id!r}, which is kept for the merge of this visitor")
        theirs = self._documents.decode(visitor_id, visitor)
        document = self._documents.decode(user_id, user).joined(theirs)
        document = replace(document, profile=fold(document.profile, [(change, ())]), applied_through=number)
        document, moved = _move_pushes(tx, visitor_id, theirs, user_id, document, now_ms)
        self._join_contacts(tx, visitor_id, user_id)
        tx.users.merge(visitor_id, user_id)
        content = write_document(document)
        version = tx.users.put(user_id, content, tx.users.get(user_id).version)
        if self._watch is not None:
            tx.looks.remove(visitor_id)
            tx.looks.ask(user_id, now_ms, loud=True)
        return _Done(user_id, document, version, len(content), moved)

    def _told(self, visitor_id: str, answer: "Future[Merged]", done: "Future[_Done]") -> None:
        """Keep what is on disk now, and tell those who listen. In the store's writer thread."""
        error = done.exception()
        if error is not None:
            answer.set_exception(error)
            return
        made = done.result()
        try:
            if made.document is not None:
                self._documents.keep(made.user_id, made.version, made.document, made.size)
                self._leave(visitor_id)
                if self._watch is not None:
                    self._watch()
                for push in made.moved:
                    self._publish(made.user_id, push, ())
        finally:
            answer.set_result(Merged(made.user_id, made.document is None, write_token(self._store)))


def _name(visitor_id: str) -> str:
    """The id of the one merge that an id can ever go through: a second one is found by it too."""
    return f"merge/{blake2b(visitor_id.encode(), digest_size=16).hexdigest()}"


def _move_pushes(
    tx: Transaction, visitor_id: str, theirs: UserDocument, user_id: str, document: UserDocument, now_ms: int
) -> tuple[UserDocument, tuple[StoredPush, ...]]:
    """Move what no device of the visitor took to the end of the user's stream, in its order; the rest is done with."""
    offset, moved = document.newest_offset, list[StoredPush]()
    after = 0
    while page := tx.streams.read(visitor_id, after, PAGE):
        after = page[-1].offset
        expire(tx, visitor_id, [push for push in page if 0 < push.expires <= now_ms], now_ms)
        for push in page:
            if push.offset > theirs.acknowledged and not 0 < push.expires <= now_ms:
                offset += 1
                moved.append(replace(push, offset=offset))
                tx.streams.append(user_id, moved[-1])
        tx.streams.remove(visitor_id, [push.offset for push in page])
    tx.ledger.move(visitor_id, user_id, {push.push_id: push.offset for push in moved})
    return replace(document, newest_offset=offset), tuple(moved)
