"""Which items must not be in an answer, for many users at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidings_core.model import Snapshot
from tidings_core.rows import Passing, RowSet
from tidings_core.tables import Bool, Int32, Int64, begins, places

MANY = 256
"""Up to so many rows of one kind are searched for on top and dropped; of more a search is told, by a set of bits."""


def prepared(rows: Int32, snapshot: Snapshot) -> Passing:
    """Item rows prepared for leaving them out of searches."""
    return snapshot.index.prepare(RowSet.of_rows(rows, len(snapshot.items)), gather=False)


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Excluded items of B users.

    keys i64[E] ascending, key = user * item_count + item row; sizes i64[B] so many of them each user has. `many` are
    larger sets of each user besides, prepared for the index.
    """

    keys: Int64
    sizes: Int64
    item_count: int
    many: Sequence[Sequence[Passing]]

    @classmethod
    def of(cls, rows_of_users: Sequence[Int32], many: Sequence[Sequence[Passing]], item_count: int) -> "Exclusions":
        """Gather item rows per user; rows below 0 (ids that are not known) are ignored, repeats count once."""
        first = np.arange(len(rows_of_users) + 1) * item_count
        rows = np.concatenate([np.empty(0, np.int64), *rows_of_users])
        keys = np.repeat(first[:-1], [len(rows) for rows in rows_of_users])
        keys += rows
        if rows.min(initial=0) < 0:
            keys = keys[rows >= 0]
        keys.sort()
        keys = keys[begins(keys)]
        return cls(keys, np.diff(np.searchsorted(keys, first)), item_count, many)

    def contains(self, rows: Int32 | Int64) -> Bool:
        """Whether each of rows [B, W] is excluded for its user, bool[B, W]."""
        found = np.zeros(rows.shape, np.bool_)
        if len(self.keys):
            keys = np.arange(len(rows), dtype=np.int64)[:, None] * self.item_count + rows
            found = places(self.keys, keys)[1] & (rows >= 0)
        for user, sets in enumerate(self.many):
            for excluded in sets:
                found[user] |= excluded.rows.contains(rows[user])
        return found

    def hold(self, users: Int64, rows: Int64) -> Bool:
        """Whether each of rows i64[n], not negative, is excluded for the user i64[n] beside it, bool[n]."""
        found = np.zeros(len(rows), np.bool_)
        if len(self.keys):
            found = places(self.keys, users * self.item_count + rows)[1]
        for user, sets in enumerate(self.many):
            for excluded in sets:
                mine = np.flatnonzero(users == user)
                found[mine] |= excluded.rows.contains(rows[mine])
        return found

    def excludes(self, user: int, rows: Int64) -> Bool:
        """Whether each of rows i64[W] is excluded for one user, bool[W]."""
        found = np.zeros(len(rows), np.bool_)
        if len(self.keys):
            found = places(self.keys, rows + user * self.item_count)[1]
        for excluded in self.many[user]:
            found |= excluded.rows.contains(rows)
        return found
