"""Streams of a front, over a real channel: order, errors, peers that leave or do not read, storms, the end."""

import asyncio
import gc
import time
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from tidings_core.errors import NotFound, Overloaded
from tidings_server.metrics import Metrics
from tidings_server.settings import Address
from tidings_server.transport.batcher import Batcher
from tidings_server.transport.calls import Lane, Method, OpenSession, Session, Stream, Upload
from tidings_server.transport.front import Front, MakeFront, find_front

PATIENCE = 30.0
Handler = Callable[[bytes], AsyncGenerator[bytes, None]]


@dataclass
class Running:
    """A started front with one stream."""

    front: Front
    address: Address
    metrics: Metrics

    def counted(self, code: str) -> float:
        """Number of streams that ended with a code."""
        labels = {"method": "Tell", "code": code}
        return self.metrics.registry.get_sample_value("tidings_calls_total", labels) or 0.0

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Any]:
        """The stream's multi-callable on a channel, and so a connection, of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(str(self.address), options=options) as channel:
            yield channel.unary_stream("/test.Tell/Tell")


class Told:
    """A Session of what a handler makes, one message at a time."""

    def __init__(self, messages: AsyncGenerator[bytes, None], wake: Callable[[], None]) -> None:
        self.ended = False
        self._messages, self._wake = messages, wake
        self._made: bytes | None = None
        self._error: Exception | None = None
        self._taken = asyncio.Event()
        self._task = asyncio.create_task(self._make())

    async def _make(self) -> None:
        try:
            async with aclosing(self._messages) as messages:
                async for message in messages:
                    self._made = message
                    self._wake()
                    await self._taken.wait()
                    self._taken.clear()
            self.ended = True
        except Exception as error:
            self._error = error
        self._wake()

    def next(self) -> bytes | None:
        """The next message, if it is made."""
        message, self._made = self._made, None
        if message is not None:
            self._taken.set()
        elif self._error is not None:
            raise self._error
        return message

    def close(self) -> None:
        """Close the handler."""
        self._task.cancel()


@pytest.fixture(params=["grpcio", "native", "native, with sessions"])
def make_front(request: pytest.FixtureRequest) -> MakeFront:
    """Each front in turn, and the one that can use sessions with them too."""
    name, _, sessions = request.param.partition(", ")
    if name == "native":
        pytest.importorskip("pygrpc_native", reason="the extra [native] is not installed")
    chosen = find_front(name, max_pending=1 << 16)

    def make(
        methods: Sequence[Method],
        batchers: Mapping[Lane, Batcher],
        metrics: Metrics,
        max_message_bytes: int,
        streams: Sequence[Stream] = (),
        uploads: Sequence[Upload] = (),
    ) -> Front:
        opening = [replace(stream, open=_opener(stream)) for stream in streams]
        return chosen(methods, batchers, metrics, max_message_bytes, opening if sessions else streams, uploads)

    return make


def _opener(stream: Stream) -> OpenSession:
    async def open_session(body: bytes, wake: Callable[[], None]) -> Session:
        return Told(stream.handler(body), wake)

    return open_session


@asynccontextmanager
async def running(make_front: MakeFront, handler: Handler) -> AsyncIterator[Running]:
    """A front with the stream test.Tell/Tell, and a method beside it."""
    metrics, batcher = Metrics(), Batcher("compute", 1, 8, time.monotonic)
    echo = Method("test.Tell", "Echo", lambda calls: [call.body for call in calls], "compute", 4, 10.0)
    front = make_front([echo], {"compute": batcher}, metrics, 64 << 10, [Stream("test.Tell", "Tell", handler)])
    address = front.bind(Address("127.0.0.1", 0))
    await front.start()
    try:
        yield Running(front, address, metrics)
    finally:
        await front.drain(1.0)
        await asyncio.to_thread(batcher.close, 30)


async def count_to(body: bytes) -> AsyncGenerator[bytes, None]:
    """Count, then end; with an error when asked to."""
    for number in range(int(body)):
        yield b"%d" % number
    if body.startswith(b"0"):
        raise NotFound("there is nothing to count")
    if body == b"3":
        raise Overloaded("no room for more", 2.0)
    if body == b"4":
        raise RuntimeError("a bug")


async def told(call: Any) -> list[bytes]:
    """All messages of a stream."""
    return [message async for message in call]


async def test_the_messages_of_a_stream_come_in_order_and_it_ends_well(make_front: MakeFront) -> None:
    """What the handler makes arrives, and a stream that ends by itself is OK and is counted so."""
    async with running(make_front, count_to) as server, server.channel() as tell:
        assert await told(tell(b"20", timeout=PATIENCE)) == [b"%d" % number for number in range(20)]
        assert server.counted("OK") == 1


async def test_an_error_before_the_first_message_ends_the_stream_by_the_table(make_front: MakeFront) -> None:
    """The caller of a stream gets the same codes and details as the caller of a call."""
    async with running(make_front, count_to) as server, server.channel() as tell:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await told(tell(b"0", timeout=PATIENCE))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert refused.value.details() == "there is nothing to count"
        assert server.counted("NOT_FOUND") == 1


async def test_an_error_during_a_stream_comes_after_what_was_told(make_front: MakeFront) -> None:
    """Nothing told before it is lost, and it says when to come back."""
    async with running(make_front, count_to) as server, server.channel() as tell:
        call, got = tell(b"3", timeout=PATIENCE), list[bytes]()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            got.extend([message async for message in call])
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailers = dict(refused.value.trailing_metadata() or ())
        status = status_pb2.Status.FromString(bytes(trailers["grpc-status-details-bin"]))
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in status.details)
        assert retry.retry_delay.seconds == 2
        again, numbers = tell(b"3", timeout=PATIENCE), list[bytes]()
        for _ in range(3):
            numbers.append(await again.read())
        assert numbers == [b"0", b"1", b"2"]


async def test_a_fault_of_ours_ends_a_stream_as_internal(make_front: MakeFront) -> None:
    """The caller hears that the server failed, and nothing of its insides."""
    async with running(make_front, count_to) as server, server.channel() as tell:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await told(tell(b"4", timeout=PATIENCE))
        assert refused.value.code() is grpc.StatusCode.INTERNAL
        assert refused.value.details() == "the server failed; its log says why"


class Endless:
    """A handler that tells `size` bytes again and again, `most` times, then waits; and knows how each stream went."""

    def __init__(self, size: int, most: int) -> None:
        self.size, self.most = size, most
        self.made: Counter[bytes] = Counter()
        self.waiting: dict[bytes, asyncio.Event] = {}
        self.closed: dict[bytes, asyncio.Event] = {}

    async def __call__(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """Tell."""
        self.waiting[body], self.closed[body] = asyncio.Event(), asyncio.Event()
        try:
            while self.made[body] < self.most:
                self.made[body] += 1
                yield bytes(self.size)
            self.waiting[body].set()
            await asyncio.Event().wait()
        finally:
            self.closed[body].set()


@pytest.mark.parametrize("size", [1, 1 << 20])
async def test_a_stream_whose_caller_leaves_is_closed_at_once(make_front: MakeFront, size: int) -> None:
    """Whether it waits for something to tell or for the peer to read, its handler's end is run."""
    endless = Endless(size, 1 if size == 1 else 10**9)
    async with running(make_front, endless) as server, server.channel() as tell:
        call = tell(b"a")
        await call.read()
        call.cancel()
        async with asyncio.timeout(PATIENCE):
            await endless.closed[b"a"].wait()
            while not server.counted("CANCELLED"):
                await asyncio.sleep(0)


