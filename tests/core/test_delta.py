"""A release and a delta answer like a release that was built with the changes in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.world import NOW, linear_ranker, make_world
from tidings_core import text
from tidings_core.attributes import Keyword
from tidings_core.catalogue import Change, Description
from tidings_core.delta import Delta, taken_in
from tidings_core.events import Event, EventItem
from tidings_core.exclusions import prepared
from tidings_core.features import ITEM_FEATURES, attribute_codes, attribute_text
from tidings_core.index import build_index
from tidings_core.model import SERVING_CONFIGS, Person, Query, Snapshot, SourceUse
from tidings_core.patched import patched
from tidings_core.person import view
from tidings_core.profile import EMPTY, fold
from tidings_core.recommend import recommend
from tidings_core.subjects import resolve

SPACE = "space"
DIM = 8
WORLD = make_world(items=60, users=12, dim=DIM, groups=4)
BASE = WORLD.snapshot()
WORDS = ("red", "blue", "lamp", "chair")


def vector(seed: int) -> np.ndarray[Any, Any]:
    """Some vector."""
    return np.random.default_rng(seed).normal(size=DIM).astype(np.float32)


def described(
    item_id: str, title: str, category: str, seed: int | None = None, number: int = 1, **values: Any
) -> Change:
    """A change that describes an item anew, with the vector of a seed, or without one."""
    kinds = {"category": "keyword", "categories": "tags", "price": "number", "available": "flag", "stock": "number"}
    told: dict[str, Any] = {"category": category, "categories": (category,), **values}
    description = Description(
        payload=f"{item_id}|{title}|{category}".encode(),
        title=title,
        fields=text.item_fields(title, "", [category], ""),
        categories=(category,),
        values=told,
        kinds={name: kinds.get(name, "keyword") for name in told},  # type: ignore[misc]
    )
    own = b"" if seed is None else vector(seed).tobytes()
    return Change(item_id, number, number, description=description, vector=own, space=SPACE)


def priced(item_id: str, price: float) -> Change:
    """A change of a price alone."""
    return Change(item_id, 1, 1, parts={"price": price}, payload=b"priced")


def with_changes(*batches: Sequence[Change], base: Snapshot = BASE) -> Snapshot:
    """The snapshot of a release after batches of changes."""
    delta = Delta()
    for batch in batches:
        delta = taken_in(base, delta, batch, SPACE)
    return patched(base, delta)


def found(snapshot: Snapshot, query: str) -> list[str]:
    """Ids of what search finds, best first."""
    assert snapshot.words is not None
    return [snapshot.items[row] for row in text.search(query, snapshot.words, 100)[0].tolist()]


def in_category(snapshot: Snapshot, name: str) -> set[str]:
    """Ids of all in a category."""
    assert snapshot.categories is not None
    return {snapshot.items[row] for row in text.category_items(name, snapshot.categories, 100).tolist()}


def nearest(snapshot: Snapshot, query: np.ndarray[Any, Any], k: int) -> tuple[list[str], list[float]]:
    """What the index finds: ids and scores."""
    rows, scores = snapshot.index.search(query[None, :], k)
    return [snapshot.items[row] for row in rows[0].tolist() if row >= 0], scores[0][rows[0] >= 0].tolist()


def test_without_changes_the_snapshot_is_the_releases_own() -> None:
    """An empty delta costs nothing: nothing is wrapped."""
    assert with_changes() is BASE
    assert with_changes([priced("nobody's", 3.0)]) is BASE
    assert with_changes([Change("nobody's", 1, 1, deleted=True)]) is BASE


def test_a_new_item_gets_the_next_row_and_is_found_in_every_way() -> None:
    """By id, by its words, in its category, by its vector; and it is shown as it was described."""
    snapshot = with_changes([described("new-1", "Zebra lamp", "zoo", 1), described("new-2", "Zebra chair", "zoo", 2)])
    assert len(snapshot.items) == 62
    assert snapshot.items.find_many(["new-2", "item-3", "new-1", "none"]).tolist() == [61, 3, 60, -1]
    assert [snapshot.items[60], snapshot.items.find("new-2")] == ["new-1", 61]
    assert snapshot.payloads[60] == b"new-1|Zebra lamp|zoo"
    assert list(map(bytes, snapshot.payloads.views([60, 3]))) == [snapshot.payloads[60], BASE.payloads[3]]
    assert found(snapshot, "zebra") == ["new-1", "new-2"]
    assert found(snapshot, "zebra chair")[0] == "new-2"
    assert in_category(snapshot, "zoo") == {"new-1", "new-2"}
    assert nearest(snapshot, vector(2), 1)[0] == ["new-2"]
    assert attribute_text(snapshot, "category", 61) == "zoo"
    codes = attribute_codes(snapshot, "category", np.array([60, 61, 0, 6], np.int32))
    known = BASE.attributes["category"]
    assert codes is not None
    assert isinstance(known, Keyword)
    assert codes[0] == codes[1] >= len(known.values)
    assert codes[2:].tolist() == known.codes[[0, 6]].tolist()


def test_a_retitled_and_recategorised_item_is_found_by_what_it_is_now_alone() -> None:
    """Its old words and its old category find it no more; its row, its vector and its id stay."""
    old = f"group {WORLD.group_of_item[5]} thing 5"
    assert found(BASE, old)[0] == "item-5"
    before = in_category(BASE, "group-1")
    assert "item-5" in before
    snapshot = with_changes([described("item-5", "Purple teapot", "kitchen")])
    assert found(snapshot, "purple teapot") == ["item-5"]
    assert "item-5" not in found(snapshot, old)
    assert (in_category(snapshot, "group-1"), in_category(snapshot, "kitchen")) == (before - {"item-5"}, {"item-5"})
    assert snapshot.items.find("item-5") == 5
    assert np.array_equal(snapshot.item_vectors[5], BASE.item_vectors[5])
    again = with_changes([described("item-5", "Purple teapot", "kitchen")], [described("item-5", "Cup", "group-1")])
    assert found(again, "purple teapot") == []
    assert in_category(again, "kitchen") == set()
    assert "item-5" in in_category(again, "group-1")


def test_a_deleted_item_is_in_no_answer_and_comes_back_when_it_is_described_again() -> None:
    """Neither by search, category, vector, trend nor as a neighbour; new items too."""
    gone = [Change(name, 2, 2, deleted=True) for name in ("item-7", "new-1")]
    snapshot = with_changes([described("new-1", "Zebra", "zoo", 1)], gone)
    everything = [Query(f"user-{u}", config, k=100) for u in range(12) for config in SERVING_CONFIGS.values()]
    everything += [Query("user-1", SERVING_CONFIGS["similar"], k=50, context_item_ids=["item-3", "new-1"])]
    everything += [
        Query("x", SERVING_CONFIGS["search"], search="thing 7"),
        Query("x", SERVING_CONFIGS["search"], search="zebra"),
    ]
    everything += [Query("x", SERVING_CONFIGS["browse"], k=100, category="group-3")]
    for answer in recommend(everything, snapshot, NOW):
        assert not {"item-7", "new-1"} & {snapshot.items[item.row] for item in answer.items}
    assert nearest(snapshot, BASE.item_vectors[7], 60)[0].count("item-7") == 0
    back = with_changes([described("new-1", "Zebra", "zoo", 1)], gone, [described("new-1", "Zebra", "zoo", 1)])
    assert found(back, "zebra") == ["new-1"]
    assert nearest(back, vector(1), 1)[0] == ["new-1"]


def test_a_price_changes_alone() -> None:
    """The price, what is shown and the features that rest on it; the item keeps its words, vector and row."""
    snapshot = with_changes(
        [priced("item-4", 12.5)],
        [replace(priced("item-4", 12.5), parts={"price": 12.5, "stock": 0.0, "available": 0.0})],
    )
    delta = snapshot.delta
    assert delta is not None
    assert delta.size == 0
    assert {name: delta.attributes[name].at(0) for name in ("price", "stock", "available", "category")} == {
        "price": 12.5,
        "stock": 0.0,
        "available": False,
        "category": "group-0",
    }
    assert snapshot.payloads[4] == b"priced"
    assert snapshot.item_features[4, ITEM_FEATURES.index("log_price")] == pytest.approx(np.log1p(12.5))
    assert 0.0 <= snapshot.item_features[4, ITEM_FEATURES.index("price_rank")] <= 1.0
    assert found(snapshot, "thing 4") == found(BASE, "thing 4")
    assert nearest(snapshot, vector(1), 10) == nearest(BASE, vector(1), 10)
    assert np.array_equal(
        BASE.item_features[4], make_world(items=60, users=12, dim=DIM, groups=4).parts.item_features[4]
    )


def test_texts_and_words_that_nothing_has_any_more_are_let_go_of() -> None:
    """A delta is as large as what stands in it, however often an item is said anew and whatever the release holds."""
    brands = Keyword.of([f"brand {number}" for number in range(5000)])
    many = {**BASE.attributes, "brand": Keyword(brands.codes[:60], brands.values)}
    base, delta = replace(BASE, attributes=many), Delta()
    for turn in range(1000):
        change = described("item-5", f"Purple w{turn}x", "kitchen", seen=f"at {turn}", number=turn)
        delta = taken_in(base, delta, [change, priced("item-6", turn + 1.0)], SPACE)
    seen, brand = delta.attributes["seen"], delta.attributes["brand"]
    assert isinstance(seen, Keyword)
    assert isinstance(brand, Keyword)
    assert delta.words is not None
    assert max(len(seen.values), len(brand.values), len(delta.words.words)) < 300
    assert [seen.at(0), seen.at(1), brand.at(0), brand.at(1)] == ["at 999", None, None, "brand 6"]
    snapshot = patched(base, delta)
    assert (found(snapshot, "purple"), found(snapshot, "w999x"), found(snapshot, "w998x")) == (
        ["item-5"],
        ["item-5"],
        [],
    )


def test_the_ranker_sees_the_features_of_what_changed() -> None:
    """One that ranks by price puts the item first whose price rose, and a new one by its own price."""
    ranker = linear_ranker({"log_price": 1.0}, {}, {})
    world = replace(WORLD, parts=replace(WORLD.parts, ranker=ranker))
    base = world.snapshot()
    query = Query("user-1", SERVING_CONFIGS["for-you"], k=60)
    snapshot = with_changes(
        [priced("item-9", 5_000.0), described("new-1", "Gold", "group-1", 3, price=90_000.0)], base=base
    )
    (answer,) = recommend([query], snapshot, NOW)
    candidates = {snapshot.items[item.row]: item.score for item in answer.items}
    for name, price in (("item-9", 5_000.0), ("new-1", 90_000.0)):
        if name in candidates:
            assert candidates[name] == pytest.approx(np.log1p(price), rel=1e-5)
    assert {"item-9", "new-1"} & candidates.keys()


def test_a_new_item_without_a_vector_gets_that_of_items_like_it() -> None:
    """By words and category it comes to lie where its like do, as long as item vectors usually are."""
    snapshot = with_changes(
        [described("new-1", "Group 2 thing", "group-2"), described("new-2", "?", "nothing like it")]
    )
    made = snapshot.item_vectors[60]
    alike = BASE.item_vectors[[row for row in range(60) if WORLD.group_of_item[row] == 2]].mean(axis=0)
    assert made @ alike / np.linalg.norm(made) / np.linalg.norm(alike) > 0.95
    assert np.linalg.norm(made) == pytest.approx(np.median(np.linalg.norm(BASE.item_vectors, axis=1)), rel=0.01)
    assert not snapshot.item_vectors[61].any()
    assert "new-2" not in nearest(snapshot, vector(0), 62)[0]


@pytest.mark.parametrize("metric", ["inner_product", "cosine", "l2"])
def test_a_new_item_that_has_no_vector_is_no_example(metric: Any) -> None:
    """It says nothing of what the answer should be like, beside others and alone; least of all that it is near 0."""
    base = make_world(items=60, users=12, dim=DIM, groups=4, metric=metric).snapshot()
    snapshot = with_changes([Change("odd", 1, 1, description=Description(b"odd"))], base=base)

    def vectors(*liked: str) -> tuple[list[bool], list[float]]:
        query = Query("nobody", SERVING_CONFIGS["for-you"], liked_item_ids=liked, disliked_item_ids=("odd",))
        subjects, _ = resolve([query], query.serving, snapshot, NOW)
        return subjects.has_vector.tolist(), subjects.vectors[0].tolist()

    assert vectors("odd")[0] == [False]
    assert vectors("item-3", "odd") == vectors("item-3")
    near = vectors("item-3")[1]
    direction = np.array(near) / np.linalg.norm(near)
    own = np.array(base.item_vectors[3])
    assert np.allclose(direction, own / np.linalg.norm(own), atol=1e-5)
    if metric == "l2":
        assert np.allclose(near, own)


@pytest.mark.parametrize("metric", ["inner_product", "cosine", "l2"])
def test_a_new_item_that_has_no_vector_is_no_part_of_anybodys(metric: Any) -> None:
    """Who looked at it alone has no vector; who looked at another item too has the one that this makes."""
    base = replace(make_world(items=60, users=12, dim=DIM, groups=4, metric=metric).snapshot(), fold_in=None)
    snapshot = with_changes([described("odd", "zzz", "nothing-like-it")], base=base)
    rows = np.arange(len(snapshot.items), dtype=np.int32)
    odd, known = snapshot.items.find("odd"), 5

    def looked_at(*items: int) -> Person:
        events = [
            (Event(f"e{item}", "view", "u", int(NOW * 1000), (EventItem(snapshot.items[item]),)), [item])
            for item in items
        ]
        return view(fold(EMPTY, events), rows, snapshot, -1)

    assert looked_at(odd).vector is None
    both, alone = looked_at(odd, known).vector, looked_at(known).vector
    assert both is not None
    np.testing.assert_array_equal(both, alone)


def test_a_vector_of_another_space_or_length_is_not_used() -> None:
    """It means nothing here: the item gets that of its like instead."""
    own = described("new-1", "Group 2 thing", "group-2", 1)
    plain = with_changes([described("new-1", "Group 2 thing", "group-2")])
    for other in (replace(own, space="another"), replace(own, vector=own.vector[4:])):
        assert np.array_equal(with_changes([other]).item_vectors[60], plain.item_vectors[60])
    assert np.allclose(with_changes([own]).item_vectors[60], vector(1))


def test_a_new_item_goes_with_what_its_twin_goes_with_and_is_found_by_it() -> None:
    """`similar` starts from it, and leads to it."""
    twin = replace(described("new-1", "?", "?", 1), vector=BASE.item_vectors[8].tobytes())
    snapshot = with_changes([twin])
    for context, wanted in (("new-1", "item-8"), ("item-8", "new-1")):
        query = Query("nobody", SERVING_CONFIGS["similar"], k=10, context_item_ids=[context])
        (answer,) = recommend([query], snapshot, NOW)
        assert wanted in [snapshot.items[item.row] for item in answer.items][:6]
        assert answer.items[0].reasons[0].code == "similar_to_context"


@dataclass(frozen=True)
class Shelf:
    """What there is, by id: title, category and the seed of the vector."""

    items: Mapping[str, tuple[str, str, int]]


ids = st.sampled_from([f"item-{n}" for n in range(8)] + [f"new-{n}" for n in range(6)])
described_anew = st.builds(
    lambda item_id, words, category, seed: (item_id, " ".join(words), category, seed),
    ids,
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True),
    st.sampled_from(["group-0", "group-1", "den", "hall"]),
    st.integers(0, 1000),
)
steps = st.lists(
    st.lists(st.one_of(described_anew, ids), max_size=5, unique_by=lambda s: s if isinstance(s, str) else s[0]),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(steps, st.integers(0, 1000), st.integers(1, 70))
@example([[("new-0", "red", "group-0", 2)]], 0, 61)  # More are wanted than the index has, and the new one is farthest.
def test_whatever_changes_the_index_the_words_and_the_categories_find_exactly_what_is_there(
    batches: list[list[Any]], seed: int, k: int
) -> None:
    """Against a shelf kept in plain Python: nearest by brute force, words and categories by looking at every item."""
    vectors = {f"item-{n}": BASE.item_vectors[n] for n in range(60)}
    texts: dict[str, set[str]] = {}
    categories = {f"item-{n}": f"group-{WORLD.group_of_item[n]}" for n in range(60)}
    changes = []
    for batch in batches:
        made = []
        for step in batch:
            if isinstance(step, str):
                made.append(Change(step, 1, 1, deleted=True))
                for known in (vectors, texts, categories):
                    known.pop(step, None)
            else:
                name, title, category, of_vector = step
                made.append(described(name, title, category, of_vector))
                vectors[name], texts[name], categories[name] = vector(of_vector), set(title.split()), category
        changes.append(made)
    snapshot = with_changes(*changes)
    query = vector(seed)
    names, scores = nearest(snapshot, query, k)
    truth = sorted((float(query @ v) for v in vectors.values()), reverse=True)[:k]
    assert scores == pytest.approx(truth, abs=1e-4)
    assert [float(query @ vectors[name]) for name in names] == pytest.approx(truth, abs=1e-4)
    for word in WORDS:
        assert set(found(snapshot, word)) == {name for name, words in texts.items() if word in words}
    for category in ("group-0", "group-1", "den", "hall"):
        assert in_category(snapshot, category) == {name for name, held in categories.items() if held == category}
    for name in vectors:
        row = snapshot.items.find(name)
        assert attribute_text(snapshot, "category", row) == categories[name]
        assert np.allclose(snapshot.item_vectors[row], vectors[name])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.one_of(described_anew, ids), max_size=12, unique_by=lambda s: s if isinstance(s, str) else s[0]),
    st.data(),
)
def test_it_does_not_matter_in_how_many_steps_changes_come(steps: list[Any], data: st.DataObject) -> None:
    """One by one or all at once: the same rows, texts, vectors and answers."""
    changes = [Change(s, 1, 1, deleted=True) if isinstance(s, str) else described(*s) for s in steps]
    cut = data.draw(st.integers(0, len(changes)))
    one, two = with_changes(changes), with_changes(changes[:cut], changes[cut:])
    assert len(one.items) == len(two.items)
    for word in WORDS:
        assert found(one, word) == found(two, word)
    assert nearest(one, vector(0), 70) == nearest(two, vector(0), 70)


def test_exclusions_hold_for_what_is_new_too() -> None:
    """An excluded row is not found, be it the release's or the delta's."""
    snapshot = with_changes([described("new-1", "?", "?", 1)])
    excluded = prepared(np.array([3, 60], np.int32), snapshot)
    rows, _ = snapshot.index.search(vector(1)[None, :], 61, snapshot.index.without(None, excluded))
    assert not {3, 60} & set(rows[0].tolist())
    assert (rows[0] >= 0).sum() == 59


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_every_metric_finds_new_vectors_among_the_old(metric: Any) -> None:
    """Scores are those of the release's own index."""
    base = make_world(items=60, users=6, dim=DIM, groups=4, metric=metric, ranked=False).snapshot()
    snapshot = with_changes([described("new-1", "?", "?", 1)], base=base)
    ours = snapshot.item_vectors[60]
    rows, scores = snapshot.index.search(ours[None, :], 3)
    assert rows[0, 0] == 60
    assert scores[0, 0] == pytest.approx({"cosine": 1.0, "l2": 0.0}[metric], abs=1e-5)
    assert scores[0].tolist() == sorted(scores[0].tolist(), reverse=True)


def test_who_else_asks_for_more_changes_no_answer() -> None:
    """Where lists with a delta have fewer items than somebody wants, the others find what they find alone."""
    world = make_world(items=300, users=12, dim=DIM)
    index = build_index("IVF32,Flat", world.parts.item_vectors, "inner_product", {"nprobe": 1})
    base = replace(world.snapshot(), index=index)
    snapshot = with_changes([described(f"n{seed}", "lamp", "chair", seed) for seed in range(60)], base=base)
    serving = replace(SERVING_CONFIGS["for-you"], sources=(SourceUse("ann", 4),), rerank=False, diversity=None)
    queries = [Query(user, serving, 4) for user in world.parts.user_ids[:-1]]
    greedy = Query(world.parts.user_ids[-1], serving, 100)
    together = recommend([*queries, greedy], snapshot, NOW)[:-1]
    alone = [recommend([query], snapshot, NOW)[0] for query in queries]
    assert [one.items for one in together] == [one.items for one in alone]
