"""How an index was chosen, for people: every trial on one chart and in one table, and why the winner won."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from tidings_index_builder.candidates import EXACT, lists_of
from tidings_index_builder.page import ACCENT, INK, LIMIT, MUTED, inline, lettering, plain
from tidings_index_builder.race import NEAR
from tidings_index_builder.trial import Trial
from tidings_index_builder.tune import Tuned

COLOURS = {
    "Flat": "#8a94a6",
    "SQfp16": "#4a5568",
    "SQ8": "#98744b",
    "SQ6": "#b59a76",
    "SQ4": "#c9b79d",
    "HNSW32": "#d9822b",
}
LIST_COLOURS = ("#2f74c0", "#7db3e6", "#173f70", "#8e5bb5", "#1c9aa0", "#5f6fd6", "#b08bd0")
TITLES = (
    "index",
    "setting",
    "items",
    "recall",
    "recall while tuning",
    "µs/query",
    "bytes/item",
    "build s",
    "what became of it",
)


def why(tuned: Tuned) -> str:
    """One paragraph: what won and by how much, what came next, what fell short, and what choosing cost."""
    return " ".join(part.strip() for part in _sentences(tuned))


def how(tuned: Tuned) -> str:
    """How to read the chart."""
    return (
        f"Recall is the share of the exact {tuned.k} nearest items that an index finds, here for the users that "
        f"selected; the winner's own figure above is that of {len(tuned.report_queries):,} users that had no part in "
        "choosing it. Speed is the median of interleaved runs, one query per call, a random user each time. Small dots "
        "are settings on the way, timed in passing; an empty mark falls short of the target"
        + ("; diamonds were tried on a sample of the items only." if _screened(tuned) else ".")
    )


def trial_table(tuned: Tuned) -> tuple[Sequence[str], list[tuple[list[str], str]]]:
    """Titles, and a row per trial with its CSS class: those of all items, the fastest first, then the sample's."""
    rows = []
    for trial in sorted(tuned.trials, key=lambda trial: (-trial.items, trial.microseconds)):
        cells = [
            trial.key,
            setting(trial.parameters) or "-",
            f"{trial.items:,}",
            f"{trial.select_recall:.4f}",
            f"{trial.tune_recall:.4f}",
            f"{trial.microseconds:,.1f}",
            f"{trial.bytes_per_item:,.0f}",
            f"{trial.build_seconds:.2f}",
            trial.fate,
        ]
        rows.append((cells, "won" if trial is tuned.winner else "" if trial.meets else "short"))
    for key, reason in tuned.skipped:
        rows.append(([key, *["-"] * (len(TITLES) - 2), f"skipped: {reason}"], "short"))
    return TITLES, rows


def setting(parameters: Mapping[str, int]) -> str:
    """Search parameters in words."""
    return ", ".join(f"{name} {value}" for name, value in parameters.items())


def chart(tuned: Tuned) -> str:
    """An <svg>: above recall, below bytes per item, both over the time of a query, with the limits as lines."""
    with lettering():
        figure = Figure(figsize=(9.6, 6.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 2))
        for trial, colour in _coloured(tuned.trials):
            if len(trial.steps) > 1:
                # Timed once, in passing: a cloud, where a line would pretend to more.
                times, recalls = zip(*((step.microseconds, step.recall) for step in trial.steps), strict=True)
                above.scatter(times, recalls, s=12, color=colour, alpha=0.3, linewidths=0)
            _mark(above, trial, trial.select_recall, colour, tuned)
            _mark(below, trial, trial.bytes_per_item, colour, tuned)
        won = tuned.winner
        for axes, value in ((above, won.select_recall), (below, won.bytes_per_item)):
            axes.scatter(
                won.microseconds, value, s=210, facecolors="none", edgecolors=ACCENT, linewidths=2, zorder=4,
                clip_on=False, label=f"chosen: {won.key}" if axes is above else None,
            )  # fmt: skip
        _limit(above, tuned.target, f"target {tuned.target:g}", ACCENT)
        if tuned.budgets.bytes_per_item is not None:
            most = tuned.budgets.bytes_per_item
            _limit(below, most, f"at most {most:g} bytes per item", LIMIT)
        _frame(above, below, tuned)
        above.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9, labelspacing=0.6)
        return inline(figure)


