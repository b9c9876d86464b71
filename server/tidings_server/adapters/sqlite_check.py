"""Whether a database is whole, and keeps what its tables promise each other."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from tidings_core.errors import TidingsError
from tidings_core.stored import Document
from tidings_server.adapters.sqlite_backup import Extent, Progress, read_extent

MOST_FAULTS = 100
"""So many are told; more of them say no more."""
STEP = 10_000
"""Progress is told every so many rows."""


class Places(Protocol):
    """What a user's document says of the log and of the user's stream."""

    @property
    def applied_through(self) -> int:
        """Number of the newest event folded in."""
        ...

    @property
    def newest_offset(self) -> int:
        """The offset taken last."""
        ...

    @property
    def acknowledged(self) -> int:
        """The largest offset acknowledged."""
        ...

    @property
    def lost_through(self) -> int:
        """The largest offset dropped."""
        ...


Read = Callable[[Document], Places]
"""Reads a document. Raises StorageFailed when it is damaged."""


def find_faults(connection: sqlite3.Connection, file: Path, read: Read, progress: Progress) -> tuple[list[str], Extent]:
    """What is wrong with a database, and how far it goes. Nothing is changed; what is written meanwhile is not seen.

    Raises InvalidInput when it is not ours or too new.
    """
    faults: list[str] = []
    extent = Extent("", 0, 0, 0, 0)
    try:
        connection.execute("BEGIN")
        extent = read_extent(connection, file)
        for fault in _faults(connection, extent, read, progress):
            faults.append(fault)
            if len(faults) == MOST_FAULTS:
                return [*faults, f"and more: {MOST_FAULTS} are told"], extent
    except sqlite3.Error as error:
        faults.append(f"{file.name} is damaged: {' '.join(str(error).split())}")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return faults, extent


def _faults(connection: sqlite3.Connection, extent: Extent, read: Read, progress: Progress) -> Iterator[str]:
    progress("checking the pages of the database", 0, 0)
    for (problem,) in connection.execute(f"PRAGMA quick_check({MOST_FAULTS})"):
        if problem != "ok":
            yield f"the database is damaged: {' '.join(problem.split())}"
            return
    yield from _documents(connection, extent, read, progress)
    progress("checking streams, timers and the log", 0, 0)
    yield from _streams(connection)
    leaving = _leaving(connection)
    for table, words in _WITHOUT_DOCUMENT:
        query = f"SELECT DISTINCT user_id FROM {table} WHERE user_id NOT IN (SELECT user_id FROM users)"
        for (user_id,) in connection.execute(query):
            if user_id and user_id not in leaving:
                yield words.format(repr(user_id))
    yield from _told(connection, _COUNTERS, "the counter {} does not hold the sum of its reservations")
    yield from _events(connection, extent, progress)


_WITHOUT_DOCUMENT = (
    ("timers", "a timer is set for {}, of whom there is no document"),
    ("pushes", "pushes are kept for {}, of whom there is no document"),
)
_COUNTERS = (
    "SELECT counter FROM counters WHERE held <> "
    "(SELECT ifnull(sum(amount), 0) FROM reservations WHERE reservations.counter = counters.counter)"
)


def _leaving(connection: sqlite3.Connection) -> set[str]:
    """Those who are being erased: the document went first, and the rest is on its way."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'erasing'").fetchone() is None:
        return set()
    return {name for (names,) in connection.execute("SELECT user_ids FROM erasing") for name in json.loads(names)}


def _told(connection: sqlite3.Connection, query: str, words: str) -> Iterator[str]:
    for row in connection.execute(query):
        yield words.format(*(repr(value) for value in row))


def _documents(connection: sqlite3.Connection, extent: Extent, read: Read, progress: Progress) -> Iterator[str]:
    """Every document can be read, has no more of the log than there is, and no place beyond its stream."""
    (total,) = connection.execute("SELECT count(*) FROM users").fetchone()
    merges = connection.execute("SELECT 1 FROM pragma_table_info('users') WHERE name = 'merged_into'").fetchone()
    # Of an id that was merged into another there is no document.
    own = "WHERE merged_into = ''" if merges else ""
    rows = connection.execute(f"SELECT user_id, version, content FROM users {own} ORDER BY user_id")
    for done, (user_id, version, content) in enumerate(rows):
        if done % STEP == 0:
            progress("checking profiles", done, total)
        try:
            document = read(Document(version, content))
        except TidingsError as error:
            yield f"user {user_id!r}: {error}"
            continue
        if document.applied_through > extent.events:
            yield f"user {user_id!r}: event {document.applied_through} is folded in, the log ends at {extent.events}"
        if max(document.acknowledged, document.lost_through) > document.newest_offset:
            yield f"user {user_id!r}: a place is beyond the newest offset, {document.newest_offset}"
        query = "SELECT ifnull(max(offset), 0) FROM pushes WHERE user_id = ?"
        (last,) = connection.execute(query, (user_id,)).fetchone()
        if last > document.newest_offset:
            yield f"user {user_id!r}: push {last} is in the stream, the newest offset is {document.newest_offset}"


def _streams(connection: sqlite3.Connection) -> Iterator[str]:
    """The ledger says the same of the places of pushes."""
    yield from _told(
        connection,
        "SELECT p.user_id, p.offset FROM pushes p JOIN decisions d ON d.push_id = p.push_id AND p.push_id <> '' "
        "WHERE d.user_id <> p.user_id OR d.offset <> p.offset",
        "the push of user {} at {} has another place in the ledger",
    )
    yield from _told(
        connection,
        "SELECT user_id, offset FROM decisions WHERE push_id <> '' GROUP BY user_id, offset HAVING count(*) > 1",
        "user {} has several pushes at {}",
    )


def _events(connection: sqlite3.Connection, extent: Extent, progress: Progress) -> Iterator[str]:
    """Each event of the log is known by its key, so that it cannot come again."""
    known = "SELECT 1 FROM event_keys WHERE key = ?"
    for done, (number, event_id) in enumerate(connection.execute("SELECT number, event_id FROM events")):
        if done % STEP == 0:
            progress("checking the log", done, extent.events)
        if connection.execute(known, (blake2b(event_id.encode(), digest_size=16).digest(),)).fetchone() is None:
            yield f"event {number} has no key: it could be recorded twice"
