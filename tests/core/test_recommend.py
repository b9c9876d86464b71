"""The one entry: right items, right reasons, and a shorter answer instead of a failure."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import NOW, linear_ranker, make_world
from tidings_core.errors import IndexFailed, RankerFailed
from tidings_core.events import Event, EventItem
from tidings_core.model import (
    SERVING_CONFIGS,
    Answer,
    Diversity,
    History,
    Person,
    Query,
    ServingConfig,
    Snapshot,
    SourceUse,
)
from tidings_core.person import view
from tidings_core.profile import EMPTY, fold
from tidings_core.ranked import Reason
from tidings_core.ranker import OnnxRanker
from tidings_core.recommend import RANK_RESERVE, RETRIEVE_RESERVE, recommend, retrieve
from tidings_core.rows import Passing, RowSet
from tidings_core.subjects import resolve
from tidings_core.text import category_items, index_categories

WORLD = make_world()
SNAPSHOT = WORLD.snapshot()
FOR_YOU = SERVING_CONFIGS["for-you"]
SIMILAR = SERVING_CONFIGS["similar"]


def ask(
    snapshot: Snapshot = SNAPSHOT, user: str = "user-7", serving: ServingConfig = FOR_YOU, **more: object
) -> Answer:
    """One answer."""
    return recommend([Query(user, serving, **more)], snapshot, NOW)[0]  # type: ignore[arg-type]


def test_a_user_gets_items_of_the_group_they_like() -> None:
    """In a world whose right answer is known, every user's first three items are right."""
    answers = recommend([Query(f"user-{user}", FOR_YOU, k=3) for user in range(60)], SNAPSHOT, NOW)
    for user, answer in enumerate(answers):
        assert [WORLD.group_of_item[item.row] for item in answer.items] == [WORLD.group_of_user[user]] * 3
        assert answer.degraded == ()


def test_what_was_bought_is_left_out_unless_the_config_allows_it() -> None:
    """exclude_bought decides, and nothing else does."""
    assert SNAPSHOT.histories is not None
    bought = set(SNAPSHOT.histories[7].rows.tolist())
    every = dataclasses.replace(FOR_YOU, sources=(SourceUse("ann", 300),), diversity=None)
    assert not bought & {item.row for item in ask(serving=every, k=300).items}
    allowed = dataclasses.replace(every, exclude_bought=False)
    assert bought <= {item.row for item in ask(serving=allowed, k=300).items}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 64), min_size=1, max_size=6),
    st.lists(st.integers(0, 320), max_size=30),
    st.lists(st.integers(0, 320), max_size=5),
    st.integers(1, 40),
    st.sampled_from(sorted(SERVING_CONFIGS)),
)
def test_an_answer_holds_no_excluded_or_context_item_no_item_twice_and_at_most_k(
    users: list[int], excluded: list[int], context: list[int], k: int, config: str
) -> None:
    """Whatever is asked, known or not: distinct items, none forbidden, best first, never more than k."""
    queries = [
        Query(
            f"user-{user}",
            SERVING_CONFIGS[config],
            k,
            [f"item-{row}" for row in context],
            [f"item-{row}" for row in excluded],
        )
        for user in users
    ]
    for answer in recommend(queries, SNAPSHOT, NOW):
        rows = [item.row for item in answer.items]
        assert len(rows) == len(set(rows)) <= k
        assert not set(rows) & {*excluded, *context}


def test_a_batch_answers_as_one_by_one() -> None:
    """Mixed configs, unknown users and different k in one batch give the same as single calls, in order."""
    queries = [
        Query("user-1", FOR_YOU, 5),
        Query("nobody", FOR_YOU, 3),
        Query("user-2", SIMILAR, 7, ["item-5"]),
        Query("user-3", SERVING_CONFIGS["trending"], 2),
        Query("user-4", FOR_YOU, 20, (), [f"item-{row}" for row in range(290)]),
    ]
    together = recommend(queries, SNAPSHOT, NOW)
    for query, answer in zip(queries, together, strict=True):
        alone = recommend([query], SNAPSHOT, NOW)[0]
        assert [item.row for item in answer.items] == [item.row for item in alone.items]
        assert [item.reasons for item in answer.items] == [item.reasons for item in alone.items]
        assert [item.score for item in answer.items] == pytest.approx([item.score for item in alone.items], abs=1e-5)
        assert answer.degraded == alone.degraded


