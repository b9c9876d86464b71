"""What the `tidings` command prints: aligned text for people, JSON for machines."""

import dataclasses
import json
import math
import unicodedata
from collections.abc import Sequence
from datetime import datetime

from tidings import model

_TITLE_COLUMNS = 48


def as_json(value: object, *, ascii_only: bool) -> str:
    """Return a result as one line of JSON; its keys are the fields' names, times are ISO 8601 in UTC."""
    return json.dumps(value, ensure_ascii=ascii_only, default=_plain)


def recommendation(answer: model.Recommendation) -> str:
    """Return an answer as a table, then what gave it and what it had to do without."""
    header = ("#", "item", "title", "score", "sources", "reasons")
    rows = [
        (
            str(rank),
            _clean(item.item.item_id),
            _shorten(_clean(item.item.title), _TITLE_COLUMNS),
            f"{item.score:.4f}",
            _clean(", ".join(f"{source.source} {source.score:.4f}" for source in item.sources)),
            _clean(", ".join(f"{reason.code} {reason.item_id}".rstrip() for reason in item.reasons)),
        )
        for rank, item in enumerate(answer.items, start=1)
    ]
    lines = _table(header, rows, right=(0, 3)) if rows else ["no items"]
    lines += ["", _origin(answer)]
    lines += [f"degraded: {_clean(d.cause)} in {_clean(d.stage)}: {_clean(d.detail)}" for d in answer.degraded]
    return "\n".join(lines)


def releases(found: Sequence[model.Release]) -> str:
    """Return the releases as a table, the problems of broken ones below it."""
    if not found:
        return "no releases"
    header = ("release", "state", "built (UTC)", "items", "users", "index", "recall", "sources", "ranker")
    rows = [
        (_clean(release.release_id), release.state, "", "", "", "", "", "", "")
        if release.state is model.ReleaseState.BROKEN
        else (
            _clean(release.release_id),
            release.state,
            f"{release.create_time:%Y-%m-%d %H:%M}" if release.create_time else "",
            f"{release.item_count:,}",
            f"{release.user_count:,}",
            _clean(f"{release.index_key}, {release.metric}, {release.dim} dims"),
            f"{math.floor(release.recall * 1e4) / 1e4:.4f} at {release.recall_k}",
            _clean(", ".join(release.sources)),
            "yes" if release.ranked else "no",
        )
        for release in found
    ]
    problems = [f"{_clean(r.release_id)} is broken: {_clean(r.problem)}" for r in found if r.problem]
    return "\n".join(_table(header, rows, right=(3, 4)) + ([""] if problems else []) + problems)


def promotion(done: model.Promotion) -> str:
    """Return what serves now and what served before."""
    before = _clean(done.previous_release_id) or "none"
    return f"serving {_clean(done.release.release_id)}; before: {before}"


def age(seconds: float) -> str:
    """Return an age in the largest unit that leaves at least two of it: "95 s", "12 min", "5 h", "3 days"."""
    # Of two clocks one may be ahead.
    seconds = max(seconds, 0.0)
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _origin(answer: model.Recommendation) -> str:
    config = f"serving config {_clean(answer.serving_config)}"
    if not answer.release_id:
        return f"no release, {config}"
    built = f"release {_clean(answer.release_id)}, {age(answer.release_age_seconds)} old"
    return f"{built}, index {age(answer.index_age_seconds)} old, {config}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    cells = [header, *rows]
    widths = [max(_columns(row[at]) for row in cells) for at in range(len(header))]
    return ["  ".join(_pad(text, widths[at], at in right) for at, text in enumerate(row)).rstrip() for row in cells]


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - _columns(text))
    return space + text if right else text + space


def _columns(text: str) -> int:
    """Return how many columns a terminal gives a text: two for a wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    return sum(_char_columns(char) for char in text)


def _char_columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _shorten(text: str, columns: int) -> str:
    if _columns(text) <= columns:
        return text
    kept = 0
    for at, char in enumerate(text):
        kept += _char_columns(char)
        if kept >= columns:
            return text[:at].rstrip() + "…"
    return text


def _clean(text: str) -> str:
    """Return a text on one line; a shop's text may hold line breaks, and escapes that steer a terminal."""
    if text.isprintable():
        return text
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
