"""Sets of item rows as bits: one bit per item, however many of them are in the set."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tidings_core.tables import Bool, Float32, Int32, Int64, UInt8


@dataclass(frozen=True, slots=True)
class RowSet:
    """Some of the rows 0 to `size` - 1: row r is in it when bit r & 7 of bits[r >> 3] is set; `count` of them are.

    bits u8[(size + 7) // 8]; those past the end are 0.
    """

    bits: UInt8
    size: int
    count: int

    @classmethod
    def of_mask(cls, mask: Bool) -> "RowSet":
        """The rows where mask bool[N] is true."""
        return cls(np.packbits(mask, bitorder="little"), len(mask), int(np.count_nonzero(mask)))

    @classmethod
    def of_rows(cls, rows: Int32 | Int64, size: int) -> "RowSet":
        """Rows in any order; those below 0 are ignored, repeats count once."""
        mask = np.zeros(size, np.bool_)
        mask[rows[rows >= 0]] = True
        return cls.of_mask(mask)

    @classmethod
    def _of_bits(cls, bits: UInt8, size: int) -> "RowSet":
        return cls(bits, size, int(np.bitwise_count(bits).sum(dtype=np.int64)))

    def contains(self, rows: Int32 | Int64) -> Bool:
        """Which of rows, of any shape, are in the set; those below 0, or not below `size`, are not."""
        there = (rows >= 0) & (rows < self.size)
        safe = rows if there.all() else np.where(there, rows, 0)
        found = np.right_shift(self.bits[safe >> 3], (safe & 7).astype(np.uint8)) & np.uint8(1)
        return found.view(np.bool_) & there

    def holds(self, rows: Int64) -> Bool:
        """Which of rows i64 are in the set, quickly: all must be from 0 to `size` - 1."""
        return ((self.bits[rows >> 3] >> (rows & 7).astype(np.uint8)) & np.uint8(1)).view(np.bool_)

    def rows(self) -> Int32:
        """The rows of the set, ascending i32[count]."""
        return np.flatnonzero(self.mask()).astype(np.int32)

    def mask(self) -> Bool:
        """Which rows are in the set, bool[size]."""
        return np.unpackbits(self.bits, count=self.size, bitorder="little").view(np.bool_)

    def resized(self, size: int) -> "RowSet":
        """The rows of the set among 0 to `size` - 1."""
        if size == self.size:
            return self
        bits = np.zeros((size + 7) // 8, np.uint8)
        both = min(len(bits), len(self.bits))
        bits[:both] = self.bits[:both]
        if size & 7:
            bits[-1] &= (1 << (size & 7)) - 1
        return RowSet._of_bits(bits, size)

    def __and__(self, other: "RowSet") -> "RowSet":
        return RowSet._of_bits(self.bits & other.resized(self.size).bits, self.size)

    def __or__(self, other: "RowSet") -> "RowSet":
        return RowSet._of_bits(self.bits | other.resized(self.size).bits, self.size)

    def __sub__(self, other: "RowSet") -> "RowSet":
        return RowSet._of_bits(self.bits & ~other.resized(self.size).bits, self.size)

    def __invert__(self) -> "RowSet":
        bits = ~self.bits
        if self.size & 7:
            bits[-1] &= (1 << (self.size & 7)) - 1
        return RowSet(bits, self.size, self.size - self.count)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.bits.nbytes


@dataclass(frozen=True, slots=True)
class Copy:
    """The vectors of some rows close together, as the index keeps them, in so many bytes.

    `whole`: they lie in one piece and are all looked at; else in the lists of the index.
    """

    kept: Any
    whole: bool
    nbytes: int


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a search among some rows looks: in the nearest lists, until these have `enough` of the rows.

    `centroids` f32[P, D] are those of the lists with these `numbers` i64[P] (None: of all lists), `counts` i32[P] (f32:
    guessed) how many of the rows each has. So many lists, `width`, are likely to have enough; `told` is what FAISS is
    told when no more are. `only`: the lists have other rows too (None: they do not); `all_told` is what FAISS is told
    to find also those.
    """

    centroids: Float32
    counts: Int32 | Float32
    numbers: Int64 | None
    enough: int
    width: int
    only: RowSet | None
    told: Any
    all_told: Any

    @property
    def nbytes(self) -> int:
        """Bytes of memory of its own."""
        return 0 if self.numbers is None else self.centroids.nbytes + self.counts.nbytes + self.numbers.nbytes


@dataclass(frozen=True, slots=True)
class Passing:
    """Rows that a search may find, or that it may not, prepared by the index that is searched.

    `lists` i32[L] (f32: guessed) tells how many of them each inverted list has, and `reach` how they are searched. A
    copy may hold more than the rows: `narrowed`. `scattered` says whether what is missing is thought to be anywhere, so
    that dropping it from an answer may do, and `even` whether the rows are spread over the lists as all rows are.
    `others` is, of rows that are to be left out, what is left without them.

    With a delta, `within` is what passes in the release alone, prepared by its own index (None: everything), of which
    `lost` rows no longer do; `more` i32[M] are rows of the release that pass besides, with their vectors f32[M, D].
    `own` bool[V] tells which of the delta's vectors pass (None: all); `usual` says that besides those nothing but what
    the delta has taken out of the index does not pass.
    """

    rows: RowSet
    lists: Int32 | Float32 | None = None
    reach: Reach | None = None
    copy: Copy | None = None
    narrowed: bool = False
    scattered: bool = True
    even: bool = False
    others: "Passing | None" = None
    within: "Passing | None" = None
    lost: int = 0
    more: Int32 | None = None
    more_vectors: Float32 | None = None
    own: Bool | None = None
    usual: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of memory, with those of the copy and of `others`; `within` is kept by others too."""
        parts = (self.lists, self.reach, self.others, self.more, self.more_vectors, self.own)
        arrays = sum(part.nbytes for part in parts if part is not None)
        return self.rows.nbytes + arrays + (0 if self.copy is None else self.copy.nbytes)