def test_an_unknown_user_gets_trending_and_the_answer_says_why() -> None:
    """Nothing personal is made up for a stranger."""
    answer = ask(user="nobody", k=4)
    assert SNAPSHOT.trending is not None
    assert [item.row for item in answer.items] == SNAPSHOT.trending.rows[:4].tolist()
    assert [reason.code for item in answer.items for reason in item.reasons] == ["trending"] * 4
    assert [(degraded.cause, degraded.stage) for degraded in answer.degraded] == [("unknown_user", "user")]


def test_a_user_is_missed_only_where_a_source_needs_one() -> None:
    """A stranger on an item's page, or asking for what is trending, is answered in full."""
    assert ask(user="nobody", serving=SERVING_CONFIGS["trending"]).degraded == ()
    assert ask(user="nobody", serving=SIMILAR, context_item_ids=["item-8"]).degraded == ()
    assert [d.stage for d in ask(user="nobody", serving=SIMILAR).degraded] == ["user"]


@pytest.mark.parametrize("user", ["user-7", "nobody"])
def test_as_many_items_come_as_are_asked_for_while_there_are_any(user: str) -> None:
    """k above what a serving config's sources propose by default asks them for more."""
    assert len(ask(user=user, k=250).items) == 250
    assert len(ask(user=user, k=500).items) == (300 if user == "nobody" else 295)


def test_a_large_k_of_one_changes_nothing_for_another() -> None:
    """Candidates are cut per user, so a batch mate who wants 300 items does not widen anybody's choice."""
    alone = ask(k=5)
    together = recommend([Query("user-7", FOR_YOU, 5), Query("user-8", FOR_YOU, 300)], SNAPSHOT, NOW)[0]
    assert [item.row for item in together.items] == [item.row for item in alone.items]
    assert [item.sources for item in together.items] == [item.sources for item in alone.items]


def test_similar_items_name_the_item_they_go_with() -> None:
    """A page of one item gets its group, each with that item as the reason."""
    answer = ask(user="nobody", serving=SIMILAR, context_item_ids=["item-8"], k=5)
    for item in answer.items:
        assert WORLD.group_of_item[item.row] == WORLD.group_of_item[8]
        assert (item.reasons[0].code, item.reasons[0].item_row) == ("similar_to_context", 8)


def test_unknown_context_is_said() -> None:
    """A page whose item the release lacks is answered from what is left, and says so."""
    answer = ask(serving=SIMILAR, context_item_ids=["no-such-item"], k=5)
    assert ("unknown_context", "similar") in [(degraded.cause, degraded.stage) for degraded in answer.degraded]
    assert answer.items


class Broken:
    """An index and a ranker that always fail."""

    def search(self, *_: object) -> tuple[np.ndarray, np.ndarray]:
        """Fail."""
        raise IndexFailed("planted")

    def prepare(self, rows: RowSet, *, gather: bool = True) -> Passing:  # noqa: ARG002 - as of every index
        """Prepare nothing."""
        return Passing(rows)

    def without(self, passing: Passing | None, excluded: Passing) -> Passing:
        """Take the excluded rows as they are."""
        return passing or excluded

    def score(self, *_: object) -> np.ndarray:
        """Fail."""
        raise RankerFailed("planted")


def test_without_a_ranker_the_order_is_that_of_the_sources() -> None:
    """A failed ranker leaves the retrieval order, and the answer says so."""
    broken = ask(dataclasses.replace(SNAPSHOT, ranker=Broken()), k=10)
    unranked = ask(dataclasses.replace(SNAPSHOT, ranker=None), k=10)
    assert [item.row for item in broken.items] == [item.row for item in unranked.items]
    assert [(d.cause, d.stage) for d in broken.degraded] == [("failed", "ranker")]
    assert unranked.degraded == ()


