"""FindAudience against a real server: the right people in order, gone on with from anywhere, and nobody who refuses."""

import asyncio
import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tidings
from tests.server.conftest import Clock, Shop
from tests.support.server import RunningServer, start_server
from tests.support.world import make_world
from tidings import __main__ as command
from tidings.v1 import audience_pb2
from tidings_core.errors import Overloaded
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.filter_users import FilterUsers
from tidings_server.application.find_audience import FindAudience
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.many_people import ManyPeople
from tidings_server.application.people import People
from tidings_server.application.promote_release import PromoteRelease
from tidings_server.application.serving import Serving
from tidings_server.application.user_tags import UserTags
from tidings_server.transport.audience import MOST_OPEN, AudienceHandlers

WORLD = make_world(seed=0)
SNAPSHOT = WORLD.snapshot()


@pytest.fixture(scope="module")
def server(built_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that answers from release a."""
    with start_server(built_shop.path, tmp_path_factory.mktemp("audience") / "state") as running:
        with tidings.Client(running.address, timeout=30) as client:
            client.promote_release(built_shop.a)
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[tidings.Client]:
    """A client of its own for each test."""
    with tidings.Client(server.address, timeout=30) as client:
        yield client


def members(pages: Iterator[tidings.AudiencePage]) -> list[tidings.AudienceMember]:
    """All of an audience."""
    return [member for page in pages for member in page.members]


def expected(items: list[int], leave_out: bool = True) -> list[tuple[str, float]]:
    """What brute force finds among the users of the release."""
    assert SNAPSHOT.histories is not None
    found = []
    for row in range(60):
        bought = set(SNAPSHOT.histories[row].rows.tolist()) if leave_out else set()
        scores = [SNAPSHOT.item_vectors[item] @ SNAPSHOT.user_vectors[row] for item in items if item not in bought]
        if scores:
            found.append((f"user-{row}", float(max(scores))))
    return sorted(found, key=lambda one: -one[1])


def test_the_right_people_come_in_order(shop: Shop, tmp_path: Path) -> None:
    """By the best of the items, as brute force says; who bought it is not among them, unless asked for."""
    with start_server(shop.path, tmp_path / "state") as server, tidings.Client(server.address, timeout=30) as client:
        client.promote_release(shop.a)
        for items in ([7], [7, 8, 12]):
            names = [f"item-{row}" for row in items]
            for everybody in (False, True):
                pages = list(client.find_audience(names, page_size=7, include_refused=everybody))
                found = [member for page in pages for member in page.members]
                true = expected(items, not everybody)
                assert [one.user_id for one in found] == [user_id for user_id, _ in true]
                assert [one.score for one in found] == pytest.approx([score for _, score in true], abs=1e-5)
                assert {len(page.members) for page in pages[:-1]} == {7}
                assert (pages[0].release_id, pages[0].item_count, pages[-1].page_token) == (shop.a, len(items), "")
        best = members(client.find_audience(["item-7"], limit=10))
        assert {int(one.user_id.split("-")[1]) % 6 for one in best[:5]} == {7 % 6}
        least = best[4].score
        assert members(client.find_audience(["item-7"], min_score=least)) == best[:5]


@pytest.mark.parametrize("size", [1, 3, 10])
def test_any_page_can_be_gone_on_from_and_the_rest_comes_exactly_once(client: tidings.Client, size: int) -> None:
    """In the same order, however the whole is cut into calls."""
    whole = members(client.find_audience(["item-20", "item-21"]))
    token, found = "", []
    while True:
        pages = list(client.find_audience(["item-20", "item-21"], limit=size, page_token=token))
        found += [member for page in pages for member in page.members]
        token = pages[-1].page_token
        if not token:
            break
    assert found == whole
    first = next(client.find_audience(["item-20", "item-21"], page_size=4))
    rest = members(client.find_audience(["item-20", "item-21"], page_token=first.page_token))
    assert [*first.members, *rest] == whole


def test_what_was_just_done_counts(client: tidings.Client) -> None:
    """Who buys the item, gives it back, or asks to see less of it or of its category is not found any more."""
    item = "item-31"
    best = [one.user_id for one in members(client.find_audience([item], limit=4))]
    client.record(
        [
            tidings.Event(best[0], "purchase", items=[item]),
            tidings.Event(best[1], "see_less", items=[item]),
            tidings.Event(best[2], "see_less", category="group-1"),
        ]
    )
    found = [one.user_id for one in members(client.find_audience([item]))]
    assert not set(best[:3]) & set(found)
    assert best[3] in found
    client.record([tidings.Event(best[0], "return", items=[item])])
    assert best[0] not in [one.user_id for one in members(client.find_audience([item]))]
    everybody = [one.user_id for one in members(client.find_audience([item], include_refused=True))]
    assert set(best) <= set(everybody)


def test_newer_vectors_win_and_strangers_are_found(client: tidings.Client) -> None:
    """Who turned to another group moves up there; somebody the release has never heard of is among the first."""
    item = "item-40"
    group = [f"item-{row}" for row in range(4, 300, 6) if row != 40]
    before = [one.user_id for one in members(client.find_audience([item]))]
    moved = before[-1]
    client.record([tidings.Event("newcomer", "view", items=[name]) for name in group[:10]])
    client.record([tidings.Event(moved, "view", items=[name]) for name in group])
    after = [one.user_id for one in members(client.find_audience([item]))]
    assert after.index(moved) < before.index(moved)
    assert after.index("newcomer") < 30
    assert len(after) == len(set(after))


def test_the_asyncio_client_gets_the_same(client: tidings.Client, server: RunningServer) -> None:
    """Page by page."""

    async def ask() -> list[tidings.AudiencePage]:
        async with tidings.aio.Client(server.address, timeout=30) as other:
            return [page async for page in other.find_audience(["item-50"], page_size=9)]

    assert asyncio.run(ask()) == list(client.find_audience(["item-50"], page_size=9))


@pytest.mark.parametrize(
    ("items", "arguments", "field", "problem"),
    [
        (["item-1", "elsewhere"], {}, "item_ids[1]", "is not in the catalogue"),
        ([], {}, "item_ids", "is empty; name an item, or give a filter"),
        (["x"] * 65, {}, "item_ids", "has 65 entries, may have 64 at most"),
        (["item-1", ""], {}, "item_ids[1]", "has 0 bytes"),
        (["item-1"], {"limit": 0}, "limit", "is 0, must be 1 to 10000000"),
        (["item-1"], {"page_size": 5001}, "page_size", "is 5001, must be 1 to 5000"),
        (["item-1"], {"min_score": float("nan")}, "min_score", "is no number"),
        (["item-1"], {"page_token": "forged"}, "page_token", "is none of this server's"),
        (["item-1"], {"page_token": "é"}, "page_token", "is none of this server's"),
        (["item-1"], {"page_token": "x" * 3000}, "page_token", "has 3000 bytes"),
    ],
)
def test_what_is_wrong_is_named(
    client: tidings.Client, items: list[str], arguments: dict[str, Any], field: str, problem: str
) -> None:
    """By field; every unknown item is named."""
    with pytest.raises(tidings.InvalidArgument) as refused:
        list(client.find_audience(items, **arguments))
    named, description = refused.value.fields[0]
    assert named == field
    assert problem in description


def test_a_token_is_of_one_question_one_server_and_one_release(shop: Shop, tmp_path: Path) -> None:
    """Another question, a changed byte, another server's token: refused; another release: begin anew."""
    with start_server(shop.path, tmp_path / "state") as server, tidings.Client(server.address, timeout=30) as client:
        client.promote_release(shop.a)
        token = next(client.find_audience(["item-1"], page_size=2)).page_token
        assert members(client.find_audience(["item-1"], page_token=token, page_size=9, limit=5))
        for items, arguments in (
            (["item-2"], {}),
            (["item-1"], {"min_score": 0.5}),
            (["item-1"], {"include_refused": True}),
        ):
            with pytest.raises(tidings.InvalidArgument, match="of another question"):
                list(client.find_audience(items, page_token=token, **arguments))
        content = bytearray(base64.urlsafe_b64decode(token.removeprefix("1.")))
        content[-3] ^= 1
        with pytest.raises(tidings.InvalidArgument, match="is none of this server's"):
            list(client.find_audience(["item-1"], page_token="1." + base64.urlsafe_b64encode(content).decode()))
        client.promote_release(shop.b)
        with pytest.raises(tidings.FailedPrecondition, match="begin anew"):
            list(client.find_audience(["item-1"], page_token=token))
        assert members(client.find_audience(["item-1"]))
        client.promote_release(shop.a)
    with start_server(shop.path, tmp_path / "state") as server, tidings.Client(server.address, timeout=30) as client:
        assert members(client.find_audience(["item-1"], page_token=token))
    with start_server(shop.path, tmp_path / "other") as server, tidings.Client(server.address, timeout=30) as client:
        with pytest.raises(tidings.FailedPrecondition, match="promote one"):
            list(client.find_audience(["item-1"]))
        client.promote_release(shop.a)
        with pytest.raises(tidings.InvalidArgument, match="is none of this server's"):
            list(client.find_audience(["item-1"], page_token=token))


def test_a_filter_stands_for_the_items_that_pass_it(client: tidings.Client, server: RunningServer) -> None:
    """Of more than 64 the most bought; the audience is that of these items, and a token keeps to the question."""
    wanted = tidings.Filter(must=[tidings.any_of("category", "group-3")])
    pages = list(client.find_audience(filter=wanted, page_size=20))
    assert (pages[0].item_count, pages[0].passing_count) == (50, 50)
    rows = [row for row in range(300) if row % 6 == 3]
    by_name = members(client.find_audience([f"item-{row}" for row in rows]))
    by_filter = [one for page in pages for one in page.members]
    assert [one.user_id for one in by_filter] == [one.user_id for one in by_name]
    assert [one.score for one in by_filter] == pytest.approx([one.score for one in by_name], abs=1e-5)
    rest = members(client.find_audience(filter=wanted, page_token=pages[0].page_token))
    assert [*pages[0].members, *rest] == by_filter
    both = tidings.Filter(must=[tidings.any_of("category", "group-3", "group-4")])
    page = next(client.find_audience(filter=both))
    assert (page.item_count, page.passing_count) == (64, 100)
    popular = np.argsort(-SNAPSHOT.item_features[:, 0], kind="stable")
    best = {f"item-{row}" for row in [row for row in popular.tolist() if row % 6 in (3, 4)][:64]}
    assert {one.item_id for one in page.members} <= best
    assert command.main(["audience", "--where", "category=group-3", "--limit", "1", "--server", server.address]) == 0


@pytest.mark.parametrize(
    ("filter", "field", "problem"),
    [
        (tidings.Filter(must=[tidings.any_of("colour", "red")]), "filter.must[0].attribute", "which no item has"),
        (tidings.Filter(must=[tidings.any_of("category", "none")]), "filter", "lets no item through"),
        (tidings.Filter(), "filter", "is empty"),
    ],
)
def test_a_filter_that_finds_no_items_is_refused(
    client: tidings.Client, filter: tidings.Filter, field: str, problem: str
) -> None:
    """By its place, as in Recommend; beside items it is refused too."""
    with pytest.raises(tidings.InvalidArgument) as refused:
        list(client.find_audience(filter=filter))
    named, description = refused.value.fields[0]
    assert named == field
    assert problem in description
    with pytest.raises(tidings.InvalidArgument, match="stands beside item_ids"):
        list(client.find_audience(["item-1"], filter=tidings.Filter(must=[tidings.any_of("category", "group-1")])))


async def test_few_are_told_at_once_and_who_goes_away_makes_room(
    tmp_path: Path, serving: Serving, directory: ReleaseDirectory, shop: Shop, clock: Clock
) -> None:
    """One more than may be open is refused with a time to come back; one that is closed makes room."""
    PromoteRelease(directory, serving, clock)(shop.a)
    store = SqliteStore.open(tmp_path, lambda: 0)
    documents = KnownDocuments(store)
    known = People(store, documents)
    people = ManyPeople(store, known)
    users = FilterUsers(store, documents, UserTags((), {}, lambda: serving.release, known.rows_of), (), clock)
    with ThreadPoolExecutor(1) as executor:
        handlers = AudienceHandlers(FindAudience(serving, people.find, people.lately, users, b"key", clock), executor)
        body = audience_pb2.FindAudienceRequest(item_ids=["item-1"], page_size=1).SerializeToString()
        streams = [handlers.find_audience(body) for _ in range(MOST_OPEN)]
        first = [await anext(stream) for stream in streams]
        assert len(set(first)) == 1
        with pytest.raises(Overloaded) as refused:
            await anext(handlers.find_audience(body))
        assert refused.value.retry_after > 0
        await streams[0].aclose()
        assert await anext(handlers.find_audience(body)) == first[0]
        for stream in streams:
            await stream.aclose()
    store.close()


def test_the_command_prints_people_as_they_come(
    client: tidings.Client, server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """One on each line, for people or as JSON; what is left can be gone on with."""
    base = ["--server", server.address]
    found = members(client.find_audience(["item-52"], limit=3))
    assert command.main(["audience", "item-52", "--limit", "3", *base]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"{one.score:9.4f}  {one.user_id}  item-52" for one in found]
    token = said.err.removeprefix("tidings: there may be more: --token ").strip()
    assert command.main(["audience", "item-52", "--limit", "2", "--token", token, "--json", *base]) == 0
    more = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    after = members(client.find_audience(["item-52"], limit=5))[3:]
    assert [one["user_id"] for one in more] == [one.user_id for one in after]
    assert more[0]["score"] == pytest.approx(float(np.float32(after[0].score)))
    assert command.main(["audience", "elsewhere", *base]) == 1