class Large:
    """What a handler holds while it tells, such as a release."""


@pytest.mark.parametrize("front", ["grpcio", "native"])
async def test_a_stream_whose_caller_left_holds_on_to_nothing(front: str) -> None:
    """What its handler had in hand is let go of at once, not when the collector of garbage comes to it."""
    if front == "native":
        pytest.importorskip("pygrpc_native", reason="the extra [native] is not installed")
    held: list[weakref.ref[Large]] = []

    async def tell_and_wait(_: bytes) -> AsyncGenerator[bytes, None]:
        large = Large()
        held.append(weakref.ref(large))
        yield b"one"
        await asyncio.Event().wait()
        del large

    async with running(find_front(front), tell_and_wait) as server, server.channel() as tell:
        gc.disable()
        try:
            call = tell(b"a")
            await call.read()
            call.cancel()
            async with asyncio.timeout(PATIENCE):
                while held[0]() is not None:
                    await asyncio.sleep(0.001)
        finally:
            gc.enable()


async def test_a_stream_ends_at_its_deadline(make_front: MakeFront) -> None:
    """A caller that wants a stream for a while only is not forgotten."""
    endless = Endless(1, 1)
    async with running(make_front, endless) as server, server.channel() as tell:
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await told(tell(b"a", timeout=0.1))
        assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(PATIENCE):
            await endless.closed[b"a"].wait()
            while not server.counted("DEADLINE_EXCEEDED"):
                await asyncio.sleep(0)


