"""Which items must not be in an answer, for many users at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidings_core.tables import Bool, Int32, Int64


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Excluded items of B users: keys i64[E] ascending, key = user * item_count + item row; sizes i64[B]."""

    keys: Int64
    sizes: Int64
    item_count: int

    @classmethod
    def of(cls, rows_of_users: Sequence[Int32], item_count: int) -> "Exclusions":
        """Gather item rows per user; rows below 0 (ids that are not known) are ignored, repeats count once."""
        users = np.repeat(np.arange(len(rows_of_users), dtype=np.int64), [len(rows) for rows in rows_of_users])
        rows = np.concatenate([np.empty(0, np.int64), *rows_of_users]).astype(np.int64)
        keys = np.unique((users * item_count + rows)[rows >= 0])
        return cls(keys, np.bincount(keys // max(item_count, 1), minlength=len(rows_of_users)), item_count)

    def contains(self, rows: Int32 | Int64) -> Bool:
        """Whether each of rows [B, W] is excluded for its user, bool[B, W]."""
        if len(self.keys) == 0:
            return np.zeros(rows.shape, np.bool_)
        keys = np.arange(len(rows), dtype=np.int64)[:, None] * self.item_count + rows
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return (self.keys[at] == keys) & (rows >= 0)

    def of_user(self, user: int) -> Int32:
        """Item rows excluded for one user of the batch, ascending i32."""
        start = int(self.sizes[:user].sum())
        return (self.keys[start : start + int(self.sizes[user])] - user * self.item_count).astype(np.int32)
