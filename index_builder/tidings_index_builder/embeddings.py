"""Embeddings from any trainer: ids and one vector each, from Parquet, Arrow or NumPy files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tidings_core.errors import InvalidInput
from tidings_core.tables import Float32
from tidings_index_builder.ids import check_ids, id_column, named
from tidings_index_builder.table_files import read_batches, readable

NUMPY = (".npy", ".npz")
ARRAY_NAMES = ("embeddings", "embedding", "arr_0")
MAX_LENGTH = 1e18
"""A longer vector would overflow float32 when it is squared."""
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Row i of `vectors` f32[N, D] belongs to ids[i]."""

    ids: list[str]
    vectors: Float32


def read_embeddings(path: Path, ids_path: Path | None = None, field: str = "items") -> Embeddings:
    """Read embeddings; `field` names them in errors.

    Parquet and Arrow files hold `id` (text or whole numbers, which become their decimal strings) and `embedding` (lists
    of float16, float32 or float64). `.npy` holds one array [N, D]; `.npz` one array, or one named `embeddings`,
    `embedding` or `arr_0`; their ids stand in the text file `ids_path`, one per line, or are the row numbers.
    Raises InvalidInput.
    """
    if path.suffix.lower() in NUMPY:
        vectors = _read_array(path, field)
        ids = [str(row) for row in range(len(vectors))] if ids_path is None else read_ids(ids_path, field)
    elif ids_path is not None:
        raise InvalidInput((field, f"{path} carries its ids in its column `id`; leave {ids_path} out"))
    else:
        ids, vectors = _read_columns(path, field)
    embeddings = Embeddings(ids, vectors)
    check_embeddings(embeddings, str(path), field)
    return embeddings


def read_ids(path: Path, field: str) -> list[str]:
    """Ids from a text file of UTF-8, one per line. Raises InvalidInput."""
    with readable(path, field):
        data = path.read_bytes()
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    return id_column(pa.array([line.removesuffix(b"\r") for line in lines], pa.large_binary()), str(path), field)


def check_embeddings(embeddings: Embeddings, where: str, field: str) -> None:
    """Raise InvalidInput unless there is at least one row, one good id per row, and every vector is finite."""
    vectors, ids = embeddings.vectors, embeddings.ids
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise InvalidInput((field, f"{where}: vectors are {vectors.dtype}{list(vectors.shape)}, must be float32[N, D]"))
    if 0 in vectors.shape:
        raise InvalidInput((field, f"{where} has no vectors: its shape is {list(vectors.shape)}"))
    if len(ids) != len(vectors):
        raise InvalidInput(
            (field, f"{where} has {len(vectors):,} rows for {len(ids):,} ids; there must be one id a row")
        )
    check_ids(ids, where, field)
    broken: list[int] = []
    for start in range(0, len(vectors), _CHUNK):
        chunk = vectors[start : start + _CHUNK]
        # One pass finds what is not finite and what would overflow.
        with np.errstate(over="ignore", invalid="ignore"):
            squared = np.einsum("nd,nd->n", chunk, chunk)
            broken.extend(int(row) for row in start + np.flatnonzero(~(squared <= MAX_LENGTH**2)))
    if broken:
        rows = named([f"{row} (id {ids[row]!r}: {_fault(vectors[row])})" for row in broken])
        raise InvalidInput((field, f"{where}: a vector must be finite and no longer than {MAX_LENGTH:g}; row {rows}"))


def _fault(vector: Float32) -> str:
    at = np.flatnonzero(~np.isfinite(vector))
    return f"{vector[at[0]]} at position {at[0]}" if len(at) else "too long"


def _read_array(path: Path, field: str) -> Float32:
    with readable(path, field):
        if path.suffix.lower() == ".npz":
            with path.open("rb") as file, np.lib.npyio.NpzFile(file) as archive:
                array = _named_array(archive, path, field)
        else:
            # Mapped, so that a large float32 file is never copied into memory as a whole.
            array = np.lib.format.open_memmap(path, mode="r")
    if array.dtype.kind != "f":
        raise InvalidInput((field, f"{path} holds {array.dtype}, must be float16, float32 or float64"))
    if array.ndim != 2:
        raise InvalidInput((field, f"{path} has shape {list(array.shape)}, must have two axes: rows and dimensions"))
    with np.errstate(over="ignore"):
        return np.asarray(array, np.float32).view(np.ndarray)


def _named_array(archive: "np.lib.npyio.NpzFile", path: Path, field: str) -> NDArray[Any]:
    names = archive.files if len(archive.files) == 1 else [name for name in ARRAY_NAMES if name in archive.files]
    if not names:
        raise InvalidInput(
            (field, f"{path} holds the arrays {archive.files}; the one to read must be named one of {ARRAY_NAMES}")
        )
    return np.asarray(archive[names[0]])


def _read_columns(path: Path, field: str) -> tuple[list[str], Float32]:
    rows, batches = read_batches(path, ("id", "embedding"), field)
    ids: list[str] = []
    vectors = np.empty((0, 0), np.float32)
    for batch in batches:
        if batch.num_rows == 0:
            continue
        values, dim = _flat(batch.column("embedding"), len(ids), path, field)
        if not ids:
            vectors = np.empty((rows, dim), np.float32)
        if dim != vectors.shape[1]:
            raise InvalidInput(
                (field, f"{path}: row {len(ids)} has {dim} dimensions, the rows before have {vectors.shape[1]}")
            )
        with np.errstate(over="ignore"):
            vectors[len(ids) : len(ids) + batch.num_rows] = values.reshape(batch.num_rows, dim)
        ids += id_column(batch.column("id"), f"{path}: column id", field)
    return ids, vectors


def _flat(column: Any, first: int, path: Path, field: str) -> tuple[NDArray[Any], int]:
    """All numbers of a batch of vectors, one after the other, and the length of each. `first` is its first row."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    kind = column.type
    fixed = pa.types.is_fixed_size_list(kind)
    lists = fixed or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not lists or not pa.types.is_floating(kind.value_type):
        raise InvalidInput((field, f"{path}: column embedding is {kind}, must be lists of float16, float32 or float64"))
    if column.null_count:
        row = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise InvalidInput((field, f"{path}: row {row} has no embedding"))
    if fixed:
        dim = int(kind.list_size)
    else:
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        dim = int(lengths[0])
        odd = np.flatnonzero(lengths != dim)
        if len(odd):
            raise InvalidInput(
                (
                    field,
                    f"{path}: row {first + odd[0]} has {lengths[odd[0]]} dimensions, the rows before have {dim}",
                )
            )
    values = column.flatten()
    if values.null_count:
        at = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        raise InvalidInput((field, f"{path}: row {first + at // dim} holds no number at position {at % dim}"))
    return values.to_numpy(zero_copy_only=False), dim
