"""Columns of a table as values of one kind, every cell that is not as it must be told by its row."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from tidings_core.attributes import Attribute, Flag, Keyword, Kind, Number, Tags, Time
from tidings_core.errors import InvalidInput
from tidings_index_builder.ids import id_column, named, texts

PATH, LIST = " > ", ","
"""What separates the categories of a path, and the tags of a list, where they stand in one text."""
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def ids(column: Any, where: str, field: str) -> list[str]:
    """Ids; a missing one is "", which `check_ids` refuses."""
    return id_column(column, where, field)


def categories(column: Any, where: str, field: str) -> list[list[str]]:
    """Categories from broad to narrow, of lists or of text such as "Home > Light"."""
    return _lists(column, where, field, PATH)


def kind_of(column: Any) -> Kind:
    """The kind of attribute that a column's Arrow type stands for."""
    kind = column.type
    if pa.types.is_boolean(kind):
        return "flag"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time"
    return "tags" if _is_list(kind) else "keyword"


def attribute(column: Any, kind: Kind | None, where: str, field: str) -> tuple[Attribute, list[str]]:
    """A column as an attribute of a kind (None: that of its type), and how each row of it is shown, "" for nothing."""
    match kind or kind_of(column):
        case "keyword":
            words = texts(column, where, field)
            return Keyword.of(words), [word or "" for word in words]
        case "tags":
            lists = _lists(column, where, field, LIST)
            return Tags.of(lists), [", ".join(tags) for tags in lists]
        case "number":
            numbers = _each(column, where, field, _finite, "a finite number")
            return Number.of(numbers), ["" if number is None else f"{number:.15g}" for number in numbers]
        case "time":
            moments = times(column, where, field)
            return Time.of(moments), ["" if moment is None else _iso(moment) for moment in moments]
        case "flag":
            answers = flags(column, where, field)
            return Flag.of(answers), ["" if answer is None else str(answer).lower() for answer in answers]


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _lists(column: Any, where: str, field: str, separator: str) -> list[list[str]]:
    if _is_list(column.type):
        whole = column.combine_chunks()
        flat = texts(whole.flatten(), where, field)
        ends = np.cumsum(whole.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
        starts = [0, *ends[:-1].tolist()]
        lists: list[Sequence[str | None]] = [flat[start:end] for start, end in zip(starts, ends.tolist(), strict=True)]
    else:
        lists = [(text or "").split(separator) for text in texts(column, where, field)]
    return [[part.strip() for part in parts if part and part.strip()] for parts in lists]


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


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def prices(column: Any, where: str, field: str) -> list[float | None]:
    """Prices of 0 or more."""

    def read(value: Any) -> float:
        price = float(value)
        # A price is kept as float32 too, where a larger one would be infinite.
        if not 0.0 <= price <= float(np.finfo(np.float32).max):
            raise ValueError
        return price

    return _each(column, where, field, read, "a number of 0 or more; leave it empty where there is no price")


def stock(column: Any, where: str, field: str) -> list[float | None]:
    """Numbers of 0 or more."""

    def read(value: Any) -> float:
        number = float(value)
        if not 0.0 <= number < math.inf:
            raise ValueError
        return number

    return _each(column, where, field, read, "a number of 0 or more")


def flags(column: Any, where: str, field: str) -> list[bool | None]:
    """Truth in any of the ways it is written."""

    def read(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() not in _TRUTH:
            raise ValueError
        return _TRUTH[str(value).lower()]

    return _each(column, where, field, read, "true or false")


def times(column: Any, where: str, field: str) -> list[int | None]:
    """Unix seconds of timestamps, Unix seconds and ISO 8601."""
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


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
