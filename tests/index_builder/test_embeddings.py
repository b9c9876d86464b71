"""Embeddings of any trainer are read exactly, and what cannot be served is refused by file, row and limit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.index_builder.shop import write_table
from tidings_core.errors import InvalidInput
from tidings_core.tables import Float32
from tidings_index_builder import table_files
from tidings_index_builder.embeddings import read_embeddings
from tidings_index_builder.ids import rows_of

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)
IDS = ["a", "b", "c", "é🎁"]


def _lists(vectors: Any, kind: Any) -> Any:
    return pa.array(list(vectors), pa.list_(kind))


def _fixed(vectors: Any, kind: Any) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).reshape(-1), kind), 3)


def _parquet(path: Path, table: Any) -> Path:
    pa.parquet.write_table(table, path.with_suffix(".parquet"), row_group_size=2)
    return path.with_suffix(".parquet")


def _feather(path: Path, table: Any) -> Path:
    pa.feather.write_feather(table, str(path.with_suffix(".feather")), compression="lz4")
    return path.with_suffix(".feather")


def _stream(path: Path, table: Any) -> Path:
    with pa.ipc.new_stream(str(path.with_suffix(".arrow")), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path.with_suffix(".arrow")


@pytest.mark.parametrize("write", [_parquet, _feather, _stream])
@pytest.mark.parametrize("column", [_lists, _fixed])
@pytest.mark.parametrize(("kind", "dtype"), [("float16", "f2"), ("float32", "f4"), ("float64", "f8")])
def test_every_table_format_and_number_type_gives_the_same_embeddings(
    tmp_path: Path, write: Callable[..., Path], column: Callable[..., Any], kind: str, dtype: str
) -> None:
    """Parquet, Feather and Arrow streams, lists of fixed or free length, half to double precision."""
    table = pa.table({"id": IDS, "embedding": column(VECTORS.astype(dtype), getattr(pa, kind)())})
    found = read_embeddings(write(tmp_path / "items", table))
    assert found.ids == IDS
    assert found.vectors.dtype == np.float32
    np.testing.assert_array_equal(found.vectors, VECTORS)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    vectors=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 20), st.integers(1, 5)),
        elements=st.floats(-(2.0**55), 2.0**55, width=32),
    ),
    suffix=st.sampled_from([".npy", ".npz", ".parquet", ".arrow"]),
    batch=st.integers(1, 7),
)
def test_what_was_written_is_what_is_read(tmp_path: Path, vectors: Float32, suffix: str, batch: int) -> None:
    """Any float32 vectors come back bit for bit from every format, however they are cut into batches."""
    path, ids = tmp_path / f"any{suffix}", [f"id {row}" for row in range(len(vectors))]
    if suffix in (".npy", ".npz"):
        ids_path = tmp_path / "ids.txt"
        ids_path.write_text("".join(f"{name}\n" for name in ids))
        if suffix == ".npy":
            np.save(path, vectors)
        else:
            np.savez(path, vectors)
        found = read_embeddings(path, ids_path)
    else:
        table = pa.table({"id": ids, "embedding": pa.array(list(vectors), pa.list_(pa.float32()))})
        (_parquet if suffix == ".parquet" else _stream)(path, table)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(table_files, "BATCH_ROWS", batch)
            found = read_embeddings(path)
    assert found.ids == ids
    np.testing.assert_array_equal(found.vectors, vectors)


def test_whole_number_ids_become_their_decimal_strings(tmp_path: Path) -> None:
    """An integer id column, negative numbers too, and a dictionary-encoded text column give strings."""
    path = write_table(tmp_path / "n.parquet", id=pa.array([3, -1, 10, 2**60]), embedding=_fixed(VECTORS, pa.float32()))
    assert read_embeddings(path).ids == ["3", "-1", "10", str(2**60)]
    path = write_table(
        tmp_path / "d.parquet", id=pa.array(IDS).dictionary_encode(), embedding=_fixed(VECTORS, pa.float32())
    )
    assert read_embeddings(path).ids == IDS


def test_an_array_without_ids_is_numbered_by_row(tmp_path: Path) -> None:
    """`.npy` without an id file takes row numbers as ids."""
    np.save(tmp_path / "items.npy", VECTORS)
    assert read_embeddings(tmp_path / "items.npy").ids == ["0", "1", "2", "3"]


def test_an_archive_of_several_arrays_is_read_by_name(tmp_path: Path) -> None:
    """`.npz` with more than one array is read by the names that stand for embeddings, and refused without one."""
    np.savez(tmp_path / "named.npz", other=np.zeros(3), embeddings=VECTORS)
    np.testing.assert_array_equal(read_embeddings(tmp_path / "named.npz").vectors, VECTORS)
    np.savez(tmp_path / "odd.npz", one=VECTORS, two=VECTORS)
    with pytest.raises(InvalidInput, match=r"odd\.npz holds the arrays \['one', 'two'\]"):
        read_embeddings(tmp_path / "odd.npz")


def test_an_id_file_from_windows_is_read_as_it_is_meant(tmp_path: Path) -> None:
    """A byte order mark and CRLF line ends are not part of ids."""
    np.save(tmp_path / "items.npy", VECTORS)
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\r\nc\r\nd")
    assert read_embeddings(tmp_path / "items.npy", tmp_path / "ids.txt").ids == ["a", "b", "c", "d"]


def _with(row: int, value: float) -> Float32:
    vectors = VECTORS.copy()
    vectors[row, 1] = value
    return vectors


@pytest.mark.parametrize(
    ("ids", "column", "expected"),
    [
        (IDS, _fixed(_with(2, np.nan), pa.float32()), r"row 2 \(id 'c': nan at position 1\)"),
        (IDS, _fixed(_with(0, np.inf), pa.float32()), r"row 0 \(id 'a': inf at position 1\)"),
        (IDS, _fixed(_with(1, 1e30), pa.float32()), r"no longer than 1e\+18; row 1 \(id 'b': too long\)"),
        (IDS, _fixed(VECTORS.astype(float) * 1e300, pa.float64()), r"row 0 \(id 'a': inf at position 1\)"),
        (IDS, pa.array([[1.0, 2.0], [1.0, 2.0], [1.0], [1.0, 2.0]]), r"row 2 has 1 dimensions, .* have 2"),
        (IDS, pa.array([[1.0], None, [1.0], [1.0]]), r"row 1 has no embedding"),
        (IDS, pa.array([[1.0], [1.0], [None], [1.0]]), r"row 2 holds no number at position 0"),
        (IDS, pa.array([["x"]] * 4), r"embedding is list<.*string>, must be lists of float16"),
        (IDS, pa.array([[1]] * 4), r"embedding is list<.*int64>, must be"),
        (IDS, pa.array([1.0] * 4), r"embedding is double, must be lists"),
        (IDS, pa.array([[]] * 4, pa.list_(pa.float32())), r"has no vectors: its shape is \[4, 0\]"),
        ([], pa.array([], pa.list_(pa.float32())), r"has no vectors"),
        (["a", "b", "a", "b"], _fixed(VECTORS, pa.float32()), r"'a', 'b' repeat; keep one row of each"),
        (["a", "", "c", None], _fixed(VECTORS, pa.float32()), r"id is empty in row 1, 3"),
        (["a", "b", "c", "é" * 129], _fixed(VECTORS, pa.float32()), r"longer than 256 bytes of UTF-8 in row 3"),
        (pa.array([b"a", b"b", b"\xff", b"d"]), _fixed(VECTORS, pa.float32()), r"not valid UTF-8 in row 2"),
        ([0.5, 1.0, 2.0, 3.0], _fixed(VECTORS, pa.float32()), r"column id is double, must be text or whole numbers"),
    ],
)
def test_a_bad_row_is_refused_by_file_row_and_limit(tmp_path: Path, ids: Any, column: Any, expected: str) -> None:
    """Each fault of a table is told with the file, the row, the id where there is one, and the limit."""
    path = write_table(tmp_path / "bad.parquet", id=ids, embedding=column)
    with pytest.raises(InvalidInput, match=expected) as refused:
        read_embeddings(path, field="users")
    assert refused.value.violations[0][0] == "users"
    assert "bad.parquet" in str(refused.value)


def test_text_that_is_not_utf8_is_refused_by_row(tmp_path: Path) -> None:
    """A text column whose bytes are no UTF-8, as a careless writer leaves it, names the row."""
    broken = pa.array([b"a", b"\xff\xfe", b"c", b"d"]).view(pa.string())
    path = write_table(tmp_path / "bad.parquet", id=broken, embedding=_fixed(VECTORS, pa.float32()))
    with pytest.raises(InvalidInput, match=r"column id is not valid UTF-8 in row 1"):
        read_embeddings(path)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (VECTORS.astype(complex), "holds complex128, must be float16, float32 or float64"),
        (VECTORS.astype(int), "holds int64"),
        (VECTORS.astype(str), "holds <U"),
        (VECTORS.reshape(-1), r"has shape \[12\], must have two axes"),
        (VECTORS.reshape(2, 2, 3), r"has shape \[2, 2, 3\]"),
        (VECTORS[:0], r"has no vectors"),
    ],
)
def test_an_array_of_the_wrong_kind_is_refused(tmp_path: Path, array: Any, expected: str) -> None:
    """Arrays that are no real floats, or not rows by dimensions, are refused with what they are."""
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(InvalidInput, match=expected):
        read_embeddings(tmp_path / "bad.npy")


@pytest.mark.parametrize("ids", ["a\nb\nc\n", "a\nb\nc\nd\ne\n"])
def test_ids_and_rows_must_be_as_many(tmp_path: Path, ids: str) -> None:
    """More rows than ids and more ids than rows are refused with both numbers."""
    np.save(tmp_path / "items.npy", VECTORS)
    (tmp_path / "ids.txt").write_text(ids)
    with pytest.raises(InvalidInput, match=rf"has 4 rows for {ids.count(chr(10))} ids"):
        read_embeddings(tmp_path / "items.npy", tmp_path / "ids.txt")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("torn.parquet", b"PAR1 no more", "torn.parquet cannot be read"),
        ("torn.arrow", b"ARROW1\0\0", "torn.arrow cannot be read"),
        ("torn.npy", b"\x93NUMPY\x01", "torn.npy cannot be read"),
        ("torn.npz", b"PK\x03\x04", "torn.npz cannot be read"),
        ("pickle.npy", b"\x80\x04N.", "pickle.npy cannot be read"),
        ("items.csv", b"id,embedding\n", "items.csv must end in one of .parquet"),
        ("items", b"", "items must end in one of .parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    """Torn files and formats nobody knows are told by name, without a traceback of the reader."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=expected):
        read_embeddings(tmp_path / name)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    """A wrong path is told as one."""
    for name in ("none.parquet", "none.npy", "none.arrow"):
        with pytest.raises(InvalidInput, match=f"{name} is not there"):
            read_embeddings(tmp_path / name)


