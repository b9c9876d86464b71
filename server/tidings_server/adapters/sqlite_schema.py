"""The database file of a state directory: its tables, its versions, and when it is refused."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tidings_core.errors import InvalidInput, StorageFull
from tidings_server.adapters.sqlite_statements import Statements, failure

FILE = "tidings.db"
APPLICATION_ID = 0x54494447
"""Stands in the file's header, so that another program's database is not taken for ours."""
OLDEST_SQLITE = (3, 37, 0)
"""The first that has STRICT tables."""
CHECKED_BYTES = 256 << 20
"""A file up to this size is checked whole when it is opened. In a larger one, damage shows when its place is read."""
BUSY_MS = 5000
"""So long another program that looks into the database, such as a backup, may hold up a write."""

_FIRST = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO about VALUES ('epoch', lower(hex(randomblob(8))));

CREATE TABLE events (
  number INTEGER PRIMARY KEY, event_id TEXT NOT NULL, user_id TEXT NOT NULL, time INTEGER NOT NULL,
  content BLOB NOT NULL
) STRICT;
CREATE TABLE event_keys (key BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;

CREATE TABLE items (number INTEGER PRIMARY KEY, item_id TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE users (user_id TEXT PRIMARY KEY, version INTEGER NOT NULL, content BLOB NOT NULL) STRICT;

CREATE TABLE pushes (
  user_id TEXT NOT NULL, offset INTEGER NOT NULL, push_id TEXT NOT NULL, expires INTEGER NOT NULL,
  collapse_key TEXT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (user_id, offset)
) STRICT;
CREATE INDEX pushes_by_expiry ON pushes (expires, user_id, offset) WHERE expires > 0;

CREATE TABLE decisions (
  number INTEGER PRIMARY KEY, decision_id TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL, time INTEGER NOT NULL,
  state TEXT NOT NULL, changed INTEGER NOT NULL, cause TEXT NOT NULL, reason TEXT NOT NULL, push_id TEXT NOT NULL,
  offset INTEGER NOT NULL, record BLOB NOT NULL
) STRICT;
CREATE INDEX decisions_by_user ON decisions (user_id);
CREATE UNIQUE INDEX decisions_by_push ON decisions (push_id) WHERE push_id <> '';
CREATE INDEX decisions_sent ON decisions (user_id, offset) WHERE state = 'sent';

CREATE TABLE timers (
  key TEXT PRIMARY KEY, due INTEGER NOT NULL, user_id TEXT NOT NULL, content BLOB NOT NULL
) STRICT;
CREATE INDEX timers_by_due ON timers (due, key);

CREATE TABLE counters (counter TEXT PRIMARY KEY, held INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE reservations (
  counter TEXT NOT NULL, name TEXT NOT NULL, amount INTEGER NOT NULL, expires INTEGER NOT NULL, final INTEGER NOT NULL,
  PRIMARY KEY (counter, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX reservations_by_expiry ON reservations (counter, expires) WHERE final = 0;

CREATE TABLE catalogue (
  item_id TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, time INTEGER NOT NULL, content BLOB NOT NULL
) STRICT;
"""

_ANSWERS = """
CREATE INDEX decisions_answered ON decisions (number) WHERE state = 'answered';
"""

# The table came into the first version when that had landed already: what was made before has none.
_CATALOGUE = """
CREATE TABLE IF NOT EXISTS catalogue (
  item_id TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, time INTEGER NOT NULL, content BLOB NOT NULL
) STRICT;
"""

# AUTOINCREMENT: a number that was given is never given again, also when the newest events were taken out.
_EVENTS_OF_A_USER = """
CREATE TABLE new_events (
  number INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL, user_id TEXT NOT NULL, time INTEGER NOT NULL,
  content BLOB NOT NULL, flags INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO new_events (number, event_id, user_id, time, content)
  SELECT number, event_id, user_id, time, content FROM events ORDER BY number;
DROP TABLE events;
ALTER TABLE new_events RENAME TO events;
CREATE INDEX events_by_user ON events (user_id);
CREATE TABLE checkpoints (user_id TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT;
"""

