"""Run the retrieval benchmarks, one after the other, and print or write down what they say.

Each script prints a list of flat JSON objects, the rows of a table. With --write the tables go between the markers of
docs/benchmarks.md, each under the commands that make it. --quick takes 100,000 items only, a few minutes in all.
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
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from turns import Row, kinds
from vectors import KINDS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
SIZES = {"10k": 10_000, "100k": 100_000, "1M": 1_000_000}


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: its marker, the script that measures it, and with which arguments, also in the quick form."""

    marker: str
    script: str
    runs: tuple[str, ...]
    quick: tuple[str, ...]


def _runs(sizes: Sequence[str], dims: Sequence[int], seconds: int, kinds: Sequence[str] = KINDS) -> tuple[str, ...]:
    return tuple(
        f"--items {SIZES[size]} --dim {dim} --kind {kind} --seconds {seconds}"
        for size in sizes
        for dim in dims
        for kind in kinds
    )


def _metrics(metrics: Sequence[str], seconds: int) -> tuple[str, ...]:
    return tuple(f"--items {SIZES['100k']} --metric {metric} --seconds {seconds}" for metric in metrics)


SECTIONS = (
    Section(
        "retrieval",
        "retrieval.py",
        _runs(list(SIZES), (64, 128), 8) + _metrics(("cosine", "l2"), 8),
        _runs(["100k"], (64,), 5),
    ),
    Section(
        "filters",
        "retrieval_filters.py",
        _runs(["100k"], (64,), 20) + _runs(["1M"], (64,), 20, KINDS[:1]),
        _runs(["100k"], (64,), 10),
    ),
    Section(
        "delta",
        "retrieval_delta.py",
        _runs(["100k", "1M"], (64,), 20, KINDS[:1]),
        _runs(["100k"], (64,), 10, KINDS[:1]),
    ),
)


def measure(section: Section, quick: bool) -> list[Row]:
    """The rows of all runs of a section's script. Raises SystemExit with what it said when one fails."""
    rows: list[Row] = []
    for arguments in section.quick if quick else section.runs:
        command = f"loadtest/{section.script} {arguments}"
        print(f"{time.strftime('%H:%M:%S')}  {command}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            figures = Path(folder) / "figures.json"
            words = [sys.executable, *shlex.split(command), "--json", str(figures)]
            ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
            if ran.returncode:
                raise SystemExit(f"{command} failed:\n{ran.stdout}{ran.stderr}")
            rows += json.loads(figures.read_text())
    return rows


def section_text(section: Section, rows: Sequence[Row], quick: bool) -> str:
    """What stands between a section's markers: its commands, and a table for each kind of row."""
    runs = section.quick if quick else section.runs
    commands = "\n".join(f"python loadtest/{section.script} {arguments}" for arguments in runs)
    return "\n\n".join([f"```\n{commands}\n```", *tables(rows)])


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown tables, one for all rows with the same names."""
    for names, *lines in kinds(rows):
        yield "\n".join(f"| {' | '.join(line)} |" for line in (names, ["---"] * len(names), *lines))


def put(page: str, parts: Mapping[str, str]) -> str:
    """The page with each part between its markers `<!-- NAME -->` and `<!-- end of NAME -->`. Raises KeyError."""
    for name, text in parts.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if start not in page or end not in page:
            raise KeyError(f"the page has no markers {start} and {end}")
        before, after = page.split(start)[0], page.split(end)[1]
        page = f"{before}{start}\n{text}\n{end}{after}"
    return page


def machine() -> str:
    """Where and with what the figures were measured, in a line."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    processor = found[1] if found else platform.machine()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("faiss-cpu", "numpy"))
    when = time.strftime("%Y-%m-%d", time.gmtime())
    return f"Measured on {when}: {processor}, {os.cpu_count()} cores, Python {platform.python_version()}, {libraries}."


def main() -> None:
    """Measure, and print or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100,000 items only")
    parser.add_argument("--write", action="store_true", help=f"write the tables into {PAGE.relative_to(ROOT)}")
    parser.add_argument("--only", metavar="SECTION", choices=[section.marker for section in SECTIONS])
    options = parser.parse_args()
    wanted = [section for section in SECTIONS if options.only in (None, section.marker)]
    for section in wanted:
        if not (ROOT / "loadtest" / section.script).exists():
            print(f"skipped: there is no loadtest/{section.script}", file=sys.stderr)
            continue
        text = section_text(section, measure(section, options.quick), options.quick)
        if options.write:
            # Section by section, so that a later failure costs nothing that was measured.
            PAGE.write_text(put(PAGE.read_text(), {section.marker: f"{machine()}\n\n{text}"}))
        else:
            print(f"\n{section.marker}\n\n{text}")


if __name__ == "__main__":
    main()
