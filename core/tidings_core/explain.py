"""Why an item is in an answer, or why it is not: made from the answer itself, so that the two cannot differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from tidings_core.bars import Bar, Barred, Bars
from tidings_core.exact import may_be_found, rank_among, similarities
from tidings_core.features import CANDIDATE_FEATURES, ITEM_FEATURES, USER_FEATURES
from tidings_core.model import Answer, Considered, Query, Snapshot
from tidings_core.recommend import recommend
from tidings_core.sources import offered
from tidings_core.subjects import Subjects, resolve
from tidings_core.tables import Bool, Float32

Verdict = Literal["recommended", "unknown_item", Bar, "not_retrieved", "outranked", "held_back"]
"""What became of an item. `outranked`: its score was too small; `held_back`: by its score it had a place, and a rule
took it.
"""
Said = Literal["proposed", "passed", "silent", "left_out", "not_offered"]
"""What a source did: proposed the item; proposed others; had nothing to say about this user; was left out, since it
failed or the deadline was near; is not offered by the release.
"""
Block = Literal["user", "item", "pair"]


@dataclass(frozen=True, slots=True)
class SourceSaid:
    """What one source of the serving config said of an item: with what score, at which place from 1 (0: none)."""

    source: str
    said: Said
    rank: int = 0
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Move:
    """What one rule did to an item's place, from 1."""

    rule: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing the ranker sees."""

    block: Block
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What became of one item.

    `bars` is all that keeps it out of the answer, with a sentence each; the first is the verdict. `place` is from 1 in
    the order of the answer, which goes on after the items that were asked for; 0 and `score` 0.0 for no candidate.
    `similarity` to the user's vector is None without one, and for an item that has none; `exact_rank`, from 1,
    is its place by that among all items that may be found, 0 when it is none of them.
    """

    item_id: str
    row: int
    verdict: Verdict
    detail: str
    bars: tuple[Barred, ...] = ()
    place: int = 0
    score: float = 0.0
    sources: tuple[SourceSaid, ...] = ()
    moves: tuple[Move, ...] = ()
    features: tuple[Feature, ...] = ()
    similarity: float | None = None
    exact_rank: int = 0


@dataclass(frozen=True, slots=True)
class Explained:
    """An answer, and what became of some items.

    `last_score` is that of the answer's last item, None when it has none; `ranked` says whether scores are the
    ranker's; `may_be_found` is the number of items that no bar keeps out.
    """

    answer: Answer
    last_score: float | None
    ranked: bool
    may_be_found: int
    items: tuple[Explanation, ...]


def explain(query: Query, item_ids: Sequence[str], snapshot: Snapshot, now: float) -> Explained:
    """Answer a query and say what became of each of some items; without any, of those in the answer.

    `now` is Unix seconds.
    """
    (answer,) = recommend([query], snapshot, now, keep=True)
    considered = answer.considered
    if considered is None:
        return Explained(answer, None, False, 0, _unanswered(answer, item_ids, snapshot))
    subjects, _ = resolve([query], query.serving, snapshot, now)
    view = _View(query, answer, considered, subjects, snapshot, now)
    item_ids = item_ids or [snapshot.items[item.row] for item in answer.items]
    return Explained(
        answer,
        answer.items[-1].score if answer.items else None,
        considered.ranked,
        int(view.may.sum()),
        tuple(view.explain(item_id, row) for item_id, row in zip(item_ids, view.rows_of(item_ids), strict=True)),
    )


def _unanswered(answer: Answer, item_ids: Sequence[str], snapshot: Snapshot) -> tuple[Explanation, ...]:
    """Of items when nothing could be answered: the filter of the serving config does not fit the release."""
    bar: Barred = ("filtered", "; ".join(one.detail for one in answer.degraded))
    rows = snapshot.items.find_many(item_ids).tolist()
    return tuple(
        _unknown(item_id) if row < 0 else Explanation(item_id, row, *bar, (bar,))
        for item_id, row in zip(item_ids, rows, strict=True)
    )


def _unknown(item_id: str) -> Explanation:
    return Explanation(item_id, -1, "unknown_item", "the release has no such item")


