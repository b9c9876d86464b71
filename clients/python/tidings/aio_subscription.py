"""The asyncio subscription: `Stream` driven by a task that reads, while the caller's task iterates."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc

from tidings import errors, model, wire
from tidings.stream import Stream


class Subscription:
    """The pushes of one user, as an asynchronous iterator that lasts until it is closed.

        async with client.subscribe("u42", device_id="phone") as pushes:
            async for push in pushes:
                await show(push)

    It behaves as `tidings.Subscription`, with a task in place of the thread. Cancelling a wait for the next push loses
    no push: the one before is acknowledged, and iterating may go on.
    """

    def __init__(
        self,
        stub: Any,
        stream: Stream,
        address: str,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stub = stub
        self._address = address
        self._timeout = timeout
        self._clock = clock
        self._stream = stream
        self._changed = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._call: Any = None
        self._error: Exception | None = None
        self._closed = False

    @property
    def gaps(self) -> int:
        """How often the server said that it lost a part of this user's stream, so that pushes may have been missed."""
        return self._stream.gaps

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> model.Push:
        """Acknowledge the push before, then wait for the next one."""
        self._stream.finish()
        self._start()
        self._acknowledge()
        while True:
            if self._closed:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            push = self._stream.take()
            if push is not None:
                return push
            self._changed.clear()
            await self._changed.wait()

    def acknowledge(self) -> None:
        """Acknowledge the push that was yielded last without asking for the next, as before a `break`."""
        self._stream.finish()
        self._acknowledge()

    def report(self, push: model.Push, disposition: model.Disposition) -> None:
        """Say what became of a push: it goes out with the next acknowledgement, at the latest on closing.

        May be called at any later time, for pushes of earlier subscriptions of this user too. An outcome that the
        server refuses, as of a push that it lost with its history, is dropped and logged.
        """
        self._stream.report(push, disposition)
        self._acknowledge()

    async def close(self) -> None:
        """End the subscription: the last acknowledgement is sent, and whoever iterates comes to an end."""
        if self._closed:
            return
        self._closed = True
        self._changed.set()
        try:
            if self._sender is not None:
                # It has a deadline of its own.
                await self._sender
            # Before the stream ends: afterwards the server knows the subscription no more.
            while (request := self._stream.acknowledgement(closing=True)) and await self._send(request):
                pass
        finally:
            if self._call is not None:
                self._call.cancel()
            if self._reader is not None:
                self._reader.cancel()
        if self._reader is not None:
            await asyncio.wait([self._reader])

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _start(self) -> None:
        if self._reader is None and not self._closed:
            self._reader = asyncio.create_task(self._read(), name="tidings-subscription")

    async def _read(self) -> None:
        """Keep a stream open, one after another, until the subscription is closed or cannot go on."""
        try:
            while not self._closed:
                # No deadline: a stream that went silent is cancelled.
                self._call = self._stub.Subscribe(self._stream.open(self._clock()))
                error = await self._drain(self._call)
                if not self._closed:
                    await asyncio.sleep(self._stream.lost(error, self._clock()))
        except Exception as error:
            self._error = error
            self._changed.set()

    async def _drain(self, call: Any) -> errors.TidingsError | None:
        """Feed the messages of a stream to its state until either has enough."""
        try:
            while True:
                async with asyncio.timeout(self._stream.silent_at - self._clock()):
                    message = await call.read()
                if message is grpc.aio.EOF:
                    return None
                useful = self._stream.receive(message, self._clock())
                self._acknowledge()
                self._changed.set()
                if not useful:
                    return None
        except TimeoutError:
            self._stream.silent(self._stream.silent_at)
            return None
        except grpc.RpcError as error:
            return wire.error_from(error, self._address, self._timeout)
        except asyncio.CancelledError:
            # gRPC raises it for a call that was cancelled too, which is explained by the stream's state.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return None
        finally:
            call.cancel()

    def _acknowledge(self) -> None:
        """Send what is due without waiting for the answer."""
        request = None if self._closed else self._stream.acknowledgement()
        if request is not None:
            self._sender = asyncio.create_task(self._send_on(request), name="tidings-acknowledgement")

    async def _send_on(self, request: Any) -> None:
        while request is not None and await self._send(request):
            request = None if self._closed else self._stream.acknowledgement()

    async def _send(self, request: Any) -> bool:
        """Send an acknowledgement, wait for it, and tell whether the next may go out."""
        failed: errors.TidingsError | None = None
        try:
            await self._stub.Acknowledge(request, timeout=self._timeout)
        except grpc.RpcError as error:
            failed = wire.error_from(error, self._address, self._timeout)
        if not self._stream.acknowledged(request, failed):
            self._call.cancel()
            return False
        # What was refused is not sent again.
        return failed is None or isinstance(failed, errors.InvalidArgument)
