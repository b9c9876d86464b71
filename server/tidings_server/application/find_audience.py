"""Find the audience of items: users by value, a page at a time, to go on from any page."""

import base64
import hmac
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b, sha256
from itertools import chain, islice

import numpy as np

from tidings_core.audience import MAX_ITEMS, Audience, Known, find_audience, refused
from tidings_core.delta import have_vectors
from tidings_core.errors import Conflict, DeadlinePassed, InvalidInput
from tidings_core.faults import Fault, told
from tidings_core.features import ITEM_FEATURES
from tidings_core.filters import Filter
from tidings_core.model import Person, Snapshot
from tidings_core.release import Release
from tidings_core.selection import filter_faults, select
from tidings_core.tables import Bool, Int64
from tidings_server.application.filter_users import FilterUsers
from tidings_server.application.serving import Serving

FIRST_BLOCK, LAST_BLOCK = 1024, 1 << 17
"""So many users are put in order at a time, twice as many each time: the others not before they are asked for."""
LOOKED_UP = 256
"""Profiles that are read at a time."""
_VERSION = "1."
"""Begins every token, so that none looks like an option of a command."""
_MAC_BYTES = 16
_POPULARITY = ITEM_FEATURES.index("log_purchases")
_NOBODY = Person()

FindPeople = Callable[[Sequence[str], Release], Mapping[str, Person | None]]
"""What a release makes of users, of those of whom anything is recorded; None: it is damaged. Raises StorageFailed."""
Lately = Callable[[Release], Sequence[Known]]
"""Those of whom something was recorded or asked lately, with what a release makes of them. Raises StorageFailed."""


