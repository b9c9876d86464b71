"""What do filters, and what a user may not see, cost a search, and what recall is left?

One run, on one generated shop, in the index that the builder chooses and with the plan it measures, one thread:

  random      rows drawn at random pass
  clusters    whole clusters drawn at random pass, the last one of one kind where the rate is small
  far         of each user just the rows that are farthest from that user pass
  excluded    so many rows of all may not be found: drawn at random, or every second of those nearest to the user

`ratio` is µs of such a search over µs of one without, by turns, random users (of 16 with rows of their own, of 100
with exclusions); recall@100 is against exact search among the rows that pass, `first ms` what the first search with a
filter takes more.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np

from tidings_core.index import FaissIndex, set_threads
from tidings_core.rows import Passing, RowSet
from tidings_core.tables import Float32, Int64
from tidings_index_builder.filter_plan import plan_filters
from tidings_index_builder.recall import true_nearest
from tidings_index_builder.tune import tune
from turns import Row, by_turns, progress, tell
from vectors import KINDS, Kind, Vectors, generate

K = 100
TARGET = 0.95
KNOWN, UNSEEN, OWN, EXCLUDING = 10_000, 200, 16, 100
"""So many users are told to the tuning, and so many asked; so many have rows of their own, or exclusions."""
RATES = (0.95, 0.5, 0.2, 0.1, 0.01, 0.001, 0.0001)
EXCLUDED = 50_000


class Bench:
    """An index of a generated shop, and users it was not tuned on."""

    def __init__(self, made: Vectors, index: FaissIndex, seed: int) -> None:
        self.made = made
        self.index = index
        self.users = made.users[KNOWN:]
        self.rng = np.random.default_rng(seed)
        # The rows by how near they are to each of the users who have rows of their own.
        self.orders = [np.argsort(-(made.items @ user)).astype(np.int32) for user in self.users[:EXCLUDING]]

    def row_sets(self, how: str, rate: float) -> list[RowSet]:
        """The rows that pass: one set for all users, or one for each of those who have their own."""
        count = len(self.made.items)
        size = max(1, round(rate * count))
        if how == "random":
            return [RowSet.of_rows(self.rng.permutation(count)[:size].astype(np.int32), count)]
        if how == "far":
            return [RowSet.of_rows(order[-size:], count) for order in self.orders[:OWN]]
        clusters = self.rng.permutation(int(self.made.clusters.max()) + 1)
        ends = np.cumsum(np.bincount(self.made.clusters, minlength=len(clusters))[clusters])
        whole = np.isin(self.made.clusters, clusters[: int(np.searchsorted(ends, size)) + 1])
        rows = np.flatnonzero(whole).astype(np.int32)
        return [RowSet.of_rows(self.rng.permutation(rows)[:size], count)]

    def recall(self, search: Callable[[int], Int64], sets: list[RowSet]) -> float:
        """Recall against exact search among the rows that pass, over users who are asked for."""
        found = []
        for user in range(len(sets) if len(sets) > 1 else len(self.users)):
            rows = sets[user % len(sets)]
            found.append((user, search(user)[0], rows))
        if len(sets) == 1:
            users = np.array([user for user, _, _ in found])
            return self._recall(users, np.stack([rows for _, rows, _ in found]), sets[0])
        return float(np.mean([self._recall(np.array([user]), near[None], rows) for user, near, rows in found]))

    def _recall(self, users: Int64, found: Int64, rows: RowSet) -> float:
        near = rows.rows().astype(np.int64)
        truth = true_nearest(self.made.items[near], self.users[users], K, "inner_product")
        places = np.where(found >= 0, np.searchsorted(near, np.maximum(found, 0)), -1)
        return truth.recall(places[:, : truth.k])

    def searching(self, prepared: list[Passing | None]) -> Callable[[int], Int64]:
        """A search for one user, among what passes for that user."""
        return lambda user: self.index.search(self._one(user), K, prepared[user % len(prepared)])[0]

    def _one(self, user: int) -> Float32:
        return self.users[user : user + 1]


def filtered(bench: Bench, seconds: float, facts: Row, seed: int) -> Iterator[Row]:
    """A row for each kind of filter and rate."""
    for how in ("random", "clusters", "far"):
        calls: dict[str, Callable[[int], Int64]] = {"none": bench.searching([None])}
        rows: dict[str, dict[str, object]] = {}
        for rate in RATES:
            progress(f"{how} {rate:g}")
            sets = bench.row_sets(how, rate)
            start = time.perf_counter()
            prepared: list[Passing | None] = [bench.index.prepare(one) for one in sets]
            first = (time.perf_counter() - start) / len(sets) * 1e3
            calls[str(rate)] = bench.searching(prepared)
            rows[str(rate)] = {
                **facts,
                "filter": how,
                "passing": sets[0].count,
                "pass_rate": sets[0].count / sets[0].size,
                "recall_at_100": round(bench.recall(calls[str(rate)], sets), 4),
                "first_ms": first,
            }
        speed = by_turns(calls, OWN if how == "far" else len(bench.users), seconds / 4, seed)
        for name, row in rows.items():
            yield {**row, "us": speed[name], "us_without": speed["none"], "ratio": speed[name] / speed["none"]}


def excluded(bench: Bench, seconds: float, facts: Row, seed: int) -> Iterator[Row]:
    """A row for each way that exclusions are spread."""
    count = len(bench.made.items)
    number = min(EXCLUDED, count // 2)
    calls: dict[str, Callable[[int], Int64]] = {"none": bench.searching([None])}
    rows: dict[str, dict[str, object]] = {}
    for how in ("random", "near"):
        progress(f"{number} exclusions, {how}")
        sets = [
            RowSet.of_rows(bench.rng.permutation(order if how == "random" else order[: 2 * number])[:number], count)
            for order in bench.orders
        ]
        # With the person, once; the search itself takes them off.
        prepared = [bench.index.prepare(one, gather=False) for one in sets]
        calls[how] = _excluding(bench, prepared)
        rows[how] = {
            **facts,
            "exclusions": number,
            "spread": how,
            "recall_at_100": round(bench.recall(calls[how], [~one for one in sets]), 4),
        }
    speed = by_turns(calls, EXCLUDING, seconds / 4, seed)
    for name, row in rows.items():
        yield {**row, "us": speed[name], "us_without": speed["none"], "ratio": speed[name] / speed["none"]}


def _excluding(bench: Bench, prepared: list[Passing]) -> Callable[[int], Int64]:
    index = bench.index
    return lambda user: index.search(bench.users[user : user + 1], K, index.without(None, prepared[user]))[0]


def measure(kind: Kind, items: int, dim: int, seconds: float, seed: int) -> list[Row]:
    """Generate, build, and compare."""
    made = generate(kind, items, dim, KNOWN + UNSEEN, seed)
    set_threads(1)
    known = made.users[:KNOWN]
    tuned = tune(made.items, known, "inner_product", target=TARGET, k=K, seed=seed, progress=progress)
    plan = plan_filters(
        tuned.index, made.items, known, "inner_product", target=TARGET, k=K, seed=seed, progress=progress
    )
    progress(f"{tuned.winner.key} {tuned.winner.parameters} {plan}")
    bench = Bench(made, tuned.index.with_plan(plan), seed)
    facts = {"vectors": kind, "items": items, "dim": dim}
    return [*filtered(bench, seconds, facts, seed), *excluded(bench, seconds, facts, seed)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--kind", choices=KINDS, default="clustered")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing by turns (default 20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - is standard output")
    options = parser.parse_args()
    rows = measure(options.kind, options.items, options.dim, options.seconds, options.seed)
    if options.json is not None:
        tell(rows, options.json)
        return
    for name in ("filter", "exclusions"):
        tell([row for row in rows if name in row], None)
        print()


if __name__ == "__main__":
    main()
