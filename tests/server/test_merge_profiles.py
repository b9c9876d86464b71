"""Two ids turn out to be one person: what was known of both is joined, once, and the visitor's id means the user."""

import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.conftest import Clock
from tests.server.listening import PATIENCE, House, offsets, opened
from tidings_core.changes import Change, TagSetting, Update
from tidings_core.contacts import Email
from tidings_core.errors import Conflict, InvalidInput
from tidings_core.events import Event, EventItem, EventType
from tidings_core.profile import EMPTY, fold
from tidings_server.adapters.contact_cipher import ContactCipher
from tidings_server.application.contacts import ContactBook, ContactRules
from tidings_server.application.documents import UserDocument, read_document, write_document
from tidings_server.application.merge_profiles import Merged, MergeProfiles
from tidings_server.application.places import Resume
from tidings_server.application.record_change import Changed, RecordChange
from tidings_server.application.record_events import RecordEvents
from tidings_server.application.subscription import GoAway
from tidings_server.transport.changes import decode_logged, encode_change
from tidings_server.transport.events import encode_event

DAY = 86_400_000


@dataclass
class Shop:
    """A house with subscribers, events and merges."""

    house: House
    made: int = 0

    @property
    def contacts(self) -> ContactBook:
        """The contacts of users."""
        rules = ContactRules(3, 10 * DAY, str, str)
        return ContactBook(self.house.store, ContactCipher(b"s" * 32), rules, self.house.clock)

    def record(self, *events: Event) -> list[str]:
        """Record events; returns what became of each."""
        record = RecordEvents(self.house.store, self.house.documents, (), self.house.clock)
        (done,) = record([[(event, encode_event(event)) for event in events]])
        assert not isinstance(done, Exception)
        return [verdict.status for verdict in done.verdicts]

    def event(self, user: str, type: EventType = "view", *items: str, ago: int = 0, **more: object) -> Event:
        """An event some milliseconds ago, with an id of its own."""
        self.made += 1
        named = tuple(map(EventItem, items or ("hat",)))
        return Event(f"e-{self.made}", type, user, self.house.now - ago, named, **more)  # type: ignore[arg-type]

    def merge(self, visitor: str, user: str) -> Merged:
        """Make two ids one person."""
        house = self.house
        verb = MergeProfiles(
            house.store,
            house.documents,
            encode_change,
            self.contacts.join,
            house.subscriptions.publish,
            house.subscriptions.moved,
            house.clock,
        )
        return verb(visitor, user).result(PATIENCE)

    def tag(self, user: str, *tags: str) -> Changed:
        """Set tags by hand."""
        self.made += 1
        change = Change(f"c-{self.made}", user, self.house.now, Update(tags=dict.fromkeys(tags, TagSetting())))
        return RecordChange(self.house.store, self.house.documents, encode_change, self.house.clock)(
            change, False
        ).result(PATIENCE)

    def document(self, user: str) -> UserDocument:
        """What is stored of a user."""
        return read_document(self.house.store.user(user))

    def from_the_log(self, *users: str) -> UserDocument:
        """The document that all entries of the log of these ids make."""
        entries = [one for one in self.house.store.events(0, 10_000) if one.user_id in users]
        numbers = {item: number for number, item in self.house.store.item_ids(0)}
        logged = [decode_logged(one.content) for one in entries]
        items = [[numbers[item.item_id] for item in one.items] if isinstance(one, Event) else [] for one in logged]
        profile = fold(EMPTY, zip(logged, items, strict=True))
        return UserDocument(profile=profile, applied_through=max((one.number for one in entries), default=0))


@pytest.fixture
async def shop(tmp_path: Path, clock: Clock) -> AsyncIterator[Shop]:
    """Nothing is recorded yet."""
    async with opened(tmp_path / "state", clock) as house:
        yield Shop(house)


async def test_both_histories_become_one_and_the_visitors_id_means_the_user(shop: Shop) -> None:
    """Byte for byte the document that the log makes of all of it; later events of either id go on in it."""
    shop.record(
        shop.event("v", "view", "hat"), shop.event("v", "add_to_cart", "coat"), shop.event("u", "purchase", "scarf")
    )
    shop.tag("v", "new")
    shop.tag("u", "vip")
    done = shop.merge("v", "u")
    assert (done.user_id, done.already) == ("u", False)
    shop.record(shop.event("v", "purchase", "hat"), shop.event("u", "rating", "coat", value=1.0))
    assert shop.tag("v", "gold").duplicate is False
    for name in ("u", "v"):
        profile = shop.document(name).profile
        assert profile.totals == {"view": 1, "add_to_cart": 1, "purchase": 2, "rating": 1}
        assert set(profile.stated.tags) == {"new", "vip", "gold"}
    assert shop.house.store.user("v").user_id == "u"
    assert shop.house.store.user("v").content == write_document(shop.from_the_log("u", "v"))
    assert shop.house.store.merged("u") == ["v"]
    assert shop.house.store.versions(["u", "v"])["v"] == 0


