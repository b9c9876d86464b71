"""Who is to be looked at, and when, in the SQLite database."""

from tidings_core.stored import Look
from tidings_server.adapters.sqlite_statements import Statements


def read_looks_due(sql: Statements, now: int, limit: int) -> list[Look]:
    """Users to look at at or before `now`, those due first in front."""
    query = "SELECT user_id, due, loud, looked FROM looks WHERE due <= ? ORDER BY due, user_id LIMIT ?"
    return [Look(user_id, due, bool(loud), bool(looked)) for user_id, due, loud, looked in sql.rows(query, now, limit)]


def read_next_look(sql: Statements) -> int | None:
    """When somebody is to be looked at next; None when nobody is."""
    row = sql.row("SELECT min(due) FROM looks")
    return None if row is None or row[0] is None else int(row[0])


def read_never_looked_at(sql: Statements, after: str, limit: int) -> list[str]:
    """Users with a document of whom nothing is noted here, from one on, in order."""
    query = (
        "SELECT user_id FROM users WHERE user_id > ? AND merged_into = '' "
        "AND NOT EXISTS (SELECT 1 FROM looks WHERE looks.user_id = users.user_id) ORDER BY user_id LIMIT ?"
    )
    return [user_id for (user_id,) in sql.rows(query, after, limit)]


class LookTable:
    """Who is to be looked at."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql

    def begin(self, name: str, now: int) -> int:
        """Go on with the watch of a name, or begin it at `now`; returns when it began."""
        found: dict[str, str] = dict(
            self._sql.rows("SELECT name, value FROM about WHERE name IN ('watch', 'watch_since')")
        )
        if found.get("watch") == name:
            return int(found["watch_since"])
        self._sql.change("DELETE FROM looks")
        for key, value in (("watch", name), ("watch_since", str(now))):
            query = "INSERT INTO about VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
            self._sql.change(query, key, value)
        return now

    def ask(self, user_id: str, now: int, loud: bool) -> None:
        """Have a user looked at now. Who is to be looked at already stays so, loudly if one of the two is."""
        query = (
            "INSERT INTO looks VALUES (?1, ?2, ?3, 0) ON CONFLICT (user_id) DO UPDATE SET "
            "loud = CASE WHEN due <= ?2 THEN max(loud, ?3) ELSE ?3 END, due = min(due, ?2)"
        )
        self._sql.change(query, user_id, now, int(loud))

    def set(self, user_id: str, due: int) -> None:
        """Note that a user was looked at, and when to look again."""
        query = (
            "INSERT INTO looks VALUES (?1, ?2, 1, 1) ON CONFLICT (user_id) DO UPDATE SET due = ?2, loud = 1, looked = 1"
        )
        self._sql.change(query, user_id, due)

    def remove(self, user_id: str) -> None:
        """Forget a user."""
        self._sql.change("DELETE FROM looks WHERE user_id = ?", user_id)
