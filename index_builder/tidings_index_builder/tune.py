"""Choosing the index by measurement: type and parameters that reach a recall target soonest on the shop's own vectors.

No rule of thumb holds for every data set: HNSW on inner products can fall short at any setting, and the more the
vectors are spread the more lists IVF must probe. So candidates are built, their parameter is raised to the smallest
value that reaches the target on some users, their speed is measured side by side, and the fastest that also reaches it
on other users wins.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tidings_core.index import FaissIndex, build_index, set_threads
from tidings_core.model import Metric
from tidings_core.tables import Float32
from tidings_index_builder.progress import Progress, silent
from tidings_index_builder.recall import Truth, true_nearest

EXACT = "Flat"
"""The index that finds the true nearest, and so meets any target."""
SAMPLE = 1000
"""At most so many users to tune with, and as many others to accept or refuse the candidates."""
IVF_FROM = 5_000
HNSW_UP_TO = 50_000
"""Above, building the graph takes longer than all other candidates together."""
MAX_EF_SEARCH = 1024
REPETITIONS = 5
TIMED_QUERIES = 64
TIMED_SECONDS = 0.2
"""A repetition asks fewer queries when they would take longer than this."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Step:
    """One setting on the way to the target: recall on the tune users, and a first look at the µs per query."""

    parameters: dict[str, int]
    recall: float
    microseconds: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate at the setting it was given: recall on the tune and the verify users, median µs per query.

    `meets` says whether both reach the target; `steps` are the settings tried. An exact index meets any target.
    """

    key: str
    parameters: dict[str, int]
    tune_recall: float
    verify_recall: float
    microseconds: float
    bytes_per_item: float
    build_seconds: float
    meets: bool
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Tuned:
    """The choice: the index, its trial, all trials, and the verify users' vectors f32[Q, D] recall was measured on."""

    index: FaissIndex
    winner: Trial
    trials: tuple[Trial, ...]
    verify_queries: Float32
    k: int


@dataclass(frozen=True, slots=True)
class _Bench:
    """What every candidate is measured on."""

    vectors: Float32
    users: Float32
    metric: Metric
    tune: Truth
    verify: Truth
    k: int
    target: float
    seed: int
    threads: int
    clock: Clock


def tune(
    vectors: Float32,
    users: Float32,
    metric: Metric,
    *,
    target: float,
    k: int,
    seed: int = 0,
    threads: int = 1,
    exact: bool = False,
    progress: Progress = silent,
    clock: Clock = time.perf_counter,
) -> Tuned:
    """Choose an index over vectors f32[N, D] for queries like users f32[U, D], both as `normalise` leaves them.

    `target` is the recall@k to reach, in (0, 1]; k is cut to N. Equal seeds take equal samples; speed is measured, so
    two near equals may win in turn; with `exact` only exact search competes, and nothing is left to chance. With one
    user that user both chooses and verifies.
    """
    k = min(k, len(vectors))
    set_threads(threads)
    try:
        progress("searching exactly, to know the truth")
        tune_rows, verify_rows = sample_users(len(users), seed)
        bench = _Bench(
            vectors,
            users,
            metric,
            true_nearest(vectors, users[tune_rows], k, metric),
            true_nearest(vectors, users[verify_rows], k, metric),
            k,
            target,
            seed,
            threads,
            clock,
        )
        built = [_trial(EXACT, bench, progress)] if exact else list(_candidates(bench, progress))
        progress("measuring speed, one query at a time")
        speeds = _speeds([index for index, _ in built], bench)
        trials = [replace(trial, microseconds=speed) for (_, trial), speed in zip(built, speeds, strict=True)]
        at = min((at for at, trial in enumerate(trials) if trial.meets), key=lambda at: trials[at].microseconds)
        return Tuned(built[at][0], trials[at], tuple(trials), bench.verify.queries, k)
    finally:
        set_threads(1)


