"""The release's report: one HTML page that carries all it shows and loads nothing."""

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from io import StringIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from tidings_core.attributes import Attribute, Flag, Keyword, Number, Tags, Time
from tidings_core.features import ITEM_FEATURES
from tidings_core.release import Parts
from tidings_index_builder.tune import Trial, Tuned

INK, MUTED, ACCENT, LINE = "#1c2430", "#667085", "#0b6e4f", "#d7dce3"
COLOURS = {"Flat": "#8a94a6", "SQfp16": "#4a5568", "HNSW32": "#d9822b"}

STYLE = f"""
:root {{ color-scheme: light; }}
body {{ margin: 0; background: #f4f6f8; color: {INK}; font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }}
main {{ max-width: 1040px; margin: 0 auto; padding: 32px 20px 64px; }}
h1 {{ font-size: 26px; margin: 0; letter-spacing: -.01em; }}
h2 {{ font-size: 17px; margin: 0 0 12px; }}
p {{ margin: 4px 0 0; color: {MUTED}; }}
section {{ background: #fff; border: 1px solid {LINE}; border-radius: 10px; padding: 20px 22px; margin-top: 18px; }}
.cards {{ display: flex; flex-wrap: wrap; gap: 12px; margin-top: 20px; }}
.card {{ background: #fff; border: 1px solid {LINE}; border-radius: 10px; padding: 12px 16px; flex: 1 1 auto; }}
.card b {{ display: block; font-size: 19px; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.card span {{ color: {MUTED}; font-size: 13px; }}
.good b {{ color: {ACCENT}; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }}
th {{ color: {MUTED}; font-weight: 500; text-align: right; border-bottom: 1px solid {LINE}; padding: 4px 10px; }}
td {{ text-align: right; padding: 4px 10px; border-bottom: 1px solid #eef1f4; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
tr.won td {{ background: #e8f5ef; font-weight: 600; }}
tr.short td {{ color: {MUTED}; }}
.pair {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 18px; }}
svg {{ max-width: 100%; height: auto; }}
pre {{ background: #f4f6f8; border-radius: 8px; padding: 14px; overflow-x: auto; font-size: 13px; margin: 0; }}
summary {{ cursor: pointer; font-weight: 600; font-size: 17px; }}
details pre {{ margin-top: 12px; }}
"""


def release_report(parts: Parts, tuned: Tuned) -> str:
    """The page of a release that is about to be written, with the trials its index was chosen from."""
    info = parts.index_info
    built = f"{datetime.fromtimestamp(info.built_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    cards = [
        (f"{info.recall:.4f}", f"recall@{info.recall_k}, target {info.recall_target:g}", "good"),
        (f"{info.microseconds_per_query:,.0f} µs", "per query, one thread", "good"),
        (info.key, _parameters(info.parameters) or "no search parameter", ""),
        (f"{len(parts.item_ids):,}", "items", ""),
        (f"{len(parts.user_ids):,}", "users", ""),
        (f"{parts.item_vectors.shape[1]}", f"dimensions, {parts.metric.replace('_', ' ')}", ""),
    ]
    measured = (
        f"Recall is the share of the exact {info.recall_k} nearest items that the index finds, for "
        f"{info.recall_queries:,} users that its setting was not tuned on; they were used to accept it. Speed is "
        "the median of interleaved runs, one query per call, a random user each time. Small dots are settings on the "
        "way, timed once; an empty dot falls short of the target."
    )
    body = [
        f"<h1>Release report</h1><p>Built {built}</p>",
        '<div class="cards">',
        *(
            f'<div class="card {kind}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
            for value, label, kind in cards
        ),
        "</div>",
        f"<section><h2>How the index was chosen</h2>{_plot(tuned, info.recall_target)}<p>{measured}</p></section>",
        f'<section class="wide"><h2>Trials</h2>{_trials(tuned)}</section>',
        f'<div class="pair"><section><h2>What it serves</h2>{_offers(parts)}</section>',
        f"<section><h2>Sizes</h2>{_sizes(parts)}</section></div>",
        f'<section class="wide"><h2>Item features</h2>{_features(parts)}</section>',
        f"<section><details open><summary>Lineage</summary><pre>{_lineage(parts)}</pre></details></section>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Release report, {built}</title><style>{STYLE}</style></head><body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def _plot(tuned: Tuned, target: float) -> str:
    """Recall over time per query: a large dot where each candidate ended, small ones for the settings tried before."""
    # Text stays text, in the page's own font.
    with matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "text.color": INK}):
        figure = Figure(figsize=(9.6, 4.6), layout="constrained")
        axes = figure.subplots()
        for trial, colour in _colours(tuned.trials):
            # Timed once, in passing: a cloud, where a line would pretend to more.
            if len(trial.steps) > 1:
                times = [step.microseconds for step in trial.steps]
                axes.scatter(times, [step.recall for step in trial.steps], s=14, color=colour, alpha=0.35, linewidths=0)
            axes.scatter(
                trial.microseconds,
                trial.verify_recall,
                s=46,
                color=colour if trial.meets else "white",
                edgecolors=colour,
                linewidths=1.5,
                zorder=3,
                label=trial.key,
                clip_on=False,
            )
        winner = tuned.winner
        axes.scatter(
            winner.microseconds,
            winner.verify_recall,
            s=210,
            facecolors="none",
            edgecolors=ACCENT,
            linewidths=2,
            zorder=4,
            clip_on=False,
            label=f"chosen: {winner.key}",
        )
        axes.axhline(target, color=ACCENT, linewidth=1, linestyle=(0, (5, 4)))
        axes.annotate(
            f"target {target:g}",
            (1, target),
            xycoords=("axes fraction", "data"),
            xytext=(-4, -12),
            textcoords="offset points",
            ha="right",
            color=ACCENT,
            fontsize=9,
        )
        _frame(axes, tuned.trials, target, tuned.k)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9, labelspacing=0.7)
        return _inline(figure)