class PartlyBroken:
    """A ranker that gives the second user of a batch one score that is no number."""

    def score(self, item_rows: np.ndarray, *_: object) -> np.ndarray:
        """Score by row."""
        scores = item_rows.astype(np.float32)
        scores[1, 3] = np.nan
        return scores


def test_a_score_that_is_no_number_costs_only_its_user_the_ranker() -> None:
    """One user falls back to the order of the sources and is told; the others are ranked."""
    snapshot = dataclasses.replace(SNAPSHOT, ranker=PartlyBroken())
    answers = recommend([Query(f"user-{user}", FOR_YOU, 10) for user in range(3)], snapshot, NOW)
    unranked = recommend([Query("user-1", FOR_YOU, 10)], dataclasses.replace(SNAPSHOT, ranker=None), NOW)[0]
    assert [[d.stage for d in answer.degraded] for answer in answers] == [[], ["ranker"], []]
    assert [item.row for item in answers[1].items] == [item.row for item in unranked.items]
    assert answers[0].items[0].score == answers[0].items[0].row


def test_without_an_index_the_other_sources_answer() -> None:
    """A failed index costs its candidates only."""
    answer = ask(dataclasses.replace(SNAPSHOT, index=Broken()), k=10)
    assert len(answer.items) == 10
    assert [(d.cause, d.stage) for d in answer.degraded] == [("failed", "ann")]


def test_a_release_with_vectors_only_answers_from_vectors() -> None:
    """What a release lacks is not offered; what it has works."""
    world = make_world(bare=True)
    answer = ask(world.snapshot(), k=5)
    assert [world.group_of_item[item.row] for item in answer.items] == [world.group_of_user[7]] * 5
    assert ask(world.snapshot(), user="nobody").items == ()


@pytest.mark.parametrize(
    ("left", "missing"),
    [
        (math.inf, []),
        (RANK_RESERVE / 2, ["ranker"]),
        (RETRIEVE_RESERVE / 2, ["ann", "similar", "ranker"]),
        (-1.0, ["ann", "similar", "ranker"]),
    ],
)
def test_a_near_deadline_leaves_stages_out_in_a_stated_order(left: float, missing: list[str]) -> None:
    """First the ranker goes, then every source but trending; each is named; the answer is never empty for it."""
    answer = recommend([Query("user-7", FOR_YOU, 5)], SNAPSHOT, NOW, lambda: left)[0]
    assert [d.stage for d in answer.degraded] == missing
    assert all(d.cause == "deadline" for d in answer.degraded)
    assert len(answer.items) == 5


def test_the_ranker_decides_the_order() -> None:
    """With a ranker that likes cheap items, the answer is in order of price."""
    ranker = OnnxRanker(linear_ranker({"log_price": -1.0}, {}, {}), SNAPSHOT.item_features)
    plain = dataclasses.replace(FOR_YOU, diversity=None)
    answer = ask(dataclasses.replace(SNAPSHOT, ranker=ranker), serving=plain, k=30)
    prices = [float(WORLD.prices[item.row]) for item in answer.items]
    assert prices == sorted(prices)
    np.testing.assert_allclose([item.score for item in answer.items], -np.log1p(prices), rtol=1e-5)


def test_no_category_takes_more_than_its_share_while_others_wait() -> None:
    """Diversity over an attribute of the catalogue; without that attribute it changes nothing."""
    spread = dataclasses.replace(FOR_YOU, sources=(SourceUse("ann", 300),), diversity=Diversity("category", 2))
    groups = [WORLD.group_of_item[item.row] for item in ask(serving=spread, k=12).items]
    assert sorted(groups) == [group for group in range(6) for _ in range(2)]
    missing = dataclasses.replace(spread, diversity=Diversity("colour", 2))
    none = dataclasses.replace(spread, diversity=None)
    assert ask(serving=missing, k=12) == ask(serving=none, k=12)


def test_scores_are_the_same_to_the_last_bit_when_asked_again() -> None:
    """Same now, same answer: nothing in core has a clock or a die."""
    assert ask(k=20) == ask(k=20)


