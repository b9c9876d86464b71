"""How an index is best searched for some of its rows only, by measuring.

For smaller and smaller shares of the items, taken at random, two ways are compared: inverted lists, nearest first,
until enough of the rows were looked at (how many are enough is measured), and all of the rows in one piece. From where
that is faster on, it is what is done. For rows that are not spread at random the lists that are likely to have more are
searched too: how much may be likely to be missed is measured on the rows nearest to users, and on the farthest.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tidings_core.index import DROP_SHARE, MAX_COPY_ROWS, FaissIndex, FilterPlan, exact_search, set_threads
from tidings_core.model import Metric
from tidings_core.rows import RowSet
from tidings_core.tables import Float32, Int32, Int64
from tidings_index_builder.progress import Progress, silent

USERS, FEW = 48, 12
"""So many users are asked for, and for so many their own nearest and farthest items are tried."""
SHARES = tuple(0.5**halvings for halvings in range(12))
STEP, HALVINGS = 1.5, 2
"""The number of rows looked at is raised by this factor until recall is reached, then the gap is halved so often."""
MISSED = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
NEARLY = 0.005
LEAST = 1000
"""Fewer rows are always all looked at."""
CHUNK = 1 << 16
TIE = 1e-5
"""Scores nearer than this share of the larger one are equal."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Bench:
    """What is measured on: the index, its vectors f32[N, D], queries f32[Q, D], and the recall@k to reach."""

    index: FaissIndex
    vectors: Float32
    queries: Float32
    metric: Metric
    goal: float
    k: int
    clock: Clock

    def least(self, rows: Int32) -> Float32:
        """The least score that is among the k best of some rows, for each query f32[Q]."""
        best = np.full((len(self.queries), self.k), -np.inf, np.float32)
        for start in range(0, len(rows), CHUNK):
            part = self.vectors[rows[start : start + CHUNK]]
            said = exact_search(part, self.queries, self.k, self.metric)[1]
            best = -np.sort(-np.concatenate([best, said], axis=1), axis=1)[:, : self.k]
        return best[:, -1]

    def recall(self, queries: Float32, found: Int64, least: Float32) -> float:
        """The share of the k best that is among found rows i64[Q, k]."""
        hits = 0
        for query, rows, bound in zip(queries, found, least, strict=True):
            scores = _scores(self.vectors[rows[rows >= 0]], query, self.metric)
            hits += int((scores >= bound - TIE * abs(bound)).sum())
        return hits / found.size

    def timed(self, search: Callable[[Float32], object]) -> float:
        """Median µs of a search for one query."""
        spent = []
        for at in range(len(self.queries)):
            start = self.clock()
            search(self.queries[at : at + 1])
            spent.append(self.clock() - start)
        return float(np.median(spent)) * 1e6


@dataclass(frozen=True, slots=True)
class _Cost:
    """Of `rows` that pass, how many are enough; the median µs of a search of the lists, and of looking at all rows."""

    rows: int
    enough: int
    lists: float
    whole: float


def plan_filters(
    index: FaissIndex,
    vectors: Float32,
    users: Float32,
    metric: Metric,
    *,
    target: float,
    k: int,
    seed: int = 0,
    progress: Progress = silent,
    clock: Clock = time.perf_counter,
) -> FilterPlan:
    """Measure how to search an index over vectors f32[N, D] for some rows only, for queries like users f32[U, D].

    `target` is the recall@k to reach. An index without inverted lists is not measured: all rows are looked at.
    """
    count = len(vectors)
    if not index.has_lists or count < LEAST:
        return FilterPlan(whole_up_to=count)
    progress("measuring how to search with filters")
    rng = np.random.default_rng(seed)
    queries = users[rng.permutation(len(users))[:USERS]]
    # Part of the way to 1: what was measured on few users must hold for others.
    bench = _Bench(index, vectors, queries, metric, target + (1.0 - target) / 5, min(k, count), clock)
    costs: list[_Cost] = []
    set_threads(1)
    for cost in _costs(bench, rng):
        costs.append(cost)
        if cost.whole <= cost.lists:
            break
    plan = FilterPlan(_crossing(costs), tuple((cost.rows, cost.enough) for cost in reversed(costs)))
    return replace(plan, missed=_missed(bench, plan))


