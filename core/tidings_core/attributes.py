"""Typed attributes of items as arrays: what filters, diversity, features and affinities look at.

Row i of every attribute belongs to item i. Values of text are held once, ascending by their UTF-8 bytes, which is the
order of their characters too, and named by codes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tidings_core.tables import BytesTable, Float64, Int32, Int64, Scalar, mostly_unused

Kind = Literal["keyword", "tags", "number", "time", "flag"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Int8 = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Keyword:
    """One text per item: codes i32[N] into `values`, -1 where an item has none."""

    kind: ClassVar[Kind] = "keyword"
    codes: Int32
    values: BytesTable

    @classmethod
    def of(cls, values: Sequence[str | None]) -> "Keyword":
        """Number the distinct texts; an empty one is none."""
        table, codes = _numbered([value for value in values if value])
        found = (codes[value] if value else -1 for value in values)
        return cls(np.fromiter(found, np.int32, len(values)), table)

    def __len__(self) -> int:
        return len(self.codes)

    def at(self, row: int) -> str | None:
        """The text of an item."""
        code = int(self.codes[row])
        return None if code < 0 else self.values[code].decode()

    def take(self, rows: Int32) -> "Keyword":
        """The attribute of other items: those at rows i32[M], -1 for one that has none."""
        return Keyword(_taken(self.codes, rows, -1), self.values)


@dataclass(frozen=True, slots=True)
class Tags:
    """Any number of texts per item: item i has codes[starts[i]:starts[i + 1]], distinct, into `values`.

    starts i64[N + 1], codes i32[T].
    """

    kind: ClassVar[Kind] = "tags"
    starts: Int64
    codes: Int32
    values: BytesTable

    @classmethod
    def of(cls, values: Sequence[Sequence[str] | None]) -> "Tags":
        """Number the distinct texts; an empty one is none, a repeated one counts once."""
        kept = [[*dict.fromkeys(filter(None, texts or ()))] for texts in values]
        flat = [text for texts in kept for text in texts]
        table, codes = _numbered(flat)
        starts = np.zeros(len(kept) + 1, np.int64)
        np.cumsum([len(texts) for texts in kept], out=starts[1:])
        return cls(starts, np.fromiter((codes[text] for text in flat), np.int32, len(flat)), table)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def at(self, row: int) -> tuple[str, ...]:
        """The texts of an item."""
        codes = self.codes[self.starts[row] : self.starts[row + 1]]
        return tuple(self.values[code].decode() for code in codes.tolist())

    def take(self, rows: Int32) -> "Tags":
        """The attribute of other items: those at rows i32[M], -1 for one that has none."""
        safe = np.maximum(rows, 0)
        counts = np.where(rows >= 0, self.starts[safe + 1] - self.starts[safe] if len(self) else 0, 0)
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(counts, out=starts[1:])
        first = self.starts[safe] if len(self) else np.zeros(len(rows), np.int64)
        at = np.repeat(first - starts[:-1], counts) + np.arange(int(starts[-1]))
        return Tags(starts, self.codes[at], self.values)


@dataclass(frozen=True, slots=True)
class Number:
    """One number per item: numbers f64[N], NaN where an item has none."""

    kind: ClassVar[Kind] = "number"
    numbers: Float64

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Number":
        """Numbers as they are given."""
        return cls(_floats(values))

    def __len__(self) -> int:
        return len(self.numbers)

    def at(self, row: int) -> float | None:
        """The number of an item."""
        number = float(self.numbers[row])
        return None if np.isnan(number) else number

    def take(self, rows: Int32) -> "Number":
        """The attribute of other items: those at rows i32[M], -1 for one that has none."""
        return Number(_taken(self.numbers, rows, np.nan))


@dataclass(frozen=True, slots=True)
class Time:
    """One moment per item: seconds f64[N] Unix seconds, NaN where an item has none."""

    kind: ClassVar[Kind] = "time"
    seconds: Float64

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Time":
        """Unix seconds as they are given."""
        return cls(_floats(values))

    def __len__(self) -> int:
        return len(self.seconds)

    def at(self, row: int) -> float | None:
        """The Unix seconds of an item."""
        seconds = float(self.seconds[row])
        return None if np.isnan(seconds) else seconds

    def take(self, rows: Int32) -> "Time":
        """The attribute of other items: those at rows i32[M], -1 for one that has none."""
        return Time(_taken(self.seconds, rows, np.nan))


@dataclass(frozen=True, slots=True)
class Flag:
    """Yes or no per item: flags i8[N], 1 and 0, -1 where an item has neither."""

    kind: ClassVar[Kind] = "flag"
    flags: Int8

    @classmethod
    def of(cls, values: Sequence[bool | None]) -> "Flag":
        """Flags as they are given."""
        return cls(np.fromiter((-1 if value is None else int(value) for value in values), np.int8, len(values)))

    def __len__(self) -> int:
        return len(self.flags)

    def at(self, row: int) -> bool | None:
        """The flag of an item."""
        flag = int(self.flags[row])
        return None if flag < 0 else flag == 1

    def take(self, rows: Int32) -> "Flag":
        """The attribute of other items: those at rows i32[M], -1 for one that has none."""
        return Flag(_taken(self.flags, rows, -1))


Attribute = Keyword | Tags | Number | Time | Flag
Attributes = Mapping[str, Attribute]


def keyword(attributes: Attributes, name: str) -> Keyword | None:
    """The keyword attribute of a name, None when there is none, or one of another kind."""
    found = attributes.get(name)
    return found if isinstance(found, Keyword) else None


def attribute_of(kind: Kind, values: Sequence[Any]) -> Attribute:
    """An attribute of a kind, from one value of it per item, None for an item that has none."""
    return _CLASSES[kind].of(values)


_CLASSES: Mapping[Kind, type[Attribute]] = {one.kind: one for one in (Keyword, Tags, Number, Time, Flag)}


def code_of(values: BytesTable, text: str) -> int:
    """Code of a text in the ascending table of an attribute, -1 when it is not there."""
    wanted = text.encode()
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low if low < len(values) and values[low] == wanted else -1


def ascending(values: BytesTable) -> bool:
    """Whether the texts of a table ascend, each once."""
    texts = [values[code] for code in range(len(values))]
    return all(first < second for first, second in pairwise(texts))


def _numbered(texts: Sequence[str]) -> tuple[BytesTable, dict[str, int]]:
    distinct = sorted(set(texts))
    return BytesTable.of(text.encode() for text in distinct), {text: code for code, text in enumerate(distinct)}


def _floats(values: Sequence[float | None]) -> Float64:
    return np.fromiter((np.nan if value is None else value for value in values), np.float64, len(values))


def _taken(values: NDArray[Scalar], rows: Int32, none: float) -> NDArray[Scalar]:
    found: NDArray[Any] = np.full(len(rows), none, values.dtype)
    there = rows >= 0
    found[there] = values[rows[there]]
    return found


def blank(kind: Kind, count: int) -> Attribute:
    """An attribute of `count` items that none of them has. It takes no room, however many they are."""
    none = np.broadcast_to(np.float64(np.nan), count)
    match kind:
        case "keyword":
            return Keyword(np.broadcast_to(np.int32(-1), count), BytesTable.of([]))
        case "tags":
            return Tags(np.broadcast_to(np.int64(0), count + 1), np.empty(0, np.int32), BytesTable.of([]))
        case "number":
            return Number(none)
        case "time":
            return Time(none)
        case "flag":
            return Flag(np.broadcast_to(np.int8(-1), count))


def joined(first: Attribute, second: Attribute) -> Attribute:
    """Two attributes of one kind, one after the other. Where the second has no new text, the first's texts stand."""
    match first, second:
        case Keyword(), Keyword():
            values, old, new = _united(first.values, second.values)
            return Keyword(np.concatenate([old[first.codes], new[second.codes]]), values)
        case Tags(), Tags():
            values, old, new = _united(first.values, second.values)
            starts = np.concatenate([first.starts, second.starts[1:] + first.starts[-1]])
            return Tags(starts, np.concatenate([old[first.codes], new[second.codes]]), values)
        case Number(), Number():
            return Number(np.concatenate([first.numbers, second.numbers]))
        case Time(), Time():
            return Time(np.concatenate([first.seconds, second.seconds]))
        case Flag(), Flag():
            return Flag(np.concatenate([first.flags, second.flags]))
    raise TypeError(f"a {first.kind} and a {second.kind} cannot be joined")


