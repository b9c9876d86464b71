"""Imports of history in the SQLite database: how far each has come."""

from tidings_core.stored import StoredImport
from tidings_server.adapters.sqlite_statements import Statements

_IMPORT = "import_id, next_row, accepted, duplicates, rejected, faults"


def read_import(sql: Statements, import_id: str) -> StoredImport:
    """How far an import has come."""
    row = sql.row(f"SELECT {_IMPORT} FROM imports WHERE import_id = ?", import_id)
    return StoredImport(*row) if row else StoredImport(import_id)


class ImportTable:
    """How far imports have come."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql

    def get(self, import_id: str) -> StoredImport:
        """How far an import has come, as this transaction sees it."""
        return read_import(self._sql, import_id)

    def put(self, state: StoredImport) -> None:
        """Replace how far an import has come."""
        counts = state.next_row, state.accepted, state.duplicates, state.rejected
        query = f"INSERT OR REPLACE INTO imports ({_IMPORT}) VALUES (?, ?, ?, ?, ?, ?)"
        self._sql.change(query, state.import_id, *counts, state.faults)
