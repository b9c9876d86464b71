"""Tables of strings and ids as plain arrays, so that they can be memory-mapped and shared between processes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]
UInt64 = NDArray[np.uint64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

UNUSED = 256
"""So many texts that are in use no more are always put up with."""

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class BytesTable:
    """N byte strings: `data[offsets[i]:offsets[i + 1]]` is row i. offsets i64[N + 1], data u8[total]."""

    offsets: Int64
    data: UInt8

    @classmethod
    def of(cls, rows: Iterable[bytes]) -> "BytesTable":
        """Pack byte strings in order."""
        parts = list(rows)
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        return cls(offsets, np.frombuffer(b"".join(parts), np.uint8))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> bytes:
        return self.data[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def views(self, rows: Sequence[int]) -> list[memoryview]:
        """The byte strings of rows, not copied."""
        at = np.asarray(rows, np.int64)
        spans = map(slice, self.offsets.take(at).tolist(), self.offsets.take(at + 1).tolist())
        return list(map(self.data.data.__getitem__, spans))

    def padded(self, rows: Int32 | Int64) -> tuple[UInt8, Int64]:
        """The byte strings of rows [n], not negative: u8[n, L] with anything after the end of each, and lengths."""
        starts, ends = self.offsets.take(rows), self.offsets.take(rows + 1)
        sizes = ends - starts
        at = starts[:, None] + np.arange(int(sizes.max(initial=0)))
        return self.data.take(at, mode="clip"), sizes

    def extended(self, rows: Iterable[bytes]) -> "BytesTable":
        """This table with more byte strings at its end."""
        more = BytesTable.of(rows)
        offsets = np.concatenate([self.offsets, more.offsets[1:] + self.offsets[-1]])
        return BytesTable(offsets, np.concatenate([self.data, more.data]))


def hash_id(name: bytes) -> int:
    """64-bit BLAKE2b of an id: fast, the same on every machine, and hard to make collide on purpose."""
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True)
class IdTable:
    """Ids and the way back from an id to its row: names, plus their 64-bit hashes sorted, with the row of each.

    hashes u64[N] ascending; rows i32[N]. A hash only narrows the search: the name itself is always compared.
    """

    names: BytesTable
    hashes: UInt64
    rows: Int32

    @classmethod
    def of(cls, ids: Sequence[str]) -> "IdTable":
        """Index distinct ids; row i is ids[i]."""
        encoded = [name.encode() for name in ids]
        hashes = np.fromiter((hash_id(name) for name in encoded), np.uint64, len(encoded))
        order = np.argsort(hashes, kind="stable")
        return cls(BytesTable.of(encoded), hashes[order], order.astype(np.int32))

    def extended(self, ids: Sequence[str]) -> "IdTable":
        """This table with more ids at its end, none of which it holds."""
        more = IdTable.of(ids)
        at = np.searchsorted(self.hashes, more.hashes)
        rows = np.insert(self.rows, at, more.rows + np.int32(len(self)))
        return IdTable(
            self.names.extended(name.encode() for name in ids), np.insert(self.hashes, at, more.hashes), rows
        )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> str:
        return self.names[row].decode()

    def encoded(self, rows: Int32) -> tuple[UInt8, Int64]:
        """The ids of rows i32[n], not negative, in UTF-8: u8[n, L] with anything after the end of each, and lengths."""
        return self.names.padded(rows)

    def find(self, name: str) -> int:
        """Row of an id, -1 when it is not in the table."""
        encoded = name.encode()
        key = np.uint64(hash_id(encoded))
        at = int(np.searchsorted(self.hashes, key))
        while at < len(self.hashes) and self.hashes[at] == key:
            row = int(self.rows[at])
            if self.names[row] == encoded:
                return row
            at += 1
        return -1

    def find_many(self, names: Sequence[str]) -> Int32:
        """Rows of ids, i32[len(names)], -1 where an id is not in the table."""
        encoded = [name.encode() for name in names]
        found = np.full(len(encoded), -1, np.int32)
        if not encoded or len(self.hashes) == 0:
            return found
        keys = np.fromiter((hash_id(name) for name in encoded), np.uint64, len(encoded))
        at = np.minimum(np.searchsorted(self.hashes, keys), len(self.hashes) - 1)
        rows = self.rows[at].tolist()
        for place in np.flatnonzero(self.hashes[at] == keys).tolist():
            row = rows[place]
            # Another name of the same hash: look at all of them.
            found[place] = row if self.names[row] == encoded[place] else self.find(names[place])
        return found


@dataclass(frozen=True, slots=True)
class LongerIds:
    """The ids of one table and, in the rows after them, those of another; read like an IdTable."""

    first: IdTable
    later: IdTable

    def __len__(self) -> int:
        return len(self.first) + len(self.later)

    def __getitem__(self, row: int) -> str:
        return self.first[row] if row < len(self.first) else self.later[row - len(self.first)]

    def encoded(self, rows: Int32) -> tuple[UInt8, Int64]:
        """The ids of rows i32[n], not negative, in UTF-8: u8[n, L] with anything after the end of each, and lengths."""
        if int(rows.max(initial=-1)) < len(self.first):
            return self.first.encoded(rows)
        names = [self[row].encode() for row in rows.tolist()]
        return BytesTable.of(names).padded(np.arange(len(names)))

    def find(self, name: str) -> int:
        """Row of an id, -1 when it is in neither table."""
        row = self.first.find(name)
        if row >= 0 or (row := self.later.find(name)) < 0:
            return row
        return row + len(self.first)

    def find_many(self, names: Sequence[str]) -> Int32:
        """Rows of ids, i32[len(names)], -1 where an id is in neither table."""
        found = self.first.find_many(names)
        missing = np.flatnonzero(found < 0)
        if len(missing):
            later = self.later.find_many([names[place] for place in missing.tolist()])
            found[missing] = np.where(later >= 0, later + np.int32(len(self.first)), np.int32(-1))
        return found


Ids = IdTable | LongerIds


def smallest_first(keys: Int32 | Int64 | Bool) -> Int64:
    """The order of each of B lists by keys [B, W] of 32 bits, ascending: places i64[B, W], equal keys in their order.

    Sorts key and place as one number, which takes a third of what `np.argsort` takes for a batch.
    """
    numbers = keys.astype(np.int64)
    numbers <<= 32
    numbers |= np.arange(keys.shape[1], dtype=np.int64)
    numbers.sort(axis=1)
    numbers &= 0xFFFFFFFF
    return numbers


def best_first(scores: Float32) -> Int64:
    """The order of each of B lists by scores f32[B, W], largest first: places i64[B, W], equal scores in their order.

    No score may be NaN.
    """
    return smallest_first(~ranked_bits(scores))


def ranked_bits(scores: Float32) -> Int32:
    """Whole numbers i32 in the order of scores f32, of any shape; equal for equal scores. No score may be NaN."""
    # The bits of floats ascend as the floats do, those of negative ones the other way round; 0 takes the minus off -0.
    bits = (scores + np.float32(0.0)).view(np.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def picked(values: NDArray[Scalar], at: Int64) -> NDArray[Scalar]:
    """For each of B lists what stands at its places: values [B, W, ...] at i64[B, K], not negative, give [B, K, ...].

    In a fraction of the time of `np.take_along_axis`.
    """
    if len(values) == 1:
        return values[0].take(at[0], axis=0)[None]
    users, width, *rest = values.shape
    flat = at + (np.arange(users) * width)[:, None]
    return values.reshape(users * width, *rest).take(flat, axis=0)


def taken(table: "Rows", rows: Any) -> Any:
    """The entries of rows, none of them negative: `table[rows]`, of an array in a third of the time."""
    return table.take(rows, axis=0) if isinstance(table, np.ndarray) else table[rows]


def taken_column(table: "Rows", rows: Any, column: int) -> Any:
    """One column of a table of two axes, of rows that are not negative: `table[rows, column]`, and faster."""
    if isinstance(table, np.ndarray) and table.flags.c_contiguous:
        return table.reshape(-1).take(rows * table.shape[1] + column)
    return table[rows, column]


def ascending(keys: Int64, largest: int) -> tuple[Int64, Int64]:
    """Keys i64[n], 0 to `largest`, in ascending order, and the place of each before, i64[n]; equal keys in order."""
    bits = max(1, (len(keys) - 1).bit_length())
    if int(largest).bit_length() + bits > 63:
        order = np.argsort(keys, kind="stable")
        return keys[order], order
    # Key and place are sorted as one number: a fraction of the time of `np.argsort`.
    packed = keys << bits
    packed |= np.arange(len(keys))
    packed.sort()
    return packed >> bits, packed & ((1 << bits) - 1)


def begins(keys: Int64) -> Bool:
    """Where another key begins among ascending keys [n]: bool[n]."""
    new = np.empty(len(keys), np.bool_)
    new[:1] = True
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    return new


def widened(values: NDArray[Scalar], width: int, none: float) -> NDArray[Scalar]:
    """Lists [B, W] in `width` columns, at least W, with `none` in the new ones."""
    if values.shape[1] == width:
        return values
    wide: NDArray[Scalar] = np.full((len(values), width), none, values.dtype)
    wide[:, : values.shape[1]] = values
    return wide


def places(rows: Int32 | Int64, wanted: Any) -> tuple[Any, Any]:
    """Where each of `wanted` (any shape) is among ascending rows [R], R > 0: places of that shape, and whether."""
    at = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
    return at, rows[at] == wanted


def mostly_unused(used: int, held: int) -> bool:
    """Whether a table of so many texts is worth making anew of those in use: then the cost is spread over many."""
    return held > 2 * used + UNUSED


def marked(rows: Int32, size: int) -> Bool:
    """Which rows are among ascending rows i32[R], R > 0: bool of `size`, or up to the last of them."""
    marks = np.zeros(max(size, int(rows[-1]) + 1), np.bool_)
    marks[rows] = True
    return marks


class Patched:
    """An array [N, ...] with other values in some rows, and with more rows; read by rows like an array.

    The base is neither changed nor copied: `values` [R, ...] stand in `rows` i32[R] (ascending, R > 0), those of the
    base in all others below N. Most rows that are read are the base's own: `marks`, which tables of the same rows
    share, tell so without a search.
    """

    def __init__(self, base: NDArray[Any], rows: Int32, values: NDArray[Any], marks: Bool | None = None) -> None:
        self.base = base
        self._rows = rows
        self._values = values
        self._marks = marked(rows, len(base)) if marks is None else marks

    def __len__(self) -> int:
        return max(len(self.base), int(self._rows[-1]) + 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its length and the rest of the base's shape."""
        return (len(self), *self.base.shape[1:])

    def __getitem__(self, index: Any) -> Any:
        """The values of rows: an integer, an array of them, or either and an index into the rest of the shape."""
        rows, *rest = index if isinstance(index, tuple) else (index,)
        patched = self._marks[rows]
        if np.ndim(rows) == 0:
            at = np.searchsorted(self._rows, rows)
            return self._values[(at, *rest)] if patched else self.base[(rows, *rest)]
        found = self.base[(np.minimum(rows, len(self.base) - 1), *rest)]
        if np.count_nonzero(patched):
            found[patched] = self._values[(np.searchsorted(self._rows, rows[patched]), *rest)]
        return found

    def touches(self, rows: Any) -> bool:
        """Whether any of rows is not the base's own."""
        return bool(np.count_nonzero(self._marks[rows]))


Rows = Any
"""An array, or a Patched one: read it as `table[rows]` or `table[rows, column]`, which both can."""