def _sentences(tuned: Tuned) -> Iterator[str]:
    won, whole = tuned.winner, [trial for trial in tuned.trials if trial.items == tuned.winner.items]
    exact = next((trial for trial in whole if trial.key == EXACT), None)
    asked = f"where {tuned.target:g} was asked"
    kept = f"it finds {tuned.recall:.4f} of the nearest {tuned.k} for users that had no part in choosing it, {asked}."
    if won.key == EXACT:
        yield f"Exact search won with {won.microseconds:,.0f} µs per query: it misses nothing, and nothing that surely "
        yield f"reaches {tuned.target:g} is clearly faster or smaller."
    else:
        named = f"{won.key}{f' with {setting(won.parameters)}' if won.parameters else ''}"
        times = "" if exact is None else f", {exact.microseconds / won.microseconds:.1f} times as fast as exact search"
        yield f"{named} won: a query takes {won.microseconds:,.0f} µs{times}, and {kept}"
    yield from _next(won, [trial for trial in whole if trial.meets and trial is not won])
    short = [trial for trial in tuned.trials if not trial.meets]
    if short:
        named = ", ".join(f"{trial.key} ({trial.select_recall:.3f})" for trial in short)
        yield f"{len(short)} fell short or took too much: {named}."
    screened = _screened(tuned)
    if screened:
        yield f"All {len(screened)} candidates were tried on {screened[0].items:,} of the {won.items:,} items; "
        yield f"{sum(trial.fate == 'went on' for trial in screened)} went on and were built whole."
    limits = []
    if tuned.budgets.bytes_per_item is not None:
        limits.append(f"{tuned.budgets.bytes_per_item:g} bytes per item")
    if tuned.budgets.build_seconds is not None:
        limits.append(f"{tuned.budgets.build_seconds:g} seconds")
    if limits:
        skipped = f"; {len(tuned.skipped)} candidates were skipped for lack of time" if tuned.skipped else ""
        yield f"The limit{'s were' if len(limits) > 1 else ' was'} {' and '.join(limits)}{skipped}."
    times = f", {tuned.seconds / won.build_seconds:.1f} times one build of the winner" if won.build_seconds > 1 else ""
    yield f"Choosing took {tuned.seconds:,.1f} s{times}; memory came to {tuned.peak_bytes / 2**20:,.0f} MiB "
    yield f"(up to {tuned.expected_bytes / 2**20:,.0f} were expected)."


def _next(won: Trial, others: Sequence[Trial]) -> Iterator[str]:
    """What came next, when anything else reached the target."""
    if not others:
        return
    second = min(others, key=lambda trial: trial.microseconds)
    slower = second.microseconds / won.microseconds - 1
    apart = f"{slower:.0%} slower" if slower > NEAR - 1 else "as fast, as far as can be told"
    sizes = f"{second.bytes_per_item:,.0f} bytes per item against {won.bytes_per_item:,.0f}"
    yield f"Next came {second.key}: {apart}, {sizes}."


def _screened(tuned: Tuned) -> list[Trial]:
    return [trial for trial in tuned.trials if trial.items < tuned.winner.items]


def _coloured(trials: Sequence[Trial]) -> Iterator[tuple[Trial, str]]:
    """Those of all items first, each with a colour of its index; those with lists have several."""
    tones = iter(LIST_COLOURS)
    for trial in sorted(trials, key=lambda trial: -trial.items):
        yield trial, next(tones, INK) if lists_of(trial.key) else COLOURS.get(trial.key, INK)


def _mark(axes: Any, trial: Trial, value: float, colour: str, tuned: Tuned) -> None:
    """A trial's mark: a dot, or a smaller diamond when it was tried on a sample; empty when it falls short."""
    sample = trial.items < tuned.winner.items
    axes.scatter(
        trial.microseconds,
        value,
        s=26 if sample else 46,
        marker="D" if sample else "o",
        color=colour if trial.meets else "white",
        edgecolors=colour,
        linewidths=1.5,
        zorder=3,
        alpha=0.75 if sample else 1.0,
        label=f"{trial.key}{' (sample)' if sample else ''}",
        clip_on=False,
    )


def _limit(axes: Any, value: float, text: str, colour: str) -> None:
    axes.axhline(value, color=colour, linewidth=1, linestyle=(0, (5, 4)))
    axes.annotate(
        text, (0, value), xycoords=("axes fraction", "data"), xytext=(4, -12), textcoords="offset points", color=colour,
        fontsize=9,
    )  # fmt: skip


def _frame(above: Any, below: Any, tuned: Tuned) -> None:
    lowest = min(tuned.target, *(trial.select_recall for trial in tuned.trials))
    above.set_ylim(max(0.0, lowest - 0.6 * (1.0 - lowest) - 0.02), 1.005)
    above.set_ylabel(f"recall@{tuned.k}", color=MUTED)
    most = max(tuned.budgets.bytes_per_item or 0.0, *(trial.bytes_per_item for trial in tuned.trials))
    below.set_ylim(0, most * 1.15)
    below.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    below.set_ylabel("bytes per item", color=MUTED)
    times = [trial.microseconds for trial in tuned.trials]
    below.set_xscale("log")
    below.set_xlim(min(times) / 2, max(times) * 1.6)
    below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    below.xaxis.set_minor_formatter(NullFormatter())
    if max(times) / min(times) < 30:
        below.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))
    below.set_xlabel("µs per query, one thread (logarithmic; further left is faster)", color=MUTED)
    for axes in (above, below):
        plain(axes)
