"""Exclusions hold exactly what was put in, per user."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tidings_core.exclusions import Exclusions

ITEMS = 30
lists = st.lists(st.lists(st.integers(-1, ITEMS - 1), max_size=20), min_size=1, max_size=5)


@given(lists)
def test_an_item_is_excluded_for_exactly_the_users_who_exclude_it(rows_of_users: list[list[int]]) -> None:
    """contains() and of_user() agree with plain sets; unknown ids (-1) exclude nothing."""
    excluded = Exclusions.of([np.array(rows, np.int32) for rows in rows_of_users], ITEMS)
    every = np.broadcast_to(np.arange(-1, ITEMS, dtype=np.int64), (len(rows_of_users), ITEMS + 1))
    found = excluded.contains(every)
    for user, rows in enumerate(rows_of_users):
        wanted = sorted(set(rows) - {-1})
        assert every[user][found[user]].tolist() == wanted
        assert excluded.of_user(user).tolist() == wanted
        assert excluded.sizes[user] == len(wanted)
