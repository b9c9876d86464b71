"""The competition for an index: who enters, who is built whole, and who wins.

Of many items only a sample is tried with every candidate. The finalists are built whole, one after the other, and lie
on disk, memory-mapped as they will be served, while they are compared: no two are in private memory at once.
"""

import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tidings_core.division import ROUNDS, Division, training_points
from tidings_core.errors import InvalidInput
from tidings_core.index import FaissIndex, build_index, divide, exact_search, open_index
from tidings_core.release import UNFINISHED
from tidings_core.tables import Float32
from tidings_index_builder.candidates import (
    CODES,
    EXACT,
    FACTORS,
    FIRST,
    HNSW,
    best_factor,
    bytes_per_item,
    list_codes,
    list_count,
    lists_of,
    next_factor,
    plain_keys,
)
from tidings_index_builder.progress import Progress, told
from tidings_index_builder.recall import Truth, true_nearest
from tidings_index_builder.trial import Bench, Search, Step, Trial, timed, try_index

SCREEN = 100_000
"""Of more items only so many are tried with every candidate."""
SCREEN_USERS = 300
FINALISTS = 2
NEAR = 1.05
"""Times that differ by less are taken for equal: the index that takes fewer bytes wins."""
HNSW_SECONDS = 3e-4
"""To build the graph, per item."""
TOO_LARGE = "takes too many bytes"


@dataclass(frozen=True, slots=True)
class Budgets:
    """What the index may cost: bytes per item of its file, and seconds of choosing and building it. None: anything.

    Exact search is always ready when the seconds are over; the bytes can make a recall target unreachable.
    """

    bytes_per_item: float | None = None
    build_seconds: float | None = None


UNLIMITED = Budgets()


@dataclass(frozen=True, slots=True)
class Entry:
    """A competitor: how it is searched, how it did, and the index itself unless it is exact search."""

    search: Search
    trial: Trial
    index: FaissIndex | None


