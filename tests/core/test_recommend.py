"""The one entry: right items, right reasons, and a shorter answer instead of a failure."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import NOW, linear_ranker, make_world
from tidings_core.errors import IndexFailed, RankerFailed
from tidings_core.model import SERVING_CONFIGS, Answer, Diversity, Query, ServingConfig, Snapshot, SourceUse
from tidings_core.ranker import OnnxRanker
from tidings_core.recommend import RANK_RESERVE, RETRIEVE_RESERVE, recommend

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
