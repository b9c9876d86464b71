"""The command `tidings import-events`."""

import argparse
import sys
import time
from pathlib import Path

from tidings import errors, show
from tidings.client import Client
from tidings.commands import say
from tidings.import_files import EventFile, columns_of
from tidings.model_import import Imported

LINE_SECONDS = 10.0
"""Where the errors do not go to a terminal, progress is a line so often."""


def import_events(connection: Client, arguments: argparse.Namespace) -> int:
    """Import a file of history, or go on with it; 1 when a row was rejected."""
    file = EventFile(Path(arguments.file), columns_of(arguments.columns), arguments.import_id)
    import_id = arguments.import_id or file.name()
    shown = _Progress()
    try:
        done = connection.import_events(import_id, file, on_progress=shown.tell, timeout=arguments.timeout)
    except (errors.TidingsError, KeyboardInterrupt):
        shown.end()
        if shown.newest is not None:
            told = f"{shown.newest.next_row:,} rows are done; run the command again to go on"
            print(f"tidings: stopped: {told}", file=sys.stderr)
        raise
    shown.end()
    for fault in done.faults:
        for one in fault.faults:
            where = file.place(fault.row)
            print(f"tidings: {where}: {show.fault(one.field, one.description)}", file=sys.stderr)
    if done.rejected > len(done.faults):
        print(f"tidings: {done.rejected - len(done.faults):,} more rows are rejected", file=sys.stderr)
    say(arguments, done, _summary)
    return 1 if done.rejected else 0


def _summary(done: Imported) -> str:
    return (
        f"{done.import_id}: {done.next_row:,} rows: {done.accepted:,} accepted, {done.duplicates:,} duplicate, "
        f"{done.rejected:,} rejected"
    )


class _Progress:
    """Tells how far an import has come: one line that changes on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self.newest: Imported | None = None
        self._first = 0
        self._began = self._told = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def tell(self, state: Imported) -> None:
        """Take in how far it has come."""
        now = time.monotonic()
        if self.newest is None:
            self._first, self._began = state.next_row, now
            if state.next_row:
                print(f"tidings: going on after {state.next_row:,} rows", file=sys.stderr)
        self.newest = state
        rows = state.next_row - self._first
        if rows and (self._terminal or now - self._told >= LINE_SECONDS):
            self._told = now
            text = f"tidings: {state.next_row:,} rows, {rows / max(now - self._began, 1e-9):,.0f}/s"
            print(
                f"\r{text}" if self._terminal else text, end="" if self._terminal else "\n", file=sys.stderr, flush=True
            )

    def end(self) -> None:
        """Leave the line that changes."""
        if self._terminal and self.newest is not None:
            print(file=sys.stderr)