async def test_nothing_is_made_for_a_peer_that_does_not_read(make_front: MakeFront) -> None:
    """Once HTTP/2's window is full the handler is not asked for more, while others, also of that peer, get all."""
    endless, enough = Endless(4096, 10**9), 2500
    async with running(make_front, endless) as server, server.channel() as tell, server.channel() as other:
        mute = tell(b"mute")
        await mute.initial_metadata()
        # The first reader shares the connection with the mute one.
        for number, callable in enumerate((tell, other)):
            call = callable(b"%d" % number, timeout=PATIENCE)
            for _ in range(enough):
                assert len(await call.read()) == 4096
            call.cancel()
        # grpcio's client lets its window grow to a few megabytes on a fast connection.
        assert 0 < endless.made[b"mute"] * 4096 <= 8 << 20
        mute.cancel()


async def test_a_drain_waits_for_streams_that_end_and_lets_no_new_one_in(make_front: MakeFront) -> None:
    """A stream that was asked to end has its last word; who comes meanwhile is told to go elsewhere."""
    ending = asyncio.Event()

    async def tell_and_end(body: bytes) -> AsyncGenerator[bytes, None]:
        yield b"hello"
        await ending.wait()
        yield b"good bye"

    async with running(make_front, tell_and_end) as server, server.channel() as tell:
        call = tell(b"", timeout=PATIENCE)
        assert await call.read() == b"hello"
        draining = asyncio.create_task(server.front.drain(PATIENCE))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await _told_until_refused(tell)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not draining.done()
        ending.set()
        assert await call.read() == b"good bye"
        assert await call.read() is grpc.aio.EOF
        await draining


async def _told_until_refused(tell: Any) -> None:
    while True:
        await tell(b"", timeout=PATIENCE).read()


async def test_a_storm_of_streams_is_let_in_up_to_the_limit_and_refused_cleanly_above(make_front: MakeFront) -> None:
    """Thousands that come at the same moment are all answered: let in, or told when to come back; none is cut off."""
    room, comers, channels = 2000, 4000, 8
    inside = 0

    async def limited(body: bytes) -> AsyncGenerator[bytes, None]:
        nonlocal inside
        if inside == room:
            raise Overloaded("no room for more", 5.0)
        inside += 1
        yield b"in"
        await asyncio.Event().wait()

    async with running(make_front, limited) as server:
        open_channels = [server.channel() for _ in range(channels)]
        tells = [await channel.__aenter__() for channel in open_channels]
        calls = [tells[number % channels](b"", timeout=PATIENCE) for number in range(comers)]

        async def answer(call: Any) -> str:
            try:
                return str(await call.read())
            except grpc.aio.AioRpcError as error:
                return error.code().name

        answers = Counter(await asyncio.gather(*map(answer, calls)))
        assert answers == {"b'in'": room, "RESOURCE_EXHAUSTED": comers - room}
        for channel in open_channels:
            await channel.__aexit__(None, None, None)