NEW_SOURCES = ("recent", "search", "tagged")
STRANGER = Person(
    interests=np.array([8, 14], np.int32),
    interest_times=np.array([NOW - 60, NOW - 120]),
    unbought=np.array([8, 14], np.int32),
    unbought_times=np.array([NOW - 60, NOW - 120]),
    searches=(("group 5", NOW - 30),),
    categories=(("group-2", NOW - 60),),
    vector=np.asarray(SNAPSHOT.item_vectors[8]),
)


@pytest.mark.parametrize("serving", sorted(SERVING_CONFIGS))
def test_a_person_of_whom_only_the_release_knows_changes_no_answer(serving: str) -> None:
    """The same items, scores, sources and reasons as without a profile, for known users and strangers."""
    for row in (-1, 0, 7, 31):
        user = f"user-{row}"
        person = view(EMPTY, np.arange(300, dtype=np.int32), SNAPSHOT, row)
        asked: list[dict[str, Any]] = [
            {},
            {"context_item_ids": ["item-5"]},
            {"category": "group-1", "search": "group 3"},
        ]
        for more in asked:
            alone = ask(user=user, serving=SERVING_CONFIGS[serving], **more)
            assert ask(user=user, serving=SERVING_CONFIGS[serving], person=person, **more) == alone


def test_without_a_person_the_new_sources_say_nothing_and_the_ranker_alone_decides() -> None:
    """for-you answers as it does without them, to the last bit."""
    old = dataclasses.replace(FOR_YOU, sources=tuple(use for use in FOR_YOU.sources if use.name not in NEW_SOURCES))
    assert len(old.sources) == 3
    for user in ("user-7", "user-31", "nobody"):
        assert ask(user=user).items == ask(user=user, serving=old).items


def test_a_stranger_who_did_something_is_answered_personally() -> None:
    """What was looked at, searched for and gone with comes first, each with its reason, and nothing is missed."""
    answer = ask(user="nobody", person=STRANGER, k=20)
    assert answer.degraded == ()
    assert {int(WORLD.group_of_item[item.row]) for item in answer.items[:10]} == {2, 5}
    codes = {reason.code for item in answer.items for reason in item.reasons}
    assert codes >= {"recently_viewed", "searched", "in_category", "similar_to_viewed", "matches_taste"}
    for item in answer.items:
        for reason in item.reasons:
            if reason.code == "searched":
                assert reason.text == "group 5"
                assert WORLD.group_of_item[item.row] == 5
            elif reason.code == "in_category":
                assert reason.text == "group-2"
                assert WORLD.group_of_item[item.row] == 2
            elif reason.code == "similar_to_viewed":
                assert reason.item_row in (8, 14)
            else:
                assert reason.text == ("group-2" if reason.code == "trending" else "")
                assert reason.item_row == -1
    assert 8 in {item.row for item in answer.items}


def test_one_look_changes_the_next_answer_of_somebody_the_release_knows() -> None:
    """A view of another group brings that group into the first five."""
    rows = np.arange(300, dtype=np.int32)
    before = ask(user="user-7", person=view(EMPTY, rows, SNAPSHOT, 7), k=5)
    assert {int(WORLD.group_of_item[item.row]) for item in before.items} == {1}
    look = Event("e1", "view", "user-7", int(NOW * 1000) + 1000, (EventItem("item-4"),))
    after = ask(user="user-7", person=view(fold(EMPTY, [(look, [4])]), rows, SNAPSHOT, 7), k=5)
    assert 4 in {int(WORLD.group_of_item[item.row]) for item in after.items}


def test_reasons_stand_strongest_first() -> None:
    """What was asked for, what was looked at, what it goes with, its category, taste, trend."""
    order = [
        "searched",
        "recently_viewed",
        "similar_to_context",
        "similar_to_viewed",
        "similar_to_bought",
        "in_category",
        "matches_taste",
        "trending",
    ]
    wide = dataclasses.replace(FOR_YOU, sources=tuple(dataclasses.replace(use, k=300) for use in FOR_YOU.sources))
    longest = 0
    for item in ask(user="nobody", person=STRANGER, serving=wide, k=300).items:
        places = [order.index(reason.code) for reason in item.reasons]
        assert places == sorted(places)
        longest = max(longest, len(places))
    assert longest >= 5


