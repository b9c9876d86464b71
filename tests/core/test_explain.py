"""Every item of a catalogue has one verdict, and it is the true one: what was answered, and what brute force finds."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import NOW, make_world
from tidings_core.explain import BARRED, Explained, Explanation, explain
from tidings_core.features import CANDIDATE_FEATURES, ITEM_FEATURES, USER_FEATURES
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
from tidings_core.recommend import recommend, retrieve
from tidings_core.subjects import resolve

WORLDS: dict[Metric, Snapshot] = {
    metric: make_world(items=120, users=20, metric=metric).snapshot() for metric in ("inner_product", "cosine", "l2")
}
SNAPSHOT = WORLDS["inner_product"]
ITEMS = [f"item-{row}" for row in range(120)]
FOR_YOU = SERVING_CONFIGS["for-you"]
NARROW = dataclasses.replace(
    FOR_YOU,
    name="narrow",
    sources=(SourceUse("ann", 12), SourceUse("similar", 6), SourceUse("trending", 5)),
    diversity=Diversity("category", 2),
    exclude_seen=True,
)

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
    person=people,
)


def asked(query: Query, snapshot: Snapshot = SNAPSHOT, items: Sequence[str] = ITEMS) -> Explained:
    """An explanation."""
    return explain(query, items, snapshot, NOW)


def one(query: Query, item_id: str, snapshot: Snapshot = SNAPSHOT) -> Explanation:
    """What became of one item."""
    (found,) = asked(query, snapshot, [item_id]).items
    return found


def barred(query: Query, snapshot: Snapshot) -> dict[str, set[int]]:
    """What must not be in the answer, by why, told without any of the code that answers."""
    person, user = query.person, int(query.user_id.partition("-")[2] or -1)
    assert snapshot.histories is not None
    bought = set() if user < 0 else set(snapshot.histories[user].rows.tolist())
    categories = {row: f"group-{row % 6}" for row in range(120)}
    within = query.serving.within_category and query.category
    found = {
        "filtered": {row for row in range(120) if within and categories[row] != query.category},
        "context": {ITEMS.index(item) for item in query.context_item_ids if item in ITEMS},
        "request": {ITEMS.index(item) for item in query.exclude_item_ids if item in ITEMS},
        "blocked": set() if person is None else set(person.blocked.tolist()),
        "bought": bought if person is None else set(person.history.rows.tolist()),
        "returned": set() if person is None else set(person.returned.tolist()),
        "seen": set() if person is None else set(person.seen.tolist()),
    }
    if not query.serving.exclude_bought:
        found["bought"] = found["returned"] = set()
    if not query.serving.exclude_seen:
        found["seen"] = set()
    return found


@settings(max_examples=150, deadline=None)
@given(queries, st.sampled_from(sorted(WORLDS)))
def test_every_item_has_one_verdict_and_it_is_the_true_one(query: Query, metric: Metric) -> None:
    """Recommended is what the answer holds; barred is what brute force forbids; others were proposed or were not."""
    snapshot = WORLDS[metric]
    made = asked(query, snapshot)
    answer = recommend([query], snapshot, NOW)[0]
    subjects, _ = resolve([query], query.serving, snapshot, NOW)
    candidates = retrieve(subjects, query.serving, snapshot)[0].candidates.rows[0]
    proposed = set(candidates[candidates >= 0].tolist())
    bars = barred(query, snapshot)
    forbidden = set().union(*bars.values())
    assert made.answer.items == answer.items
    assert made.may_be_found == 120 - len(forbidden)
    by_score = sorted(
        (found for found in made.items if found.place), key=lambda found: (-np.float32(found.score), found.row)
    )
    before = {found.row: place for place, found in enumerate(by_score, start=1)}
    for row, found in enumerate(made.items):
        assert found.row == row
        assert [bar for bar, _ in found.bars] == [why for why, rows in bars.items() if row in rows]
        if found.verdict == "recommended":
            assert answer.items[found.place - 1].row == row
            assert answer.items[found.place - 1].score == found.score
            said = {said.source: said.score for said in found.sources if said.said == "proposed"}
            assert said == dict(answer.items[found.place - 1].sources)
        elif found.bars:
            assert row in forbidden
            assert found.verdict == found.bars[0][0]
        elif found.verdict == "not_retrieved":
            assert row not in proposed
        else:
            assert row in proposed
            assert found.place > len(answer.items) == query.k
            assert found.verdict == ("held_back" if before[row] <= query.k else "outranked")
            assert found.score <= max(item.score for item in answer.items)
    assert {found.row for found in made.items if found.verdict == "recommended"} == {item.row for item in answer.items}


@settings(max_examples=60, deadline=None)
@given(queries, st.sampled_from(sorted(WORLDS)))
def test_an_exact_rank_is_the_place_among_all_that_may_be_found(query: Query, metric: Metric) -> None:
    """As a plain sort by distance or product finds it; without a vector there is none."""
    snapshot = WORLDS[metric]
    user = int(query.user_id.partition("-")[2] or -1)
    forbidden = set().union(*barred(query, snapshot).values())
    if user < 0:
        assert {(found.similarity, found.exact_rank) for found in asked(query, snapshot).items} == {(None, 0)}
        return
    vector = snapshot.user_vectors[user].astype(np.float64)
    vectors = snapshot.item_vectors.astype(np.float64)
    near = -((vectors - vector) ** 2).sum(1) if metric == "l2" else vectors @ vector
    allowed = [row for row in np.argsort(-near, kind="stable").tolist() if row not in forbidden]
    places = {row: place for place, row in enumerate(allowed, start=1)}
    for found in asked(query, snapshot).items:
        assert found.similarity == pytest.approx(near[found.row], abs=1e-5)
        assert found.exact_rank == places.get(found.row, 0)


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
        def search(self, *_: object) -> None:
            from tidings_core.errors import IndexFailed

            raise IndexFailed("gone")

    broken = dataclasses.replace(SNAPSHOT, index=Broken())  # type: ignore[arg-type]
    made = asked(Query("user-1", serving, 5), broken, ["item-1"])
    assert {s.source: s.said for s in made.items[0].sources}["ann"] == "left_out"
    assert [one.stage for one in made.answer.degraded] == ["ann"]


def test_an_item_that_an_approximate_index_misses_is_not_retrieved_with_its_exact_rank() -> None:
    """It is the nearest of all, and the index looked into one list of many: the rank says whose fault it is."""
    index = build_index("IVF24,Flat", SNAPSHOT.item_vectors, "inner_product", {"nprobe": 1})
    poor = dataclasses.replace(SNAPSHOT, index=index)
    serving = ServingConfig("ann", (SourceUse("ann", 20),), rerank=False, exclude_bought=False)
    found = [one for one in asked(Query("user-1", serving, 20), poor).items if one.verdict == "not_retrieved"]
    missed = [one for one in found if 0 < one.exact_rank <= 20]
    assert missed
    assert f"number {missed[0].exact_rank} of the 120" in missed[0].detail


def test_what_bars_an_item_is_told_in_words() -> None:
    """Each bar has its sentence, and all of them are named, the strongest first."""
    person = Person(seen=np.array([3], np.int32), blocked=np.array([3], np.int32))
    found = one(Query("user-1", NARROW, 5, ["item-3"], ["item-3"], person=person), "item-3")
    assert found.bars == tuple((bar, BARRED[bar]) for bar in ("context", "request", "blocked", "seen"))
    assert (found.verdict, found.detail) == ("context", "the answer is about it")
