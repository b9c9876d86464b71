"""Choosing the index by measurement: type and parameters that reach a recall target soonest on the shop's own vectors.

No rule of thumb holds for every data set: HNSW on inner products can fall short at any setting, and the more the
vectors are spread the more lists IVF must probe. So candidates are built, their parameter is raised to the smallest
value that surely reaches the target on some users, their speed is measured side by side, and the fastest wins.

Users are drawn into three sets: a setting is tuned on the first, and raised where the second says so; the winner must
keep its word on the third, and what it reaches there is reported.
"""

import math
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tidings_core.division import training_points
from tidings_core.index import FaissIndex, build_index, set_threads
from tidings_core.model import Metric
from tidings_core.tables import Float32, Int64
from tidings_index_builder.candidates import EXACT, FACTORS, bytes_per_item, list_codes, list_count
from tidings_index_builder.progress import Progress, silent, told
from tidings_index_builder.race import FINALISTS, SCREEN, UNLIMITED, Budgets, Race, exact_entry
from tidings_index_builder.recall import true_nearest
from tidings_index_builder.trial import Bench, Clock, Trial

SAMPLE = 1000
"""At most so many users in each of the three sets."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """The choice: the index, its trial, all trials, and the recall@k on the report users' vectors f32[Q, D].

    `skipped` holds keys with the reason why they were not built. `seconds` is what choosing took, the winner's build in
    it; `expected_bytes` the peak of the process's memory that was told beforehand, `peak_bytes` the one it came to.
    """

    index: FaissIndex
    winner: Trial
    trials: tuple[Trial, ...]
    skipped: tuple[tuple[str, str], ...]
    recall: float
    report_queries: Float32
    k: int
    target: float
    budgets: Budgets
    seconds: float
    expected_bytes: int
    peak_bytes: int

    def facts(self) -> dict[str, Any]:
        """What stands in the manifest: the budgets, what choosing took, and every trial but the way to its setting."""
        return {
            "budgets": asdict(self.budgets),
            "seconds": self.seconds,
            "memory": {"expected_bytes": self.expected_bytes, "peak_bytes": self.peak_bytes},
            "trials": [
                {name: fact for name, fact in asdict(trial).items() if name != "steps"} for trial in self.trials
            ],
            "skipped": [{"key": key, "reason": reason} for key, reason in self.skipped],
        }


def tune(
    vectors: Float32,
    users: Float32,
    metric: Metric,
    *,
    target: float,
    k: int,
    budgets: Budgets = UNLIMITED,
    seed: int = 0,
    threads: int = 1,
    exact: bool = False,
    scratch: Path | None = None,
    progress: Progress = silent,
    clock: Clock = time.perf_counter,
) -> Tuned:
    """Choose an index over vectors f32[N, D] for queries like users f32[U, D], both as `normalise` leaves them.

    `target` is the recall@k to reach, in (0, 1]; k is cut to N. Equal seeds take equal samples; speed is measured, so
    two near equals may win in turn, but what is measured of an index besides repeats. With `exact` only exact search
    competes, and nothing is left to chance. `scratch` is a directory for files that are gone at the end, by default the
    system's. With few users the margin is wide; one user tunes, selects and reports.

    Raises InvalidInput when no index within the bytes reaches the target, naming the best and what it would take.
    """
    k = min(k, len(vectors))
    expected = expected_bytes(vectors, k, budgets)
    progress(f"choosing an index, with up to about {expected / 2**20:,.0f} MiB of memory")
    set_threads(threads)
    try:
        start = clock()
        tuning, selecting, reporting = (
            true_nearest(vectors, users[rows], k, metric, told(progress, f"searching exactly for the users to {task}"))
            for rows, task in zip(sample_users(len(users), seed), ("tune", "select", "report"), strict=True)
        )
        bench = Bench(vectors, users, metric, tuning, selecting, k, target, seed, threads, clock)
        race = Race(budgets, start, progress, scratch)
        if exact:
            race.entries = [exact_entry(bench)]
            race.time(bench)
        else:
            race.run(bench)
        winner, recall = race.choose(bench, reporting)
        index = winner.index or build_index(EXACT, vectors, metric, {}, seed)
        return Tuned(
            index=index,
            winner=winner.trial,
            trials=(*race.screened, *(entry.trial for entry in race.entries)),
            skipped=tuple(race.skipped),
            recall=recall,
            report_queries=reporting.queries,
            k=k,
            target=target,
            budgets=budgets,
            seconds=clock() - start,
            expected_bytes=expected,
            peak_bytes=_peak_bytes(),
        )
    finally:
        set_threads(1)


def sample_users(count: int, seed: int) -> tuple[Int64, Int64, Int64]:
    """Rows of the users to tune, to select and to report with: at most SAMPLE each, drawn by the seed.

    They are disjoint from three users on; two share the first two tasks, one does all.
    """
    order = np.random.default_rng(seed).permutation(count).astype(np.int64)
    if count < 3:
        return order[:1], order[:1], order[-1:]
    each = min(SAMPLE, count // 3)
    return order[:each], order[each : 2 * each], order[2 * each : 3 * each]


def expected_bytes(vectors: Float32, k: int, budgets: Budgets) -> int:
    """About the peak of this process's memory while it chooses: what it has now, and the most that stands beside it."""
    items, dim = vectors.shape
    most = math.inf if budgets.bytes_per_item is None else budgets.bytes_per_item
    codes = [bytes_per_item(f"IVF1,{code}", dim) for code in list_codes(items, dim, most)] or [4.0 * dim]
    tried = min(items, SCREEN)
    # A list grows by doubling; an index is written from memory, and read back from the page cache.
    screening = tried * (4 * dim + 2 * max(codes)) if items > SCREEN else 3 * tried * max(codes)
    lists = list_count(items, FACTORS[2])
    division = training_points(items, lists) * 4 * dim + 24 * items + 12 * lists * dim
    whole = items * sum(sorted(codes)[:FINALISTS]) + 2 * items * max(codes[:FINALISTS]) if items > SCREEN else 0
    # Recall is scored in float64, 256 users at a time, in a few copies.
    scoring = 256 * (k + 32) * dim * 40
    return _peak_bytes() + int(max(screening, whole) + division + scoring)


def _peak_bytes() -> int:
    """The most memory this process had in use so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
