"""Reading the users of a state directory from outside, beside a running server or without one."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tidings_core.errors import StorageFailed
from tidings_core.stored import Document
from tidings_server.adapters.sqlite_ledger import check_tables
from tidings_server.adapters.sqlite_schema import find_database, open_reader
from tidings_server.adapters.sqlite_statements import Statements, failure
from tidings_server.adapters.sqlite_tables import read_items

PAGE = 1000


class UserReader:
    """Reads documents and the numbers of items."""

    def __init__(self, sql: Statements) -> None:
        """Use `open_users`."""
        self._sql = sql

    def count(self) -> int:
        """How many users have a document. Raises StorageFailed."""
        ((count,),) = self._sql.rows("SELECT count(*) FROM users WHERE merged_into = ''")
        return int(count)

    def documents(self) -> Iterator[tuple[str, Document]]:
        """Every user with a document, in order. Raises StorageFailed."""
        after = ""
        while True:
            query = (
                "SELECT user_id, version, content FROM users WHERE user_id > ? AND merged_into = '' "
                "ORDER BY user_id LIMIT ?"
            )
            rows = self._sql.rows(query, after, PAGE)
            for user_id, version, content in rows:
                yield user_id, Document(version, content)
            if len(rows) < PAGE:
                return
            after = rows[-1][0]

    def item_ids(self, first: int) -> Iterator[tuple[int, str]]:
        """Items and their numbers from a number on, in order of number. Raises StorageFailed."""
        while True:
            rows = read_items(self._sql, first, PAGE)
            yield from rows
            if len(rows) < PAGE:
                return
            first = rows[-1][0] + 1


@contextmanager
def open_users(directory: Path) -> Iterator[UserReader]:
    """Open the users of a state directory; nothing is changed, and no lock needed.

    Raises InvalidInput when the directory has no database of this version, StorageFailed when it cannot be read.
    """
    file = find_database(directory)
    try:
        with closing(open_reader(directory)) as connection:
            sql = Statements(connection)
            check_tables(sql, file)
            yield UserReader(sql)
    except sqlite3.Error as error:
        raise StorageFailed(f"{file} cannot be read: {failure(error)}") from error
