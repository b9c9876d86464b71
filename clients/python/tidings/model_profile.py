"""Values of the client: what is known of a user, and what is said of one."""

from dataclasses import dataclass
from datetime import datetime

from tidings.model import AttributeValue, EventType
from tidings.model_contacts import KnownContact
from tidings.model_privacy import Preferences


@dataclass(frozen=True, slots=True)
class EventCount:
    """How many events of a type there were: ever, and in the last 1, 7 and 30 days of UTC, today being one.

    In `decayed` each counts half for every 30 days that have passed since.
    """

    type: EventType
    total: int
    last_day: int
    last_week: int
    last_month: int
    decayed: float


@dataclass(frozen=True, slots=True)
class RecentEvent:
    """An event as a profile keeps it; of many items the first 16."""

    type: EventType
    event_time: datetime | None
    item_ids: tuple[str, ...]
    category: str
    query: str
    value: float | None


@dataclass(frozen=True, slots=True)
class BoughtItem:
    """An item a user bought: when last, how many times, and how many times it was given back."""

    item_id: str
    last_time: datetime | None
    purchases: int
    returns: int


@dataclass(frozen=True, slots=True)
class Affinity:
    """How much of a user's interest, 0 to 1, goes to one category or brand."""

    value: str
    share: float


@dataclass(frozen=True, slots=True)
class Rating:
    """How a user rated an item last, 0 to 5 stars."""

    item_id: str
    event_time: datetime | None
    stars: float


@dataclass(frozen=True, slots=True)
class Search:
    """A text that a user searched with, and when last."""

    query: str
    event_time: datetime | None


@dataclass(frozen=True, slots=True)
class Visit:
    """A time without a pause of more than 30 minutes between two events; from the first minute to the last."""

    start_time: datetime | None
    end_time: datetime | None
    events: int


@dataclass(frozen=True, slots=True)
class PriceAffinity:
    """Of which prices the items are that a user likes, by how much: first quartile, median, third quartile."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a user."""

    user_id: str
    version: int  # grows with every change
    first_event_time: datetime | None
    last_event_time: datetime | None
    counts: tuple[EventCount, ...]
    recent_events: tuple[RecentEvent, ...]  # newest first, 100 at most
    bought_items: tuple[BoughtItem, ...]  # newest first, 1000 at most
    bought_item_count: int
    blocked_item_ids: tuple[str, ...]
    blocked_categories: tuple[str, ...]
    categories: tuple[Affinity, ...]  # most interesting first
    brands: tuple[Affinity, ...]
    known_to_release: bool  # whether the serving release has a vector for this user
    spent: float
    attributes: tuple["ProfileAttribute", ...]  # by name
    tags: tuple["ProfileTag", ...]  # by name
    ratings: tuple[Rating, ...]  # the newest of each item, newest first, 256 at most
    searches: tuple[Search, ...]  # each text once, newest first, 32 at most
    visits: tuple[Visit, ...]  # newest first, 20 at most
    prices: PriceAffinity | None  # None: nothing that is liked has a price
    contacts: tuple[KnownContact, ...]  # masked, those registered last in front
    preferences: Preferences  # what the user said


@dataclass(frozen=True, slots=True)
class ProfileAttribute:
    """An attribute that was set. A day, such as a birth date, is a text such as "2001-05-03"."""

    name: str
    value: AttributeValue
    source: str  # who set it
    since: datetime | None


@dataclass(frozen=True, slots=True)
class ProfileTag:
    """A tag of a user, set by hand or given by a rule of the server's settings; then its source is "rule"."""

    tag: str
    weight: float
    source: str
    since: datetime | None  # None for one that a rule gives
    expire_time: datetime | None  # when it ends if nothing happens until then; None: never


@dataclass(frozen=True, slots=True)
class TagSetting:
    """A tag to set by hand: how much it says, above 0 and 1000 at most, and when it ends (None: never)."""

    tag: str
    weight: float = 1.0
    expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of a merge: all is known under `user_id` now. `already`: the two were one before."""

    user_id: str
    already: bool
    consistency_token: str  # makes a read see it


@dataclass(frozen=True, slots=True)
class Updated:
    """What became of an update of a profile. `duplicate`: its id was recorded before, and nothing was changed."""

    duplicate: bool
    consistency_token: str  # makes a read see it
