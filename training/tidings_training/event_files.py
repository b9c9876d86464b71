"""Reading events from files, whatever the columns are called."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from tidings_core.errors import InvalidInput
from tidings_core.events import EVENT_TYPES
from tidings_core.model import MAX_ID_BYTES
from tidings_core.tables import Bool, Int32
from tidings_index_builder.ids import SHOWN, named, texts
from tidings_index_builder.table_files import ARROW, PARQUET, read_table, readable
from tidings_training.events import PURCHASE, Events
from tidings_training.log import Log

REQUIRED = ("user_id", "item_id", "timestamp")
OPTIONAL = ("event_type", "value", "session")
COLUMNS = REQUIRED + OPTIONAL
TEXT = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t", ".data": "\t"}
"""Endings of text files, and the separator each has unless told otherwise. `.gz` may follow."""
MILLISECONDS_FROM = 1e11
"""A timestamp as a number is in seconds below this (the year 5138), in milliseconds from here."""
DATE_NUMBERS = (19_000_101, 21_001_231)
"""Such a number is a date like 20111109, and not a second of the year 1970."""
EARLIEST, LATEST = -62_135_596_800.0, 253_402_300_799.0
"""Unix seconds of the first second of the year 1 and the last of the year 9999."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text file is laid out, and under which names the columns stand in any file.

    `columns` maps our name to the file's. Without a header the file's names are column numbers from 1, and user_id,
    item_id, timestamp are columns 1, 2, 3 unless told otherwise. `separator` None: by the file's ending.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None
    header: bool = True


def read_log(path: Path, layout: Layout | None = None, until: float | None = None) -> Log:
    """Read events from Parquet, Arrow, CSV or TSV; those after `until` (Unix seconds) are ignored.

    A directory that `tidings-server export events` wrote is read as it is.

    Columns: user_id, item_id (text or whole numbers), timestamp (a timestamp or date, ISO 8601 text, or Unix seconds
    or milliseconds; UTC where no zone is given), event_type (default purchase), value and session (text or whole
    numbers, empty for none). Raises InvalidInput naming the file, the column and the first offending rows.
    """
    table = _read(path, layout or Layout())
    if len(table) == 0:
        raise InvalidInput(("events", f"{path} holds no events"))
    problems: list[tuple[str, str]] = []
    users = _ids(table, "user_id", path, problems)
    items = _ids(table, "item_id", path, problems)
    times = _times(table["timestamp"], path, problems)
    values = _values(table, path, problems)
    kinds = _kinds(table, path, problems)
    sessions = _sessions(table, path)
    if problems:
        raise InvalidInput(*problems)
    kept = np.ones(len(table), np.bool_) if until is None else times <= until
    if not kept.any():
        raise InvalidInput(
            ("until", f"every event of {path} is after {_shown(until or 0.0)}; the first is of {_shown(times.min())}")
        )
    numbers = np.array([EVENT_TYPES.index(kind) for kind in kinds.names], np.int8)[kinds.codes]
    # By time, and within a time by all else: the order of the file must not matter.
    order = np.lexsort((sessions, values, numbers, items.codes, users.codes, times))
    order = order[kept[order]]
    user_rows, user_codes = np.unique(users.codes[order], return_inverse=True)
    item_rows, item_codes = np.unique(items.codes[order], return_inverse=True)
    return Log(
        [users.names[row] for row in user_rows],
        [items.names[row] for row in item_rows],
        user_codes.astype(np.int32),
        item_codes.astype(np.int32),
        times[order],
        numbers[order],
        values[order],
        sessions[order],
    )


def read_events(path: Path, layout: Layout | None = None, until: float | None = None) -> Events:
    """Read what `read_log` reads, but only the events that say something good. Raises InvalidInput."""
    return liked_events(read_log(path, layout, until), path)


def liked_events(log: Log, path: Path) -> Events:
    """What of the log of a file says something good. Raises InvalidInput when there is nothing to learn from."""
    events = log.liked()
    _check_enough(events, path)
    return events


