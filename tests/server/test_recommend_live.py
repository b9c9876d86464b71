"""What an event does to the next answer: it is there at once, for everybody, under load, and through a promotion."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.server.conftest import Clock, Shop
from tests.server.end_to_end.conftest import stubs
from tests.server.test_events import Door, at, door
from tests.support.server import RunningServer, start_server
from tests.support.world import make_world
from tidings.v1 import recommendation_service_pb2 as pb
from tidings.v1.event_pb2 import Event, EventItem
from tidings.v1.event_service_pb2 import EVENT_STATUS_ACCEPTED, EVENT_STATUS_REJECTED
from tidings_core.model import SERVING_CONFIGS, Answer, Query
from tidings_core.release import Release
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.erasures import ErasedIds
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.people import People
from tidings_server.application.promote_release import PromoteRelease
from tidings_server.application.recommend import Recommend
from tidings_server.application.record_events import RecordEvents
from tidings_server.application.serving import Serving
from tidings_server.transport.events import encode_event

WAIT = 60.0
GROUPS = 6
NUMBERS = count()
"""Names that no other test has."""


@pytest.fixture(scope="module")
def server(built_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that answers from release a."""
    with start_server(built_shop.path, tmp_path_factory.mktemp("live") / "state") as running:
        with stubs(running) as ask:
            ask.promote(built_shop.a)
        yield running


@pytest.fixture
def ask(server: RunningServer) -> Iterator[Door]:
    """A channel of its own for each test."""
    with door(server) as found:
        yield found


def happened(kind: str, user_id: str, *item_ids: str, **fields: Any) -> Event:
    """An event of a type, under a name of its own."""
    items = [EventItem(item_id=item_id) for item_id in item_ids]
    return Event(event_id=f"live-{next(NUMBERS)}", type=f"EVENT_TYPE_{kind}", user_id=user_id, items=items, **fields)


def answer(ask: Door, user_id: str, token: str = "", **fields: Any) -> pb.RecommendResponse:
    """What a user is recommended."""
    request = pb.RecommendRequest(user_id=user_id, consistency_token=token, **{"k": 10, **fields})
    return ask.recommendation.Recommend(request, timeout=WAIT)


def ids(response: pb.RecommendResponse) -> list[str]:
    """The items of an answer."""
    return [item.item.item_id for item in response.items]


def groups(response: pb.RecommendResponse) -> list[int]:
    """The group of each item of an answer."""
    return [int(name.split("-")[1]) % GROUPS for name in ids(response)]


def causes(response: pb.RecommendResponse) -> list[tuple[int, str]]:
    """What an answer had to do without."""
    return [(one.cause, one.stage) for one in response.degraded]


def test_an_event_changes_the_very_next_answer_a_thousand_times_in_a_row_under_load(
    ask: Door, server: RunningServer
) -> None:
    """What was just bought is never in the next answer, while others record and ask as fast as they can."""
    stop = threading.Event()
    done = [0, 0]

    def record_on() -> None:
        with door(server) as own:
            while not stop.is_set():
                own.record(happened("VIEW", f"crowd-{done[0] % 50}", f"item-{done[0] % 300}"))
                done[0] += 1

    def ask_on() -> None:
        with door(server) as own:
            while not stop.is_set():
                answer(own, f"crowd-{done[1] % 50}")
                done[1] += 1

    threads = [threading.Thread(target=work) for work in (record_on, ask_on)]
    for thread in threads:
        thread.start()
    users = [f"user-{n}" for n in range(40)]
    best = {user: ids(answer(ask, user))[0] for user in users}
    wrong = []
    for n in range(1000):
        user = users[n % 40]
        token = ask.record(happened("PURCHASE", user, best[user])).consistency_token
        after = ids(answer(ask, user, token))
        if best[user] in after:
            wrong.append((n, best[user]))
        best[user] = after[0]
    stop.set()
    for thread in threads:
        thread.join(WAIT)
    assert wrong == []
    assert min(done) > 100


def test_a_stranger_becomes_known_by_what_he_does(ask: Door) -> None:
    """Nothing is known of him at first; after two views his answer is of the group that he looked at."""
    before = answer(ask, "stranger-1")
    assert causes(before) == [(pb.DEGRADATION_CAUSE_UNKNOWN_USER, "user")]
    token = ask.record(happened("VIEW", "stranger-1", "item-2", "item-8")).consistency_token
    after = answer(ask, "stranger-1", token)
    assert causes(after) == []
    # The generated shop's diversity lets five of a category stand before any other has its turn.
    assert groups(after)[:5] == [2] * 5
    reasons = {reason.code for item in after.items for reason in item.reasons}
    assert pb.REASON_CODE_SIMILAR_TO_VIEWED in reasons


