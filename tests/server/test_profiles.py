"""GetProfile: what recorded events made of a user, from the store's documents to the bytes of an answer."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.server.conftest import Clock
from tests.support.world import NOW, make_world
from tidings.v1 import event_pb2
from tidings.v1 import profile_service_pb2 as pb
from tidings_core.attributes import Keyword
from tidings_core.declared import BUILT_IN as DECLARED
from tidings_core.errors import Conflict, InvalidInput, NotFound, TidingsError
from tidings_core.events import EVENT_TYPES, Event, EventItem, EventType
from tidings_core.profile import BLOCKED, RECENT, RECENT_ITEMS
from tidings_core.stored import Document
from tidings_core.tables import BytesTable
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application import known_documents
from tidings_server.application.consistency import check_token, write_token
from tidings_server.application.documents import UserDocument, read_document, write_document
from tidings_server.application.get_profile import MOST_BOUGHT, GetProfile
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.people import People
from tidings_server.application.record_change import RecordChange
from tidings_server.application.record_events import take_in
from tidings_server.application.serving import Serving
from tidings_server.application.store import Transaction
from tidings_server.application.update_profile import UpdateProfile
from tidings_server.application.user_tags import UserTags
from tidings_server.transport.calls import Call
from tidings_server.transport.changes import encode_change
from tidings_server.transport.events import encode_event
from tidings_server.transport.profiles import ProfileHandlers

WAIT = 30.0
HOUR = 3_600_000
DAY = 86_400_000


@dataclass
class Place:
    """A store, what serves, and the handlers over both; events are recorded as the server records them."""

    store: SqliteStore
    serving: Serving
    clock: Clock
    handlers: ProfileHandlers
    releases: Path
    people: People
    made: int = 0

    @property
    def now(self) -> int:
        """The time in Unix milliseconds."""
        return int(self.clock.now * 1000)

    def event(
        self,
        type: EventType,
        *items: str | EventItem,
        user: str = "ann",
        ago: int = 0,
        category: str = "",
        query: str = "",
        value: float | None = None,
    ) -> Event:
        """An event of a user, `ago` milliseconds before now."""
        self.made += 1
        things = tuple(item if isinstance(item, EventItem) else EventItem(item) for item in items)
        return Event(f"event-{self.made}", type, user, self.now - ago, things, category, query, value)

    def record(self, *events: Event) -> None:
        """Record events of one user, as one call does."""
        self.store.write(partial(self._take_in, events)).result(WAIT)

    def _take_in(self, events: tuple[Event, ...], tx: Transaction) -> None:
        user = events[0].user_id
        stored = tx.users.get(user)
        given = [(event, encode_event(event)) for event in events]
        document, _ = take_in(tx, read_document(stored), given, (), self.now)
        tx.users.put(user, write_document(document), stored.version)

    def serve(self) -> None:
        """Let a release answer that has categories, and a brand for all items but the last."""
        world = make_world()
        count = len(world.parts.item_ids)
        brands = np.where(np.arange(count) < count - 1, np.arange(count) % 2, -1).astype(np.int32)
        attributes = {**world.parts.attributes, "brand": Keyword(brands, BytesTable.of([b"Aurora", b"Borealis"]))}
        release_id = (
            replace(world, parts=replace(world.parts, attributes=attributes)).write(self.releases, NOW).release_id
        )
        release = ReleaseDirectory(self.releases).open(release_id)
        self.serving.swap(release, self.serving.record.promoted(release_id, NOW))

    def answer(self, user: str = "ann", token: str = "") -> pb.GetProfileResponse | TidingsError:
        """The answer to a call."""
        request = pb.GetProfileRequest(user_id=user, consistency_token=token)
        (answer,) = self.handlers.get_profile([Call(request.SerializeToString(), WAIT)])
        return answer if isinstance(answer, TidingsError) else pb.GetProfileResponse.FromString(answer)

    def profile(self, user: str = "ann", token: str = "") -> pb.Profile:
        """The profile of a user, who must have one."""
        answer = self.answer(user, token)
        assert isinstance(answer, pb.GetProfileResponse), answer
        return answer.profile


@pytest.fixture
def place(tmp_path: Path, serving: Serving, clock: Clock) -> Iterator[Place]:
    """Nothing is recorded and no release serves yet."""
    (tmp_path / "store").mkdir()
    store = SqliteStore.open(tmp_path / "store", lambda: int(clock.now * 1000))
    documents = KnownDocuments(store)
    people = People(store, documents)
    tags = UserTags((), DECLARED, lambda: serving.release, people.rows_of)
    get_profile = GetProfile(documents, serving, people.item_ids, people.rows_of, tags, clock)
    update = UpdateProfile(RecordChange(store, documents, encode_change, clock), DECLARED, (), clock)
    handlers = ProfileHandlers(get_profile, update, DECLARED, partial(check_token, store), clock)
    yield Place(store, serving, clock, handlers, tmp_path / "own-releases", people)
    store.close()


def test_every_field_says_what_was_recorded(place: Place) -> None:
    """One user with events of many kinds, field by field, written out by hand."""
    place.serve()
    ago = {"bought": 10 * DAY, "back": 2 * DAY, "searched": 3 * HOUR}
    place.record(
        place.event("purchase", EventItem("item-0", 2, 10.25), "item-6", user="user-7", ago=ago["bought"]),
        place.event("return", "item-0", user="user-7", ago=ago["back"], value=10.25),
    )
    place.record(
        place.event("search", user="user-7", ago=ago["searched"], query="red 鞋"),
        place.event("rating", "nowhere", user="user-7", ago=3, value=0.0),
        place.event("see_less", "item-9", user="user-7", ago=2, category="group-5"),
        place.event("view", user="user-7", ago=1, category="Gärten"),
        place.event("impression", "item-1", user="user-7"),
    )
    found = place.profile("user-7")

    def stamp(
        message: pb.RecentEvent | pb.BoughtItem | pb.Profile | pb.Rating | pb.Search | pb.Visit, field: str
    ) -> int:
        assert message.HasField(field)
        milliseconds: int = getattr(message, field).ToMilliseconds()
        return place.now - milliseconds

    assert found.user_id == "user-7"
    assert found.version == place.store.user("user-7").version == 2
    assert stamp(found, "first_event_time") == ago["bought"]
    assert stamp(found, "last_event_time") == 0
    counts = {count.type: (count.total, count.last_day, count.last_week, count.last_month) for count in found.counts}
    today = event_pb2.EVENT_TYPE_SEARCH, event_pb2.EVENT_TYPE_RATING, event_pb2.EVENT_TYPE_SEE_LESS
    assert counts == {
        event_pb2.EVENT_TYPE_PURCHASE: (1, 0, 0, 1),
        event_pb2.EVENT_TYPE_RETURN: (1, 0, 1, 1),
        **dict.fromkeys((*today, event_pb2.EVENT_TYPE_VIEW, event_pb2.EVENT_TYPE_IMPRESSION), (1, 1, 1, 1)),
    }
    assert [
        (
            event.type,
            stamp(event, "event_time"),
            list(event.item_ids),
            event.category,
            event.query,
            event.value if event.HasField("value") else None,
        )
        for event in found.recent_events
    ] == [
        (event_pb2.EVENT_TYPE_VIEW, 1, [], "Gärten", "", None),
        (event_pb2.EVENT_TYPE_SEE_LESS, 2, ["item-9"], "group-5", "", None),
        (event_pb2.EVENT_TYPE_RATING, 3, ["nowhere"], "", "", 0.0),
        (event_pb2.EVENT_TYPE_SEARCH, ago["searched"], [], "", "red 鞋", None),
        (event_pb2.EVENT_TYPE_RETURN, ago["back"], ["item-0"], "", "", 10.25),
        (event_pb2.EVENT_TYPE_PURCHASE, ago["bought"], ["item-0", "item-6"], "", "", None),
    ]
    assert [(item.item_id, stamp(item, "last_time"), item.purchases, item.returns) for item in found.bought_items] == [
        ("item-0", ago["bought"], 1, 1),
        ("item-6", ago["bought"], 1, 0),
    ]
    assert found.bought_item_count == 2
    assert list(found.blocked_item_ids) == ["item-9"]
    assert list(found.blocked_categories) == ["group-5"]
    faded = 2.0 ** (-10 / 30)
    whole = 2 * faded + 0.2
    assert [share.value for share in found.categories] == ["group-0", "Gärten"]
    assert [share.share for share in found.categories] == pytest.approx([2 * faded / whole, 0.2 / whole], rel=1e-6)
    assert [(share.value, share.share) for share in found.brands] == [("Aurora", 1.0)]
    assert found.known_to_release
    assert found.spent == 10.25
    unset = {field.name for field in pb.Profile.DESCRIPTOR.fields} - {field.name for field, _ in found.ListFields()}
    assert unset == {"attributes", "tags", "contacts", "preferences"}  # Events state none.
    decayed = {count.type: count.decayed for count in found.counts}
    assert decayed[event_pb2.EVENT_TYPE_IMPRESSION] == pytest.approx(1.0, abs=1e-3)
    assert decayed[event_pb2.EVENT_TYPE_PURCHASE] == pytest.approx(faded, abs=1e-3)
    assert [(one.item_id, stamp(one, "event_time"), one.stars) for one in found.ratings] == [("nowhere", 3, 0.0)]
    assert [(one.query, stamp(one, "event_time")) for one in found.searches] == [("red 鞋", ago["searched"])]
    # Given back is something that happens to somebody who need not be there.
    assert [(one.events, stamp(one, "start_time") // DAY) for one in found.visits] == [(3, 0), (1, 0), (1, 10)]
    prices = found.prices
    assert 0.0 < prices.low <= prices.middle <= prices.high


def test_without_a_release_there_are_no_affinities(place: Place) -> None:
    """All else is told all the same; once one serves, they are there."""
    place.record(place.event("purchase", "item-6"))
    found = place.profile()
    assert (list(found.categories), list(found.brands), found.known_to_release) == ([], [], False)
    assert [item.item_id for item in found.bought_items] == ["item-6"]
    place.serve()
    found = place.profile()
    assert [share.value for share in found.categories] == ["group-0"]
    assert not found.known_to_release


def test_a_document_is_decoded_once_for_all_who_ask(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """By GetProfile and by a recommendation, until the next event; then what is new is seen."""
    place.serve()
    assert place.serving.release is not None
    decoded: list[int] = []

    def counted(stored: Document) -> UserDocument:
        decoded.append(stored.version)
        return read_document(stored)

    monkeypatch.setattr(known_documents, "read_document", counted)
    place.record(place.event("view", "item-1"))
    assert place.people.find("ann", place.serving.release) is not None
    place.profile()
    place.profile()
    assert decoded == [1]
    place.record(place.event("view", "item-2"))
    assert place.profile().version == 2
    assert decoded == [1, 2]


def test_documents_are_kept_by_number_and_by_size(place: Place) -> None:
    """The ones used longest ago go first; one too large by itself is not kept, and is read all the same."""
    for user in ("ann", "bob", "cat"):
        place.record(place.event("view", "item-1", user=user))
    size = len(place.store.user("ann").content)
    documents = KnownDocuments(place.store, most_bytes=5 * size // 2)

    def kept() -> str:
        return " ".join(user for user in ("ann", "bob", "cat") if documents.find(user, 1) is not None)

    for user, expected in (("ann", "ann"), ("bob", "ann bob"), ("ann", "ann bob"), ("cat", "bob cat")):
        documents.read(user)
        assert kept() == expected
    place.record(place.event("see_less", *(f"item-{at}" for at in range(500)), user="dan"))
    assert documents.read("dan")[1].profile.blocked_items
    assert documents.find("dan", 1) is None
    documents = KnownDocuments(place.store, most=1)
    documents.read("ann")
    documents.read("bob")
    assert kept() == "bob"


def test_a_newer_document_takes_the_room_of_the_older_one(place: Place) -> None:
    """However often one changes, it counts once."""
    place.record(place.event("view", "item-1", user="bob"))
    documents = KnownDocuments(place.store, most_bytes=100_000)
    documents.read("bob")
    for _ in range(200):
        place.record(place.event("view", "item-1"))
        documents.read("ann")
    assert documents.find("bob", 1) is not None


def test_nobody_is_not_found(place: Place) -> None:
    """Neither a user of whom nothing was heard, also when the release knows them, nor one who was only sent a push."""
    place.serve()
    assert isinstance(place.answer("user-7"), NotFound)

    def pushed(tx: Transaction) -> None:
        document = read_document(tx.users.get("bob"))
        tx.users.put("bob", write_document(document.with_push(1, place.now, ("item-1",))), 0)

    place.store.write(pushed).result(WAIT)
    answer = place.answer("bob")
    assert isinstance(answer, NotFound)
    assert "nothing is recorded of this user" in str(answer)


def test_what_is_listed_is_bounded_and_newest_first(place: Place) -> None:
    """100 events with 16 items each, 1000 bought items; what was bought is counted whole."""
    shelves = [[f"thing-{shelf}-{at}" for at in range(100)] for shelf in range(12)]
    place.record(*(place.event("purchase", *items, ago=DAY + shelf) for shelf, items in enumerate(shelves)))
    place.record(*(place.event("see_less", f"bad-{at}", ago=at) for at in range(RECENT + 1)))
    found = place.profile()
    assert len(found.recent_events) == RECENT
    times = [event.event_time.ToMilliseconds() for event in found.recent_events]
    assert times == sorted(times, reverse=True)
    assert found.bought_item_count == 1200
    assert len(found.bought_items) == MOST_BOUGHT
    assert {item.item_id for item in found.bought_items} == {item for items in shelves[:10] for item in items}
    assert list(found.blocked_item_ids) == [f"bad-{at}" for at in range(RECENT + 1)]
    place.record(place.event("view", *shelves[0]))
    assert list(place.profile().recent_events[0].item_ids) == shelves[0][:RECENT_ITEMS]


def test_the_largest_profile_fits_a_message(place: Place) -> None:
    """Every list full and every text as long as it may be stays under the 4 MB that gRPC's clients take."""
    long = "x" * 250

    def named(kind: str, count: int) -> list[str]:
        return [f"{kind}{at:05}{long}"[:256] for at in range(count)]

    place.record(
        place.event("purchase", *named("b", 1000), ago=5),
        *(place.event("see_less", item, category=item, ago=4) for item in named("s", BLOCKED)),
        *(place.event("view", *named(f"v{at:03}", 16), category=long) for at in range(RECENT)),
    )
    found = place.profile()
    assert (len(found.bought_items), len(found.blocked_item_ids), len(found.blocked_categories)) == (1000, 1024, 1024)
    assert sum(len(event.item_ids) for event in found.recent_events) == 1600
    assert found.ByteSize() < 4 << 20


