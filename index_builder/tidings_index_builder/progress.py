"""How long work tells what it is doing."""

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Told at each step: what is being done, how much of it is done, and of how much (0: not known)."""

    def __call__(self, step: str, done: int = 0, total: int = 0) -> None:
        """Take note. Must not raise."""
        ...


def silent(step: str, done: int = 0, total: int = 0) -> None:
    """Tell nobody."""


def told(progress: Progress, step: str) -> Callable[[int, int], None]:
    """What tells how much of one step is done."""
    return lambda done, total: progress(step, done, total)
