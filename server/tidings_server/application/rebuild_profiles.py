"""Hold stored profiles against the log they came from, and make them again where they are not what it says.

A profile is what `replay` makes of checkpoint and log. Push state (offsets, devices, caps) is no part of it and stays
as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tidings_core import profile
from tidings_core.errors import StorageFailed
from tidings_core.stored import Entry
from tidings_server.application.documents import (
    DAY_MS,
    UserDocument,
    read_document,
    write_checkpoint,
    write_document,
)
from tidings_server.application.replay import PAGE, Decode, replay
from tidings_server.application.store import Transaction

Problem = Literal["missing", "unreadable", "differs", "log damaged"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with the document of a user; with `content`, what is to stand in its place."""

    user_id: str
    problem: Problem
    detail: str
    content: bytes = b""


def held_against_log(
    tx: Transaction, user_id: str, decode: Decode, sent: Callable[[str], Sequence[Entry]], now_ms: int
) -> Finding | None:
    """What is wrong with a user's document; None when it is, byte for byte, what the log says.

    One who is merged into another is looked at with that one; one who is being erased may be there in part, and does
    not come back. `sent` gives the newest decisions for a user; `now_ms` is
    Unix milliseconds. Raises StorageFailed when the database fails.
    """
    stored = tx.users.get(user_id)
    if stored.user_id or tx.erasures.under_way_of(user_id) is not None:
        return None
    try:
        made = replay(tx, user_id, decode)
    except StorageFailed as error:
        return Finding(user_id, "log damaged", str(error))
    if not stored.version:
        if made == profile.EMPTY:
            return None  # Of nothing that counts there is no document.
        problem: Problem = "missing"
        detail = "there is no document, but the log has entries that count"
        document = _push_state(tx, user_id, sent, now_ms)
    else:
        try:
            document = read_document(stored)
        except StorageFailed as error:
            problem, detail = "unreadable", str(error)
            document = _push_state(tx, user_id, sent, now_ms)
        else:
            if write_checkpoint(document.profile) == write_checkpoint(made):
                return None
            problem, detail = "differs", _differing(document, made)
    return Finding(user_id, problem, detail, write_document(replace(document, profile=made)))


def put_right(tx: Transaction, finding: Finding) -> None:
    """Put what is to stand in a document's place. Must run in the transaction that found it."""
    version = tx.users.get(finding.user_id).version
    tx.users.put(finding.user_id, finding.content, version)


def _differing(document: UserDocument, made: profile.Profile) -> str:
    there, wanted = profile.to_values(document.profile), profile.to_values(made)
    return ", ".join(sorted(name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name)))


def _push_state(tx: Transaction, user_id: str, sent: Callable[[str], Sequence[Entry]], now_ms: int) -> UserDocument:
    """What can be known again of a document that is lost: no offset is taken twice, and caps hold.

    Devices are told again what they may have had, and drop it by its push_id.
    """
    applied, offset, after = 0, 0, 0
    for name in (user_id, *tx.users.merged(user_id)):
        after = 0
        while events := tx.events.of_user(name, after, PAGE):
            after = events[-1].number
            applied = max(applied, after)
    after = 0
    while pushes := tx.streams.read(user_id, after, PAGE):
        offset = after = pushes[-1].offset
    entries = [entry for entry in sent(user_id) if entry.offset]
    return UserDocument(
        applied_through=applied,
        newest_offset=max([offset, *(entry.offset for entry in entries)]),
        push_times=tuple(sorted(entry.time for entry in entries if entry.time > now_ms - DAY_MS)),
    )
