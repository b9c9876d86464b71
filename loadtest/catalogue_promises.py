"""What a server promised of its catalogue, and whether it kept it: a part of the load of loadtest/crash.py.

Each item is changed by one client at a time, so at most one word about it is without an answer when the server dies:
it may stand or not, but nothing else may.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, Protocol

import grpc

from tidings.v1 import catalog_service_pb2, recommendation_service_pb2
from tidings.v1.catalog_service_pb2_grpc import CatalogServiceStub
from tidings.v1.recommendation_service_pb2_grpc import RecommendationServiceStub

CALL_SECONDS = 20.0
OWN_ITEMS = 40
"""So many items each client changes."""
BEGIN_US = 1_750_000_000_000_000
"""Unix microseconds, before the server's clock and after what the release holds."""

Kind = Literal["describe", "price", "delete"]


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that was said of an item, at a time (microseconds after BEGIN_US)."""

    kind: Kind
    time: int
    title: str = ""
    price: float = 0.0


@dataclass
class Words:
    """All that was said of an item: what was answered, and what was not. `newest` is the last time that was used."""

    answered: list[Said] = field(default_factory=list)
    unanswered: list[Said] = field(default_factory=list)
    newest: int = 0


class Shop(Protocol):
    """A connection."""

    catalogue: CatalogServiceStub
    recommendations: RecommendationServiceStub


class Tally(Protocol):
    """Counts promises."""

    def check(self, kept: bool, kind: str, words: str) -> None:
        """Count a promise, and a fault when it was not kept."""
        ...


Items = dict[str, Words]


def new_items() -> Items:
    """Items of which nothing was said yet."""
    return defaultdict(Words)


def change(shop: Shop, items: Items, tally: Tally, chance: random.Random, owner: str, turn: int, number: int) -> None:
    """Say something of an item, see what became of it, and that the next request goes by it."""
    name = f"{owner}-{chance.randrange(OWN_ITEMS)}"
    words = items[name]
    before = standing(words.answered)
    late = words.newest > 1 and chance.random() < 0.1
    time = chance.randrange(1, words.newest) if late else words.newest + 1 + chance.randrange(3)
    kind: Kind = chance.choice(("describe", "describe", "price", "delete"))
    said = Said(kind, time, f"Word{turn}x{number}", float(number % 997))
    words.newest = max(words.newest, time)
    words.unanswered.append(said)
    token, result = say(shop, name, said)
    words.unanswered.remove(said)
    words.answered.append(said)
    after = standing(words.answered)
    expected = "OLDER" if after == before and late else None
    if expected and kind != "delete" and before.price is not None:
        tally.check(result in ("OLDER", "UNCHANGED"), "doubled", f"{name}: an older {said} got {result}")
    if after.title:
        asked = recommendation_service_pb2.RecommendRequest(
            user_id="nobody", serving_config="search", query=after.title, consistency_token=token
        )
        found = [one.item.item_id for one in shop.recommendations.Recommend(asked, timeout=CALL_SECONDS).items]
        tally.check(found == [name], "lost", f"{name}: after {said} {after.title} finds {found}")


def say(shop: Shop, name: str, said: Said) -> tuple[str, str]:
    """Say it; the token, and what became of it."""
    if said.kind == "delete":
        request = catalog_service_pb2.DeleteItemsRequest(item_ids=[name])
        request.update_time.FromMicroseconds(BEGIN_US + said.time)
        deleted = shop.catalogue.DeleteItems(request, timeout=CALL_SECONDS)
        result = catalog_service_pb2.DeleteResult.Name(deleted.results[0])
        return deleted.consistency_token, result.removeprefix("DELETE_RESULT_")
    item = catalog_service_pb2.CatalogItem(item={"item_id": name, "price": said.price})
    item.update_time.FromMicroseconds(BEGIN_US + said.time)
    upsert = catalog_service_pb2.UpsertItemsRequest(items=[item])
    if said.kind == "price":
        upsert.update_mask.paths.append("price")
    else:
        upsert.items[0].item.title = said.title
    upserted = shop.catalogue.UpsertItems(upsert, timeout=CALL_SECONDS)
    result = catalog_service_pb2.UpsertResult.Name(upserted.results[0])
    return upserted.consistency_token, result.removeprefix("UPSERT_RESULT_")


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands of an item: its title ("": it is not there) and price."""

    title: str = ""
    price: float | None = None


def standing(said: Sequence[Said]) -> Standing:
    """What stands after all that was said, in whatever order."""
    whole = max(
        (one for one in said if one.kind != "price"), key=lambda one: (one.time, one.kind == "delete"), default=None
    )
    if whole is None or whole.kind == "delete":
        return Standing()
    prices = [one for one in said if one.kind == "price" and one.time > whole.time]
    return Standing(whole.title, max(prices, key=lambda one: one.time, default=whole).price)


def judge_items(shop: Shop, items: Items, tally: Tally) -> None:
    """Hold a server that was started again against what was promised; afterwards nothing is without an answer."""
    for name, words in items.items():
        shown = _shown(shop, name)
        # Of what has no answer some may have been done and some not, such as what was shed before the server died.
        sizes = range(len(words.unanswered) + 1)
        parts = (part for size in sizes for part in combinations(words.unanswered, size))
        allowed = {standing([*words.answered, *part]) for part in parts}
        tally.check(shown in allowed, "lost", f"{name} is {shown}, must be one of {allowed}")
        for said in words.unanswered:
            say(shop, name, said)
        words.answered = _summed([*words.answered, *words.unanswered])
        words.unanswered = []
        shown = _shown(shop, name)
        tally.check(shown == standing(words.answered), "doubled", f"{name} is {shown} after all was said again")
    listed = {item.item.item_id for item in _listed(shop) if item.item.item_id in items}
    there = {name for name, words in items.items() if standing(words.answered).title}
    tally.check(listed == there, "lost", f"the list lacks {there - listed} and has {listed - there}")


def _summed(said: Sequence[Said]) -> list[Said]:
    """What is enough to know what stands and will: the newest description or deletion, and the newest price."""
    whole = [one for one in said if one.kind != "price"]
    prices = [one for one in said if one.kind == "price"]
    return [max(part, key=lambda one: (one.time, one.kind == "delete")) for part in (whole, prices) if part]


def _shown(shop: Shop, name: str) -> Standing:
    try:
        request = catalog_service_pb2.GetItemRequest(item_id=name)
        item = shop.catalogue.GetItem(request, timeout=CALL_SECONDS).item.item
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
        return Standing()
    return Standing(item.title, item.price)


def _listed(shop: Shop) -> list[catalog_service_pb2.CatalogItem]:
    parts = shop.catalogue.ListItems(catalog_service_pb2.ListItemsRequest(), timeout=CALL_SECONDS)
    return [item for part in parts for item in part.items]
