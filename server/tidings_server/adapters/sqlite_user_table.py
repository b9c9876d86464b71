"""Users' documents in the SQLite database, and which user's id stands for which other's."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tidings_core.errors import Conflict
from tidings_core.stored import Document
from tidings_server.adapters.sqlite_statements import Row, Statements

_MOST_GIVEN = 500
"""Values that one statement is given at most; the oldest SQLite takes 999."""


def read_row(sql: Statements, user_id: str) -> Document:
    """What stands under a user's id itself: a document or, with `user_id`, the way to it."""
    row = sql.row("SELECT version, content, merged_into FROM users WHERE user_id = ?", user_id)
    return Document(*row) if row else Document()


def read_user(sql: Statements, user_id: str) -> Document:
    """A user's document."""
    found = read_row(sql, user_id)
    return replace(read_row(sql, found.user_id), user_id=found.user_id) if found.user_id else found


def read_users(sql: Statements, user_ids: Sequence[str]) -> dict[str, Document]:
    """The documents of users, of those who have one of their own."""
    rows = _of_users(sql, "user_id, version, content", user_ids)
    return {user_id: Document(version, content) for user_id, version, content in rows}


def read_versions(sql: Statements, user_ids: Sequence[str]) -> dict[str, int]:
    """The versions of the documents of users, of those who have one; 0 for one who is merged into another."""
    return dict[str, int](_of_users(sql, "user_id, iif(merged_into = '', version, 0)", user_ids))


def read_merged(sql: Statements, user_id: str) -> list[str]:
    """The ids that were merged into a user, in order."""
    query = "SELECT user_id FROM users WHERE merged_into = ? AND merged_into <> '' ORDER BY user_id"
    return [merged for (merged,) in sql.rows(query, user_id)]


def _of_users(sql: Statements, columns: str, user_ids: Sequence[str]) -> Iterator[Row]:
    for start in range(0, len(user_ids), _MOST_GIVEN):
        part = user_ids[start : start + _MOST_GIVEN]
        yield from sql.rows(f"SELECT {columns} FROM users WHERE user_id IN ({', '.join('?' * len(part))})", *part)


class Changes:
    """What jobs changed that is kept in memory too: documents by user, the numbers of the newest event and change."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.newest_event = 0
        self.newest_item = 0

    def add(self, later: "Changes") -> None:
        """Take in what was changed after this."""
        self.documents.update(later.documents)
        self.newest_event = max(self.newest_event, later.newest_event)
        self.newest_item = max(self.newest_item, later.newest_item)


class UserTable:
    """Documents of users."""

    def __init__(self, sql: Statements, changes: Changes) -> None:
        self._sql = sql
        self._changes = changes

    def get(self, user_id: str) -> Document:
        """The document as this transaction sees it."""
        return read_user(self._sql, user_id)

    def merged(self, user_id: str) -> list[str]:
        """The ids that were merged into a user, in order."""
        return read_merged(self._sql, user_id)

    def merge(self, user_id: str, into: str) -> None:
        """Let an id, and those merged into it, stand for another user, whose version comes to be above both."""
        old, other = read_row(self._sql, user_id), read_row(self._sql, into)
        if old.user_id or other.user_id or user_id == into:
            raise Conflict("one of the two is merged into another user already: read it again")
        moved = [user_id, *self.merged(user_id)]
        query = (
            "INSERT INTO users (user_id, version, content, merged_into) VALUES (?, 1, x'', ?) "
            "ON CONFLICT DO UPDATE SET version = version + 1, content = x'', merged_into = excluded.merged_into"
        )
        for name in moved:
            self._sql.change(query, name, into)
            self._changes.documents[name] = read_row(self._sql, name)
        version = max(old.version, other.version) + 1
        query = (
            "INSERT INTO users (user_id, version, content) VALUES (?, ?, x'') "
            "ON CONFLICT DO UPDATE SET version = excluded.version"
        )
        self._sql.change(query, into, version)
        self._changes.documents[into] = read_row(self._sql, into)

    def put(self, user_id: str, content: bytes, expected_version: int) -> int:
        """Replace the document and return its new version. Raises Conflict when it has another version."""
        version = expected_version + 1
        if expected_version == 0:
            query = "INSERT INTO users (version, content, user_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
            changed = self._sql.change(query, version, content, user_id)
        else:
            query = "UPDATE users SET version = ?, content = ? WHERE user_id = ? AND version = ? AND merged_into = ''"
            changed = self._sql.change(query, version, content, user_id, expected_version)
        if not changed:
            raise Conflict(f"the user's document is not of version {expected_version}: read it again")
        self._changes.documents[user_id] = Document(version, content)
        return version
