"""Reads the file of controls again whenever it changes, while the server runs."""

import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from tidings_core.controls import Control
from tidings_core.errors import InvalidInput

EVERY = 2.0
"""Seconds between two looks at the file."""

log = structlog.get_logger(__name__)


class ControlsWatcher:
    """The watcher: a thread that looks at the file now and then. With a fault in the file the old controls stay."""

    def __init__(
        self,
        path: Path | None,
        read: Callable[[Path], tuple[Control, ...]],
        take: Callable[[tuple[Control, ...]], None],
        every: float = EVERY,
    ) -> None:
        """`read` reads the file, raising InvalidInput; `take` is given what it read.

        The file as it stands is known already; None: there is none to look at.
        """
        self._path = path
        self._read = read
        self._take = take
        self._every = every
        self._seen = () if path is None else _look(path)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="controls", daemon=True)
        self.refused = False

    def start(self) -> None:
        """Start the thread, if there is a file."""
        if self._path is not None:
            self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(self._every + 10.0)

    def look(self) -> bool:
        """Take the file when it changed since the last look; whether it did."""
        there = () if self._path is None else _look(self._path)
        if self._path is None or there == self._seen:
            return False
        self._seen = there
        try:
            controls = self._read(self._path)
        except InvalidInput as error:
            self.refused = True
            log.error("the changed controls are refused; the old ones stay", file=str(self._path), problem=str(error))
        else:
            self.refused = False
            self._take(controls)
            log.info("controls taken", file=str(self._path), controls=len(controls))
        return True

    def _work(self) -> None:
        while not self._stop.wait(self._every):
            try:
                self.look()
            except Exception:  # Whatever it is, the next change may be fine.
                log.exception("the controls cannot be taken", file=str(self._path))


def _look(path: Path) -> tuple[int, ...]:
    """What tells one version of a file from another; () for one that is not there."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns
