"""How a long command tells what it is doing."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class ShownProgress:
    """Progress on standard error: bars on a terminal, else one line per step with the seconds since the start."""

    def __init__(self) -> None:
        console = Console(stderr=True)
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
        """Show a step, and how far it is: of `total`, 0 when that is not known."""
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