def test_what_was_bought_vanishes_and_what_was_given_back_does_not_return_as_advice(ask: Door) -> None:
    """A purchase takes the item out of the answer; a return does not make it a wish."""
    best = ids(answer(ask, "user-41"))[0]
    ask.record(happened("PURCHASE", "user-41", best))
    assert best not in ids(answer(ask, "user-41"))
    token = ask.record(happened("RETURN", "user-41", best)).consistency_token
    assert best not in ids(answer(ask, "user-41", token, k=50))


@pytest.mark.parametrize("by", ["item", "category"])
def test_what_somebody_asked_to_see_less_of_is_not_recommended(ask: Door, by: str) -> None:
    """The item, or everything of the category, is gone at once."""
    user = f"user-{42 if by == 'item' else 43}"
    first = answer(ask, user, k=50)
    if by == "item":
        token = ask.record(happened("SEE_LESS", user, ids(first)[0])).consistency_token
        assert ids(first)[0] not in ids(answer(ask, user, token, k=50))
    else:
        token = ask.record(happened("SEE_LESS", user, category=f"group-{groups(first)[0]}")).consistency_token
        assert groups(first)[0] not in groups(answer(ask, user, token, k=50))


def test_an_item_nobody_had_seen_before_counts_at_once(ask: Door) -> None:
    """Its number is given with its first event, and the answer after that rests on it."""
    for n in range(250, 300):
        user = f"first-{n}"
        token = ask.record(happened("VIEW", user, f"item-{n}")).consistency_token
        assert groups(answer(ask, user, token))[0] == n % GROUPS, n


def test_items_the_release_does_not_have_are_passed_over(ask: Door) -> None:
    """Events about them are recorded, stand in the profile, and say nothing to this release."""
    token = ask.record(happened("PURCHASE", "elsewhere", "no-such-item", "nor-this")).consistency_token
    assert len(answer(ask, "elsewhere", token).items) == 10
    assert {item.item_id for item in ask.profile("elsewhere").bought_items} == {"no-such-item", "nor-this"}


def test_a_search_and_a_category_of_the_request_are_answered(ask: Door) -> None:
    """`category` asks for what is in it; limits of both are named by their field."""
    found = answer(ask, "nobody-in-particular", category="group-3", serving_config="browse")
    assert groups(found)[:5] == [3] * 5
    for field, limit in (("query", 1024), ("category", 256)):
        answer(ask, "user-1", **{field: "x" * limit})
        with pytest.raises(grpc.RpcError) as refused:
            answer(ask, "user-1", **{field: "x" * (limit + 1)})
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert f"{field}: has {limit + 1} bytes, may have {limit} at most" in (refused.value.details() or "")


def test_an_old_event_that_comes_late_is_not_the_newest(ask: Door) -> None:
    """The profile is ordered by when things happened, not by when they were told."""
    ask.record(happened("VIEW", "late", "item-3"))
    ask.record(happened("VIEW", "late", "item-4", event_time=at(-86_400.0)))
    assert [event.item_ids[0] for event in ask.profile("late").recent_events] == ["item-3", "item-4"]


def test_a_profile_moves_with_a_promotion_and_with_a_restart(shop: Shop, tmp_path: Path) -> None:
    """What was bought under one release is left out under the next, whose rows are others, and after a restart."""
    other = make_world(items=120, seed=7)
    newer = other.write(shop.path, 1_700_000_500.0).release_id
    with start_server(shop.path, tmp_path / "state") as server, stubs(server) as admin, door(server) as ask:
        admin.promote(shop.a)
        bought = [f"item-{n}" for n in (5, 11, 17, 23)]
        token = ask.record(happened("PURCHASE", "mover", *bought)).consistency_token
        assert not set(bought) & set(ids(answer(ask, "mover", token, k=100)))
        admin.promote(newer)
        moved = answer(ask, "mover", token, k=100)
        assert moved.release_id == newer
        assert groups(moved)[0] == 5
        assert not set(bought) & set(ids(moved))
    with start_server(shop.path, tmp_path / "state") as server, door(server) as ask:
        again = answer(ask, "mover", token, k=100)
        assert again.release_id == newer
        assert ids(again) == ids(moved)


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[SqliteStore]:
    """A store of the test's own."""
    (tmp_path / "store").mkdir()
    opened = SqliteStore.open(tmp_path / "store", lambda: int(clock() * 1000))
    yield opened
    opened.close()


@pytest.fixture
def release(shop: Shop, directory: ReleaseDirectory, serving: Serving, clock: Clock) -> Release:
    """The release that serves."""
    return PromoteRelease(directory, serving, clock)(shop.a)[0]


def asked(recommend: Recommend, *users: str) -> list[Answer]:
    """The answers to some users."""
    made = recommend([Query(user, SERVING_CONFIGS["for-you"], 10) for user in users], [1e12] * len(users)).answers
    assert all(isinstance(one, Answer) for one in made)
    return [one for one in made if isinstance(one, Answer)]


def degraded(one: Answer) -> list[tuple[str, str]]:
    """What an answer had to do without."""
    return [(found.cause, found.stage) for found in one.degraded]


