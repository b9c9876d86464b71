"""Erasing people from the database: who was, what is under way, and the rows that go."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

from tidings_core.errors import StorageFailed
from tidings_core.stored import Document, Erased, Erasing
from tidings_server.adapters.sqlite_ledger import check_tables
from tidings_server.adapters.sqlite_schema import find_database, open_reader
from tidings_server.adapters.sqlite_statements import Row, Statements, failure
from tidings_server.adapters.sqlite_tables import event_key
from tidings_server.adapters.sqlite_user_table import Changes

TABLES: Mapping[str, str] = MappingProxyType(
    {
        "events": "number",
        "pushes": "offset",
        "decisions": "number",
        "timers": "key",
        "looks": "user_id",
        "checkpoints": "user_id",
    }
)
"""What is erased of a user row by row: tables, and what tells a user's rows in them apart. The document goes at once,
and with an event goes the key that makes it known.
"""


def read_erased(sql: Statements) -> list[Erased]:
    """All who were erased."""
    return [_erased(row) for row in sql.rows("SELECT key, time, lifted, receipt FROM erased")]


def read_erasing(sql: Statements) -> list[Erasing]:
    """The erasures that are not done."""
    return [_erasing(row) for row in sql.rows("SELECT key, user_ids, counts FROM erasing")]


def read_erased_vectors(sql: Statements, key: bytes) -> dict[str, int]:
    """How many erased users each release has vectors of; with a key (b"": none) that user alone."""
    query = "SELECT release_id, count(*) FROM erased_vectors WHERE ?1 IN (x'', key) GROUP BY release_id"
    return dict(sql.rows(query, key))


def read_erasures(directory: Path) -> list[Erased]:
    """All who were erased by a state directory, beside a running server or without one.

    Raises InvalidInput when it has no database of this version, StorageFailed when it cannot be read.
    """
    file = find_database(directory)
    try:
        with closing(open_reader(directory)) as connection:
            sql = Statements(connection)
            check_tables(sql, file)
            return read_erased(sql)
    except sqlite3.Error as error:
        raise StorageFailed(f"{file} cannot be read: {failure(error)}") from error


class ErasureTable:
    """Who is erased. What it removes leaves nothing readable in the pages of the file (`PRAGMA secure_delete`)."""

    def __init__(self, sql: Statements, changes: Changes) -> None:
        self._sql = sql
        self._changes = changes

    def get(self, key: bytes) -> Erased | None:
        """Whether, and how, the user of a key was erased."""
        row = self._sql.row("SELECT key, time, lifted, receipt FROM erased WHERE key = ?", key)
        return None if row is None else _erased(row)

    def under_way(self, key: bytes) -> Erasing | None:
        """The erasure of a key that is not done."""
        row = self._sql.row("SELECT key, user_ids, counts FROM erasing WHERE key = ?", key)
        return None if row is None else _erasing(row)

    def under_way_of(self, user_id: str) -> Erasing | None:
        """The erasure that is not done of the person who has an id, under whichever of the ids it was asked for."""
        return next((one for one in read_erasing(self._sql) if user_id in one.user_ids), None)

    def begin(self, keys: Sequence[bytes], user_ids: Sequence[str], time: int, counts: Mapping[str, int]) -> None:
        """Say that users are erased from now on, the person's own id first, and remove their documents."""
        for key in keys:
            query = (
                "INSERT INTO erased VALUES (?, ?, 0, '{}') "
                "ON CONFLICT DO UPDATE SET time = excluded.time, lifted = 0, receipt = '{}'"
            )
            self._sql.change(query, key, time)
        documents = 0
        for user_id in user_ids:
            documents += self._sql.change("DELETE FROM users WHERE user_id = ?", user_id)
            self._changes.documents[user_id] = Document()
        told = json.dumps(list(user_ids), ensure_ascii=False)
        query = "INSERT INTO erasing VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET user_ids = excluded.user_ids"
        self._sql.change(query, keys[0], told, json.dumps({"documents": documents, **counts}))

    def step(self, key: bytes, limit: int) -> int:
        """Remove up to `limit` rows of an erasure that is under way; returns how many, 0 when none is left."""
        erasing = self.under_way(key)
        if erasing is None:
            return 0
        counts, left = dict(erasing.counts), limit
        for user_id in erasing.user_ids:
            for table in TABLES:
                gone = self._remove(table, user_id, left) if left else 0
                counts[table] = counts.get(table, 0) + gone
                left -= gone
        if left < limit:
            self._sql.change("UPDATE erasing SET counts = ? WHERE key = ?", json.dumps(counts), key)
        return limit - left

    def finish(self, keys: Sequence[bytes], more: Mapping[str, int]) -> Mapping[str, int]:
        """End the erasure of the first key: of it only its receipt stays, with what else was erased; returns it.

        The other keys, of the same person, get the same receipt.
        """
        key = keys[0]
        erasing = self.under_way(key)
        if erasing is None:
            found = self.get(key)
            return {} if found is None else found.receipt
        receipt = {**dict.fromkeys(TABLES, 0), **erasing.counts, **more}
        for each in keys:
            self._sql.change("UPDATE erased SET receipt = ? WHERE key = ?", json.dumps(receipt), each)
        self._sql.change("DELETE FROM erasing WHERE key = ?", key)
        return receipt

    def lift(self, key: bytes) -> None:
        """Say that a user came back: what was erased stays so, and what happens from now on may be recorded."""
        self._sql.change("UPDATE erased SET lifted = 1 WHERE key = ?", key)

    def hold(self, release_id: str, keys: Sequence[bytes]) -> None:
        """Say that a release has vectors of erased users."""
        for key in keys:
            self._sql.change("INSERT INTO erased_vectors VALUES (?, ?) ON CONFLICT DO NOTHING", release_id, key)

    def let_go(self, release_ids: Sequence[str]) -> None:
        """Forget of releases other than these that they have vectors of erased users: they are no more."""
        kept = ", ".join("?" * len(release_ids))
        self._sql.change(f"DELETE FROM erased_vectors WHERE release_id NOT IN ({kept})", *release_ids)

    def _remove(self, table: str, user_id: str, limit: int) -> int:
        if table == "events":
            return self._remove_events(user_id, limit)
        name = TABLES[table]
        rows = self._sql.rows(f"SELECT {name} FROM {table} WHERE user_id = ? LIMIT ?", user_id, limit)
        for (key,) in rows:
            self._sql.change(f"DELETE FROM {table} WHERE user_id = ? AND {name} = ?", user_id, key)
        return len(rows)

    def _remove_events(self, user_id: str, limit: int) -> int:
        rows = self._sql.rows("SELECT number, event_id FROM events WHERE user_id = ? LIMIT ?", user_id, limit)
        for number, event_id in rows:
            self._sql.change("DELETE FROM events WHERE number = ?", number)
            # Unlike what retention takes out, this is not known any more: the person's key is what keeps it away.
            self._sql.change("DELETE FROM event_keys WHERE key = ?", event_key(event_id))
        return len(rows)


def _erased(row: Row) -> Erased:
    key, time, lifted, receipt = row
    return Erased(key, time, bool(lifted), json.loads(receipt))


def _erasing(row: Row) -> Erasing:
    key, user_ids, counts = row
    return Erasing(key, tuple(json.loads(user_ids)), json.loads(counts))
