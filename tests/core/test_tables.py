"""Id tables: from an id to its row and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings_core import tables
from tidings_core.tables import BytesTable, IdTable, ascending, begins, best_first, picked, smallest_first, widened

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


lists = st.tuples(st.integers(1, 3), st.integers(0, 12)).flatmap(
    lambda shape: st.lists(
        st.lists(
            st.sampled_from([0.0, -0.0, 1.5, -1.5, 1e-38, -1e38, float("inf"), float("-inf")])
            | st.floats(width=32, allow_nan=False),
            min_size=shape[1],
            max_size=shape[1],
        ),
        min_size=shape[0],
        max_size=shape[0],
    )
)


@given(lists)
def test_the_best_come_first_and_equals_keep_their_order(scores: list[list[float]]) -> None:
    """As a stable sort has it, whatever the numbers are; 0 and -0 are equal."""
    table = np.array(scores, np.float32).reshape(len(scores), -1)
    order = best_first(table)
    assert order.tolist() == np.argsort(-table, axis=1, kind="stable").tolist()
    assert picked(table, order).tolist() == np.take_along_axis(table, order, 1).tolist()
    cubes = np.repeat(table[:, :, None], 2, axis=2)
    assert picked(cubes, order).tolist() == np.take_along_axis(cubes, order[:, :, None], 1).tolist()
    wide = widened(table, table.shape[1] + 2, -1)
    assert wide.tolist() == [[*row, -1.0, -1.0] for row in table.tolist()]


@given(st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=5, max_size=5), min_size=1, max_size=3))
def test_the_smallest_come_first_and_equals_keep_their_order(keys: list[list[int]]) -> None:
    """For whole numbers of 32 bits, negative ones too, and for flags."""
    for table in (np.array(keys), np.array(keys, np.int32), np.array(keys) % 3 == 0):
        assert smallest_first(table).tolist() == np.argsort(table, axis=1, kind="stable").tolist()


@given(st.lists(st.integers(0, 40), max_size=60), st.sampled_from([40, 2**62]))
def test_keys_are_put_in_order_with_the_place_each_had(keys: list[int], largest: int) -> None:
    """Equal keys keep their order, and keys that leave no room beside them for a place are ordered all the same."""
    given_keys = np.array(keys, np.int64)
    ordered, place = ascending(given_keys, largest)
    assert ordered.tolist() == sorted(keys)
    assert place.tolist() == np.argsort(given_keys, kind="stable").tolist()
    assert ordered[begins(ordered)].tolist() == sorted(set(keys))


def test_byte_strings_of_many_rows_are_read_at_once() -> None:
    """Each as far as its length says, whatever stands after it; also the last of the table."""
    table = BytesTable.of([b"a", b"", b"\x00long\x00", b"zz"])
    found, sizes = table.padded(np.array([2, 3, 1, 0]))
    assert [row[:size].tobytes() for row, size in zip(found, sizes, strict=True)] == [b"\x00long\x00", b"zz", b"", b"a"]
