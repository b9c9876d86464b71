"""Fold the delta back: when it has grown, a process makes a release of it, which is then promoted like any other.

What is changed meanwhile stays in the delta of the new release: changes are numbered, and a release knows up to which
number it holds them. A crash at any point loses nothing, since the store holds every change.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tidings_core.catalogue import encode_change
from tidings_core.errors import TidingsError
from tidings_core.release import Release
from tidings_server.application.catalogue import Catalogue, room
from tidings_server.application.promote_release import PromoteRelease
from tidings_server.application.serving import Record, Serving
from tidings_server.application.store import Store

LEAST_PAUSE = 0.2
"""Seconds between two folds, whatever the settings say."""
CHANGED = 10
"""Changes of prices and stock alone count a tenth."""


class Fold(Protocol):
    """Makes a release of a release and changes, in another process."""

    def __call__(
        self,
        release: Path,
        changes: Iterable[bytes],
        epoch: str,
        through: int,
        needed: list[str],
        without: Sequence[str],
    ) -> str:
        """The id of the new release, beside the old one. `needed` are releases not to remove, `without` users.

        Raises DependencyFailed with the reason.
        """
        ...

    def stop(self) -> None:
        """End what is under way."""
        ...


@dataclass(frozen=True, slots=True)
class FoldRules:
    """When to fold: with so many items described since the release was built, 0 for what suits its size.

    Not more often than every so many seconds, and not at all unless `on`.
    """

    on: bool
    items: int
    every_seconds: float

    def due(self, release: Release, record: Record) -> bool:
        """Whether the delta of a release, which serves by this record, has grown enough.

        One that somebody went back to is left as it is: what was left may have been folded of it.
        """
        delta = release.snapshot.delta
        if not self.on or record.by_rollback or delta is None:
            return False
        most = self.items or room(release.manifest.item_count)
        return delta.size >= most or len(delta.rows) + len(delta.deleted) >= CHANGED * most


Told = Callable[[str, str, str], None]
"""Told how a fold went: done, dropped or failed; of which release; and the new release, or why there is none."""


class FoldBack:
    """Folds in a thread of its own."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        serving: Serving,
        promote: PromoteRelease,
        fold: Fold,
        rules: FoldRules,
        monotonic: Callable[[], float],
        told: Told,
        erased: Callable[[Release], Sequence[str]] = lambda _: (),
    ) -> None:
        """`monotonic` gives seconds. `erased` finds the users of a release who were erased since."""
        self._erased = erased
        self._store = store
        self._catalogue = catalogue
        self._serving = serving
        self._promote = promote
        self._fold = fold
        self._rules = rules
        self._monotonic = monotonic
        self._told = told
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="fold", daemon=True)

    def start(self) -> None:
        """Begin to look after the delta."""
        self._thread.start()
        self._wake.set()

    def changed(self) -> None:
        """Look whether the delta has grown enough, or that of a release that took over. For any thread."""
        self._wake.set()

    def close(self, seconds: float) -> None:
        """End, and end the process that folds; it is begun anew after the next start."""
        self._stopping.set()
        self._wake.set()
        self._fold.stop()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait()
            self._wake.clear()
            if not self._stopping.is_set() and self._fold_if_due():
                # What came meanwhile waits, so that folding never takes all of the machine's time.
                self._stopping.wait(max(self._rules.every_seconds, LEAST_PAUSE))
                self._wake.set()

    def _fold_if_due(self) -> bool:
        """Fold when the delta has grown enough; whether it has. Holds on to no release afterwards: they are large."""
        release = self._serving.release
        if release is None or not self._rules.due(release, self._serving.record):
            return False
        self.fold(release)
        return True

    def fold(self, release: Release) -> None:
        """Fold the delta of a release back, and promote what comes of it if that release still serves."""
        folded = release.manifest.release_id
        try:
            through, changes = self._catalogue.changes(release)
            lines = map(encode_change, changes)
            earlier = self._serving.record.earlier[-1:]
            without = self._erased(release)
            release_id = self._fold(release.path, lines, self._store.epoch, through, list(earlier), without)
            self._promote(release_id, instead_of=folded)
        except TidingsError as error:
            if not self._stopping.is_set():
                self._told("failed" if self._serving.record.serving == folded else "dropped", folded, str(error))
        except Exception as error:  # A fault of ours must not end the thread.
            self._told("failed", folded, f"{type(error).__name__}: {error}")
        else:
            self._told("done", folded, release_id)
