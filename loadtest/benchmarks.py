"""Run the benchmarks, one after the other, and print or write down what they say.

Each script prints flat JSON objects, the rows of tables. With --write they are kept in docs/benchmarks.json, and
docs/benchmarks.md is made from that file alone: a table of what holds, and for each part, between its markers, a plot
(docs/img), the commands and the tables. --part takes one part and leaves the others as they are; --page makes the page
again and measures nothing. --quick takes small shops, a few minutes in all, and is not written down.
Nothing else should run meanwhile: the ratios bear it, the times do not.
"""

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bounds import verdicts
from parts import PARTS, Part
from plots import PLOTS, save
from turns import Row, kinds

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
FIGURES = PAGE.with_suffix(".json")
IMAGES = PAGE.parent / "img"
WIDE = 12
"""A table of more columns, and not so many rows, is turned, so that each row of the page is one figure."""
Kept = dict[str, dict[str, Any]]
"""What was measured, by part: `measured` (when, and on what), `commands`, and `rows`."""


def measure(part: Part, quick: bool) -> list[Row]:
    """The rows of all runs of a part. Raises SystemExit with what a script said when it fails."""
    rows: list[Row] = []
    for command in part.quick if quick else part.runs:
        print(f"{time.strftime('%H:%M:%S')}  loadtest/{command}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            figures = Path(folder) / "figures.json"
            words = [sys.executable, *shlex.split(f"loadtest/{command}"), "--json", str(figures)]
            ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
            # A script may end with another status to say that a bound of its own does not hold.
            if not figures.exists():
                raise SystemExit(f"{command} failed:\n{ran.stdout}{ran.stderr}")
            found = json.loads(figures.read_text())
            rows += map(flat, found if isinstance(found, list) else [found])
    return rows


def flat(row: Row) -> Row:
    """The figures of a row, without what a script thinks of them."""
    return {name: value for name, value in row.items() if not isinstance(value, dict | list)}


def part_text(part: Part, kept: Mapping[str, Any]) -> str:
    """What stands between a part's markers: its plots, where it was measured, its commands, and its tables."""
    plots = [name for name in (part.marker, *part.images) if (IMAGES / f"{name}.svg").exists()]
    images = [f"![{part.heading}: {name}](img/{name}.svg)" for name in plots]
    commands = "\n".join(f"python loadtest/{command}" for command in kept["commands"])
    return "\n\n".join([*images, kept["measured"], f"```\n{commands}\n```", *tables(kept["rows"])])


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown tables, one for all rows with the same names; a wide one is turned."""
    for table in kinds(rows):
        turned = len(table[0]) > WIDE > len(table)
        names, *lines = zip(*table, strict=True) if turned else table
        yield "\n".join(f"| {' | '.join(line)} |" for line in (names, ["---"] * len(names), *lines))


def bounds_text(kept: Kept) -> str:
    """The table of what holds, made from the figures."""
    found = list(
        verdicts({name: one["rows"] for name, one in kept.items()}, {part.marker: part.heading for part in PARTS})
    )
    failed = sum(verdict == "**no**" for *_, verdict in found)
    measured = sum(verdict != "not measured" for *_, verdict in found)
    lines = ["| what we hold ourselves to | bound | measured | holds |", "| --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(line)} |" for line in found]
    return "\n".join([f"{measured - failed} of {measured} bounds hold.", "", *lines])


def put(page: str, parts: Mapping[str, str]) -> str:
    """The page with each part between its markers `<!-- NAME -->` and `<!-- end of NAME -->`. Raises KeyError."""
    for name, text in parts.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if start not in page or end not in page:
            raise KeyError(f"the page has no markers {start} and {end}")
        before, after = page.split(start)[0], page.split(end)[1]
        page = f"{before}{start}\n{text}\n{end}{after}"
    return page


def write_page(kept: Kept) -> None:
    """Make the page's plots and texts from what was measured."""
    texts = {"bounds": bounds_text(kept)}
    for part in PARTS:
        if part.marker not in kept:
            continue
        figure = PLOTS[part.marker](kept[part.marker]["rows"])
        if figure is not None:
            save(figure, IMAGES / f"{part.marker}.svg")
        texts[part.marker] = part_text(part, kept[part.marker])
    PAGE.write_text(put(PAGE.read_text(), texts))


def read_kept() -> Kept:
    """What was measured so far."""
    kept: Kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    return kept


def machine() -> str:
    """Where and with what the figures were measured, in a line."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    processor = found[1] if found else platform.machine()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("faiss-cpu", "onnxruntime", "grpcio", "numpy"))
    when = time.strftime("%Y-%m-%d", time.gmtime())
    return f"Measured on {when}: {processor}, {os.cpu_count()} cores, Python {platform.python_version()}, {libraries}."


def main() -> None:
    """Measure, and print or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small shops, printed")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)} and its figures")
    parser.add_argument("--page", action="store_true", help="make the page again from the figures that are kept")
    names = [part.marker for part in PARTS]
    parser.add_argument("--part", metavar="PART", nargs="+", choices=names, help=f"some of {', '.join(names)}")
    options = parser.parse_args()
    if options.page:
        write_page(read_kept())
        return
    if options.quick and options.write:
        parser.error("--quick is not written down: its shops are not those that the bounds are for")
    for part in (part for part in PARTS if part.marker in (options.part or names)):
        commands = part.quick if options.quick else part.runs
        one = {"measured": machine(), "commands": list(commands), "rows": measure(part, options.quick)}
        if options.write:
            # Part by part, so that a later failure costs nothing that was measured.
            kept = {**read_kept(), part.marker: one}
            FIGURES.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
            write_page(kept)
        elif one["rows"]:
            print(f"\n{part.marker}\n\n{part_text(part, one)}")


if __name__ == "__main__":
    main()
