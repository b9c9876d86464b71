"""Filters over a release and its delta: what changed since is judged by what it is now, and found among the others."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.test_delta import DIM, described, priced, vector, with_changes
from tests.support.world import NOW, make_world
from tidings_core.attributes import attribute_of
from tidings_core.catalogue import Change
from tidings_core.exclusions import prepared
from tidings_core.filters import AnyOf, Condition, Filter, Range
from tidings_core.index import FilterPlan, build_index
from tidings_core.model import SERVING_CONFIGS, Query, Snapshot
from tidings_core.recommend import recommend
from tidings_core.selection import select

COUNT = 60
WORLD = make_world(items=COUNT, users=12, dim=DIM, groups=4)
EMPTY = Filter()


def release(whole_up_to: int, metric: Any) -> Snapshot:
    """A release of 60 items with stock; inverted lists all of which are searched."""
    base = make_world(items=COUNT, users=12, dim=DIM, groups=4, metric=metric).snapshot()
    index = build_index("IVF4,Flat", base.item_vectors, metric, {"nprobe": 4}).with_plan(FilterPlan(whole_up_to))
    stock = attribute_of("number", [float(row % 5) for row in range(COUNT)])
    return dataclasses.replace(base, index=index, attributes={**base.attributes, "stock": stock})


BASES = {(gather, metric): release(gather, metric) for gather in (0, 30) for metric in ("inner_product", "l2")}

names = st.sampled_from([*(f"item-{row}" for row in range(COUNT)), "new-1", "new-2", "new-3"])
categories = st.sampled_from(["group-0", "group-1", "zoo"])
changes = st.one_of(
    st.builds(priced, names, st.sampled_from([1.0, 50.0, 120.0])),
    st.builds(lambda name: Change(name, 1, 1, deleted=True), names),
    st.builds(
        lambda name, stock: Change(name, 1, 1, parts={"stock": stock}, payload=b""), names, st.sampled_from([0.0, 9.0])
    ),
    st.builds(
        lambda name, category, seed, price, stock: described(name, "lamp", category, seed, price=price, stock=stock),
        names,
        categories,
        st.one_of(st.none(), st.integers(0, 20)),
        st.sampled_from([1.0, 50.0, 120.0, None]),
        st.sampled_from([0.0, 9.0, None]),
    ),
)
batches = st.lists(changes, max_size=25, unique_by=lambda change: change.item_id)
wanted: st.SearchStrategy[Condition] = st.one_of(
    st.builds(lambda low: Range("price", gte=low), st.sampled_from([0.0, 30.0, 100.0])),
    st.builds(lambda name: AnyOf("category", (name,)), categories),
)


def value(snapshot: Snapshot, name: str, row: int) -> Any:
    """An item's attribute as it is now."""
    delta = snapshot.delta
    if delta is not None and row in delta.rows:
        return delta.attributes[name].at(int(np.searchsorted(delta.rows, row))) if name in delta.attributes else None
    return snapshot.attributes[name].at(row) if row < COUNT else None


def meets(snapshot: Snapshot, condition: Condition, row: int) -> bool:
    """Whether an item meets a condition now, in plain Python."""
    match condition:
        case Range(name, gte=low):
            number = value(snapshot, name, row)
            return number is not None and low is not None and number >= low
        case AnyOf(name, texts):
            return value(snapshot, name, row) in texts
    raise AssertionError


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(list(BASES)), batches, st.one_of(st.none(), wanted), st.integers(0, 30), st.integers(1, 70))
def test_what_changed_is_selected_and_found_as_it_is_now(
    case: tuple[int, str], batch: list[Change], condition: Condition | None, out: int, k: int
) -> None:
    """The same items as brute force over all that pass, nearest first; nothing deleted, sold out or excluded."""
    snapshot = with_changes(batch, base=BASES[case])
    filters = () if condition is None else (Filter(must=(condition,)),)
    selected = select(filters, None, snapshot, NOW)
    delta = snapshot.delta
    gone = set() if delta is None else {*delta.deleted.tolist()}
    passing = [
        row
        for row in range(len(snapshot.items))
        if row not in gone
        and value(snapshot, "stock", row) != 0.0
        and (condition is None or meets(snapshot, condition, row))
    ]
    assert (range(len(snapshot.items)) if selected is None else selected.rows.rows().tolist()) == (
        range(len(passing)) if selected is None else passing
    )
    excluded = np.arange(out, dtype=np.int32)
    among = snapshot.index.without(selected, prepared(excluded, snapshot)) if out else selected
    query = vector(99)
    vectors = np.array([snapshot.item_vectors[row] for row in range(len(snapshot.items))])
    near = vectors @ query if case[1] == "inner_product" else -((vectors - query) ** 2).sum(axis=1)
    # A new item of which there is no vector is not found by vectors.
    has = [row for row in passing if row >= out and (row < COUNT or (delta is not None and row in delta.vector_rows))]
    best = sorted(has, key=lambda row: -near[row])[:k]
    found, scores = snapshot.index.search(query[None], k, among)
    there = found[0] >= 0
    assert found[0][there].tolist() == best
    np.testing.assert_allclose(scores[0][there], near[best], rtol=1e-3, atol=1e-3)


def test_a_change_is_seen_by_the_next_answer_and_the_release_is_not_selected_anew() -> None:
    """A sold-out item leaves, one that became cheap comes; what was selected of the release is kept."""
    base = BASES[30, "inner_product"]
    cheap = Filter(must=(Range("price", lt=0.5),))
    config = SERVING_CONFIGS["for-you"]
    assert recommend([Query("user-1", config, 5, filter=cheap)], base, NOW)[0].items == ()
    kept = len(base.selections)
    for number in (7, 11):
        snapshot = with_changes([priced(f"item-{number}", 0.25)], base=base)
        answer = recommend([Query("user-1", config, 5, filter=cheap)], snapshot, NOW)[0]
        assert [item.row for item in answer.items] == [number]
        assert len(base.selections) == kept


@pytest.mark.parametrize("stock", [0.0, 3.0])
def test_a_new_item_is_recommended_unless_it_is_sold_out(stock: float) -> None:
    """It stands nearest to a user's vector, and comes first, as long as there is one of it."""
    base = BASES[0, "inner_product"]
    new = described("new-1", "lamp", "group-1", 1, stock=stock)
    new = dataclasses.replace(new, vector=(base.user_vectors[1] * 3).astype(np.float32).tobytes())
    answer = recommend([Query("user-1", SERVING_CONFIGS["for-you"], 5)], with_changes([new], base=base), NOW)[0]
    assert (COUNT in [item.row for item in answer.items]) == (stock > 0)
