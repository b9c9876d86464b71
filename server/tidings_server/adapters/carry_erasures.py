"""Erasing in a database that was put back those who were erased since it was copied."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from tidings_core.erased import erased_key
from tidings_core.stored import Erased
from tidings_server.adapters.sqlite_contacts import ContactTable
from tidings_server.adapters.sqlite_erasures import TABLES, ErasureTable, read_erased
from tidings_server.adapters.sqlite_schema import open_database
from tidings_server.adapters.sqlite_statements import Statements
from tidings_server.adapters.sqlite_user_table import Changes

ROWS = 10_000


def carry_over(directory: Path, erased: Sequence[Erased], secret: bytes, own: bytes) -> int:
    """Erase from a state directory whoever is among the `erased` of another; returns how many there were.

    `secret` is that of the other directory, `own` the one of this. Who is erased there and came back is erased here all
    the same, since what is here is from before; but not when that erasure was done here too. When both have one secret,
    those of whom nothing is here are remembered too. The caller holds the lock. Raises InvalidInput when the database
    cannot be used; StorageFull, StorageFailed.
    """
    times = {one.key: one.time for one in erased}
    if not times:
        return 0
    with closing(open_database(directory)) as connection:
        sql = Statements(connection)
        table, contacts, count = ErasureTable(sql, Changes()), ContactTable(sql), 0
        sql.rows("BEGIN IMMEDIATE")
        done = {one.key: one.time for one in read_erased(sql)}
        for user_id in list(_users(sql)):
            time = times.get(erased_key(secret, user_id))
            key = erased_key(own, user_id)
            if time is None or done.get(key, 0) >= time:
                continue
            table.begin([key], [user_id], time, {"contacts": contacts.erase(user_id)})
            while table.step(key, ROWS):
                pass
            table.finish([key], {"ids": 1})
            count += 1
        if secret == own:
            for one in erased:
                # Also who came back: the document that keeps out what was done before is not here.
                query = "INSERT INTO erased VALUES (?, ?, 0, '{}') ON CONFLICT DO NOTHING"
                sql.change(query, one.key, one.time)
        sql.rows("COMMIT")
        # Pages that were divided may hold copies of what was removed.
        sql.rows("VACUUM")
        sql.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    return count


def _users(sql: Statements) -> Iterator[str]:
    tables = ("users", "contacts", *TABLES)
    query = " UNION ".join(f"SELECT user_id FROM {table}" for table in tables)
    return (user_id for (user_id,) in sql.rows(query))