def test_windows_end_at_midnight_of_utc(place: Place) -> None:
    """Today is one day, so that an event of yesterday evening is not of the last day, and one of 7 days ago not of the
    last week.
    """
    midnight = place.now // DAY * DAY
    place.clock.now = (midnight + HOUR) / 1000
    place.record(
        place.event("view", "a", ago=HOUR),
        place.event("view", "a", ago=HOUR + 1),
        place.event("view", "a", ago=6 * DAY),
        place.event("view", "a", ago=7 * DAY),
        place.event("view", "a", ago=29 * DAY),
    )
    (count,) = place.profile().counts
    assert (count.total, count.last_day, count.last_week, count.last_month) == (5, 1, 3, 5)
    place.clock.now += 40 * DAY / 1000
    (count,) = place.profile().counts
    assert (count.total, count.last_day, count.last_week, count.last_month) == (5, 0, 0, 0)


def test_what_was_only_given_back_was_not_bought_here(place: Place) -> None:
    """Bought before the log began, it is missing from what was bought, and money goes down."""
    place.record(place.event("return", "item-1", value=5.0))
    found = place.profile()
    assert (found.bought_item_count, list(found.bought_items), found.spent) == (0, [], -5.0)


@pytest.mark.parametrize("type", EVENT_TYPES)
def test_every_type_of_event_has_its_name_on_the_wire(place: Place, type: EventType) -> None:
    """The enum of the count is the one of the event."""
    items = [] if type == "search" else ["item-1"]
    query, value = "shoes" if type == "search" else "", 5.0 if type == "rating" else None
    place.record(place.event(type, *items, query=query, value=value))
    (count,) = place.profile().counts
    assert event_pb2.EventType.Name(count.type) == f"EVENT_TYPE_{type.upper()}"
    assert [event.type for event in place.profile().recent_events] == [count.type] * (type != "impression")


