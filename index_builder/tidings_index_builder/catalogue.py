"""The catalogue: what a shop shows of its items, and the attributes that sources and policy look at."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from tidings.v1 import item_pb2
from tidings_core.errors import InvalidInput
from tidings_core.model import Attribute
from tidings_core.tables import BytesTable, Float32
from tidings_index_builder.ids import check_ids, id_column, named, texts
from tidings_index_builder.progress import Progress, silent
from tidings_index_builder.table_files import read_table, require_columns

TEXTS = ("title", "description", "brand", "currency", "image", "url")
UNUSED = ("available", "stock")
"""Checked and then left alone: nothing that answers looks at them yet."""
KNOWN = ("id", *TEXTS, "categories", "price", *UNUSED, "publish_time", "expire_time")
SEPARATOR = " > "
T = TypeVar("T")

_ATTRIBUTE = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_-]{0,63}\Z")
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Row i of everything belongs to ids[i].

    `payloads` are encoded `tidings.v1.Item`; prices f32[N], NaN where there is none. `notes` say what was left unused.
    """

    ids: list[str]
    payloads: list[bytes]
    prices: Float32
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_catalogue(path: Path, attributes: Sequence[str] = (), progress: Progress = silent) -> Catalogue:
    """Read a catalogue from Parquet, Arrow or CSV.

    Its columns: `id`, then any of title, description, categories (a list from broad to narrow, or text such as
    "Home > Light"), brand, price, currency, available, stock, image, url, publish_time, expire_time (timestamps, Unix
    seconds or ISO 8601; UTC unless they say otherwise), and those named in `attributes`. Raises InvalidInput naming
    every column and row that is not as it must be.
    """
    _check_attributes(attributes)
    table = read_table(path, "catalogue")
    require_columns(table.schema.names, ("id", *attributes), path, "catalogue")
    if table.num_rows == 0:
        raise InvalidInput(("catalogue", f"{path} has no rows"))
    columns = _Columns(path, table)
    ids = columns.get("id", _ids) or []
    shown = {name: columns.get(name, texts) for name in TEXTS}
    categories = columns.get("categories", _categories)
    prices = columns.get("price", _prices)
    columns.get("available", _flags)
    columns.get("stock", _stock)
    times = {name: columns.get(name, _times) for name in ("publish_time", "expire_time")}
    extra = {name: columns.get(name, texts) for name in attributes}
    if columns.violations:
        raise InvalidInput(*columns.violations)
    check_ids(ids, f"{path}: column id", "catalogue")
    payloads = []
    for row, name in enumerate(ids):
        if row % 10_000 == 0:
            progress("reading the catalogue", row, len(ids))
        payloads.append(_payload(row, name, shown, categories, prices, times, extra))
    keywords = {} if categories is None else {"category": [names[-1] if names else None for names in categories]}
    keywords |= {name: found for name, found in {"brand": shown["brand"], **extra}.items() if found is not None}
    return Catalogue(
        ids=ids,
        payloads=payloads,
        prices=np.full(len(ids), np.nan, np.float32) if prices is None else np.array(prices, np.float32),
        attributes={name: _attribute(values) for name, values in keywords.items()},
        notes=_notes(table.schema.names, attributes),
    )


def _check_attributes(names: Sequence[str]) -> None:
    violations = []
    for name in names:
        if name in KNOWN or name == "category":
            violations.append(("attribute", f"{name} is a column of every catalogue and needs no --attribute"))
        elif not _ATTRIBUTE.match(name):
            violations.append(("attribute", f"{name!r} must be 1 to 64 letters, digits, '_' or '-'"))
        elif names.count(name) > 1:
            violations.append(("attribute", f"{name} is named more than once"))
    if violations:
        raise InvalidInput(*dict.fromkeys(violations))


def _notes(names: Sequence[str], attributes: Sequence[str]) -> tuple[str, ...]:
    notes = [f"column {name} was checked; nothing uses it yet" for name in UNUSED if name in names]
    left = [name for name in names if name not in KNOWN and name not in attributes]
    if left:
        notes.append(f"columns left out: {', '.join(left)} (name the ones to keep with --attribute)")
    return tuple(notes)


def _attribute(values: Sequence[str | None]) -> Attribute:
    """Number the distinct values in alphabetical order."""
    distinct = sorted({value for value in values if value})
    codes = {value: code for code, value in enumerate(distinct)}
    return Attribute(
        np.fromiter((codes[value] if value else -1 for value in values), np.int32, len(values)),
        BytesTable.of(value.encode() for value in distinct),
    )


