"""Check recall live: ask a share of the answered queries again, and compare what the index found with the exact answer.

It happens after the answer, on a thread of its own that works a small part of the time. A drop below what the release
promises is said once, loudly, and can be seen in the metrics.
"""

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Protocol

import structlog

from tidings_core.exact import measure
from tidings_core.model import Query
from tidings_core.release import Release

MAX_WAITING = 8
"""Queries that may wait to be checked."""
BUSY = 0.1
"""So much of the time the thread works at most: after each query it rests."""
WINDOW = 1000
"""The newest so many queries of a pass rate are looked at together."""
ENOUGH = 100
"""With fewer nothing is concluded."""
DOUBT = 3.09
"""Standard deviations: what is said of a drop is wrong once in a thousand times."""
SELECTIVITIES = (("0.9-1", 0.9), ("0.1-0.9", 0.1), ("0.01-0.1", 0.01), ("<0.01", 0.0))
"""Names of pass rates, each from a bound on: the share of all items that pass what a query asks of all of them. Without
a filter nearly all do: all but those that may not be sold now.
"""

log = structlog.get_logger(__name__)


class Meter(Protocol):
    """Counts checks."""

    def recall_check(self, outcome: str) -> None:
        """One query was checked, dropped (too many waited), passed (there was nothing to compare) or failed."""
        ...

    def recall(self, selectivity: str, recall: float) -> None:
        """The recall of one query that was checked."""
        ...

    def recall_low(self, selectivity: str, low: bool) -> None:
        """Whether recall is below what the release promises, as far as can be told."""
        ...


@dataclass(frozen=True, slots=True)
class Answered:
    """A query that was answered from a release at `now` (Unix seconds)."""

    query: Query
    release: Release
    now: float


@dataclass(slots=True)
class _Window:
    """The newest recalls of one pass rate, their sum, and whether they were found too low."""

    recalls: deque[float] = field(default_factory=deque)
    total: float = 0.0
    low: bool = False

    def add(self, recall: float) -> None:
        self.recalls.append(recall)
        self.total += recall
        if len(self.recalls) > WINDOW:
            self.total -= self.recalls.popleft()

    @property
    def mean(self) -> float:
        return min(max(self.total / len(self.recalls), 0.0), 1.0)


class CheckRecall:
    """The monitor of recall. Windows are those of one release: they begin anew with the next."""

    def __init__(self, meter: Meter, monotonic: Callable[[], float], busy: float = BUSY) -> None:
        """Work at most the share `busy`, above 0 to 1, of the time. `monotonic` gives seconds."""
        self._meter = meter
        self._monotonic = monotonic
        self._rest = 1.0 / busy - 1.0
        self._queue: SimpleQueue[Answered | threading.Event | None] = SimpleQueue()
        self._ending = threading.Event()
        self._release_id = ""
        self._windows: dict[str, _Window] = {}
        self._thread = threading.Thread(target=self._work, name="recall", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, seconds: float) -> None:
        """End after the query that is being checked; wait so long for it."""
        self._ending.set()
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def offer(self, answered: Answered) -> None:
        """Take a query to be checked, if there is room. Never waits."""
        if self._queue.qsize() >= MAX_WAITING:
            self._meter.recall_check("dropped")
        else:
            self._queue.put(answered)

    def settle(self, seconds: float) -> bool:
        """Wait until all that was taken so far is checked; False when it takes longer."""
        done = threading.Event()
        self._queue.put(done)
        return done.wait(seconds)

    def _work(self) -> None:
        while not self._ending.is_set():
            # A query that waits keeps its release open, so nothing is held here between two turns.
            self._ending.wait(self._turn() * self._rest)
        while True:
            try:
                left = self._queue.get_nowait()
            except Empty:
                return
            if isinstance(left, threading.Event):
                left.set()

    def _turn(self) -> float:
        """Check the next query, waiting for it; the seconds it took."""
        taken = self._queue.get()
        if isinstance(taken, threading.Event):
            taken.set()
        if not isinstance(taken, Answered):
            return 0.0
        start = self._monotonic()
        try:
            self._check(taken)
        except Exception:  # The thread must live on, whatever a check does.
            self._meter.recall_check("failed")
            log.exception("recall could not be checked")
        return self._monotonic() - start

    def _check(self, answered: Answered) -> None:
        release = answered.release
        # At the depth that the release promises its recall for.
        found = measure(answered.query, release.snapshot, answered.now, release.manifest.index.recall_k)
        self._meter.recall_check("passed" if found is None else "checked")
        if found is None:
            return
        self._begin(release.manifest.release_id)
        selectivity = next(name for name, least in SELECTIVITIES if found.pass_rate >= least)
        self._meter.recall(selectivity, found.recall)
        window = self._windows.setdefault(selectivity, _Window())
        window.add(found.recall)
        if len(window.recalls) >= ENOUGH:
            self._judge(selectivity, window, release)

    def _begin(self, release_id: str) -> None:
        """Forget what was seen of another release."""
        if release_id != self._release_id:
            for selectivity in self._windows:
                self._meter.recall_low(selectivity, False)
            self._release_id, self._windows = release_id, {}

    def _judge(self, selectivity: str, window: _Window, release: Release) -> None:
        index, samples = release.manifest.index, len(window.recalls)
        low = upper_bound(window.mean, samples) < index.recall_target
        if low == window.low:
            return
        window.low = low
        self._meter.recall_low(selectivity, low)
        figures = {
            "release_id": release.manifest.release_id,
            "selectivity": selectivity,
            "recall": round(window.mean, 4),
            "at_most": round(upper_bound(window.mean, samples), 4),
            "target": index.recall_target,
            "queries": samples,
        }
        if low:
            log.warning(
                "the index finds less than the release promises: build the release again, which tunes it anew for the "
                "items and users there are now",
                **figures,
            )
        else:
            log.info("the index finds again what the release promises", **figures)


def upper_bound(mean: float, samples: int) -> float:
    """What a mean of shares may be at most, for all that `samples` of them tell: Wilson's one-sided bound.

    A query counts as one trial, however many items it asks for, since its hits and misses go together.
    """
    spread = DOUBT**2 / samples
    centre = mean + spread / 2.0
    width = DOUBT * math.sqrt(mean * (1.0 - mean) / samples + spread / (4.0 * samples))
    return (centre + width) / (1.0 + spread)
