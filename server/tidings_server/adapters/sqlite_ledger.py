"""Looking into the ledger of a state directory from outside, beside a running server or without one."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tidings_core.errors import InvalidInput, StorageFailed
from tidings_core.stored import Entry
from tidings_server.adapters.sqlite_schema import APPLICATION_ID, FILE, MIGRATIONS, open_reader
from tidings_server.adapters.sqlite_statements import Statements, failure
from tidings_server.adapters.sqlite_tables import read_decisions


def read_ledger(directory: Path, user_id: str, limit: int) -> list[Entry]:
    """The newest decisions for a user, newest first; "" for any user. Changes nothing, and needs no lock.

    Raises InvalidInput when the directory has no database of this version, StorageFailed when it cannot be read.
    """
    file = directory / FILE
    if not file.is_file():
        raise InvalidInput(
            ("state", f"there is no {file}: name the state directory of a server that has run (--state)")
        )
    try:
        with closing(open_reader(directory)) as connection:
            sql = Statements(connection)
            application, version = sql.row("PRAGMA application_id"), sql.row("PRAGMA user_version")
            if application != (APPLICATION_ID,) or version != (len(MIGRATIONS),):
                raise InvalidInput(
                    ("state", f"{file} is of another program, or of another version of this one: read it with that one")
                )
            return read_decisions(sql, user_id, limit)
    except sqlite3.Error as error:
        raise failure(error) from error
    except StorageFailed as error:
        raise StorageFailed(f"{file} cannot be read: {error}") from error