def parse_time(text: str, field_name: str) -> float:
    """Unix seconds of an ISO 8601 date or time (UTC where no zone is given) or of Unix seconds or
    milliseconds.

    Raises InvalidInput.
    """
    time = _unix_or_nan(text)
    if not EARLIEST <= time <= LATEST:
        raise InvalidInput(
            (field_name, f"{text!r} is no time; write it as 2011-11-11, 2011-11-11T08:00:00Z or Unix seconds")
        )
    return time


@dataclass(frozen=True, slots=True)
class _Coded:
    """A text column as codes i32[E] into sorted names."""

    names: list[str]
    codes: Int32

    def of(self, name: str) -> Bool:
        """Where the column says `name`: bool[E]."""
        if name not in self.names:
            return np.zeros(len(self.codes), np.bool_)
        return np.asarray(self.codes == self.names.index(name), np.bool_)


EXPORT = "export.json"
"""Says in a directory that `tidings-server export events` wrote which files are of it."""
_WITHOUT_ITEM = ("search", "view", "see_less")
"""Events that may be of no item: of a text, of a category."""


def fingerprint(path: Path) -> str:
    """The SHA-256 of a file of events or, of an export, of what says what it holds. Raises InvalidInput."""
    with readable(path, "events"), (path / EXPORT if path.is_dir() else path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_export(path: Path) -> Any:
    """The rows of an export that are of items. Raises InvalidInput."""
    with readable(path / EXPORT, "events"):
        told = json.loads((path / EXPORT).read_text())
        kind, parts = told["kind"], [path / part["file"] for part in told["parts"]]
    if kind != "events" or not parts:
        raise InvalidInput(("events", f"{path} is an export of {kind} with {len(parts)} files; events are needed"))
    with readable(path, "events"):
        columns = ["user_id", "item_id", "timestamp", "event_type", "value"]
        table = pa.concat_tables([pa.parquet.read_table(part, columns=columns) for part in parts])
    # What has no item says nothing of any: it is passed over, and no fault of the file.
    bare = pc.and_(pc.is_null(table["item_id"]), pc.is_in(table["event_type"], pa.array(_WITHOUT_ITEM)))
    return table.filter(pc.invert(bare))


def _read(path: Path, layout: Layout) -> Any:
    """The file as an Arrow table with our column names; text files give text. Raises InvalidInput."""
    if path.is_dir():
        return _read_export(path)
    unknown = sorted(set(layout.columns) - set(COLUMNS))
    if unknown:
        raise InvalidInput(("columns", f"there is no column {named(unknown)}; the columns are {', '.join(COLUMNS)}"))
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = next((s for s in reversed(suffixes) if s != ".gz"), "")
    if suffix in PARQUET + ARROW:
        table = read_table(path, "events")
    elif suffix in TEXT or layout.separator is not None:
        table = _read_text(path, layout, layout.separator or TEXT[suffix])
    else:
        endings = ", ".join((*PARQUET, *ARROW, *TEXT))
        raise InvalidInput(("events", f"{path} must end in one of {endings}, or name its separator"))
    defaults = {name: name for name in COLUMNS} if layout.header or suffix in PARQUET + ARROW else _NUMBERED
    names = {**defaults, **layout.columns}
    have = table.schema.names
    missing = [names[name] for name in (*REQUIRED, *layout.columns) if names[name] not in have]
    if missing:
        raise InvalidInput(
            (
                "events",
                f"{path} has no column {', '.join(dict.fromkeys(missing))}; it has {', '.join(have) or 'none'}. "
                f"Needed are {', '.join(REQUIRED)}; {_way_out(layout, suffix)}",
            )
        )
    return pa.table({name: table[there] for name, there in names.items() if there in have})


def _way_out(layout: Layout, suffix: str) -> str:
    """What to say when a column is not found."""
    if suffix in PARQUET + ARROW:
        return "where they are named otherwise, say --columns user_id=NAME,..."
    if layout.header:
        return "where they are named otherwise, say --columns user_id=NAME,...; where the file names none, --no-header"
    return "without a header, say where they stand: --columns user_id=NUMBER,..."


_NUMBERED = {"user_id": "1", "item_id": "2", "timestamp": "3"}


def _read_text(path: Path, layout: Layout, separator: str) -> Any:
    if len(separator) != 1:
        raise InvalidInput(("separator", f"{separator!r} must be one character; replace it in the file first"))
    # Text stays as it is written: a guessed type would turn the id "007" into 7.
    with readable(path, "events"):
        if path.stat().st_size == 0:
            raise InvalidInput(("events", f"{path} holds no events: it is empty"))
        parse = pa.csv.ParseOptions(delimiter=separator)
        read = pa.csv.ReadOptions(autogenerate_column_names=not layout.header)
        with pa.csv.open_csv(path, read_options=read, parse_options=parse) as reader:
            found = reader.schema.names
        convert = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(found, pa.string()), strings_can_be_null=True, null_values=[""]
        )
        table = pa.csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)
    repeated = sorted({name for name in found if found.count(name) > 1})
    if repeated:
        raise InvalidInput(
            ("events", f"{path} has more than one column {named(repeated)}; where the file names none, --no-header")
        )
    return table if layout.header else table.rename_columns([str(at + 1) for at in range(len(found))])