@dataclass(frozen=True, slots=True)
class AudienceQuestion:
    """For whom are these items, or those that pass a filter?

    `limit` is the number of users wanted, `page_size` how many come together. `everybody`: also those who bought, gave
    back or do not want the item. `page_token` goes on where a page with it ended.
    """

    item_ids: tuple[str, ...] = ()
    filter: Filter | None = None
    min_score: float = -math.inf
    limit: int = 1000
    page_size: int = 500
    everybody: bool = False
    page_token: str = ""
    user_filter: Filter | None = None

    @property
    def name(self) -> str:
        """Names what is asked, but for how much of it and from where."""
        asked = repr((self.item_ids, self.filter, self.min_score, self.everybody, self.user_filter))
        return blake2b(asked.encode(), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Member:
    """A user, the value, and the item that gives it."""

    user_id: str
    score: float
    item_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Members in order of value; `token` goes on after the last, "" when nobody is left.

    `items` is the number of items that the audience was sought for, of the `passing` that were asked for. `withheld`:
    there are fewer than may be told of, and how many is not said.
    """

    members: Sequence[Member]
    token: str
    release_id: str
    items: int
    passing: int
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page ended."""

    release_id: str
    question: str
    score: float
    user_id: str


class FindAudience:
    """Finds audiences. Values every user at once, so it belongs on a thread of its own."""

    def __init__(
        self,
        serving: Serving,
        find_people: FindPeople,
        lately: Lately,
        filter_users: FilterUsers,
        key: bytes,
        now: Callable[[], float],
        least: int = 0,
        nobody: Person = _NOBODY,
    ) -> None:
        """`key` signs the tokens. `now` gives Unix seconds. Fewer than `least` people are withheld.

        `nobody` is somebody of whom nothing is recorded.
        """
        self._nobody = nobody
        self._filter_users = filter_users
        self._least = least
        self._serving = serving
        self._find_people = find_people
        self._lately = lately
        self._key = key
        self._now = now

    def __call__(self, question: AudienceQuestion, stopped: Callable[[], bool] = lambda: False) -> Iterator[Page]:
        """The pages of an audience, at least one; each is made when it is asked for, and none once it is `stopped`.

        Raises InvalidInput naming each fault, an item that is not known and a token of another question among them;
        Conflict when no release answers, or another one than the token is of; StorageFailed.
        """
        release = self._serving.release
        if release is None:
            raise Conflict("no release is promoted: promote one first")
        if question.user_filter is not None and (wrong := self._filter_users.faults(question.user_filter)):
            raise InvalidInput(*told([(f"user_filter.{at}" if at else "user_filter", said) for at, said in wrong]))
        after = self._read(question, release)
        rows, passing = self._items(question, release.snapshot)
        now = self._now() * 1000
        known = [one for one in self._lately(release) if one.person.standing.may("audience", now)]
        audience = find_audience(rows.tolist(), known, release.snapshot, not question.everybody)
        place = None
        if after is not None:
            row = release.snapshot.users.find(after.user_id)
            place = (after.score, audience.place(after.user_id, row))

        def passes(user_ids: Sequence[str]) -> Bool:
            if stopped():
                raise DeadlinePassed("nobody waits for this audience any more")
            if question.user_filter is None:
                return np.ones(len(user_ids), np.bool_)
            return self._filter_users.passing(question.user_filter, user_ids)

        seen = {one.user_id: one.person for one in known}
        search = _Search(question, release, audience, rows, seen, self._nobody, now, passes)
        return self._pages(search, place, passing)

    def _pages(self, search: "_Search", after: tuple[float, int] | None, passing: int) -> Iterator[Page]:
        question, release_id = search.question, search.release.manifest.release_id
        members, sent = search.members(after, self._find_people), 0
        if after is None and self._least > 1:
            # Who goes on had the first page, so there were enough.
            first = list(islice(members, self._least))
            if len(first) < self._least:
                yield Page([], "", release_id, len(search.rows), passing, withheld=True)
                return
            members = chain(first, members)
        while True:
            size = min(question.page_size, question.limit - sent)
            page = list(islice(members, size))
            sent += len(page)
            more = len(page) == size
            token = ""
            if more:
                token = self._sign(_Place(release_id, question.name, page[-1].score, page[-1].user_id))
            if page or not sent:
                yield Page(page, token, release_id, len(search.rows), passing)
            if not more or sent == question.limit:
                return

    def _items(self, question: AudienceQuestion, snapshot: Snapshot) -> tuple[Int64, int]:
        """The rows of the items that the audience is sought for, and how many were asked for.

        Of more that pass a filter than can be looked at, those that most people bought. Raises InvalidInput.
        """
        if question.filter is not None:
            return self._passing(question.filter, snapshot)
        rows = snapshot.items.find_many(question.item_ids).astype(np.int64)
        faults = list(_item_faults(rows, snapshot))
        if faults:
            raise InvalidInput(*faults)
        return rows, len(rows)

    def _passing(self, wanted: Filter, snapshot: Snapshot) -> tuple[Int64, int]:
        wrong = filter_faults(wanted, snapshot)
        if wrong:
            raise InvalidInput(*((f"filter.{at}" if at else "filter", problem) for at, problem in wrong))
        selected = select([wanted], None, snapshot, self._now())
        rows = np.arange(len(snapshot.items)) if selected is None else np.flatnonzero(selected.rows.mask())
        rows = rows[have_vectors(rows, snapshot)]
        if not len(rows):
            raise InvalidInput(("filter", "lets no item through that may be sold now: nobody can be found by it"))
        popularity = snapshot.item_features[rows, _POPULARITY]
        return rows[np.argsort(-popularity, kind="stable")[:MAX_ITEMS]], len(rows)

    def _sign(self, place: _Place) -> str:
        content = json.dumps(asdict(place), separators=(",", ":")).encode()
        return _VERSION + base64.urlsafe_b64encode(self._mac(content) + content).decode()

    def _mac(self, content: bytes) -> bytes:
        return hmac.new(self._key, b"audience/" + content, sha256).digest()[:_MAC_BYTES]

    def _read(self, question: AudienceQuestion, release: Release) -> _Place | None:
        """Where to go on. Raises InvalidInput or Conflict."""
        if not question.page_token:
            return None
        wrong = InvalidInput(("page_token", "is none of this server's: give one that came with a page, unchanged"))
        try:
            signed = base64.b64decode(question.page_token.removeprefix(_VERSION).encode(), b"-_", validate=True)
        except ValueError as error:
            raise wrong from error
        mac, content = signed[:_MAC_BYTES], signed[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(content)):
            raise wrong
        place = _Place(**json.loads(content))
        if place.question != question.name:
            raise InvalidInput(("page_token", "is of another question: ask the same, or begin without a token"))
        if place.release_id != release.manifest.release_id:
            raise Conflict(
                f"page_token is of release {place.release_id}, and {release.manifest.release_id} answers now, whose "
                "values are others: begin anew without a token"
            )
        return place


@dataclass(frozen=True, slots=True)
class _Search:
    """An audience that was found, and how to tell of it at `now` (Unix milliseconds).

    `seen` are those whose profiles were at hand, and may be used; `passes` says of some users which are wanted.
    """

    question: AudienceQuestion
    release: Release
    audience: Audience
    rows: Int64
    seen: Mapping[str, Person]
    nobody: Person
    now: float
    passes: Callable[[Sequence[str]], Bool]

    def members(self, after: tuple[float, int] | None, find_people: FindPeople) -> Iterator[Member]:
        """Everybody, best first, but for those whose profile says that they have the item, or do not want it.

        And but for those whose profile may not be used for it.
        """
        size = FIRST_BLOCK
        while True:
            block = self.audience.in_order(self.question.min_score, after, size)
            for start in range(0, len(block), LOOKED_UP):
                yield from self._members(block[start : start + LOOKED_UP], find_people)
            if len(block) < size:
                return
            after, size = (float(self.audience.values[block[-1]]), int(block[-1])), min(2 * size, LAST_BLOCK)

    def _members(self, places: Int64, find_people: FindPeople) -> Iterator[Member]:
        audience, snapshot = self.audience, self.release.snapshot
        ids = [
            snapshot.users[place] if place < audience.users else audience.strangers[place - audience.users]
            for place in places.tolist()
        ]
        wanted = self.passes(ids)
        ids, places = [user_id for user_id, passes in zip(ids, wanted.tolist(), strict=True) if passes], places[wanted]
        items = self.rows[audience.best[places]]
        people = find_people([user_id for user_id in ids if user_id not in self.seen], self.release)
        values, of_release = audience.values[places].tolist(), (places < audience.users).tolist()
        for user_id, item, value, known in zip(ids, items.tolist(), values, of_release, strict=True):
            # Of whom the record is damaged nobody can tell whether they have the item.
            person = people.get(user_id, self.seen.get(user_id, self.nobody))
            if person is None or not person.standing.may("audience", self.now) or (known and person.unlisted):
                continue
            if self.question.everybody or not refused([person], np.array([item]))[0, 0]:
                yield Member(user_id, value, snapshot.items[item])


def _item_faults(rows: Int64, snapshot: Snapshot) -> Iterator[Fault]:
    gone = np.zeros(len(rows), np.bool_) if snapshot.delta is None else np.isin(rows, snapshot.delta.deleted)
    has_vector = have_vectors(np.maximum(rows, 0), snapshot)
    for at, row in enumerate(rows.tolist()):
        if row < 0 or gone[at]:
            yield f"item_ids[{at}]", "is not in the catalogue that answers: is the id right?"
        elif not has_vector[at]:
            yield f"item_ids[{at}]", "has no vector yet: give it one with UpsertItems, or build a release with it"
