"""Watch features: those of recorded answers, beside those that the serving release's ranker learned from.

It happens where answers are recorded, after they went out, on a share of them.
"""

import math
import threading
from collections.abc import Callable, Mapping

import numpy as np
import structlog

from tidings_core.drift import BLOCKS, LOUD, Spread, count, psi
from tidings_core.model import Considered
from tidings_core.release import Release
from tidings_core.tables import Float32, Int64

ENOUGH = 200
"""Answers; with fewer nothing is said."""
WINDOW = 5000
"""Answers that are looked at together, about: when there are so many, older ones count half."""
QUIET = 0.2
"""A feature that was loud is so until it is below this: one near the bound is not told of again and again."""

log = structlog.get_logger(__name__)


class WatchFeatures:
    """Counts. Told of answers by one thread, asked by any."""

    def __init__(self, warn: Callable[[str, float], None] | None = None) -> None:
        """`warn` is told of a feature that has become loud, and its index; by default the log is."""
        self._warn = warn or _warn
        self._lock = threading.Lock()
        self._release_id = ""
        self._spreads: Mapping[str, Spread] = {}
        self._counts: dict[str, Int64] = {}
        self._answers = 0.0
        self._loud: set[str] = set()

    def observe(self, considered: Considered, release: Release) -> None:
        """Count what a ranker saw of one answer. One that no ranker made says nothing."""
        if not considered.ranked or not len(considered.rows):
            return
        item = np.asarray(release.snapshot.item_features[considered.rows], np.float32)
        with self._lock:
            if release.manifest.release_id != self._release_id:
                self._begin(release)
            if not self._spreads:
                return
            for block, values in zip(BLOCKS, (item, considered.user[None, :], considered.pair), strict=True):
                self._add(block, values)
            self._answers += 1
            if self._answers >= WINDOW:
                self._answers /= 2
                self._counts = {name: counts // 2 for name, counts in self._counts.items()}
            found = {name: self._drift(name) for name in self._spreads}
        for name, drift in found.items():
            self._note(name, drift)

    def drift(self, name: str) -> float:
        """The PSI of a feature, NaN while there is too little to say, or nothing to compare with."""
        with self._lock:
            return self._drift(name)

    def _begin(self, release: Release) -> None:
        self._release_id, self._spreads = release.manifest.release_id, release.manifest.spreads
        self._counts = {name: np.zeros(len(spread.shares), np.int64) for name, spread in self._spreads.items()}
        self._answers = 0.0
        self._loud = set()

    def _add(self, block: str, values: Float32) -> None:
        for at, feature in enumerate(BLOCKS[block]):
            name = f"{block}.{feature}"
            if name in self._spreads:
                self._counts[name] = self._counts[name] + count(self._spreads[name], values[:, at])

    def _drift(self, name: str) -> float:
        spread = self._spreads.get(name)
        if spread is None or self._answers < ENOUGH or not self._counts[name].any():
            return math.nan
        return psi(spread, self._counts[name])

    def _note(self, name: str, drift: float) -> None:
        if drift > LOUD and name not in self._loud:
            self._loud.add(name)
            self._warn(name, drift)
        elif drift < QUIET:
            self._loud.discard(name)


def _warn(name: str, drift: float) -> None:
    log.warning(
        "a feature is served otherwise than the ranker learned it: train it again, or see what has changed",
        feature=name,
        psi=round(drift, 3),
    )
