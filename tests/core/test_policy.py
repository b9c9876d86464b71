"""Diversity: no value takes more than its share of the top while others wait."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings_core.policy import diversify, lead


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=40), st.integers(1, 5))
def test_diversity_holds_back_only_what_is_over_its_share_and_loses_nothing(codes: list[int], share: int) -> None:
    """The order is a permutation: first the best `share` of each value in the given order, then the rest in order."""
    order = diversify(np.array([codes], np.int32), share)[0].tolist()
    seen: Counter[int] = Counter()
    first: list[int] = []
    rest: list[int] = []
    for place, code in enumerate(codes):
        (rest if code >= 0 and seen[code] >= share else first).append(place)
        seen[code] += 1
    assert order == first + rest


@given(st.lists(st.booleans(), max_size=12))
def test_the_first_that_may_lead_leads_and_the_others_keep_their_order(may: list[bool]) -> None:
    """One moves to the front, or none."""
    order = lead(np.array([may], np.bool_).reshape(1, -1))[0].tolist()
    expected = list(range(len(may)))
    if any(may):
        expected.insert(0, expected.pop(may.index(True)))
    assert order == expected


@pytest.mark.parametrize("users", [0, 1, 3])
def test_lists_without_an_item_stay_so(users: int) -> None:
    """Also those of several users at once."""
    assert diversify(np.zeros((users, 0), np.int32), 2, np.zeros((users, 0), np.bool_)).shape == (users, 0)
    assert lead(np.zeros((users, 0), np.bool_)).shape == (users, 0)