def test_a_seed_that_was_bought_is_said_to_be_bought() -> None:
    """Of interests, those in the history are purchases and the others views."""
    person = dataclasses.replace(
        STRANGER, history=History(np.array([8], np.int32), np.array([1], np.int64), np.ones(1, np.float32))
    )
    answer = ask(user="nobody", person=person, k=40)
    said = {reason[:2] for item in answer.items for reason in item.reasons if reason.code.startswith("similar_to")}
    assert ("similar_to_bought", 8) in said
    assert said <= {("similar_to_bought", 8), ("similar_to_viewed", 14)}


def test_what_is_blocked_never_comes_and_what_was_seen_or_bought_by_config() -> None:
    """Blocked always; bought, and given back, with exclude_bought; seen with exclude_seen."""
    person = Person(
        history=History(np.array([1], np.int32), np.array([1], np.int64), np.ones(1, np.float32)),
        returned=np.array([2], np.int32),
        seen=np.array([3, 4], np.int32),
        blocked=np.array([5, 6], np.int32),
    )
    every = ServingConfig("every", (SourceUse("trending", 300),), rerank=False)
    for exclude_bought, exclude_seen, gone in (
        (False, False, {5, 6}),
        (True, False, {1, 2, 5, 6}),
        (False, True, {3, 4, 5, 6}),
        (True, True, {1, 2, 3, 4, 5, 6}),
    ):
        config = dataclasses.replace(every, exclude_bought=exclude_bought, exclude_seen=exclude_seen)
        rows = {item.row for item in ask(user="nobody", serving=config, person=person, k=300).items}
        assert rows == set(range(300)) - gone


def test_a_user_is_missed_only_when_neither_release_nor_person_knows_anything() -> None:
    """Somebody who did something is no stranger; somebody who was only shown things is."""
    shown = Person(seen=np.array([1], np.int32))
    assert [d.cause for d in ask(user="nobody", person=shown).degraded] == ["unknown_user"]
    for known in (
        Person(searches=(("mug", NOW),)),
        Person(categories=(("group-1", NOW),)),
        Person(interests=np.array([1], np.int32)),
        Person(vector=np.ones(16, np.float32)),
    ):
        assert ask(user="nobody", person=known).degraded == ()
    assert ask(user="nobody", serving=SERVING_CONFIGS["search"], search="group 3").degraded == ()
    assert [d.cause for d in ask(user="nobody", serving=SERVING_CONFIGS["search"]).degraded] == ["unknown_user"]


def test_the_order_is_the_rankers_joined_with_what_it_never_learned() -> None:
    """Reciprocal rank fusion by the formula: the ranker's list with weight 1, theirs with their own."""
    queries = [Query("user-7", FOR_YOU, 20, person=STRANGER)]
    considered = recommend(queries, SNAPSHOT, NOW, keep=True)[0].considered
    assert considered is not None
    candidates = retrieve(resolve(queries, FOR_YOU, SNAPSHOT, NOW)[0], FOR_YOU, SNAPSHOT)[0].candidates
    names, weights = considered.sources, {use.name: use.weight for use in FOR_YOU.sources}
    assert names == tuple(use.name for use in FOR_YOU.sources)
    assert candidates.rows[0].tolist() == considered.rows.tolist()
    learned = considered.present[:, :3].any(axis=1)
    assert learned.any()
    assert not learned.all()
    assert STRANGER.vector is not None
    by_vector = SNAPSHOT.item_vectors[considered.rows] @ STRANGER.vector
    ranked = sorted(np.flatnonzero(learned).tolist(), key=lambda at: -by_vector[at])
    expected = np.zeros(len(considered.rows))
    expected[ranked] = 1.0 / (60.0 + np.arange(len(ranked)))
    for at, row_ranks in enumerate(candidates.ranks[0].tolist()):
        for source in range(3, 6):
            if considered.present[at, source]:
                expected[at] += weights[names[source]] / (60.0 + row_ranks[source])
    np.testing.assert_allclose(considered.scores, expected, rtol=1e-5)