class _View:
    """One answer with all that it was made from."""

    def __init__(
        self, query: Query, answer: Answer, considered: Considered, subjects: Subjects, snapshot: Snapshot, now: float
    ) -> None:
        self._query = query
        self._answer = answer
        self._considered = considered
        self._snapshot = snapshot
        self._places = [_places(order) for _, order in considered.steps]
        self._silent = {use.name: _why_silent(use.name, answer, considered, snapshot) for use in query.serving.sources}
        self._bars = Bars(query, subjects, snapshot, now)
        self.may: Bool = may_be_found(subjects, 0, snapshot)
        self._near: Float32 | None = similarities(subjects.vectors[0], snapshot) if subjects.has_vector[0] else None

    def rows_of(self, item_ids: Sequence[str]) -> list[int]:
        """The row of each item, -1 when it is not known."""
        rows: list[int] = self._snapshot.items.find_many(item_ids).tolist()
        return rows

    def explain(self, item_id: str, row: int) -> Explanation:
        if row < 0:
            return _unknown(item_id)
        bars = self._bars.of(row)
        at = int(np.searchsorted(self._considered.rows, row))
        there = at < len(self._considered.rows) and int(self._considered.rows[at]) == row
        places = [int(place[at]) for place in self._places] if there else []
        verdict, detail = self._verdict(row, bars, places)
        return Explanation(
            item_id,
            row,
            verdict,
            detail,
            bars,
            places[-1] if there else 0,
            float(self._considered.scores[at]) if there else 0.0,
            tuple(self._said(name, at if there else -1) for name in self._sources(at if there else -1)),
            self._moves(places),
            self._features(at) if there else (),
            float(self._near[row]) if self._near is not None and self._nearness(row) else None,
            self._exact_rank(row),
        )

    def _verdict(self, row: int, bars: Sequence[Barred], places: Sequence[int]) -> tuple[Verdict, str]:
        count = len(self._answer.items)
        if bars:
            return bars[0]
        if not places:
            return "not_retrieved", self._not_retrieved(row)
        if places[-1] <= count:
            return "recommended", f"place {places[-1]} of {count}"
        total = len(self._considered.rows)
        if places[0] > count:
            return "outranked", f"place {places[-1]} of {total} candidates, and the first {count} were asked for"
        rules = [f"{move.rule} moved it from {move.before} to {move.after}" for move in self._moves(places)]
        return "held_back", f"place {places[0]} by its score, but {', then '.join(rules)}"

    def _not_retrieved(self, row: int) -> str:
        if not self._nearness(row):
            whose = "the user" if self._near is None else "it"
            return f"no source proposed it, and {whose} has no vector"
        rank = self._exact_rank(row)
        return (
            f"no source proposed it; by vector it is number {rank:,} of the {int(self.may.sum()):,} that may be found"
        )

    def _nearness(self, row: int) -> bool:
        """Whether there is a vector on both sides."""
        return self._near is not None and bool(np.isfinite(self._near[row]))

    def _exact_rank(self, row: int) -> int:
        if self._near is None or not self._nearness(row) or not self.may[row]:
            return 0
        return rank_among(row, self._near, self.may)

    def _moves(self, places: Sequence[int]) -> tuple[Move, ...]:
        """What rules changed, when there is anything."""
        rules = [rule for rule, _ in self._considered.steps[1:]]
        steps = zip(rules, pairwise(places), strict=True) if places else ()
        return tuple(Move(rule, before, after) for rule, (before, after) in steps if before != after)

    def _sources(self, at: int) -> list[str]:
        """The sources to tell of: those of the serving config, and what pinned the item."""
        names = [use.name for use in self._query.serving.sources]
        others = [name for name in self._considered.sources if name not in names]
        return names + [name for name in others if self._said(name, at).said == "proposed"]

    def _said(self, source: str, at: int) -> SourceSaid:
        silent = self._silent.get(source)
        if silent is not None:
            return SourceSaid(source, silent)
        column = self._considered.sources.index(source)
        if at < 0 or not self._considered.present[at, column]:
            return SourceSaid(source, "passed")
        rank, score = self._considered.ranks[at, column], self._considered.said[at, column]
        return SourceSaid(source, "proposed", int(rank) + 1, float(score))

    def _features(self, at: int) -> tuple[Feature, ...]:
        considered = self._considered
        blocks: tuple[tuple[Block, Sequence[str], Float32], ...] = (
            ("user", (*USER_FEATURES, *self._snapshot.user_attributes), considered.user),
            ("item", ITEM_FEATURES, self._snapshot.item_features[considered.rows[at]]),
            ("pair", CANDIDATE_FEATURES, considered.pair[at]),
        )
        return tuple(
            Feature(block, name, value)
            for block, names, values in blocks
            for name, value in zip(names, values.tolist(), strict=True)
        )


def _places(order: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """The place of each candidate, from 1, in an order."""
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(1, len(order) + 1)
    return places


def _why_silent(source: str, answer: Answer, considered: Considered, snapshot: Snapshot) -> Said | None:
    """Why a source proposed nothing at all, None when it did."""
    if source not in offered(snapshot):
        return "not_offered"
    if any(one.stage == source and one.cause in ("deadline", "failed") for one in answer.degraded):
        return "left_out"
    if source not in considered.sources or not considered.present[:, considered.sources.index(source)].any():
        return "silent"
    return None
