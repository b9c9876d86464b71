"""Explain: why an item is in an answer or in a decision, or why it is not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from tidings_core import explain as core
from tidings_core.bars import EXCLUDED
from tidings_core.errors import Conflict, InvalidInput, NotFound
from tidings_core.explain import Explanation, Feature, Move, SourceSaid
from tidings_core.features import CANDIDATE_FEATURES, ITEM_FEATURES, SCHEMA_HASH, USER_FEATURES
from tidings_core.model import Degradation, Query, ServingConfig, Snapshot
from tidings_core.ranked import Reason
from tidings_core.release import Release
from tidings_core.stored import Entry
from tidings_core.subjects import faults
from tidings_server.application.decision_record import read_record
from tidings_server.application.filter_record import read_filter
from tidings_server.application.recommend import told
from tidings_server.application.serving import Serving
from tidings_server.application.store import Store

SETTLE_SECONDS = 1.0
"""So long an answer that was just given may take to get into the ledger."""

Outcome = Literal["not_sent", "passed_over"]
"""What can become of an item of a decision besides: it was chosen, or would have been, and nothing was sent; it was
left out since something happened to it after it was recommended.
"""

Meet = Callable[[Query, Release], tuple[Query, Degradation | None]]
"""The query with the person who asks, and what could not be found out about that person."""


@dataclass(frozen=True, slots=True)
class ItemTold:
    """What became of one item. `verdict` and `detail` stand over those of `found`.

    `reasons` are those that the answer gave, each with the id of its item. `recorded`: it is told from the record.
    """

    found: Explanation
    verdict: core.Verdict | Outcome
    detail: str
    reasons: Sequence[tuple[str, str, str]] = ()
    recorded: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What became of some items in an answer that was made now, or in a decision that was made at `time`.

    `time` is Unix milliseconds. `may_be_found` is -1 where it is not known, `last_score` None where nothing was chosen.
    """

    release_id: str
    serving_config: str
    time: int
    k: int
    last_score: float | None
    ranked: bool
    may_be_found: int
    degraded: Sequence[Degradation]
    items: Sequence[ItemTold]
    entry: Entry | None = None


class Explain:
    """Explains answers and decisions."""

    def __init__(
        self,
        serving: Serving,
        meet: Meet,
        store: Store,
        serving_configs: Mapping[str, ServingConfig],
        settle: Callable[[float], bool],
        now: Callable[[], float],
    ) -> None:
        """`settle` waits so many seconds until answers given before are in the ledger. `now` gives Unix seconds."""
        self._serving = serving
        self._meet = meet
        self._store = store
        self._serving_configs = serving_configs
        self._settle = settle
        self._now = now

    def answer(self, query: Query, item_ids: Sequence[str]) -> Told:
        """What becomes of some items in the answer to a query now; without any, of those in the answer.

        Raises Conflict when no release answers, InvalidInput when the query does not fit it.
        """
        release = self._serving.release
        if release is None:
            raise Conflict("no release is promoted: promote one, then there is something to explain")
        now = self._now()
        snapshot = release.snapshot
        if found := faults(query, snapshot):
            raise InvalidInput(*((f"question.{field}", problem) for field, problem in found))
        met, missing = self._meet(query, release)
        made = core.explain(met, item_ids, snapshot, now)
        reasons = {item.row: _reasons(item.reasons, snapshot) for item in made.answer.items}
        return Told(
            release_id=release.manifest.release_id,
            serving_config=query.serving.name,
            time=int(now * 1000),
            k=query.k,
            last_score=made.last_score,
            ranked=made.ranked,
            may_be_found=made.may_be_found,
            degraded=told(missing, made.answer.degraded),
            items=[ItemTold(one, one.verdict, one.detail, reasons.get(one.row, ())) for one in made.items],
        )

    def decision(self, name: str, item_ids: Sequence[str]) -> Told:
        """What became of some items in the decision of a decision_id or push_id; without any, of those it chose.

        Raises NotFound when there is no such decision, Conflict when it has no record, StorageFailed.
        """
        entry = self._store.decision(name)
        if entry is None and self._settle(SETTLE_SECONDS):
            entry = self._store.decision(name)
        if entry is None:
            raise NotFound("there is no such decision: is it a decision_id or a push_id, and not too old?")
        if not entry.record:
            raise Conflict(f"the decision {entry.decision_id} has no record to explain it from")
        decided = _Decided(entry, read_record(entry.record))
        told = [decided.tell(item_id) for item_id in item_ids or decided.chosen]
        unknown = [one.found.item_id for one in told if not one.recorded]
        if unknown:
            again = self._again(decided, unknown)
            told = [one if one.recorded else again.get(one.found.item_id, one) for one in told]
        return Told(
            release_id=decided.record.get("release_id", ""),
            serving_config=decided.record.get("serving_config", ""),
            time=entry.time,
            k=decided.record.get("k", 0),
            last_score=decided.last_score,
            ranked=decided.candidates.get("ranked", False),
            may_be_found=-1,
            degraded=[Degradation(**one) for one in decided.record.get("degraded", ())],
            items=told,
            entry=entry,
        )

    def _again(self, decided: "_Decided", item_ids: Sequence[str]) -> Mapping[str, ItemTold]:
        """What keeps items out that were no candidates, as far as it can be seen now: nothing when it cannot."""
        query = decided.query(self._serving_configs)
        if query is None or self._serving.release is None:
            return {}
        try:
            told = self.answer(query, item_ids)
        except InvalidInput:  # What was asked then means nothing to the release that answers now.
            return {}
        return {one.found.item_id: _looked_again(one.found) for one in told.items}