async def test_a_merge_is_done_once(shop: Shop) -> None:
    """Repeated, it changes nothing and says so, also when more has happened since."""
    shop.record(shop.event("v"), shop.event("u"))
    shop.merge("v", "u")
    shop.record(shop.event("v"))
    before = shop.house.store.user("u"), shop.house.store.position
    assert shop.merge("v", "u") == Merged("u", True, shop.merge("v", "u").token)
    assert (shop.house.store.user("u"), shop.house.store.position) == before
    assert shop.document("u").profile.totals == {"view": 3}


@pytest.mark.parametrize("known", [(), ("v",), ("u",), ("u", "v")])
async def test_either_may_have_no_history(shop: Shop, known: tuple[str, ...]) -> None:
    """A visitor of whom nothing is known, a user of whom nothing is, or both: they are one person afterwards."""
    shop.record(*(shop.event(name) for name in known)) if known else None
    assert shop.merge("v", "u").already is False
    assert shop.merge("v", "u").already is True
    shop.record(shop.event("v"))
    assert shop.document("u").profile.totals == {"view": len(known) + 1}
    assert shop.house.store.user("v").content == write_document(shop.from_the_log("u", "v"))


async def test_a_merge_with_oneself_or_in_a_circle_is_refused_by_name(shop: Shop) -> None:
    """Directly or over others; nothing is changed by it."""
    shop.record(shop.event("a"), shop.event("b"), shop.event("c"))
    with pytest.raises(InvalidInput, match="user_id: is the visitor"):
        shop.merge("a", "a")
    shop.merge("a", "b")
    shop.merge("b", "c")
    before = [shop.house.store.user(name) for name in "abc"], shop.house.store.position
    for visitor, user in (("c", "a"), ("c", "b")):
        with pytest.raises(InvalidInput, match="is merged into 'c' already: a merge in a circle"):
            shop.merge(visitor, user)
    assert shop.merge("a", "c").already
    assert shop.merge("b", "a").already
    assert ([shop.house.store.user(name) for name in "abc"], shop.house.store.position) == before


async def test_chains_are_followed(shop: Shop) -> None:
    """Whose user is merged in turn is that one's visitor; a third user is refused with what to do instead."""
    shop.record(*(shop.event(name) for name in "abcd"))
    shop.merge("a", "b")
    assert shop.merge("b", "c").user_id == "c"
    assert shop.merge("d", "a").user_id == "c"
    assert shop.house.store.merged("c") == ["a", "b", "d"]
    shop.record(*(shop.event(name) for name in "abcd"))
    assert shop.document("a").profile.totals == {"view": 8}
    with pytest.raises(Conflict, match="visitor 'a' is merged into 'c' already: if 'e' is the same person, merge 'c'"):
        shop.merge("a", "e")


async def test_caps_and_memories_of_pushes_are_those_of_both(shop: Shop) -> None:
    """What was pushed to either counts: no cap begins anew, no trigger's pause, and no item is pushed again."""
    house = shop.house
    for user, item in (("v", "hat"), ("u", "coat"), ("u", "scarf")):
        house.push(user, items=(item,))
    shop.merge("v", "u")
    document = shop.document("v")
    assert document.pushes_in_a_day(house.now) == 3
    assert document.pushed_items == ("hat", "coat", "scarf")
    ours = UserDocument(fired={"cart": 5, "left": 9}, push_times=(3,), newest_offset=7, devices={"tv": (4, 1)})
    theirs = UserDocument(fired={"cart": 8, "seen": 2}, push_times=(1, 4), newest_offset=90, acknowledged=80)
    joined = ours.joined(theirs)
    assert (joined.fired, joined.push_times) == ({"cart": 8, "left": 9, "seen": 2}, (1, 3, 4))
    assert (joined.newest_offset, joined.acknowledged, joined.devices) == (7, 0, {"tv": (4, 1)})


