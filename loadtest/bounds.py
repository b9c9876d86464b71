"""What the project holds itself to, each bound with the figure that says whether it is held."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from turns import Row, shown

Rows = Sequence[Row]
Figure = Callable[[Rows], float | None]
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Bound:
    """Something measured in a part, and what it may be at most, or must be at least."""

    part: str
    what: str
    figure: Figure
    limit: float
    at_least: bool = False

    def holds(self, measured: float) -> bool:
        """Whether a figure is within the bound."""
        return measured >= self.limit if self.at_least else measured <= self.limit


def worst(column: str, *, least: bool = False, **where: object) -> Figure:
    """The largest figure of a column (or the smallest) in rows with these values; None when there is no such row.

    A value may be a tuple of those that count. A row that has `never` for a figure has no end.
    """

    def find(rows: Rows) -> float | None:
        found = [_number(row[column]) for row in rows if column in row and _is(row, where)]
        return (min if least else max)(found) if found else None

    return find


def over(column: str, other: str, **where: object) -> Figure:
    """The largest ratio of two columns of one row."""

    def find(rows: Rows) -> float | None:
        found = [
            _number(row[column]) / max(1e-9, _number(row[other]))
            for row in rows
            if column in row and other in row and _is(row, where)
        ]
        return max(found) if found else None

    return find


def _is(row: Row, where: Mapping[str, object]) -> bool:
    return all(
        name in row and (row[name] in value if isinstance(value, tuple) else row[name] == value)
        for name, value in where.items()
    )


def _number(value: object) -> float:
    return NEVER if value == "never" else float(str(value))


BOUNDS = (
    Bound("serving", "calls/s on one core over F0, `native`",
          worst("calls_over_f0", least=True, front="native"), 0.68, True),
    Bound("serving", "the same, `grpcio`", worst("calls_over_f0", least=True, front="grpcio"), 0.42, True),
    Bound("serving", "p50 at half load over F1, `native`", worst("half_p50_over_f1", front="native"), 2.5),
    Bound("serving", "p99 at half load over F1, `native`", worst("half_p99_over_f1", front="native"), 12.0),
    Bound(
        "serving", "two compute threads on two cores over one, `native`",
        worst("two_over_one", least=True, front="native"), 1.6, True,
    ),
    Bound(
        "serving", "what the load generator can do over what is measured",
        worst("generator_over_calls", least=True), 3.0, True,
    ),
    Bound("fanout", "10,000 told, from commit to receipt, p99 in ms, `native`",
          worst("burst_p99_ms", front="native"), 100.0),
    Bound("fanout", "processor per message over plain grpc.aio, `native`",
          worst("cpu_over_plain", front="native"), 0.4),
    Bound("fanout", "bytes per idle subscriber, `native`", worst("bytes_per_subscriber", front="native"), 18_000.0),
    Bound("fanout", "10,000 come at once: refused or silent", worst("refused"), 0.0),
    Bound("fanout", "10,000 come at once: seconds until all are in", worst("storm_seconds"), 10.0),
    Bound("items", "cost of a call, 1,000,000 over 10,000 items", worst("cost_over_smallest", items=1_000_000), 3.0),
    Bound("ingest", "one event in a call: calls/s over calls that do nothing, `grpcio`",
          worst("single_over_rpc", least=True, front="grpcio"), 0.6, True),
    Bound("ingest", "100 events in a call: events/s over bare inserts, synced alike",
          worst("batches_over_inserts", least=True), 0.1, True),
    Bound("ingest", "a profile that is kept, 1,000,000 users stored, in µs", worst("profile_cached_us"), 15.0),
    Bound("ingest", "one that nobody asked for before, in µs", worst("profile_cold_us"), 80.0),
    Bound("ingest", "bytes on disk per user, customers of Online Retail", worst("bytes_per_user"), 2048.0),
    Bound("ingest", "p99 of answers while events come in at half their rate, over alone",
          worst("answers_p99_over_alone"), 2.0),
    Bound(
        "overload", "3x load: p99 of what is answered over p99 at half load, `native`",
        worst("answered_p99_over_half", front="native"), 3.0,
    ),
    Bound("overload", "the same, `grpcio`", worst("answered_p99_over_half", front="grpcio"), 3.0),
    Bound(
        "overload", "3x load: what is answered over what it carries, `native`",
        worst("answered_over_carried", least=True, front="native"), 0.7, True,
    ),
    Bound(
        "overload", "3x load: half of the refused know within (over p99 at half load), `native`",
        over("refused_p50_ms", "half_p99_ms", front="native"), 1.0,
    ),
    Bound("overload", "3x load: calls that end neither answered nor refused, `native`",
          worst("otherwise_ended", front="native"), 0.0),
    Bound("overload", "seconds from its end until all is as before", worst("recovered_s"), 3.0),
    Bound("overload", "memory after over before", over("memory_after_mib", "memory_before_mib"), 1.1),
    Bound("overload", "failed calls of others beside callers who misbehave", worst("beside_failed"), 0.0),
    Bound("overload", "refused ones", worst("beside_refused"), 0.0),
    Bound("erasing", "seconds to erase a person with 10,000 events", worst("seconds_worst"), 2.0),
    Bound("retrieval", "recall@100 on users that nobody tuned on", worst("recall_at_100", least=True), 0.95, True),
    Bound(
        "retrieval", "search over exact search, 100,000 items, clustered vectors",
        worst("ratio", vectors="clustered", items=100_000, metric="inner product"), 0.15,
    ),
    Bound(
        "retrieval", "the same, factorised vectors", worst("ratio", vectors="mf", items=100_000), 0.30
    ),
    Bound("retrieval", "search over exact search, 1,000,000 items", worst("ratio", items=1_000_000), 0.04),
    Bound(
        "retrieval", "a tuned build of 1,000,000 items over one plain build of the same index",
        worst("build_ratio", items=1_000_000), 8.0,
    ),
    *(
        Bound("filters", f"filtered over unfiltered search, the worst pass rate, {items:,} items",
              worst("ratio", items=items, filter=("random", "clusters")), limit)
        for items, limit in ((100_000, 2.0), (1_000_000, 4.0))
    ),
    *(
        Bound("filters", f"the same where all that passes is far from the user, {items:,} items",
              worst("ratio", items=items, filter="far"), limit)
        for items, limit in ((100_000, 2.0), (1_000_000, 4.0))
    ),
    *(
        Bound("filters", f"50,000 exclusions over none, {items:,} items",
              worst("ratio", items=items, exclusions=50_000), limit)
        for items, limit in ((1_000_000, 1.5), (100_000, 3.0))
    ),
    Bound("filters", "recall@100, filters and exclusions", worst("recall_at_100", least=True), 0.95, True),
    Bound("delta", "a full delta over none, 1,000,000 items (10,000 rows)",
          worst("ratio", items=1_000_000, delta_rows=10_000), 1.5),
    Bound("delta", "the same, 100,000 items (2,000 rows)", worst("ratio", items=100_000, delta_rows=2_000), 1.25),
    Bound("delta", "slowest searches during a swap of 1,000,000 items over before, a core of its own for opening",
          worst("p99_ratio", items=1_000_000, core_for_opening="free"), 3.0),
    Bound("delta", "the same, on one core", worst("p99_ratio", items=1_000_000, core_for_opening="shared"), 40.0),
    Bound("delta", "memory of a second process over release and libraries, 1,000,000 items",
          worst("share", items=1_000_000), 0.1),
)  # fmt: skip


def verdicts(figures: Mapping[str, Rows], headings: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """Of each bound: what it is (a link to its part), the bound, what was measured, and whether it holds."""
    for bound in BOUNDS:
        anchor = headings[bound.part].lower().replace(" ", "-")
        measured = bound.figure(figures.get(bound.part, ()))
        limit = f"at {'least' if bound.at_least else 'most'} {shown(bound.limit)}"
        if measured is None:
            yield f"[{bound.what}](#{anchor})", limit, "–", "not measured"
            continue
        told = "never" if measured == NEVER else shown(measured)
        yield f"[{bound.what}](#{anchor})", limit, told, "yes" if bound.holds(measured) else "**no**"
