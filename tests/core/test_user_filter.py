"""Filters over users: the same as looking at each user by hand."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidings_core.declared import BUILT_IN, Declaration
from tidings_core.filters import AnyOf, Condition, Filter, Is, Range
from tidings_core.tags import read_rule
from tidings_core.user_filter import tags_in, user_filter_faults, users_passing

NOW = 1_700_000_000.0
DECLARED = {
    **BUILT_IN,
    "member": Declaration("member", "flag"),
    "diet": Declaration("diet", "keyword", sensitive=True),
}
people = st.fixed_dictionaries(
    {},
    optional={
        "city": st.sampled_from(["Beijing", "北京", "Rome"]) | st.just(5.0),
        "interests": st.sampled_from([("tea",), ("tea", "tech"), ("art",)]),
        "age": st.sampled_from([17.0, 18.0, 30.0, 500.0]),
        "birth_date": st.sampled_from(["2001-05-03", "1999-12-31", "no day"]),
        "member": st.booleans(),
    },
)
tests: st.SearchStrategy[Condition] = st.sampled_from(
    [
        AnyOf("city", ("Beijing", "北京")),
        AnyOf("interests", ("tech", "art")),
        Range("age", gte=18.0),
        Range("birth_date", "time", lt=datetime(2000, 1, 1, tzinfo=UTC).timestamp()),
        Is("member", True),
        AnyOf("tags", ("vip", "lifecycle")),
    ]
)
filters = st.builds(
    Filter, st.lists(tests, max_size=2).map(tuple), st.none() | st.lists(tests, min_size=1, max_size=2).map(tuple),
    st.lists(tests, max_size=2).map(tuple),
)  # fmt: skip


def meets(one: Condition, stated: Mapping[str, Any], tags: frozenset[str]) -> bool:
    """Whether a user meets a condition, by hand."""
    match one:
        case AnyOf("tags", values):
            return bool(tags & set(values))
        case AnyOf(name, values):
            value = stated.get(name)
            return (
                value in values if isinstance(value, str) else isinstance(value, tuple) and bool({*value} & {*values})
            )
        case Range("age"):
            return 18.0 <= stated.get("age", 0.0) <= 130.0
        case Range("birth_date"):
            return stated.get("birth_date") == "1999-12-31"
    return stated.get("member") is True


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(people, st.frozensets(st.sampled_from(["vip", "lifecycle", "new"]))), max_size=6), filters)
def test_who_passes_is_who_meets_the_conditions(
    users: list[tuple[dict[str, Any], frozenset[str]]], wanted: Filter
) -> None:
    """A value that is not as it is declared is none, and what somebody lacks meets no condition."""
    if not (wanted.must or wanted.should or wanted.must_not):
        return
    assert user_filter_faults(wanted, DECLARED, (), ("diet",)) == []
    found = users_passing(wanted, [stated for stated, _ in users], [tags for _, tags in users], DECLARED, NOW)
    expected = [
        all(meets(one, *user) for one in wanted.must)
        and (wanted.should is None or any(meets(one, *user) for one in wanted.should))
        and not any(meets(one, *user) for one in wanted.must_not)
        for user in users
    ]
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (AnyOf("shoe", ("x",)), "which no user has"),
        (AnyOf("diet", ("vegan",)), "goes by diet: sensitive"),
        (AnyOf("tags", ("eats:vegan",)), "goes by diet: sensitive"),
        (AnyOf("tags", ("deep",)), "goes by diet: sensitive"),
        (Is("age", True), "is not for age, a number"),
    ],
)
def test_a_filter_goes_by_what_is_declared_and_not_sensitive(condition: Condition, said: str) -> None:
    """By way of a tag of a tag neither, and within a filter within."""
    rules = [
        read_rule(name, when, "", "", DECLARED, lambda *_: None)
        for name, when in (("eats", "diet"), ("deep", 'has_tag("eats")'))
    ]
    wanted = Filter(must_not=(Filter(must=(condition,)),))
    found = user_filter_faults(wanted, DECLARED, [rule for rule in rules if rule is not None], ("diet",))
    assert any(said in problem for _, problem in found), found


def test_the_tags_of_a_filter_are_known() -> None:
    """Those of filters within too, and nothing else."""
    wanted = Filter(must=(AnyOf("tags", ("a",)), AnyOf("city", ("b",)), Filter(should=(AnyOf("tags", ("c",)),))))
    assert tags_in(wanted) == {"a", "c"}
