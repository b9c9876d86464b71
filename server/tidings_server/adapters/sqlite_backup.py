"""Copying the database while others write to it, and what a database says of itself."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tidings_core.errors import InvalidInput, StorageFailed, StorageFull
from tidings_server.adapters.sqlite_schema import APPLICATION_ID, MIGRATIONS, find_database, open_reader
from tidings_server.adapters.sqlite_statements import failure

PAGES = 1024
"""So many pages are copied at a time, 4 MB."""
_COUNTED = {"events": "events", "catalogue": "catalogue", "decisions": "decisions"}

Progress = Callable[[str, int, int], None]
"""Told at each step: what is being done, how much of it is done, and of how much (0: not known)."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a database goes: its history's name, version of its tables, and the newest number of each kind."""

    epoch: str
    tables: int
    events: int
    catalogue: int
    decisions: int

    @property
    def empty(self) -> bool:
        """Whether nothing was ever written."""
        return not (self.events or self.catalogue or self.decisions)

    def within(self, other: "Extent") -> bool:
        """Whether all that this one holds is in the other: it is of the same history, and goes no further."""
        no_further = all(getattr(self, name) <= getattr(other, name) for name in _COUNTED)
        return self.empty or (self.epoch == other.epoch and no_further)


def copy_database(directory: Path, target: Path, progress: Progress, moment: Callable[[], _T]) -> tuple[Extent, _T]:
    """Copy the database of a state directory as it is at one moment; it may be written to meanwhile.

    `moment` is called when that moment has come; what it returns is returned, with how far the copy goes. The copy is
    on disk on return. Raises InvalidInput when there is no database of ours, StorageFull or StorageFailed.
    """
    file = find_database(directory)
    try:
        with closing(open_reader(directory)) as source:
            # One transaction: what is committed from now on is in the write-ahead log beyond what this one sees.
            source.execute("BEGIN")
            extent = read_extent(source, file)
            found = moment()
            _copy(source, target, progress)
            source.execute("ROLLBACK")
    except sqlite3.Error as error:
        failed = failure(error)
        if isinstance(failed, StorageFull):
            raise failed from error
        raise StorageFailed(f"{file} cannot be copied: {failed}") from error
    return extent, found


def _copy(source: sqlite3.Connection, target: Path, progress: Progress) -> None:
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        # It is synced once, at the end: an unfinished copy is of no use anyway.
        copy.execute("PRAGMA synchronous = OFF")

        def told(_: int, remaining: int, total: int) -> None:
            progress("copying the database", total - remaining, total)

        source.backup(copy, pages=PAGES, progress=told)
        # One file, that can be read where nothing may be written.
        copy.execute("PRAGMA journal_mode = DELETE")


def read_extent(connection: sqlite3.Connection, file: Path) -> Extent:
    """How far a database goes. Raises InvalidInput when it is not ours, or newer than this version."""
    if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        raise InvalidInput(("state", f"{file} is a database of another program"))
    (tables,) = connection.execute("PRAGMA user_version").fetchone()
    if tables > len(MIGRATIONS):
        raise InvalidInput(
            (
                "state",
                f"{file} was made by a newer Tidings (its tables have version {tables}, this one knows "
                f"{len(MIGRATIONS)}): use that one",
            )
        )
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    (epoch,) = connection.execute("SELECT value FROM about WHERE name = 'epoch'").fetchone()
    newest = {name: _newest(connection, table) if table in there else 0 for name, table in _COUNTED.items()}
    # The newest events may have been taken out: their numbers are not given again.
    if "sqlite_sequence" in there:
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        newest["events"] = max(newest["events"], row[0] if row else 0)
    return Extent(epoch, tables, **newest)


def _newest(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT ifnull(max(number), 0) FROM {table}").fetchone()[0])


def open_copy(file: Path) -> sqlite3.Connection:
    """A connection that reads a copied database, which nobody writes to; no other file is made beside it."""
    uri = f"{file.absolute().as_uri()}?mode=ro&immutable=1"
    return sqlite3.connect(uri, isolation_level=None, uri=True)
