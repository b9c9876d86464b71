"""Columns of whole numbers as few bytes: what a profile keeps of many items is a table of them, and mostly dull."""

import numpy as np

from tidings_core.tables import Int64

Packed = int | bytes
"""A column of n numbers: one number when all are the same, else each in as many bytes as the largest needs."""
_KINDS = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<i8"}


def pack(column: Int64) -> Packed:
    """Pack i64[n], n at least 1; the same numbers give the same bytes."""
    least, most = int(column.min()), int(column.max())
    if least == most:
        return least
    width = 8 if least < 0 else next(width for width in _KINDS if width == 8 or most < 1 << 8 * width)
    return column.astype(_KINDS[width]).tobytes()


def check(packed: Packed, count: int) -> None:
    """See that something can be unpacked as so many numbers. Raises ValueError or TypeError."""
    if not isinstance(packed, int) and len(packed) not in (width * count for width in _KINDS):
        raise ValueError(f"a column of {len(packed)} bytes, which are not {count} numbers")


def unpack(packed: Packed, count: int) -> Int64:
    """The i64[count] that was packed."""
    if isinstance(packed, int):
        return np.full(count, packed, np.int64)
    return np.frombuffer(packed, _KINDS[len(packed) // count]).astype(np.int64)
