"""The catalogue of a real server: what is upserted is found by the next request, and nothing acknowledged is lost."""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.server.conftest import Shop
from tests.support.server import RunningServer, start_server
from tests.support.world import make_world
from tidings.v1 import attribute_pb2, event_pb2, event_service_pb2, recommendation_service_pb2, release_service_pb2
from tidings.v1 import catalog_service_pb2 as pb
from tidings.v1.catalog_service_pb2_grpc import CatalogServiceStub
from tidings.v1.event_service_pb2_grpc import EventServiceStub
from tidings.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from tidings.v1.release_service_pb2_grpc import ReleaseServiceStub

WAIT = 30.0
WORLD = make_world(seed=0)


class Door:
    """A connection to a server."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self.catalogue = CatalogServiceStub(self._channel)
        self.recommendation = RecommendationServiceStub(self._channel)
        self.releases = ReleaseServiceStub(self._channel)
        self.events = EventServiceStub(self._channel)

    def close(self) -> None:
        """Disconnect."""
        self._channel.close()

    def upsert(self, *items: pb.CatalogItem, mask: Sequence[str] = ()) -> pb.UpsertItemsResponse:
        """Upsert items."""
        request = pb.UpsertItemsRequest(items=items)
        request.update_mask.paths.extend(mask)
        return self.catalogue.UpsertItems(request, timeout=WAIT)

    def delete(self, time: float, *item_ids: str) -> list[str]:
        """Delete items; what became of each."""
        request = pb.DeleteItemsRequest(item_ids=item_ids)
        request.update_time.FromMicroseconds(micros(time))
        return [
            pb.DeleteResult.Name(result).removeprefix("DELETE_RESULT_")
            for result in self.catalogue.DeleteItems(request, timeout=WAIT).results
        ]

    def get(self, item_id: str, token: str = "") -> pb.CatalogItem:
        """One item."""
        request = pb.GetItemRequest(item_id=item_id, consistency_token=token)
        return self.catalogue.GetItem(request, timeout=WAIT).item

    def all_items(self, token: str = "") -> list[pb.CatalogItem]:
        """Every item."""
        parts = self.catalogue.ListItems(pb.ListItemsRequest(page_token=token), timeout=WAIT)
        return [item for part in parts for item in part.items]

    def found(self, query: str = "", token: str = "", **asked: Any) -> list[str]:
        """Ids that Recommend answers with, by search when there is a query."""
        config = "search" if query else asked.pop("serving_config", "")
        request = recommendation_service_pb2.RecommendRequest(
            user_id=asked.pop("user_id", "nobody"), serving_config=config, query=query, consistency_token=token, **asked
        )
        return [item.item.item_id for item in self.recommendation.Recommend(request, timeout=WAIT).items]

    def promote(self, release_id: str) -> None:
        """Promote a release."""
        self.releases.PromoteRelease(release_service_pb2.PromoteReleaseRequest(release_id=release_id), timeout=WAIT)


def micros(time: float) -> int:
    """A test's time in Unix microseconds."""
    # Times lie in the past of the server's clock, and after what the releases hold.
    return 1_750_000_000_000_000 + int(time * 1_000_000)


def item(item_id: str, time: float = 1.0, **fields: Any) -> pb.CatalogItem:
    """A catalogue item: `vector`, `available`, `stock` and typed attributes of its own, the rest of what is shown."""
    own = {name: fields.pop(name) for name in ("vector", "available", "stock", "attributes") if name in fields}
    message = pb.CatalogItem(item={"item_id": item_id, **fields}, **own)
    message.update_time.FromMicroseconds(micros(time))
    return message


@contextmanager
def door(server: RunningServer) -> Iterator[Door]:
    """A connection, closed on leaving."""
    own = Door(server.address)
    try:
        yield own
    finally:
        own.close()


@contextmanager
def serving(shop: Shop, state: Path, release: str = "") -> Iterator[tuple[RunningServer, Door]]:
    """A server that serves a release, and a connection to it."""
    with start_server(shop.path, state) as server, door(server) as own:
        if release:
            own.promote(release)
        yield server, own


