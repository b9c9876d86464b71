"""Which indexes compete: by the number of items, what they take per item, and what has been seen of the others.

Inverted lists (IVF) with plain codes reached every target on every data set tried, and soonest from some thousand items
on; so it is their number and their codes that are varied. A graph (HNSW) competes where it builds quickly. None
competes that takes more bytes per item than allowed.
"""

import re
from collections.abc import Sequence

EXACT = "Flat"
"""The index that finds the true nearest, and so meets any target."""
CODES = ("Flat", "SQfp16", "SQ8", "SQ6", "SQ4")
"""How a vector is kept, from the most bytes to the fewest."""
USUAL = 3
"""So many codes compete: the largest that the budget allows."""
IVF_FROM = 5_000
"""Below, reading all items takes a few microseconds."""
HNSW = "HNSW32"
HNSW_UP_TO = 20_000
"""Above, building the graph takes longer than all other candidates together."""
FACTORS = (0.8, 1.6, 3.2, 6.4)
"""Numbers of inverted lists to try, in square roots of the number of items."""
FIRST = (1, 2)
"""Of `FACTORS`, those to begin with."""
WORTH = 1.2
"""Twice the lists take four times as long to make: a search of them must cost so many times less."""
ID_BYTES = 8
"""Inverted lists keep the row of each item."""


def bytes_per_item(key: str, dim: int) -> float:
    """What an index takes for an item of so many dimensions, all but the share of its lists' representatives."""
    code = key.split(",")[-1]
    if code == HNSW:
        # 32 links of 4 bytes, twice as many on the ground level.
        return 4 * dim + 4 * 64 + 4 * 32 / 31 + 12
    size = {"Flat": 4 * dim, "SQfp16": 2 * dim, "SQ8": dim, "SQ6": (6 * dim + 7) // 8, "SQ4": (dim + 1) // 2}[code]
    return size + (ID_BYTES if key.startswith("IVF") else 0)


def list_count(items: int, factor: float) -> int:
    """So many lists for so many items."""
    return max(1, min(items, round(factor * items**0.5)))


def lists_of(key: str) -> int:
    """The number of inverted lists of an index, 0 when it has none."""
    found = re.match(r"IVF(\d+),", key)
    return int(found[1]) if found else 0


def plain_keys(items: int, dim: int, most: float) -> list[str]:
    """The indexes without lists that take at most `most` bytes per item: they read all items, or walk a graph."""
    keys = [code for code in CODES if bytes_per_item(code, dim) <= most][: USUAL - 1]
    if items <= HNSW_UP_TO and bytes_per_item(HNSW, dim) <= most:
        keys.append(HNSW)
    return keys


def list_codes(items: int, dim: int, most: float) -> list[str]:
    """The codes that compete under inverted lists, the one to compare numbers of lists with first."""
    if items < IVF_FROM:
        return []
    codes = [code for code in CODES if bytes_per_item(f"IVF1,{code}", dim) <= most][:USUAL]
    # Half precision loses nothing that matters and is read faster than single.
    return sorted(codes, key=lambda code: code != "SQfp16")


def best_factor(costs: Sequence[tuple[int, float]]) -> int:
    """The best of the factors tried, given as places in `FACTORS` with what a query costs."""
    return min(costs, key=lambda cost: (cost[1] * WORTH ** cost[0], cost[0]))[0]


def next_factor(costs: Sequence[tuple[int, float]]) -> int | None:
    """The place of the next factor to try; None when the best lies between others.

    At first `FIRST`; then outwards from the best, as long as it is the outermost.
    """
    tried = [at for at, _ in costs]
    for at in FIRST:
        if at not in tried:
            return at
    best = best_factor(costs)
    for at in (best - 1, best + 1):
        if 0 <= at < len(FACTORS) and at not in tried:
            return at
    return None