@pytest.mark.parametrize("user", ["", "x" * 257, "鞋" * 86, "a\nb"])
def test_an_id_that_cannot_be_is_refused(place: Place, user: str) -> None:
    """Naming the field."""
    answer = place.answer(user)
    assert isinstance(answer, InvalidInput)
    assert [field for field, _ in answer.violations] == ["user_id"]


def test_a_token_of_a_write_is_honoured_and_others_are_refused(place: Place) -> None:
    """That of a recorded event is fine; nonsense is bad input, and a write that this store lacks is a conflict."""
    place.record(place.event("view", "item-1"))
    token = write_token(place.store)
    assert place.profile(token=token).version == 1
    answer = place.answer(token="nonsense")
    assert isinstance(answer, InvalidInput)
    assert [field for field, _ in answer.violations] == ["consistency_token"]
    newer = f"{token.rpartition('.')[0]}.{place.store.position + 1}"
    assert isinstance(place.answer(token=newer), Conflict)


def test_calls_of_a_batch_fail_alone(place: Place) -> None:
    """Damaged bytes, a stranger and a user who is known, in the order of the calls."""
    place.record(place.event("view", "item-1"))
    bodies = [b"\xff", pb.GetProfileRequest(user_id="bob").SerializeToString()]
    bodies.append(pb.GetProfileRequest(user_id="ann").SerializeToString())
    damaged, missing, found = place.handlers.get_profile([Call(body, WAIT) for body in bodies])
    assert isinstance(damaged, InvalidInput)
    assert isinstance(missing, NotFound)
    assert isinstance(found, bytes)
    assert pb.GetProfileResponse.FromString(found).profile.user_id == "ann"


def test_an_item_that_the_release_lacks_is_told_by_its_id(place: Place) -> None:
    """It says nothing of categories, and one without a brand nothing of brands."""
    place.serve()
    place.record(place.event("view", "not-in-the-catalogue"), place.event("view", "item-299"))
    found = place.profile()
    assert {item for event in found.recent_events for item in event.item_ids} == {"not-in-the-catalogue", "item-299"}
    assert [share.value for share in found.categories] == ["group-5"]
    assert list(found.brands) == []
