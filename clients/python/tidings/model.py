"""What the client takes and gives: plain frozen values, no protobuf.

A field that the server left unset is None; a text it left unset is "". Times are datetimes in UTC.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import TypeAlias

from tidings.filters import Filter


class ReasonCode(StrEnum):
    """Why an item was recommended. A kind newer than this client reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    MATCHES_TASTE = "matches_taste"
    SIMILAR_TO_BOUGHT = "similar_to_bought"
    SIMILAR_TO_CONTEXT = "similar_to_context"
    TRENDING = "trending"
    SIMILAR_TO_VIEWED = "similar_to_viewed"
    SEARCHED = "searched"
    IN_CATEGORY = "in_category"
    RECENTLY_VIEWED = "recently_viewed"
    BOUGHT_TOGETHER = "bought_together"


class DegradationCause(StrEnum):
    """Why an answer had to do without something. A kind newer than this client reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    NO_RELEASE = "no_release"
    UNKNOWN_USER = "unknown_user"
    DEADLINE = "deadline"
    FAILED = "failed"
    UNKNOWN_CONTEXT = "unknown_context"
    NO_CONSENT = "no_consent"
    ERASED = "erased"


class ReleaseState(StrEnum):
    """What a release is doing. A state newer than this client reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    AVAILABLE = "available"
    SERVING = "serving"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class RecommendExamples:
    """Items that an answer should be like, and items that it should not be like, at most 64 each."""

    liked_item_ids: Sequence[str] = ()
    disliked_item_ids: Sequence[str] = ()


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
    query: str = ""
    category: str = ""
    filter: Filter | None = None
    examples: RecommendExamples | None = None
    vector: Sequence[float] = ()
    consistency_token: str = ""


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
    """Why an item is in the answer, and the item or the words that the reason rests on ("" when it rests on none)."""

    code: ReasonCode
    item_id: str
    text: str = ""


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
    decision_id: str  # of its record; "" when it is not recorded
    decision_token: str  # to be given with each Event that follows from it; "" when no release answered


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
    erased_user_count: int = 0  # people erased since whose vector it holds: build one anew and remove this one


@dataclass(frozen=True, slots=True)
class Promotion:
    """What a promotion or a rollback did: the release that serves now, and the one before ("" for none)."""

    release: Release
    previous_release_id: str


AttributeValue: TypeAlias = str | Sequence[str] | float | datetime | date | bool
"""Of a typed attribute: a keyword, a set of keywords, a number, a moment, yes or no."""


@dataclass(frozen=True, slots=True)
class CatalogItem:
    """All that the catalogue says of an item. `update_time`, with a time zone, is when the shop changed it.

    `shown` are further texts to show, `attributes` what is filtered by. `available` None counts as yes. A `vector` is
    of the serving release's length; without one the server keeps the one it has, or makes one of items like it.
    """

    item_id: str
    update_time: datetime | None  # None only in what the server gives, where it is not known
    _: KW_ONLY
    title: str = ""
    description: str = ""
    categories: Sequence[str] = ()  # broad to narrow
    brand: str = ""
    price: float | None = None
    currency: str = ""
    image_url: str = ""
    url: str = ""
    publish_time: datetime | None = None
    expire_time: datetime | None = None
    shown: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    available: bool | None = None
    stock: float | None = None
    vector: Sequence[float] = ()


class UpsertResult(StrEnum):
    """What became of an upserted item. A result newer than this client reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    APPLIED = "applied"
    OLDER = "older"
    UNCHANGED = "unchanged"


class DeleteResult(StrEnum):
    """What became of an item to delete. A result newer than this client reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    DELETED = "deleted"
    OLDER = "older"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True)
