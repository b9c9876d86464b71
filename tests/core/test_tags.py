"""Tags: what rules say of a user, until when it stays so by itself, and what of it depends on what."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import make_world
from tidings_core.attributes import Keyword
from tidings_core.changes import Change, TagSetting, Update
from tidings_core.declared import BUILT_IN, MAX_NUMBER, Declaration
from tidings_core.evaluation import evaluate
from tidings_core.events import EVENT_TYPES, Event, EventItem, EventType
from tidings_core.expressions import ExpressionFault
from tidings_core.model import Snapshot
from tidings_core.profile import EMPTY, Profile, fold
from tidings_core.spending import KEPT
from tidings_core.tables import BytesTable
from tidings_core.tag_view import DAY_MS, FOREVER, Seen, View
from tidings_core.tags import Given, Rule, circle, ends, follows_pushes, give, ordered, read_rule, with_all_asked

NOW = 1_700_000_000_000
DECLARED = {
    **BUILT_IN,
    "member": Declaration("member", "flag"),
    "joined": Declaration("joined", "time"),
    "joined_days": Declaration("joined_days", "number"),
    "secret": Declaration("secret", "flag", sensitive=True),
}


def rule(name: str, when: str, weight: str = "", variable: str = "") -> Rule:
    """A rule that is fine."""

    def fault(field: str, error: ExpressionFault) -> None:
        raise AssertionError(f"{field} at {error.at}: {error.problem}")

    found = read_rule(name, when, weight, variable, DECLARED, fault)
    assert found is not None
    return found


def person(
    *events: Event, attributes: Mapping[str, Any] | None = None, tags: Mapping[str, Any] | None = None
) -> Profile:
    """The profile of events, whose items have the item_no in their ids, and of what is said."""
    change = Change("said", "u", NOW - DAY_MS, Update(attributes or {}, tags or {}))
    logged = [(event, [int(item.item_id) for item in event.items]) for event in events]
    return fold(EMPTY, [*logged, (change, [])])


def event(type: EventType, ago: float, *items: int, value: float | None = None) -> Event:
    """An event so many days before NOW."""
    time = NOW - round(ago * DAY_MS)
    return Event(f"{type}-{time}-{items}", type, "u", time, tuple(EventItem(str(item)) for item in items), value=value)


def tags(rules: list[Rule], profile: Profile, now: int = NOW, **more: Any) -> dict[str, float]:
    """The tags of rules, with their weights."""
    given = give(ordered({one.name: one for one in rules}), View(profile, now, DECLARED, **more))
    return {name: tag.weight for name, tag in given.tags.items()}


def shop() -> tuple[np.ndarray[Any, Any], Snapshot]:
    """Rows by item_no, the same as the number, and a snapshot with a category for each item."""
    world = make_world()
    names = [b"Home", b"smartphone", b"watch"]
    codes = (np.arange(len(world.parts.item_ids)) % 3).astype(np.int32)
    attributes = {**world.parts.attributes, "category": Keyword(codes, BytesTable.of(names))}
    snapshot = replace(world, parts=replace(world.parts, attributes=attributes)).snapshot()
    return np.arange(len(codes), dtype=np.int32), snapshot


def test_a_flag_a_text_and_texts_each_give_their_tags() -> None:
    """NAME, NAME:text, one for each text; an empty text, a flag that does not hold and what is not known give none."""
    profile = person(attributes={"gender": "male", "interests": ("tech", "tea"), "member": True})
    rules = [
        rule("vip", "member"),
        rule("nobody", "not member"),
        rule("gender", "gender"),
        rule("city", "city"),
        rule("likes", "interests", "2"),
        rule("none", 'choose(member, "", "x")'),
    ]
    assert tags(rules, profile) == {"vip": 1.0, "gender:male": 1.0, "likes:tech": 2.0, "likes:tea": 2.0}


def test_a_family_is_asked_for_each_of_its_texts() -> None:
    """Categories of what was bought and liked, or the texts of an attribute; the weight too."""
    rows, snapshot = shop()
    profile = person(
        event("purchase", 1, 1, 4), event("purchase", 40, 2), event("view", 1, 3), attributes={"interests": ("a", "b")}
    )
    rules = [
        rule("recent", "bought(category=category, days=30) > 0", "bought(category=category)", "category"),
        rule("ever", "bought(category=category) > 0", "", "category"),
        rule("likes", "affinity(category) > 0", "affinity(category)", "category"),
        rule("fan", 'interests != "a"', "", "interests"),
    ]
    found = tags(rules, profile, rows=rows, snapshot=snapshot)
    shares = [weight for name, weight in found.items() if name.startswith("likes:")]
    assert set(found) - {"likes:Home", "likes:smartphone", "likes:watch"} == {
        "recent:smartphone",
        "ever:smartphone",
        "ever:watch",
        "fan:b",
    }
    assert found["recent:smartphone"] == 2.0
    assert sum(shares) == pytest.approx(1.0)
    assert tags(rules, profile) == {"fan:b": 1.0}  # Without a release nothing is known of items.


def test_a_rule_may_ask_for_tags_of_others_and_those_set_by_hand() -> None:
    """By full name or family, in whatever order the rules stand; a tag set by hand ends when it was said to."""
    profile = person(attributes={"age": 30.0}, tags={"vip": TagSetting(1.0, NOW + 10)})
    rules = [
        rule("c", 'has_tag("b") and not has_tag("a:old")'),
        rule("b", 'has_tag("a") and has_tag("vip")'),
        rule("a", 'choose(age > 60, "old", "young")'),
    ]
    assert set(tags(rules, profile)) == {"a:young", "b", "c"}
    assert set(tags(rules, profile, NOW + 10)) == {"a:young"}
    assert [one.name for one in ordered({one.name: one for one in rules})] == ["a", "b", "c"]
    in_order = ordered({one.name: one for one in rules})
    assert [one.name for one in with_all_asked(["b"], in_order)] == ["a", "b"]
    assert give(in_order, View(profile, NOW, DECLARED)).until == NOW + 10


def test_a_circle_is_found_and_told_in_order() -> None:
    """Also of one rule, and from whichever it is looked for; none where there is none."""
    named = {
        "a": rule("a", 'has_tag("b")'),
        "b": rule("b", 'has_tag("c:x") or has_tag("free")'),
        "c": rule("c", 'has_tag("b")'),
        "d": rule("d", "true"),
    }
    assert circle(named) == ["b", "c", "b"]
    assert circle({"a": rule("a", 'has_tag("a")')}) == ["a", "a"]
    assert circle({"a": rule("a", 'has_tag("b")'), "d": rule("d", 'has_tag("a")')}) == []


def test_what_a_rule_goes_by_is_known() -> None:
    """Attributes, also those it goes through, and events that may follow from a push."""
    one = rule("x", "secret and count('click') > 1 and days_since('view') < 3", "age", "interests")
    assert one.attributes == {"secret", "age", "interests"}
    assert follows_pushes(one) == {"click"}


@pytest.mark.parametrize(
    ("when", "says"),
    [("age", "gives a number"), ("birth_date", "gives a moment"), ("[1, 2]", "gives"), ("interests", "for each")],
)
def test_what_says_no_tags_is_no_rule(when: str, says: str) -> None:
    """And a weight must be a number."""
    told: list[str] = []
    variable = "category" if when == "interests" else ""
    read_rule("x", when, "", variable, DECLARED, lambda field, error: told.append(f"{field}: {error.problem}"))
    read_rule("x", "true", "gender", "", DECLARED, lambda field, error: told.append(f"{field}: {error.problem}"))
    assert told[0].startswith("when: ")
    assert says in told[0]
    assert told[1] == "weight: gives a text, where a weight is a number"


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("10 / days_since('view') < 6", "divides by days since something"),
        ("10 / (1 + days_since('view')) < 6", "divides by days since something"),
        ("days_since() * days_since('view') < 6", "multiplies days since something"),
        ("most(days_since(), 1) in [1, 2]", "looks for days since something in a list"),
        ("1 / coalesce(days_since(), 1) < 6", "divides by days since something"),
        ("1 / choose(member, 1, days_since()) < 6", "divides by days since something"),
    ],
)
def test_of_what_cannot_be_told_when_it_changes_there_is_no_rule(when: str, said: str) -> None:
    """A sweep has to know when to look again."""
    told: list[str] = []
    read_rule("x", when, "", "", DECLARED, lambda _, error: told.append(error.problem))
    assert said in told[0]


@pytest.mark.parametrize(
    ("born", "at", "years", "until"),
    [
        ("2000-06-15", "2025-06-14", 24.0, "2025-06-15"),
        ("2000-06-15", "2025-06-15", 25.0, "2026-06-15"),
        ("2004-02-29", "2025-02-28", 20.0, "2025-03-01"),
        ("2004-02-29", "2028-02-29", 24.0, "2029-03-01"),
    ],
)
def test_an_age_grows_on_the_birthday(born: str, at: str, years: float, until: str) -> None:
    """Of somebody born on 29 February on 1 March where there is none; and it is known until when it stands."""
    now = _moment(at)
    view = View(person(attributes={"birth_date": born}), now, DECLARED)
    one = rule("x", "years_since(birth_date) >= 0", "years_since(birth_date)")
    assert one.weight is not None
    assert evaluate(one.weight, view, lambda _: Seen(False), {}) == Seen(years, _moment(until))
    days = rule("x", "days_to_anniversary(birth_date) >= 0", "days_to_anniversary(birth_date)").weight
    assert days is not None
    left = evaluate(days, view, lambda _: Seen(False), {}).value
    assert left == (0.0 if until.endswith(at[4:]) else (_moment(until) - now) / DAY_MS) or left < 366


def test_money_and_orders_are_windows_over_days() -> None:
    """Returns count against what was spent; a window is of whole days, today being one."""
    profile = person(
        event("purchase", 0, 1, value=10.0), event("purchase", 3, 1, value=5.0), event("return", 1, 1, value=2.5),
        event("purchase", 400, 1, value=100.0),
    )  # fmt: skip
    rules = [rule("a", "true", "spent(days=2)"), rule("b", "true", "orders(days=365)"), rule("c", "true", "spent()")]
    assert tags(rules, profile) == {"a": 7.5, "b": 2.0, "c": 112.5}


def test_the_days_with_money_are_bounded() -> None:
    """The newest stay."""
    profile = person(*(event("purchase", ago, 1, value=1.0) for ago in range(KEPT + 20)))
    assert len(profile.spending) == KEPT
    assert max(profile.spending) == NOW // DAY_MS


def test_when_a_tag_ends_is_found_by_moving_time_on() -> None:
    """The day its window leaves what it stands on; what never ends has no end."""
    profile = person(event("purchase", 5, 1), event("purchase", 2, 1), attributes={"gender": "male"})
    rules = [rule("fresh", "count('purchase', days=10) > 0"), rule("gender", "gender")]
    given = give(rules, View(profile, NOW, DECLARED))
    end = ends(rules, given, lambda moment: View(profile, moment, DECLARED))
    assert end == {"fresh": (NOW // DAY_MS - 2 + 10) * DAY_MS}
    assert ends(rules, Given(given.tags, {}), lambda moment: View(profile, moment, DECLARED)) == {}


def test_a_comparison_holds_until_the_moment_it_does_not() -> None:
    """To the millisecond: one before it, it is as it was."""
    last = NOW - 5 * DAY_MS
    profile = person(event("purchase", 5, 1))
    one = [rule("lapsing", "days_since('purchase') > 60")]
    given = give(one, View(profile, NOW, DECLARED))
    assert (given.tags, given.until) == ({}, last + 60 * DAY_MS)
    assert not give(one, View(profile, last + 60 * DAY_MS, DECLARED)).tags
    assert give(one, View(profile, last + 60 * DAY_MS + 1, DECLARED)).tags


@pytest.mark.parametrize("when", [
    "days_since('purchase') > 1000000000000", "days_since('purchase') > joined_days",
    f"days_since('purchase') / {'9' * 300} > 1{'0' * 300}",
])  # fmt: skip
def test_what_happens_in_no_ones_time_never_happens(when: str) -> None:
    """A moment further off than any calendar, or any number, is none to wait for."""
    profile = person(event("purchase", 5, 1), attributes={"joined_days": MAX_NUMBER})
    given = give([rule("far", when)], View(profile, NOW, DECLARED))
    assert (given.tags, given.until) == ({}, FOREVER)


_NUMBERS = [
    "days_since('purchase')",
    "days_since()",
    "days_since_first('view')",
    "count('view', days=3)",
    "age",
    "spent(days=5)",
    "orders(days=2)",
    "bought(days=4)",
    "years_since(birth_date)",
    "days_since(joined)",
    "days_to_anniversary(birth_date)",
    "days_since() * 2 - 3",
    "days_since('view') / 2 + 1",
    "least(days_since(), days_since('view'), 2)",
    "most(1, days_since('purchase'))",
    "count('purchase', days=2) - count('view', days=4)",
    "coalesce(days_since('search'), 1)",
]
_SIGNS = ["<", "<=", ">", ">=", "==", "!="]
_BOUNDS = ["0", "1", "2", "2.5", "3", "6", "24", "25"]
_BANDED = ["days_since()", "count('view', days=2)"]
_FLAGS: st.SearchStrategy[str] = st.deferred(
    lambda: st.one_of(
        st.builds("{} {} {}".format, st.sampled_from(_NUMBERS), st.sampled_from(_SIGNS), st.sampled_from(_BOUNDS)),
        st.just("member"),
        st.builds("({}) and ({})".format, _FLAGS, _FLAGS),
        st.builds("({}) or ({})".format, _FLAGS, _FLAGS),
        st.builds("not ({})".format, _FLAGS),
        st.builds("band({}, 1, 2, 4) == '2-3'".format, st.sampled_from(_BANDED)),
        st.builds("known(birth_date) and choose({}, 'a', 'b') == 'a'".format, _FLAGS),
    )
)
_types: st.SearchStrategy[EventType] = st.sampled_from(["view", "purchase", "return"])
_one = st.builds(event, _types, st.sampled_from([0, 0.5, 1, 1.25, 3, 8]), st.just(1), value=st.just(2.0))
_events = st.lists(_one, max_size=5, unique_by=lambda one: one.event_id)


@settings(max_examples=300, deadline=None)
@given(_events, _FLAGS, st.booleans(), st.floats(0, 1), st.integers(0, 2 * DAY_MS))
def test_nothing_changes_by_itself_before_it_was_said_to(
    events: list[Event], when: str, born: bool, share: float, later: int
) -> None:
    """Whatever the rule: until the moment that was told, time alone changes no tag."""
    attributes: dict[str, Any] = {"joined": NOW / 1000 - 86_400 * 2.5, "member": True, "age": 24.0}
    if born:
        attributes["birth_date"] = "1998-11-16"
    profile = person(*events, attributes=attributes)
    try:
        one = [rule("x", when)]
    except AssertionError:
        return  # Too deep or too long.
    start = NOW + later
    given = give(one, View(profile, start, DECLARED))
    assert given.until > start
    last = given.until - 1 if given.until < FOREVER else start + 40 * DAY_MS
    for moment in (start, start + int((last - start) * share), last):
        assert give(one, View(profile, int(moment), DECLARED)).tags == given.tags, moment - start


@settings(max_examples=100, deadline=None)
@given(_events, st.sampled_from(EVENT_TYPES), st.integers(1, 31))
def test_a_count_is_that_of_the_events(events: list[Event], type: EventType, days: int) -> None:
    """Against counting one by one."""
    profile = person(*events)
    today = NOW // DAY_MS
    expected = sum(one.type == type and today - days < one.time // DAY_MS <= today for one in events)
    assert View(profile, NOW, DECLARED).count(type, days).value == expected
    times = [one.time for one in events if one.type == type]
    assert View(profile, NOW, DECLARED).last(type) == max(times, default=None)
    assert View(profile, NOW, DECLARED).first(type) == min(times, default=None)


def test_a_value_that_is_not_as_declared_any_more_is_not_known() -> None:
    """The settings of today decide, not those of when it was set."""
    profile = person(attributes={"age": "old", "gone": 1.0, "gender": "male"})
    assert View(profile, NOW, DECLARED).attribute("age") is None
    assert View(profile, NOW, DECLARED).attribute("gone") is None
    assert View(profile, NOW, DECLARED).attribute("gender") == "male"


def _moment(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)
