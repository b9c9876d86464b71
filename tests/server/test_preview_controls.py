"""Previews: what is told beforehand is what happens."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import NOW, make_world
from tidings_core.attributes import Tags
from tidings_core.controls import Action, Boost, Bury, Control, Keep, Pin, ordered
from tidings_core.filters import AnyOf, Filter
from tidings_core.model import SERVING_CONFIGS, Diversity, Query
from tidings_core.recommend import recommend
from tidings_server.application.decision_record import Basis, pack_answer, read_record
from tidings_server.application.preview_controls import preview

PLAIN = make_world().snapshot()
SNAPSHOT = dataclasses.replace(
    PLAIN,
    attributes={**PLAIN.attributes, "odd": Tags.of([("odd",) if row % 2 else ("even",) for row in range(300)])},
)
ODD = Filter(must=(AnyOf("odd", ("odd",)),))
QUERIES = [
    Query("user-7", SERVING_CONFIGS["for-you"], 10),
    Query("user-8", SERVING_CONFIGS["for-you"], 5, category="group-2"),
    Query("user-9", SERVING_CONFIGS["goes-with"], 8, ["item-8"], ["item-14"]),
    Query("nobody", SERVING_CONFIGS["trending"], 12),
    Query("nobody", SERVING_CONFIGS["search"], 6, search="group 4"),
]


def recorded(controls: Sequence[Control] = ()) -> list[dict[str, Any]]:
    """What is recorded of answers to the queries, made under controls."""
    snapshot = dataclasses.replace(SNAPSHOT, controls=tuple(controls))
    answers = recommend(QUERIES, snapshot, NOW, keep=True)
    return [
        read_record(
            pack_answer(
                Basis(
                    f"answer/{at}", 0, query.user_id, "recommend", serving_config=query.serving.name, k=query.k,
                    question=query, answer=answer, snapshot=snapshot,
                )
            )
        )
        for at, (query, answer) in enumerate(zip(QUERIES, answers, strict=True))
    ]  # fmt: skip


def live(controls: Sequence[Control]) -> list[list[int]]:
    """The answers under controls, by row."""
    answers = recommend(QUERIES, dataclasses.replace(SNAPSHOT, controls=tuple(controls)), NOW)
    return [[item.row for item in answer.items] for answer in answers]


some_ids = st.lists(st.integers(0, 299).map(lambda row: f"item-{row}"), min_size=1, max_size=3).map(tuple)
actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(Boost, st.just(ODD), st.integers(1, 30)),
    st.builds(Bury, st.just(ODD), st.one_of(st.none(), st.integers(1, 30))),
    st.builds(Pin, some_ids, st.integers(1, 12)),
    st.builds(Diversity, st.just("category"), st.integers(1, 3)),
)
sets = st.lists(
    st.builds(
        Control,
        st.sampled_from("abcdef"),
        actions,
        st.sampled_from([(), ("for-you",), ("goes-with", "search")]),
        st.sampled_from([(), ("group-2",)]),
        priority=st.integers(0, 2),
    ),
    max_size=4,
    unique_by=lambda one: one.name,
).map(ordered)


@settings(max_examples=30, deadline=None)
@given(sets, sets)
def test_a_preview_tells_what_the_server_would_answer(old: tuple[Control, ...], new: tuple[Control, ...]) -> None:
    """For every kind but the filter, from what was recorded under the old controls: the same answers change."""
    assert SNAPSHOT.histories is not None
    bought = {int(row) for user in (7, 8, 9) for row in SNAPSHOT.histories[user].rows}
    pinned = {name for one in (*old, *new) if isinstance(one.action, Pin) for name in one.action.item_ids}
    if pinned & {f"item-{row}" for row in bought}:
        return  # A record does not say what was bought, so a pin of it is told and will not come.
    found = preview(recorded(old), old, new, SERVING_CONFIGS, SNAPSHOT, NOW)
    before, after = live(old), live(new)
    assert found.answers == len(QUERIES)
    assert found.changed == sum(one != other for one, other in zip(before, after, strict=True))
    assert found.added == sum(len(set(b) - set(a)) for a, b in zip(before, after, strict=True))
    if found.examples:
        at = int(found.examples[0].decision_id.removeprefix("answer/"))
        assert found.examples[0].before == tuple(f"item-{row}" for row in before[at])
        assert found.examples[0].after == tuple(f"item-{row}" for row in after[at])


def test_nothing_changes_under_the_same_controls() -> None:
    """Whatever they are."""
    controls = ordered([Control("a", Boost(ODD, 5)), Control("b", Pin(("item-299",), 2))])
    found = preview(recorded(controls), controls, controls, SERVING_CONFIGS, SNAPSHOT, NOW)
    assert (found.answers, found.changed, found.more, found.fewer, found.examples) == (5, 0, (), (), ())


def test_a_filter_is_previewed_by_the_candidates_that_are_left() -> None:
    """What does not pass falls out of each answer and the next candidates follow."""
    found = preview(recorded(), (), (Control("a", Keep(ODD)),), SERVING_CONFIGS, SNAPSHOT, NOW)
    assert found.changed == 5
    assert all(int(one.item_id.removeprefix("item-")) % 2 == 0 for one in found.fewer)
    assert all(int(name.removeprefix("item-")) % 2 for example in found.examples for name in example.after)


def test_each_control_is_told_apart() -> None:
    """How many answers it is for, and how many would be others without it; the past and the future are not in force."""
    rare = next(f"item-{row}" for row in range(300) if not any(row in rows for rows in live(())))
    new = ordered(
        [
            Control("pin", Pin((rare,)), ("trending",)),
            Control("of-category", Bury(ODD), categories=("group-2",)),
            Control("idle", Boost(Filter(must=(AnyOf("odd", ("neither",)),)), 9)),
            Control("later", Boost(ODD, 9), start=NOW + 1),
        ]
    )
    found = preview(recorded(), (), new, SERVING_CONFIGS, SNAPSHOT, NOW)
    told = {one.name: (one.kind, one.in_force, one.changed) for one in found.controls}
    assert told["pin"] == ("pin", 1, 1)
    assert told["idle"] == ("boost", 5, 0)
    assert told["later"] == ("boost", 0, 0)
    assert told["of-category"][1] == 1
    assert (rare, 0, 1) in [(one.item_id, one.before, one.after) for one in found.more]
    assert preview(recorded(), (), new, SERVING_CONFIGS, SNAPSHOT, NOW + 1).changed > found.changed


def test_what_an_old_pin_alone_brought_in_goes_with_it() -> None:
    """An answer recorded under a pin is compared as it would be without."""
    pin = Control("a", Pin(("item-299",)))
    found = preview(recorded((pin,)), (pin,), (), SERVING_CONFIGS, SNAPSHOT, NOW)
    assert "item-299" in {one.item_id for one in found.fewer}
    assert found.changed == sum(one != other for one, other in zip(live((pin,)), live(()), strict=True))


@pytest.mark.parametrize(
    "change", [{"serving_config": "gone"}, {"candidates": {"item_ids": ["x"], "scores": [1.0], "sources": {}}}]
)
def test_records_that_say_nothing_here_are_left_out(change: dict[str, Any]) -> None:
    """Of a serving config that is no more, or of another catalogue."""
    first, *others = recorded()
    found = preview([{**first, **change}, *others], (), (), SERVING_CONFIGS, SNAPSHOT, NOW)
    assert (found.answers, found.left_out) == (4, 1)
    del first["candidates"]
    assert preview([first], (), (), SERVING_CONFIGS, SNAPSHOT, NOW).answers == 0
