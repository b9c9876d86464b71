"""Subscribe and Acknowledge over the wire, against a server process: kill, drain, peers that do not read, limits."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2, status_pb2

from tests.support.server import RunningServer, start_server
from tidings.v1 import push_service_pb2 as pb
from tidings.v1.push_service_pb2_grpc import PushServiceStub

PATIENCE = 60.0


@contextmanager
def serving(folder: Path, front: str, **settings: Any) -> Iterator[RunningServer]:
    """A server without a release, which pushes need not, on the state of a folder; settings by name."""
    releases = folder / "releases"
    releases.mkdir(exist_ok=True)
    given = {"push_max_per_day": 1000, "push_history": 10_000, **settings}
    env = {f"TIDINGS_{name.upper()}": str(value) for name, value in given.items()}
    with start_server(releases, folder / "state", "--front", front, env=env) as server:
        yield server


@contextmanager
def stub(server: RunningServer) -> Iterator[PushServiceStub]:
    """A stub on a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        yield PushServiceStub(channel)


class Device:
    """A subscription whose first message was taken."""

    def __init__(self, push: PushServiceStub, user_id: str, **asked: Any) -> None:
        self.push, self.user_id = push, user_id
        self.stream: Any = push.Subscribe(pb.SubscribeRequest(user_id=user_id, **asked), timeout=PATIENCE)
        self.subscribed = next(self.stream).subscribed

    def next(self) -> pb.Push:
        """The next push; there must be no other message before it."""
        message = next(self.stream)
        assert message.WhichOneof("message") == "push"
        return message.push

    def acknowledge(self, offset: int) -> int:
        """Acknowledge on this subscription, and return the offset that is answered."""
        request = pb.AcknowledgeRequest(
            user_id=self.user_id, subscription_id=self.subscribed.subscription_id, offset=offset
        )
        return self.push.Acknowledge(request, timeout=PATIENCE).offset


def send(push: PushServiceStub, user_id: str, first: int, count: int, body: str = "") -> None:
    """Send pushes, many at a time; their titles are their numbers, but they may arrive in any order."""
    requests = (
        pb.SendPushRequest(request_id=f"{user_id}-{number}", user_id=user_id, title=str(number), body=body)
        for number in range(first, first + count)
    )
    for call in [push.SendPush.future(request, timeout=PATIENCE) for request in requests]:
        assert call.result().decision == pb.PUSH_DECISION_SENT


def retry_seconds(error: grpc.RpcError) -> float:
    """When an error says to come back."""
    assert isinstance(error, grpc.Call)
    (found,) = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    assert isinstance(found, bytes)
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status_pb2.Status.FromString(found).details)
    return retry.retry_delay.ToMilliseconds() / 1000


def test_a_push_that_is_sent_is_received_acknowledged_and_counted(front: str, tmp_path: Path) -> None:
    """From SendPush to the open stream, and from Acknowledge to the next subscription."""
    with serving(tmp_path, front) as server, stub(server) as push:
        device = Device(push, "ann", device_id="phone")
        assert server.metric("tidings_subscriptions") == 1
        send(push, "ann", 1, 2)
        first, second = device.next(), device.next()
        assert (first.prev_offset, first.offset, second.prev_offset, second.offset) == (0, 1, 1, 2)
        assert device.acknowledge(1) == 1
        device.stream.cancel()
        again = Device(push, "ann", device_id="phone")
        assert (again.subscribed.offset, again.subscribed.recovered) == (1, True)
        assert again.next() == second
        again.stream.cancel()
        while server.metric("tidings_subscriptions"):
            pass
        assert server.metric('tidings_calls_total{code="CANCELLED",method="Subscribe"}') == 2


def test_nothing_is_lost_or_repeated_when_the_server_is_killed(front: str, tmp_path: Path) -> None:
    """After kill -9 the stream goes on where the device was, by its own word or by what it acknowledged."""
    with serving(tmp_path, front) as server, stub(server) as push:
        phone, tv = (Device(push, "ann", device_id=name) for name in ("phone", "tv"))
        send(push, "ann", 1, 5)
        got = [phone.next() for _ in range(5)]
        assert [push.offset for push in got] == [1, 2, 3, 4, 5]
        assert phone.acknowledge(2) == 2
        assert tv.next() == got[0]
        server.process.kill()
        server.process.wait(PATIENCE)
        with pytest.raises(grpc.RpcError):
            list(phone.stream)
    with serving(tmp_path, front) as server, stub(server) as push:
        send(push, "ann", 6, 1)
        resumed = Device(push, "ann", device_id="phone", resume=pb.Resume(epoch=phone.subscribed.epoch, offset=4))
        assert (resumed.subscribed.recovered, resumed.subscribed.epoch) == (True, phone.subscribed.epoch)
        assert [resumed.next().offset for _ in range(2)] == [5, 6]
        silent = Device(push, "ann", device_id="tv")
        assert [silent.next().offset for _ in range(6)] == [1, 2, 3, 4, 5, 6]  # It never acknowledged.
        unknown = Device(push, "ann", device_id="watch")
        assert [unknown.next().offset for _ in range(2)] == [5, 6]  # After what any device acknowledged.
        lost = Device(push, "ann", device_id="phone", resume=pb.Resume(epoch="another", offset=6))
        assert (lost.subscribed.recovered, lost.subscribed.offset) == (False, 4)
        assert list(resumed.stream)[-1].go_away.reason == pb.GO_AWAY_REASON_REPLACED


