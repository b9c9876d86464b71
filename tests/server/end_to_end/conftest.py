"""A server shared by the tests that leave it as it was, and the plain stubs to ask it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from tests.server.conftest import Shop
from tests.support.server import RunningServer, start_server
from tidings.v1 import release_service_pb2
from tidings.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from tidings.v1.release_service_pb2_grpc import ReleaseServiceStub


@dataclass(frozen=True)
class Stubs:
    """Plain grpc stubs on one channel."""

    channel: grpc.Channel
    recommendation: RecommendationServiceStub
    release: ReleaseServiceStub

    def promote(self, release_id: str) -> release_service_pb2.PromoteReleaseResponse:
        """Promote a release."""
        return self.release.PromoteRelease(release_service_pb2.PromoteReleaseRequest(release_id=release_id), timeout=60)


@contextmanager
def stubs(server: RunningServer) -> Iterator[Stubs]:
    """Stubs for a server."""
    with grpc.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield Stubs(channel, RecommendationServiceStub(channel), ReleaseServiceStub(channel))


def reason(error: grpc.RpcError) -> str:
    """The stable reason of an error."""
    assert isinstance(error, grpc.Call)
    (found,) = [v for k, v in error.trailing_metadata() or () if k == "grpc-status-details-bin"]
    assert isinstance(found, bytes)
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(found).details[0].Unpack(info)
    return str(info.reason)


@pytest.fixture(scope="module")
def server(front: str, built_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A running server that serves release a, with each front in turn."""
    state = tmp_path_factory.mktemp("shared") / "state"
    with start_server(built_shop.path, state, "--front", front) as running:
        with stubs(running) as ask:
            ask.promote(built_shop.a)
        yield running


@pytest.fixture
def ask(server: RunningServer) -> Iterator[Stubs]:
    """A channel of its own for each test."""
    with stubs(server) as found:
        yield found
