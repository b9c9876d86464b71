"""Contacts in the SQLite database: sealed, with the key of each user beside them."""

from tidings_core.contacts import SealedContact
from tidings_server.adapters.sqlite_statements import Statements

_CONTACT = "contact_id, channel, registered, seen, expires, sealed"


def read_contacts(sql: Statements, user_id: str) -> tuple[bytes, list[SealedContact]]:
    """The wrapped key of a user, b"" for none, and the user's contacts, those registered first in front."""
    row = sql.row("SELECT sealed FROM contact_keys WHERE user_id = ?", user_id)
    query = f"SELECT {_CONTACT} FROM contacts WHERE user_id = ? ORDER BY registered, contact_id"
    return (bytes(row[0]) if row else b""), [SealedContact(*found) for found in sql.rows(query, user_id)]


class ContactTable:
    """The contacts of users."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql

    def read(self, user_id: str) -> tuple[bytes, list[SealedContact]]:
        """The wrapped key of a user, b"" for none, and the user's contacts, those registered first in front."""
        return read_contacts(self._sql, user_id)

    def put(self, user_id: str, key: bytes, contact: SealedContact) -> None:
        """Add or replace a contact, sealed under the wrapped key that stands for the user from now on."""
        query = "INSERT INTO contact_keys VALUES (?, ?) ON CONFLICT DO UPDATE SET sealed = excluded.sealed"
        self._sql.change(query, user_id, key)
        given = (contact.channel, contact.registered, contact.seen, contact.expires, contact.sealed)
        query = "INSERT OR REPLACE INTO contacts VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._sql.change(query, user_id, contact.contact_id, *given)

    def remove(self, user_id: str, contact_id: bytes) -> bool:
        """Remove a contact, and with a user's last one the key; False when there was none."""
        query = "DELETE FROM contacts WHERE user_id = ? AND contact_id = ?"
        found = self._sql.change(query, user_id, contact_id) > 0
        self._forget_key(user_id)
        return found

    def holders(self, contact_id: bytes) -> list[str]:
        """The users who have a contact."""
        query = "SELECT user_id FROM contacts WHERE contact_id = ? ORDER BY user_id"
        return [user_id for (user_id,) in self._sql.rows(query, contact_id)]

    def expire(self, now: int, limit: int) -> int:
        """Remove contacts that expired at or before `now`, the oldest first; returns how many."""
        query = "SELECT user_id, contact_id FROM contacts WHERE expires > 0 AND expires <= ? ORDER BY expires LIMIT ?"
        gone = self._sql.rows(query, now, limit)
        return sum(self.remove(user_id, contact_id) for user_id, contact_id in gone)

    def erase(self, user_id: str) -> int:
        """Destroy a user's key and remove all contacts; returns how many there were."""
        count = self._sql.change("DELETE FROM contacts WHERE user_id = ?", user_id)
        self._forget_key(user_id)
        return count

    def _forget_key(self, user_id: str) -> None:
        query = "DELETE FROM contact_keys WHERE user_id = ?1 AND NOT EXISTS (SELECT 1 FROM contacts WHERE user_id = ?1)"
        self._sql.change(query, user_id)
