"""How an index is best searched for some of its rows only, by measuring.

For smaller and smaller shares of the items two ways are compared. Inverted lists, nearest first, until enough of the
rows that pass were looked at: how many are enough is measured, for rows taken at random, for those nearest to a user
and for those farthest, the worst of which counts. And a copy of the rows that pass, searched exactly. From where the
copy is faster on, it is what is searched.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tidings_core.index import MAX_COPY_BYTES, FaissIndex, FilterPlan, set_threads
from tidings_core.model import Metric
from tidings_core.rows import RowSet
from tidings_core.tables import Float32, Int64
from tidings_index_builder.progress import Progress, silent
from tidings_index_builder.recall import true_nearest

USERS = 48
SHARES = tuple(0.5**halvings for halvings in range(12))
STEP, HALVINGS = 1.5, 2
"""The number of rows looked at is raised by this factor until recall is reached, then the gap is halved so often."""
LEAST = 1000
"""Of fewer rows a copy is always searched."""

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


@dataclass(frozen=True, slots=True)
class _Cost:
    """Of `rows` that pass, how many are enough when they are spread evenly over the lists, and when they are not.

    The median µs of a search of the lists at the worst, and of a copy.
    """

    rows: int
    even: int
    uneven: int
    lists: float
    copy: float


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

    `target` is the recall@k to reach. An index without inverted lists is not measured: copies are searched.
    """
    count = len(vectors)
    if not index.has_lists or count < LEAST:
        return FilterPlan(gather_up_to=count)
    progress("measuring how to search with filters")
    rng = np.random.default_rng(seed)
    queries = users[rng.permutation(len(users))[:USERS]]
    # Part of the way to 1: what was measured on few users must hold for others.
    bench = _Bench(index, vectors, queries, metric, target + (1.0 - target) / 5, min(k, count), clock)
    costs: list[_Cost] = []
    set_threads(1)
    for cost in _costs(bench, rng):
        costs.append(cost)
        if cost.copy <= cost.lists:
            break
    most = MAX_COPY_BYTES // (2 * vectors.shape[1])
    even = tuple((cost.rows, cost.even) for cost in reversed(costs))
    uneven = tuple((cost.rows, cost.uneven) for cost in reversed(costs))
    return FilterPlan(min(_crossing(costs), most), even, uneven)


def _costs(bench: _Bench, rng: np.random.Generator) -> Iterator[_Cost]:
    """The costs for all rows, then for a half, a quarter and so on of them."""
    count = len(bench.vectors)
    along = _scores(bench.vectors, bench.queries[0], bench.metric)
    orders = [rng.permutation(count), np.argsort(-along, kind="stable"), np.argsort(along, kind="stable")]
    start = [bench.k / count] * len(orders)
    for share in SHARES:
        rows = round(count * share)
        if rows < max(LEAST, 4 * bench.k):
            return
        if share == 1.0:
            found = [_lists_cost(bench, RowSet.of_rows(orders[0], count), start[0])] * len(orders)
        else:
            found = [
                _lists_cost(bench, RowSet.of_rows(order[:rows], count), of_order)
                for order, of_order in zip(orders, start, strict=True)
            ]
        start = [enough / rows / STEP for enough, _ in found]
        uneven, lists = max(enough for enough, _ in found), max(microseconds for _, microseconds in found)
        copied = _copy_cost(bench, RowSet.of_rows(orders[0][:rows], count))
        yield _Cost(rows, found[0][0], uneven, lists, copied)


def _lists_cost(bench: _Bench, rows: RowSet, share: float) -> tuple[int, float]:
    """How many of the rows must be looked at to reach the goal, give or take 10 %, and the µs that takes."""
    near = rows.rows().astype(np.int64)
    truth = true_nearest(bench.vectors[near], bench.queries, bench.k, bench.metric)
    passing = bench.index.prepare(rows, gather=False)

    def planned(share: float) -> tuple[FaissIndex, int]:
        enough = min(rows.count, max(bench.k, round(rows.count * share)))
        return bench.index.with_plan(FilterPlan(0, ((rows.count, enough),), ((rows.count, enough),))), enough

    def reaches(share: float) -> bool:
        found, _ = planned(share)[0].search(bench.queries, bench.k, passing)
        return truth.recall(_places(found, near)) >= bench.goal

    while share < 1.0 and not reaches(share):
        share *= STEP
    high, low = min(share, 1.0), min(share, 1.0) / STEP
    for _ in range(HALVINGS):
        middle = (high * low) ** 0.5
        high, low = (middle, low) if reaches(middle) else (high, middle)
    index, enough = planned(high)
    return enough, _timed(bench, lambda query: index.search(query, bench.k, passing))


def _copy_cost(bench: _Bench, rows: RowSet) -> float:
    """The µs of a search of a copy of the rows; endless where none is made."""
    if rows.count * bench.index.dim * 2 > MAX_COPY_BYTES:
        return float("inf")
    index = bench.index.with_plan(FilterPlan(rows.count))
    passing = index.prepare(rows)
    return _timed(bench, lambda query: index.search(query, bench.k, passing))


def _crossing(costs: list[_Cost]) -> int:
    """The number of rows up to which a copy is faster, by what was measured around it."""
    last = costs[-1]
    if last.copy > last.lists:
        # Too few to be measured, and so few that it hardly matters.
        return last.rows // 2
    if len(costs) == 1:
        return last.rows
    before = costs[-2]
    # Between two numbers of rows each way costs about a power of the number.
    gained, lost = np.log(last.lists / last.copy), np.log(min(before.copy, before.lists * 1e3) / before.lists)
    return round(last.rows * (before.rows / last.rows) ** float(gained / max(gained + lost, 1e-9)))


def _timed(bench: _Bench, search: Callable[[Float32], object]) -> float:
    """Median µs of a search for one query."""
    spent = []
    for at in range(len(bench.queries)):
        start = bench.clock()
        search(bench.queries[at : at + 1])
        spent.append(bench.clock() - start)
    return float(np.median(spent)) * 1e6


def _scores(vectors: Float32, query: Float32, metric: Metric) -> Float32:
    if metric == "l2":
        return np.asarray(-((vectors - query) ** 2).sum(axis=1))
    return np.einsum("nd,d->n", vectors, query)


def _places(found: Int64, near: Int64) -> Int64:
    """Where found rows i64[Q, k] stand among ascending rows i64[M]; -1 stays."""
    return np.where(found >= 0, np.searchsorted(near, np.maximum(found, 0)), -1)
