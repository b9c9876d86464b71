"""A directory of exported rows: Parquet files in order of the log, and a manifest that says how far they go.

Each file, and the manifest after it, is written under another name, flushed to disk and renamed: an export that was cut
off goes on after the last file it finished, and a reader never sees half of one.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tidings_core.errors import InvalidInput, StorageFailed

MANIFEST = "export.json"
FORMAT = 1
PART_ROWS = 1_000_000
"""Rows of one file, about."""
GROUP_ROWS = 20_000
"""Rows held in memory at once."""
Kind = Literal["events", "decisions"]
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """One file: the entries from `first` through `last` have these rows."""

    file: str
    first: int
    last: int
    rows: int


@dataclass(frozen=True, slots=True)
class Export:
    """What an export holds: all entries of the history `epoch` through `position`, in `parts` by order.

    `left_out` counts those that are in no part, by why.
    """

    kind: Kind
    epoch: str
    position: int = 0
    parts: tuple[Part, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)
    format: int = FORMAT


class ExportDirectory:
    """Writes an export."""

    def __init__(self, path: Path, kind: Kind, epoch: str) -> None:
        """Make the directory, or go on with the export in it.

        Raises InvalidInput when it holds something else, another kind of export, or one of another history; or when
        pyarrow is not installed.
        """
        self._arrow = _arrow()
        self._path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            for left in path.glob("*.unfinished"):
                left.unlink()
            files = os.listdir(path)
        except OSError as error:
            raise InvalidInput(("out", f"{path} cannot be used: {error.strerror}")) from error
        self.export = read_export(path) if MANIFEST in files else Export(kind, epoch)
        if files and MANIFEST not in files:
            raise InvalidInput(("out", f"{path} holds files and is no export: name another directory"))
        if self.export.kind != kind:
            raise InvalidInput(("out", f"{path} is an export of {self.export.kind}: name another directory"))
        if self.export.epoch != epoch:
            raise InvalidInput(
                ("out", f"{path} is of the history {self.export.epoch}, this is {epoch}: name another directory")
            )

    def add(self, groups: Iterable[tuple[int, Rows, dict[str, int]]]) -> None:
        """Add rows: each group goes through an entry, with what was left out by why. Raises StorageFailed."""
        writer = _Writer(self._arrow, self._path, self.export)
        try:
            for through, rows, left_out in groups:
                writer.take(through, rows, left_out)
                if writer.rows >= PART_ROWS:
                    self._finish(writer)
                    writer = _Writer(self._arrow, self._path, self.export)
            self._finish(writer)
        except OSError as error:
            raise StorageFailed(f"{self._path} cannot be written: {error}") from error
        finally:
            writer.drop()

    def sweep(self, kept: Callable[[Part, Sequence[int], Sequence[str]], Sequence[bool]]) -> int:
        """Take rows out of what was written before; returns how many.

        `kept` is asked for a part, the numbers of its rows, and their users, which rows stay.
        """
        gone, parts = 0, []
        for part in self.export.parts:
            table = self._arrow.parquet.read_table(self._path / part.file)
            stay = kept(part, table["number"].to_pylist(), table["user_id"].to_pylist())
            if not all(stay):
                table = table.filter(self._arrow.array(stay))
                self._replace(part.file, table)
                gone += part.rows - len(table)
            parts.append(replace(part, rows=len(table)))
        if gone:
            self._write(replace(self.export, parts=tuple(parts)))
        return gone

    def _replace(self, name: str, table: Any) -> None:
        fresh = self._path / f"{name}.unfinished"
        try:
            self._arrow.parquet.write_table(table, fresh, compression="zstd")
            _flush(fresh)
            os.rename(fresh, self._path / name)
        except OSError as error:
            raise StorageFailed(f"{self._path / name} cannot be written: {error}") from error

    def _finish(self, writer: "_Writer") -> None:
        self._write(writer.finish())

    def _write(self, export: Export) -> None:
        fresh = self._path / f"{MANIFEST}.unfinished"
        fresh.write_text(json.dumps(asdict(export), indent=1) + "\n")
        _flush(fresh)
        os.rename(fresh, self._path / MANIFEST)
        _flush(self._path)
        self.export = export


class _Writer:
    """Writes one part, when there is a row for it."""

    def __init__(self, arrow: Any, path: Path, export: Export) -> None:
        self._arrow, self._path, self._export = arrow, path, export
        self._schema = _schema(arrow, export.kind)
        self._writer: Any = None
        self._fresh = path / "part.unfinished"
        self._through = export.position
        self._left_out = dict(export.left_out)
        self._held: list[Mapping[str, Any]] = []
        self.rows = 0

    def take(self, through: int, rows: Rows, left_out: dict[str, int]) -> None:
        self._through = through
        for why, count in left_out.items():
            self._left_out[why] = self._left_out.get(why, 0) + count
        self._held += rows
        self.rows += len(rows)
        if len(self._held) >= GROUP_ROWS:
            self._put()

    def _put(self) -> None:
        if self._writer is None:
            self._writer = self._arrow.parquet.ParquetWriter(self._fresh, self._schema, compression="zstd")
        self._writer.write_table(self._arrow.Table.from_pylist(self._held, self._schema))
        self._held = []

    def finish(self) -> Export:
        """Put the part in place; returns the export with it."""
        export = replace(self._export, position=self._through, left_out=self._left_out)
        if not self.rows:
            return export
        if self._held:
            self._put()
        self._writer.close()
        self._writer = None
        _flush(self._fresh)
        first = self._export.position + 1
        name = f"{export.kind}-{first:012d}-{self._through:012d}.parquet"
        os.rename(self._fresh, self._path / name)
        return replace(export, parts=(*export.parts, Part(name, first, self._through, self.rows)))

    def drop(self) -> None:
        """Leave nothing of a part that was not finished."""
        if self._writer is not None:
            self._writer.close()
        self._fresh.unlink(missing_ok=True)


def read_export(path: Path) -> Export:
    """What a directory says it holds. Raises InvalidInput when it is no export of this version."""
    try:
        fields = json.loads((path / MANIFEST).read_text())
        if fields["format"] != FORMAT:
            raise ValueError(f"it has format {fields['format']!r}; this version reads {FORMAT}")
        parts = tuple(Part(**part) for part in fields.pop("parts"))
        return Export(**fields, parts=parts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(("out", f"{path / MANIFEST} cannot be read: {error}")) from error


def write_table(path: Path, columns: dict[str, tuple[str, list[Any]]]) -> None:
    """Write a Parquet file whole, in place of one that is there; each column with its type, as Arrow calls it.

    Raises InvalidInput when pyarrow is not installed, StorageFailed.
    """
    arrow = _arrow()
    types = {**_types(arrow), "strings": arrow.list_(arrow.string())}
    arrays = {name: arrow.array(values, types[kind]) for name, (kind, values) in columns.items()}
    fresh = path.with_name(f"{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        arrow.parquet.write_table(arrow.table(arrays), fresh, compression="zstd")
        _flush(fresh)
        os.rename(fresh, path)
        _flush(path.parent)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be written: {error}") from error


def _arrow() -> Any:
    """pyarrow, which only an export needs."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        needed = 'an export is Parquet, which needs more than [server]: pip install "tidings[server,export]"'
        raise InvalidInput(("out", needed)) from error
    return pyarrow