def _looked_again(found: Explanation) -> ItemTold:
    """What is seen now of an item that was no candidate then."""
    bare = replace(found, place=0, score=0.0, sources=(), moves=(), features=())
    if found.bars or found.verdict == "unknown_item":
        return ItemTold(bare, found.verdict, f"it was no candidate; as things are now, {found.detail}")
    if found.verdict == "not_retrieved":
        return ItemTold(bare, "not_retrieved", f"it was no candidate, and would be none now: {found.detail}")
    return ItemTold(bare, "not_retrieved", f"it was no candidate; now it would be, at {found.detail}")


def _reasons(reasons: Sequence[Reason], snapshot: Snapshot) -> list[tuple[str, str, str]]:
    return [(one.code, "" if one.item_row < 0 else snapshot.items[one.item_row], one.text) for one in reasons]


class _Decided:
    """A decision as its record tells it."""

    def __init__(self, entry: Entry, record: Mapping[str, Any]) -> None:
        self.record = record
        self.candidates: Mapping[str, Any] = record.get("candidates", {})
        self.chosen: list[str] = [item["item_id"] for item in record["chosen"]]
        self._sent = entry.state != "suppressed"
        self._reason = entry.reason
        self._reasons = {
            item["item_id"]: [(one["code"], one["item_id"], one["text"]) for one in item.get("reasons", ())]
            for item in record["chosen"]
        }
        self._at = {item_id: at for at, item_id in enumerate(self.candidates.get("item_ids", ()))}
        scores = np.array(self.candidates.get("scores", ()), np.float32)
        self._by_score = np.argsort(np.argsort(-scores, kind="stable"), kind="stable") + 1

    @property
    def last_score(self) -> float | None:
        """The score of the last item that was chosen."""
        places = [self._at[item_id] for item_id in self.chosen if item_id in self._at]
        return None if not places else self.candidates["scores"][max(places)]

    def query(self, serving_configs: Mapping[str, ServingConfig]) -> Query | None:
        """What was asked, None when it was not recorded or its serving config is no more."""
        asked, serving = self.record.get("question"), serving_configs.get(self.record.get("serving_config", ""))
        if asked is None or serving is None:
            return None
        if self.record["cause"].startswith("trigger:"):
            serving = replace(serving, exclude_bought=True)  # As pushes are planned.
        return Query(
            self.record["user_id"],
            serving,
            asked["k"],
            asked["context_item_ids"],
            asked["exclude_item_ids"],
            asked["query"],
            asked["category"],
            filter=read_filter(asked["filter"]),
            liked_item_ids=asked["liked_item_ids"],
            disliked_item_ids=asked["disliked_item_ids"],
            vector=None if asked["vector"] is None else np.array(asked["vector"], np.float32),
        )

    def tell(self, item_id: str) -> ItemTold:
        """What the record says of an item; `recorded` only when it says something."""
        at = self._at.get(item_id)
        if at is None:
            return self._tell_other(item_id)
        place, by_score = at + 1, int(self._by_score[at])
        moves = self._moves(item_id, by_score, place)
        found = Explanation(
            item_id,
            -1,
            "recommended",
            "",
            place=place,
            score=self.candidates["scores"][at],
            sources=tuple(self._said(name, at) for name in self.candidates["sources"]),
            moves=moves,
            features=self._features(at),
        )
        verdict, detail = self._verdict(item_id, place, by_score, ", ".join(move.rule for move in moves))
        return ItemTold(found, verdict, detail, self._reasons.get(item_id, ()), recorded=True)

    def _moves(self, item_id: str, by_score: int, place: int) -> tuple[Move, ...]:
        """What rules did to an item, one by one where the record tells of all that moved it, else together."""
        if by_score == place:
            return ()
        moves = [
            Move(step["rule"], *step["items"][item_id])
            for step in self.record.get("moves", ())
            if item_id in step["items"]
        ]
        places = [by_score, *(move.after for move in moves)]
        if moves and places[-1] == place and all(move.before == at for move, at in zip(moves, places, strict=False)):
            return tuple(moves)
        return (Move(", ".join(self.candidates["rules"]), by_score, place),)

    def _verdict(self, item_id: str, place: int, by_score: int, rules: str) -> tuple[core.Verdict | Outcome, str]:
        count = min(self.record["k"], len(self._at))
        last = max((self._at[one] + 1 for one in self.chosen if one in self._at), default=count)
        if item_id in self.chosen:
            if self._sent:
                return "recommended", f"place {place}"
            return "not_sent", f"it was chosen, but nothing was sent: {self._why}"
        if place <= last:
            if not self._sent and not self.chosen:
                return "not_sent", f"place {place}, but nothing was sent: {self._why}"
            return "passed_over", "it was bought, pushed or asked to see less of after it was recommended"
        if by_score <= count:
            return "held_back", f"place {by_score} by its score, but {rules} moved it to {place}"
        return "outranked", f"place {place} of {len(self._at)} candidates, and the first {count} were wanted"

    def _tell_other(self, item_id: str) -> ItemTold:
        """Of an item that was no candidate."""
        asked = self.record.get("question") or {}
        none = Explanation(item_id, -1, "not_retrieved", "")
        if item_id in self.chosen:  # The sender chose it.
            if self._sent:
                return ItemTold(none, "recommended", "the sender chose it", recorded=True)
            return ItemTold(none, "not_sent", f"nothing was sent: {self._why}", recorded=True)
        if not self._at:
            return ItemTold(none, "not_sent", f"nothing was recommended: {self._why}", recorded=not self._sent)
        if item_id in asked.get("context_item_ids", ()):
            return ItemTold(none, "context", EXCLUDED["context"], recorded=True)
        if item_id in asked.get("exclude_item_ids", ()):
            return ItemTold(none, "request", EXCLUDED["request"], recorded=True)
        return ItemTold(none, "not_retrieved", "it was no candidate")

    @property
    def _why(self) -> str:
        """The reason why nothing was sent, with its detail."""
        detail = self.record.get("detail", "")
        return self._reason + (f" ({detail})" if detail else "")

    def _said(self, source: str, at: int) -> SourceSaid:
        score, place = self.candidates["sources"][source][at], self.candidates["places"][source][at]
        return SourceSaid(source, "passed") if score is None else SourceSaid(source, "proposed", place, score)

    def _features(self, at: int) -> tuple[Feature, ...]:
        """What the ranker saw, of the items that were asked for and while its features are these."""
        features = self.record.get("features", {})
        if features.get("schema") != SCHEMA_HASH or at >= len(features["item"]):
            return ()
        blocks: Sequence[tuple[core.Block, Sequence[str], Sequence[float]]] = (
            ("user", (*USER_FEATURES, *features.get("user_attributes", ())), features["user"]),
            ("item", ITEM_FEATURES, features["item"][at]),
            ("pair", CANDIDATE_FEATURES, features["pair"][at]),
        )
        return tuple(
            Feature(block, name, value)
            for block, names, values in blocks
            for name, value in zip(names, values, strict=True)
        )
