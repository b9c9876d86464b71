"""What people see: progress while it works, and what came of it."""

import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from tidings_core.release import Manifest
from tidings_index_builder.evaluate import Evaluation
from tidings_index_builder.inspection import Inspection


class ShownProgress:
    """Progress on standard error: bars on a terminal, else one line per step with the seconds since the start."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()
        self._step = ""
        self._task: TaskID | None = None
        self._bars: Bars | None = None
        if console.is_terminal:
            columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}", markup=False))
            times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
            self._bars = Bars(*columns, BarColumn(bar_width=24), *times, console=console)

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            if kind is None:
                self._finish()
            self._bars.stop()

    def __call__(self, step: str, done: int = 0, total: int = 0) -> None:
        """Show a step, and how far it is."""
        if self._bars is None:
            if step != self._step:
                self._console.print(f"{time.monotonic() - self._start:7.1f} s  {step}", markup=False, highlight=False)
        else:
            if step != self._step:
                self._finish()
                self._task = self._bars.add_task(step, total=None)
            if total and self._task is not None:
                self._bars.update(self._task, completed=done, total=total)
        self._step = step

    def _finish(self) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=1, total=1)


def manifest_facts(manifest: Manifest) -> dict[str, str]:
    """A release in a few lines."""
    index = manifest.index
    parameters = ", ".join(f"{name} {value}" for name, value in index.parameters.items())
    size = sum(info.bytes for info in manifest.files.values())
    return {
        "release": manifest.release_id,
        "built": f"{datetime.fromtimestamp(manifest.created_at, UTC):%Y-%m-%d %H:%M:%S} UTC",
        "items": f"{manifest.item_count:,}",
        "users": f"{manifest.user_count:,}",
        "vectors": f"{manifest.dim} dimensions, {manifest.metric}",
        "index": f"{index.key}{f' ({parameters})' if parameters else ''}, {index.bytes_per_item:,.0f} bytes per item",
        "recall": f"{index.recall:.4f} of the nearest {index.recall_k} (target {index.recall_target:g}, "
        f"{index.recall_queries:,} users)",
        "speed": f"{index.microseconds_per_query:,.0f} µs per query on one thread",
        "sources": ", ".join(manifest.sources),
        "ranker": "yes" if manifest.ranked else "no",
        "encoder": "yes" if manifest.encoded else "no",
        "attributes": ", ".join(f"{name} ({kind})" for name, kind in manifest.attributes.items()) or "none",
        "size": f"{size / 1e6:,.1f} MB in {len(manifest.files)} files",
    }


def print_facts(console: Console, facts: dict[str, str]) -> None:
    """Names and values in two columns."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts.items():
        table.add_row(Text(name, style="dim"), Text(value))
    console.print(table)


def print_build(console: Console, manifest: Manifest, path: str, not_offered: dict[str, str]) -> None:
    """What was built, and what it lacks."""
    facts = manifest_facts(manifest) | {"directory": path}
    catalogue: dict[str, Any] | None = manifest.lineage["build"]["catalogue"]
    if catalogue is not None:
        facts["catalogue"] = (
            f"{catalogue['rows']:,} rows; {catalogue['rows_without_embedding']:,} without an embedding, not served; "
            f"{catalogue['items_without_row']:,} items without a row, shown by id only"
        )
        facts |= {f"note {number}": note for number, note in enumerate(catalogue["notes"], 1)}
    print_facts(console, facts)
    _print_lacking(console, not_offered)


def print_inspection(console: Console, found: Inspection) -> None:
    """What is in a release, what it lacks, the size of each file, and whether it is whole."""
    if found.manifest is not None:
        print_facts(console, manifest_facts(found.manifest))
        _print_lacking(console, found.not_offered)
        files = sorted(found.manifest.files.items(), key=lambda file: -file[1].bytes)
        console.print(Text("\nfiles", style="bold"))
        print_facts(console, {name: f"{info.bytes:>14,} bytes" for name, info in files})
    verdict = f"\nbroken: {found.problem}" if found.problem else "\nwhole: the server would take it"
    console.print(Text(verdict, style="bold red" if found.problem else "bold green"))


def print_evaluation(console: Console, result: Evaluation) -> None:
    """What was measured."""
    print_facts(
        console,
        {
            "release": result.release_id,
            "queries": f"{result.queries:,}",
            f"recall@{result.k}": f"{result.recall:.4f} against {result.against}",
            "speed": f"{result.microseconds_per_query:,.0f} µs per query on one thread (median)",
        },
    )


def _print_lacking(console: Console, not_offered: dict[str, str]) -> None:
    if not_offered:
        console.print(Text("\nnot offered", style="bold"))
        print_facts(console, not_offered)
