"""What is stored, as values: a user's document, events, pushes, decisions, timers. Times are Unix milliseconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tidings_core.flags import GOOD, Flag

State = Literal[
    "answered",
    "suppressed",
    "sent",
    "delivered",
    "displayed",
    "clicked",
    "dismissed",
    "rejected",
    "collapsed",
    "expired",
    "lost",
]
"""What became of a decision. `answered`: it went to who asked for it, and no push came of it. `lost`: the stream held
as many as it may, and this was the oldest.
"""


@dataclass(frozen=True, slots=True)
class Document:
    """A user's document and its version, which grows with every change; version 0 and b"" when there is none.

    `user_id` is under whose id it stands, when that is another one than was asked for: the two are one person. Asked
    for by either id, the versions grow.
    """

    version: int = 0
    content: bytes = b""
    user_id: str = ""

    def whose(self, user_id: str) -> str:
        """Under whose id it stands, asked for by `user_id`."""
        return self.user_id or user_id


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of the log: `number` is its place, `content` what was recorded, `flags` why it counts for nothing."""

    number: int
    event_id: str
    user_id: str
    time: int
    content: bytes
    flags: Flag = GOOD


@dataclass(frozen=True, slots=True)
class StoredPush:
    """A push of a user's stream. `expires` 0: never; `content` is opaque."""

    offset: int
    push_id: str
    expires: int
    collapse_key: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A decision in the ledger. `push_id` is "" and `offset` 0 for one that sent nothing; then `reason` says why.

    `cause` is what called for it: "trigger:NAME", "api" (SendPush), or "recommend:NAME" (Recommend, by serving config).
    `record` is the full record, opaque; `changed` is when `state` last changed.
    """

    decision_id: str
    user_id: str
    time: int
    state: State
    changed: int
    cause: str
    reason: str = ""
    push_id: str = ""
    offset: int = 0
    record: bytes = b""


@dataclass(frozen=True, slots=True)
class Timer:
    """Something to do at `due`. Setting a timer of a key that is set already changes nothing."""

    key: str
    due: int
    user_id: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Look:
    """A user whose tags are to be looked at, at `due`.

    `loud`: what is found may call for a push; else it follows from one. `looked`: the user was looked at before.
    """

    user_id: str
    due: int
    loud: bool
    looked: bool


@dataclass(frozen=True, slots=True)
class StoredItem:
    """What the catalogue holds of an item: `content` is what stands, `time` the Unix microseconds of its newest word.

    `number` is the place of its last change among all changes, 0 when there is nothing of it.
    """

    item_id: str
    number: int = 0
    time: int = 0
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Erased:
    """That somebody was erased at `time`: `key` is a keyed hash of the id, which does not tell it.

    `lifted`: the person came back since. `receipt` maps what was erased to how much of it, {} while that goes on.
    """

    key: bytes
    time: int
    lifted: bool
    receipt: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Erasing:
    """An erasure that is not done: the ids to erase, the person's own first; `counts` is what was erased so far."""

    key: bytes
    user_ids: tuple[str, ...]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StoredImport:
    """How far an import of history has come: rows before `next_row` are done, and what became of them.

    `faults` is what is wrong with the first rejected rows, opaque.
    """

    import_id: str
    next_row: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    faults: bytes = b""
