"""History in files: Parquet, CSV and JSON lines, read row by row in bounded memory."""

import csv
import gzip
import hashlib
import io
import json
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from tidings import errors, event_lines, model, wire

PARQUET = (".parquet", ".pq")
CSV = (".csv",)
LINES = (".jsonl", ".ndjson", ".json")
COLUMNS = (
    *("user_id", "event_time", "event_id", "type", "item_id", "quantity", "price", "category", "query", "value"),
    "push_id",
    "order_id",
)
ALSO = {"event_time": "timestamp", "type": "event_type"}
"""What `tidings-train` calls these columns."""
MILLISECONDS_FROM = 1e11
"""A time as a number is in seconds below this (the year 5138), in milliseconds from here."""
BATCH_ROWS = 8192
SAMPLE = 1 << 20
MOST_CSV_FIELD = 1 << 20


class EventFile:
    """The events of one file. Raises InvalidArgument when it cannot be read at all, also while it is read."""

    def __init__(self, path: Path, columns: Mapping[str, str], import_id: str = "") -> None:
        """`columns` maps names of ours to the file's. With `import_id`, rows without an event_id get one of it."""
        unknown = sorted(set(columns) - set(COLUMNS))
        if unknown:
            raise wire.invalid("--columns", f"names {', '.join(unknown)}; the columns are {', '.join(COLUMNS)}")
        self._path = path
        self._columns = columns
        self._import_id = import_id
        self._starts = array("Q")
        """The row of the file, from 1, at which each event begins; empty while each row is one."""
        suffixes = [suffix.lower() for suffix in path.suffixes]
        self._packed = suffixes[-1:] == [".gz"]
        self._kind = next((suffix for suffix in reversed(suffixes) if suffix != ".gz"), "")
        if self._kind not in PARQUET + CSV + LINES or (self._packed and self._kind in PARQUET):
            endings = ", ".join(PARQUET + CSV + LINES)
            raise wire.invalid("FILE", f"{path} must end in one of {endings}; text may be packed as .gz")

    def name(self) -> str:
        """A name for the import of this file, made of the file's own, its length, and parts of its content."""
        with _readable(self._path), self._path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            digest = hashlib.blake2b(str(size).encode(), digest_size=8)
            for start in (0, max(0, size - SAMPLE)):
                file.seek(start)
                digest.update(file.read(SAMPLE))
        return f"{self._path.name[:100]}-{digest.hexdigest()}"

    def place(self, row: int) -> str:
        """Where the event of a row of the import, counted from 0, stands in the file."""
        if self._kind in LINES:
            return f"line {self._starts[row] if row < len(self._starts) else row + 1}"
        # Of the rows of data, so that it is the same in Parquet and CSV.
        return f"row {self._starts[row] if row < len(self._starts) else row + 1}"

    def __iter__(self) -> Iterator["model.Event | errors.InvalidArgument"]:
        """The events, in order; an error in place of one that cannot be read."""
        self._starts = array("Q")
        with _readable(self._path):
            if self._kind in LINES:
                yield from self._from_lines()
            else:
                yield from self._from_rows(self._csv_rows() if self._kind in CSV else self._parquet_rows())

    def _from_lines(self) -> Iterator["model.Event | errors.InvalidArgument"]:
        with self._text() as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                self._starts.append(number)
                try:
                    event = event_lines.parse(line)
                except errors.InvalidArgument as error:
                    yield error
                else:
                    yield self._named(event, '"event_id"' in line and bool(json.loads(line).get("event_id")))

    def _from_rows(self, rows: Iterator[dict[str, Any]]) -> Iterator["model.Event | errors.InvalidArgument"]:
        def key(numbered: tuple[int, dict[str, Any]]) -> object:
            number, row = numbered
            return row.get("event_id") or number

        for _, numbered in groupby(enumerate(rows, start=1), key):
            group = list(numbered)
            self._starts.append(group[0][0])
            try:
                event = _event([row for _, row in group])
            except errors.InvalidArgument as error:
                yield error
            else:
                yield self._named(event, bool(group[0][1].get("event_id")))

    def _named(self, event: model.Event, named: bool) -> "model.Event | errors.InvalidArgument":
        """An event with an id: its own, or else one of the import's name and the row."""
        if named:
            return event
        if not self._import_id:
            return wire.invalid("event_id", "is missing: name the import with --import-id, and rows are numbered")
        return replace(event, event_id=f"{self._import_id}/{len(self._starts) - 1}")

    def _csv_rows(self) -> Iterator[dict[str, Any]]:
        csv.field_size_limit(MOST_CSV_FIELD)
        with self._text() as file:
            reader = csv.reader(file)
            try:
                names = self._names(next(reader, []))
                for row in reader:
                    if row:
                        # Too few fields leave some out; too many are a fault of the row.
                        found = {name: value for name, value in zip(names, row, strict=False) if name and value != ""}
                        yield {**found, "": row} if len(row) > len(names) else found
            except csv.Error as error:
                raise wire.invalid("FILE", f"{self._path} is no CSV in line {reader.line_num}: {error}") from None

    def _parquet_rows(self) -> Iterator[dict[str, Any]]:
        try:
            import pyarrow.parquet as parquet
        except ModuleNotFoundError:
            raise wire.invalid(
                "FILE", f"{self._path} is Parquet, which needs pyarrow: pip install pyarrow, or take CSV"
            ) from None
        file = parquet.ParquetFile(self._path)
        names = self._names(file.schema_arrow.names)
        wanted = {there: name for there, name in zip(file.schema_arrow.names, names, strict=True) if name}
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(wanted)):
            for row in batch.to_pylist():
                yield {wanted[there]: value for there, value in row.items() if value is not None and value != ""}

    def _names(self, found: list[str]) -> list[str]:
        """Our name of each column of the file, "" for one that says nothing to us. Raises InvalidArgument."""
        theirs = {self._columns.get(name, name): name for name in COLUMNS}
        others = {also: ours for ours, also in ALSO.items() if ours not in self._columns and ours not in found}
        theirs.update(others)
        had = {theirs[there] for there in found if there in theirs}
        missing = [self._columns.get(name, name) for name in ("user_id", "event_time") if name not in had]
        missing += [there for name, there in self._columns.items() if there not in found]
        if missing:
            raise wire.invalid(
                "FILE",
                f"{self._path} has no column {', '.join(dict.fromkeys(missing))}; it has {', '.join(found) or 'none'}. "
                "Where they are named otherwise, say --columns user_id=NAME,...",
            )
        return [theirs.get(there, "") for there in found]

    @contextmanager
    def _text(self) -> Iterator[Any]:
        # Bytes that are not UTF-8 spoil their own row only: such text cannot be sent.
        how: Any = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": "" if self._kind in CSV else None}
        with gzip.open(self._path, "rt", **how) if self._packed else self._path.open(**how) as file:
            yield file


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except errors.TidingsError:
        raise
    except EOFError:
        raise wire.invalid("FILE", f"{path} is cut off; what came before that is done") from None
    except (OSError, ValueError) as error:
        # pyarrow's errors are ValueErrors.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        text = (reason.strip() or type(error).__name__).splitlines()[0]
        raise wire.invalid("FILE", f"{path} cannot be read: {text}") from error


