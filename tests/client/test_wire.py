"""The conversions between the client's values and the wire, without a connection."""

import copy
import dataclasses
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

import tidings
from tidings import wire, wire_events, wire_profile, wire_push
from tidings.v1 import (
    change_pb2,
    event_pb2,
    event_service_pb2,
    item_pb2,
    profile_service_pb2,
    push_service_pb2,
    recommendation_service_pb2,
    release_service_pb2,
)

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
        (recommendation_service_pb2.RecommendExamples(), tidings.RecommendExamples),
        (recommendation_service_pb2.SourceScore(), tidings.SourceScore),
        (recommendation_service_pb2.Reason(), tidings.Reason),
        (recommendation_service_pb2.Degradation(), tidings.Degradation),
        (release_service_pb2.Release(), tidings.Release),
        (release_service_pb2.PromoteReleaseResponse(), tidings.Promotion),
        (release_service_pb2.RollbackReleaseResponse(), tidings.Promotion),
        (event_pb2.EventItem(), tidings.EventItem),
        (event_service_pb2.RecordEventsResponse(), tidings.Recorded),
        (event_service_pb2.EventVerdict(), tidings.EventVerdict),
        (event_service_pb2.EventFault(), tidings.EventFault),
        (profile_service_pb2.Profile(), tidings.Profile),
        (profile_service_pb2.EventCount(), tidings.EventCount),
        (profile_service_pb2.RecentEvent(), tidings.RecentEvent),
        (profile_service_pb2.BoughtItem(), tidings.BoughtItem),
        (profile_service_pb2.Affinity(), tidings.Affinity),
        (profile_service_pb2.Rating(), tidings.Rating),
        (profile_service_pb2.Search(), tidings.Search),
        (profile_service_pb2.Visit(), tidings.Visit),
        (profile_service_pb2.PriceAffinity(), tidings.PriceAffinity),
        (profile_service_pb2.MergeProfilesResponse(), tidings.Merged),
        (profile_service_pb2.ProfileAttribute(), tidings.ProfileAttribute),
        (profile_service_pb2.ProfileTag(), tidings.ProfileTag),
        (profile_service_pb2.UpdateProfileResponse(), tidings.Updated),
        (change_pb2.TagSetting(), tidings.TagSetting),
        (push_service_pb2.Push(), tidings.Push),
        (push_service_pb2.SendPushResponse(), tidings.SentPush),
    ],
)
def test_no_field_of_the_wire_is_left_behind(message: Message, values: Any) -> None:
    """The client's values have exactly the fields of their messages."""
    names = {field.name for field in dataclasses.fields(values)}
    assert names == set(message.DESCRIPTOR.fields_by_name)


def test_no_field_of_an_event_is_left_behind_but_the_one_that_only_the_log_has() -> None:
    """What is said of a user is recorded by calls of its own."""
    names = {field.name for field in dataclasses.fields(tidings.Event)}
    assert names == set(event_pb2.Event.DESCRIPTOR.fields_by_name) - {"change"}