class Upserted:
    """What became of upserted items, in their order; `consistency_token` makes a read see them."""

    results: tuple[UpsertResult, ...]
    consistency_token: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of items to delete, in their order; `consistency_token` makes a read see them gone."""

    results: tuple[DeleteResult, ...]
    consistency_token: str


class EventType(StrEnum):
    """What a user did. A type newer than this client reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    VIEW = "view"
    SEARCH = "search"
    ADD_TO_CART = "add_to_cart"
    REMOVE_FROM_CART = "remove_from_cart"
    PURCHASE = "purchase"
    RETURN = "return"
    IMPRESSION = "impression"
    CLICK = "click"
    DISMISS = "dismiss"
    SEE_LESS = "see_less"
    RATING = "rating"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class EventItem:
    """One item of an event: how many of it, and the price of one in the shop's currency (None: not said)."""

    item_id: str
    quantity: int = 1
    price: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something a user did; `type` is an EventType or its text, such as "view".

    `items` are item ids, or EventItems where quantity and price are known. A view and a see_less may name a `category`
    instead; a search needs its `query`, a rating its `value` (0 to 5 stars). `value` is money for a purchase or return.
    `event_time` has a time zone; None means now, as the server reads it. `push_id` names the push that led to it,
    `order_id` the order of a purchase, a return or a cancel, `decision_token` is that of
    the answer (`Recommendation`) that it follows from.

    Without an `event_id` of the shop's own one is made here, once: recording the same Event again is a duplicate.
    """

    user_id: str
    type: EventType | str
    items: Sequence[str | EventItem] = ()
    _: KW_ONLY
    category: str = ""
    query: str = ""
    value: float | None = None
    event_time: datetime | None = None
    push_id: str = ""
    order_id: str = ""
    decision_token: str = ""
    event_id: str = ""

    def __post_init__(self) -> None:
        if self.event_id == "":
            object.__setattr__(self, "event_id", uuid.uuid4().hex)


class EventStatus(StrEnum):
    """What became of an event. A status newer than this client reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class EventFault:
    """One thing wrong with an event: the field, such as "items[0].price", and what is wrong with it."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class EventVerdict:
    """What became of one event; `faults` say what is wrong with a rejected one."""

    status: EventStatus
    faults: tuple[EventFault, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of recorded events: one verdict each, in their order.

    `consistency_token` makes a read see them ("" when every event was rejected).
    """

    verdicts: tuple[EventVerdict, ...]
    consistency_token: str

    @property
    def rejected(self) -> tuple[tuple[int, EventVerdict], ...]:
        """The rejected ones: place among the events, from 0, and verdict."""
        return tuple((at, v) for at, v in enumerate(self.verdicts) if v.status is EventStatus.REJECTED)


@dataclass(frozen=True, slots=True)
class Push:
    """One message for one user. A text that does not apply is ""."""

    push_id: str  # the same whenever it is sent again
    offset: int  # its place in the user's stream
    prev_offset: int
    create_time: datetime | None
    expire_time: datetime | None  # None: never
    collapse_key: str
    title: str
    body: str
    items: tuple[RecommendedItem, ...]  # best first
    url: str
    data: Mapping[str, str]
    trigger: str  # "" when it came by send_push
    event_id: str  # the event that caused it
    release_id: str  # "" when the sender chose the items
    serving_config: str


class Disposition(StrEnum):
    """What became of a push on a device."""

    UNSPECIFIED = "unspecified"
    DELIVERED = "delivered"
    DISPLAYED = "displayed"
    CLICKED = "clicked"
    DISMISSED = "dismissed"
    REJECTED = "rejected"


class PushDecision(StrEnum):
    """Whether a push was sent. A decision newer than this client reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    SENT = "sent"
    SUPPRESSED = "suppressed"


class SuppressReason(StrEnum):
    """Why a push was not sent. A reason newer than this client reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    CAP_DAY = "cap_day"
    NO_CANDIDATE = "no_candidate"
    NO_RELEASE = "no_release"
    EXPIRED = "expired"
    COOLDOWN = "cooldown"
    FAILED = "failed"
    NO_CONSENT = "no_consent"
    MINOR = "minor"
    CHANNEL_OFF = "channel_off"
    TOPIC_OFF = "topic_off"
    QUIET_HOURS = "quiet_hours"
    CONDITION = "condition"


@dataclass(frozen=True, slots=True)
class SentPush:
    """What became of a push to send: sent under a name at an offset, or not sent for a reason."""

    decision: PushDecision
    reason: SuppressReason  # UNSPECIFIED when it was sent
    push_id: str  # "" when it was not sent
    offset: int  # 0 when it was not sent
