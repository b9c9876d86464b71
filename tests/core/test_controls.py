"""Controls: what each kind does to an order, when it is in force, and who has their way."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import NOW, make_world
from tidings_core.attributes import Number, Tags
from tidings_core.controls import (
    Action,
    Active,
    Boost,
    Bury,
    Control,
    Keep,
    Pin,
    active,
    idle,
    matching,
    narrowed,
    ordered,
    unfit,
)
from tidings_core.filters import AnyOf, Filter, Is, Range
from tidings_core.model import SERVING_CONFIGS, Answer, Diversity, Query, ServingConfig, Snapshot, SourceUse
from tidings_core.ordering import Contest, order
from tidings_core.recommend import recommend

WORLD = make_world()
PLAIN = WORLD.snapshot()
SNAPSHOT = dataclasses.replace(
    PLAIN,
    attributes={
        **PLAIN.attributes,
        "row": Number(np.arange(300.0)),
        "odd": Tags.of([("odd",) if row % 2 else ("even",) for row in range(300)]),
    },
)
FOR_YOU = SERVING_CONFIGS["for-you"]


def group(number: int) -> Filter:
    """Items of one group."""
    return Filter(must=(AnyOf("category", (f"group-{number}",)),))


def rows_from(low: int, high: int) -> Filter:
    """Items of rows low to high."""
    return Filter(must=(Range("row", gte=low, lte=high),))


ODD = Filter(must=(AnyOf("odd", ("odd",)),))


def put(
    rows: list[int], *controls: Control, diversity: Diversity | None = None, users: list[bool] | None = None
) -> list[int]:
    """Rows in the order that controls make of them; they stand in order of score."""
    contest = Contest(np.array([rows], np.int32), -np.arange(len(rows), dtype=np.float32)[None, :])
    who = np.array([True])
    steps = order(contest, diversity, [Active(one, who) for one in ordered(controls)], SNAPSHOT)
    return [rows[at] for at in steps[-1].order[0].tolist() if at >= 0]


def control(action: Action, name: str = "a", **more: Any) -> Control:
    """A control."""
    return Control(name, action, **more)


some_rows = st.lists(st.integers(0, 299), min_size=1, max_size=30, unique=True)


@given(some_rows, st.integers(0, 40))
def test_a_boost_moves_up_and_keeps_its_items_in_order(rows: list[int], places: int) -> None:
    """No boosted item comes later than it was, no other earlier; among each, the order stays; none is lost."""
    found = put(rows, control(Boost(ODD, places)))
    assert sorted(found) == sorted(rows)
    for row in rows:
        moved = rows.index(row) - found.index(row)
        assert 0 <= moved <= places if row % 2 else moved <= 0
    for odd in (0, 1):
        assert [row for row in found if row % 2 == odd] == [row for row in rows if row % 2 == odd]


@given(some_rows, st.integers(0, 40), st.integers(1, 10))
def test_a_larger_boost_never_leaves_an_item_further_down(rows: list[int], places: int, more: int) -> None:
    """Monotone: who pays more places gets no fewer."""
    less, greater = (put(rows, control(Boost(ODD, count))) for count in (places, places + more))
    assert all(greater.index(row) <= less.index(row) for row in rows if row % 2)


@given(some_rows, st.one_of(st.none(), st.integers(0, 40)))
def test_a_bury_moves_down_and_removes_nothing(rows: list[int], places: int | None) -> None:
    """All items stay; without a number of places the buried come after all others."""
    found = put(rows, control(Bury(ODD, places)))
    assert sorted(found) == sorted(rows)
    for row in rows:
        moved = found.index(row) - rows.index(row)
        assert 0 <= moved <= (len(rows) if places is None else places) if row % 2 else moved <= 0
    if places is None:
        assert found == [row for row in rows if row % 2 == 0] + [row for row in rows if row % 2]


def test_a_lone_boost_lands_where_it_says() -> None:
    """Two places up are two places up, past the first place is the first, and a bury is the mirror image."""
    rows = [10, 20, 30, 40, 50, 60]
    assert put(rows, control(Boost(rows_from(50, 50), 2))) == [10, 20, 50, 30, 40, 60]
    assert put(rows, control(Boost(rows_from(50, 50), 99))) == [50, 10, 20, 30, 40, 60]
    assert put(rows, control(Bury(rows_from(20, 20), 2))) == [10, 30, 40, 20, 50, 60]
    both = (control(Bury(rows_from(10, 10)), "a"), control(Bury(rows_from(20, 20), 1000), "b"))
    assert put(rows, *both) == [30, 40, 50, 60, 20, 10]  # However far another goes, after all others is after it.


def test_a_boost_does_not_care_what_scored() -> None:
    """Scores below zero, tiny or huge: the same places."""
    rows, who = np.array([[10, 20, 31, 40]], np.int32), np.array([True])
    for scores in ([4.0, 3.0, 2.0, 1.0], [-1.0, -2.0, -3.0, -1e30], [1e-30, 9e-31, 8e-31, 0.0]):
        contest = Contest(rows, np.array([scores], np.float32))
        (made,) = order(contest, None, [Active(control(Boost(ODD, 1)), who)], SNAPSHOT)[-1].order.tolist()
        assert made == [0, 2, 1, 3]


@given(some_rows, st.lists(st.tuples(st.integers(0, 299), st.integers(1, 40)), min_size=1, max_size=5))
def test_pins_land_where_they_should(rows: list[int], pins: list[tuple[int, int]]) -> None:
    """Each at its position, or the next that is free, in order of priority; who is no candidate is left out."""
    controls = [
        control(Pin((f"item-{row}",), position), f"pin-{at}", priority=-at) for at, (row, position) in enumerate(pins)
    ]
    found = put(rows, *controls)
    expected: dict[int, int] = {}
    for row, position in pins:
        if row in rows and row not in expected.values():
            while position in expected:
                position += 1
            expected[position] = row
    others = iter(row for row in rows if row not in expected.values())
    whole = []
    for position in range(1, 200):
        if position in expected:
            whole.append(expected[position])
        else:
            whole += [row for row in [next(others, -1)] if row >= 0]
    assert found == whole


def test_a_pin_of_several_items_takes_consecutive_positions() -> None:
    """In the order given, around what stands there already."""
    first = control(Pin(("item-4",), 3), "first", priority=1)
    several = control(Pin(("item-9", "item-8", "item-9", "unheard-of"), 2), "several")
    assert put([1, 4, 8, 9, 2], first, several) == [1, 9, 4, 8, 2]


@given(some_rows, st.integers(1, 3), st.integers(0, 30))
def test_diversity_holds_over_what_boosts_did(rows: list[int], most: int, places: int) -> None:
    """No group has more than its share while another still waits, whatever was boosted before."""
    found = put(rows, control(Boost(group(1), places), "a"), control(Diversity("category", most), "b"))
    groups = [row % 6 for row in found]
    held = sum(max(0, groups.count(one) - most) for one in range(6))
    head = groups[: len(groups) - held]
    assert all(head.count(one) <= most for one in range(6))
    assert sorted(found) == sorted(rows)


def test_the_spread_of_a_control_takes_the_place_of_the_serving_configs() -> None:
    """One spread at a time: two of one category here, though the recipe says one."""
    rows = [1, 7, 13, 2, 8]
    assert put(rows, diversity=Diversity("category", 1)) == [1, 2, 7, 13, 8]
    assert put(rows, control(Diversity("category", 2)), diversity=Diversity("category", 1)) == [1, 7, 2, 8, 13]
    stronger, weaker = (
        control(Diversity("category", most), name, priority=priority)
        for most, name, priority in ((1, "z", 5), (2, "a", 1))
    )
    assert put(rows, stronger, weaker) == [1, 2, 7, 13, 8]


def test_the_larger_priority_moves_an_item_then_the_name_that_comes_first() -> None:
    """An item that several want moved is moved by one of them only."""
    rows = [10, 20, 31, 40]
    up, down = Boost(ODD, 2), Bury(ODD)
    assert put(rows, control(up, "b", priority=1), control(down, "a")) == [31, 10, 20, 40]
    assert put(rows, control(up, "b"), control(down, "a", priority=1)) == [10, 20, 40, 31]
    assert put(rows, control(up, "b"), control(down, "a")) == [10, 20, 40, 31]
    assert put(rows, control(up, "a"), control(down, "b")) == [31, 10, 20, 40]
    # Two boosts do not add up.
    assert put(rows, control(Boost(ODD, 1), "a", priority=1), control(up, "b")) == [10, 31, 20, 40]


def test_steps_tell_which_rule_moved_what() -> None:
    """One step for each, in the order in which they work, each with what it left."""
    contest = Contest(np.array([[10, 20, 31, 40]], np.int32), np.array([[4.0, 3.0, 2.0, 1.0]], np.float32))
    rules = ordered(
        [
            control(Pin(("item-40",), 1), "p"),
            control(Boost(ODD, 1), "b"),
            control(Keep(ODD), "k"),
            control(Diversity("category", 1), "d"),
        ]
    )
    steps = order(contest, None, [Active(one, np.array([True])) for one in rules], SNAPSHOT)
    assert [(step.rule, step.order[0].tolist()) for step in steps] == [
        ("score", [0, 1, 2, 3]),
        ("filter:k", [0, 1, 2, 3]),
        ("boost:b", [0, 2, 1, 3]),
        # 10 and 40 are of one group.
        ("diversify:d", [0, 2, 1, 3]),
        ("pin:p", [3, 0, 2, 1]),
    ]


@pytest.mark.parametrize(
    ("now", "expected"), [(NOW - 0.001, False), (NOW, True), (NOW + 9.999, True), (NOW + 10.0, False)]
)
def test_a_control_is_in_force_from_its_start_up_to_its_end(now: float, expected: bool) -> None:
    """At the start it is, at the end it is not; without them always."""
    dated = control(Keep(ODD), start=NOW, end=NOW + 10.0)
    assert dated.in_force("for-you", now) == expected
    assert control(Keep(ODD)).in_force("for-you", now)


def test_a_control_is_for_the_serving_configs_and_categories_it_names() -> None:
    """Categories as the query writes them, in any case; a query of none is meant by controls of all."""
    one = control(Keep(ODD), serving_configs=("browse",), categories=("Garden", "Küche"))
    assert active([one], "for-you", [("Garden", ())], NOW) == []
    (found,) = active([one], "browse", [(name, ()) for name in ("garden", "", "KÜCHE", "Home")], NOW)
    assert found.users.tolist() == [True, False, True, False]
    assert active([one], "browse", [("", ()), ("Home", ())], NOW) == []


def test_a_control_is_for_users_who_have_one_of_its_tags() -> None:
    """Or any of a family; of a user whose tags nobody asked for it is not."""
    one = control(Keep(ODD), tags=("vip", "lifecycle"))
    (found,) = active([one], "for-you", [("", ("vip",)), ("", ()), ("", ("lifecycle:new", "lifecycle"))], NOW)
    assert found.users.tolist() == [True, False, True]


def test_a_query_is_narrowed_by_every_filter_in_force() -> None:
    """Its own filter and those of the controls must all be met; without any the query is the same object."""
    query = Query("u", FOR_YOU, filter=group(1), category="group-1")
    controls = [
        control(Keep(ODD), "a"),
        control(Keep(rows_from(0, 9)), "b", categories=("group-1",)),
        control(Keep(group(5)), "c", categories=("group-2",)),
        control(Keep(group(5)), "d", end=NOW),
        control(Boost(group(5), 3), "e"),
    ]
    assert narrowed(query, controls, NOW).filter == Filter(must=(group(1), ODD, rows_from(0, 9)))
    assert narrowed(query, controls[2:], NOW) is query


def test_a_control_that_means_nothing_for_a_release_says_why() -> None:
    """Attributes it lacks, or has of another kind, by the place in the control."""
    assert not [
        fault for action in (Boost(ODD, 3), Pin(("x",)), Keep(group(1))) for fault in unfit(control(action), SNAPSHOT)
    ]
    ((field, said),) = unfit(control(Keep(Filter(must=(Is("on_sale", True),)))), SNAPSHOT)
    assert field == "items.must[0].attribute"
    assert "'on_sale'" in said
    ((field, said),) = unfit(control(Diversity("row", 3)), SNAPSHOT)
    assert field == "attribute"
    assert unfit(control(Diversity("category", 3)), SNAPSHOT) == []


def test_a_control_that_finds_nothing_in_a_release_is_told_by_its_place() -> None:
    """A misspelt item, value or category; what finds something is not told of."""
    pin = control(Pin(("item-3", "itm-3")), categories=("group-1", "gruop-1"))
    assert [place for place, _ in idle(pin, SNAPSHOT)] == ["item_ids[1]", "categories[1]"]
    assert [place for place, _ in idle(control(Boost(group(99), 3)), SNAPSHOT)] == ["items"]
    assert [place for place, _ in idle(control(Keep(rows_from(300, 400))), SNAPSHOT)] == ["items"]
    for action in (Bury(group(1)), Keep(ODD), Pin(("item-3",)), Diversity("category", 3)):
        assert idle(control(action, categories=("Group-1",)), SNAPSHOT) == []


@given(st.lists(st.integers(-1, 299), min_size=1, max_size=40), st.integers(0, 299), st.integers(0, 299))
def test_what_matches_is_what_a_filter_lets_pass(rows: list[int], low: int, high: int) -> None:
    """Row by row, padding never."""
    if low > high:
        return
    wanted = Filter(must=(Range("row", gte=low, lte=high), AnyOf("odd", ("odd",))))
    given_rows = np.array([rows, rows[::-1]], np.int32)
    expected = [[low <= row <= high and row % 2 == 1 for row in of_user] for of_user in given_rows.tolist()]
    assert matching(wanted, given_rows, SNAPSHOT).tolist() == expected


def ask(snapshot: Snapshot, user: str = "user-7", serving: ServingConfig = FOR_YOU, **more: Any) -> Answer:
    """One answer, with what was considered."""
    return recommend([Query(user, serving, **more)], snapshot, NOW, keep=True)[0]


def with_controls(*controls: Control) -> Snapshot:
    """The world with controls."""
    return dataclasses.replace(SNAPSHOT, controls=ordered(controls))


def rows_of(answer: Answer) -> list[int]:
    """The rows of an answer, in order."""
    return [item.row for item in answer.items]


@pytest.mark.parametrize("serving", sorted(SERVING_CONFIGS))
def test_without_a_control_in_force_an_answer_is_the_same(serving: str) -> None:
    """To the last bit, what was considered included."""
    off = [
        control(Boost(ODD, 9), "a", end=NOW),
        control(Pin(("item-5",)), "b", serving_configs=("no-such",)),
        control(Bury(ODD), "c", categories=("Garden",)),
    ]
    more: dict[str, Any] = {"context_item_ids": ["item-8"], "category": "group-1", "search": "group"}
    config = SERVING_CONFIGS[serving]
    before, after = (ask(one, serving=config, k=10, **more) for one in (SNAPSHOT, with_controls(*off)))
    assert (before.items, before.degraded) == (after.items, after.degraded)
    assert before.considered is not None
    assert after.considered is not None
    assert [rule for rule, _ in before.considered.steps] == [rule for rule, _ in after.considered.steps]
    np.testing.assert_array_equal(before.considered.rows, after.considered.rows)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 299), st.integers(1, 10), st.sampled_from(["for-you", "trending", "search"]))
def test_a_pinned_item_comes_though_no_source_proposed_it(row: int, position: int, serving: str) -> None:
    """At its position, with the source "pinned", scored like all others; the rest is as it was around it."""
    config = dataclasses.replace(SERVING_CONFIGS[serving], diversity=None)
    more: dict[str, Any] = {"search": "group 4", "k": 12, "serving": config}
    before, after = ask(SNAPSHOT, **more), ask(with_controls(control(Pin((f"item-{row}",), position))), **more)
    assert SNAPSHOT.histories is not None
    if config.exclude_bought and row in SNAPSHOT.histories[7].rows:
        assert rows_of(after) == rows_of(before)
        return
    expected = [other for other in rows_of(before) if other != row]
    assert rows_of(after) == [*expected[: position - 1], row, *expected[position - 1 :]][:12]
    pinned = after.items[position - 1]
    assert ("pinned", 1.0) in pinned.sources
    assert math.isfinite(pinned.score)


def test_a_pinned_item_that_may_not_come_does_not() -> None:
    """Excluded by the request, of the context, bought, or unknown: left out, and the others close up."""
    snapshot = with_controls(control(Pin(("item-3", "no-such-item", "item-4", "item-5"))))
    assert SNAPSHOT.histories is not None
    bought = int(SNAPSHOT.histories[7].rows[0])
    answer = ask(snapshot, exclude_item_ids=["item-3"], context_item_ids=["item-4"], k=5)
    assert rows_of(answer)[0] == 5
    assert not {3, 4} & set(rows_of(answer))
    pinned_bought = with_controls(control(Pin((f"item-{bought}", "item-5"))))
    assert rows_of(ask(pinned_bought, k=3))[0] == 5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 290), st.integers(1, 60), st.sampled_from(["for-you", "trending", "similar"]))
def test_a_filter_fills_the_answer_with_what_passes(low: int, width: int, serving: str) -> None:
    """As many as are asked for come when so many pass, all of them pass, and a pin brings back none of the others."""
    wanted = rows_from(low, low + width)
    snapshot = with_controls(control(Keep(wanted), "a"), control(Pin(("item-299", "item-0"), 2), "b"))
    config = dataclasses.replace(SERVING_CONFIGS[serving], exclude_bought=False)
    answer = ask(snapshot, serving=config, context_item_ids=["item-8"], k=10)
    passing = [row for row in range(300) if low <= row <= low + width and row != 8]
    assert set(rows_of(answer)) <= set(passing)
    if serving != "similar":
        assert len(answer.items) == min(10, len(passing))
    assert answer.considered is not None
    assert answer.considered.steps[1][0] == "filter:a"


def test_each_user_of_a_batch_gets_the_controls_meant_for_their_query() -> None:
    """A category condition looks at each query; the batch mates are as alone."""
    snapshot = with_controls(
        control(Pin(("item-299",)), "a", categories=("group-1",)),
        control(Diversity("category", 1), "b", categories=("group-2",)),
        control(Boost(group(3), 9), "c"),
    )
    queries = [Query("user-7", FOR_YOU, 8, category=name) for name in ("", "group-1", "group-2")]
    together = recommend(queries, snapshot, NOW, keep=True)
    for query, answer in zip(queries, together, strict=True):
        alone = recommend([query], snapshot, NOW, keep=True)[0]
        assert rows_of(answer) == rows_of(alone)
        assert answer.considered is not None
        assert alone.considered is not None
        assert [rule for rule, _ in answer.considered.steps] == [rule for rule, _ in alone.considered.steps]
    assert rows_of(together[1])[0] == 299
    assert 299 not in rows_of(together[0])


def test_controls_work_where_there_is_no_ranker_and_on_nobodys_answer() -> None:
    """A stranger's trending list is boosted and pinned as any other."""
    snapshot = with_controls(control(Boost(group(4), 500), "a"), control(Pin(("item-0",), 2), "b"))
    answer = ask(snapshot, user="nobody", serving=ServingConfig("x", (SourceUse("trending", 300),), rerank=False), k=9)
    groups = [row % 6 for row in rows_of(answer)]
    assert rows_of(answer)[1] == 0
    assert groups[:1] + groups[2:] == [4] * 8
