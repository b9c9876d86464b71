"""The controls that are in force: those of the newest file without faults, as far as the serving release knows them."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from tidings_core.controls import Control, unfit
from tidings_core.release import Release

log = structlog.get_logger(__name__)


class LiveControls:
    """Holds the controls and puts them on releases. For any thread."""

    def __init__(self, controls: Sequence[Control] = ()) -> None:
        """Start with these, in the order in which they have their way."""
        self._controls = tuple(controls)
        self._said: set[tuple[str, str]] = set()
        self._saying = threading.Lock()
        self.fit, self.unfit = 0, 0

    def dress(self, release: Release) -> Release:
        """A release that answers with the controls it has the attributes for; the others are logged and counted."""
        controls = self._controls
        fits = []
        for control in controls:
            if faults := unfit(control, release.snapshot):
                self._warn(
                    control, release.manifest.release_id, "; ".join(f"{where}: {said}" for where, said in faults)
                )
            else:
                fits.append(control)
        self.fit, self.unfit = len(fits), len(controls) - len(fits)
        if tuple(fits) == release.snapshot.controls:
            return release
        return replace(release, snapshot=replace(release.snapshot, controls=tuple(fits)))

    def take(self, controls: Sequence[Control], dress_again: Callable[[], None]) -> None:
        """Put other controls in force; `dress_again` is called to dress the serving release with them."""
        with self._saying:
            self._said.clear()
        self._controls = tuple(controls)
        dress_again()

    def _warn(self, control: Control, release_id: str, problem: str) -> None:
        """Say once for each control and release that it is out of force."""
        with self._saying:
            if (control.name, release_id) in self._said:
                return
            self._said.add((control.name, release_id))
        log.error("a control does not fit the release and is out of force", control=control.name, problem=problem)