def test_a_batch_mate_with_a_person_changes_nothing_for_others() -> None:
    """Who has none keeps the ranker's own scores, to float precision, beside somebody who has."""
    alone = ask(k=10)
    together = recommend([Query("user-7", FOR_YOU, 10), Query("nobody", FOR_YOU, 10, person=STRANGER)], SNAPSHOT, NOW)
    assert [item.row for item in together[0].items] == [item.row for item in alone.items]
    assert [item.reasons for item in together[0].items] == [item.reasons for item in alone.items]
    assert [item.score for item in together[0].items] == pytest.approx([item.score for item in alone.items], abs=1e-5)
    stranger = ask(user="nobody", person=STRANGER, k=10)
    assert [item.row for item in together[1].items] == [item.row for item in stranger.items]


def test_all_that_was_considered_is_kept_when_asked_for() -> None:
    """Every candidate with its score and what each source said; nothing is kept unasked."""
    queries = [
        Query("user-7", FOR_YOU, 5),
        Query("nobody", SIMILAR, 5, ["item-8"]),
        Query("x", SERVING_CONFIGS["search"]),
    ]
    answers = recommend(queries, SNAPSHOT, NOW, keep=True)
    for answer, bare in zip(answers, recommend(queries, SNAPSHOT, NOW), strict=True):
        assert bare.considered is None
        assert bare.items == answer.items
        considered = answer.considered
        assert considered is not None
        assert (considered.rows >= 0).all()
        assert np.isfinite(considered.scores).all()
        assert considered.present.shape == considered.said.shape == (len(considered.rows), len(considered.sources))
        by_row = {int(row): at for at, row in enumerate(considered.rows)}
        for item in answer.items:
            at = by_row[item.row]
            assert considered.scores[at] == np.float32(item.score)
            said = {
                name: value
                for name, there, value in zip(
                    considered.sources, considered.present[at], considered.said[at].tolist(), strict=True
                )
                if there
            }
            assert said == dict(item.sources)
    assert answers[0].considered is not None
    assert len(answers[0].considered.rows) > 100


def test_a_near_deadline_names_only_sources_that_had_something_to_say() -> None:
    """With a person the new ones are named too."""
    answer = recommend([Query("user-7", FOR_YOU, 5, person=STRANGER)], SNAPSHOT, NOW, lambda: 0.0)[0]
    assert [d.stage for d in answer.degraded] == ["ann", "similar", "recent", "search", "tagged", "ranker"]


def test_built_in_configs_for_triggers_give_what_they_are_for() -> None:
    """What goes with an item, what fits a search, what is in a category; nothing that was bought."""
    goes = ask(user="user-7", serving=SERVING_CONFIGS["goes-with"], context_item_ids=["item-8"], k=3)
    assert [item.row for item in goes.items[:2]] == [9, 15]
    assert goes.items[0].reasons[0] == Reason("bought_together", 8)
    assert goes.items[2].reasons[0] == Reason("similar_to_context", 8)
    hits = ask(user="nobody", serving=SERVING_CONFIGS["search"], search="group 4 things", k=5)
    assert [WORLD.group_of_item[item.row] for item in hits.items] == [4] * 5
    assert hits.items[0].reasons == (Reason("searched", text="group 4 things"),)
    shelf = ask(user="nobody", serving=SERVING_CONFIGS["browse"], category="Group-3", k=5)
    assert [WORLD.group_of_item[item.row] for item in shelf.items] == [3] * 5
    assert SNAPSHOT.histories is not None
    bought = set(SNAPSHOT.histories[7].rows.tolist())
    for name in ("goes-with", "search", "browse"):
        answer = ask(
            user="user-7",
            serving=SERVING_CONFIGS[name],
            k=300,
            search="group 1",
            category="group-1",
            context_item_ids=["item-1"],
        )
        assert answer.items
        assert not bought & {item.row for item in answer.items}


