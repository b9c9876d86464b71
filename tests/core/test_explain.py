"""Every item of a catalogue has one verdict, and it is the true one: what was answered, and what brute force finds."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import NOW, make_world
from tidings_core import text
from tidings_core.attributes import Flag, Keyword, Number, Time
from tidings_core.bars import EXCLUDED
from tidings_core.catalogue import Change, Description
from tidings_core.controls import Boost, Bury, Control, Keep, Pin
from tidings_core.delta import Delta, taken_in
from tidings_core.errors import IndexFailed
from tidings_core.explain import Explained, Explanation, explain
from tidings_core.features import CANDIDATE_FEATURES, ITEM_FEATURES, USER_FEATURES
from tidings_core.filters import AllOf, AnyOf, Filter, Is, Range
from tidings_core.index import build_index
from tidings_core.model import (
    SERVING_CONFIGS,
    Diversity,
    History,
    Metric,
    Person,
    Query,
    ServingConfig,
    Snapshot,
    SourceUse,
)
from tidings_core.patched import patched
from tidings_core.recommend import recommend, retrieve
from tidings_core.subjects import resolve

DIM, COUNT = 16, 120


@dataclasses.dataclass(frozen=True)
class Shop:
    """A snapshot, and of every item what the catalogue says of it."""

    snapshot: Snapshot
    items: dict[str, dict[str, Any]]

    @property
    def ids(self) -> list[str]:
        """All items, in order of row."""
        return list(self.items)


def make_shop(metric: Metric) -> Shop:
    """A shop some of whose items may not be sold now."""
    world = make_world(items=COUNT, users=20, dim=DIM, metric=metric)
    items: dict[str, dict[str, Any]] = {
        f"item-{row}": {
            "category": f"group-{row % 6}",
            "price": float(world.prices[row]),
            "stock": {0: 0.0, 1: None}.get(row % 11, 3.0),
            "available": {0: False, 1: None}.get(row % 13, True),
            "publish_time": NOW + 1000.0 if row % 17 == 0 else None,
            "expire_time": NOW - 1000.0 if row % 19 == 0 else NOW + 1000.0,
        }
        for row in range(COUNT)
    }

    def column(name: str) -> list[Any]:
        return [item[name] for item in items.values()]

    base = world.snapshot()
    attributes = {
        **base.attributes,
        "price": Number.of(column("price")),
        "stock": Number.of(column("stock")),
        "available": Flag.of(column("available")),
        "publish_time": Time.of(column("publish_time")),
        "expire_time": Time.of(column("expire_time")),
    }
    return Shop(dataclasses.replace(base, attributes=attributes), items)


def _described(item_id: str, number: int, item: dict[str, Any], vector: bytes = b"") -> Change:
    category = item["category"]
    description = Description(
        payload=item_id.encode(),
        title=item_id,
        fields=text.item_fields(item_id, "", [category], ""),
        categories=(category,),
        values={**item, "categories": (category,)},
        kinds={"category": "keyword", "categories": "tags", "price": "number", "stock": "number", "available": "flag"},
    )
    return Change(item_id, number, number, description=description, vector=vector, space="here")


def change(shop: Shop) -> Shop:
    """The shop after a day: items gone, sold out and priced anew, new ones with a vector and one without any."""
    items = {name: dict(item) for name, item in shop.items.items()}
    changes = [Change(f"item-{row}", 1, 1, deleted=True) for row in (5, 6, 30)]
    for row in (5, 6, 30):
        items[f"item-{row}"]["deleted"] = True
    for row in (7, 8, 31):
        changes.append(Change(f"item-{row}", 1, 1, parts={"stock": 0.0}, payload=b"sold"))
        items[f"item-{row}"]["stock"] = 0.0
    for row in (12, 14):
        changes.append(Change(f"item-{row}", 1, 1, parts={"price": 1.0}, payload=b"cheap"))
        items[f"item-{row}"]["price"] = 1.0
    rng = np.random.default_rng(5)
    for number in range(4):
        own = b"" if number == 3 else rng.normal(size=DIM).astype(np.float32).tobytes()
        item = {
            "category": f"group-{number}" if number < 3 else "never heard of",
            "price": 5.0,
            "stock": None,
            "available": number != 1,
        }
        items[f"new-{number}"] = {**item, "publish_time": None, "expire_time": None}
        changes.append(_described(f"new-{number}", 1, item, own))
    delta = taken_in(shop.snapshot, Delta(), changes, "here")
    # The last one is like nothing that is known.
    kept = {name: getattr(delta, name)[:-1] for name in ("vector_rows", "vectors", "lists")}
    delta = dataclasses.replace(delta, **kept)
    return Shop(patched(shop.snapshot, delta), items)


SHOPS = {metric: make_shop(metric) for metric in ("inner_product", "cosine", "l2")}
SHOPS["changed"] = change(SHOPS["inner_product"])
SNAPSHOT = SHOPS["inner_product"].snapshot
ITEMS = SHOPS["inner_product"].ids
FOR_YOU = SERVING_CONFIGS["for-you"]
CHEAP = Filter(must=(Range("price", lt=60.0),))
NARROW = dataclasses.replace(
    FOR_YOU,
    name="narrow",
    sources=(SourceUse("ann", 12), SourceUse("similar", 6), SourceUse("trending", 5)),
    diversity=Diversity("category", 2),
    exclude_seen=True,
    filter=CHEAP,
)
FILTERS: list[tuple[Filter | None, Callable[[dict[str, Any]], bool]]] = [
    (None, lambda _: True),
    (
        Filter(must=(AnyOf("category", ("group-1", "group-2")),)),
        lambda item: item["category"] in ("group-1", "group-2"),
    ),
    (
        Filter(should=(Range("price", gte=80.0), AnyOf("category", ("group-3",))), must_not=(Range("price", gt=95.0),)),
        lambda item: (item["price"] >= 80.0 or item["category"] == "group-3") and not item["price"] > 95.0,
    ),
    (
        Filter(must=(Filter(must_not=(AnyOf("category", ("group-0",)),)), Range("price", lte=50.0))),
        lambda item: item["category"] != "group-0" and item["price"] <= 50.0,
    ),
]

some_rows = st.lists(st.integers(0, 119), max_size=12)
people = st.none() | st.builds(
    lambda bought, returned, seen, blocked: Person(
        history=History(
            np.array(sorted(set(bought) - set(returned)), np.int32),
            np.full(len(set(bought) - set(returned)), int(NOW) - 1000, np.int64),
            np.ones(len(set(bought) - set(returned)), np.float32),
        ),
        returned=np.array(sorted(set(returned)), np.int32),
        seen=np.array(seen, np.int32),
        blocked=np.array(blocked, np.int32),
    ),
    some_rows,
    some_rows,
    some_rows,
    some_rows,
)
queries = st.builds(
    Query,
    st.sampled_from([f"user-{n}" for n in range(20)] + ["nobody"]),
    st.sampled_from([*SERVING_CONFIGS.values(), NARROW]),
    st.integers(1, 30),
    st.lists(st.sampled_from([*ITEMS, "elsewhere"]), max_size=4),
    st.lists(st.sampled_from([*ITEMS, "elsewhere"]), max_size=20),
    st.sampled_from(["", "thing 8", "group 3"]),
    st.sampled_from(["", "group-2", "no such category"]),
    filter=st.sampled_from([wanted for wanted, _ in FILTERS]),
    liked_item_ids=st.lists(st.sampled_from([*ITEMS, "elsewhere"]), max_size=2),
    person=people,
)


def asked(query: Query, snapshot: Snapshot = SNAPSHOT, items: Sequence[str] = ITEMS) -> Explained:
    """An explanation."""
    return explain(query, items, snapshot, NOW)


def one(query: Query, item_id: str, snapshot: Snapshot = SNAPSHOT) -> Explanation:
    """What became of one item."""
    (found,) = asked(query, snapshot, [item_id]).items
    return found


def barred(query: Query, shop: Shop) -> dict[str, set[int]]:
    """What must not be in the answer, by why, told without any of the code that answers."""
    person, user = query.person, int(query.user_id.partition("-")[2] or -1)
    histories, serving, ids = shop.snapshot.histories, query.serving, shop.ids
    assert histories is not None
    bought = set() if user < 0 else set(histories[user].rows.tolist())
    passes = {id(wanted): test for wanted, test in FILTERS}[id(query.filter)]
    within = query.category if serving.within_category else ""

    def rows(test: Callable[[dict[str, Any]], bool]) -> set[int]:
        there = enumerate(shop.items.values())
        return {row for row, item in there if not item.get("deleted") and test(item)}

    def filtered(item: dict[str, Any]) -> bool:
        outside = bool(within) and item["category"] != within
        return outside or not passes(item) or (serving.filter is CHEAP and not item["price"] < 60.0)

    found = {
        "deleted": {row for row, item in enumerate(shop.items.values()) if item.get("deleted")},
        "unavailable": rows(lambda item: item["available"] is False),
        "out_of_stock": rows(lambda item: item["stock"] == 0.0),
        "not_published": rows(lambda item: (item["publish_time"] or 0.0) > NOW),
        "expired": rows(lambda item: item["expire_time"] is not None and item["expire_time"] < NOW),
        "filtered": rows(filtered),
        "context": {ids.index(item) for item in query.context_item_ids if item in ids},
        "example": {ids.index(item) for item in query.liked_item_ids if item in ids},
        "request": {ids.index(item) for item in query.exclude_item_ids if item in ids},
        "blocked": set() if person is None else set(person.blocked.tolist()),
        "bought": bought if person is None else set(person.history.rows.tolist()),
        "returned": set() if person is None else set(person.returned.tolist()),
        "seen": set() if person is None else set(person.seen.tolist()),
    }
    if not serving.exclude_bought:
        found["bought"] = found["returned"] = set()
    if not serving.exclude_seen:
        found["seen"] = set()
    return found


@settings(max_examples=100, deadline=None)
@given(queries, st.sampled_from(sorted(SHOPS)))
def test_every_item_has_one_verdict_and_it_is_the_true_one(query: Query, which: str) -> None:
    """Recommended is what the answer holds; barred is what brute force forbids; others were proposed or were not."""
    shop = SHOPS[which]
    snapshot = shop.snapshot
    made = asked(query, snapshot, shop.ids)
    answer = recommend([query], snapshot, NOW)[0]
    subjects, _ = resolve([query], query.serving, snapshot, NOW)
    candidates = retrieve(subjects, query.serving, snapshot)[0].candidates.rows[0]
    proposed = set(candidates[candidates >= 0].tolist())
    bars = barred(query, shop)
    forbidden = set().union(*bars.values())
    assert made.answer.items == answer.items
    assert made.may_be_found == len(shop.items) - len(forbidden)
    by_score = sorted(
        (found for found in made.items if found.place), key=lambda found: (-np.float32(found.score), found.row)
    )
    before = {found.row: place for place, found in enumerate(by_score, start=1)}
    for row, found in enumerate(made.items):
        assert found.row == row
        assert list(dict.fromkeys(bar for bar, _ in found.bars)) == [why for why, rows in bars.items() if row in rows]
        if found.verdict == "recommended":
            assert answer.items[found.place - 1].row == row
            assert answer.items[found.place - 1].score == found.score
            said = {said.source: said.score for said in found.sources if said.said == "proposed"}
            assert said == dict(answer.items[found.place - 1].sources)
        elif found.bars:
            assert row in forbidden
            assert (found.verdict, found.detail) == found.bars[0]
        elif found.verdict == "not_retrieved":
            assert row not in proposed
        else:
            assert row in proposed
            assert found.place > len(answer.items) == query.k
            assert found.verdict == ("held_back" if before[row] <= query.k else "outranked")
            assert found.score <= max(item.score for item in answer.items)
    assert {found.row for found in made.items if found.verdict == "recommended"} == {item.row for item in answer.items}


@settings(max_examples=40, deadline=None)
@given(queries, st.sampled_from(sorted(SHOPS)))
def test_an_exact_rank_is_the_place_among_all_that_may_be_found(query: Query, which: str) -> None:
    """As a plain sort by distance or product finds it; without a vector on both sides there is none."""
    shop = SHOPS[which]
    snapshot = shop.snapshot
    forbidden = set().union(*barred(query, shop).values())
    subjects, _ = resolve([query], query.serving, snapshot, NOW)
    made = asked(query, snapshot, shop.ids).items
    if not subjects.has_vector[0]:
        assert {(found.similarity, found.exact_rank) for found in made} == {(None, 0)}
        return
    vector = subjects.vectors[0].astype(np.float64)
    vectors = snapshot.item_vectors[np.arange(len(shop.items))].astype(np.float64)
    near = -((vectors - vector) ** 2).sum(1) if which == "l2" else vectors @ vector
    bare = {row for row, name in enumerate(shop.ids) if name == "new-3"}
    allowed = [row for row in np.argsort(-near, kind="stable").tolist() if row not in forbidden | bare]
    places = {row: place for place, row in enumerate(allowed, start=1)}
    for found in made:
        if found.row in bare:
            assert found.similarity is None
        else:
            assert found.similarity == pytest.approx(near[found.row], abs=1e-4)
        assert found.exact_rank == pytest.approx(places.get(found.row, 0), abs=0)


def test_an_item_that_the_release_does_not_have_is_unknown() -> None:
    """And nothing else is said of it."""
    found = one(Query("user-1", FOR_YOU), "elsewhere")
    assert (found.verdict, found.row, found.bars, found.sources) == ("unknown_item", -1, (), ())


def test_without_items_those_of_the_answer_are_explained() -> None:
    """In its order, with all that the ranker saw of them."""
    made = asked(Query("user-1", FOR_YOU, 7), items=())
    assert [found.row for found in made.items] == [item.row for item in made.answer.items]
    assert [found.verdict for found in made.items] == ["recommended"] * 7
    assert made.ranked
    assert made.last_score == made.answer.items[-1].score
    names = [(feature.block, feature.name) for feature in made.items[0].features]
    assert names == [
        *(("user", name) for name in USER_FEATURES),
        *(("item", name) for name in ITEM_FEATURES),
        *(("pair", name) for name in CANDIDATE_FEATURES),
    ]
    values = {feature.name: feature.value for feature in made.items[0].features}
    assert values["vector_score"] == pytest.approx(made.items[0].score)
    assert values["from_ann"] == 1.0


def test_a_rule_that_took_a_place_is_named_with_the_places() -> None:
    """Of a category only two may come before the others had their turn: the third is held back."""
    query = Query("user-1", dataclasses.replace(NARROW, sources=(SourceUse("ann", 60),)), 5)
    held = [found for found in asked(query).items if found.verdict == "held_back"]
    assert held
    for found in held:
        (move,) = found.moves
        assert (move.rule, move.before <= 5 < move.after) == ("diversity", True)
        assert f"diversity moved it from {move.before} to {move.after}" in found.detail


def test_every_source_says_what_it_did() -> None:
    """Proposed at which place with which score; proposed others; silent; left out; not offered."""
    serving = ServingConfig(
        "mine", (SourceUse("ann", 5), SourceUse("search", 5), SourceUse("trending", 5)), rerank=False
    )
    first = asked(Query("user-1", serving, 5), items=()).items[0]
    said = {said.source: said for said in first.sources}
    assert said["search"].said == "silent"
    assert said["ann"].said == "passed" or (said["ann"].rank >= 1 and said["ann"].score > 0)
    bare = make_world(items=120, users=20, bare=True).snapshot()
    assert {s.source: s.said for s in one(Query("user-1", serving, 5), "item-1", bare).sources}[
        "search"
    ] == "not_offered"

    class Broken:
        def prepare(self, *given: Any) -> Any:
            return SNAPSHOT.index.prepare(*given)

        def search(self, *_: object) -> None:
            raise IndexFailed("gone")

    broken = dataclasses.replace(SNAPSHOT, index=Broken())  # type: ignore[arg-type]
    made = asked(Query("user-1", serving, 5), broken, ["item-1"])
    assert {s.source: s.said for s in made.items[0].sources}["ann"] == "left_out"
    assert [one.stage for one in made.answer.degraded] == ["ann"]


def test_an_item_that_an_approximate_index_misses_is_not_retrieved_with_its_exact_rank() -> None:
    """It is the nearest of all, and the index looked into one list of many: the rank says whose fault it is."""
    whole = make_world(items=COUNT, users=20).snapshot()
    index = build_index("IVF24,Flat", whole.item_vectors, "inner_product", {"nprobe": 1})
    poor = dataclasses.replace(whole, index=index)
    serving = ServingConfig("ann", (SourceUse("ann", 20),), rerank=False, exclude_bought=False)
    found = [one for one in asked(Query("user-1", serving, 20), poor).items if one.verdict == "not_retrieved"]
    missed = [one for one in found if 0 < one.exact_rank <= 20]
    assert missed
    assert f"number {missed[0].exact_rank} of the 120" in missed[0].detail


def test_what_bars_an_item_is_told_in_words() -> None:
    """Each bar has its sentence, and all of them are named, the strongest first."""
    person = Person(seen=np.array([3], np.int32), blocked=np.array([3], np.int32))
    seeing = dataclasses.replace(NARROW, filter=None)
    found = one(Query("user-1", seeing, 5, ["item-3"], ["item-3"], person=person), "item-3")
    assert found.bars == tuple(
        (bar, EXCLUDED[bar]) for bar in EXCLUDED if bar in ("context", "request", "blocked", "seen")
    )
    assert (found.verdict, found.detail) == ("context", "the answer is about it")


def test_a_filter_is_told_clause_by_clause() -> None:
    """Each clause that an item misses, by its place and in words, inner filters by theirs; and whose filter it is."""
    wanted = Filter(
        must=(
            AnyOf("category", ("group-4", "group-5")),
            Range("price", gte=1.0, lt=1000.0),
            Filter(must=(Is("available", False),), should=(AllOf("categories", ("a", "b")), Range("stock", gt=99.0))),
        ),
        must_not=(AnyOf("category", ("group-1",)),),
    )
    query = Query(
        "user-1", dataclasses.replace(NARROW, filter=Filter(must=(Range("price", lt=0.5),))), 5, filter=wanted
    )
    found = one(query, "item-7")
    assert [detail for bar, detail in found.bars if bar == "filtered"] == [
        "the filter of the serving config narrow asks price to be < 0.5 (must[0])",
        "the request's filter asks category to be group-4 or group-5 (must[0])",
        "the request's filter asks available to be false (must[2].filter.must[0])",
        "the request's filter asks categories to have a and b or stock to be > 99 (must[2].filter.should)",
        "the request's filter asks not category to be group-1 (must_not[0])",
    ]
    assert one(Query("user-1", SERVING_CONFIGS["browse"], 5, category="group-2"), "item-7").detail == (
        "it is not in the category group-2"
    )


def test_controls_are_told_by_what_they_did() -> None:
    """What one moved, with places; what it put there, as a source of its own; what it held back, by its clause."""
    thin = dataclasses.replace(FOR_YOU, sources=(SourceUse("ann", 25), SourceUse("trending", 5)))
    plain = asked(Query("user-1", thin, 10), items=())
    first, beyond = plain.items[0], plain.answer.considered
    assert beyond is not None
    fifteenth = ITEMS[int(beyond.rows[beyond.order[14]])]
    far = next(f.item_id for f in asked(Query("user-1", thin, 10)).items if f.verdict == "not_retrieved")
    up = Control("push-it", Boost(Filter(must=(AnyOf("name", (fifteenth,)),)), 10))
    down = Control("hide-it", Bury(Filter(must=(AnyOf("name", (first.item_id,)),))))
    pin = Control("put-it", Pin((far,), 2))
    keep = Control("cheap-only", Keep(Filter(must=(Range("price", lt=60.0),))), serving_configs=("for-you",))
    named = {**SNAPSHOT.attributes, "name": Keyword.of(ITEMS)}
    for controls, item_id, verdict, rule in (
        ((up,), fifteenth, "recommended", "boost:push-it"),
        ((down,), first.item_id, "held_back", "bury:hide-it"),
        ((pin,), far, "recommended", "pin:put-it"),
    ):
        snapshot = dataclasses.replace(SNAPSHOT, attributes=named, controls=controls)
        found = one(Query("user-1", thin, 10), item_id, snapshot)
        assert found.verdict == verdict
        assert rule in [move.rule for move in found.moves]
        pinned = [said for said in found.sources if said.source == "pinned"]
        assert [said.said for said in pinned] == (["proposed"] if controls == (pin,) else [])
    kept = dataclasses.replace(SNAPSHOT, controls=(keep,))
    dear = next(name for name, item in SHOPS["inner_product"].items.items() if item["price"] >= 60.0)
    details = [detail for bar, detail in one(Query("user-1", thin, 10), dear, kept).bars if bar == "filtered"]
    assert details == ["the control cheap-only asks price to be < 60 (must[0])"]
    others = one(Query("user-1", SERVING_CONFIGS["trending"], 10), dear, kept)
    assert "filtered" not in [bar for bar, _ in others.bars]


def test_a_serving_config_that_does_not_fit_is_told_and_not_an_error() -> None:
    """Its filter keeps everything out: each item is told so, in the words of the answer, and unknown ones as ever."""
    odd = dataclasses.replace(FOR_YOU, filter=Filter(must=(Is("glows", True),)))
    found = asked(Query("user-1", odd, 10), items=("item-7", "nothing"))
    (told,) = found.answer.degraded
    assert [(item.verdict, item.detail) for item in found.items] == [
        ("filtered", told.detail),
        ("unknown_item", "the release has no such item"),
    ]
    assert (found.last_score, found.may_be_found, found.items[0].bars) == (None, 0, (("filtered", told.detail),))
    assert asked(Query("user-1", odd, 10), items=()).items == ()