def trimmed(attribute: Attribute) -> Attribute:
    """An attribute without the texts that no item has, where they are the most of its texts; else as it is."""
    if not isinstance(attribute, Keyword | Tags):
        return attribute
    used = np.unique(attribute.codes[attribute.codes >= 0])
    if not mostly_unused(len(used), len(attribute.values)):
        return attribute
    # Code -1 looks at the last place.
    codes = np.full(len(attribute.values) + 1, -1, np.int32)
    codes[used] = np.arange(len(used), dtype=np.int32)
    values = BytesTable.of(attribute.values[code] for code in used.tolist())
    return replace(attribute, codes=codes[attribute.codes], values=values)


def _united(first: BytesTable, second: BytesTable) -> tuple[BytesTable, Int32, Int32]:
    """The texts of two ascending tables in one, and its code for each code of either; the last place is for -1."""
    second_texts = [second[code] for code in range(len(second))]
    found = [code_of(first, text.decode()) for text in second_texts]
    if min(found, default=0) >= 0:
        return first, np.r_[np.arange(len(first)), -1].astype(np.int32), np.array([*found, -1], np.int32)
    first_texts = [first[code] for code in range(len(first))]
    texts = sorted({*first_texts, *second_texts})
    codes = {text: code for code, text in enumerate(texts)}
    old, new = ([codes[text] for text in part] for part in (first_texts, second_texts))
    return BytesTable.of(texts), np.array([*old, -1], np.int32), np.array([*new, -1], np.int32)