def test_browsing_a_category_gives_items_of_it_alone() -> None:
    """All of them, however near others are; of a category that is not known, or blocked, nothing is given."""
    browse = SERVING_CONFIGS["browse"]

    def groups(asked: Snapshot = SNAPSHOT, **more: Any) -> list[int]:
        return [int(WORLD.group_of_item[item.row]) for item in ask(asked, serving=browse, k=300, **more).items]

    assert groups(user="nobody", category="Group-3") == [3] * 50
    assert set(groups(user="user-7", category="group-3")) == {3}
    assert groups(user="user-7", category="no such thing") == []
    assert groups(dataclasses.replace(SNAPSHOT, categories=None), user="user-7", category="group-3") == []
    less = fold(EMPTY, [(Event("e1", "see_less", "user-7", int(NOW * 1000), category="GROUP-3"), [])])
    person = view(less, np.arange(300, dtype=np.int32), SNAPSHOT, 7)
    assert groups(user="user-7", person=person, category="group-3") == []
    assert set(groups(user="user-7", person=person, category="group-1")) == {1}
    # Without a category, and by a config that takes it for a hint, there is more.
    assert len(set(groups(user="user-7"))) > 1
    assert len({WORLD.group_of_item[item.row] for item in ask(category="group-3", k=100).items}) > 1


def test_a_broad_category_has_the_items_of_its_narrower_ones() -> None:
    """An item stands in every category of its path."""
    paths = [("Odd" if group % 2 else "Even", f"group-{group}") for group in WORLD.group_of_item.tolist()]
    snapshot = dataclasses.replace(SNAPSHOT, categories=index_categories(paths, np.zeros(300, np.float32)))
    answer = ask(snapshot, user="user-7", serving=SERVING_CONFIGS["browse"], category="odd", k=300)
    assert {WORLD.group_of_item[item.row] for item in answer.items} == {1, 3, 5}


def test_browsing_puts_what_is_near_to_ones_taste_first() -> None:
    """A stranger sees the popular ones first; who is known sees first what is near as well."""
    browse = SERVING_CONFIGS["browse"]
    assert SNAPSHOT.categories is not None
    popular = category_items("group-1", SNAPSHOT.categories, 300).tolist()
    stranger = ask(user="nobody", serving=browse, category="group-1", k=10)
    assert [item.row for item in stranger.items] == popular[:10]
    near = dataclasses.replace(browse, sources=(SourceUse("tagged", 100), SourceUse("ann", 20, weight=0.5)))
    known = ask(user="user-7", serving=near, category="group-1", k=20).items
    assert all("ann" in dict(item.sources) for item in known)
    assert not {item.row for item in known} <= set(popular[:25])


def test_a_category_bounds_only_the_query_that_names_it() -> None:
    """Answers do not depend on who else is in the batch."""
    browse = SERVING_CONFIGS["browse"]
    queries = [
        Query(f"user-{at}", browse, 30, category=name) for at, name in enumerate(("group-3", "", "x", "group-1"))
    ]
    together = recommend(queries, SNAPSHOT, NOW)
    assert [answer.items for answer in together] == [recommend([q], SNAPSHOT, NOW)[0].items for q in queries]
    assert [bool(answer.items) for answer in together] == [True, True, False, True]


def test_what_goes_with_a_thing_starts_with_something_of_another_category() -> None:
    """The best such neighbour takes the first place, the rest stays as it was; without one nothing changes."""
    assert SNAPSHOT.neighbours is not None
    near = SNAPSHOT.neighbours.rows.copy()
    other = next(row for row in range(300) if WORLD.group_of_item[row] == 4)
    near[8, -1] = other
    alone = dataclasses.replace(SNAPSHOT, complements=None)
    snapshot = dataclasses.replace(alone, neighbours=dataclasses.replace(SNAPSHOT.neighbours, rows=near))
    goes_with = SERVING_CONFIGS["goes-with"]
    plain = dataclasses.replace(goes_with, complements=False)

    def rows(serving: ServingConfig, asked: Snapshot, **more: Any) -> list[int]:
        return [item.row for item in ask(asked, user="nobody", serving=serving, **more).items]

    without = rows(plain, snapshot, context_item_ids=["item-8"])
    with_lead = rows(goes_with, snapshot, context_item_ids=["item-8"])
    assert without.index(other) > 0
    assert with_lead == [other, *(row for row in without if row != other)]
    # Something of the context's categories does not lead, nor does what is only trending, nor anything without context.
    both = {"context_item_ids": ["item-8", f"item-{other}"]}
    for asked, more in ((snapshot, both), (alone, {"context_item_ids": ["item-8"]}), (snapshot, {})):
        assert rows(goes_with, asked, **more) == rows(plain, asked, **more)
    bare = dataclasses.replace(snapshot, attributes={})
    assert rows(goes_with, bare, context_item_ids=["item-8"]) == without