def sample_users(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the users to tune with and of those to verify with: disjoint, at most SAMPLE each, drawn by the seed."""
    order = np.random.default_rng(seed).permutation(count)
    half = min(SAMPLE, count // 2)
    if half == 0:
        return order, order
    return order[:half], order[half : half + min(SAMPLE, count - half)]


def list_counts(items: int) -> list[int]:
    """Numbers of inverted lists to try: about 2, 4 and 8 times the square root of the number of items."""
    return [max(1, round(factor * items**0.5)) for factor in (2, 4, 8)]


def _candidates(bench: _Bench, progress: Progress) -> Iterator[tuple[FaissIndex, Trial]]:
    """Build and set every candidate. List counts compete under one codec, then codecs under the best list count."""
    items = len(bench.vectors)
    yield _trial(EXACT, bench, progress)
    yield _trial("SQfp16", bench, progress)
    if items >= IVF_FROM:
        found = {lists: _trial(f"IVF{lists},SQfp16", bench, progress) for lists in list_counts(items)}
        yield from found.values()
        met = {lists: index for lists, (index, trial) in found.items() if trial.meets}
        near = met or {lists: index for lists, (index, _) in found.items()}
        speeds = dict(zip(near, _speeds(list(near.values()), bench), strict=True))
        for codec in ("SQ8", "Flat"):
            yield _trial(f"IVF{min(speeds, key=lambda lists: speeds[lists])},{codec}", bench, progress)
    if items <= HNSW_UP_TO:
        yield _trial("HNSW32", bench, progress)


def _trial(key: str, bench: _Bench, progress: Progress) -> tuple[FaissIndex, Trial]:
    progress(f"trying {key}")
    start = bench.clock()
    index = build_index(key, bench.vectors, bench.metric, {}, bench.seed)
    seconds = bench.clock() - start
    # What the verify users may differ by from the tune users, so that most candidates that pass here pass there.
    goal = min(1.0, bench.target + min(0.005, (1.0 - bench.target) / 4))
    steps = _search_parameter(index, goal, bench)
    chosen = min((step for step in steps if step.recall >= goal), key=_effort, default=max(steps, key=_effort))
    index = index.with_parameters(chosen.parameters)
    verified = bench.verify.recall(index.search(bench.verify.queries, bench.k)[0])
    meets = key == EXACT or (chosen.recall >= bench.target and verified >= bench.target)
    size = _file_bytes(index) / len(bench.vectors)
    trial = Trial(
        key, chosen.parameters, chosen.recall, verified, chosen.microseconds, size, seconds, meets, tuple(steps)
    )
    return index, trial


def _effort(step: Step) -> int:
    return sum(step.parameters.values())


def _search_parameter(index: FaissIndex, goal: float, bench: _Bench) -> list[Step]:
    """Raise a candidate's parameter to the smallest value that reaches the goal, give or take 3 %.

    It is doubled until it does, then the gap to the value before is halved.
    """
    if index.key.startswith("IVF"):
        name, low, most = "nprobe", 1, int(index.key[3:].split(",")[0])
    elif index.key.startswith("HNSW"):
        # FaissIndex.search raises what is below k to k.
        name, low, most = "efSearch", bench.k, max(bench.k, MAX_EF_SEARCH)
    else:
        return [_step(index, {}, bench)]
    steps = [_step(index, {name: low}, bench)]
    while steps[-1].recall < goal and steps[-1].parameters[name] < most:
        steps.append(_step(index, {name: min(most, steps[-1].parameters[name] * 2)}, bench))
    if len(steps) == 1 or steps[-1].recall < goal:
        return steps
    fails, meets = steps[-2].parameters[name], steps[-1].parameters[name]
    while meets - fails > max(1, meets // 32):
        middle = (fails + meets) // 2
        steps.append(_step(index, {name: middle}, bench))
        if steps[-1].recall >= goal:
            meets = middle
        else:
            fails = middle
    return steps


def _step(index: FaissIndex, parameters: dict[str, int], bench: _Bench) -> Step:
    index = index.with_parameters(parameters)
    recall = bench.tune.recall(index.search(bench.tune.queries, bench.k)[0])
    return Step(parameters, recall, _timed(index, bench, np.random.default_rng(bench.seed)))


def _timed(index: FaissIndex, bench: _Bench, rng: np.random.Generator) -> float:
    """Mean µs of one query per call on one thread, each of a random user, for at most about TIMED_SECONDS."""
    asked, elapsed = 0, 0.0
    set_threads(1)
    start = bench.clock()
    for row in rng.integers(0, len(bench.users), TIMED_QUERIES):
        index.search(bench.users[row : row + 1], bench.k)
        asked, elapsed = asked + 1, bench.clock() - start
        if elapsed > TIMED_SECONDS:
            break
    set_threads(bench.threads)
    return elapsed / asked * 1e6


def _speeds(indexes: Sequence[FaissIndex], bench: _Bench) -> list[float]:
    """Median µs per query of each index. They take turns, so that a slow moment of the machine meets all of them."""
    rng = np.random.default_rng(bench.seed)
    rounds = [[_timed(index, bench, rng) for index in indexes] for _ in range(REPETITIONS)]
    return [float(median) for median in np.median(rounds, axis=0)]


def _file_bytes(index: FaissIndex) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        index.write(path)
        return path.stat().st_size
