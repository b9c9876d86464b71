"""Show what is known of a user: the profile as recorded events and changes made it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tidings_core import counters, stated
from tidings_core.affinities import Prices, Share, affinities, prices
from tidings_core.bought import Bought
from tidings_core.errors import NotFound
from tidings_core.events import EVENT_TYPES, EventType
from tidings_core.preferences import Preferences
from tidings_core.profile import Profile, RecentEvent, count_since
from tidings_core.stated import AttributeWord
from tidings_core.visits import Visit, visits
from tidings_server.application.contacts import KnownContact, newest_first
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.serving import Serving
from tidings_server.application.user_tags import RowsOf, UserTags

MOST_BOUGHT = 1000
"""So many of the items bought last are listed."""
MOST_VISITS = 20
"""So many of the last visits are listed."""
RULE = "rule"
"""The source of a tag that a rule gives."""
DAY, WEEK, MONTH = 1, 7, 30

_Name = TypeVar("_Name", int, str)

ItemIds = Callable[[Sequence[int]], list[str]]
"""The ids of items by item_no. Raises StorageFailed."""


@dataclass(frozen=True, slots=True)
class EventCount:
    """How many events of a type there were: ever, in the last 1, 7 and 30 days, and decayed by their age."""

    type: EventType
    total: int
    last_day: int
    last_week: int
    last_month: int
    decayed: float


@dataclass(frozen=True, slots=True)
class ShownTag:
    """A tag. Times are Unix milliseconds, 0 for none: `since` when it is set or was found, `expires` when it ends."""

    tag: str
    weight: float
    source: str
    since: int
    expires: int


@dataclass(frozen=True, slots=True)
class ShownProfile:
    """A profile with ids in place of numbers. Times are Unix milliseconds; `spent` is in the shop's currency.

    `recent`, `bought`, `ratings`, `searches`, `visits` and the two `blocked` are newest first; `item_ids` has the items
    of each event in `recent`; `attributes` and `tags` go by name. `ratings` are (item_id, time, stars), `searches`
    (query, time); `contacts` those registered last in front.
    """

    user_id: str
    version: int
    first_time: int
    last_time: int
    counts: Sequence[EventCount]
    recent: Sequence[RecentEvent]
    item_ids: Sequence[Sequence[str]]
    bought: Sequence[tuple[str, Bought]]
    bought_count: int
    blocked_items: Sequence[str]
    blocked_categories: Sequence[str]
    ratings: Sequence[tuple[str, int, float]]
    searches: Sequence[tuple[str, int]]
    visits: Sequence[Visit]
    categories: Sequence[Share]
    brands: Sequence[Share]
    prices: Prices | None
    known_to_release: bool
    spent: float
    attributes: Sequence[tuple[str, AttributeWord]]
    tags: Sequence[ShownTag]
    contacts: Sequence[KnownContact]
    preferences: Preferences


class GetProfile:
    """Shows profiles."""

    def __init__(
        self,
        documents: KnownDocuments,
        serving: Serving,
        item_ids: ItemIds,
        rows_of: RowsOf,
        user_tags: UserTags,
        now: Callable[[], float],
        contacts: Callable[[str], Sequence[KnownContact]] = lambda _: (),
    ) -> None:
        """`now` gives Unix seconds; `contacts` those of a user."""
        self._contacts = contacts
        self._documents = documents
        self._serving = serving
        self._item_ids = item_ids
        self._rows_of = rows_of
        self._user_tags = user_tags
        self._now = now

    def __call__(self, user_id: str) -> ShownProfile:
        """What is known of a user now. Raises NotFound when nothing was recorded, StorageFailed."""
        stored = self._documents.stored(user_id)
        profile, user_id = self._documents.committed(user_id, stored).profile, stored.whose(user_id)
        now_ms = int(self._now() * 1000)
        contacts = newest_first(self._contacts(user_id))
        # A push makes a document too.
        said = profile.stated != stated.EMPTY or profile.preferences.words
        if not (profile.totals or said or contacts):
            raise NotFound("nothing is recorded of this user: is the user_id that of the events?")
        bought = sorted(
            ((item, entry) for item, entry in profile.bought.items() if entry.purchases),
            key=lambda entry: (-entry[1].time, entry[0]),
        )
        listed = bought[:MOST_BOUGHT]
        recent_items = {item for event in profile.recent for item in event.items}
        numbers = list({*recent_items, *profile.blocked_items, *profile.ratings, *(item for item, _ in listed)})
        ids = dict(zip(numbers, self._item_ids(numbers), strict=True))
        release = self._serving.release
        snapshot = None if release is None else release.snapshot
        rows = np.empty(0, np.int32) if release is None else self._rows_of(release, profile)
        return ShownProfile(
            user_id=user_id,
            version=stored.version,
            first_time=profile.first_time,
            last_time=profile.last_time,
            counts=_counts(profile, now_ms),
            recent=profile.recent,
            item_ids=[[ids[item] for item in event.items] for event in profile.recent],
            bought=[(ids[item], entry) for item, entry in listed],
            bought_count=len(bought),
            blocked_items=[ids[item] for item in _newest_first(profile.blocked_items)],
            blocked_categories=_newest_first(profile.blocked_categories),
            ratings=[
                (ids[item], time, stars)
                for item, (time, stars) in sorted(profile.ratings.items(), key=lambda entry: (-entry[1][0], entry[0]))
            ],
            searches=sorted(profile.searches.items(), key=lambda entry: (-entry[1], entry[0])),
            visits=visits(profile.minutes)[:MOST_VISITS],
            categories=[] if snapshot is None else affinities(profile, rows, snapshot, "category"),
            brands=[] if snapshot is None else affinities(profile, rows, snapshot, "brand"),
            prices=None if snapshot is None else prices(profile, rows, snapshot),
            known_to_release=snapshot is not None and snapshot.users.find(user_id) >= 0,
            spent=profile.spent / 100,
            attributes=sorted((n, w) for n, w in profile.stated.attributes.items() if w.value is not None),
            tags=self._tags(profile, now_ms),
            contacts=contacts,
            preferences=profile.preferences,
        )

    def _tags(self, profile: Profile, now_ms: int) -> list[ShownTag]:
        """The tags of rules and those set by hand, by name."""

        given, until = self._user_tags.given(profile, now_ms)
        found = profile.stated.found
        shown = [
            ShownTag(name, tag.weight, RULE, found[name].time if name in found else 0, until.get(name, 0))
            for name, tag in given.tags.items()
        ]
        for name, word in profile.stated.tags_at(now_ms).items():
            assert word.setting is not None
            shown.append(ShownTag(name, word.setting.weight, word.source, word.time, word.setting.expires))
        return sorted(shown, key=lambda tag: (tag.tag, tag.source))


def _counts(profile: Profile, now: int) -> list[EventCount]:
    """The types there were any of, in their order."""
    return [
        EventCount(
            type,
            profile.totals[type],
            count_since(profile, type, now, DAY),
            count_since(profile, type, now, WEEK),
            count_since(profile, type, now, MONTH),
            counters.decayed(profile.weights, type, now),
        )
        for type in EVENT_TYPES
        if profile.totals.get(type)
    ]


def _newest_first(times: Mapping[_Name, int]) -> list[_Name]:
    """Names by when it last happened."""
    return sorted(times, key=lambda name: (times[name], name), reverse=True)
