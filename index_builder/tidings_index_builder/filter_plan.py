"""How an index is best searched for some of its rows only, by measuring.

For smaller and smaller shares of the items, taken at random, two ways are compared: inverted lists, nearest first,
until enough of the rows were looked at (how many are enough is measured), and all of the rows in one piece. From where
that is faster on, it is what is done. For rows that are not spread at random (of some categories; all but much of what
is nearest to a user, as what somebody has bought; the nearest to a user, or the farthest) it is measured how many more
rows are best looked at first, and from how near on further lists are searched.
"""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from tidings_core.index import DROP_SHARE, MAX_COPY_ROWS, FaissIndex, FilterPlan, exact_search, set_threads
from tidings_core.lists import Lists
from tidings_core.model import Metric
from tidings_core.rows import Passing, RowSet
from tidings_core.tables import Float32, Int32, Int64
from tidings_index_builder.progress import Progress, silent

USERS, SOME, FEW = 160, 48, 12
"""So many users are asked for, so many of them with rows that lie together, and so many with their own nearest."""
SHARES = tuple(0.5**halvings for halvings in range(12))
STEP, HALVINGS = 1.5, 2
"""The number of rows looked at is raised by this factor until recall is reached, then the gap is halved so often."""
UNEVEN, LEFT = (3.0, 4.0, 6.0), (0.4, 0.6, 0.8, 1.0, 1.5, 2.0)
WIDE = (1.0, 1.5, *(2.0 + 0.25 * step for step in range(13)))
"""What is tried, the least first."""
NEARLY = 0.005
ABOVE, UNEVEN_ABOVE = 0.35, 0.3
"""So large a part of the way from the target to 1 is the recall to reach, the second for each kind of rows that are not
spread at random, of which the hardest counts."""
UNDISTURBED = 0.98
"""Of searches that take different times, the slowest but so many are thought to have waited for something else."""
TOGETHER, GROUPS, DRAWS = (0.5, 0.1, 0.03), 64, 4
"""Rows that lie together are such shares of all; those of single lists, or of so many parts of all lists, drawn
so often."""
NEAREST, LEFT_OUT = 0.1, 0.5
"""Of so large a share of the rows, those nearest to a user, so many are left out."""
FARTHER = 0.05
"""All of so large a share, those nearest to a user, do not pass."""
OWN = (0.5, 0.1)
"""Such shares of the rows are a user's nearest, farthest, or another user's nearest."""
LEAST = 1000
"""Fewer rows are always all looked at."""
CHUNK = 1 << 16
TIE = 1e-5
"""Scores nearer than this share of the larger one are equal."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Bench:
    """What is measured on: the index, its vectors f32[N, D], queries f32[Q, D], and the recall@k to reach.

    What is measured on few users must hold for others: the `goal` is part of the way from the `target` to 1.
    """

    index: FaissIndex
    vectors: Float32
    queries: Float32
    metric: Metric
    target: float
    k: int
    clock: Clock

    @property
    def goal(self) -> float:
        """The recall to reach on the users who are asked for."""
        return self.target + ABOVE * (1.0 - self.target)

    def least(self, rows: Int32, queries: Float32) -> Float32:
        """The least score that is among the k best of some rows, for each of queries f32[Q, D]."""
        best = np.full((len(queries), self.k), -np.inf, np.float32)
        for start in range(0, len(rows), CHUNK):
            part = self.vectors[rows[start : start + CHUNK]]
            said = exact_search(part, queries, self.k, self.metric)[1]
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
    clock: Clock = time.thread_time,
) -> FilterPlan:
    """Measure how to search an index over vectors f32[N, D] for some rows only, for queries like users f32[U, D].

    `target` is the recall@k to reach. An index without inverted lists is not measured: all rows are looked at.
    """
    count = len(vectors)
    if index.lists is None or count < LEAST:
        return FilterPlan(whole_up_to=count)
    progress("measuring how to search with filters")
    rng = np.random.default_rng(seed)
    queries = users[rng.permutation(len(users))[:USERS]]
    bench = _Bench(index, vectors, queries, metric, target, min(k, count), clock)
    costs: list[_Cost] = []
    set_threads(1)
    for cost in _costs(bench, rng):
        costs.append(cost)
        if cost.whole <= cost.lists:
            break
    plan = FilterPlan(_crossing(costs), tuple((cost.rows, cost.enough) for cost in reversed(costs)))
    return _uneven(bench, replace(plan, spread=_spread(index.lists, vectors)), index.lists, rng)


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
    least = bench.least(rows.rows(), bench.queries)
    index = bench.index.with_plan(FilterPlan(0))
    # In the index itself: a copy is finer.
    within = replace(index.alone(rows), even=True, scattered=False)

    def enough(share: float) -> int:
        return min(rows.count, max(bench.k, round(rows.count * share)))

    def reaches(share: float) -> bool:
        found, _ = index.search(bench.queries, bench.k, index.reaching(within, enough(share)))
        return bench.recall(bench.queries, found, least) >= bench.goal

    while share < 1.0 and not reaches(share):
        share *= STEP
    high, low = min(share, 1.0), min(share, 1.0) / STEP
    for _ in range(HALVINGS):
        middle = (high * low) ** 0.5
        high, low = (middle, low) if reaches(middle) else (high, middle)
    passing = index.reaching(replace(index.prepare(rows), scattered=False, even=True), enough(high))
    return enough(high), bench.timed(lambda query: index.search(query, bench.k, passing))


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


@dataclass(frozen=True, slots=True)
class _Case:
    """Rows that are not spread at random, for a user who asks: query f32[1, D], and the least score to find.

    `kind`: the cases whose recall counts together; `usual`: how fast they are counts; `passing`: the rows, prepared
    without a copy, which is finer and takes room.
    """

    kind: int
    usual: bool
    query: Float32
    passing: Passing
    least: Float32

    @property
    def most(self) -> bool:
        """Whether some rows are left out of all."""
        return self.passing.rows.count >= DROP_SHARE * self.passing.rows.size


def _uneven(bench: _Bench, plan: FilterPlan, lists: Lists, rng: np.random.Generator) -> FilterPlan:
    """With how rows that are not spread at random are searched: the fastest way that reaches recall for every kind."""
    cases = [*_together(bench, lists, rng), *_own(bench, rng)]
    most = [case for case in cases if case.most]
    # What codes cannot tell apart no search finds: then nearly the best there is will do.
    best = _reached(bench, replace(plan, wide=WIDE[-1]), cases)
    wanted = {
        kind: min(recall - NEARLY, bench.target + UNEVEN_ABOVE * (1.0 - bench.target)) for kind, recall in best.items()
    }

    def enough(plan: FilterPlan, cases: list[_Case]) -> bool:
        return all(recall >= wanted[kind] for kind, recall in _reached(bench, plan, cases).items())

    ways = []
    for uneven in UNEVEN:
        first = partial(replace, plan, uneven=uneven)
        at = bisect_left(WIDE, True, hi=len(WIDE) - 1, key=lambda wide: enough(first(wide=wide), cases))
        ways.append(first(wide=WIDE[at]))
    plan = min(ways, key=lambda way: _taken(bench, way, cases))
    ways = [way for way in (replace(plan, left=left) for left in LEFT) if enough(way, most)]
    return min([plan, *ways], key=lambda way: _taken(bench, way, most))


def _searched(bench: _Bench, plan: FilterPlan, cases: list[_Case]) -> Iterator[tuple[_Case, Int64, float]]:
    """What each case finds by a plan, rows i64[1, k], and the seconds it takes."""
    index = bench.index.with_plan(plan)
    prepared: dict[int, Passing] = {}
    for case in cases:
        if id(case.passing) not in prepared:
            enough = plan.enough(case.passing.rows.count, plan.left if case.most else plan.uneven)
            prepared[id(case.passing)] = index.reaching(replace(case.passing, even=False), enough)
        start = bench.clock()
        rows, _ = index.search(case.query, bench.k, prepared[id(case.passing)])
        yield case, rows, bench.clock() - start


def _reached(bench: _Bench, plan: FilterPlan, cases: list[_Case]) -> dict[int, float]:
    """The recall of each kind of case."""
    found: dict[int, list[float]] = {}
    for case, rows, _ in _searched(bench, plan, cases):
        found.setdefault(case.kind, []).append(bench.recall(case.query, rows, case.least))
    return {kind: float(np.mean(recalls)) for kind, recalls in found.items()}


def _taken(bench: _Bench, plan: FilterPlan, cases: list[_Case]) -> float:
    """The mean seconds of usual cases."""
    spent = np.sort([seconds for case, _, seconds in _searched(bench, plan, cases) if case.usual])
    return float(spent[: round(UNDISTURBED * len(spent))].mean())


def _together(bench: _Bench, lists: Lists, rng: np.random.Generator) -> Iterator[_Case]:
    """Rows that are those of some lists, drawn at random: of single ones, or each with those nearest to it."""
    count = len(bench.vectors)
    squares = (lists.centroids**2).sum(axis=1)
    groups = (1, max(1, len(lists.sizes) // GROUPS))
    # Some such filters are much harder than others: each kind is of several.
    for (kind, (part, group)), draw in product(enumerate(product(TOGETHER, groups)), range(DRAWS)):
        size = max(round(part * count), bench.k)
        taken = np.zeros(len(lists.sizes), np.bool_)
        for number in rng.permutation(len(taken)).tolist():
            if lists.sizes[taken].sum() >= size:
                break
            apart = squares - 2.0 * (lists.centroids @ lists.centroids[number])
            taken[np.argpartition(apart, group - 1)[:group]] = True
        rows = RowSet.of_rows(rng.permutation(np.flatnonzero(taken[lists.of_row]))[:size], count)
        passing = bench.index.alone(rows, left=True)
        queries = bench.queries[:SOME][draw::DRAWS]
        for query, least in zip(queries, bench.least(rows.rows(), queries), strict=True):
            yield _Case(kind, True, query[None], passing, least[None])


def _own(bench: _Bench, rng: np.random.Generator) -> Iterator[_Case]:
    """Rows that depend on who asks: without many of the nearest; just the nearest, the farthest, another's nearest."""
    count = len(bench.vectors)
    queries = bench.queries[:SOME]
    before = _scores(bench.vectors, queries[-1], bench.metric)
    for at, query in enumerate(queries):
        along = _scores(bench.vectors, query, bench.metric)
        nearest = _most(along, round(NEAREST * count))
        chosen = [(True, rng.permutation(nearest)[: round(LEFT_OUT * len(nearest))])]
        if at < FEW:
            chosen.append((True, _most(along, round(FARTHER * count))))
            for part, side in product(OWN, (along, -along, before)):
                chosen.append((False, _most(side, max(round(part * count), bench.k))))
        for kind, (out, some) in enumerate(chosen):
            mask = np.full(count, out)
            mask[some] = not out
            least = along[mask][_most(along[mask], bench.k)].min()
            passing = bench.index.alone(RowSet.of_mask(mask), left=True)
            # Kinds from 0 on are those of rows that lie together.
            yield _Case(-1 - kind, kind == 0, query[None], passing, least[None])
        before = along


def _most(scores: Float32, count: int) -> Int64:
    """Where so many of the largest scores are."""
    return np.argpartition(scores, len(scores) - count)[len(scores) - count :]


def _spread(lists: Lists, vectors: Float32) -> float:
    """The root of how much the vectors f32[N, D] of a list vary, on average of all rows and dimensions."""
    sizes = np.maximum(lists.sizes, 1)
    total = 0.0
    for column in vectors.T:
        numbers = column.astype(np.float64)
        sums = np.bincount(lists.of_row, numbers, len(sizes))
        total += float(numbers @ numbers) - float((sums**2 / sizes).sum())
    return math.sqrt(max(total, 0.0) / vectors.size)


def _scores(vectors: Float32, query: Float32, metric: Metric) -> Float32:
    if metric == "l2":
        return np.asarray(-((vectors - query) ** 2).sum(axis=1))
    return np.einsum("nd,d->n", vectors, query)
