"""Candidate sources and their merge, against plain Python."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import NOW, World, make_world
from tidings_core import sources
from tidings_core import subjects as subjects_module
from tidings_core.candidates import Proposals, merge
from tidings_core.exclusions import MANY
from tidings_core.features import DAY, ITEM_FEATURES
from tidings_core.index import FilterPlan, build_index
from tidings_core.model import METRICS, SERVING_CONFIGS, History, Metric, Person, Query, ServingConfig, SourceUse
from tidings_core.subjects import Subjects, resolve

ROWS = 12


def proposals(draw_rows: list[list[int]]) -> Proposals:
    """Proposals of one source, padded."""
    width = max([1, *(len(rows) for rows in draw_rows)])
    rows = np.full((len(draw_rows), width), -1, np.int64)
    for user, of_user in enumerate(draw_rows):
        rows[user, : len(of_user)] = of_user
    return Proposals(rows, np.where(rows >= 0, 100.0 - rows, 0.0).astype(np.float32))


def test_what_an_approximate_index_finds_for_somebody_is_the_same_whoever_else_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Alone, or beside somebody who wants many more: a filtered search looks as far as its own user needs."""
    snapshot = make_world().snapshot()
    index = build_index("IVF32,SQfp16", snapshot.item_vectors, snapshot.metric, {"nprobe": 4})
    index = index.with_plan(FilterPlan(0, ((300, 20),), 1.0, 1.0, 0.5, 0.1))
    snapshot = replace(snapshot, index=index)
    monkeypatch.setattr(subjects_module, "MANY", 5)
    serving = ServingConfig("few", (SourceUse("ann", 5, 1.0),))
    banned = [f"item-{row}" for row in range(0, 300, 4)]
    queries = [Query(f"user-{user}", serving, k=k, exclude_item_ids=banned) for user, k in ((0, 7), (1, 150))]
    queries.append(Query("user-2", serving, k=9))
    together, _ = resolve(queries, serving, snapshot, NOW)
    found = sources.propose("ann", together, snapshot, 5)
    for user, query in enumerate(queries):
        alone, _ = resolve([query], serving, snapshot, NOW)
        lone = sources.propose("ann", alone, snapshot, 5)
        assert lone.rows.shape == (1, query.k)
        assert found.rows[user, : query.k].tolist() == lone.rows[0].tolist()


of_source = st.lists(st.lists(st.integers(0, ROWS - 1), unique=True, max_size=8), min_size=2, max_size=2)


@given(of_source, of_source)
def test_the_merge_keeps_each_item_once_with_what_every_source_said(a: list[list[int]], b: list[list[int]]) -> None:
    """Distinct rows in row order; presence, score and rank of each source as proposed; padding elsewhere."""
    merged = merge(["a", "b"], [proposals(a), proposals(b)], 2)
    for user in range(2):
        rows = merged.rows[user]
        assert rows[rows >= 0].tolist() == sorted({*a[user], *b[user]})
        for place in range(len(rows)):
            for at, of_user in enumerate((a[user], b[user])):
                there = rows[place] >= 0 and rows[place] in of_user
                assert merged.present[user, place, at] == there
                assert merged.scores[user, place, at] == (100.0 - rows[place] if there else 0.0)
                if there:
                    assert merged.ranks[user, place, at] == of_user.index(int(rows[place]))


