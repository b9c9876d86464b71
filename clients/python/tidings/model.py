"""What the client takes and gives: plain frozen values, no protobuf.

A field that the server left unset is None; a text it left unset is "". Times are datetimes in UTC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from enum import StrEnum


class ReasonCode(StrEnum):
    """Why an item was recommended. A kind newer than this client reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    MATCHES_TASTE = "matches_taste"
    SIMILAR_TO_BOUGHT = "similar_to_bought"
    SIMILAR_TO_CONTEXT = "similar_to_context"
    TRENDING = "trending"


class DegradationCause(StrEnum):
    """Why an answer had to do without something. A kind newer than this client reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    NO_RELEASE = "no_release"
    UNKNOWN_USER = "unknown_user"
    DEADLINE = "deadline"
    FAILED = "failed"
    UNKNOWN_CONTEXT = "unknown_context"


class ReleaseState(StrEnum):
    """What a release is doing. A state newer than this client reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    AVAILABLE = "available"
    SERVING = "serving"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class RecommendQuery:
    """One question of a batch; the fields mean what the arguments of `Client.recommend` mean."""

    user_id: str
    _: KW_ONLY
    k: int | None = None
    serving_config: str = ""
    context_item_ids: Sequence[str] = ()
    exclude_item_ids: Sequence[str] = ()
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """What the catalogue shows of an item. Without a catalogue only `item_id` is set."""

    item_id: str
    title: str
    description: str
    categories: tuple[str, ...]  # broad to narrow
    brand: str
    price: float | None  # of one unit, in units of `currency`
    currency: str  # ISO 4217
    image_url: str
    url: str
    publish_time: datetime | None
    expire_time: datetime | None
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SourceScore:
    """The score that one candidate source gave an item; comparable within that source only."""

    source: str
    score: float


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an item is in the answer, and the item that the reason rests on ("" when it rests on none)."""

    code: ReasonCode
    item_id: str


@dataclass(frozen=True, slots=True)
class RecommendedItem:
    """An item of an answer: the score it was ordered by, who proposed it, and why, strongest reason first."""

    item: Item
    score: float
    sources: tuple[SourceScore, ...]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Degradation:
    """One thing an answer had to do without: the cause, the stage it happened in, a sentence for a person."""

    cause: DegradationCause
    stage: str
    detail: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A ranked answer, best item first, and how it came about."""

    items: tuple[RecommendedItem, ...]
    degraded: tuple[Degradation, ...]  # empty for a full answer
    release_id: str  # "" when no release answers
    release_age_seconds: float
    index_age_seconds: float
    serving_config: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Release:
    """A release as its manifest describes it. Of a broken one only `release_id`, `state` and `problem` are sure."""

    release_id: str
    create_time: datetime | None
    state: ReleaseState
    promote_time: datetime | None  # None when it was never promoted on this server
    item_count: int
    user_count: int
    dim: int
    metric: str
    index_key: str
    recall: float  # share of the exact nearest `recall_k` items that the index finds, 0 to 1
    recall_k: int
    sources: tuple[str, ...]
    ranked: bool
    problem: str  # "" unless broken


@dataclass(frozen=True, slots=True)
class Promotion:
    """What a promotion or a rollback did: the release that serves now, and the one before ("" for none)."""

    release: Release
    previous_release_id: str
