"""Tables of strings and ids as plain arrays, so that they can be memory-mapped and shared between processes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]
UInt64 = NDArray[np.uint64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]


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

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> str:
        return self.names[row].decode()

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
