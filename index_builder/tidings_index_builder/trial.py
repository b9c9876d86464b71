"""Measuring one candidate: the smallest setting that surely reaches the recall target, and the time of a query."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tidings_core.index import FaissIndex, set_threads
from tidings_core.model import Metric
from tidings_core.tables import Float32, Int64
from tidings_index_builder.candidates import EXACT, lists_of
from tidings_index_builder.recall import Truth

SURE = 3.0
"""By so many standard errors recall must exceed the target on the users a setting is tuned on."""
FEW = 30
"""Of fewer users the standard error is not estimated but bounded."""
MAX_EF_SEARCH = 1024
REPETITIONS = 5
TIMED_QUERIES = 64
GLANCED_QUERIES = 16
TIMED_SECONDS = 0.2
"""A repetition asks fewer queries when they would take longer than this."""

Clock = Callable[[], float]
Search = Callable[[Float32, int], object]


@dataclass(frozen=True, slots=True)
class Step:
    """One setting on the way to the target: recall on the tune users, and a first look at the µs per query."""

    parameters: dict[str, int]
    recall: float
    microseconds: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate at the setting it was given, measured on `items` items.

    Recall on the users the setting was tuned on and on those who select; median µs per query. `meets` says whether it
    surely reaches the target on the first and reaches it on the second. `fate` says in a few words what became of it.
    """

    key: str
    parameters: dict[str, int]
    items: int
    tune_recall: float
    select_recall: float
    microseconds: float
    bytes_per_item: float
    build_seconds: float
    meets: bool
    steps: tuple[Step, ...]
    fate: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """What candidates are measured on: vectors f32[N, D], users f32[U, D] to time with, and the truth for two sets."""

    vectors: Float32
    users: Float32
    metric: Metric
    tune: Truth
    select: Truth
    k: int
    target: float
    seed: int
    threads: int
    clock: Clock


def sure(shares: NDArray[np.float64], target: float) -> bool:
    """Whether per-query recalls f64[Q] speak for a mean above the target by `SURE` standard errors, or are all 1."""
    mean = float(shares.mean())
    if mean >= 1.0:
        return True
    # A share with mean m varies by at most m(1 - m).
    variance = float(shares.var()) if len(shares) >= FEW else max(mean * (1.0 - mean), target * (1.0 - target))
    return mean - SURE * (variance / len(shares)) ** 0.5 >= target


def try_index(index: FaissIndex, bench: Bench, size: float, seconds: float) -> tuple[FaissIndex, Trial]:
    """Set an index of `size` bytes per item, built in so many seconds, to the smallest setting that does.

    That is one which is sure on the tune users and reaches the target on the select users; when none does, the largest.
    """
    steps, chosen, settled = _search_setting(index, bench)
    index = index.with_parameters(chosen.parameters)
    selected = bench.select.recall(_found(index, bench.select, bench.k))
    name, most = _setting(index, bench.k)
    while selected < bench.target and name and index.parameters[name] < most:
        value = index.parameters[name]
        chosen, settled = _step(index, {name: min(most, value + max(1, value // 10))}, bench)
        steps.append(chosen)
        index = index.with_parameters(chosen.parameters)
        selected = bench.select.recall(_found(index, bench.select, bench.k))
    meets = index.key == EXACT or (settled and selected >= bench.target)
    return index, Trial(
        key=index.key,
        parameters=index.parameters,
        items=len(bench.vectors),
        tune_recall=chosen.recall,
        select_recall=selected,
        microseconds=chosen.microseconds,
        bytes_per_item=size,
        build_seconds=seconds,
        meets=meets,
        steps=tuple(steps),
    )


def timed(trials: Sequence[tuple[Search, Trial]], bench: Bench) -> list[Trial]:
    """The trials with the median µs per query of each search.

    They take turns, so that a slow moment of the machine meets all of them.
    """
    rng = np.random.default_rng(bench.seed)
    rounds = [[_mean(search, bench, rng, TIMED_QUERIES) for search, _ in trials] for _ in range(REPETITIONS)]
    medians = np.median(rounds, axis=0)
    return [replace(trial, microseconds=float(speed)) for (_, trial), speed in zip(trials, medians, strict=True)]


def _setting(index: FaissIndex, k: int) -> tuple[str, int]:
    """The name of an index's search parameter and the most it can be; no name when it has none."""
    if lists_of(index.key):
        return "nprobe", lists_of(index.key)
    if index.key.startswith("HNSW"):
        return "efSearch", max(k, MAX_EF_SEARCH)
    return "", 0


def _search_setting(index: FaissIndex, bench: Bench) -> tuple[list[Step], Step, bool]:
    """All settings tried, the smallest that is sure, give or take 3 %, or the largest, and whether it is.

    The setting is doubled until it is sure, then the gap to the value before is halved.
    """
    name, most = _setting(index, bench.k)
    if not name:
        step, reached = _step(index, {}, bench)
        return [step], step, reached
    # FaissIndex.search raises an efSearch below k to k.
    value = bench.k if name == "efSearch" else 1
    step, reached = _step(index, {name: value}, bench)
    steps, fails = [step], 0
    while not reached and value < most:
        fails, value = value, min(most, value * 2)
        step, reached = _step(index, {name: value}, bench)
        steps.append(step)
    chosen = step
    while reached and fails and value - fails > max(1, value // 32):
        middle = (fails + value) // 2
        step, enough = _step(index, {name: middle}, bench)
        steps.append(step)
        if enough:
            value, chosen = middle, step
        else:
            fails = middle
    return steps, chosen, reached


def _step(index: FaissIndex, parameters: dict[str, int], bench: Bench) -> tuple[Step, bool]:
    index = index.with_parameters(parameters)
    shares = bench.tune.shares(_found(index, bench.tune, bench.k))
    glance = _mean(index.search, bench, np.random.default_rng(bench.seed), GLANCED_QUERIES)
    return Step(parameters, float(shares.mean()), glance), sure(shares, bench.target)


def _found(index: FaissIndex, truth: Truth, k: int) -> Int64:
    return index.search(truth.queries, k)[0]


def _mean(search: Search, bench: Bench, rng: np.random.Generator, queries: int) -> float:
    """Mean µs of one query per call on one thread, each of a random user, for at most about TIMED_SECONDS."""
    asked, elapsed = 0, 0.0
    set_threads(1)
    start = bench.clock()
    for row in rng.integers(0, len(bench.users), queries):
        search(bench.users[row : row + 1], bench.k)
        asked, elapsed = asked + 1, bench.clock() - start
        if elapsed > TIMED_SECONDS:
            break
    set_threads(bench.threads)
    return elapsed / asked * 1e6
