"""Profiles as they were stored first."""

import base64
from array import array

import pytest

from tidings_core.bought import Bought
from tidings_core.profile_json import from_json

START = 1_700_000_000_000
NOTHING = {"format": 1, "first": 0, "last": 0, "totals": [], "days": [], "recent": [], "bought": "", "seen": []}
NOTHING |= {"blocked_items": [], "blocked_categories": [], "spent": 0}


@pytest.mark.parametrize("count", [0, 1, 4, 5, 10])
def test_a_profile_that_was_written_before_it_counted_what_is_kept_is_read(count: int) -> None:
    """Four numbers stand for an item there, also where five of them would fit; one that was bought once is kept."""
    entries = [(item, 0 if item == 1 else START + item, int(item != 1), int(item == 1)) for item in range(count)]
    flat = array("q", (number for entry in entries for number in entry))
    found = from_json({**NOTHING, "bought": base64.b64encode(flat.tobytes()).decode()}).bought
    assert dict(found) == {item: Bought(time, bought, back, bought - back) for item, time, bought, back in entries}


def test_a_profile_that_counted_it_is_read_as_it_was() -> None:
    """Five numbers for an item."""
    flat = array("q", (7, START, 3, 1, 2, 9, START + 5, 1, 0, 1))
    found = from_json({**NOTHING, "bought": base64.b64encode(flat.tobytes()).decode()}).bought
    assert dict(found) == {7: Bought(START, 3, 1, 2), 9: Bought(START + 5, 1, 0, 1)}
