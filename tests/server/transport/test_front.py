"""A front, over a real channel: it knows only methods and bytes, and speaks gRPC as it should."""

import asyncio
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tidings_core.errors import InUse, InvalidInput, NotFound, TidingsError
from tidings_server.metrics import Metrics
from tidings_server.settings import Address
from tidings_server.transport.batcher import Batcher
from tidings_server.transport.calls import Call, Method
from tidings_server.transport.front import Front, MakeFront, find_front
from tidings_server.transport.front_grpcio import READY_SERVICE

ANY = Address("127.0.0.1", 0)
LIMIT = 64 << 10


class Shout:
    """A handler that answers in capitals; "missing" is not found, "hold" waits for the test."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()
        self.seen: list[Call] = []

    def __call__(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer."""
        self.seen.extend(calls)
        if any(call.body == b"hold" for call in calls):
            self.entered.set()
            assert self.released.wait(30)
        return [NotFound("there is no missing") if call.body == b"missing" else call.body.upper() for call in calls]


@dataclass
class Running:
    """A started front and what it runs."""

    front: Front
    address: Address
    shout: Shout
    batcher: Batcher
    metrics: Metrics

    def counted(self, code: str) -> float:
        """Number of calls that ended with a code."""
        labels = {"method": "Shout", "code": code}
        return self.metrics.registry.get_sample_value("tidings_calls_total", labels) or 0.0

    def channel(self) -> grpc.aio.Channel:
        """A new channel to it."""
        return grpc.aio.insecure_channel(str(self.address))


@asynccontextmanager
async def running(make_front: MakeFront, max_waiting: int = 8) -> AsyncIterator[Running]:
    """A front with one method, test.Shout/Shout, on one thread."""
    shout, metrics = Shout(), Metrics()
    method = Method("test.Shout", "Shout", shout, "compute", 4, 100.0)
    batcher = Batcher("compute", 1, max_waiting, time.monotonic)
    front = make_front([method], {"compute": batcher}, metrics, LIMIT)
    address = front.bind(ANY)
    await front.start()
    try:
        yield Running(front, address, shout, batcher, metrics)
    finally:
        shout.released.set()
        await front.drain(5.0)
        await asyncio.to_thread(batcher.close, 30)


def shout(channel: grpc.aio.Channel, body: bytes, timeout: float | None = 30.0) -> "grpc.aio.UnaryUnaryCall":  # type: ignore[type-arg]
    """Call test.Shout/Shout with raw bytes."""
    return raw(channel, "/test.Shout/Shout")(body, timeout=timeout)


def raw(channel: grpc.aio.Channel, path: str) -> Any:
    """A method that takes and gives bytes."""
    return channel.unary_unary(path)


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """The rich status of an error."""
    (found,) = [v for k, v in error.trailing_metadata() or () if k == "grpc-status-details-bin"]
    assert isinstance(found, bytes)
    return status_pb2.Status.FromString(found)


async def test_bytes_go_in_and_come_out(make_front: MakeFront) -> None:
    """The front adds nothing to the bytes of a call, even none."""
    async with running(make_front) as server, server.channel() as channel:
        assert await shout(channel, b"hello") == b"HELLO"
        assert await shout(channel, b"") == b""


async def test_an_error_becomes_its_status_with_details(make_front: MakeFront) -> None:
    """Code, message and ErrorInfo reach the caller."""
    async with running(make_front) as server, server.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await shout(channel, b"missing")
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND
        assert raised.value.details() == "there is no missing"
        info = error_details_pb2.ErrorInfo()
        assert status_of(raised.value).details[0].Unpack(info)
        assert (info.reason, info.domain) == ("NOT_FOUND", "tidings")


async def test_the_callers_deadline_reaches_the_handler(make_front: MakeFront) -> None:
    """A deadline of 20 s is 20 s from now; a caller without one gets the method's own."""
    async with running(make_front) as server, server.channel() as channel:
        await shout(channel, b"x", timeout=20.0)
        await shout(channel, b"x", timeout=None)
        with_deadline, without = (call.deadline - time.monotonic() for call in server.shout.seen)
        # gRPC rounds a timeout up on its way.
        assert 10.0 < with_deadline <= 25.0
        assert 90.0 < without <= 100.0