def _event(rows: list[dict[str, Any]]) -> model.Event:
    """The event of some rows, the same in all but their items. Raises InvalidArgument."""
    first = rows[0]
    if "" in first:
        raise wire.invalid("the row", f"has {len(first[''])} fields, more than the file has columns")
    if "user_id" not in first:
        raise wire.invalid("user_id", "is missing")
    items = [
        model.EventItem(
            str(row["item_id"]),
            quantity=_number("quantity", row.get("quantity", 1), int),
            price=None if "price" not in row else _number("price", row["price"], float),
        )
        for row in rows
        if "item_id" in row
    ]
    return model.Event(
        str(first["user_id"]),
        str(first.get("type", "purchase")),
        items,
        category=str(first.get("category", "")),
        query=str(first.get("query", "")),
        value=None if "value" not in first else _number("value", first["value"], float),
        event_time=_time(first.get("event_time")),
        push_id=str(first.get("push_id", "")),
        order_id=str(first.get("order_id", "")),
        event_id=str(first.get("event_id", "")),
    )


def _number(name: str, value: Any, kind: type[int] | type[float]) -> Any:
    try:
        number = float(value)
        if kind is float:
            return number
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise wire.invalid(name, f"{wire.shown(value)} is no {'whole ' if kind is int else ''}number")


def _time(value: Any) -> datetime:
    try:
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        try:
            number = float(value)
        except ValueError:
            time = datetime.fromisoformat(str(value).strip())
            return time if time.tzinfo else time.replace(tzinfo=UTC)
        return datetime.fromtimestamp(number / 1000 if abs(number) >= MILLISECONDS_FROM else number, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        if value is None:
            raise wire.invalid("event_time", "is missing: history says when it was") from None
        way = "write it as 2024-05-01T12:30:00Z, or as Unix seconds or milliseconds"
        raise wire.invalid("event_time", f"{wire.shown(value)} is no time: {way}") from None


def columns_of(text: str) -> dict[str, str]:
    """Names of ours to names of a file's, from a text such as "user_id=customer,item_id=sku"."""
    found: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        ours, equals, theirs = pair.partition("=")
        if not (ours.strip() and equals and theirs.strip()):
            raise wire.invalid("--columns", f"{json.dumps(pair)} is not OURS=THEIRS")
        found[ours.strip()] = theirs.strip()
    return found
