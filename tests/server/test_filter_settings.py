"""A filter in TOML is the filter it says, and every fault in one is named where it stands."""

import tomllib
from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from tidings_core.filters import AllOf, AnyOf, Filter, Is, Range
from tidings_server.filter_settings import CheckedFilter

ADAPTER = TypeAdapter(CheckedFilter)


def test_a_table_is_the_filter_it_says() -> None:
    """Every test, a filter within a filter, and times with and without a zone."""
    text = """
    must = [
      { attribute = "brand", any_of = ["a", "b"] },
      { attribute = "categories", all_of = ["Home", "Light"] },
      { attribute = "price", number = { gte = 1, lt = 20.5 } },
      { filter = { should = [ { attribute = "new", flag = true }, { attribute = "stock", number = { gt = 3 } } ] } },
    ]
    must_not = [
      { attribute = "publish_time", time = { gt = 2024-05-01T12:00:00Z } },
      { attribute = "expire_time", time = { lte = 2024-05-01T12:00:00 } },
    ]
    """
    moment = datetime(2024, 5, 1, 12, tzinfo=UTC).timestamp()
    assert ADAPTER.validate_python(tomllib.loads(text)).filter == Filter(
        (
            AnyOf("brand", ("a", "b")),
            AllOf("categories", ("Home", "Light")),
            Range("price", "number", gte=1.0, lt=20.5),
            Filter(should=(Is("new", True), Range("stock", gt=3.0))),
        ),
        None,
        (Range("publish_time", "time", gt=moment), Range("expire_time", "time", lte=moment)),
    )


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("must = [{attribute = 'a'}]", ("must", 0), "has no test; give one of any_of, all_of"),
        ("must = [{attribute = 'a', flag = true, any_of = ['b']}]", ("must", 0), "has any_of and flag; give one of"),
        ("must = [{any_of = ['b']}]", ("must", 0), "must name an attribute"),
        ("must = [{attribute = 'a', filter = {}}]", ("must", 0), "has an attribute beside a filter"),
        ("must = [{attribute = 'a', is = true}]", ("must", 0, "is"), "not permitted"),
        ("must = [{attribute = 'a', number = {less = 1}}]", ("must", 0, "number", "less"), "not permitted"),
        ("must = [{attribute = 'a', any_of = []}]", ("must", 0, "any_of"), "is empty; name a value"),
        ("must = [{attribute = 'a', number = {gt = 2, lt = 1}}]", ("must", 0, "number"), "lets nothing through"),
        ("must = [{attribute = 'a', number = {gt = nan}}]", ("must", 0, "number"), "must be a finite number"),
        ("should = []", ("should",), "is empty, and of nothing none can be met"),
        ("", (), "is empty; name a condition"),
        ("must = [{filter = {}}]", ("must", 0, "filter"), "is empty; name a condition"),
    ],
)
def test_a_fault_is_named_where_it_stands(text: str, place: tuple[str | int, ...], said: str) -> None:
    """The place is that of the table, and what is wrong says the way out."""
    with pytest.raises(ValidationError) as refused:
        ADAPTER.validate_python(tomllib.loads(text))
    (fault,) = refused.value.errors()
    assert fault["loc"] == place
    assert said in fault["msg"]
