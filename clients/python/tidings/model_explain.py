"""What `explain` and `explain_decision` give: plain frozen values, as in model.py."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tidings.model import Degradation, Reason


class Verdict(StrEnum):
    """What became of an item. A verdict newer than this client reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    RECOMMENDED = "recommended"
    UNKNOWN_ITEM = "unknown_item"
    DELETED = "deleted"
    UNAVAILABLE = "unavailable"
    OUT_OF_STOCK = "out_of_stock"
    NOT_PUBLISHED = "not_published"
    EXPIRED = "expired"
    FILTERED = "filtered"
    IN_CONTEXT = "in_context"
    EXAMPLE = "example"
    EXCLUDED_BY_REQUEST = "excluded_by_request"
    BLOCKED = "blocked"
    DISLIKED = "disliked"
    BOUGHT = "bought"
    RETURNED = "returned"
    SEEN = "seen"
    NOT_RETRIEVED = "not_retrieved"
    OUTRANKED = "outranked"
    HELD_BACK = "held_back"
    NOT_SENT = "not_sent"
    PASSED_OVER = "passed_over"


class SourceStatus(StrEnum):
    """What a source did about an item. A status newer than this client reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    PROPOSED = "proposed"
    PASSED = "passed"
    SILENT = "silent"
    LEFT_OUT = "left_out"
    NOT_OFFERED = "not_offered"


@dataclass(frozen=True, slots=True)
class Bar:
    """One thing that keeps an item out of an answer, however well it does."""

    verdict: Verdict
    detail: str


@dataclass(frozen=True, slots=True)
class SourceVerdict:
    """What one source said of an item: at which place from 1 (0: not proposed), with what score of its own."""

    source: str
    status: SourceStatus
    rank: int
    score: float | None


@dataclass(frozen=True, slots=True)
class Move:
    """What a rule did to an item's place, from 1."""

    rule: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing that the ranker sees, of the "user", the "item" or the "pair"; 0 for what is not known."""

    block: str
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class ItemExplanation:
    """What became of one item: the verdict, and all there is to see of why."""

    item_id: str
    verdict: Verdict
    detail: str  # the verdict in a sentence, with figures
    bars: tuple[Bar, ...]  # all that keeps it out, strongest first; the first is the verdict
    place: int  # from 1, in an order that goes on after the items that were wanted; 0: no candidate
    score: float | None  # that the rules began from
    sources: tuple[SourceVerdict, ...]
    moves: tuple[Move, ...]  # what rules did to its place, in their order
    features: tuple[Feature, ...]
    similarity: float | None  # to the user's vector; larger is nearer
    exact_rank: int | None  # from 1, by similarity among all that may be found
    reasons: tuple[Reason, ...]  # empty when it was not recommended
    recorded: bool  # told from the record of a decision; False: as things are now


@dataclass(frozen=True, slots=True)
class ExplainedDecision:
    """A decision as the ledger has it."""

    decision_id: str
    user_id: str
    cause: str  # "trigger:NAME", "api", "recommend:NAME"
    state: str
    reason: str  # why nothing was sent, such as "CAP_DAY"
    push_id: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer, or a decision, and what became of some items in it."""

    items: tuple[ItemExplanation, ...]
    release_id: str
    serving_config: str
    answer_time: datetime | None
    k: int  # number of items that were wanted
    last_score: float | None  # of the last item that got in
    ranked: bool  # whether scores are the ranker's
    may_be_found: int | None  # number of items that nothing keeps out; None for a decision
    degraded: tuple[Degradation, ...]
    decision: ExplainedDecision | None  # None for a question