@pytest.fixture(scope="module")
def ask(built_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A server that serves release a, for tests that leave each other's items alone."""
    with serving(built_shop, tmp_path_factory.mktemp("catalogue") / "state", built_shop.a) as (_, own):
        yield own


def results(response: pb.UpsertItemsResponse) -> list[str]:
    """What became of each item."""
    return [pb.UpsertResult.Name(result).removeprefix("UPSERT_RESULT_") for result in response.results]


def refusal(call: Any, *given: Any, **named: Any) -> tuple[grpc.StatusCode, dict[str, str]]:
    """The status of a call that is refused, and its faults by field."""
    with pytest.raises(grpc.RpcError) as failed:
        call(*given, **named)
    status = rpc_status.from_call(failed.value)
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(bad)
    return failed.value.code(), {fault.field: fault.description for fault in bad.field_violations}


def test_an_upserted_item_is_found_by_the_next_request_in_every_way(ask: Door) -> None:
    """By its words, in its category, by its vector, and shown as it was described."""
    vector = WORLD.parts.user_vectors[3] * 5
    response = ask.upsert(
        item("bike-1", title="Velocipede", categories=["garage", "cycles"], price=10.0, vector=vector.tolist())
    )
    assert results(response) == ["APPLIED"]
    token = response.consistency_token
    assert ask.found("velocipede", token) == ["bike-1"]
    assert ask.found(token=token, serving_config="browse", category="cycles") == ["bike-1"]
    assert ask.found(token=token, user_id="user-3")[0] == "bike-1"
    shown = ask.get("bike-1", token)
    assert (shown.item.title, shown.item.price, list(shown.item.categories)) == (
        "Velocipede",
        10.0,
        ["garage", "cycles"],
    )
    assert shown.update_time.ToMicroseconds() == micros(1.0)


def test_of_the_words_about_an_item_the_newest_stands(ask: Door) -> None:
    """An older one is told so and changes nothing; the same again is told so too."""
    assert results(ask.upsert(item("cup", 5, title="Goblet"))) == ["APPLIED"]
    assert results(ask.upsert(item("cup", 4, title="Beaker"))) == ["OLDER"]
    assert results(ask.upsert(item("cup", 5, title="Goblet"))) == ["UNCHANGED"]
    assert (ask.found("goblet"), ask.found("beaker")) == (["cup"], [])
    assert ask.delete(4.5, "cup") == ["OLDER"]
    assert results(ask.upsert(item("cup", 6, title="Chalice"))) == ["APPLIED"]
    assert (ask.found("goblet"), ask.found("chalice")) == ([], ["cup"])


def test_prices_stock_and_availability_change_alone(ask: Door) -> None:
    """With nothing but themselves, also of an item that only the release describes."""
    assert results(ask.upsert(item("item-9", 2, price=3.25), mask=["price"])) == ["APPLIED"]
    assert results(ask.upsert(item("item-9", 3, stock=0, available=False), mask=["stock", "available"])) == ["APPLIED"]
    shown = ask.get("item-9")
    assert (shown.item.price, shown.stock, shown.available) == (3.25, 0.0, False)
    assert (shown.item.title, list(shown.item.categories)) == ("Group 3 thing 9", ["group-3"])
    assert results(ask.upsert(item("item-9", 1, price=9), mask=["price"])) == ["OLDER"]
    assert ask.get("item-9").item.price == 3.25


def test_what_cannot_be_bought_is_in_no_answer_until_it_can(ask: Door) -> None:
    """An item that is not available, or of which there is none, new or of the release."""
    ask.upsert(item("sold", 1, title="Scarcity", stock=1), item("item-21", 1, title="Scarcity"))
    assert set(ask.found("scarcity")) == {"sold", "item-21"}
    ask.upsert(item("sold", 2, stock=0), mask=["stock"])
    assert ask.found("scarcity") == ["item-21"]
    ask.upsert(item("item-21", 2, available=False), mask=["available"])
    assert ask.found("scarcity") == []
    ask.upsert(item("sold", 3, stock=5), mask=["stock"])
    assert ask.found("scarcity") == ["sold"]


def test_the_price_of_an_item_that_nobody_described_waits_for_its_description(ask: Door) -> None:
    """It is kept, and stands beside a description that is older than it."""
    assert results(ask.upsert(item("later", 9, price=2), mask=["price"])) == ["APPLIED"]
    assert refusal(ask.get, "later")[0] == grpc.StatusCode.NOT_FOUND
    ask.upsert(item("later", 8, title="Latecomer", price=7))
    assert (ask.get("later").item.title, ask.get("later").item.price) == ("Latecomer", 2.0)


def test_a_deleted_item_is_gone_until_a_newer_word_brings_it_back(ask: Door) -> None:
    """Deleting what is not there is a result, and keeps out what is older."""
    ask.upsert(item("gone", 1, title="Ephemera"))
    assert ask.delete(2, "gone", "never-there") == ["DELETED", "NOT_FOUND"]
    assert ask.found("ephemera") == []
    assert refusal(ask.get, "gone")[0] == grpc.StatusCode.NOT_FOUND
    assert ask.delete(3, "gone") == ["NOT_FOUND"]
    for name in ("gone", "never-there"):
        assert results(ask.upsert(item(name, 1.5, title="Ephemera"))) == ["OLDER"]
    assert ask.found("ephemera") == []
    assert results(ask.upsert(item("gone", 4, title="Ephemera"))) == ["APPLIED"]
    assert ask.found("ephemera") == ["gone"]


def test_an_item_of_the_release_can_be_deleted(ask: Door) -> None:
    """It is in no answer any more."""
    assert "item-17" in ask.found("thing 17")
    assert ask.delete(1, "item-17") == ["DELETED"]
    assert "item-17" not in ask.found("thing 17")
    assert "item-17" not in {one.item.item_id for one in ask.all_items()}


def test_typed_attributes_are_kept_with_their_kinds(ask: Door) -> None:
    """Text, texts, numbers, times and flags come back as they went in."""
    attributes = {
        "size": attribute_pb2.AttributeValue(number=4.5),
        "colours": attribute_pb2.AttributeValue(texts=attribute_pb2.TextValues(values=["red", "blue"])),
        "made": attribute_pb2.AttributeValue(time={"seconds": 7}),
        "sale": attribute_pb2.AttributeValue(flag=True),
        "maker": attribute_pb2.AttributeValue(text="Acme"),
    }
    ask.upsert(item("typed", 1, attributes=attributes, stock=3, available=True))
    shown = ask.get("typed")
    assert dict(shown.attributes) == attributes
    assert (shown.stock, shown.available) == (3.0, True)


def test_a_batch_with_bad_rows_takes_nothing_and_names_all_of_them(ask: Door) -> None:
    """Every row and field; rows with the same fault are told together."""
    good = item("good", title="Blameless")
    bad = [
        item("", price=-1),
        item("no-time"),
        item("good"),
        item("nan", vector=[float("nan")] * 16),
        item("short", vector=[1.0]),
        item("kind", attributes={"category": attribute_pb2.AttributeValue(text="x")}),
        item(
            "kinds",
            attributes={
                "": attribute_pb2.AttributeValue(number=1),
                "n": attribute_pb2.AttributeValue(number=float("inf")),
            },
        ),
    ]
    bad[1].ClearField("update_time")
    code, faults = refusal(ask.upsert, good, *bad)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert {
        "items[1].item.item_id",
        "items[1].item.price",
        "items[2].update_time",
        "items[3].item.item_id",
    } <= faults.keys()
    assert {
        "items[4].vector",
        "items[6].attributes[category]",
        "items[7].attributes[]",
        "items[7].attributes[n]",
    } <= faults.keys()
    code, faults = refusal(ask.upsert, good, bad[4])
    assert (code, "must have 16 numbers" in faults["items[1].vector"]) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    assert ask.found("blameless") == []
    code, faults = refusal(
        ask.upsert, *(item(f"neg-{n}", price=-1) for n in range(300)), *(item("x") for _ in range(3))
    )
    assert "1-299" in faults["items[0].item.price"]
    assert "302" in faults["items[301].item.item_id"]


def published(**moment: int) -> pb.CatalogItem:
    """An item with a time at which it may be sold."""
    made = item("a")
    made.item.publish_time.CopyFrom(Timestamp(**moment))
    return made


@pytest.mark.parametrize(
    ("request_of", "field"),
    [
        (lambda: pb.UpsertItemsRequest(), "items"),
        (lambda: pb.UpsertItemsRequest(items=[item("a"), *(item(f"{n}") for n in range(1000))]), "items"),
        (lambda: pb.UpsertItemsRequest(items=[item("a")], update_mask={"paths": ["title"]}), "update_mask"),
        (lambda: pb.UpsertItemsRequest(items=[item("a")], update_mask={"paths": ["price"]}), "items[0].item.price"),
        (lambda: pb.UpsertItemsRequest(items=[item("a", 1e9)]), "items[0].update_time"),
        (lambda: pb.UpsertItemsRequest(items=[published(nanos=-1)]), "items[0].item.publish_time"),
        (lambda: pb.UpsertItemsRequest(items=[published(seconds=-(10**11))]), "items[0].item.publish_time"),
    ],
)
def test_what_an_upsert_must_not_be_is_named(ask: Door, request_of: Any, field: str) -> None:
    """Too few or many items, a mask of other fields, what a mask names and is missing, times that are none."""
    code, faults = refusal(ask.catalogue.UpsertItems, request_of(), timeout=WAIT)
    assert (code, list(faults)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


def test_every_item_is_listed_once_as_it_is_served_and_a_list_goes_on_from_its_token(ask: Door) -> None:
    """Those of the release with what changed, new ones, and none that is deleted."""
    ask.upsert(item("listed", 1, title="Enumerated"), item("item-30", 1, title="Renamed"))
    items = {one.item.item_id: one for one in ask.all_items()}
    assert len(items) == len(ask.all_items()) >= 299
    assert (items["listed"].item.title, items["item-30"].item.title) == ("Enumerated", "Renamed")
    with start_list(ask) as parts:
        first = next(parts)
    rest = ask.all_items(first.next_page_token) if first.next_page_token else []
    assert [one.item.item_id for one in [*first.items, *rest]] == list(items)
    assert refusal(ask.all_items, "nonsense")[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert refusal(ask.all_items, "another-release:0:0")[0] == grpc.StatusCode.FAILED_PRECONDITION


@contextmanager
def start_list(ask: Door) -> Iterator[Iterator[pb.ListItemsResponse]]:
    """A list, cancelled on leaving."""
    call = ask.catalogue.ListItems(pb.ListItemsRequest(), timeout=WAIT)
    try:
        yield call
    finally:
        call.cancel()


def test_a_persons_profile_sees_an_item_that_came_after_the_event(ask: Door) -> None:
    """A view of an item nobody had described leads on from it as soon as it is."""
    event = event_pb2.Event(event_id="v1", type=event_pb2.EVENT_TYPE_VIEW, user_id="curious")
    event.items.add(item_id="unseen")
    event.event_time.GetCurrentTime()
    ask.events.RecordEvents(event_service_pb2.RecordEventsRequest(events=[event]), timeout=WAIT)
    assert "unseen" not in ask.found(user_id="curious", k=200)
    ask.upsert(item("unseen", title="Group 1 thing", categories=["group-1"]))
    assert "unseen" in ask.found(user_id="curious", k=200)


def test_without_a_release_items_are_kept_and_shown(built_shop: Shop, tmp_path: Path) -> None:
    """And answer as soon as one is promoted; a vector needs one to be checked against."""
    with serving(built_shop, tmp_path / "state") as (_, ask):
        assert (
            results(ask.upsert(item("early", 1, title="Early bird"), item("item-1", 1, title="Renamed")))
            == ["APPLIED"] * 2
        )
        assert ask.get("early").item.title == "Early bird"
        vector = [1.0] * 16
        assert refusal(ask.upsert, item("v", vector=vector))[0] == grpc.StatusCode.FAILED_PRECONDITION
        assert refusal(ask.all_items)[0] == grpc.StatusCode.FAILED_PRECONDITION
        ask.promote(built_shop.a)
        assert (ask.found("early bird")[0], ask.found("renamed")) == ("early", ["item-1"])


def test_changes_go_with_every_release_that_is_promoted(built_shop: Shop, tmp_path: Path) -> None:
    """Also those made while it is being promoted: nothing acknowledged is missing from the next answer."""
    ended = threading.Event()
    acknowledged: list[str] = []
    with serving(built_shop, tmp_path / "state", built_shop.a) as (server, ask):

        def work() -> None:
            with door(server) as own:
                number = 0
                while not ended.is_set():
                    own.upsert(item(f"busy-{number}", 1, title=f"Busy{number}"))
                    acknowledged.append(f"Busy{number}")
                    number += 1

        worker = threading.Thread(target=work)
        worker.start()
        try:
            for release in (built_shop.b, built_shop.c, built_shop.a, built_shop.b):
                ask.promote(release)
                seen = list(acknowledged)
                for title in random.Random(0).sample(seen, min(5, len(seen))) + seen[-1:]:
                    assert ask.found(title), (title, release)
        finally:
            ended.set()
            worker.join(WAIT)
        assert all(ask.found(title) for title in acknowledged[-5:])


def test_a_kill_loses_nothing_that_was_acknowledged(built_shop: Shop, tmp_path: Path) -> None:
    """After the next start everything acknowledged is found before the first answer, and tokens are good."""
    acknowledged: list[tuple[str, str]] = []
    enough = threading.Event()

    def work(server: RunningServer) -> None:
        with door(server) as own:
            for number in range(100_000):
                try:
                    token = own.upsert(item(f"k-{number}", 1, title=f"Kill{number}")).consistency_token
                    if number % 3 == 2:
                        own.delete(2, f"k-{number}")
                except grpc.RpcError:
                    return
                acknowledged.append((f"k-{number}", token))
                if number == 30:
                    enough.set()

    with start_server(built_shop.path, tmp_path / "state") as server, door(server) as ask:
        ask.promote(built_shop.a)
        worker = threading.Thread(target=work, args=(server,))
        worker.start()
        assert enough.wait(WAIT)
        server.process.kill()
        worker.join(WAIT)
    with serving(built_shop, tmp_path / "state") as (_, ask):
        listed = {one.item.item_id for one in ask.all_items()}
        for number, (name, _) in enumerate(acknowledged):
            assert (name in listed) == (number % 3 != 2), name
        assert ask.found("kill0", acknowledged[-1][1]) == ["k-0"]


def test_the_vectors_of_a_release_of_another_space_are_made_anew(built_shop: Shop, tmp_path: Path) -> None:
    """A vector that came with an item is of the space that was serving; elsewhere the item gets that of its like."""
    vector = (WORLD.parts.user_vectors[3] * 5).tolist()
    with serving(built_shop, tmp_path / "state", built_shop.a) as (_, ask):
        ask.upsert(item("v", title="Group 2 thing", categories=["group-2"], vector=vector))
        assert ask.found(user_id="user-3")[0] == "v"
        ask.promote(built_shop.b)
        assert ask.found(user_id="user-3")[0] != "v"
        assert "v" in ask.found("group 2 thing", k=200)
        ask.promote(built_shop.a)
        assert ask.found(user_id="user-3")[0] == "v"


def test_vectors_have_the_length_of_the_releases(ask: Door) -> None:
    """Zero is none, and one of another length is named with the right one."""
    code, faults = refusal(ask.upsert, item("zero", vector=np.zeros(16).tolist()))
    assert (code, list(faults)) == (grpc.StatusCode.INVALID_ARGUMENT, ["items[0].vector"])


def test_what_is_kept_of_people_holds_when_a_release_comes_back(built_shop: Shop, tmp_path: Path) -> None:
    """Its new items are taken in again by their last changes: nobody's purchase is taken for that of another item."""
    with serving(built_shop, tmp_path / "state", built_shop.a) as (_, ask):
        ask.upsert(item("sled-1", 1, title="Sled one"), item("sled-2", 1, title="Sled two"))
        event = event_pb2.Event(event_id="p1", type=event_pb2.EVENT_TYPE_PURCHASE, user_id="owner")
        event.items.add(item_id="sled-1")
        event.event_time.GetCurrentTime()
        ask.events.RecordEvents(event_service_pb2.RecordEventsRequest(events=[event]), timeout=WAIT)
        assert ask.found("sled", user_id="owner") == ["sled-2"]
        ask.upsert(item("sled-1", 2, title="Sled one, waxed"))
        ask.promote(built_shop.b)
        ask.promote(built_shop.a)
        assert ask.found("sled", user_id="owner") == ["sled-2"]


def test_an_item_that_moves_into_a_category_somebody_asked_to_see_less_of_is_theirs_no_more(
    built_shop: Shop, tmp_path: Path
) -> None:
    """At the next answer, though what is made of the person was kept; and it is again when it moves out."""
    with serving(built_shop, tmp_path / "state", built_shop.a) as (_, ask):
        ask.upsert(item("sled-1", 1, title="Sled", categories=["snow"]), item("sled-2", 1, title="Sled"))
        event = event_pb2.Event(event_id="l1", type=event_pb2.EVENT_TYPE_SEE_LESS, user_id="tired", category="snow")
        event.event_time.GetCurrentTime()
        ask.events.RecordEvents(event_service_pb2.RecordEventsRequest(events=[event]), timeout=WAIT)
        assert ask.found("sled", user_id="tired") == ["sled-2"]
        ask.upsert(item("sled-2", 2, title="Sled", categories=["snow"]))
        assert ask.found("sled", user_id="tired") == []
        ask.upsert(item("sled-1", 3, title="Sled"))
        assert ask.found("sled", user_id="tired") == ["sled-1"]
