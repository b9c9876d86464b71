"""Events: what a user did, and when one is fit to be recorded."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from tidings_core.faults import Fault, text_fault
from tidings_core.model import MAX_CATEGORY_BYTES, MAX_ID_BYTES, MAX_QUERY_BYTES

EventType = Literal[
    "view",
    "search",
    "add_to_cart",
    "remove_from_cart",
    "purchase",
    "return",
    "impression",
    "click",
    "dismiss",
    "see_less",
    "rating",
    "cancel",
    "tag",
]
"""What happened. "tag", which only triggers know, is no event of the log: a tag of the user came or went."""
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)[:-1]
"""What a user did."""

NEVER: tuple[EventType, ...] = ("impression", "click", "dismiss", "see_less")
"""What follows from a push starts no trigger: a decision never leads to a decision."""

LIKING: Mapping[EventType, float] = MappingProxyType(
    {
        "purchase": 1.0,
        "add_to_cart": 0.5,
        "rating": 0.5,
        "click": 0.2,
        "view": 0.2,
        "search": 0.0,
        "impression": 0.0,
        "remove_from_cart": 0.0,
        "return": 0.0,
        "dismiss": 0.0,
        "see_less": 0.0,
        "cancel": 0.0,
    }
)
"""How much an event of each type says that the user likes the item; 0: nothing, or the contrary."""
LIKED_STARS = 3.0
"""A rating with a value below this says nothing good of an item."""
LOW_STARS = 2.0
"""An item with a rating below this is not recommended to who rated it."""

MAX_EVENTS = 1000
MAX_TOKEN_BYTES = 10_000
"""A decision token of an answer of 500 items that were all drawn has some 8,500."""
MAX_EVENT_ITEMS = 1000
MAX_QUANTITY = 1_000_000
MAX_MONEY = 1e12
MAX_STARS = 5.0
EARLIEST_MS = 946_684_800_000
"""2000-01-01, in Unix milliseconds: an earlier event is a broken clock, or seconds taken for milliseconds."""
AHEAD_MS = 300_000
"""An event may be so far ahead of the server's clock."""
_NEEDS_ITEMS = ("add_to_cart", "remove_from_cart", "purchase", "return", "impression", "click", "dismiss", "rating")
_MAY_NAME_CATEGORY = ("view", "see_less")
_MAY_NAME_ORDER = ("purchase", "return", "cancel")


@dataclass(frozen=True, slots=True)
class EventItem:
    """One item of an event: how many of it, and the price of one (None: not said)."""

    item_id: str
    quantity: int = 1
    price: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something a user did. `time` is Unix milliseconds; texts that do not apply are ""; `value` None: not said.

    `tag` is the one that came or went, of type "tag".
    `decision_token` is that of the answer it follows from, which whoever takes the event has checked.
    """

    event_id: str
    type: EventType
    user_id: str
    time: int
    items: tuple[EventItem, ...] = ()
    category: str = ""
    query: str = ""
    value: float | None = None
    push_id: str = ""
    tag: str = ""
    order_id: str = ""
    decision_token: str = ""


def liking(type: EventType, value: float | None) -> float:
    """How much an event says that the user likes its items, 0 for nothing."""
    return 0.0 if type == "rating" and (value is None or value < LIKED_STARS) else LIKING[type]


def leaning(type: EventType, value: float | None) -> float:
    """How much an event says for its items, or against them: then below 0. 0 for nothing."""
    if type == "rating" and value is not None and value < LIKED_STARS:
        return LIKING["rating"] * (value / LIKED_STARS - 1.0)
    return liking(type, value)


def id_fault(name: str) -> str:
    """What is wrong with an id, "" for nothing."""
    return text_fault(name, MAX_ID_BYTES, 1)


def event_faults(event: Event, now_ms: int) -> list[Fault]:
    """All that is wrong with an event at `now_ms` (Unix milliseconds), [] for nothing."""
    return [(field, problem) for field, problem in _checks(event, now_ms) if problem]


def _checks(event: Event, now_ms: int) -> Iterator[Fault]:
    yield "event_id", id_fault(event.event_id)
    yield "user_id", id_fault(event.user_id)
    yield "event_time", _time_fault(event.time, now_ms)
    yield "value", _value_fault(event)
    yield "query", text_fault(event.query, MAX_QUERY_BYTES, 1 if event.type == "search" else 0)
    yield "category", text_fault(event.category, MAX_CATEGORY_BYTES)
    yield "push_id", text_fault(event.push_id, MAX_ID_BYTES)
    yield "order_id", text_fault(event.order_id, MAX_ID_BYTES, 1 if event.type == "cancel" else 0)
    yield "decision_token", text_fault(event.decision_token, MAX_TOKEN_BYTES)
    yield from _item_checks(event.items)
    if event.query and event.type != "search":
        yield "query", f"is given with a {event.type}: only a search has one"
    if event.category and event.type not in _MAY_NAME_CATEGORY:
        yield "category", f"is given with a {event.type}: only {' and '.join(_MAY_NAME_CATEGORY)} may name one"
    if event.order_id and event.type not in _MAY_NAME_ORDER:
        yield "order_id", f"is given with a {event.type}: only {', '.join(_MAY_NAME_ORDER)} may name one"
    if event.items and event.type == "cancel":
        yield "items", "is given with a cancel, which is of a whole order: of one item record a return"
    if not event.items and event.type in _NEEDS_ITEMS:
        yield "items", f"is empty: a {event.type} needs the items it was done to"
    if not event.items and not event.category and event.type in _MAY_NAME_CATEGORY:
        yield "items", f"is empty: a {event.type} needs items, or a category"


def _item_checks(items: Sequence[EventItem]) -> Iterator[Fault]:
    if len(items) > MAX_EVENT_ITEMS:
        yield "items", f"has {len(items)} entries, may have {MAX_EVENT_ITEMS} at most: record several events"
        return
    for at, item in enumerate(items):
        yield f"items[{at}].item_id", id_fault(item.item_id)
        if not 1 <= item.quantity <= MAX_QUANTITY:
            yield f"items[{at}].quantity", f"is {item.quantity}, must be 1 to {MAX_QUANTITY}"
        if item.price is not None:
            yield f"items[{at}].price", _number_fault(item.price, MAX_MONEY)


def _value_fault(event: Event) -> str:
    if event.value is None:
        return "is missing: a rating needs its stars, 0 to 5" if event.type == "rating" else ""
    return _number_fault(event.value, MAX_STARS if event.type == "rating" else MAX_MONEY)


def _number_fault(value: float, most: float) -> str:
    # Written so that NaN is refused too.
    return "" if math.isfinite(value) and 0.0 <= value <= most else f"is {value:g}, must be 0 to {most:g}"


def _time_fault(time: int, now_ms: int) -> str:
    if time < EARLIEST_MS:
        return f"is {time / 1000:.0f} s after 1970, must not be before 2000-01-01: is it in seconds?"
    if time > now_ms + AHEAD_MS:
        ahead = (time - now_ms) / 1000
        return f"is {ahead:.0f} s ahead of the server's clock, may be {AHEAD_MS // 1000} s at most: check the clocks"
    return ""
