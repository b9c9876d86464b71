"""The report of a proof: one HTML page that carries all it shows and loads nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tidings.v1 import item_pb2
from tidings_core.tables import Float64
from tidings_index_builder.catalogue import Catalogue
from tidings_index_builder.page import ACCENT, INK, LINE, MUTED, STYLE, inline, lettering, plain, table
from tidings_training.proof import metrics
from tidings_training.proof.compare import Measured, best_of
from tidings_training.proof.prove import BASELINE, PIPELINE, Proof, as_json, whole_of

COLOURS = ("#0b6e4f", "#2f74c0", "#d9822b", "#8e5bb5", "#b33a3a", "#1c9aa0", "#8a94a6", "#4a5568", "#7db3e6", "#c2a83e")
PEOPLE = 6
SHOWN = 10
"""So many people are shown, each with so many items of their past and of each list."""
MORE = f"""
.hit {{ color: {ACCENT}; font-weight: 600; }}
.lists {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 18px; margin-top: 10px; }}
.lists ol {{ margin: 4px 0 0; padding-left: 22px; font-size: 13px; }}
.lists b {{ font-size: 13px; }}
h3 {{ font-size: 14px; margin: 18px 0 0; border-top: 1px solid {LINE}; padding-top: 12px; }}
"""


def proof_report(proof: Proof, catalogue: Catalogue | None) -> str:
    """The page. With a catalogue items are shown by their titles."""
    told = as_json(proof)
    k = max(proof.plan.ks)
    whole = whole_of(proof.measured)
    best = best_of(whole, k)
    ndcg = told["models"][best]["at"][str(k)]["ndcg"]
    cards = [
        (best, f"best, NDCG@{k} {ndcg:.4f}", "good"),
        (f"{told['questions']:,}", "questions", ""),
        (f"{told['known_items']:,}", "items, all ranked", ""),
        (f"{told['train_events']:,}", "events learned from", ""),
        (f"{told['test_events']:,}", "events held out", ""),
    ]
    as_of = f"{datetime.fromtimestamp(proof.split.as_of, UTC):%Y-%m-%d %H:%M} UTC"
    body = [
        f"<h1>Which model is worth what</h1><p>Protocol {proof.split.protocol}; learned as of {as_of}</p>",
        '<div class="cards">',
        *(
            f'<div class="card {kind}"><b>{escape(value)}</b><span>{escape(text)}</span></div>'
            for value, text, kind in cards
        ),
        "</div>",
        *(
            f'<section class="wide"><h2>The first {at} places</h2>{_metrics(told, whole, at, best)}</section>'
            for at in proof.plan.ks
        ),
        f"<section><h2>How it grows with the length of the list</h2>{_curves(proof, whole, k)}</section>",
        f"<section><h2>How sure it is</h2>{_intervals(proof, k)}<p>NDCG@{k} over {BASELINE}: the mean over questions, "
        f"and where it lies with {told['confidence']:.0%} when people are drawn anew {told['resamples']:,} "
        "times.</p></section>",
        _ablation(proof, told, k),
        f'<section class="wide"><h2>For whom, and with what</h2>{_slices(proof, whole)}<p>NDCG@{k}. Of a slice of '
        "people all counts that they wanted; of a slice of items only those items.</p></section>",
        f"<section><h2>People</h2>{_people(proof, whole, best, catalogue)}</section>",
        f'<section class="wide"><h2>What each cost</h2>{_costs(told)}</section>',
        f"<section><details><summary>All figures</summary><pre>{escape(json.dumps(told, indent=1))}</pre></details>"
        "</section>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Which model is worth what</title><style>{STYLE}{MORE}</style></head><body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def _metrics(told: Mapping[str, Any], whole: Mapping[str, Measured], k: int, best: str) -> str:
    names = (*metrics.METRICS, "coverage", "novelty", "diversity")
    rows = [
        (
            [name, *(f"{told['models'][name]['at'][str(k)][metric]:.4f}" for metric in names)],
            "won" if name == best else "",
        )
        for name in whole
    ]
    return table(("", *(f"{name.replace('_', ' ')}" for name in names)), rows)


def _curves(proof: Proof, whole: Mapping[str, Measured], k: int) -> str:
    known = proof.split.questions.known
    wanted = np.diff(proof.split.questions.wanted.indptr)[known].astype(np.float64)
    lengths = np.arange(1, k + 1)
    with lettering():
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        for axes, metric in zip(figure.subplots(1, 2), ("recall", "ndcg"), strict=True):
            column = metrics.METRICS.index(metric)
            for (name, one), colour in zip(whole.items(), _colours(len(whole)), strict=True):
                values = [metrics.measure(one.hits[known], wanted, int(at))[:, column].mean() for at in lengths]
                dashed = name.endswith(" served")
                axes.plot(lengths, values, color=colour, linewidth=1.4, label=name, linestyle=":" if dashed else "-")
            axes.set_xlabel("places", color=MUTED)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_title(metric.upper() if metric == "ndcg" else metric, color=INK, fontsize=10)
            plain(axes)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
        return inline(figure)


def _intervals(proof: Proof, k: int) -> str:
    told = [d for d in proof.differences if d.to == BASELINE and d.metric == "ndcg" and d.k == k][::-1]
    if not told:
        return "<p>Only one model was asked.</p>"
    with lettering():
        figure = Figure(figsize=(9.6, 0.7 + 0.32 * len(told)), layout="constrained")
        axes = figure.subplots()
        for place, one in enumerate(told):
            axes.plot([one.low, one.high], [place, place], color=ACCENT, linewidth=2)
            axes.plot(one.mean, place, "o", color=ACCENT, markersize=5)
        axes.axvline(0.0, color=INK, linewidth=1)
        axes.set_yticks(range(len(told)), [one.of for one in told])
        plain(axes)
        return inline(figure)


def _ablation(proof: Proof, told: Mapping[str, Any], k: int) -> str:
    """What `for-you` loses without each of its parts."""
    parts = [name for name in proof.measured if name.startswith(PIPELINE)]
    if len(parts) < 2:
        return ""
    whole = told["models"][PIPELINE]["at"][str(k)]
    rows = []
    for name in parts:
        at = told["models"][name]["at"][str(k)]
        less = "" if name == PIPELINE else f"{at['ndcg'] - whole['ndcg']:+.4f}"
        rows.append(([name, f"{at['recall']:.4f}", f"{at['ndcg']:.4f}", less, f"{at['coverage']:.4f}"], ""))
    head = ("", f"recall@{k}", f"NDCG@{k}", "against the whole", "coverage")
    return f'<section class="wide"><h2>Part by part</h2>{table(head, rows)}</section>'


def _slices(proof: Proof, whole: Mapping[str, Measured]) -> str:
    rows = []
    for one in proof.slices:
        values = [one.means[name]["ndcg"] for name in whole]
        top = max(values)
        cells = [f"{value:.4f}" for value in values]
        rows.append(([f"{one.name} ({one.about})", f"{one.questions:,}", *cells], "" if top > 0 else "short"))
    return table(("", "questions", *whole), rows)


def _costs(told: Mapping[str, Any]) -> str:
    rows = []
    for name, one in told["models"].items():
        options = ", ".join(f"{option} {value}" for option, value in one["options"].items())
        facts = ", ".join(
            f"{fact.replace('_', ' ')} {one[fact]:.4g}" if isinstance(one[fact], float) else f"{fact} {one[fact]}"
            for fact in ("rmse", "mae", "index", "index_recall", "same_lists", "ranker_lists")
            if fact in one
        )
        rows.append(([name, f"{one['seconds']:.2f}", f"{one['microseconds_per_question']:,.0f}", options, facts], ""))
    return table(("", "seconds to learn", "µs per question", "options", "facts"), rows)


@dataclass(frozen=True, slots=True)
class _Titles:
    """What an item is called."""

    names: Sequence[str]
    titles: Mapping[str, str]

    def __call__(self, row: int) -> str:
        return self.titles.get(self.names[row]) or self.names[row]


def _people(proof: Proof, whole: Mapping[str, Measured], best: str, catalogue: Catalogue | None) -> str:
    """A few people from the best served to the worst, with what they did last and what they got."""
    asked = proof.split.questions
    title = _Titles(proof.training.log.item_ids, {} if catalogue is None else _titles(catalogue))
    k = max(proof.plan.ks)
    known = np.flatnonzero(asked.known)
    reached: Float64 = proof.measured[best].at[k][:, metrics.METRICS.index("ndcg")]
    order = known[np.argsort(-reached, kind="stable")]
    chosen = order[np.unique(np.linspace(0, len(order) - 1, PEOPLE).astype(int))]
    models = [name for name in dict.fromkeys((best, PIPELINE, BASELINE)) if name in whole]
    told = []
    for place in chosen:
        wanted = set(asked.wanted[place].indices.tolist())
        past = asked.items[asked.starts[place] : asked.starts[place + 1]][::-1][:SHOWN].tolist()
        columns = [("did last, newest first", [(title(row), False) for row in past])]
        for name in models:
            rows = [row for row in proof.measured[name].lists[place][:SHOWN].tolist() if row >= 0]
            columns.append((f"got from {name}", [(title(row), row in wanted) for row in rows]))
        who = proof.training.log.user_ids[asked.people[place]]
        told.append(
            f"<h3>{escape(who)}, who wanted {len(wanted):,}</h3>"
            f'<div class="lists">{"".join(_list(head, lines) for head, lines in columns)}</div>'
        )
    return "<p>From the best served to the worst; what they then wanted is green.</p>" + "".join(told)


def _list(head: str, lines: Sequence[tuple[str, bool]]) -> str:
    shown = "".join(f'<li class="{"hit" if hit else ""}">{escape(text)}</li>' for text, hit in lines)
    return f"<div><b>{escape(head)}</b><ol>{shown}</ol></div>"


def _titles(catalogue: Catalogue) -> dict[str, str]:
    return {
        name: item_pb2.Item.FromString(payload).title
        for name, payload in zip(catalogue.ids, catalogue.payloads, strict=True)
    }


def _colours(count: int) -> list[str]:
    return [COLOURS[at % len(COLOURS)] for at in range(count)]
