"""Reading the catalogue of a state directory from outside, beside a running server or without one."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tidings_core.errors import StorageFailed
from tidings_core.stored import StoredItem
from tidings_server.adapters.sqlite_ledger import check_tables
from tidings_server.adapters.sqlite_schema import find_database, open_reader
from tidings_server.adapters.sqlite_statements import Statements, failure
from tidings_server.adapters.sqlite_tables import read_catalogue_changes


class CatalogueReader:
    """Reads changes. `catalogue_position` is the number of the newest there was when it was opened."""

    def __init__(self, sql: Statements) -> None:
        """Use `open_catalogue`."""
        self._sql = sql
        ((self.epoch,),) = sql.rows("SELECT value FROM about WHERE name = 'epoch'")
        ((self.catalogue_position,),) = sql.rows("SELECT ifnull(max(number), 0) FROM catalogue")

    def catalogue_changes(self, after: int, limit: int) -> list[StoredItem]:
        """Items whose last change has a number above `after`, in order of it. Raises StorageFailed."""
        return read_catalogue_changes(self._sql, after, limit)


@contextmanager
def open_catalogue(directory: Path) -> Iterator[CatalogueReader]:
    """Open the catalogue of a state directory; nothing is changed, and no lock needed.

    Raises InvalidInput when the directory has no database of this version, StorageFailed when it cannot be read.
    """
    file = find_database(directory)
    try:
        with closing(open_reader(directory)) as connection:
            sql = Statements(connection)
            check_tables(sql, file)
            yield CatalogueReader(sql)
    except sqlite3.Error as error:
        raise StorageFailed(f"{file} cannot be read: {failure(error)}") from error