class Race:
    """The competitors so far, and what is left to spend on more."""

    def __init__(self, budgets: Budgets, start: float, progress: Progress, scratch: Path | None) -> None:
        self.entries: list[Entry] = []
        self.screened: list[Trial] = []
        self.skipped: list[tuple[str, str]] = []
        self._most = math.inf if budgets.bytes_per_item is None else budgets.bytes_per_item
        self._seconds = math.inf if budgets.build_seconds is None else budgets.build_seconds
        self._start = start
        self._progress = progress
        self._scratch = scratch
        self._divisions: dict[int, tuple[Division, float]] = {}
        """By number of lists, with the seconds each took."""
        self._pace = 0.0
        """Seconds per distance of the last division, see `_distances`."""

    def run(self, bench: Bench) -> None:
        """Let every candidate compete, on a sample first when the items are many; then time what was built whole."""
        if len(bench.vectors) <= SCREEN:
            self._try_all(bench)
        else:
            self._try_finalists(self._screen(bench), bench)
        self._divisions.clear()
        self.time(bench)

    def time(self, bench: Bench) -> None:
        """Give every entry a time measured by turns."""
        self._progress("measuring speed, one query at a time")
        trials = timed([(entry.search, entry.trial) for entry in self.entries], bench)
        self.entries = [replace(entry, trial=trial) for entry, trial in zip(self.entries, trials, strict=True)]

    def choose(self, bench: Bench, report: Truth) -> tuple[Entry, float]:
        """The fastest entry that meets the target, on the report users too, and its recall on them.

        Raises InvalidInput when there is none.
        """
        left = [entry for entry in self.entries if entry.trial.meets]
        while left:
            fastest = min(entry.trial.microseconds for entry in left)
            near = [entry for entry in left if entry.trial.microseconds <= fastest * NEAR]
            best = min(near, key=lambda entry: (entry.trial.bytes_per_item, entry.trial.microseconds))
            recall = 1.0 if best.index is None else report.recall(best.index.search(report.queries, bench.k)[0])
            if recall >= bench.target:
                self.entries = [_with_fate(entry, best) for entry in self.entries]
                return next(entry for entry in self.entries if entry.trial.fate == "chosen"), recall
            left.remove(best)
            failed = replace(best.trial, meets=False, fate="falls short on the report users")
            self.entries[self.entries.index(best)] = replace(best, trial=failed)
        raise self._refusal(bench if len(bench.vectors) <= SCREEN else _sampled(bench))

    def _try_all(self, bench: Bench) -> None:
        """Build and set every candidate.

        Numbers of lists compete under one code by the distances they cost, which repeats; then codes under the best
        number, by time.
        """
        items, dim = bench.vectors.shape
        for key in plain_keys(items, dim, self._most):
            self._try(key, bench)
        codes = list_codes(items, dim, self._most)
        if not codes:
            return
        tried: dict[int, Entry | None] = {}
        while (at := next_factor(_costs(tried, bench))) is not None:
            tried[at] = self._try(f"IVF{list_count(items, FACTORS[at])},{codes[0]}", bench)
        best = best_factor(_costs(tried, bench))
        for code in codes[1:]:
            self._try(f"IVF{list_count(items, FACTORS[best])},{code}", bench)

    def _screen(self, bench: Bench) -> list[str]:
        """Try all candidates on a sample of the items; gives the keys of those to build whole."""
        small = _sampled(bench)
        self._try_all(small)
        self.time(small)
        trials = sorted((entry.trial for entry in self.entries), key=lambda trial: trial.microseconds)
        went_on = _finalists([trial.key for trial in trials if trial.meets])
        fates = {False: "falls short", True: "screened out"}
        self.screened = [
            replace(trial, fate="went on" if trial.key in went_on else trial.fate or fates[trial.meets])
            for trial in trials
        ]
        self.entries = []
        self._divisions.clear()
        growth = (len(bench.vectors) / SCREEN) ** 0.5
        return [re.sub(r"IVF(\d+)", lambda lists: f"IVF{round(int(lists[1]) * growth)}", key) for key in went_on]

    def _try_finalists(self, keys: list[str], bench: Bench) -> None:
        for key in keys:
            self._try(key, bench)
        if EXACT not in keys and bytes_per_item(EXACT, bench.vectors.shape[1]) <= self._most:
            self._try(EXACT, bench)

    def _try(self, key: str, bench: Bench) -> Entry | None:
        """Build a candidate, set it, and let it compete; None when there is no time for it."""
        if key == EXACT:
            self.entries.append(exact_entry(bench))
            return self.entries[-1]
        left = self._seconds - (bench.clock() - self._start)
        if (expected := self._expected(key, bench)) > left:
            reason = f"would take {expected:,.0f} s of the {left:,.0f} s left" if left > 0 else "no time was left"
            self.skipped.append((key, reason))
            return None
        self._progress(f"trying {key}")
        index, seconds = self._build(key, bench)
        index, size = self._kept(index, bench)
        index, trial = try_index(index, bench, size, seconds)
        if size > self._most:
            trial = replace(trial, meets=False, fate=TOO_LARGE)
        self.entries.append(Entry(index.search, trial, index))
        return self.entries[-1]

    def _expected(self, key: str, bench: Bench) -> float:
        """About how many seconds building an index will take, 0 when that is not yet known."""
        items, lists = len(bench.vectors), lists_of(key)
        if key == HNSW:
            return HNSW_SECONDS * items
        return 0.0 if lists in self._divisions else self._pace * _distances(items, lists)

    def _build(self, key: str, bench: Bench) -> tuple[FaissIndex, float]:
        """The index, and the seconds that building it takes when nothing is shared."""
        items, lists = len(bench.vectors), lists_of(key)
        before, divided = 0.0, None
        start = bench.clock()
        if lists in self._divisions:
            divided, before = self._divisions[lists]
        elif lists:
            divided = divide(bench.vectors, lists, bench.metric, bench.seed, told(self._progress, f"trying {key}"))
            spent = bench.clock() - start
            self._divisions[lists] = (divided, spent)
            self._pace = spent / _distances(items, lists)
        index = build_index(key, bench.vectors, bench.metric, {}, bench.seed, divided)
        return index, before + bench.clock() - start

    def _kept(self, index: FaissIndex, bench: Bench) -> tuple[FaissIndex, float]:
        """The index on disk, mapped as it will be served, its file's name gone already; and its bytes per item."""
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix=UNFINISHED) as folder:
            path = Path(folder) / "index"
            index.write(path)
            size = path.stat().st_size / len(bench.vectors)
            return open_index(path, bench.metric, index.key, {}, bench.vectors), size

    def _refusal(self, bench: Bench) -> InvalidInput:
        """Why the target cannot be met, the best that was reached, and what it would take."""
        trials = [*self.screened, *(entry.trial for entry in self.entries)]
        within = [trial for trial in trials if trial.bytes_per_item <= self._most]
        reached = "no index is that small"
        if within:
            best = max(within, key=lambda trial: trial.select_recall)
            reached = f"the best of {len(within)} tried is {best.key} with {best.select_recall:.4f}"
        told = f"{bench.target:g} is not reached within {self._most:g} bytes per item: {reached}"
        needed = self._least_that_meets(bench, {trial.key for trial in within})
        takes = f"it takes {math.ceil(needed.bytes_per_item)} bytes per item ({needed.key})"
        return InvalidInput(("recall_target", f"{told}; {takes}, or a lower target"))

    def _least_that_meets(self, bench: Bench, tried: set[str]) -> Trial:
        """The smallest index that reaches the target, of those not tried yet, whatever it takes."""
        items, dim = bench.vectors.shape
        lists = [f"IVF{list_count(items, FACTORS[FIRST[-1]])},"] if list_codes(items, dim, math.inf) else []
        keys = {f"{prefix}{code}" for prefix in ("", *lists) for code in CODES} - {EXACT} - tried
        self._most, self._seconds = math.inf, math.inf
        for key in sorted(keys, key=lambda key: bytes_per_item(key, dim)):
            entry = self._try(key, bench)
            if entry is not None and entry.trial.meets:
                return entry.trial
        return exact_entry(bench).trial