async def test_contacts_of_both_are_the_persons(shop: Shop) -> None:
    """Sealed anew under the person's key; what either id registers or removes from then on is of the same contacts."""
    book = shop.contacts
    for user, address in (("v", "v@example.com"), ("u", "u@example.com")):
        book.register(user, Email(address)).result(PATIENCE)
    shop.merge("v", "u")
    book.register("v", Email("new@example.com")).result(PATIENCE)
    known = book.read("u")
    assert {one.contact for one in known} == {Email(f"{name}@example.com") for name in ("v", "u", "new")}
    assert shop.house.store.contacts("v") == (b"", [])
    assert book.remove("v", known[0].contact_id).result(PATIENCE)
    assert len(book.read("u")) == 2


async def test_what_no_device_of_the_visitor_took_follows_into_the_users_stream(shop: Shop) -> None:
    """In its order, after what is there; what was delivered does not come again, and what expired is said to have."""
    house = shop.house
    visitor = await house.listen("v", "phone")
    taken = house.push("v")
    await visitor.pushes()
    visitor.acknowledge(taken.offset)
    short, left = house.push("v", ttl=5.0), [house.push("v"), house.push("v")]
    house.push("u")
    house.clock.now += 10.0
    user = await house.listen("u", "tv")
    assert offsets(await user.pushes()) == [1]
    shop.merge("v", "u")
    moved = await user.pushes()
    assert [(push.stored.offset, push.stored.push_id) for push in moved] == [(2, left[0].push_id), (3, left[1].push_id)]
    assert user.acknowledge(3, (left[0].push_id, "clicked")) == 3
    assert [house.state_of(push.push_id) for push in (taken, short, *left)] == [
        "delivered",
        "expired",
        "clicked",
        "delivered",
    ]
    assert house.store.pushes("v", 0, 9) == []
    assert {entry.user_id for entry in house.store.decisions("", 99)} == {"u"}


async def test_who_listens_as_the_visitor_goes_on_in_the_users_stream(shop: Shop) -> None:
    """The stream ends and says why; opened again by the old id it is the user's, where an old place means nothing."""
    house = shop.house
    listener = await house.listen("v", "phone")
    old = house.push("v")
    await listener.pushes()
    for _ in range(3):
        house.push("u")
    shop.merge("v", "u")
    assert await listener.next() == GoAway("merged", 0.0, resumable=True)
    again = await house.listen("v", "phone", Resume(house.store.epoch, 2))
    assert (again.opened.offset, again.opened.recovered) == (0, False)
    again.user_id = "u"  # Whose it is now; what follows asks for it by that.
    pushes = await again.pushes()
    assert offsets(pushes) == [1, 2, 3, 4]
    assert pushes[-1].stored.push_id == old.push_id
    sent = house.push("v")
    assert offsets(await again.pushes()) == [sent.offset] == [5]
    again.user_id = "v"
    assert again.acknowledge(5) == 5
    once_more = await house.listen("u", "phone")
    assert (once_more.opened.offset, once_more.opened.recovered) == (5, True)


IDS = ("a", "b", "c", "d")
steps = st.one_of(
    st.tuples(st.just("event"), st.sampled_from(IDS), st.sampled_from(["view", "purchase", "search", "rating"])),
    st.tuples(st.just("merge"), st.sampled_from(IDS), st.sampled_from(IDS)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, max_size=14), st.randoms(use_true_random=False))
async def test_whatever_is_merged_when_every_document_is_what_the_log_makes(
    shop: Shop, steps: Iterable[tuple[str, str, str]], dice: random.Random
) -> None:
    """Events before and after, visitors with histories, chains and refusals: by any of its ids the same document."""
    shop.made += 1
    ids = {name: f"{name}-{shop.made}" for name in IDS}
    whose = {name: name for name in ids.values()}
    for what, one, other in steps:
        if what == "event":
            more = {"query": "mug"} if other == "search" else {"value": 1.0} if other == "rating" else {}
            event = shop.event(ids[one], other, ago=dice.randrange(40 * DAY), **more)  # type: ignore[arg-type]
            assert shop.record(event) == ["accepted"]
            continue
        visitor, user = ids[one], ids[other]
        allowed = visitor != user and whose[user] != visitor and whose[visitor] in (visitor, whose[user])
        if not allowed:
            with pytest.raises((InvalidInput, Conflict)):
                shop.merge(visitor, user)
            continue
        into = whose[user]
        assert shop.merge(visitor, user).already == (whose[visitor] == into)
        whose = {name: into if root == visitor else root for name, root in whose.items()}
    for name, root in whose.items():
        together = [other for other in whose if whose[other] == root]
        made = shop.from_the_log(*together)
        if made.applied_through:
            assert shop.house.store.user(name).content == write_document(made)
        assert shop.house.store.merged(root) == sorted(other for other in together if other != root)