def _colours(trials: Sequence[Trial]) -> Iterable[tuple[Trial, str]]:
    """A colour per trial; the IVF family has several."""
    tones = iter(("#2f74c0", "#7db3e6", "#173f70", "#8e5bb5", "#1c9aa0"))
    for trial in trials:
        yield trial, next(tones, INK) if trial.key.startswith("IVF") else COLOURS.get(trial.key, INK)


def _frame(axes: Any, trials: Sequence[Trial], target: float, k: int) -> None:
    lowest = min(target, *(trial.verify_recall for trial in trials))
    axes.set_ylim(max(0.0, lowest - 0.6 * (1.0 - lowest) - 0.02), 1.005)
    times = [trial.microseconds for trial in trials]
    axes.set_xscale("log")
    axes.set_xlim(min(times) / 2, max(times) * 1.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if max(times) / min(times) < 30:
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))
    axes.set_xlabel("µs per query, one thread (logarithmic; further left is faster)", color=MUTED)
    axes.set_ylabel(f"recall@{k}", color=MUTED)
    axes.grid(True, which="major", color=LINE, linewidth=0.6)
    axes.tick_params(which="both", colors=MUTED, labelsize=9, length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _inline(figure: Figure) -> str:
    """The figure as an <svg> element without the header and the metadata that only a file of its own needs."""
    out = StringIO()
    figure.savefig(out, format="svg", transparent=True)
    svg = out.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)


def _trials(tuned: Tuned) -> str:
    rows = []
    for trial in sorted(tuned.trials, key=lambda trial: trial.microseconds):
        kind = "won" if trial is tuned.winner else "" if trial.meets else "short"
        cells = [
            trial.key,
            _parameters(trial.parameters) or "-",
            f"{trial.verify_recall:.4f}",
            f"{trial.tune_recall:.4f}",
            f"{trial.microseconds:,.1f}",
            f"{trial.bytes_per_item:,.0f}",
            f"{trial.build_seconds:.2f}",
            "chosen" if trial is tuned.winner else "meets it" if trial.meets else "falls short",
        ]
        rows.append((cells, kind))
    head = ("index", "setting", "recall", "recall while tuning", "µs/query", "bytes/item", "build s", "target")
    return _table(head, rows)


def _offers(parts: Parts) -> str:
    past = parts.histories
    facts = {
        "ann": "nearest items by vector",
        "similar": f"{int((parts.neighbours.rows >= 0).sum()):,} neighbours" if parts.neighbours else "no neighbours",
        "trending": f"{len(parts.trending.rows):,} items" if parts.trending else "no popularity",
        "ranker": f"{len(parts.ranker) / 1e3:,.1f} kB of ONNX" if parts.ranker else "none: retrieval order counts",
        "histories": f"{len(past.rows):,} items bought" if past else "none",
        "prices": f"{np.count_nonzero(parts.item_features[:, ITEM_FEATURES.index('log_price')]):,} items have one",
        **{f"attribute {name}": _coverage(attribute) for name, attribute in parts.attributes.items()},
    }
    return _table(("part", "what there is"), [([name, fact], "") for name, fact in facts.items()])


def _coverage(attribute: Attribute) -> str:
    match attribute:
        case Keyword(codes, values):
            return f"{len(values):,} values on {int((codes >= 0).sum()):,} items"
        case Tags(starts, _, values):
            return f"{len(values):,} values on {int((np.diff(starts) > 0).sum()):,} items"
        case Number(known) | Time(known):
            return f"{attribute.kind} of {int((~np.isnan(known)).sum()):,} items"
        case Flag(flags):
            return f"{int((flags == 1).sum()):,} items yes, {int((flags == 0).sum()):,} no"


def _sizes(parts: Parts) -> str:
    past, near = parts.histories, parts.neighbours
    sizes = {
        "item vectors": parts.item_vectors.nbytes,
        "user vectors": parts.user_vectors.nbytes,
        "index": parts.index_info.bytes_per_item * len(parts.item_ids),
        "payloads": sum(map(len, parts.payloads)),
        "item features": parts.item_features.nbytes,
        "neighbours": near.rows.nbytes + near.scores.nbytes if near else 0,
        "histories": past.rows.nbytes + past.times.nbytes + past.counts.nbytes if past else 0,
        "ranker": len(parts.ranker or b""),
    }
    return _table(("part", "MB"), [([name, f"{size / 1e6:,.2f}"], "") for name, size in sizes.items()])


def _features(parts: Parts) -> str:
    block = parts.item_features.astype(np.float64)
    rows = [
        ([name, *(f"{value:.3f}" for value in (column.mean(), column.std(), column.min(), column.max()))], "")
        for name, column in zip(ITEM_FEATURES, block.T, strict=True)
    ]
    return _table(("feature", "mean", "standard deviation", "least", "most"), rows)


def _lineage(parts: Parts) -> str:
    shown = dict(parts.lineage)
    if isinstance(shown.get("build"), dict):
        # The trials have their own table.
        shown["build"] = {name: fact for name, fact in shown["build"].items() if name != "trials"}
    return escape(json.dumps(shown, indent=2, ensure_ascii=False, default=str))


def _parameters(parameters: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in parameters.items())


def _table(head: Sequence[str], rows: Sequence[tuple[Sequence[str], str]]) -> str:
    """A table; each row comes with its CSS class."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = [
        f'<tr class="{kind}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>" for cells, kind in rows
    ]
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
