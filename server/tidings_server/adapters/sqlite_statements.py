"""Running SQL statements, with the errors of SQLite as errors of ours."""

import sqlite3
from typing import Any

from tidings_core.errors import StorageFailed, StorageFull

FULL_SECONDS = 5.0
"""A write that found the disk full may be tried again after this."""
# The memory that connections share is a file too, and growing it fails for want of space alone.
_FULL = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")

Row = tuple[Any, ...]


def failure(error: sqlite3.Error) -> StorageFull | StorageFailed:
    """The error of ours for one of SQLite's."""
    name = getattr(error, "sqlite_errorname", "no code")
    if name in _FULL:
        return StorageFull("the disk is full: make room; nothing was changed, and reads go on", FULL_SECONDS)
    return StorageFailed(f"the database failed: {error} ({name})")


class Statements:
    """Runs statements on a connection. Raises StorageFull or StorageFailed when one fails, and keeps it as `error`.

    After that none is run any more: SQLite may have ended the transaction, and what came next would stand alone.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.error: StorageFull | StorageFailed | None = None

    def rows(self, query: str, *given: Any) -> list[Row]:
        """All rows that a statement returns."""
        return self._run(query, given)[0]

    def row(self, query: str, *given: Any) -> Row | None:
        """The first row that a statement returns, None when there is none."""
        rows = self.rows(query, *given)
        return rows[0] if rows else None

    def change(self, query: str, *given: Any) -> int:
        """Run a change; returns the number of rows that it changed."""
        return self._run(query, given)[1]

    def _run(self, query: str, given: Row) -> tuple[list[Row], int]:
        if self.error is not None:
            raise self.error
        try:
            cursor = self._connection.execute(query, given)
            return cursor.fetchall(), cursor.rowcount
        except sqlite3.Error as error:
            self.error = failure(error)
            raise self.error from error