def _payload(
    row: int,
    name: str,
    shown: Mapping[str, list[str | None] | None],
    categories: list[list[str]] | None,
    prices: list[float] | None,
    times: Mapping[str, list[int | None] | None],
    extra: Mapping[str, list[str | None] | None],
) -> bytes:
    item = item_pb2.Item(item_id=name)
    for column, values in shown.items():
        if values is not None and values[row]:
            setattr(item, "image_url" if column == "image" else column, values[row])
    if categories is not None:
        item.categories.extend(categories[row])
    if prices is not None and not math.isnan(prices[row]):
        item.price = prices[row]
    for column, moments in times.items():
        if moments is not None and moments[row] is not None:
            getattr(item, column).seconds = moments[row]
    for column, values in extra.items():
        if values is not None and values[row]:
            item.attributes[column] = str(values[row])
    return item.SerializeToString()


class _Columns:
    """Reads columns by name and gathers what is wrong in all of them."""

    def __init__(self, path: Path, table: Any) -> None:
        self._path, self._table = path, table
        self.violations: list[tuple[str, str]] = []

    def get(self, name: str, read: Callable[[Any, str, str], T]) -> T | None:
        if name not in self._table.schema.names:
            return None
        try:
            return read(self._table.column(name), f"{self._path}: column {name}", "catalogue")
        except InvalidInput as error:
            self.violations.extend(error.violations)
            return None


def _ids(column: Any, where: str, field: str) -> list[str]:
    return id_column(column, where, field)


def _categories(column: Any, where: str, field: str) -> list[list[str]]:
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        flat = texts(column.combine_chunks().flatten(), where, field)
        ends = np.cumsum(column.combine_chunks().value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
        starts = [0, *ends[:-1].tolist()]
        paths: list[Sequence[str | None]] = [flat[start:end] for start, end in zip(starts, ends.tolist(), strict=True)]
    else:
        paths = [(text or "").split(SEPARATOR) for text in texts(column, where, field)]
    return [[part.strip() for part in path if part and part.strip()] for path in paths]


def _each(column: Any, where: str, field: str, read: Callable[[Any], Any], must: str) -> list[Any]:
    """Every value of a column through `read`, None as it is. Raises InvalidInput naming the rows it cannot read."""
    found, refused = [], []
    for row, value in enumerate(column.to_pylist()):
        try:
            found.append(None if value is None else read(value))
        except (ValueError, TypeError, OverflowError):
            refused.append(f"{row} ({value!r})")
    if refused:
        raise InvalidInput((field, f"{where}: must be {must}, but is not in row {named(refused)}"))
    return found


def _prices(column: Any, where: str, field: str) -> list[float]:
    def read(value: Any) -> float:
        price = float(value)
        # A price is kept as float32 too, where a larger one would be infinite.
        if not 0.0 <= price <= float(np.finfo(np.float32).max):
            raise ValueError
        return price

    prices = _each(column, where, field, read, "a number of 0 or more; leave it empty where there is no price")
    return [math.nan if price is None else price for price in prices]


def _stock(column: Any, where: str, field: str) -> list[float]:
    def read(value: Any) -> float:
        stock = float(value)
        if not 0.0 <= stock < math.inf:
            raise ValueError
        return stock

    return _each(column, where, field, read, "a number of 0 or more")


def _flags(column: Any, where: str, field: str) -> list[bool]:
    def read(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() not in _TRUTH:
            raise ValueError
        return _TRUTH[str(value).lower()]

    return _each(column, where, field, read, "true or false")


def _times(column: Any, where: str, field: str) -> list[int | None]:
    if pa.types.is_timestamp(column.type):
        # Nanoseconds would come as a class of pandas.
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    must = "a timestamp, whole Unix seconds or ISO 8601, in the years 1 to 9999"
    return _each(column, where, field, _seconds, must)


def _seconds(value: Any) -> int:
    if isinstance(value, str):
        value = int(value) if value.lstrip("-").isdigit() else datetime.fromisoformat(value)
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, float) and not value.is_integer() and not math.isfinite(value):
        raise ValueError
    seconds = math.floor(value)
    datetime.fromtimestamp(seconds, UTC)
    return seconds