def _types(arrow: Any) -> dict[str, Any]:
    return {
        "int": arrow.int64(),
        "text": arrow.string(),
        "number": arrow.float64(),
        "flag": arrow.bool_(),
        "time": arrow.timestamp("ms", "UTC"),
        "time_us": arrow.timestamp("us", "UTC"),
        "floats": arrow.list_(arrow.float32()),
    }


_COLUMNS: dict[Kind, dict[str, str]] = {
    "events": {
        "number": "int",
        **dict.fromkeys(("event_id", "user_id", "item_id"), "text"),
        "timestamp": "time",
        "event_type": "text",
        "value": "number",
        "quantity": "int",
        "price": "number",
        **dict.fromkeys(("category", "query", "push_id"), "text"),
    },
    "decisions": {
        "number": "int",
        **dict.fromkeys(("decision_id", "user_id"), "text"),
        "timestamp": "time",
        **dict.fromkeys(("cause", "state"), "text"),
        "changed": "time",
        **dict.fromkeys(("release_id", "serving_config"), "text"),
        "profile_version": "int",
        "schema": "text",
        "place": "int",
        "item_id": "text",
        "score": "number",
        **dict.fromkeys(("user_features", "item_features", "pair_features"), "floats"),
    },
}


def _schema(arrow: Any, kind: Kind) -> Any:
    types = _types(arrow)
    return arrow.schema([(name, types[type]) for name, type in _COLUMNS[kind].items()])


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