def _costs(bench: _Bench, rng: np.random.Generator) -> Iterator[_Cost]:
    """The costs for all rows, then for a half, a quarter and so on of them."""
    count = len(bench.vectors)
    order = rng.permutation(count)
    share = bench.k / count
    for part in SHARES:
        rows = round(count * part)
        if rows < max(LEAST, 4 * bench.k):
            return
        chosen = RowSet.of_rows(order[:rows], count)
        enough, microseconds = _lists_cost(bench, chosen, share)
        share = enough / rows / STEP
        yield _Cost(rows, enough, microseconds, _whole_cost(bench, chosen))


def _lists_cost(bench: _Bench, rows: RowSet, share: float) -> tuple[int, float]:
    """How many of the rows must be looked at to reach the goal, give or take 10 %, and the µs that takes."""
    least = bench.least(rows.rows())
    # Also of most rows the lists are searched: that is what is measured here.
    passing = replace(bench.index.with_plan(FilterPlan(0)).prepare(rows), scattered=False, even=True)

    def planned(share: float) -> tuple[FaissIndex, int]:
        enough = min(rows.count, max(bench.k, round(rows.count * share)))
        return bench.index.with_plan(FilterPlan(0, ((rows.count, enough),))), enough

    def reaches(share: float) -> bool:
        found, _ = planned(share)[0].search(bench.queries, bench.k, passing)
        return bench.recall(bench.queries, found, least) >= bench.goal

    while share < 1.0 and not reaches(share):
        share *= STEP
    high, low = min(share, 1.0), min(share, 1.0) / STEP
    for _ in range(HALVINGS):
        middle = (high * low) ** 0.5
        high, low = (middle, low) if reaches(middle) else (high, middle)
    index, enough = planned(high)
    return enough, bench.timed(lambda query: index.search(query, bench.k, passing))


def _whole_cost(bench: _Bench, rows: RowSet) -> float:
    """The µs of looking at all of the rows; endless where they are so many that no copy is made."""
    if rows.count > MAX_COPY_ROWS or rows.count >= DROP_SHARE * rows.size:
        return float("inf")
    index = bench.index.with_plan(FilterPlan(rows.count))
    passing = index.prepare(rows)
    return bench.timed(lambda query: index.search(query, bench.k, passing))


def _crossing(costs: list[_Cost]) -> int:
    """The number of rows up to which looking at all is faster, by what was measured around it."""
    last = costs[-1]
    if last.whole > last.lists or len(costs) == 1:
        return last.rows // 2
    before = costs[-2]
    # Between two numbers of rows each way costs about a power of the number.
    gained, lost = np.log(last.lists / last.whole), np.log(min(before.whole, before.lists * 1e3) / before.lists)
    return round(last.rows * (before.rows / last.rows) ** float(gained / max(gained + lost, 1e-9)))


def _missed(bench: _Bench, plan: FilterPlan) -> float:
    """The largest share that may be likely to be missed, so that recall is reached for rows that depend on vectors.

    For each user those nearest, those farthest, and those nearest to another user.
    """
    count = len(bench.vectors)
    cases = []
    queries = bench.queries[:FEW]
    towards = [_scores(bench.vectors, query, bench.metric) for query in queries]
    for at, (query, along) in enumerate(zip(queries, towards, strict=True)):
        for part in (0.5, 0.1):
            size = max(round(part * count), bench.k)
            for side in (along, -along, towards[at - 1]):
                mask = side >= np.partition(side, count - size)[count - size]
                least = np.partition(along[mask], -bench.k)[-bench.k :][:1]
                passing = bench.index.prepare(RowSet.of_mask(mask), gather=False)
                cases.append((query[None], least, replace(passing, scattered=False)))

    def worst(missed: float) -> float:
        index = bench.index.with_plan(replace(plan, missed=missed))
        found = [
            bench.recall(query, index.search(query, bench.k, passing)[0], least) for query, least, passing in cases
        ]
        # Each of the six kinds must reach it by itself.
        return float(np.array(found).reshape(-1, 6).mean(axis=0).min())

    reached: dict[float, float] = {}
    for missed in MISSED:
        reached[missed] = worst(missed)
        if reached[missed] >= bench.goal:
            return missed
    # What codes cannot tell apart no search finds: then as little as gives nearly the best there is.
    return next(missed for missed in MISSED if reached[missed] >= max(reached.values()) - NEARLY)


def _scores(vectors: Float32, query: Float32, metric: Metric) -> Float32:
    if metric == "l2":
        return np.asarray(-((vectors - query) ** 2).sum(axis=1))
    return np.einsum("nd,d->n", vectors, query)
