"""A running server answers, refuses what is wrong by name, and outlives every bad caller."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.server.conftest import Shop
from tests.server.end_to_end.conftest import Stubs, reason
from tests.support.server import RunningServer
from tidings.v1 import recommendation_service_pb2 as pb


def recommend(ask: Stubs, **fields: object) -> pb.RecommendResponse:
    """One answer."""
    return ask.recommendation.Recommend(pb.RecommendRequest(**fields), timeout=30)  # type: ignore[arg-type]


def raw(ask: Stubs, path: str) -> Callable[[bytes], bytes]:
    """A method that takes and gives bytes."""
    method: Any = ask.channel.unary_unary(path)
    return lambda body: method(body, timeout=30)


def test_a_user_gets_items_of_the_group_they_like(ask: Stubs, built_shop: Shop) -> None:
    """From the wire to the index and back: user 7 likes group 1."""
    answer = recommend(ask, user_id="user-7", k=5, request_id="page-1")
    assert [item.item.categories for item in answer.items] == [["group-1"]] * 5
    assert answer.release_id == built_shop.a
    assert answer.request_id == "page-1"
    assert answer.release_age_seconds > 0
    assert not answer.degraded


def test_an_unknown_user_gets_what_is_trending_and_the_reason(ask: Stubs) -> None:
    """A new visitor has a full page."""
    answer = recommend(ask, user_id="never seen", k=10)
    assert len(answer.items) == 10
    assert {reason.code for item in answer.items for reason in item.reasons} == {pb.REASON_CODE_TRENDING}
    assert [one.cause for one in answer.degraded] == [pb.DEGRADATION_CAUSE_UNKNOWN_USER]


def test_a_batch_is_answered_in_order(ask: Stubs) -> None:
    """Each request has its answer, in its place."""
    requests = [pb.RecommendRequest(user_id=f"user-{n}", k=3, request_id=str(n)) for n in range(100)]
    answer = ask.recommendation.BatchRecommend(pb.BatchRecommendRequest(requests=requests), timeout=30)
    assert [one.request_id for one in answer.responses] == [str(n) for n in range(100)]
    assert all(len(one.items) == 3 for one in answer.responses)


def test_a_filter_holds_from_the_wire_to_the_index(ask: Stubs) -> None:
    """Only what passes comes, in full; a filter that cannot be meant is refused by its place."""
    cheap = {"must": [{"attribute": "price", "number": {"lte": 30.0}}]}
    answer = recommend(ask, user_id="user-7", k=15, filter=cheap)
    assert len(answer.items) == 15
    assert all(item.item.price <= 30 for item in answer.items)
    with pytest.raises(grpc.RpcError) as raised:
        recommend(ask, user_id="user-7", filter={"must": [{"attribute": "colour", "flag": True}]})
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "filter.must[0].attribute: is 'colour', which no item has; there are" in str(raised.value.details())


@pytest.mark.parametrize("k", [0, -5, 501, 1_000_000])
def test_a_k_out_of_range_is_refused_with_the_range(ask: Stubs, k: int) -> None:
    """INVALID_ARGUMENT says the value and the limit."""
    with pytest.raises(grpc.RpcError) as raised:
        recommend(ask, user_id="user-1", k=k)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == f"k: is {k}, must be 1 to 500"
    assert reason(raised.value) == "INVALID_INPUT"


def test_a_message_of_50_mb_is_refused_with_the_limit(ask: Stubs, server: RunningServer) -> None:
    """RESOURCE_EXHAUSTED names the limit of 4 MiB, and the server lives."""
    with pytest.raises(grpc.RpcError) as raised:
        recommend(ask, user_id="user-1", request_id="x" * 50_000_000)
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "4194304" in str(raised.value.details())
    assert len(recommend(ask, user_id="user-1").items) == 20
    assert server.process.poll() is None


@pytest.mark.parametrize("body", [b"\x0a\x02\xff\xfe", b"not a message", b"\x0a\xff\xff\xff\xff\x0f"])
@pytest.mark.parametrize("path", ["RecommendationService/Recommend", "ReleaseService/PromoteRelease"])
def test_bytes_that_are_no_message_are_refused(ask: Stubs, path: str, body: bytes) -> None:
    """Garbage and text that is not UTF-8 are INVALID_ARGUMENT."""
    with pytest.raises(grpc.RpcError) as raised:
        raw(ask, f"/tidings.v1.{path}")(body)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "UTF-8" in str(raised.value.details())


def test_an_unknown_method_is_unimplemented(ask: Stubs) -> None:
    """A client from the future is told so."""
    with pytest.raises(grpc.RpcError) as raised:
        raw(ask, "/tidings.v1.RecommendationService/Foretell")(b"")
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_tools_can_look_around(ask: Stubs, server: RunningServer) -> None:
    """Health, reflection, readiness and metrics are there without a proto file."""
    health = health_pb2_grpc.HealthStub(ask.channel)
    for service in ("", "tidings.v1.RecommendationService"):
        found = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
        assert found.status == health_pb2.HealthCheckResponse.SERVING
    services = ProtoReflectionDescriptorDatabase(ask.channel).get_services()
    assert {"tidings.v1.RecommendationService", "tidings.v1.ReleaseService", "grpc.health.v1.Health"} <= set(services)
    assert server.get("/livez") == (200, "ok\n")
    assert server.get("/readyz") == (200, "ok\n")


def test_calls_are_counted(ask: Stubs, server: RunningServer, built_shop: Shop) -> None:
    """A call is in the next scrape, by its code; the serving release is there with its recall."""
    sample = 'tidings_calls_total{code="OK",method="Recommend"}'
    before = server.metric(sample)
    recommend(ask, user_id="user-1")
    assert server.metric(sample) == before + 1
    assert server.metric(f'tidings_release_info{{index_key="Flat",release_id="{built_shop.a}"}}') == 1.0
    assert server.metric("tidings_release_recall") == 1.0
    assert server.metric('tidings_stage_seconds_count{stage="recommend"}') > 0


def test_a_batch_is_computed_on_a_thread_of_its_own(ask: Stubs, server: RunningServer) -> None:
    """However long a batch takes, it stands in nobody's way who asks for one answer."""
    count = 'tidings_batch_size_count{lane="%s"}'
    before = [server.metric(count % lane) for lane in ("bulk", "compute")]
    ask.recommendation.BatchRecommend(
        pb.BatchRecommendRequest(requests=[pb.RecommendRequest(user_id="user-1")] * 256), timeout=60
    )
    assert [server.metric(count % lane) for lane in ("bulk", "compute")] == [before[0] + 1, before[1]]