def test_a_drain_sends_every_subscriber_away_and_waits_for_no_silent_one(front: str, tmp_path: Path) -> None:
    """Streams end well with a go_away and a time to come back; one that does not read holds nothing up for long."""
    with serving(tmp_path, front, drain_seconds=2) as server, stub(server) as push, stub(server) as other:
        mute = Device(other, "bob", max_unacked=1000)
        send(push, "bob", 1, 1000, "x" * 2048)
        devices = [Device(push, f"user-{number}") for number in range(20)]
        assert server.stop() == 0
        for device in devices:
            (last,) = list(device.stream)
            assert last.go_away.reason == pb.GO_AWAY_REASON_STOPPING
            assert last.go_away.resumable
            assert 0 <= last.go_away.reconnect_delay.ToMilliseconds() <= 1000
            assert device.stream.code() is grpc.StatusCode.OK
        mute.stream.cancel()
        assert not [line for line in server.logged() if line["level"] == "error"]


def test_one_who_does_not_read_costs_nobody_anything(front: str, tmp_path: Path) -> None:
    """Others get all of theirs and the server's memory stays; when it reads at last it gets everything, in order."""
    with serving(tmp_path, front) as server, stub(server) as push, stub(server) as other:
        mute = Device(other, "ann", device_id="mute", max_unacked=1000)
        reader = Device(push, "ann", device_id="reader", max_unacked=1000)
        stranger = Device(push, "bob", max_unacked=10)
        before = psutil.Process(server.process.pid).memory_info().rss
        body = "x" * 2048
        for first in range(1, 1000, 111):
            send(push, "ann", first, 111, body)
            assert [reader.next().offset for _ in range(111)] == list(range(first, first + 111))
            send(push, "bob", first, 111, body)
            for offset in range(first, first + 111):
                assert stranger.next().offset == offset
                if offset % 10 == 0:
                    assert stranger.acknowledge(offset) == offset
        grown = psutil.Process(server.process.pid).memory_info().rss - before
        assert grown < 64 << 20
        assert [mute.next().offset for _ in range(999)] == list(range(1, 1000))
        assert mute.acknowledge(999) == 999


def test_more_subscriptions_than_allowed_are_refused_with_a_time_to_come_back(front: str, tmp_path: Path) -> None:
    """RESOURCE_EXHAUSTED at once; when somebody leaves there is room again."""
    with serving(tmp_path, front, max_subscriptions=3, max_subscriptions_per_user=2) as server, stub(server) as push:
        devices = [Device(push, "ann", device_id=name) for name in ("phone", "tv")]
        with pytest.raises(grpc.RpcError) as refused:
            Device(push, "ann", device_id="watch")
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert retry_seconds(refused.value) > 0
        bob = Device(push, "bob")
        with pytest.raises(grpc.RpcError) as refused:
            Device(push, "cid")
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert retry_seconds(refused.value) > 0
        bob.stream.cancel()
        while server.metric("tidings_subscriptions") == 3:
            pass
        assert Device(push, "cid").subscribed.subscription_id
        assert devices


def test_heartbeats_come_as_often_as_was_said(front: str, tmp_path: Path) -> None:
    """A quiet stream shows that it lives, with the server's time and the newest offset."""
    with serving(tmp_path, front, push_heartbeat_seconds=0.1) as server, stub(server) as push:
        send(push, "ann", 1, 1)
        device = Device(push, "ann")
        assert device.subscribed.heartbeat_interval.ToMilliseconds() == 100
        assert device.next().offset == 1
        beats = [next(device.stream).heartbeat for _ in range(3)]
        assert [beat.newest_offset for beat in beats] == [1, 1, 1]
        times = [beat.server_time.ToMilliseconds() for beat in beats]
        assert times == sorted(times)
        assert times[-1] - times[0] >= 150


def test_what_is_wrong_is_said_by_status_and_field(front: str, tmp_path: Path) -> None:
    """A bad request to subscribe, and an acknowledgement of what was not sent, name the field; nothing is written."""
    with serving(tmp_path, front) as server, stub(server) as push:
        with pytest.raises(grpc.RpcError) as refused:
            Device(push, "")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        device = Device(push, "ann")
        with pytest.raises(grpc.RpcError) as refused:
            device.acknowledge(7)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "offset: is 7, and only pushes up to 0" in str(refused.value.details())
        device.stream.cancel()
        while server.metric("tidings_subscriptions"):
            pass
        with pytest.raises(grpc.RpcError) as refused:
            device.acknowledge(0)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
