"""Controls and sources over a catalogue that changed since the release."""

from dataclasses import replace
from typing import Any

import numpy as np

from tests.core.test_delta import BASE, described, priced, with_changes
from tests.support.world import NOW
from tidings_core.catalogue import Change
from tidings_core.controls import Action, Boost, Control, Pin, matching
from tidings_core.filters import AnyOf, Filter, Range
from tidings_core.model import SERVING_CONFIGS, Query, Snapshot
from tidings_core.recommend import recommend

ZOO = Filter(must=(AnyOf("category", ("zoo",)),))
CHEAP = Filter(must=(Range("price", lt=0.5),))
CHANGED = with_changes(
    [described("new-1", "Zebra lamp", "zoo", 1), described("item-3", "Zebra chair", "zoo"), priced("item-5", 0.1)]
)


def rows_of(snapshot: Snapshot, action: Action, serving: str = "trending", **more: Any) -> list[int]:
    """The rows of an answer under one control."""
    snapshot = replace(snapshot, controls=(Control("a", action),))
    (answer,) = recommend([Query("nobody", SERVING_CONFIGS[serving], 10, **more)], snapshot, NOW)
    return [item.row for item in answer.items]


def test_a_filter_of_a_control_sees_what_items_are_now() -> None:
    """New, described anew, and priced anew; the others as the release has them; a deleted one is nothing."""
    rows = np.array([[60, 3, 5, 0, -1]], np.int32)
    assert matching(ZOO, rows, CHANGED).tolist() == [[True, True, False, False, False]]
    assert matching(CHEAP, rows, CHANGED).tolist() == [[False, False, True, False, False]]
    own = Filter(must=(AnyOf("category", ("group-0",)),))
    assert matching(own, rows, CHANGED).tolist() == [[False, False, False, True, False]]
    gone = with_changes([Change("item-0", 9, 9, deleted=True)])
    assert matching(own, np.array([4, 8], np.int32), gone).tolist() == [True, True]


def test_a_new_item_can_be_boosted_and_pinned() -> None:
    """By the attributes it came with; a deleted item comes by no pin."""
    assert rows_of(CHANGED, Pin(("new-1", "item-3"), 2))[1:3] == [60, 3]
    found = rows_of(CHANGED, Boost(ZOO, 99), "search", search="lamp zebra group")
    assert set(found[:2]) == {60, 3}
    gone = with_changes([Change("item-3", 9, 9, deleted=True)])
    assert 3 not in rows_of(gone, Pin(("item-3",)))


def test_what_is_bought_together_and_what_trends_leave_deleted_items_out() -> None:
    """And a new item in the cart goes with nothing yet, which is no failure."""
    assert BASE.complements is not None
    first, second = (int(row) for row in BASE.complements.rows[8][:2])
    plain = rows_of(BASE, Pin(()), "cart", context_item_ids=["item-8"])
    assert plain[:2] == [first, second]
    gone = with_changes([described("new-1", "Zebra lamp", "zoo", 1), Change(f"item-{first}", 9, 9, deleted=True)])
    assert rows_of(gone, Pin(()), "cart", context_item_ids=["item-8", "new-1"])[0] == second
    assert first not in rows_of(gone, Pin(()), "trending", category=f"group-{first % 4}")
    assert rows_of(gone, Pin(()), "cart", context_item_ids=["new-1"])
