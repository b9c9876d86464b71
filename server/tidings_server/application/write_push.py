"""One push into one user's stream: what a transaction does for it, whoever asked for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Protocol

from tidings_core.model import Snapshot
from tidings_core.privacy import EVERYTHING, PrivacyRules
from tidings_core.ranked import RankedItem
from tidings_core.stored import Entry, State, StoredPush
from tidings_server.application.documents import UserDocument, write_document
from tidings_server.application.store import Transaction

PAGE = 100
FEW = 4
"""Pushes read at a time, of all that a user has, and when one or two of the oldest have to go."""

Publish = Callable[[str, StoredPush, Sequence[str]], None]
"""Tells the subscribers of a user about a push that is on disk, and the ids of those it took the place of."""


class Meter(Protocol):
    """Counts decisions."""

    def decision(self, cause: str, outcome: str) -> None:
        """A decision is on disk: `outcome` is "sent", or the reason why not."""
        ...

    def decided(self, seconds: float) -> None:
        """How long a decision took, from being taken up to being on disk."""
        ...

    def pushed(self, seconds: float) -> None:
        """How long after its event was recorded a push was on disk."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """How many pushes a user gets in 24 hours at most who has not said how many, and how many are kept for one user.

    `privacy` says what profiles may be used for.
    """

    max_per_day: int
    history: int
    privacy: PrivacyRules = EVERYTHING

    def cap(self, document: UserDocument) -> int:
        """Pushes that a user with this document gets in 24 hours at most."""
        own = document.profile.preferences.max_per_day
        return self.max_per_day if own is None else own


@dataclass(frozen=True, slots=True)
class Draft:
    """All that a push says, but for its place in a stream. Times are Unix milliseconds.

    An item is one of an answer or, when the sender chose it, its row in the snapshot, -1 when it has none; `item_ids`
    has the id of each.
    """

    push_id: str
    created: int
    expires: int
    title: str
    body: str
    url: str
    items: Sequence[RankedItem | int]
    item_ids: tuple[str, ...]
    collapse_key: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    trigger: str = ""
    event_id: str = ""
    release_id: str = ""
    serving_config: str = ""


Encode = Callable[[Draft, Snapshot | None], bytes]
"""The bytes of a push without its offsets; the snapshot is the one that the rows of its items are of."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a decision: the push and those it took the place of, or why there is none.

    `document` of that `version` is what was put with a push for `user_id`, its stored form `size` bytes long.
    """

    reason: str = ""
    push: StoredPush | None = None
    withdrawn: tuple[str, ...] = ()
    document: UserDocument | None = None
    version: int = 0
    size: int = 0
    user_id: str = ""


def push_id_of(decision_id: str) -> str:
    """The id of the push that a decision leads to: the same however often it is made."""
    return blake2b(decision_id.encode(), digest_size=16).hexdigest()


def log_name(decision_id: str) -> str:
    """What names a decision in the server's log: the id of an event in its own name may tell of a person."""
    return push_id_of(decision_id)[:16]


def write_push(
    tx: Transaction,
    user_id: str,
    document: UserDocument,
    version: int,
    draft: Draft,
    content: bytes,
    history: int,
) -> Written:
    """Append a push to a user's stream, make room for it, and put the user's document, which has that version."""
    offset = document.newest_offset + 1
    push = StoredPush(offset, draft.push_id, draft.expires, draft.collapse_key, content)
    withdrawn = _collapse(tx, user_id, document, draft)
    lost_through = _make_room(tx, user_id, document, offset - history, draft.created)
    tx.streams.append(user_id, push)
    document = replace(document.with_push(offset, draft.created, draft.item_ids), lost_through=lost_through)
    stored = write_document(document)
    new_version = tx.users.put(user_id, stored, version)
    return Written("", push, withdrawn, document, new_version, len(stored), user_id)


def entry_of(written: Written, decision_id: str, user_id: str, now: int, cause: str, record: bytes) -> Entry:
    """The ledger's entry of a decision."""
    push = written.push
    if push is None:
        return Entry(decision_id, user_id, now, "suppressed", now, cause, written.reason, record=record)
    return Entry(decision_id, user_id, now, "sent", now, cause, "", push.push_id, push.offset, record)


def remove_expired(tx: Transaction, now: int, limit: int) -> int:
    """Take pushes that expired out of their streams, `limit` at most, and tell the ledger; returns their number."""
    found = tx.streams.expired(now, limit)
    for user_id, push in found:
        expire(tx, user_id, [push], now)
    return len(found)


def expire(tx: Transaction, user_id: str, pushes: Sequence[StoredPush], now: int) -> None:
    """Take pushes of a user that expired out of the stream, and tell the ledger."""
    tx.streams.remove(user_id, [push.offset for push in pushes])
    for push in pushes:
        _leave(tx, push.push_id, "expired", now)


def _collapse(tx: Transaction, user_id: str, document: UserDocument, draft: Draft) -> tuple[str, ...]:
    """Take out what a push takes the place of: pushes of its key that were not acknowledged. Returns their ids."""
    if not draft.collapse_key:
        return ()
    older: list[StoredPush] = []
    after = document.acknowledged
    while page := tx.streams.read(user_id, after, PAGE):
        older += [push for push in page if push.collapse_key == draft.collapse_key]
        after = page[-1].offset
    tx.streams.remove(user_id, [push.offset for push in older])
    for push in older:
        _leave(tx, push.push_id, "collapsed", draft.created)
    return tuple(push.push_id for push in older)


def _make_room(tx: Transaction, user_id: str, document: UserDocument, through: int, now: int) -> int:
    """Drop pushes up to an offset. Returns the largest offset that was ever dropped so.

    Offsets grow by one with every push, so going by the offset keeps a stream short without counting what is in it.
    """
    lost = document.lost_through
    while through > 0:
        old = [push for push in tx.streams.read(user_id, 0, FEW) if push.offset <= through]
        if not old:
            break
        tx.streams.remove(user_id, [push.offset for push in old])
        for push in old:
            if 0 < push.expires <= now:
                _leave(tx, push.push_id, "expired", now)
            else:
                # Lost to the ledger only when no device has it; a device that has not misses it all the same.
                _leave(tx, push.push_id, "lost", now)
                lost = max(lost, push.offset)
    return lost


def _leave(tx: Transaction, push_id: str, state: State, now: int) -> None:
    """Set the state of a push of which nothing else is known than that it was sent."""
    entry = tx.ledger.find_push(push_id)
    if entry is not None and entry.state == "sent":
        tx.ledger.set_state(push_id, state, now)
