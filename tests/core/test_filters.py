"""Filters pass exactly the items that plain Python lets pass, and every fault in one is named."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings_core.attributes import Attribute, Flag, Keyword, Number, Tags, Time, attribute_of
from tidings_core.filters import (
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_VALUES,
    AllOf,
    AnyOf,
    Condition,
    Filter,
    Is,
    Range,
    faults,
    passing,
)

KINDS = {"brand": "keyword", "tags": "tags", "price": "number", "since": "time", "new": "flag"}
TEXTS = ["", "a", "b", "ä", "灯"]
text, number = st.sampled_from(TEXTS[1:]), st.integers(-2, 2).map(float)
items = st.lists(
    st.fixed_dictionaries(
        {
            "brand": st.one_of(st.none(), st.sampled_from(TEXTS)),
            "tags": st.one_of(st.none(), st.lists(st.sampled_from(TEXTS), max_size=4)),
            "price": st.one_of(st.none(), number),
            "since": st.one_of(st.none(), number),
            "new": st.one_of(st.none(), st.booleans()),
        }
    ),
    max_size=8,
)
bound = st.one_of(st.none(), number)
texts = st.lists(st.one_of(text, st.just("nobody")), min_size=1, max_size=3).map(tuple)
conditions: st.SearchStrategy[Condition] = st.one_of(
    st.builds(AnyOf, st.sampled_from(["brand", "tags", "price", "unknown"]), texts),
    st.builds(AllOf, st.sampled_from(["tags", "brand"]), texts),
    st.builds(Range, st.just("price"), st.just("number"), bound, bound, bound, bound),
    st.builds(Range, st.just("since"), st.just("time"), bound, bound, bound, bound),
    st.builds(Is, st.just("new"), st.booleans()),
)


def some(of: st.SearchStrategy[Condition]) -> st.SearchStrategy[Filter]:
    """Filters of such conditions."""
    clause = st.lists(of, max_size=3).map(tuple)
    return st.builds(Filter, clause, st.one_of(st.none(), clause), clause)


filters = some(st.one_of(conditions, some(conditions)))


def attributes(given_items: list[dict[str, Any]]) -> dict[str, Attribute]:
    """The items' attributes as arrays."""
    return {name: attribute_of(kind, [item[name] for item in given_items]) for name, kind in KINDS.items()}  # type: ignore[arg-type]


def lets_pass(wanted: Filter, item: Mapping[str, Any]) -> bool:
    """A filter in plain Python."""
    should = wanted.should
    return (
        all(meets(one, item) for one in wanted.must)
        and (should is None or any(meets(one, item) for one in should))
        and not any(meets(one, item) for one in wanted.must_not)
    )


def meets(condition: Condition, item: Mapping[str, Any]) -> bool:
    """A condition in plain Python."""
    match condition:
        case Filter():
            return lets_pass(condition, item)
        case AnyOf(attribute, values) | AllOf(attribute, values):
            has = item.get(attribute)
            if not isinstance(has, str | list):
                return False
            there = {one for one in ([has] if isinstance(has, str) else has) if one}
            return bool(there & {*values}) if isinstance(condition, AnyOf) else {*values} <= there
        case Range(attribute, _, gte, gt, lte, lt):
            value = item.get(attribute)
            return (
                value is not None
                and (gte is None or value >= gte)
                and (gt is None or value > gt)
                and (lte is None or value <= lte)
                and (lt is None or value < lt)
            )
        case Is(attribute, wanted):
            return item.get(attribute) is wanted


@given(items, filters)
def test_a_filter_passes_exactly_what_plain_python_lets_pass(given_items: list[dict[str, Any]], wanted: Filter) -> None:
    """Also where an item lacks what is asked about: it meets no condition on it, and so passes must_not."""
    got = passing(wanted, attributes(given_items), len(given_items))
    assert got.tolist() == [lets_pass(wanted, item) for item in given_items]


@given(items, st.lists(st.integers(-1, 7), max_size=10))
def test_attributes_of_other_rows_are_those_of_the_items_there(
    given_items: list[dict[str, Any]], rows: list[int]
) -> None:
    """take() follows rows, and gives nothing where there is none: what a value means does not change."""
    rows = [row for row in rows if row < len(given_items)]
    for found in attributes(given_items).values():
        taken = found.take(np.array(rows, np.int32))
        nothing = () if isinstance(found, Tags) else None
        assert len(taken) == len(rows)
        assert [taken.at(at) for at in range(len(rows))] == [nothing if row < 0 else found.at(row) for row in rows]


