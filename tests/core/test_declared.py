"""Declared attributes: a value fits or is refused by name, with the limit and the way out."""

from datetime import date

import pytest

from tidings_core.changes import AttributeValue
from tidings_core.declared import BUILT_IN, Declaration, value_fault, values_faults

NOW = 1_700_000_000.0
DECLARED = {
    one.name: one
    for one in (
        *BUILT_IN.values(),
        Declaration("colour", "tags", ("red", "blue")),
        Declaration("size", "keyword", ("S", "M")),
        Declaration("joined", "time", past=True),
        Declaration("member", "flag"),
        Declaration("score", "number", least=-1.0, most=1.0),
    )
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("birth_date", "2001-05-03"),
        ("age", 25.0),
        ("gender", "male"),
        ("city", "北京"),
        ("interests", ("fashion", "tech")),
        ("colour", ("blue",)),
        ("size", "M"),
        ("joined", NOW),
        ("member", False),
        ("score", 0.5),
    ],
)
def test_a_value_of_its_kind_and_within_its_bounds_fits(name: str, value: AttributeValue) -> None:
    """Every kind has values without fault."""
    assert value_fault(DECLARED[name], value, NOW) == ""


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("birth_date", "2001-13-03", "which is no day; write it as in 2001-05-03"),
        ("birth_date", "20010503", "which is no day"),
        ("birth_date", "1899-12-31", "must be 1900-01-01 or more"),
        ("birth_date", "2024-01-01", "lies ahead"),
        ("birth_date", 25.0, "must be a day as a text"),
        ("age", "25", "must be a number"),
        ("age", 131.0, "is 131, may be 130 at most"),
        ("age", float("nan"), "must be a number"),
        ("age", True, "must be a number"),
        ("gender", "", "has 0 bytes, must have 1 to 256"),
        ("gender", "ma\nle", "control character"),
        ("gender", ("male",), "must be one text"),
        ("city", "x" * 257, "has 257 bytes"),
        ("interests", (), "remove the attribute"),
        ("interests", ("a",) * 65, "has 65 texts, may have 64 at most"),
        ("interests", ("a", "b\x7f"), "[1] holds a control character"),
        ("colour", ("red", "pink"), "[1] is 'pink'; allowed are red, blue"),
        ("size", "XL", "is 'XL'; allowed are S, M"),
        ("joined", NOW + 60, "lies ahead"),
        ("joined", 1e18, "years 1 to 9999"),
        ("member", 1.0, "must be true or false"),
        ("score", -1.5, "is -1.5, must be -1 or more"),
    ],
)
def test_a_value_that_does_not_fit_is_told_why(name: str, value: AttributeValue, said: str) -> None:
    """The fault names what is wrong and what would do."""
    assert said in value_fault(DECLARED[name], value, NOW)


def test_all_faults_are_told_at_once_and_by_name() -> None:
    """What is not declared is told what is; a removal needs a declaration too, and no value."""
    given = {"age": 200.0, "shoe": 42.0, "gender": None, "hat": None}
    found = dict(values_faults(given, DECLARED, NOW))
    assert set(found) == {"attributes['age']", "attributes['shoe']", "attributes['hat']"}
    assert "declared are age, birth_date" in found["attributes['shoe']"]


def test_a_birth_date_of_today_has_begun() -> None:
    """The bound is the day in UTC."""
    today = date.fromtimestamp(NOW).isoformat()
    assert value_fault(DECLARED["birth_date"], today, NOW) == ""
