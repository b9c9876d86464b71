"""Reading the log, documents and ledger of a state directory from outside, beside a running server or without one."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tidings_core.errors import StorageFailed
from tidings_core.stored import Document, Entry, StoredEvent, StoredItem
from tidings_server.adapters.sqlite_erasures import read_erasing
from tidings_server.adapters.sqlite_ledger import check_tables
from tidings_server.adapters.sqlite_schema import find_database, open_reader
from tidings_server.adapters.sqlite_statements import Statements, failure
from tidings_server.adapters.sqlite_tables import (
    read_catalogue_changes,
    read_catalogue_item,
    read_decisions,
    read_events,
    read_ledger_after,
)
from tidings_server.adapters.sqlite_transaction import SqliteTransaction
from tidings_server.adapters.sqlite_user_table import read_user

PAGE = 10_000


class LogReader:
    """Reads. `position`, `decided` and `catalogue_position` are the numbers of the newest event, decision and change.

    They are of when it was opened; every read sees what is there by then. Everything raises StorageFailed.
    """

    def __init__(self, sql: Statements) -> None:
        """Use `open_log`."""
        self._sql = sql
        ((self.epoch,),) = sql.rows("SELECT value FROM about WHERE name = 'epoch'")
        ((self.position,),) = sql.rows("SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'")
        ((self.decided,),) = sql.rows("SELECT ifnull(max(number), 0) FROM decisions")
        ((self.catalogue_position,),) = sql.rows("SELECT ifnull(max(number), 0) FROM catalogue")

    @property
    def user_count(self) -> int:
        """How many users have a document."""
        ((count,),) = self._sql.rows("SELECT count(*) FROM users")
        return int(count)

    def user_ids(self, after: str, limit: int) -> list[str]:
        """Users of whom there is a document, an event or a checkpoint, after one, in order."""
        parts = (
            f"SELECT * FROM (SELECT {how} user_id FROM {table} WHERE user_id > ?1 ORDER BY user_id LIMIT ?2)"
            for how, table in (("", "users"), ("DISTINCT", "events"), ("", "checkpoints"))
        )
        query = f"{' UNION '.join(parts)} ORDER BY user_id LIMIT ?2"
        return [user_id for (user_id,) in self._sql.rows(query, after, limit)]

    def all_user_ids(self) -> Iterator[str]:
        """All users of whom there is a document, an event or a checkpoint, in order."""
        after = ""
        while page := self.user_ids(after, PAGE):
            yield from page
            after = page[-1]

    @contextmanager
    def at_one_moment(self) -> Iterator[SqliteTransaction]:
        """All tables as they are at one moment, to be read alone."""
        self._sql.change("BEGIN")
        try:
            yield SqliteTransaction(self._sql, lambda: 0)
        finally:
            self._sql.change("COMMIT")

    def newest_decisions(self, user_id: str, limit: int) -> list[Entry]:
        """The decisions for a user that were added last, the last one first."""
        return read_decisions(self._sql, user_id, limit)

    def erasing(self) -> set[str]:
        """Users who are being erased."""
        return {user_id for one in read_erasing(self._sql) for user_id in one.user_ids}

    def events(self, after: int, limit: int) -> list[StoredEvent]:
        """Events after a number, in order, the flagged ones too."""
        return read_events(self._sql, after, limit)

    def good_numbers(self, first: int, last: int) -> set[int]:
        """The numbers, from one through another, of the events that are in the log and count."""
        query = "SELECT number FROM events WHERE number BETWEEN ? AND ? AND flags = 0"
        return {number for (number,) in self._sql.rows(query, first, last)}

    def decisions(self, after: int, limit: int) -> list[tuple[int, Entry]]:
        """Decisions after a number, in order, each with its own."""
        return read_ledger_after(self._sql, after, limit)

    def decision_numbers(self, first: int, last: int) -> set[int]:
        """The numbers, from one through another, of the decisions that are in the ledger."""
        query = "SELECT number FROM decisions WHERE number BETWEEN ? AND ?"
        return {number for (number,) in self._sql.rows(query, first, last)}

    def user(self, user_id: str) -> Document:
        """A user's document: that of the user into whom this one is merged, if there is one."""
        return read_user(self._sql, user_id)

    def catalogue_changes(self, after: int, limit: int) -> list[StoredItem]:
        """Items whose last change has a number above `after`, in order of it."""
        return read_catalogue_changes(self._sql, after, limit)

    def catalogue_item(self, item_id: str) -> StoredItem:
        """What is known of an item."""
        return read_catalogue_item(self._sql, item_id)


@contextmanager
def open_log(directory: Path) -> Iterator[LogReader]:
    """Open a state directory for reading; nothing is changed, and no lock needed.

    Raises InvalidInput when the directory has no database of this version, StorageFailed when it cannot be read.
    """
    file = find_database(directory)
    try:
        with closing(open_reader(directory)) as connection:
            sql = Statements(connection)
            check_tables(sql, file)
            yield LogReader(sql)
    except sqlite3.Error as error:
        raise StorageFailed(f"{file} cannot be read: {failure(error)}") from error
