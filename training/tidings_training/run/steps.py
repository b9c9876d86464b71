"""Steps that are done once: what a run made stays, and a run that was ended goes on after it."""

import hashlib
import json
import os
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Step:
    """One step that was done, now or before (`resumed`), and what it found.

    `seconds` is what it took when it was done; `peak_mb` the most memory that the process had held by then, in 10^6
    bytes.
    """

    name: str
    key: str
    seconds: float
    peak_mb: float
    found: dict[str, Any]
    resumed: bool = False


class Steps:
    """The steps of one run, in a folder. A step's key is made of what it depends on, the step before included."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.done: list[Step] = []

    def __call__(
        self,
        name: str,
        inputs: Mapping[str, Any],
        make: Callable[[], dict[str, Any]],
        there: Callable[[], bool] = lambda: True,
    ) -> dict[str, Any]:
        """Do a step, or take what it found before on the same inputs (which fit JSON, as what it finds).

        `there()` says whether what it made is still in its place. A step that fails, or is ended, leaves no trace.
        """
        before = self.done[-1].key if self.done else ""
        key = hashlib.sha256(json.dumps([name, before, inputs], sort_keys=True).encode()).hexdigest()
        path = self._folder / f"{name}.json"
        kept = _kept(path)
        if kept is not None and kept["key"] == key and there():
            step = Step(name, key, kept["seconds"], kept["peak_mb"], kept["found"], resumed=True)
        else:
            start = time.monotonic()
            found = make()
            step = Step(name, key, round(time.monotonic() - start, 3), peak_mb(), found)
            write_json(
                path, {"key": key, "inputs": inputs, "seconds": step.seconds, "peak_mb": step.peak_mb, "found": found}
            )
        self.done.append(step)
        return step.found

    def kept(self, name: str) -> dict[str, Any] | None:
        """What a step found when it was last done, whatever its inputs were; None when it was never."""
        kept = _kept(self._folder / f"{name}.json")
        return None if kept is None else kept["found"]


def peak_mb() -> float:
    """The most memory that this process has held so far, in 10^6 bytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON whole: under another name, flushed to disk, then renamed. Raises OSError when the disk is full."""
    fresh = path.with_name(f".{path.name}.unfinished-{os.getpid()}")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _kept(path: Path) -> dict[str, Any] | None:
    """What a step left, None when there is nothing, or nothing that can be read: then it is done again."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(kept, dict) and {"key", "seconds", "peak_mb", "found"} <= kept.keys()
    return kept if whole else None
