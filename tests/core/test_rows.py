"""Sets of rows as bits are the sets they stand for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tidings_core.rows import RowSet

SIZES = st.integers(1, 40)


@given(SIZES, SIZES, st.data())
def test_a_set_of_rows_is_the_set_it_was_made_of(size: int, other_size: int, data: st.DataObject) -> None:
    """Members, complement, union and so on, rows and counts agree with Python's sets, whatever the sizes."""
    one, other = (data.draw(st.lists(st.integers(-1, most - 1), max_size=30)) for most in (size, other_size))
    first, second = RowSet.of_rows(np.array(one, np.int32), size), RowSet.of_rows(np.array(other, np.int32), other_size)
    mine, others = {*one} - {-1}, {row for row in other if 0 <= row < size}
    every = np.arange(-1, size + 20, dtype=np.int64)
    for found, wanted in (
        (first, mine),
        (first & second, mine & others),
        (~first, {*range(size)} - mine),
        (~first & second, others - mine),
        (first | second, mine | others),
        (first - second, mine - others),
        (second.resized(size), others),
        (RowSet.of_mask(first.mask()), mine),
    ):
        assert found.rows().tolist() == sorted(wanted)
        assert (found.count, found.size) == (len(wanted), size)
        assert every[found.contains(every)].tolist() == sorted(wanted)
