"""Tables in files: Parquet, Arrow (Feather) and CSV."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tidings_core.errors import InvalidInput

PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
CSV = (".csv",)
BATCH_ROWS = 65_536


@contextmanager
def readable(path: Path, field: str) -> Iterator[None]:
    """Turn what goes wrong while a file is read into InvalidInput with its name."""
    try:
        yield
    except FileNotFoundError:
        raise InvalidInput((field, f"{path} is not there")) from None
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, pa.ArrowException) as error:
        # Arrow's messages can run over many lines; the first one says what is wrong.
        text = str(error).strip() or type(error).__name__
        raise InvalidInput((field, f"{path} cannot be read: {text.splitlines()[0]}")) from error


def read_table(path: Path, field: str) -> Any:
    """A whole file as an Arrow table; every column of a CSV file is text, empty is missing. Raises InvalidInput."""
    suffix = path.suffix.lower()
    with readable(path, field):
        if suffix in PARQUET:
            table = pa.parquet.ParquetFile(path, memory_map=True).read()
        elif suffix in ARROW:
            table = _read_arrow(path)
        elif suffix in CSV:
            table = _read_csv(path)
        else:
            raise InvalidInput((field, f"{path} must end in one of {', '.join(PARQUET + ARROW + CSV)}"))
    _check_names(table.schema.names, path, field)
    return table


def read_batches(path: Path, columns: Sequence[str], field: str) -> tuple[int, Iterator[Any]]:
    """Rows of a Parquet or Arrow file, and its record batches with these columns only. Raises InvalidInput."""
    suffix = path.suffix.lower()
    with readable(path, field):
        if suffix in PARQUET:
            file = pa.parquet.ParquetFile(path, memory_map=True)
            names, rows = file.schema_arrow.names, file.metadata.num_rows
            batches = file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns))
        elif suffix in ARROW:
            table = _read_arrow(path)
            names, rows = table.schema.names, table.num_rows
            batches = iter(table.to_batches(max_chunksize=BATCH_ROWS))
        else:
            raise InvalidInput((field, f"{path} must end in one of {', '.join((*PARQUET, *ARROW, '.npy', '.npz'))}"))
    _check_names(names, path, field)
    require_columns(names, columns, path, field)
    return rows, _guarded(batches, path, field)


def require_columns(names: Sequence[str], columns: Sequence[str], path: Path, field: str) -> None:
    """Raise InvalidInput unless every one of `columns` is there."""
    missing = [name for name in columns if name not in names]
    if missing:
        raise InvalidInput((field, f"{path} has no column {', '.join(missing)}; it has {', '.join(names) or 'none'}"))


def _guarded(batches: Iterator[Any], path: Path, field: str) -> Iterator[Any]:
    while True:
        with readable(path, field):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _check_names(names: Sequence[str], path: Path, field: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InvalidInput((field, f"{path} has more than one column {', '.join(repeated)}"))


def _read_arrow(path: Path) -> Any:
    source = pa.memory_map(str(path))
    try:
        return pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source).read_all()


def _read_csv(path: Path) -> Any:
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    with pa.csv.open_csv(path, parse_options=parse) as reader:
        names = reader.schema.names
    # Text stays as it is written: a guessed type would turn the id "007" into 7.
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    return pa.csv.read_csv(path, parse_options=parse, convert_options=convert)