def test_a_table_without_the_columns_is_refused_with_those_it_has(tmp_path: Path) -> None:
    """A missing `id` or `embedding` column is named beside the columns that are there."""
    path = write_table(tmp_path / "items.parquet", item=IDS, embedding=_fixed(VECTORS, pa.float32()))
    with pytest.raises(InvalidInput, match="has no column id; it has item, embedding"):
        read_embeddings(path)


def test_an_id_file_beside_an_id_column_is_refused(tmp_path: Path) -> None:
    """Two sources of ids would contradict each other sooner or later."""
    path = write_table(tmp_path / "items.parquet", id=IDS, embedding=_fixed(VECTORS, pa.float32()))
    with pytest.raises(InvalidInput, match=r"leave .*ids\.txt out"):
        read_embeddings(path, tmp_path / "ids.txt")


@given(among=st.lists(st.text(max_size=5), unique=True, max_size=20), data=st.data())
def test_an_id_is_found_at_its_row(among: list[str], data: st.DataObject) -> None:
    """Every id of a list is found at its place, any other at -1."""
    wanted = data.draw(st.lists(st.one_of(st.text(max_size=5), st.sampled_from(among or [""])), max_size=20))
    expected = [among.index(name) if name in among else -1 for name in wanted]
    assert rows_of(wanted, among).tolist() == expected