def _rows(bad: Bool, column: Any = None) -> str:
    """The first offending rows, counted from 1 without the header, with what stands there when a column is given."""
    rows = np.flatnonzero(bad).tolist()
    first = [f"{row + 1:,}" + ("" if column is None else f" ({column[row].as_py()!r})") for row in rows[:SHOWN]]
    return ("rows " if len(rows) > 1 else "row ") + named([*first, *rows[SHOWN:]])


def _ids(table: Any, name: str, path: Path, problems: list[tuple[str, str]]) -> _Coded:
    column = table[name]
    if pa.types.is_floating(column.type):
        # What pandas makes of whole numbers when one is missing.
        whole = pc.equal(pc.floor(column), column)
        if not pc.all(whole).as_py():
            problems.append(
                (name, f"{path} holds {column.type} that are no whole numbers; ids are text or whole numbers")
            )
            return _Coded([], np.empty(0, np.int32))
        column = column.cast(pa.int64())
    if not (pa.types.is_string(column.type) or pa.types.is_integer(column.type)):
        column = pa.array(texts(column, f"{path}: column {name}", name), pa.string())
    coded = _code(column)
    empty = coded.codes < 0 if "" not in coded.names else (coded.codes < 0) | coded.of("")
    long = [at for at, text in enumerate(coded.names) if len(text.encode()) > MAX_ID_BYTES]
    if empty.any():
        problems.append((name, f"{path} has no id in {_rows(empty)}; every event needs one, so leave those rows out"))
    if long:
        problems.append(
            (
                name,
                f"{path} has an id longer than {MAX_ID_BYTES} bytes in {_rows(np.isin(coded.codes, long))}; shorten it",
            )
        )
    return coded


def _code(column: Any) -> _Coded:
    """Codes into the sorted distinct texts of a column, -1 where there is none."""
    encoded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = encoded.cast(pa.string()).dictionary_encode()
    names = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names) + 1, np.int32)
    place[order] = np.arange(len(names), dtype=np.int32)
    place[-1] = -1
    codes = np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), np.int64)
    return _Coded([names[at] for at in order], place[codes])


def _times(column: Any, path: Path, problems: list[tuple[str, str]]) -> NDArray[np.float64]:
    """Unix seconds f64[E], NaN where there is none; notes what cannot be read."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        times = _micros(column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        times = _seconds(np.asarray(pc.fill_null(column.cast(pa.float64(), safe=False), np.nan).to_numpy(), np.float64))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        times = _from_text(column)
    else:
        times = np.full(len(column), np.nan)
    bad = ~((times >= EARLIEST) & (times <= LATEST))
    if bad.any():
        problems.append(
            (
                "timestamp",
                f"{path} has no time in {_rows(bad, column)}; accepted are timestamps, ISO 8601 text such as "
                "2011-11-11T08:00:00Z, and Unix seconds or milliseconds",
            )
        )
    return times


def _micros(column: Any) -> NDArray[np.float64]:
    number = column.cast(pa.int64())
    if isinstance(number, pa.ChunkedArray):
        number = number.combine_chunks()
    missing = number.is_null().to_numpy(zero_copy_only=False)
    return np.where(missing, np.nan, pc.fill_null(number, 0).to_numpy(zero_copy_only=False) / 1e6)


def _seconds(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unix seconds of numbers; NaN for what is surely a date written as a number."""
    seconds = np.where(np.abs(numbers) >= MILLISECONDS_FROM, numbers / 1000.0, numbers)
    return np.where((numbers >= DATE_NUMBERS[0]) & (numbers <= DATE_NUMBERS[1]), np.nan, seconds)


