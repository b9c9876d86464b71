"""What is stated of a user: the newest word stands, however the words arrive."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidings_core import stated
from tidings_core.changes import Change, TagMove, TagSetting, Update
from tidings_core.profile import EMPTY as NOBODY
from tidings_core.profile import fold as fold_profile
from tidings_core.profile import from_values, to_values
from tidings_core.stated import EMPTY, Stated, fold, join

START = 1_700_000_000_000
NAMES = ("age", "city", "likes")
values = (
    st.none() | st.floats(0, 99, width=16) | st.sampled_from(["Beijing", "北京"]) | st.just(("a", "b")) | st.booleans()
)
settings_of_tags = st.none() | st.builds(TagSetting, st.sampled_from([0.5, 1.0]), st.sampled_from([0, START + 5]))
updates = st.builds(
    Update,
    st.dictionaries(st.sampled_from(NAMES), values, max_size=3),
    st.dictionaries(st.sampled_from(("vip", "new")), settings_of_tags, max_size=2),
    st.sampled_from(["", "crm"]),
)
moves = st.builds(TagMove, st.sampled_from(("lifecycle:new", "vip")), st.booleans())


@st.composite
def histories(draw: st.DrawFn) -> list[Change]:
    """Changes with distinct ids, some at the same millisecond."""
    whats = draw(st.lists(updates | moves, max_size=20))
    times = [START + draw(st.sampled_from([0, 1, 2])) for _ in whats]
    return [Change(f"c{at}", "u", time, what) for at, (time, what) in enumerate(zip(times, whats, strict=True))]


@settings(max_examples=150, deadline=None)
@given(histories(), st.randoms(use_true_random=False), st.integers(0, 20), st.sampled_from([1, 2, 256]))
def test_any_order_and_any_split_of_arrival_makes_the_same_words(
    changes: list[Change], dice: random.Random, cut: int, most: int
) -> None:
    """Late, early, in one batch, in two, or joined from two halves: nobody can tell."""
    shuffled = changes.copy()
    dice.shuffle(shuffled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stated, "MOST", most)
        at_once = fold(EMPTY, changes)
        assert fold(fold(EMPTY, shuffled[:cut]), shuffled[cut:]) == at_once
        assert join(fold(EMPTY, shuffled[cut:]), fold(EMPTY, shuffled[:cut])) == at_once
        assert join(at_once, at_once) == at_once
        assert max(len(at_once.attributes), len(at_once.tags), len(at_once.found)) <= most


@settings(max_examples=100, deadline=None)
@given(histories())
def test_the_newest_word_about_a_name_stands(changes: list[Change]) -> None:
    """By time, and among words of one millisecond always the same one; a removal is a word."""
    found = fold(EMPTY, changes)
    for name in NAMES:
        words = [c for c in changes if isinstance(c.what, Update) and name in c.what.attributes]
        if not words:
            assert name not in found.attributes
            continue
        newest = max(word.time for word in words)
        possible = [c.what.attributes[name] for c in words if c.time == newest and isinstance(c.what, Update)]
        assert found.attributes[name].value in possible
        assert (name in found.values()) == (found.attributes[name].value is not None)


@settings(max_examples=100, deadline=None)
@given(histories())
def test_a_profile_keeps_what_is_stated_through_its_stored_form(changes: list[Change]) -> None:
    """Byte for byte, and a profile of which nothing is stated has no such part."""
    profile = fold_profile(NOBODY, [(change, []) for change in changes])
    stored = msgspec.msgpack.encode(to_values(profile))
    back = from_values(msgspec.msgpack.decode(stored))
    assert back == profile
    assert msgspec.msgpack.encode(to_values(back)) == stored
    assert ("stated" in to_values(profile)) == bool(changes)
    assert profile.totals == {}


def test_a_tag_set_by_hand_ends_when_it_was_said_to() -> None:
    """At its end it is gone; one without an end stays."""
    tags = {"vip": TagSetting(2.0, START + 10), "gold": TagSetting()}
    found = fold(EMPTY, [Change("c", "u", START, Update(tags=tags))])
    assert set(found.tags_at(START + 9)) == {"vip", "gold"}
    assert set(found.tags_at(START + 10)) == {"gold"}


def test_of_a_tag_of_a_rule_it_is_kept_whether_it_was_there() -> None:
    """What came and went is remembered as gone."""
    moves = [Change(f"m{at}", "u", START + at, TagMove("t", entered)) for at, entered in enumerate((True, False))]
    assert fold(EMPTY, moves[:1]).found_tags == {"t"}
    assert fold(EMPTY, moves).found_tags == frozenset()
    assert isinstance(fold(EMPTY, moves), Stated)
