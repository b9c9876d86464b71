"""Which event of which person calls for a push."""

from itertools import permutations

import pytest

from tidings_core.events import EVENT_TYPES, Event, EventItem, EventType
from tidings_core.profile import EMPTY, Profile, fold
from tidings_core.triggers import Trigger

NOW = 1_700_000_000_000


def event(number: int, type: EventType = "view", ago: float = 0.0, items: str = "", category: str = "") -> Event:
    """An event some seconds ago; each letter of `items` is an item."""
    things = tuple(EventItem(letter) for letter in items)
    return Event(f"e{number}", type, "u", NOW - int(ago * 1000), things, category)


def after(*events: Event) -> Profile:
    """A profile that has taken events in; letters are their item_no."""
    return fold(EMPTY, [(one, [ord(item.item_id) for item in one.items]) for one in events])


def trigger(**more: object) -> Trigger:
    """A trigger on views."""
    return Trigger(**{"name": "t", "event": "view", "serving_config": "for-you", "template": "x", **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("type", EVENT_TYPES)
def test_only_events_of_its_type_call(type: EventType) -> None:
    """A trigger on views is called by views."""
    one = event(1, type, items="a")
    assert trigger().matches(one, after(one), NOW) == (type == "view")


def test_what_is_too_old_calls_for_nothing() -> None:
    """History that is imported does not wake anybody."""
    for ago, called in ((3600, True), (3601, False)):
        one = event(1, ago=ago, items="a")
        assert trigger(max_age_seconds=3600).matches(one, after(one), NOW) == called


def test_a_trigger_can_ask_for_items_or_for_a_category() -> None:
    """`of` narrows a view."""
    item, category = event(1, items="a"), event(2, category="Home")
    for of, by_item, by_category in (("any", True, True), ("item", True, False), ("category", False, True)):
        assert trigger(of=of).matches(item, after(item), NOW) == by_item
        assert trigger(of=of).matches(category, after(category), NOW) == by_category


def test_the_third_event_within_the_time_calls_whatever_the_order_of_arrival() -> None:
    """The one that makes the count full calls, also when it comes late and lies before the others."""
    thrice = trigger(count=3, within_seconds=600)
    events = [event(1, ago=599, items="a"), event(2, ago=300, items="b"), event(3, items="c")]
    for order in permutations(events):
        called = [thrice.matches(one, after(*order[: at + 1]), NOW) for at, one in enumerate(order)]
        assert called == [False, False, True]
    early = [event(1, ago=600, items="a"), *events[1:]]
    assert not thrice.matches(early[2], after(*early), NOW)


def test_a_count_begins_anew_after_it_led_to_a_push() -> None:
    """Six looks are two times three, not four times three."""
    thrice, seen, fired = trigger(count=3, within_seconds=600), [], 0
    called = []
    for number in range(6):
        seen.append(event(number, ago=60.0 - number, items="a"))
        called.append(thrice.matches(seen[-1], after(*seen), NOW, fired))
        fired = seen[-1].time if called[-1] else fired
    assert called == [False, False, True] * 2


def test_the_same_means_sharing_an_item_or_the_category() -> None:
    """Three looks at one thing are not three looks at three things."""
    same = trigger(count=2, same=True)
    first, other, again = event(1, ago=9, items="ab"), event(2, ago=5, items="c"), event(3, items="bd")
    assert not same.matches(other, after(first, other), NOW)
    assert same.matches(again, after(first, other, again), NOW)
    home, garden, homeward = event(4, ago=9, category="Home"), event(5, ago=5, category="G"), event(6, category="Home")
    assert not same.matches(garden, after(home, garden), NOW)
    assert same.matches(homeward, after(home, garden, homeward), NOW)
    assert not same.matches(again, after(home, again), NOW)


def test_only_what_fits_is_counted() -> None:
    """Views of a category do not count for a trigger on views of items."""
    twice = trigger(count=2, of="item")
    one, other = event(1, ago=5, category="Home"), event(2, items="a")
    assert not twice.matches(other, after(one, other), NOW)
    assert trigger(count=2).matches(other, after(one, other), NOW)


def test_an_event_that_the_profile_no_longer_keeps_counts_what_is_kept() -> None:
    """A late event behind a hundred newer ones has no place in the profile, and with `same` calls for nothing."""
    late = event(0, ago=3000, items="a")
    newer = [event(number, ago=1000, items="a") for number in range(1, 120)]
    assert not trigger(count=2, same=True).matches(late, after(late, *newer), NOW)