async def test_a_call_that_outlives_its_deadline_ends_with_deadline_exceeded(make_front: MakeFront) -> None:
    """The caller is told in time, whatever the handler does."""
    async with running(make_front) as server, server.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await shout(channel, b"hold", timeout=0.2)
        assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


async def test_a_cancelled_call_that_waits_is_never_worked_on(make_front: MakeFront) -> None:
    """The caller's cancellation reaches the queue."""
    async with running(make_front) as server, server.channel() as channel:
        busy = shout(channel, b"hold")
        await asyncio.to_thread(server.shout.entered.wait, 30)
        gone = shout(channel, b"gone")
        await until(lambda: server.batcher.waiting == 1)
        gone.cancel()
        await until(lambda: server.counted("CANCELLED") == 1)
        kept = shout(channel, b"kept")
        await until(lambda: server.batcher.waiting == 2)
        server.shout.released.set()
        assert [await call for call in (busy, kept)] == [b"HOLD", b"KEPT"]
        assert [call.body for call in server.shout.seen] == [b"hold", b"kept"]


async def test_overload_is_refused_at_once_with_the_time_to_return(make_front: MakeFront) -> None:
    """Beyond the bound a call gets RESOURCE_EXHAUSTED and RetryInfo while the others still wait."""
    async with running(make_front, max_waiting=2) as server, server.channel() as channel:
        busy = shout(channel, b"hold")
        await asyncio.to_thread(server.shout.entered.wait, 30)
        waiting = [shout(channel, b"x") for _ in range(2)]
        await until(lambda: server.batcher.waiting == 2)
        for _ in range(4):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await shout(channel, b"x")
            assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            retry = error_details_pb2.RetryInfo()
            assert status_of(raised.value).details[1].Unpack(retry)
            assert retry.retry_delay.ToMilliseconds() > 0
        server.shout.released.set()
        assert [await call for call in (busy, *waiting)] == [b"HOLD", b"X", b"X"]
        assert server.counted("RESOURCE_EXHAUSTED") == 4
        assert server.counted("OK") == 3


async def test_a_message_over_the_limit_is_refused_with_the_limit_and_the_server_lives(make_front: MakeFront) -> None:
    """The limit is in the message; the next call on the same channel is answered."""
    async with running(make_front) as server, server.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await shout(channel, b"x" * (LIMIT + 1))
        assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(LIMIT) in str(raised.value.details())
        assert await shout(channel, b"x" * LIMIT) == b"X" * LIMIT


async def test_an_unknown_method_is_unimplemented(make_front: MakeFront) -> None:
    """Of a known service or of none."""
    async with running(make_front) as server, server.channel() as channel:
        for path in ("/test.Shout/Whisper", "/no.Such/Service"):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await raw(channel, path)(b"", timeout=30)
            assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_health_follows_readiness(make_front: MakeFront) -> None:
    """The server is SERVING while it lives; its readiness is a service of its own, and can be watched."""
    async with running(make_front) as server, server.channel() as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def check(service: str) -> str:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
            return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

        assert (await check(""), await check(READY_SERVICE)) == ("SERVING", "NOT_SERVING")
        await server.front.set_ready(True)
        assert (await check(""), await check(READY_SERVICE)) == ("SERVING", "SERVING")
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=READY_SERVICE), timeout=30)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await server.front.set_ready(False)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()


async def test_reflection_names_the_services(make_front: MakeFront) -> None:
    """Tools find what is served without the proto files."""
    async with running(make_front) as server:

        def services() -> list[str]:
            with grpc.insecure_channel(str(server.address)) as channel:
                return sorted(ProtoReflectionDescriptorDatabase(channel).get_services())

        found = await asyncio.to_thread(services)
        assert found == ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection", "test.Shout"]