def test_no_source_at_all_merges_to_nothing() -> None:
    """A serving config whose sources a release lacks gives an empty set of candidates, not a failure."""
    assert merge([], [], 3).rows.shape == (3, 0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("limit", [0, MANY])
def test_ann_gives_the_nearest_items_that_are_not_excluded(
    metric: Metric, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether exclusions are dropped after the search or left out inside it, the answer is the exact one."""
    monkeypatch.setattr(subjects_module, "MANY", limit)
    snapshot = make_world(metric=metric).snapshot()
    rng = np.random.default_rng(1)
    banned = [rng.choice(300, 40, False) for _ in range(4)]
    queries = [
        Query(f"user-{user}", SERVING_CONFIGS["similar"], exclude_item_ids=[f"item-{row}" for row in rows])
        for user, rows in enumerate(banned)
    ]
    subjects, _ = resolve(queries, SERVING_CONFIGS["similar"], snapshot, NOW)
    found = sources.ann(subjects, snapshot, 15)
    for user, rows in enumerate(banned):
        vectors, vector = snapshot.item_vectors.astype(np.float64), snapshot.user_vectors[user].astype(np.float64)
        scores = -((vectors - vector) ** 2).sum(axis=1) if metric == "l2" else vectors @ vector
        scores[rows] = -np.inf
        assert found.rows[user].tolist() == np.argsort(-scores, kind="stable")[:15].tolist()
        np.testing.assert_allclose(found.scores[user], np.sort(scores)[::-1][:15], rtol=1e-4, atol=1e-5)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 59), min_size=1, max_size=4), st.lists(st.integers(0, 299), max_size=6, unique=True))
def test_similar_adds_up_the_neighbours_of_context_or_history(users: list[int], context: list[int]) -> None:
    """Scores are the weighted sum over seeds, best first, without what is excluded: as plain dictionaries say."""
    snapshot = WORLD_SNAPSHOT
    config = ServingConfig("x", (SourceUse("similar", 25),))
    queries = [Query(f"user-{user}", config, context_item_ids=[f"item-{row}" for row in context]) for user in users]
    subjects, _ = resolve(queries, config, snapshot, NOW)
    found = sources.similar(subjects, snapshot, 25)
    assert snapshot.neighbours is not None
    assert snapshot.histories is not None
    for at, user in enumerate(users):
        history = snapshot.histories[user].rows.tolist()
        starts = [(row, 1.0) for row in context] or [(row, 0.9**age) for age, row in enumerate(history[:10])]
        totals: dict[int, float] = {}
        for start, weight in starts:
            for row, score in zip(snapshot.neighbours.rows[start], snapshot.neighbours.scores[start], strict=True):
                if row >= 0:
                    totals[int(row)] = totals.get(int(row), 0.0) + weight * float(score)
        for row in {*history, *context}:
            totals.pop(row, None)
        got = {int(r): float(s) for r, s in zip(found.rows[at], found.scores[at], strict=True) if r >= 0}
        best = sorted(totals.values(), reverse=True)[:25]
        np.testing.assert_allclose(sorted(got.values(), reverse=True), best, rtol=1e-4)
        assert all(abs(totals[row] - score) < 1e-4 for row, score in got.items())
        assert list(got.values()) == sorted(got.values(), reverse=True)


def test_trending_reaches_past_everything_a_user_has_bought() -> None:
    """A user who bought the whole top of the list still gets k items of it."""
    world: World = make_world()
    snapshot = world.snapshot()
    assert snapshot.trending is not None
    top = [snapshot.items[int(row)] for row in snapshot.trending.rows[:50]]
    config = SERVING_CONFIGS["trending"]
    subjects, _ = resolve([Query("user-0", config, exclude_item_ids=top)], config, snapshot, NOW)
    assert sources.trending(subjects, snapshot, 20).rows[0].tolist() == snapshot.trending.rows[50:70].tolist()


WORLD_SNAPSHOT = make_world().snapshot()


def of_person(name: str, person: Person, k: int = 20, now: float = NOW, **more: object) -> tuple[Proposals, Subjects]:
    """What one source proposes to one stranger."""
    config = ServingConfig("x", (SourceUse(name, k),))
    subjects, _ = resolve([Query("stranger", config, 1, person=person, **more)], config, WORLD_SNAPSHOT, now)  # type: ignore[arg-type]
    return sources.propose(name, subjects, WORLD_SNAPSHOT, k), subjects


def seeds_of(name: str, subjects: Subjects) -> list[int]:
    """The items that a source starts from for the first user."""
    seeds = sources.SOURCES[name].seeds
    assert seeds is not None
    return [int(row) for row in seeds(subjects)[0]]


def rows_of(found: Proposals) -> list[int]:
    """The rows proposed to the first user."""
    return [int(row) for row in found.rows[0] if row >= 0]


def test_recent_proposes_what_was_looked_at_within_thirty_days_newest_first() -> None:
    """But for what is excluded, and with falling scores."""
    days = np.array([1.0, 5.0, 29.9, 30.1])
    person = Person(unbought=np.array([9, 4, 7, 2], np.int32), unbought_times=NOW - days * DAY)
    found, _ = of_person("recent", person)
    assert rows_of(found) == [9, 4, 7]
    assert (np.diff(found.scores[0, :3]) < 0).all()
    assert rows_of(of_person("recent", person, exclude_item_ids=["item-9"])[0]) == [4, 7]
    assert rows_of(of_person("recent", person, k=2)[0]) == [9, 4]


def test_search_proposes_what_fits_the_query_or_else_the_searches_of_a_day() -> None:
    """The query alone when there is one; else the searches of the last 24 hours, the newest weighing most."""
    person = Person(searches=(("thing 8", NOW - 60), ("group 3", NOW - 7200), ("group 4", NOW - 1.1 * DAY)))
    found, _ = of_person("search", person, k=30, search="Group 5 things")
    assert set(WORLD_GROUPS[rows_of(found)]) == {5}
    assert set(found.texts[0].values()) == {"Group 5 things"}
    found, _ = of_person("search", person, k=30)
    rows = rows_of(found)
    assert rows[0] == 8
    assert 3 in WORLD_GROUPS[rows]
    assert found.texts[0][8] == "thing 8"
    assert {found.texts[0][row] for row in rows if WORLD_GROUPS[row] == 3} >= {"group 3"}
    assert "group 4" not in found.texts[0].values()
    assert found.scores[0, 0] == 1.0
    assert (np.diff(found.scores[0]) <= 0).all()


def test_search_reaches_past_what_is_excluded() -> None:
    """Somebody who knows the best hits gets the next ones."""
    first = rows_of(of_person("search", Person(), k=10, search="group 2")[0])
    known = [f"item-{row}" for row in first]
    second = rows_of(of_person("search", Person(), k=10, search="group 2", exclude_item_ids=known)[0])
    assert len(second) == 10
    assert not set(first) & set(second)
    assert set(WORLD_GROUPS[second]) == {2}


def popular(group: int) -> list[int]:
    """The items of a group, most popular first."""
    bought = WORLD_SNAPSHOT.item_features[:, ITEM_FEATURES.index("log_purchases")]
    return sorted(np.flatnonzero(group == WORLD_GROUPS).tolist(), key=lambda row: (-bought[row], row))


def test_tagged_proposes_the_most_popular_of_a_category_or_else_of_those_looked_at_in_a_week() -> None:
    """The category asked about alone when there is one; else those of the last 7 days, the first getting more."""
    person = Person(categories=(("Group-1", NOW - DAY), ("group-4", NOW - 6.9 * DAY), ("group-5", NOW - 7.1 * DAY)))
    found, _ = of_person("tagged", person, k=12, category="GROUP-3")
    assert rows_of(found) == popular(3)[:12]
    assert set(found.texts[0].values()) == {"GROUP-3"}
    found, _ = of_person("tagged", person, k=12)
    rows = rows_of(found)
    assert [row for row in rows if WORLD_GROUPS[row] == 1] == popular(1)[:8]
    assert [row for row in rows if WORLD_GROUPS[row] == 4] == popular(4)[:4]
    assert found.texts[0][rows[0]] == "Group-1"


def test_similar_starts_from_what_was_liked_last_bought_or_not() -> None:
    """Interests of a person take the place of the history."""
    person = Person(interests=np.array([8, 3], np.int32), interest_times=np.array([NOW, NOW - 1]))
    found, subjects = of_person("similar", person)
    assert seeds_of("similar", subjects)[:2] == [8, 3]
    assert set(WORLD_GROUPS[rows_of(found)]) == {2, 3}
    assert subjects.viewed.tolist() == [[True, True]]
    by_context, subjects = of_person("similar", person, context_item_ids=["item-5"])
    assert set(WORLD_GROUPS[rows_of(by_context)]) == {5}


def test_a_source_that_has_nothing_to_say_is_silent() -> None:
    """It need not be asked; one user for whom it speaks is enough."""
    config = SERVING_CONFIGS["for-you"]
    speaking = Person(
        unbought=np.array([1], np.int32),
        unbought_times=np.array([NOW]),
        searches=(("mug", NOW),),
        categories=(("group-1", NOW),),
    )
    for people, expected in (([None, Person()], True), ([None, speaking], False)):
        subjects, _ = resolve([Query("x", config, person=person) for person in people], config, WORLD_SNAPSHOT, NOW)
        for name in ("recent", "search", "tagged"):
            said = sources.SOURCES[name].speaks(subjects).tolist()
            assert said == ([False, False] if expected else [False, True])
            if not expected:
                found = sources.propose(name, subjects, WORLD_SNAPSHOT, 5)
                assert (found.rows[0] == -1).all()
                assert (found.scores[0] == 0).all()
        assert not sources.SOURCES["ann"].speaks(subjects).any()
        assert sources.SOURCES["trending"].speaks(subjects).all()


WORLD_GROUPS = make_world().group_of_item


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 63), min_size=1, max_size=3), st.lists(st.integers(0, 299), max_size=5, unique=True))
def test_complement_adds_up_what_is_bought_with_the_context_or_the_last_order(
    users: list[int], context: list[int]
) -> None:
    """As plain dictionaries say: what goes with more of the cart comes first, and nothing of the cart itself."""
    snapshot = WORLD_SNAPSHOT
    config = ServingConfig("x", (SourceUse("complement", 25),), exclude_bought=False)
    queries = [Query(f"user-{user}", config, context_item_ids=[f"item-{row}" for row in context]) for user in users]
    subjects, _ = resolve(queries, config, snapshot, NOW)
    found = sources.complement(subjects, snapshot, 25)
    assert snapshot.complements is not None
    assert snapshot.histories is not None
    for at, user in enumerate(users):
        # Every purchase of this world has a time of its own, so the last order is one item.
        last = snapshot.histories[user].rows[:1].tolist() if user < 60 else []
        totals: dict[int, float] = {}
        for start in context or last:
            for row, score in zip(snapshot.complements.rows[start], snapshot.complements.scores[start], strict=True):
                totals[int(row)] = totals.get(int(row), 0.0) + float(score)
        for row in context:
            totals.pop(row, None)
        got = {int(r): float(s) for r, s in zip(found.rows[at], found.scores[at], strict=True) if r >= 0}
        assert got == pytest.approx(totals)
        assert list(got.values()) == sorted(got.values(), reverse=True)


def test_the_last_order_is_all_that_was_bought_at_its_time() -> None:
    """Three items of one moment are one order; what was bought before it does not count."""
    times = np.array([NOW - 50, NOW - 50, NOW - 50, NOW - 90], np.int64)
    history = History(np.array([3, 5, 7, 9], np.int32), times, np.ones(4, np.float32))
    _, subjects = of_person("complement", Person(history=history))
    assert seeds_of("complement", subjects) == [3, 5, 7, -1]


def trends_of(group: int) -> list[int]:
    """The items of a group that trend, best first."""
    assert WORLD_SNAPSHOT.trending is not None
    rows, scores = WORLD_SNAPSHOT.trending.rows, WORLD_SNAPSHOT.trending.scores
    return [int(row) for row, score in zip(rows, scores, strict=True) if WORLD_GROUPS[row] == group and score > 0]


def test_trending_starts_with_the_category_that_is_named_and_goes_on_with_the_whole_shop() -> None:
    """The query's category, else the one looked at last; what trends nowhere in particular fills the rest, once."""
    assert WORLD_SNAPSHOT.trending is not None
    overall = WORLD_SNAPSHOT.trending.rows.tolist()
    best = trends_of(2)
    found, _ = of_person("trending", Person(), k=len(best) + 5, category="Group-2")
    assert rows_of(found) == [*best, *[row for row in overall if row not in best][:5]]
    assert found.texts[0] == dict.fromkeys(best, "Group-2")
    looked = Person(categories=(("no such category", NOW), ("group-4", NOW), ("group-2", NOW)))
    assert rows_of(of_person("trending", looked, k=5)[0]) == trends_of(4)[:5]
    assert (
        rows_of(of_person("trending", looked, k=3, exclude_item_ids=[f"item-{trends_of(4)[0]}"])[0])
        == (trends_of(4)[1:4])
    )
    for nothing in (Person(), Person(categories=(("no such category", NOW),))):
        assert rows_of(of_person("trending", nothing, k=5)[0]) == overall[:5]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(sources.SOURCES)),
    st.sampled_from(["user-3", "nobody"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_a_source_proposes_only_to_those_it_says_it_speaks_to(
    name: str, user: str, context: bool, search: bool, person: bool
) -> None:
    """`speaks` never denies what `propose` would have given, so skipping a silent source loses nothing."""
    known = Person(unbought=np.array([1], np.int32), unbought_times=np.array([NOW]), categories=(("group-1", NOW),))
    query = Query(
        user,
        ServingConfig("x", (SourceUse(name, 9),), exclude_bought=False),
        9,
        ["item-8"] if context else (),
        search="group" if search else "",
        person=known if person else None,
    )
    subjects, _ = resolve([query], query.serving, WORLD_SNAPSHOT, NOW)
    found = sources.propose(name, subjects, WORLD_SNAPSHOT, 9)
    assert bool((found.rows >= 0).any()) == bool(sources.SOURCES[name].speaks(subjects)[0])


def test_a_source_is_offered_when_its_parts_are_there() -> None:
    """Without any part but vectors only those that need none; with all of them every one."""
    assert sources.offered(make_world(bare=True).snapshot()) == ("recent", "ann")
    assert sources.offered(WORLD_SNAPSHOT) == tuple(sources.SOURCES)