def _from_text(column: Any) -> NDArray[np.float64]:
    """Unix seconds of ISO 8601 text or of numbers written as text; NaN where it is neither."""
    try:
        return _seconds(np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy(), np.float64))
    except pa.ArrowInvalid:
        pass
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return _micros(column.cast(kind))
        except pa.ArrowInvalid:
            continue
    # Mixed or broken: slower, one by one.
    distinct = _code(column)
    seconds = np.array([*(_unix_or_nan(text) for text in distinct.names), np.nan])
    return seconds[distinct.codes]


def _unix_or_nan(text: str) -> float:
    try:
        return float(_seconds(np.array([float(text)]))[0])
    except ValueError:
        pass
    try:
        return _unix(text)
    except ValueError:
        return np.nan


def _unix(text: str) -> float:
    time = datetime.fromisoformat(text.strip())
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _shown(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _values(table: Any, path: Path, problems: list[tuple[str, str]]) -> NDArray[np.float64]:
    """Values f64[E], NaN where there is none; notes what is no finite number."""
    if "value" not in table.schema.names:
        return np.full(len(table), np.nan)
    column = table["value"]
    missing = np.asarray(column.is_null().to_numpy(), np.bool_)
    try:
        numbers = np.asarray(pc.fill_null(column.cast(pa.float64(), safe=False), 0.0).to_numpy(), np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        numbers = np.array([_number(value) for value in column.to_pylist()])
    bad = ~missing & ~np.isfinite(numbers)
    if bad.any():
        problems.append(
            ("value", f"{path} has no finite number in {_rows(bad, column)}; leave it empty where there is none")
        )
    return np.where(missing, np.nan, numbers)


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return np.nan


def _kinds(table: Any, path: Path, problems: list[tuple[str, str]]) -> _Coded:
    """The types of the events; a missing one is a purchase. Notes types there are not."""
    if "event_type" not in table.schema.names:
        return _Coded([PURCHASE], np.zeros(len(table), np.int32))
    coded = _code(pc.fill_null(table["event_type"].cast(pa.string()), PURCHASE))
    unknown = [at for at, name in enumerate(coded.names) if name not in EVENT_TYPES]
    if unknown:
        problems.append(
            (
                "event_type",
                f"{path} has {named([repr(coded.names[at]) for at in unknown])} in "
                f"{_rows(np.isin(coded.codes, unknown))}; the types are {', '.join(EVENT_TYPES)}: rename those "
                "rows or leave them out",
            )
        )
    return coded


def _sessions(table: Any, path: Path) -> Int32:
    """Numbers of the sessions i32[E], -1 where there is none."""
    if "session" not in table.schema.names:
        return np.full(len(table), -1, np.int32)
    column = table["session"]
    if not (pa.types.is_string(column.type) or pa.types.is_integer(column.type)):
        column = pa.array(texts(column, f"{path}: column session", "session"), pa.string())
    coded = _code(column)
    return np.where(coded.of(""), np.int32(-1), coded.codes).astype(np.int32)


def _check_enough(events: Events, path: Path) -> None:
    """Raise InvalidInput when there is nothing to learn from."""
    if not events.purchases.any():
        raise InvalidInput(("events", f"{path} holds no purchase; without one there is nothing to learn or to prove"))
    for name, ids in (("user", events.user_ids), ("item", events.item_ids)):
        if len(ids) < 2:
            raise InvalidInput(
                ("events", f"{path} holds one {name} only ({ids[0]!r}); at least 2 {name}s are needed to learn from")
            )


def columns_from_text(pairs: Iterable[str]) -> dict[str, str]:
    """Column names from texts such as "user_id=customer". Raises InvalidInput."""
    columns: dict[str, str] = {}
    for pair in pairs:
        name, equals, there = pair.partition("=")
        if not (name and equals and there):
            raise InvalidInput(("columns", f"{pair!r} must be of the form user_id=NAME_IN_THE_FILE"))
        columns[name.strip()] = there.strip()
    return columns
