"""Timing by turns, so that a slow moment of the machine meets everything that is compared; and tables for people."""

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

Row = Mapping[str, object]
BLOCK = 16
"""Calls in a row of one competitor before it is the next one's turn."""


def by_turns(
    calls: Mapping[str, Callable[[int], object]], users: int, seconds: float, seed: int = 0
) -> dict[str, float]:
    """Median µs per call of each competitor, for about `seconds` in all.

    A call is given the row of a random user below `users`: a fixed one would stay in the cache and flatter. In each
    round every competitor is asked for the same users, and who begins changes.
    """
    rng = np.random.default_rng(seed)
    names = list(calls)
    taken: dict[str, list[float]] = {name: [] for name in names}
    end = time.perf_counter() + seconds
    turn = 0
    while turn < 3 or time.perf_counter() < end:
        rows = [int(row) for row in rng.integers(0, users, BLOCK)]
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            call = calls[name]
            start = time.perf_counter()
            for row in rows:
                call(row)
            taken[name].append((time.perf_counter() - start) / BLOCK)
        turn += 1
    return {name: statistics.median(times) * 1e6 for name, times in taken.items()}


def progress(step: str, done: int = 0, total: int = 0) -> None:
    """Say on standard error what is being done, and when; of steps that are counted only the beginning."""
    if not done or not total:
        print(f"{time.strftime('%H:%M:%S')}  {step}", file=sys.stderr)


def tell(rows: Sequence[Row], to: str | None) -> None:
    """Print rows, a table for those with the same names; or write a JSON list to a file, - for standard output."""
    if to is not None:
        text = json.dumps(list(rows)) + "\n"
        if to == "-":
            sys.stdout.write(text)
        else:
            Path(to).write_text(text)
        return
    for cells in kinds(rows):
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for line in cells:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def kinds(rows: Sequence[Row]) -> list[list[list[str]]]:
    """Tables as people read them, names first: one for all rows with the same names, in the order these came."""
    found: dict[tuple[str, ...], list[list[str]]] = {}
    for row in rows:
        table = found.setdefault(tuple(row), [[name.replace("_", " ") for name in row]])
        table.append([shown(value) for value in row.values()])
    return list(found.values())


def shown(value: object) -> str:
    """A figure as a person wants it: three digits that count, thousands with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)