def _sampled(bench: Bench) -> Bench:
    """The bench of `SCREEN` of the items, and of fewer users.

    As numbers of lists grow with the square root of the items, so does k, for a list to hold the same part of it.
    """
    items = len(bench.vectors)
    rows = np.sort(np.random.default_rng(bench.seed).choice(items, SCREEN, replace=False))
    k = max(1, round(bench.k * (SCREEN / items) ** 0.5))
    sample = bench.vectors[rows]
    users = (bench.tune.queries[:SCREEN_USERS], bench.select.queries[:SCREEN_USERS])
    tune, select = (true_nearest(sample, queries, k, bench.metric) for queries in users)
    return replace(bench, vectors=sample, tune=tune, select=select, k=k)


def _finalists(keys: Sequence[str]) -> list[str]:
    """Of keys, fastest first, those to build whole: the first, and the next, if there is one, that shares its lists."""
    if not keys:
        return []
    first, *others = keys
    sharing = [key for key in others if lists_of(key) == lists_of(first)]
    return [first, *(sharing or others)[: FINALISTS - 1]]


def _costs(tried: Mapping[int, Entry | None], bench: Bench) -> list[tuple[int, float]]:
    """Of entries, by factor, the distances a query computes; endless for what was skipped or falls short."""
    costs = dict.fromkeys(tried, math.inf)
    for at, entry in tried.items():
        if entry is not None and entry.index is not None and entry.trial.meets:
            costs[at] = entry.index.distances(bench.tune.queries)
    return list(costs.items())


def exact_entry(bench: Bench) -> Entry:
    """Exact search over the vectors as they are: nothing is built until it wins."""

    def search(queries: Float32, k: int) -> object:
        return exact_search(bench.vectors, queries, k, bench.metric)

    size = bytes_per_item(EXACT, bench.vectors.shape[1])
    trial = Trial(EXACT, {}, len(bench.vectors), 1.0, 1.0, 0.0, size, 0.0, True, (Step({}, 1.0, 0.0),))
    return Entry(search, trial, None)


def _with_fate(entry: Entry, best: Entry) -> Entry:
    trial, won = entry.trial, best.trial
    if entry is best:
        fate = "chosen"
    elif trial.fate:
        fate = trial.fate
    elif not trial.meets:
        fate = "falls short"
    else:
        fate = "slower" if trial.microseconds > won.microseconds * NEAR else "as fast, but larger"
    return replace(entry, trial=replace(trial, fate=fate))


def _distances(items: int, lists: int) -> float:
    """How many distances dividing so many items into so many lists computes."""
    return lists * (ROUNDS * training_points(items, lists) + items)
