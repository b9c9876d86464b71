"""Preferences: the newest word stands, in whatever order words arrive; and what a profile may be used for."""

from datetime import UTC, datetime
from itertools import permutations, product
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings_core import preferences
from tidings_core.preferences import CAP, MAX_TOPICS, PURPOSES, QUIET, Preferences, Value, Word, preference_faults
from tidings_core.privacy import PrivacyRules, adult_from, standing_of
from tidings_core.profile import Profile
from tidings_core.quiet_hours import QuietHours, Span
from tidings_core.standing import ERASED, NEEDS, OPEN, TARGETING, USES, Standing
from tidings_core.stated import AttributeWord, Stated

NIGHT = QuietHours("Europe/Berlin", (Span(0, 1320, 480),))
VALUES = st.one_of(st.none(), st.booleans(), st.integers(0, 1000), st.just(NIGHT))
WORDS = st.dictionaries(st.sampled_from(["channel/email", "topic/sale", "consent/profiling", QUIET, CAP]), VALUES)
CHANGES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), WORDS), max_size=6)


def test_what_nobody_said_holds_for_everybody() -> None:
    """All channels and topics are on, nothing is said of purposes, hours and caps."""
    empty = preferences.EMPTY
    assert (empty.channel("stream"), empty.topic("sale"), empty.consent("profiling")) == (True, True, None)
    assert (empty.quiet_hours, empty.max_per_day) == (None, None)


def test_a_word_stands_until_a_newer_one_and_can_be_taken_back() -> None:
    """Off, then on; a cap of 0 is a cap; None is back to what holds for everybody."""
    first = preferences.fold(preferences.EMPTY, [(1, 1, {"channel/email": False, CAP: 0, QUIET: NIGHT})])
    assert (first.channel("email"), first.max_per_day, first.quiet_hours) == (False, 0, NIGHT)
    later = preferences.fold(first, [(2, 1, {"channel/email": True, CAP: None, QUIET: None})])
    assert (later.channel("email"), later.max_per_day, later.quiet_hours) == (True, None, None)
    assert preferences.fold(later, [(1, 9, {"channel/email": False})]) == later


@given(CHANGES)
def test_the_order_of_arrival_cannot_matter(changes: list[tuple[int, int, dict[str, Value]]]) -> None:
    """Any order of the changes, one at a time or together, gives the same preferences."""
    whole = preferences.fold(preferences.EMPTY, changes)
    for order in list(permutations(changes))[:24]:
        found = preferences.EMPTY
        for change in order:
            found = preferences.fold(found, [change])
        assert found == whole


@given(CHANGES)
def test_what_is_written_reads_the_same(changes: list[tuple[int, int, dict[str, Value]]]) -> None:
    """To JSON and back."""
    whole = preferences.fold(preferences.EMPTY, changes)
    assert preferences.from_json(preferences.to_json(whole)) == whole


def test_topics_are_bounded_and_the_newest_are_kept() -> None:
    """However many topics somebody turns off over time, MAX_TOPICS of them are kept, and everything else."""
    found = preferences.EMPTY
    for number in range(0, 2 * MAX_TOPICS, 100):
        words: dict[str, Value] = {f"topic/{number + at}": False for at in range(100)}
        found = preferences.fold(found, [(number, 1, {**words, "consent/profiling": False} if not number else words)])
    assert len(found.words) == MAX_TOPICS + 1
    assert found.consent("profiling") is False
    assert not found.topic(str(2 * MAX_TOPICS - 1))


def test_all_that_is_wrong_with_a_change_is_named() -> None:
    """A topic with a line break, a cap that is none, and quiet hours in no zone, together."""
    wrong: dict[str, Value] = {"topic/a\nb": False, CAP: -1, QUIET: QuietHours("Mars/Olympus", ())}
    assert [field for field, _ in preference_faults(wrong)] == [
        "topics['a\\nb']",
        "max_per_day",
        "quiet_hours.time_zone",
    ]
    many: dict[str, Value] = {f"topic/{number}": False for number in range(MAX_TOPICS + 1)}
    assert [field for field, _ in preference_faults(many)] == ["topics"]


@pytest.mark.parametrize("said", list(product([None, True, False], repeat=3)))
@pytest.mark.parametrize("default", [True, False])
def test_a_use_needs_consent_to_each_of_its_purposes(said: tuple[bool | None, ...], default: bool) -> None:
    """What the person said counts; of a purpose they said nothing about, the default."""
    words = {f"consent/{purpose}": Word(1, 1, word) for purpose, word in zip(PURPOSES, said, strict=True)}
    rules = PrivacyRules(consent=dict.fromkeys(PURPOSES, default))
    found = standing_of(Profile(preferences=Preferences(words)), rules)
    given_ = {p for p, word in zip(PURPOSES, said, strict=True) if (default if word is None else word)}
    assert {use for use in USES if found.may(use, 0)} == {use for use in USES if set(NEEDS[use]) <= given_}


def test_minors_are_barred_from_what_targets_them_until_they_come_of_age() -> None:
    """Answers go on; audiences and marketing begin on the day."""
    minor = Standing(adult_from=1000)
    assert {use for use in USES if minor.bar(use, 999) == "minor"} == set(TARGETING)
    assert all(minor.may(use, 1000) for use in USES)
    assert OPEN.adult_from == -inf


def test_a_date_that_is_far_off_is_a_minors_like_any_other() -> None:
    """A shop may declare dates of birth that need not be past: the end of all years makes no call fail."""
    said = Stated({"birth_date": AttributeWord(1, 1, "", "9999-12-31")})
    assert adult_from(Profile(stated=said), PrivacyRules()) == datetime(9999, 12, 31, tzinfo=UTC).timestamp() * 1000


def test_of_who_was_erased_nothing_may_be_used() -> None:
    """No use at any time."""
    assert not any(ERASED.may(use, 0) for use in USES)