def groups_of(answer: Answer) -> list[int]:
    """The groups of an answer's items, in order."""
    return [int(WORLD.group_of_item[item.row]) for item in answer.items]


def test_examples_stand_in_for_the_users_own_taste() -> None:
    """What is like the liked comes to a stranger and to somebody of another taste, and no example itself."""
    plain = dataclasses.replace(FOR_YOU, sources=(SourceUse("ann", 60),), diversity=None)
    for user in ("nobody", "user-7"):
        answer = ask(user=user, serving=plain, liked_item_ids=["item-3", "item-9"], k=10)
        assert groups_of(answer) == [3] * 10
        assert not {3, 9} & {item.row for item in answer.items}
        assert answer.degraded == ()
        assert {reason.code for item in answer.items for reason in item.reasons} == {"matches_taste"}


def test_what_is_disliked_pushes_away_and_the_more_the_better_it_is_shown() -> None:
    """Two groups are liked, one of them is disliked again: the other is left. Alone, it pushes the user's own away."""
    plain = dataclasses.replace(FOR_YOU, sources=(SourceUse("ann", 60),), diversity=None, exclude_bought=False)
    both: dict[str, Any] = {"liked_item_ids": ["item-2", "item-3"], "k": 20}
    assert set(groups_of(ask(user="nobody", serving=plain, **both))) == {2, 3}
    assert groups_of(ask(user="nobody", serving=plain, disliked_item_ids=["item-8"], **both)) == [3] * 20
    before = ask(serving=plain, k=300)
    after = ask(serving=plain, k=300, disliked_item_ids=[f"item-{before.items[0].row}"])
    assert before.items[0].row not in {item.row for item in after.items}
    assert [item.row for item in after.items[:20]] != [item.row for item in before.items[1:21]]
    assert ask(user="nobody", serving=plain, disliked_item_ids=["item-8"]).items == ()


def test_a_vector_of_the_caller_is_searched_with() -> None:
    """The nearest items of it, whoever asks; with examples it is one more that is liked."""
    plain = dataclasses.replace(FOR_YOU, sources=(SourceUse("ann", 60),), rerank=False, diversity=None)
    vector = np.array(SNAPSHOT.user_vectors[4])
    own = ask(user="user-4", serving=dataclasses.replace(plain, exclude_bought=False), k=10)
    given_one = ask(user="nobody", serving=plain, vector=vector, k=10)
    assert [item.row for item in given_one.items] == [item.row for item in own.items]
    assert given_one.degraded == ()
    mixed = ask(user="nobody", serving=plain, vector=vector, liked_item_ids=["item-3"], k=40)
    assert set(groups_of(mixed)) == {3, 4}


def test_examples_that_are_not_in_the_release_are_said() -> None:
    """Some unknown ones are ignored; when none is known the answer goes by the user, and says so."""
    some = ask(liked_item_ids=["no-such-item", "item-3"], k=5)
    assert some.degraded == ()
    none = ask(liked_item_ids=["no-such-item"], k=5)
    assert [(one.cause, one.stage) for one in none.degraded] == [("unknown_context", "examples")]
    assert [item.row for item in none.items] == [item.row for item in ask(k=5).items]


def test_a_cart_gets_what_goes_with_it_and_says_with_which_item() -> None:
    """First what is bought together with its items, each with the one it rests on."""
    answer = ask(user="nobody", serving=SERVING_CONFIGS["cart"], context_item_ids=["item-8", "item-14"], k=4)
    # Both go with item 15: 8 as the second, 14 as the first.
    assert [item.row for item in answer.items[:3]] == [15, 9, 21]
    assert [item.reasons[0] for item in answer.items[:3]] == [
        Reason("bought_together", 14),
        Reason("bought_together", 8),
        Reason("bought_together", 14),
    ]
    assert answer.degraded == ()
