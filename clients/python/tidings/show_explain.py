"""How the `tidings` command shows explanations and audiences to people."""

from collections.abc import Sequence
from datetime import datetime

from tidings import model_audience, model_explain
from tidings.show import clean, table

_BLOCKS = {"user": "of the user", "item": "of the item", "pair": "of both"}


def explanation(found: model_explain.Explanation) -> str:
    """Return what became of each item, then what it was made from."""
    parts = [_item(item) for item in found.items] or ["no items"]
    return "\n\n".join([*parts, "\n".join(_origin(found))])


def member(found: model_audience.AudienceMember) -> str:
    """Return one user of an audience: value, user, and the item that has it."""
    return f"{found.score:9.4f}  {clean(found.user_id)}  {clean(found.item_id)}"


def _item(item: model_explain.ItemExplanation) -> str:
    lines = [f"{clean(item.item_id)}  {item.verdict.replace('_', ' ')}: {clean(item.detail)}"]
    lines += [f"  also kept out: {clean(bar.detail)}" for bar in item.bars[1:]]
    if item.place:
        score = "" if item.score is None else f", score {item.score:.4f}"
        lines.append(f"  place {item.place}{score}")
    lines += [f"  {clean(move.rule)}: place {move.before} to {move.after}" for move in item.moves]
    if item.similarity is not None:
        rank = f", number {item.exact_rank:,} of all that may be found" if item.exact_rank else ""
        lines.append(f"  similarity {item.similarity:.4f}{rank}")
    reasons = (" ".join(part for part in (r.code, r.item_id, r.text) if part) for r in item.reasons)
    if item.reasons:
        lines.append(f"  because: {clean(', '.join(reasons))}")
    lines += _sources(item.sources)
    for block, words in _BLOCKS.items():
        seen = [f"{clean(one.name)} {one.value:.4g}" for one in item.features if one.block == block and one.value]
        if seen:
            lines.append(f"  the ranker sees {words}: {', '.join(seen)}")
    return "\n".join(lines)


def _sources(sources: Sequence[model_explain.SourceVerdict]) -> list[str]:
    rows = [
        (
            "",
            clean(one.source),
            one.status.replace("_", " "),
            str(one.rank) if one.rank else "",
            "" if one.score is None else f"{one.score:.4f}",
        )
        for one in sources
    ]
    return table(("", "source", "", "rank", "score"), rows, right=(3, 4)) if rows else []


def _origin(found: model_explain.Explanation) -> list[str]:
    last = "" if found.last_score is None else f"; the last one in has score {found.last_score:.4f}"
    by = "the ranker" if found.ranked else "the order of the sources"
    may = "" if found.may_be_found is None else f"; {found.may_be_found:,} items may be found"
    lines = [f"{found.k} items wanted{last}; scores are by {by}{may}"]
    config = f"serving config {clean(found.serving_config)}" if found.serving_config else "no serving config"
    release = f"release {clean(found.release_id)}" if found.release_id else "no release"
    lines.append(f"{release}, {config}, {_time(found.answer_time)}")
    if found.decision is not None:
        made = found.decision
        state = ": ".join(word for word in (made.state, made.reason) if word)
        lines.append(
            f"decision {clean(made.decision_id)} for {clean(made.user_id)}, {clean(made.cause)}: {clean(state)}"
        )
    lines += [f"degraded: {clean(d.cause)} in {clean(d.stage)}: {clean(d.detail)}" for d in found.degraded]
    return lines


def _time(time: datetime | None) -> str:
    return "(no time)" if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"
