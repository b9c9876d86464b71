"""The catalogue: what a shop shows of its items, and the attributes that sources and policy look at."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tidings.v1 import item_pb2
from tidings_core.attributes import KINDS, Attribute, Flag, Keyword, Kind, Number, Tags, Time
from tidings_core.errors import InvalidInput
from tidings_core.tables import Float32, Int64
from tidings_index_builder import columns as read
from tidings_index_builder.ids import check_ids, texts
from tidings_index_builder.progress import Progress, silent
from tidings_index_builder.table_files import read_table, require_columns

TEXTS = ("title", "description", "brand", "currency", "image", "url")
TIMES = ("publish_time", "expire_time")
KNOWN = ("id", *TEXTS, "categories", "price", "available", "stock", *TIMES, "update_time")
T = TypeVar("T")

_ATTRIBUTE = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_-]{0,63}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Row i of everything belongs to ids[i].

    `payloads` are encoded `tidings.v1.Item`; prices f32[N], NaN where there is none; times i64[N] are when the shop
    last changed the items, in Unix microseconds, 0 where that is not known. `notes` say what was left unused.
    """

    ids: list[str]
    payloads: list[bytes]
    prices: Float32
    times: Int64
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_catalogue(path: Path, attributes: Sequence[str] = (), progress: Progress = silent) -> Catalogue:
    """Read a catalogue from Parquet, Arrow or CSV.

    Its columns: `id`, then any of title, description, categories (a list from broad to narrow, or text such as
    "Home > Light"), brand, price, currency, available, stock, image, url, publish_time, expire_time (timestamps, Unix
    seconds or ISO 8601; UTC unless they say otherwise), update_time (the same: when the shop last changed the item, in
    place of the file's own time of modification), and those named in `attributes`: by name, then of the kind that
    the column's type says (text, as all of a CSV file is: keyword), or as NAME:KIND, such as "size:number". The tags of
    an attribute are a list, or text such as "wool, blue". Raises InvalidInput naming every column and row that is not
    as it must be.
    """
    kinds = _named_attributes(attributes)
    table = read_table(path, "catalogue")
    require_columns(table.schema.names, ("id", *kinds), path, "catalogue")
    if table.num_rows == 0:
        raise InvalidInput(("catalogue", f"{path} has no rows"))
    columns = _Columns(path, table)
    ids = columns.get("id", read.ids) or []
    shown = {name: columns.get(name, texts) for name in TEXTS}
    categories = columns.get("categories", read.categories)
    prices = columns.get("price", read.prices)
    available, stock = columns.get("available", read.flags), columns.get("stock", read.stock)
    times = {name: columns.get(name, read.times) for name in TIMES}
    updated = columns.get("update_time", read.times)
    extra = {name: columns.get(name, _reader(kind)) for name, kind in kinds.items()}
    if columns.violations:
        raise InvalidInput(*columns.violations)
    check_ids(ids, f"{path}: column id", "catalogue")
    further = {name: told[1] for name, told in extra.items() if told is not None}
    payloads = []
    for row, name in enumerate(ids):
        if row % 10_000 == 0:
            progress("reading the catalogue", row, len(ids))
        payloads.append(_payload(row, name, shown, categories, prices, times, further))
    narrowest = None if categories is None else [names[-1] if names else None for names in categories]
    found = {
        "category": _made(Keyword.of, narrowest),
        "categories": _made(Tags.of, categories),
        "brand": _made(Keyword.of, shown["brand"]),
        "price": _made(Number.of, prices),
        "currency": _made(Keyword.of, shown["currency"]),
        "available": _made(Flag.of, available),
        "stock": _made(Number.of, stock),
        **{name: _made(Time.of, seconds) for name, seconds in times.items()},
        **{name: None if told is None else told[0] for name, told in extra.items()},
    }
    return Catalogue(
        ids=ids,
        payloads=payloads,
        prices=Number.of(prices or [None] * len(ids)).numbers.astype(np.float32),
        times=_times(updated, path, len(ids)),
        attributes={name: attribute for name, attribute in found.items() if attribute is not None},
        notes=_notes(table.schema.names, tuple(kinds)),
    )


def _times(updated: list[int | None] | None, path: Path, count: int) -> Int64:
    """When items were changed, i64[N] Unix microseconds: as their column says, else when the file was."""
    written = path.stat().st_mtime_ns // 1000
    if updated is None:
        return np.full(count, written, np.int64)
    return np.array([written if time is None else time * 1_000_000 for time in updated], np.int64)


def _named_attributes(given: Sequence[str]) -> dict[str, Kind | None]:
    """The kind of each attribute of NAME or NAME:KIND, None where the column's type says it. Raises InvalidInput."""
    violations = []
    kinds: dict[str, Kind | None] = {}
    for one in given:
        name, colon, kind = one.partition(":")
        if name in KNOWN or name == "category":
            violations.append(("attribute", f"{name} is a column of every catalogue and needs no --attribute"))
        elif not _ATTRIBUTE.match(name):
            violations.append(("attribute", f"{name!r} must be 1 to 64 letters, digits, '_' or '-'"))
        elif name in kinds:
            violations.append(("attribute", f"{name} is named more than once"))
        elif colon and kind not in KINDS:
            violations.append(("attribute", f"{one!r} must be NAME or NAME:KIND, of a kind of {', '.join(KINDS)}"))
        kinds[name] = next((known for known in KINDS if known == kind), None)
    if violations:
        raise InvalidInput(*dict.fromkeys(violations))
    return kinds


def _reader(kind: Kind | None) -> Callable[[Any, str, str], tuple[Attribute, list[str]]]:
    return lambda column, where, field: read.attribute(column, kind, where, field)


def _made(make: Callable[[list[T]], Attribute], values: list[T] | None) -> Attribute | None:
    return None if values is None else make(values)


def _notes(names: Sequence[str], attributes: Sequence[str]) -> tuple[str, ...]:
    left = [name for name in names if name not in KNOWN and name not in attributes]
    return (f"columns left out: {', '.join(left)} (name the ones to keep with --attribute)",) if left else ()


def _payload(
    row: int,
    name: str,
    shown: Mapping[str, list[str | None] | None],
    categories: list[list[str]] | None,
    prices: list[float | None] | None,
    times: Mapping[str, list[int | None] | None],
    further: Mapping[str, list[str]],
) -> bytes:
    item = item_pb2.Item(item_id=name)
    for column, values in shown.items():
        if values is not None and values[row]:
            setattr(item, "image_url" if column == "image" else column, values[row])
    if categories is not None:
        item.categories.extend(categories[row])
    if prices is not None and (price := prices[row]) is not None:
        item.price = price
    for column, moments in times.items():
        if moments is not None and moments[row] is not None:
            getattr(item, column).seconds = moments[row]
    for column, words in further.items():
        if words[row]:
            item.attributes[column] = words[row]
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
