"""Looking into the ledger of a state directory from outside, beside a running server or without one."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tidings_core.errors import InvalidInput, StorageFailed
from tidings_core.stored import Entry
from tidings_server.adapters.sqlite_schema import APPLICATION_ID, MIGRATIONS, find_database, open_reader
from tidings_server.adapters.sqlite_statements import Statements, failure
from tidings_server.adapters.sqlite_tables import Of, read_decisions


def read_ledger(directory: Path, user_id: str, limit: int, of: Of = "all") -> list[Entry]:
    """The newest decisions for a user, newest first; "" for any user. Changes nothing, and needs no lock.

    Raises InvalidInput when the directory has no database of this version, StorageFailed when it cannot be read.
    """
    file = find_database(directory)
    try:
        with closing(open_reader(directory)) as connection:
            sql = Statements(connection)
            check_tables(sql, file)
            return read_decisions(sql, user_id, limit, of)
    except sqlite3.Error as error:
        raise StorageFailed(f"{file} cannot be read: {failure(error)}") from error
    except StorageFailed as error:
        raise StorageFailed(f"{file} cannot be read: {error}") from error


def check_tables(sql: Statements, file: Path) -> None:
    """See that the tables are those that this version knows."""
    if sql.row("PRAGMA application_id") != (APPLICATION_ID,):
        raise InvalidInput(("state", f"{file} is a database of another program: name another directory with --state"))
    ((version,),) = sql.rows("PRAGMA user_version")
    if version != len(MIGRATIONS):
        raise InvalidInput(
            (
                "state",
                f"{file} has tables of version {version}, and this command knows {len(MIGRATIONS)}: "
                "use the tidings-server that its server is of",
            )
        )
