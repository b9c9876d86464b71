"""Exclusions hold exactly what was put in, per user."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tidings_core.exclusions import Exclusions
from tidings_core.rows import Passing, RowSet

ITEMS = 30
rows_of_a_user = st.lists(st.integers(-1, ITEMS - 1), max_size=20)
users = st.lists(st.tuples(rows_of_a_user, st.lists(rows_of_a_user, max_size=2)), min_size=1, max_size=5)


@given(users)
def test_an_item_is_excluded_for_exactly_the_users_who_exclude_it(
    given_users: list[tuple[list[int], list[list[int]]]],
) -> None:
    """contains() agrees with plain sets, whether rows are few or many; unknown ids (-1) exclude nothing."""
    few = [np.array(rows, np.int32) for rows, _ in given_users]
    many = [[Passing(RowSet.of_rows(np.array(rows, np.int32), ITEMS)) for rows in sets] for _, sets in given_users]
    excluded = Exclusions.of(few, many, ITEMS)
    every = np.broadcast_to(np.arange(-1, ITEMS, dtype=np.int64), (len(given_users), ITEMS + 1))
    found = excluded.contains(every)
    for user, (rows, sets) in enumerate(given_users):
        assert every[user][found[user]].tolist() == sorted({*rows}.union(*sets) - {-1})
        assert excluded.sizes[user] == len({*rows} - {-1})
