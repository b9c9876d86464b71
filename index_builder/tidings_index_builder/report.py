"""The release's report: one HTML page that carries all it shows and loads nothing."""

import json
from datetime import UTC, datetime
from html import escape

import numpy as np

from tidings_core.attributes import Attribute, Flag, Keyword, Number, Tags, Time
from tidings_core.features import ITEM_FEATURES
from tidings_core.release import Parts
from tidings_index_builder.page import STYLE, table
from tidings_index_builder.tune import Tuned
from tidings_index_builder.tuning_report import chart, how, setting, trial_table, why


def release_report(parts: Parts, tuned: Tuned) -> str:
    """The page of a release that is about to be written, with the trials its index was chosen from."""
    info = parts.index_info
    built = f"{datetime.fromtimestamp(info.built_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    cards = [
        (f"{info.recall:.4f}", f"recall@{info.recall_k}, target {info.recall_target:g}", "good"),
        (f"{info.microseconds_per_query:,.0f} µs", "per query, one thread", "good"),
        (info.key, setting(info.parameters) or "no search parameter", ""),
        (f"{len(parts.item_ids):,}", "items", ""),
        (f"{len(parts.user_ids):,}", "users", ""),
        (f"{parts.item_vectors.shape[1]}", f"dimensions, {parts.metric.replace('_', ' ')}", ""),
    ]
    body = [
        f"<h1>Release report</h1><p>Built {built}</p>",
        '<div class="cards">',
        *(
            f'<div class="card {kind}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
            for value, label, kind in cards
        ),
        "</div>",
        f"<section><h2>How the index was chosen</h2><p>{escape(why(tuned))}</p>{chart(tuned)}"
        f"<p>{escape(how(tuned))}</p></section>",
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


def _trials(tuned: Tuned) -> str:
    head, rows = trial_table(tuned)
    return table(head, rows)


def _offers(parts: Parts) -> str:
    past = parts.histories
    facts = {
        "ann": "nearest items by vector",
        "similar": f"{int((parts.neighbours.rows >= 0).sum()):,} neighbours" if parts.neighbours else "no neighbours",
        "trending": f"{len(parts.trending.rows):,} items" if parts.trending else "no popularity",
        "ranker": f"{len(parts.ranker) / 1e3:,.1f} kB of ONNX" if parts.ranker else "none: retrieval order counts",
        "encoder": f"{len(parts.encoder) / 1e3:,.1f} kB of ONNX" if parts.encoder else "none: order does not count",
        "histories": f"{len(past.rows):,} items bought" if past else "none",
        "prices": f"{np.count_nonzero(parts.item_features[:, ITEM_FEATURES.index('log_price')]):,} items have one",
        **{f"attribute {name}": _coverage(attribute) for name, attribute in parts.attributes.items()},
    }
    return table(("part", "what there is"), [([name, fact], "") for name, fact in facts.items()])


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
        "encoder": len(parts.encoder or b""),
    }
    return table(("part", "MB"), [([name, f"{size / 1e6:,.2f}"], "") for name, size in sizes.items()])


def _features(parts: Parts) -> str:
    block = parts.item_features.astype(np.float64)
    rows = [
        ([name, *(f"{value:.3f}" for value in (column.mean(), column.std(), column.min(), column.max()))], "")
        for name, column in zip(ITEM_FEATURES, block.T, strict=True)
    ]
    return table(("feature", "mean", "standard deviation", "least", "most"), rows)


def _lineage(parts: Parts) -> str:
    shown = dict(parts.lineage)
    if isinstance(shown.get("build"), dict):
        # The trials have their own table.
        shown["build"] = {name: fact for name, fact in shown["build"].items() if name != "tuning"}
    return escape(json.dumps(shown, indent=2, ensure_ascii=False, default=str))