async def test_draining_finishes_what_is_under_way_and_refuses_the_rest(make_front: MakeFront) -> None:
    """A call that was accepted is answered; health says NOT_SERVING; a new call gets UNAVAILABLE."""
    async with running(make_front) as server, server.channel() as channel, server.channel() as other:
        busy = shout(channel, b"hold")
        await asyncio.to_thread(server.shout.entered.wait, 30)
        drained = asyncio.ensure_future(server.front.drain(30.0))
        stub = health_pb2_grpc.HealthStub(other)
        health = await stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await shout(other, b"new")
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        retry = error_details_pb2.RetryInfo()
        assert status_of(raised.value).details[1].Unpack(retry)
        assert not drained.done()
        server.shout.released.set()
        assert await busy == b"HOLD"
        await drained
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await shout(other, b"newer")
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        assert [call.body for call in server.shout.seen] == [b"hold"]


async def test_a_drain_cancels_no_call_that_is_on_its_way(make_front: MakeFront) -> None:
    """Callers that never let up see answers and UNAVAILABLE, which a client retries, and nothing else."""
    async with running(make_front, max_waiting=64) as server, server.channel() as channel:
        codes: Counter[grpc.StatusCode] = Counter()

        async def call_on() -> None:
            while (code := await shout(channel, b"x").code()) is grpc.StatusCode.OK:
                codes[code] += 1
            codes[code] += 1

        callers = [asyncio.ensure_future(call_on()) for _ in range(32)]
        await until(lambda: codes[grpc.StatusCode.OK] > 100)
        await server.front.drain(30.0)
        await asyncio.gather(*callers)
        assert codes.pop(grpc.StatusCode.UNAVAILABLE) == 32
        assert set(codes) == {grpc.StatusCode.OK}


async def test_a_drain_does_not_wait_for_who_watches_health(make_front: MakeFront) -> None:
    """A stream that never ends by itself is told NOT_SERVING and ended; the drain is over long before its limit."""
    async with running(make_front) as server, server.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=600)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        async with asyncio.timeout(60):
            await server.front.drain(600.0)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_drain_cuts_off_what_does_not_end_in_time(make_front: MakeFront) -> None:
    """A handler that hangs cannot keep the server from ending."""
    async with running(make_front) as server, server.channel() as channel:
        busy = shout(channel, b"hold")
        await asyncio.to_thread(server.shout.entered.wait, 30)
        await server.front.drain(0.05)
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await busy


def free_front(make_front: MakeFront) -> Front:
    """A front that is not started."""
    return make_front([], {}, Metrics(), LIMIT)


async def test_a_port_in_use_is_refused_by_name(make_front: MakeFront) -> None:
    """Two servers never share a port, and the second is told which one it was."""
    async with running(make_front) as server:
        second = free_front(make_front)
        with pytest.raises(InUse, match=rf"listen: {server.address} is in use .* --listen"):
            second.bind(server.address)
        await second.drain(0.0)


async def test_a_port_in_use_on_one_of_several_addresses_is_refused(make_front: MakeFront) -> None:
    """gRPC itself would be content with the free one, and nobody would be told."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        front = free_front(make_front)
        with pytest.raises(InUse):
            front.bind(Address("localhost", port))
        await front.drain(0.0)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
async def test_an_address_that_is_not_ours_is_refused(make_front: MakeFront, host: str) -> None:
    """Another machine's address and an unknown name are the settings' fault."""
    front = free_front(make_front)
    with pytest.raises(InvalidInput, match=f"listen: {host}:50051"):
        front.bind(Address(host, 50051))
    await front.drain(0.0)


def test_a_front_whose_library_is_missing_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The native front is an extra of its own."""
    monkeypatch.setitem(sys.modules, "pygrpc_native", None)
    monkeypatch.delitem(sys.modules, "tidings_server.transport.front_native", raising=False)
    with pytest.raises(InvalidInput, match=r'front: is native, .* pip install "tidings\[server,native\]"'):
        find_front("native")
