"""The conversions between the client's values and the wire, without a connection."""

import copy
import dataclasses
import pickle
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

import tidings
from tidings import wire
from tidings.v1 import item_pb2, recommendation_service_pb2, release_service_pb2

TEXT = st.text(max_size=8)
TIMES = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))


def _timestamp(time: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


@given(
    item=st.builds(
        item_pb2.Item,
        item_id=TEXT,
        title=TEXT,
        categories=st.lists(TEXT, max_size=3),
        price=st.none() | st.floats(allow_nan=False),
        currency=TEXT,
        publish_time=st.none() | TIMES.map(_timestamp),
        attributes=st.dictionaries(TEXT, TEXT, max_size=3),
    ),
    score=st.floats(width=32, allow_nan=False),
)
def test_an_item_arrives_as_it_was_sent(item: item_pb2.Item, score: float) -> None:
    """Every field of an item comes out with its value, and what is unset as None."""
    sent = recommendation_service_pb2.RecommendResponse(
        items=[recommendation_service_pb2.RecommendedItem(item=item, score=score)]
    )
    (got,) = wire.recommendation(sent).items
    assert (got.score, got.item.item_id, got.item.title, got.item.currency) == (
        score,
        item.item_id,
        item.title,
        item.currency,
    )
    assert (got.item.categories, got.item.attributes) == (tuple(item.categories), dict(item.attributes))
    assert got.item.price == (item.price if item.HasField("price") else None)
    assert got.item.publish_time == (
        item.publish_time.ToDatetime(tzinfo=UTC) if item.HasField("publish_time") else None
    )
    assert got.item.expire_time is None


def test_a_price_of_zero_is_a_price() -> None:
    """Zero and unset are different: a free item costs 0.0, an unpriced one None."""
    items = [
        recommendation_service_pb2.RecommendedItem(item=item_pb2.Item(item_id="free", price=0.0)),
        recommendation_service_pb2.RecommendedItem(item=item_pb2.Item(item_id="unpriced")),
    ]
    answer = wire.recommendation(recommendation_service_pb2.RecommendResponse(items=items))
    assert [item.item.price for item in answer.items] == [0.0, None]


@pytest.mark.parametrize(
    ("message", "values"),
    [
        (item_pb2.Item(), tidings.Item),
        (recommendation_service_pb2.RecommendedItem(), tidings.RecommendedItem),
        (recommendation_service_pb2.RecommendResponse(), tidings.Recommendation),
        (recommendation_service_pb2.RecommendRequest(), tidings.RecommendQuery),
        (recommendation_service_pb2.SourceScore(), tidings.SourceScore),
        (recommendation_service_pb2.Reason(), tidings.Reason),
        (recommendation_service_pb2.Degradation(), tidings.Degradation),
        (release_service_pb2.Release(), tidings.Release),
        (release_service_pb2.PromoteReleaseResponse(), tidings.Promotion),
        (release_service_pb2.RollbackReleaseResponse(), tidings.Promotion),
    ],
)
def test_no_field_of_the_wire_is_left_behind(message: Message, values: Any) -> None:
    """The client's values have exactly the fields of their messages."""
    names = {field.name for field in dataclasses.fields(values)}
    assert names == set(message.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize(
    ("wire_enum", "prefix", "values"),
    [
        (recommendation_service_pb2.ReasonCode, "REASON_CODE_", tidings.ReasonCode),
        (recommendation_service_pb2.DegradationCause, "DEGRADATION_CAUSE_", tidings.DegradationCause),
        (release_service_pb2.ReleaseState, "RELEASE_STATE_", tidings.ReleaseState),
    ],
)
def test_every_name_of_an_enum_is_known(wire_enum: Any, prefix: str, values: type[tidings.ReasonCode]) -> None:
    """The client's enums have every name of the wire's, short and in lower case."""
    names = [name.removeprefix(prefix).lower() for name in wire_enum.keys()]  # noqa: SIM118
    assert [value.value for value in values] == names


def test_names_newer_than_the_client_read_as_unspecified() -> None:
    """A newer server's enum numbers break nothing."""
    answer = recommendation_service_pb2.RecommendResponse.FromString(
        recommendation_service_pb2.RecommendResponse(
            items=[recommendation_service_pb2.RecommendedItem(reasons=[{"code": 99}])],
            degraded=[{"cause": 98, "stage": "ranker"}],
        ).SerializeToString()
    )
    got = wire.recommendation(answer)
    assert got.items[0].reasons == (tidings.Reason(tidings.ReasonCode.UNSPECIFIED, ""),)
    assert got.degraded == (tidings.Degradation(tidings.DegradationCause.UNSPECIFIED, "ranker", ""),)
    listed = release_service_pb2.ListReleasesResponse(releases=[{"state": 97}])
    assert wire.releases(listed)[0].state is tidings.ReleaseState.UNSPECIFIED


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (tidings.RecommendQuery("u", k=10**12), "k"),
        (tidings.RecommendQuery("u", k=2.5), "k"),  # type: ignore[arg-type]
        (tidings.RecommendQuery(7), "user_id"),  # type: ignore[arg-type]
        (tidings.RecommendQuery("\udc80"), "user_id"),
        (tidings.RecommendQuery("u", context_item_ids="abc"), "context_item_ids"),
        (tidings.RecommendQuery("u", exclude_item_ids=[1]), "exclude_item_ids"),  # type: ignore[list-item]
        (tidings.RecommendQuery("u", exclude_item_ids=5), "exclude_item_ids"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_sent_is_refused_by_field(query: tidings.RecommendQuery, field: str) -> None:
    """A value that does not fit the wire is an InvalidArgument that names the field, also within a batch."""
    with pytest.raises(tidings.InvalidArgument) as caught:
        wire.recommend_request(query)
    assert [name for name, _ in caught.value.fields] == [field]
    assert isinstance(caught.value, ValueError)
    with pytest.raises(tidings.InvalidArgument, match=rf"^requests\[1\]\.{field} "):
        wire.batch_request([tidings.RecommendQuery("u"), query])


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"address": ""}, "address"),
        ({"address": "localhost"}, "address"),
        ({"address": "http://localhost:50051"}, "address"),
        ({"timeout": 0.0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 6}, "max_attempts"),
    ],
)
def test_a_client_that_could_not_work_is_not_made(arguments: dict[str, object], field: str) -> None:
    """Settings that gRPC would misread are refused with the field, the value and what is wanted."""
    with pytest.raises(tidings.InvalidArgument, match=rf"^{field} must be .*, not ") as caught:
        tidings.Client(**arguments)  # type: ignore[arg-type]
    assert caught.value.fields[0][0] == field


@pytest.mark.parametrize(
    "error",
    [
        tidings.InvalidArgument("no", reason="R", fields=[("k", "is 0")]),
        tidings.Overloaded("busy", code=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=0.5),
        tidings.NotFound("gone", code=grpc.StatusCode.NOT_FOUND),
    ],
)
def test_an_error_can_cross_to_another_process(error: tidings.TidingsError) -> None:
    """Pickled or copied, an error keeps its kind and all it says."""
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert (str(twin), vars(twin)) == (str(error), vars(error))
