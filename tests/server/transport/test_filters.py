"""A filter on the wire is the filter it says, or is refused with every fault named by its place."""

from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_filters import filters as any_filters
from tidings.v1 import filter_pb2 as pb
from tidings_core.filters import MAX_DEPTH, AllOf, AnyOf, Condition, Filter, Is, Range, faults
from tidings_server.transport.filters import decode_filter


def message(wanted: Filter) -> pb.Filter:
    """A filter as a message, field by field."""
    return pb.Filter(
        must=[condition(one) for one in wanted.must],
        should=[condition(one) for one in wanted.should or ()],
        must_not=[condition(one) for one in wanted.must_not],
    )


def condition(wanted: Condition) -> pb.Condition:
    """A condition as a message."""
    match wanted:
        case AnyOf(attribute, values):
            return pb.Condition(attribute=attribute, any_of=pb.Texts(values=values))
        case AllOf(attribute, values):
            return pb.Condition(attribute=attribute, all_of=pb.Texts(values=values))
        case Is(attribute, value):
            return pb.Condition(attribute=attribute, flag=value)
        case Filter():
            return pb.Condition(filter=message(wanted))
        case Range(attribute, kind):
            given_bounds = {name: getattr(wanted, name) for name in ("gte", "gt", "lte", "lt")}
            known = {name: value for name, value in given_bounds.items() if value is not None}
            if kind == "number":
                return pb.Condition(attribute=attribute, number=pb.NumberRange(**known))
            times: dict[str, Any] = {name: {"seconds": int(value)} for name, value in known.items()}
            return pb.Condition(attribute=attribute, time=pb.TimeRange(**times))


@given(any_filters)
def test_what_was_sent_is_what_is_asked(wanted: Filter) -> None:
    """Any filter comes through unchanged, and is as faulty as it was."""
    got, wrong = decode_filter(pb.Filter.FromString(message(wanted).SerializeToString()))
    if wanted.should != () and not any("should" in place for place, _ in faults(wanted)):
        assert list(wrong) == faults(wanted)
        assert wrong or got == wanted


@pytest.mark.parametrize(
    ("given_json", "place", "said"),
    [
        ({"must": [{"attribute": "a"}]}, "must[0]", "asks nothing; give one of any_of, all_of, number"),
        ({"should": [{"attribute": "a", "filter": {}}]}, "should[0].attribute", "stands beside a filter"),
        ({"must": [{"attribute": "a", "anyOf": {}}]}, "must[0].any_of", "is empty; name a value"),
        ({"mustNot": [{"attribute": "a", "number": {}}]}, "must_not[0].number", "has no bound"),
        ({"must": [{"attribute": "a", "number": {"gt": "NaN"}}]}, "must[0].number", "gt is nan"),
        ({"must": [{"filter": {}}]}, "must[0].filter", "is empty; name a condition"),
        ({}, "", "is empty; name a condition"),
    ],
)
def test_a_fault_is_named_by_its_place(given_json: dict[str, Any], place: str, said: str) -> None:
    """The path of the message's fields, and the way out."""
    _, ((at, problem),) = decode_filter(json_format.ParseDict(given_json, pb.Filter()))
    assert at == place
    assert said in problem


@pytest.mark.parametrize(("seconds", "nanos"), [(10**12, 0), (-(10**12), 0), (0, -1), (0, 10**9)])
def test_a_time_that_is_none_is_refused(seconds: int, nanos: int) -> None:
    """Beyond the years 1 to 9999, or with nanoseconds that are none."""
    bad = pb.Filter(must=[pb.Condition(attribute="t", time={"lt": {"seconds": seconds, "nanos": nanos}})])
    assert decode_filter(bad)[1] == [("must[0].time.lt", "is no time of the years 1 to 9999")]


@given(st.integers(MAX_DEPTH + 1, 40))
def test_a_filter_that_is_too_deep_is_refused_however_deep(depth: int) -> None:
    """Nobody's stack overflows."""
    deep = pb.Filter(must=[pb.Condition(attribute="a", flag=True)])
    for _ in range(depth - 1):
        deep = pb.Filter(must=[pb.Condition(filter=deep)])
    _, ((at, problem),) = decode_filter(deep)
    assert at == "must[0].filter." * (MAX_DEPTH - 1) + "must[0].filter"
    assert problem == f"is more than {MAX_DEPTH} filters deep"
