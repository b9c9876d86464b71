"""A plot for each question that the benchmarks answer, drawn from their figures alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from bounds import BOUNDS, NEVER, Rows
from stacks import COLOURS
from tidings_index_builder.page import ACCENT, INK, LIMIT, MUTED, lettering, plain

COLOUR = {"native": ACCENT, "grpcio": "#6b7fb8", "plain": "#b0b7c3"}
SHADES = ("#0b6e4f", "#6b7fb8", "#d08c3c", "#9c4f8b", "#4f9cb8", "#8a8f3c")
Draw = Callable[[Rows], Figure | None]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, the same bytes for the same figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with lettering(), matplotlib.rc_context({"svg.hashsalt": "tidings"}):
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})


def _figure(title: str, panels: int = 1, height: float = 2.9) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(7.6, height), layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK, x=0.01, ha="left")
    found = figure.subplots(1, panels, squeeze=False)[0]
    for axes in found:
        plain(axes)
        axes.set_axisbelow(True)
    return figure, list(found)


def _bars(axes: Any, names: Sequence[str], series: Mapping[str, Sequence[float]], colours: Sequence[str]) -> None:
    """Groups of bars with their values on them."""
    width = 0.8 / len(series)
    for number, (label, values) in enumerate(series.items()):
        at = [place + (number - (len(series) - 1) / 2) * width for place in range(len(names))]
        drawn = axes.bar(at, values, width * 0.92, color=colours[number % len(colours)], label=label)
        axes.bar_label(drawn, fmt="%.3g", fontsize=8, color=INK, padding=2)
    axes.set_xticks(range(len(names)), names)
    axes.margins(y=0.18)
    if len(series) > 1:
        axes.legend(fontsize=8, frameon=False)


def _bound(axes: Any, value: float, label: str) -> None:
    axes.axhline(value, color=LIMIT, linewidth=1, linestyle="--")
    axes.annotate(
        label, (1, value), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=8, color=LIMIT,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )  # fmt: skip


def serving(rows: Rows) -> Figure:
    """Calls per second and latencies over what the machine could do."""
    figure, (rate, half) = _figure("How much of what one core can do reaches the caller, and how soon?", 2)
    fronts = [str(row["front"]) for row in rows]
    series = {f"÷ {floor.upper()}": [_n(row[f"calls_over_{floor}"]) for row in rows] for floor in ("f0", "f1")}
    _bars(rate, fronts, series, SHADES)
    rate.set_title("calls/s × floor", fontsize=9, color=MUTED)
    _bound(rate, 0.68, "native ≥ .68 of F0")
    _bound(rate, 0.42, "grpcio ≥ .42 of F0")
    times = {quantile: [_n(row[f"half_{quantile}_over_f1"]) for row in rows] for quantile in ("p50", "p99")}
    _bars(half, fronts, times, SHADES)
    half.set_title("latency at half load ÷ F1", fontsize=9, color=MUTED)
    _bound(half, 2.5, "p50 ≤ 2.5")
    _bound(half, 12.0, "p99 ≤ 12")
    return figure


def hot_path(rows: Rows) -> Figure:
    """Microseconds of the processor per call, by stage."""
    figure, (axes,) = _figure("What does the processor do for a call?", height=1.2 + 0.5 * len(rows))
    names = [f"{row['of']}, {row['front']}" for row in rows]
    left = [0.0] * len(rows)
    for stage, colour in COLOURS.items():
        column = f"{stage.replace(' ', '_').lower()}_us"
        sizes = [_n(row.get(column, 0.0)) for row in rows]
        axes.barh(names, sizes, left=left, color=colour, label=stage, height=0.7)
        left = [one + size for one, size in zip(left, sizes, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("µs per call at saturation, one core", fontsize=9, color=MUTED)
    figure.legend(fontsize=8, frameon=False, ncols=9, loc="outside lower center", columnspacing=1.0)
    return figure


def fanout(rows: Rows) -> Figure:
    """Telling many."""
    figure, (when, cost, room) = _figure("How fast, and at what cost, do ten thousand hear of it?", 3)
    fronts = [str(row["front"]) for row in rows]
    plain_of = rows[0]
    latency = [*(_n(row["burst_p99_ms"]) for row in rows), _n(plain_of["plain_burst_p99_ms"])]
    cpu = [*(_n(row["cpu_us_per_message"]) for row in rows), _n(plain_of["plain_cpu_us_per_message"])]
    size = [*(_n(row["bytes_per_subscriber"]) for row in rows), _n(plain_of["plain_bytes_per_subscriber"])]
    names = [*fronts, "plain aio"]
    for axes, values, title in (
        (when, latency, "commit → receipt, p99 in ms"),
        (cost, cpu, "µs of the processor per message"),
        (room, [one / 1000 for one in size], "kB per idle subscriber"),
    ):
        _bars(axes, names, {"": values}, SHADES)
        axes.set_title(title, fontsize=9, color=MUTED)
    _bound(when, 100.0, "≤ 100")
    _bound(room, 18.0, "≤ 18")
    return figure


def push(rows: Rows) -> Figure:
    """From an event to its push."""
    figure, (axes,) = _figure("How long from an event to the push that it calls for?")
    columns = ("unloaded_p50", "unloaded_p99", "half_p50", "half_p99")
    series = {str(row["front"]): [_n(row[column]) * 1e3 for column in columns] for row in rows}
    _bars(axes, ["alone, p50", "alone, p99", "half load, p50", "half load, p99"], series, SHADES)
    _bound(axes, _n(rows[0]["floor"]) * 1e3, "recommendation and two commits")
    axes.set_ylabel("ms", fontsize=9, color=MUTED)
    return figure


def _against_bounds(title: str, part: str, rows: Rows) -> Figure:
    """What was measured over its bound, or the bound over it where more is better: below 1 it holds."""
    found = [
        (bound.what, bound.limit / max(measured, 1e-9) if bound.at_least else measured / bound.limit)
        for bound in BOUNDS
        if bound.part == part and (measured := bound.figure(rows)) is not None
    ]
    figure, (axes,) = _figure(title, height=1.0 + 0.35 * max(1, len(found)))
    drawn = axes.barh([what for what, _ in found], [used for _, used in found], color=ACCENT, height=0.65)
    axes.bar_label(drawn, fmt="%.2f", fontsize=8, color=INK, padding=3)
    axes.axvline(1.0, color=LIMIT, linewidth=1, linestyle="--")
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("of what the bound allows", fontsize=9, color=MUTED)
    return figure


def ingest(rows: Rows) -> Figure:
    """Events and profiles."""
    return _against_bounds("What does it cost to remember people?", "ingest", rows)


def erasing(rows: Rows) -> Figure:
    """Erasing."""
    return _against_bounds("How long does it take to erase a person?", "erasing", rows)


def _growth(title: str, column: str, rows: Rows, limit: float | None) -> Figure:
    figure, (axes,) = _figure(title)
    for front in dict.fromkeys(str(row["front"]) for row in rows):
        alike = [row for row in rows if row["front"] == front]
        sizes, costs = [_n(row[column]) for row in alike], [_n(row["cost_over_smallest"]) for row in alike]
        axes.plot(sizes, costs, marker="o", color=COLOUR.get(front, MUTED), label=front)
        for size, cost in zip(sizes, costs, strict=True):
            axes.annotate(f"{cost:.2f}", (size, cost), xytext=(0, 6), textcoords="offset points", fontsize=8, color=INK)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.2 * max(limit or 0.0, *(_n(row["cost_over_smallest"]) for row in rows), 1.0))
    axes.set_xlabel(column, fontsize=9, color=MUTED)
    axes.set_ylabel("cost ÷ the smallest", fontsize=9, color=MUTED)
    if limit is not None:
        _bound(axes, limit, f"≤ {limit:g}")
    axes.legend(fontsize=8, frameon=False)
    return figure


def items(rows: Rows) -> Figure:
    """More items."""
    return _growth("What does a call cost when there are more items?", "items", rows, 3.0)


def people(rows: Rows) -> Figure:
    """More people."""
    return _growth("What does a call cost when there are more people?", "people", rows, None)


def overload(rows: Rows) -> Figure | None:
    """Three times too much."""
    surges = [row for row in rows if "answered_p99_ms" in row]
    if not surges:
        return None
    figure, (share, late) = _figure("What becomes of calls when three times too many come?", 2)
    names = [f"{row['front']}\n{row['deadline_ms']} ms" for row in surges]
    answered = [_n(row["answered_over_carried"]) / _n(row["offered_over_carried"]) for row in surges]
    refused = [_n(row["refused_share"]) for row in surges]
    bottom = [0.0] * len(surges)
    rest = [max(0.0, 1 - one - other) for one, other in zip(answered, refused, strict=True)]
    for label, values, colour in (
        ("answered", answered, ACCENT), ("refused", refused, "#d08c3c"), ("neither", rest, LIMIT)
    ):  # fmt: skip
        share.bar(names, values, 0.6, bottom=bottom, color=colour, label=label)
        bottom = [one + value for one, value in zip(bottom, values, strict=True)]
    figure.legend(*share.get_legend_handles_labels(), fontsize=8, frameon=False, ncols=3, loc="outside lower left")
    share.set_title("share of the calls, by front and deadline", fontsize=9, color=MUTED)
    series = {
        "half load": [_n(row["half_p99_ms"]) for row in surges],
        "answered": [_n(row["answered_p99_ms"]) for row in surges],
        "refused": [_n(row["refused_p99_ms"]) for row in surges],
    }
    _bars(late, names, series, SHADES)
    late.set_title("p99 in ms", fontsize=9, color=MUTED)
    return figure


def retrieval(rows: Rows) -> Figure:
    """Search over exact search."""
    figure, (axes,) = _figure("How much faster than exact search, at recall .95?")
    _lines(axes, rows, ("vectors", "dim", "metric"), "items", "ratio")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("items", fontsize=9, color=MUTED)
    axes.set_ylabel("time ÷ exact search", fontsize=9, color=MUTED)
    return figure


def filters(rows: Rows) -> Figure:
    """Filtered over unfiltered search."""
    figure, (axes,) = _figure("What does a filter cost?", height=3.4)
    _lines(axes, [row for row in rows if "pass_rate" in row], ("vectors", "items", "filter"), "pass_rate", "ratio")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("share of the items that passes", fontsize=9, color=MUTED)
    axes.set_ylabel("time ÷ without a filter", fontsize=9, color=MUTED)
    _bound(axes, 2.0, "100,000 items ≤ 2")
    _bound(axes, 4.0, "1,000,000 items ≤ 4")
    return figure


def delta(rows: Rows) -> Figure | None:
    """A full delta over none."""
    found = [row for row in rows if "delta_rows" in row]
    if not found:
        return None
    figure, (axes,) = _figure("What do changes since the release cost a search?")
    names = [f"{_n(row['items']):,.0f} items,\n{_n(row['delta_rows']):,.0f} changed" for row in found]
    _bars(axes, names, {"": [_n(row["ratio"]) for row in found]}, SHADES)
    axes.set_ylabel("time ÷ without", fontsize=9, color=MUTED)
    _bound(axes, 1.5, "1,000,000 items ≤ 1.5")
    _bound(axes, 1.25, "100,000 items ≤ 1.25")
    return figure


def _lines(axes: Any, rows: Rows, by: Sequence[str], x: str, y: str) -> None:
    """A line for each combination of the values of some columns."""
    lines: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for row in rows:
        key = tuple(f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in by)
        lines.setdefault(key, []).append((_n(row[x]), _n(row[y])))
    for number, (key, points) in enumerate(lines.items()):
        points.sort()
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1.2,
                  color=SHADES[number % len(SHADES)], linestyle=("-", "--", ":")[number // len(SHADES) % 3],
                  label=", ".join(key))  # fmt: skip
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _n(value: object) -> float:
    number = NEVER if value == "never" else float(str(value))
    return number if math.isfinite(number) else 0.0


PLOTS: dict[str, Draw] = {
    "serving": serving, "hot-path": hot_path, "fanout": fanout, "push": push, "items": items, "ten-million": items,
    "people": people, "ingest": ingest, "erasing": erasing, "overload": overload,
    "retrieval": retrieval, "filters": filters, "delta": delta,
}  # fmt: skip
"""By the part's marker; None when the figures do not suffice."""