@pytest.mark.parametrize(
    ("wire_enum", "prefix", "values"),
    [
        (recommendation_service_pb2.ReasonCode, "REASON_CODE_", tidings.ReasonCode),
        (recommendation_service_pb2.DegradationCause, "DEGRADATION_CAUSE_", tidings.DegradationCause),
        (release_service_pb2.ReleaseState, "RELEASE_STATE_", tidings.ReleaseState),
        (event_pb2.EventType, "EVENT_TYPE_", tidings.EventType),
        (event_service_pb2.EventStatus, "EVENT_STATUS_", tidings.EventStatus),
        (push_service_pb2.Disposition, "DISPOSITION_", tidings.Disposition),
        (push_service_pb2.PushDecision, "PUSH_DECISION_", tidings.PushDecision),
        (push_service_pb2.SuppressReason, "SUPPRESS_REASON_", tidings.SuppressReason),
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
    recorded = event_service_pb2.RecordEventsResponse(verdicts=[{"status": 96}])
    assert wire_events.recorded(recorded, {}).verdicts[0].status is tidings.EventStatus.UNSPECIFIED
    profile = profile_service_pb2.GetProfileResponse(profile={"counts": [{"type": 95}]})
    assert wire_profile.profile(profile).counts[0].type is tidings.EventType.UNSPECIFIED
    sent = wire_push.sent_push(push_service_pb2.SendPushResponse(decision=94, reason=93))  # type: ignore[arg-type]
    assert (sent.decision, sent.reason) == ("unspecified", "unspecified")


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
    ("event", "field", "problem"),
    [
        (tidings.Event(7, "view"), "user_id", "cannot be sent"),  # type: ignore[arg-type]
        (tidings.Event("u", "look", ["a"]), "type", "must be one of view, search, add_to_cart"),
        (tidings.Event("u", "unspecified", ["a"]), "type", "must be one of view, search"),
        (tidings.Event("u", [], ["a"]), "type", "must be one of view, search"),  # type: ignore[arg-type]
        (tidings.Event("u", "view", "abc"), "items", "not one text"),
        (tidings.Event("u", "view", {"a": 1}), "items", "not one mapping"),  # type: ignore[arg-type]
        (tidings.Event("u", "view", 5), "items", "a list of items is wanted"),  # type: ignore[arg-type]
        (tidings.Event("u", "view", None), "items", "a list of items is wanted"),  # type: ignore[arg-type]
        (tidings.Event("u", "view", [1]), "items[0].item_id", "cannot be sent"),  # type: ignore[list-item]
        (tidings.Event("u", "view", ["a", tidings.EventItem("b", quantity=2**40)]), "items[1].quantity", "cannot be"),
        (tidings.Event("u", "view", value="x"), "value", "cannot be sent"),  # type: ignore[arg-type]
        (tidings.Event("u", "purchase", ["a"], value=10**400), "value", "too large"),
        (tidings.Event("u", "purchase", ["a"], value=10**5000), "value", "a very large int cannot be sent"),
        (tidings.Event("u", "view", event_time=datetime(2024, 5, 1)), "event_time", "with a time zone is wanted"),
        (tidings.Event("u", "view", event_time=1714567.0), "event_time", "datetime"),  # type: ignore[arg-type]
        (tidings.Event("u", "view", ["a"], event_id=None), "event_id", "a text is wanted"),  # type: ignore[arg-type]
        (None, "event", "a tidings.Event is wanted"),
    ],
)
def test_an_event_that_cannot_be_sent_is_rejected_alone(event: tidings.Event, field: str, problem: str) -> None:
    """Its verdict names the field and what is wanted, and the events around it are sent."""
    good = tidings.Event("u", "view", ["a"])
    request, rejected = wire_events.record_request([good, event, good])
    assert request is not None
    assert list(request.events) == [wire_events.event(good)] * 2
    ((place, verdict),) = rejected.items()
    (fault,) = verdict.faults
    assert (place, verdict.status, fault.field) == (1, tidings.EventStatus.REJECTED, field)
    assert problem in fault.description
    assert wire_events.record_request([event]) == (None, {0: verdict})


def test_every_field_that_cannot_be_sent_is_named() -> None:
    """Who mends an event hears of all its faults at once."""
    event = tidings.Event(7, "look", [1], value="x", event_time=datetime(2024, 5, 1))  # type: ignore[arg-type, list-item]
    _, rejected = wire_events.record_request(event)
    fields = [fault.field for fault in rejected[0].faults]
    assert fields == ["type", "user_id", "value", "event_time", "items[0].item_id"]
    with pytest.raises(tidings.InvalidArgument, match=r"^type must be .*; user_id 7 cannot") as caught:
        wire_events.event(event)
    assert [field for field, _ in caught.value.fields] == fields


@given(good=st.lists(st.booleans(), max_size=12))
def test_verdicts_stand_in_the_order_of_the_events(good: list[bool]) -> None:
    """Whichever events cannot be sent, each verdict is at its own event's place."""
    events = [tidings.Event(f"u{at}" if fits else 5, "view", ["a"]) for at, fits in enumerate(good)]  # type: ignore[arg-type]
    request, rejected = wire_events.record_request(events)
    answer = None
    if request is not None:
        answer = event_service_pb2.RecordEventsResponse(
            verdicts=[{"status": 2, "faults": [{"field": event.user_id}]} for event in request.events]
        )
    verdicts = wire_events.recorded(answer, rejected).verdicts
    expected = [("duplicate", f"u{at}") if fits else ("rejected", "user_id") for at, fits in enumerate(good)]
    assert [(verdict.status, verdict.faults[0].field) for verdict in verdicts] == expected


@pytest.mark.parametrize("events", ["view", b"view", {"user_id": "u", "type": "view"}, None, 5])
def test_what_is_no_list_of_events_is_refused_as_one(events: Any) -> None:
    """A wrong argument is one mistake, not as many rejected events as it has parts."""
    with pytest.raises(
        tidings.InvalidArgument, match=r"^events .* cannot be sent: a tidings\.Event is wanted, or a list"
    ):
        wire_events.record_request(events)


@given(
    time=st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))]))
)
def test_the_time_of_an_event_is_sent_to_the_microsecond(time: datetime) -> None:
    """Whatever its zone, an event's time is the same instant on the wire; the ends of the calendar are refused."""
    event = tidings.Event("u", "view", ["a"], event_time=time)
    if time.year in (1, 9999) and not _fits_utc(time):
        with pytest.raises(tidings.InvalidArgument, match=r"^event_time "):
            wire_events.event(event)
    else:
        assert wire_events.event(event).event_time.ToDatetime(UTC) == time


def _fits_utc(time: datetime) -> bool:
    try:
        time.astimezone(UTC)
    except OverflowError:
        return False
    return True


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"title": 5}, "title"),
        ({"item_ids": "abc"}, "item_ids"),
        ({"data": {"a": 1}}, "data['a']"),
        ({"data": {1: "a"}}, "data[1]"),
        ({"ttl": "1h"}, "ttl"),
        ({"ttl": float("nan")}, "ttl"),
        ({"ttl": 1e300}, "ttl"),
        ({"request_id": "\udc80"}, "request_id"),
    ],
)
def test_a_push_that_cannot_be_sent_is_refused_by_field(arguments: dict[str, Any], field: str) -> None:
    """What does not fit the wire is named, and nothing is sent."""
    whole: dict[str, Any] = dict.fromkeys(("title", "body", "url", "collapse_key", "request_id"), "t")
    whole |= {"item_ids": (), "data": None, "ttl": None} | arguments
    with pytest.raises(tidings.InvalidArgument, match="cannot be sent") as caught:
        wire_push.send_request("u", **whole)
    assert caught.value.fields[0][0] == field


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
        tidings.StorageFull("full", code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="STORAGE_FULL", retry_after=5.0),
        tidings.NotFound("gone", code=grpc.StatusCode.NOT_FOUND),
    ],
)
def test_an_error_can_cross_to_another_process(error: tidings.TidingsError) -> None:
    """Pickled or copied, an error keeps its kind and all it says."""
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert (str(twin), vars(twin)) == (str(error), vars(error))
