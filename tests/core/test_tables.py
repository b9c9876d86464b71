"""Id tables: from an id to its row and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings_core import tables
from tidings_core.tables import BytesTable, IdTable

ids = st.lists(st.text(min_size=1, max_size=12).filter(lambda s: s.isprintable()), unique=True, max_size=50)


@given(st.lists(st.binary(max_size=20), max_size=30))
def test_a_bytes_table_gives_back_what_was_put_in(rows: list[bytes]) -> None:
    """Every row comes back unchanged, empty ones too."""
    table = BytesTable.of(rows)
    assert [table[row] for row in range(len(table))] == rows


@given(ids, st.text(max_size=12).filter(lambda s: s.isprintable()))
def test_every_id_is_found_at_its_row_and_no_other_is(names: list[str], stranger: str) -> None:
    """find() is the inverse of [] and says -1 for an id that was never put in."""
    table = IdTable.of(names)
    assert table.find_many(names).tolist() == list(range(len(names)))
    assert [table[row] for row in range(len(table))] == names
    if stranger not in names:
        assert table.find(stranger) == -1


def test_ids_whose_hashes_collide_are_told_apart() -> None:
    """The hash only narrows the search: with every hash equal, each id is still found at its own row."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "hash_id", lambda _: 7)
        table = IdTable.of(["a", "b", "c"])
        assert np.all(table.hashes == 7)
        assert table.find_many(["c", "a", "b", "d"]).tolist() == [2, 0, 1, -1]