SHOP: dict[str, Attribute] = {
    "brand": Keyword.of(["a"]),
    "tags": Tags.of([["a"]]),
    "price": Number.of([1.0]),
    "since": Time.of([1.0]),
    "new": Flag.of([True]),
}
GOOD = AnyOf("brand", ("a",))


@pytest.mark.parametrize(
    ("condition", "place", "said"),
    [
        (AnyOf("colour", ("red",)), "attribute", "'colour', which no item has; there are brand .keyword., new .flag."),
        (AnyOf("", ("red",)), "attribute", "has 0 bytes"),
        (AnyOf("price", ("red",)), "any_of", "is not for price, a number; use number"),
        (AllOf("new", ("a",)), "all_of", "is not for new, a flag; use flag"),
        (AllOf("brand", ("a", "b")), "all_of", "several texts of brand, of which one item has one"),
        (AnyOf("brand", ()), "any_of", "is empty; name a value"),
        (AnyOf("brand", ("a", "")), r"any_of\[1\]", "has 0 bytes"),
        (AnyOf("brand", ("a\n",)), r"any_of\[0\]", "control character"),
        (Range("brand", lt=2.0), "number", "is not for brand, a keyword; use any_of"),
        (Range("since", lt=2.0), "number", "is not for since, a time; use time"),
        (Range("price", "time", lt=2.0), "time", "is not for price, a number; use number"),
        (Range("price"), "number", "has no bound"),
        (Range("price", lt=math.nan), "number", "lt is nan: a bound must be a finite number"),
        (Range("price", gt=-math.inf), "number", "gt is -inf: a bound must be a finite number"),
        (Range("price", gte=1.0, gt=1.0), "number", "has both gte and gt"),
        (Range("price", gte=2.0, lte=1.0), "number", "lets nothing through: no number is gte 2 and lte 1"),
        (Range("price", gte=1.0, lt=1.0), "number", "lets nothing through"),
        (Is("price", True), "flag", "is not for price, a number; use number"),
        (Filter(), "filter", "is empty; name a condition"),
        (Filter(must=(GOOD,), should=()), "filter.should", "is empty, and of nothing none can be met"),
    ],
)
def test_every_fault_is_named_with_its_place(condition: Condition, place: str, said: str) -> None:
    """What cannot be meant is refused, whichever clause it stands in, and what is wrong elsewhere is told too."""
    wanted = Filter(must=(GOOD, Filter(should=(condition,))), must_not=(Is("new", False), condition))
    found = faults(wanted, SHOP)
    assert len(found) == 2
    for (at, problem), clause in zip(found, (r"must\[1\].filter.should\[0\]", r"must_not\[1\]"), strict=True):
        assert re.fullmatch(f"{clause}.{place}", at), at
        assert re.search(said, problem), problem


def test_a_filter_is_good_or_too_large() -> None:
    """A filter may be as deep and as large as the limits say, and no more."""
    deep = Filter(must=(GOOD,))
    for _ in range(MAX_DEPTH - 1):
        deep = Filter(must=(deep,))
    assert faults(deep, SHOP) == []
    assert "filters deep" in faults(Filter(must=(deep,)), SHOP)[0][1]
    assert faults(Filter(must=(GOOD,) * MAX_CONDITIONS), SHOP) == []
    assert faults(Filter(must=(GOOD,) * (MAX_CONDITIONS + 1)), SHOP) == [
        ("", f"has {MAX_CONDITIONS + 1} conditions, may have {MAX_CONDITIONS} at most")
    ]
    many = AnyOf("brand", tuple(str(at) for at in range(MAX_VALUES)))
    assert faults(Filter(must=(many,)), SHOP) == []
    assert "values" in faults(Filter(must=(many, GOOD)), SHOP)[0][1]


def test_by_itself_a_filter_is_asked_only_what_it_says() -> None:
    """Without a release, unknown attributes are no fault; contradictions are."""
    assert faults(Filter(must=(AnyOf("colour", ("red",)),))) == []
    assert faults(Filter(must=(Range("colour"),))) != []
