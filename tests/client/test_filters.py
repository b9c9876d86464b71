"""The client's filters say on the wire what they say in Python, and what cannot be said is refused by its place."""

import datetime as dt
from typing import Any

import pytest
from google.protobuf import json_format

import tidings
from tidings import filters, wire
from tidings.v1 import recommendation_service_pb2

MOMENT = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)


def sent(wanted: tidings.Filter) -> Any:
    """The filter as JSON of the request."""
    request = wire.recommend_request(tidings.RecommendQuery("u", filter=wanted))
    assert isinstance(request, recommendation_service_pb2.RecommendRequest)
    return json_format.MessageToDict(request)["filter"]


def test_a_filter_goes_out_as_it_was_built() -> None:
    """Every kind of condition, a filter within a filter, numbers and times."""
    wanted = tidings.Filter(
        must=[
            tidings.any_of("brand", "Lumo", "Aurora"),
            tidings.all_of("categories", "Home", "Light"),
            tidings.between("price", 1, 20.5),
            tidings.Filter(should=[tidings.flag("new"), tidings.more_than("stock", 0)]),
        ],
        must_not=[tidings.less_than("publish_time", MOMENT), tidings.flag("new", False)],
    )
    assert sent(wanted) == {
        "must": [
            {"attribute": "brand", "anyOf": {"values": ["Lumo", "Aurora"]}},
            {"attribute": "categories", "allOf": {"values": ["Home", "Light"]}},
            {"attribute": "price", "number": {"gte": 1.0, "lte": 20.5}},
            {"filter": {"should": [{"attribute": "new", "flag": True}, {"attribute": "stock", "number": {"gt": 0.0}}]}},
        ],
        "mustNot": [
            {"attribute": "publish_time", "time": {"lt": "2024-05-01T12:00:00Z"}},
            {"attribute": "new", "flag": False},
        ],
    }


@pytest.mark.parametrize(
    ("texts", "same"),
    [
        (["brand=Lumo, Aurora"], tidings.Filter([tidings.any_of("brand", "Lumo", "Aurora")])),
        (["brand!=Lumo"], tidings.Filter([], None, [tidings.any_of("brand", "Lumo")])),
        (["new=true", "old=false"], tidings.Filter([tidings.flag("new"), tidings.flag("old", False)])),
        (["new!=true"], tidings.Filter([], None, [tidings.flag("new")])),
        (["price<20", "price>=5"], tidings.Filter([tidings.less_than("price", 20.0), tidings.at_least("price", 5.0)])),
        (["size == 38"], tidings.Filter([tidings.between("size", 38.0, 38.0)])),
        (["since>2024-05-01T12:00"], tidings.Filter([tidings.more_than("since", MOMENT)])),
        (["since<=2024-05-01T14:00+02:00"], tidings.Filter([tidings.at_most("since", MOMENT)])),
    ],
)
def test_short_texts_are_filters(texts: list[str], same: tidings.Filter) -> None:
    """What `--where` takes."""
    parsed = filters.parse(texts)
    assert parsed is not None
    assert sent(parsed) == sent(same)


def test_no_text_is_no_filter() -> None:
    """Nothing asked, nothing sent."""
    assert filters.parse([]) is None


@pytest.mark.parametrize(
    "text", ["", "price", "=3", "price<", "price<cheap", "the price<3", "a=b=", "price<2024-13-01"]
)
def test_a_text_that_is_no_filter_is_told(text: str) -> None:
    """With what it should look like."""
    if text == "a=b=":
        assert filters.parse([text]) == tidings.Filter([tidings.any_of("a", "b=")], None, [])
        return
    with pytest.raises(ValueError, match="must"):
        filters.parse([text])


def nested(depth: int) -> tidings.Filter:
    """A filter so deep."""
    inner = tidings.Filter([tidings.flag("a")])
    for _ in range(depth - 1):
        inner = tidings.Filter([inner])
    return inner


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ("brand=a", "filter"),
        (tidings.Filter(should=[]), "filter.should"),
        (tidings.Filter(tidings.flag("a")), "filter.must"),  # type: ignore[arg-type]
        (tidings.Filter([], [7]), "filter.should[0]"),  # type: ignore[list-item]
        (tidings.Filter([tidings.Condition("a")]), "filter.must[0]"),
        (tidings.Filter([tidings.Condition("a", flag=True, any_of=["b"])]), "filter.must[0]"),
        (tidings.Filter([tidings.Condition("a", any_of="bc")]), "filter.must[0].any_of"),
        (tidings.Filter([tidings.between("a", 1, MOMENT)]), "filter.must[0]"),
        (tidings.Filter([tidings.at_most("a", "20")]), "filter.must[0].number.lte"),  # type: ignore[arg-type]
        (tidings.Filter([tidings.at_most("a", MOMENT.replace(tzinfo=None))]), "filter.must[0].time.lte"),
        (nested(5), "filter.must[0].filter.must[0].filter.must[0].filter.must[0].filter"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_its_place(wanted: Any, field: str) -> None:
    """Before any call, as an InvalidArgument that names the field."""
    with pytest.raises(tidings.InvalidArgument) as refused:
        sent(wanted)
    assert [name for name, _ in refused.value.fields] == [field]


def test_a_filter_may_be_four_deep() -> None:
    """The server's limit."""
    assert sent(nested(4))