_CONTACTS = """
CREATE TABLE contacts (
  user_id TEXT NOT NULL, contact_id BLOB NOT NULL, channel TEXT NOT NULL, registered INTEGER NOT NULL,
  seen INTEGER NOT NULL, expires INTEGER NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (user_id, contact_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX contacts_by_id ON contacts (contact_id);
CREATE INDEX contacts_by_expiry ON contacts (expires) WHERE expires > 0;
CREATE TABLE contact_keys (user_id TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""

_ERASURES = """
CREATE TABLE erased (
  key BLOB PRIMARY KEY, time INTEGER NOT NULL, lifted INTEGER NOT NULL, receipt TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE erasing (key BLOB PRIMARY KEY, user_ids TEXT NOT NULL, counts TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE erased_vectors (
  release_id TEXT NOT NULL, key BLOB NOT NULL, PRIMARY KEY (release_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX timers_by_user ON timers (user_id);
CREATE INDEX decisions_by_time ON decisions (time);
"""

_IMPORTS = """
CREATE TABLE imports (
  import_id TEXT PRIMARY KEY, next_row INTEGER NOT NULL, accepted INTEGER NOT NULL, duplicates INTEGER NOT NULL,
  rejected INTEGER NOT NULL, faults BLOB NOT NULL
) STRICT;
"""

_LOOKS = """
CREATE TABLE looks (
  user_id TEXT PRIMARY KEY, due INTEGER NOT NULL, loud INTEGER NOT NULL, looked INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX looks_by_due ON looks (due);
"""

_MERGED = """
ALTER TABLE users ADD COLUMN merged_into TEXT NOT NULL DEFAULT '';
CREATE INDEX users_merged ON users (merged_into) WHERE merged_into <> '';
"""

MIGRATIONS = (
    _FIRST, _ANSWERS, _CATALOGUE, _EVENTS_OF_A_USER, _CONTACTS, _ERASURES, _IMPORTS, _LOOKS, _MERGED,
)  # fmt: skip
"""Each brings the tables from one version to the next. Those that were published are never changed."""


def open_database(directory: Path) -> sqlite3.Connection:
    """The connection that writes, its database made or brought to this version, in WAL mode, synced at every commit.

    Raises InvalidInput when the file is damaged, another program's or of a newer version; StorageFull.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise InvalidInput(("python", f"has SQLite {sqlite3.sqlite_version}, must have {wanted} or newer"))
    file = directory / FILE
    try:
        # What it holds is about people: nobody else reads it. SQLite gives its other files the same mode.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        with _refusing(file):
            connection = sqlite3.connect(file, BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
            try:
                _prepare(connection, file)
            except BaseException:
                connection.close()
                raise
        _sync(directory)
    except OSError as error:
        raise InvalidInput(("state", f"{file} cannot be used: {error.strerror}")) from error
    return connection


def open_reader(directory: Path) -> sqlite3.Connection:
    """A connection that only reads, for use by one thread at a time."""
    uri = f"{(directory / FILE).absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, BUSY_MS / 1000, isolation_level=None, check_same_thread=False, uri=True)


def find_database(directory: Path) -> Path:
    """The database file of a state directory. Raises InvalidInput when there is none, or it cannot be read."""
    file = directory / FILE
    try:
        # SQLite would say the same of all of these: it is unable to open the file.
        file.open("rb").close()
    except FileNotFoundError as error:
        where = "name the state directory of a server that has run (--state)"
        raise InvalidInput(("state", f"there is no {file}: {where}")) from error
    except OSError as error:
        raise InvalidInput(("state", f"{file} cannot be read: {error.strerror}")) from error
    return file


def renew_epoch(directory: Path) -> tuple[str, str]:
    """Give the history another name, on disk on return: the name before, and the new one. The caller holds the lock.

    Raises InvalidInput when there is no database, or one that cannot be used; StorageFull or StorageFailed.
    """
    find_database(directory)
    with closing(open_database(directory)) as connection:
        sql = Statements(connection)
        ((old,),) = sql.rows("SELECT value FROM about WHERE name = 'epoch'")
        query = "UPDATE about SET value = lower(hex(randomblob(8))) WHERE name = 'epoch' RETURNING value"
        ((new,),) = sql.rows(query)
    return old, new


@contextmanager
def _refusing(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        failed = failure(error)
        if isinstance(failed, StorageFull):
            raise failed from error
        raise _damaged(file, str(error)) from error


def _damaged(file: Path, problem: str) -> InvalidInput:
    return InvalidInput(
        (
            "state",
            f"{file} cannot be used: {problem}; put back a backup with `tidings-server restore --force`, or move it, "
            f"{file.name}-wal and {file.name}-shm away to begin with an "
            "empty history",
        )
    )


def _prepare(connection: sqlite3.Connection, file: Path) -> None:
    """Look before anything is changed, then bring the file to what this version needs."""
    version = _version(connection, file)
    if file.stat().st_size <= CHECKED_BYTES:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise _damaged(file, f"it is damaged ({' '.join(found.split())})")
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise InvalidInput(("state", f"{file} must be on a local file system that can lock and share memory"))
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -65536")
    # What is erased must not be readable in the file's free space, nor in files of sorting.
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    for number in range(version, len(MIGRATIONS)):
        connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT;")


def _version(connection: sqlite3.Connection, file: Path) -> int:
    """Version of the tables, 0 for a new file."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if not tables and not version:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    elif application != APPLICATION_ID:
        raise InvalidInput(("state", f"{file} is a database of another program: name another directory with --state"))
    if version > len(MIGRATIONS):
        raise InvalidInput(
            (
                "state",
                f"{file} was made by a newer Tidings (its tables have version {version}, this one knows "
                f"{len(MIGRATIONS)}): start that one, or name another directory with --state",
            )
        )
    return int(version)


def _sync(directory: Path) -> None:
    """Put the names of new files on disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
