"""Streams that callers send, over a real channel: taken one by one, answered once, ended by an error or by leaving."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from tidings_core.errors import NotFound
from tidings_server.metrics import Metrics
from tidings_server.settings import Address
from tidings_server.transport.batcher import Batcher
from tidings_server.transport.calls import Method, Upload
from tidings_server.transport.front import find_front

PATIENCE = 30.0
Handler = Callable[[AsyncIterator[bytes]], Awaitable[bytes]]


@asynccontextmanager
async def running(front: str, handler: Handler) -> AsyncIterator[tuple[Any, Any, Metrics]]:
    """A front of that name with an upload and a method of one service; both multi-callables, and what is counted."""
    metrics, batcher = Metrics(), Batcher("compute", 1, 8, time.monotonic)
    echo = Method("test.Take", "Echo", lambda calls: [call.body for call in calls], "compute", 4, 10.0)
    uploads = [Upload("test.Take", "Take", handler)]
    made = find_front(front)([echo], {"compute": batcher}, metrics, 64 << 10, (), uploads)
    address = made.bind(Address("127.0.0.1", 0))
    await made.start()
    try:
        async with grpc.aio.insecure_channel(str(address), [("grpc.use_local_subchannel_pool", 1)]) as channel:
            yield channel.stream_unary("/test.Take/Take"), channel.unary_unary("/test.Take/Echo"), metrics
    finally:
        await made.drain(1.0)
        await asyncio.to_thread(batcher.close, 30)


async def joined(messages: AsyncIterator[bytes]) -> bytes:
    """All messages in one; an error for one that says so."""
    found = b""
    async for message in messages:
        if message == b"stop":
            raise NotFound("there is no more")
        found += message
    return found


async def test_a_stream_of_requests_gets_one_answer(front: str) -> None:
    """In order, also none at all, beside a method of the same service; and it is counted as one call."""
    async with running(front, joined) as (take, echo, metrics):
        assert await take(iter([b"a", b"b", b"c"]), timeout=PATIENCE) == b"abc"
        assert await take(iter([]), timeout=PATIENCE) == b""
        assert await echo(b"hello", timeout=PATIENCE) == b"hello"
        labels = {"method": "Take", "code": "OK"}
        assert metrics.registry.get_sample_value("tidings_calls_total", labels) == 2


async def test_an_error_ends_the_stream_before_all_has_come(front: str) -> None:
    """The caller gets the error's code while it has more to send."""
    async with running(front, joined) as (take, _, _):

        async def endless() -> AsyncIterator[bytes]:
            yield b"stop"
            await asyncio.Event().wait()

        with pytest.raises(grpc.aio.AioRpcError, match="there is no more") as refused:
            await take(endless(), timeout=PATIENCE)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_caller_who_leaves_in_the_middle_ends_the_handler(front: str) -> None:
    """The handler is cancelled, with what it took so far."""
    ended, begun = asyncio.Event(), asyncio.Event()

    async def handler(messages: AsyncIterator[bytes]) -> bytes:
        try:
            async for _ in messages:
                begun.set()
        finally:
            ended.set()
        return b""

    async with running(front, handler) as (take, _, _):
        call = take(timeout=PATIENCE)
        await call.write(b"a")
        await asyncio.wait_for(begun.wait(), PATIENCE)
        call.cancel()
        await asyncio.wait_for(ended.wait(), PATIENCE)


async def test_a_caller_is_held_back_while_nothing_is_taken(front: str) -> None:
    """What the server has not taken does not pile up in it: the caller's writes wait."""
    go = asyncio.Event()

    async def handler(messages: AsyncIterator[bytes]) -> bytes:
        await go.wait()
        return b"%d" % sum([len(message) async for message in messages])

    async with running(front, handler) as (take, _, _):
        call, sent = take(timeout=PATIENCE), 0

        async def send() -> None:
            nonlocal sent
            for _ in range(1000):
                await call.write(b"x" * 50_000)
                sent += 1
            await call.done_writing()

        sending = asyncio.create_task(send())
        done, _ = await asyncio.wait([sending], timeout=0.5)
        assert not done
        assert sent < 500
        go.set()
        await asyncio.wait_for(sending, PATIENCE)
        assert await call == b"50000000"