def test_a_damaged_profile_degrades_one_answer_and_a_lost_store_all_of_them(
    store: SqliteStore, serving: Serving, release: Release, clock: Clock
) -> None:
    """They are answered without what is recorded, say so, and are what the release alone makes of them."""
    people = People(store, KnownDocuments(store))
    recommend = Recommend(serving, clock, lambda: 0.0, find_person=people.find)
    alone = asked(Recommend(serving, clock, lambda: 0.0), "user-1", "user-2", "user-3")
    store.write(lambda tx: tx.users.put("user-1", b"{}", 0)).result()
    first, second = asked(recommend, "user-1", "user-2")
    assert (degraded(first), degraded(second)) == ([("failed", "profile")], [])
    store.close()
    # What the store keeps in memory of "user-2" (nothing is recorded) it still knows.
    lost = asked(recommend, "user-1", "user-3")
    assert [degraded(one) for one in lost] == [[("failed", "profile")]] * 2
    assert [one.items for one in (first, second, lost[1])] == [one.items for one in alone]


def test_who_was_erased_stays_so_when_the_store_is_lost(
    store: SqliteStore, serving: Serving, release: Release, clock: Clock
) -> None:
    """Nothing is known of them then either, not what the release still has."""
    erased = ErasedIds(b"k" * 32)
    erased.add([erased.key(user) for user in ("user-1", "user-3")])
    people = People(store, KnownDocuments(store, erased=erased))
    recommend = Recommend(serving, clock, lambda: 0.0, find_person=people.find)
    (before,) = asked(recommend, "user-1")
    store.close()
    (lost,) = asked(recommend, "user-3")
    assert degraded(before) == degraded(lost) == [("erased", "profile")]
    assert lost.items == before.items


def test_what_is_kept_of_people_never_hides_an_acknowledged_event(
    store: SqliteStore, serving: Serving, release: Release, clock: Clock
) -> None:
    """Six threads each write and look, others look all the while: whoever looks next sees each purchase in order."""
    documents = KnownDocuments(store, most=4)
    people = People(store, documents, kept=4)
    record = RecordEvents(store, documents, (), clock)
    stop = threading.Event()

    def look_on() -> None:
        while not stop.is_set():
            for n in range(6):
                people.find(f"new-{n}", release)

    def work(n: int) -> list[int]:
        from tidings_core.events import Event, EventItem

        seen = []
        for m in range(40):
            event = Event(f"{n}-{m}", "purchase", f"new-{n}", int(clock() * 1000) - m, (EventItem(f"item-{m}"),))
            record([[(event, encode_event(event))]])
            person = people.find(f"new-{n}", release)
            assert person is not None
            seen.append(len(person.history.rows))
        return seen

    readers = [threading.Thread(target=look_on) for _ in range(2)]
    for reader in readers:
        reader.start()
    with ThreadPoolExecutor(6) as pool:
        seen: Sequence[list[int]] = list(pool.map(work, range(6)))
    stop.set()
    for reader in readers:
        reader.join()
    assert seen == [list(range(1, 41))] * 6


def test_people_with_many_items_are_kept_as_far_as_they_fit(
    store: SqliteStore, serving: Serving, release: Release, clock: Clock
) -> None:
    """Who has bought much needs room for every item of the shop: the one made longest ago leaves first."""
    from tidings_core.events import Event, EventItem

    found: list[bool] = []
    documents = KnownDocuments(store)
    record = RecordEvents(store, documents, (), clock)
    for user, bought in (("much-1", 280), ("much-2", 280), ("few", 2)):
        items = tuple(EventItem(f"item-{row}") for row in range(bought))
        event = Event(user, "purchase", user, int(clock() * 1000), items)
        record([[(event, encode_event(event))]])
    person = People(store, documents).find("much-1", release)
    assert person is not None
    assert person.many_bytes > 280 * 4
    room = person.many_bytes * 3 // 2
    people = People(store, documents, kept_bytes=room, count=found.append)
    for user in ("much-1", "few", "few", "much-2", "much-2", "much-1", "few", "much-2"):
        again = people.find(user, release)
        assert again is not None
        assert len(again.history.rows) == (2 if user == "few" else 280)
    assert found == [False, False, True, False, True, False, False, False]
    assert people.forget("much-2")
    assert not people.forget("much-2")
    assert people.kept_ids == ["few"]


def test_an_event_brings_back_the_decision_it_follows_from(ask: Door) -> None:
    """The token that came with an answer is taken; a forged one is refused by name, with its event alone."""
    token = answer(ask, "user-1").decision_token
    assert token
    forged = ("B" if token[0] == "A" else "A") + token[1:]
    good, bad = (happened("CLICK", "decider", "item-1", decision_token=one) for one in (token, forged))
    verdicts = ask.record(good, bad).verdicts
    assert [verdict.status for verdict in verdicts] == [EVENT_STATUS_ACCEPTED, EVENT_STATUS_REJECTED]
    assert [fault.field for fault in verdicts[1].faults] == ["decision_token"]
