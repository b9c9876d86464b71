"""The native front: gRPC by pygrpc-native, whose HTTP/2 runs in Rust and outside the GIL.

Calls come to one thread, many at a time, and go from there to the batchers; a batcher's thread answers them itself, so
that no call passes the event loop. Streams run on the event loop. Whatever else comes to the port (health, reflection,
streams that callers send, methods that nobody has) goes through to a grpcio front behind it, on a socket in a directory
of its own.
"""

import asyncio
import math
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import grpc
import structlog
from pygrpc_native import EVENT_CANCEL, STREAM_CLOSED, STREAM_FULL, NativeGrpcFront

from tidings_core.errors import InvalidInput, Stopping, TidingsError
from tidings_server.metrics import Ended, Metrics
from tidings_server.settings import Address
from tidings_server.transport import status
from tidings_server.transport.addresses import check_free
from tidings_server.transport.batcher import Batcher, Outcome
from tidings_server.transport.calls import Call, Lane, Method, Session, Stream, Upload
from tidings_server.transport.front_grpcio import (
    KEEPALIVE_MS,
    KEEPALIVE_TIMEOUT_MS,
    QUIET,
    RETRY_AFTER,
    GrpcioFront,
)

TOGETHER = 256
"""Calls that are taken from the native side at once."""
IO_THREADS = 1
"""Threads for HTTP/2. One carries more calls than Python can answer."""
MAX_STREAMS = 100_000
"""Calls that one connection may have open; the library's default of 1024 would make a proxy's subscribers wait."""
PAUSES = (0.0,) * 16 + (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.5)
"""Seconds until a message is tried again for which there was no room: the library does not tell when there is.

It takes a message or two of a stream ahead, which may only mean that its own thread had no turn yet; or the peer does
not read.
"""
OPENED_AT_ONCE = 64
"""So many sessions are opened at the same time; more wait."""
ASKED_AT_ONCE = 256
"""So many sessions are asked for messages in one turn of the event loop."""
EARLY = 0.001
"""Seconds that a deadline may seem to be away still when the native side has found it passed."""

log = structlog.get_logger(__name__)


class _Underway:
    """One call, from its arrival to its end. A Caller for the batcher."""

    __slots__ = ("awake", "call_id", "deadline", "ended", "over", "rpc", "session", "start", "task", "tries", "unsent")

    def __init__(self, call_id: int, rpc: Method | Stream, ended: Ended, start: float, deadline: float) -> None:
        self.call_id = call_id
        self.rpc = rpc
        self.ended = ended
        self.start = start
        self.deadline = deadline
        self.over = False
        self.task: asyncio.Task[None] | None = None
        self.session: Session | None = None
        self.awake = False
        """Whether its session is to be asked."""
        self.unsent: bytes | None = None
        """A message of its session that there was no room for, and how often it was tried."""
        self.tries = 0

    def done(self) -> bool:
        """Whether nobody waits any more."""
        return self.over

    def gone_code(self, now: float) -> str:
        """The code of a call that the peer does not wait for any more."""
        return "DEADLINE_EXCEEDED" if now >= self.deadline - EARLY else "CANCELLED"


class NativeFront:
    """A gRPC server for Methods and Streams."""

    def __init__(
        self,
        methods: Sequence[Method],
        batchers: Mapping[Lane, Batcher],
        metrics: Metrics,
        max_message_bytes: int,
        streams: Sequence[Stream] = (),
        uploads: Sequence[Upload] = (),
    ) -> None:
        """Take the methods, the batcher that runs each lane, the streams, and the streams that callers send."""
        self._max_message_bytes = max_message_bytes
        rpcs: tuple[Method | Stream, ...] = (*methods, *streams)
        # What the native side calls a method is its place in this list.
        self._routes = [(rpc, metrics.calls(rpc.name)) for rpc in rpcs]
        self._batchers = batchers
        self._calls: dict[int, _Underway] = {}
        """What is under way. Who takes a call out of it ends it: that is one step, and so happens once."""
        self._stopping = False
        self._last_arrival = 0.0
        self._loop = asyncio.get_running_loop()
        self._awake: deque[_Underway] = deque()
        """Whose sessions are to be asked, in the loop's next turns."""
        self._waiting: deque[tuple[_Underway, Stream, bytes]] = deque()
        """Whose sessions are to be opened, when some of the `_opening` are."""
        self._opening = 0
        self._native: NativeGrpcFront | None = None
        self._receiver = threading.Thread(target=self._receive, name="native-front", daemon=True)
        self._behind = GrpcioFront(
            [], {}, metrics, max_message_bytes, uploads=uploads, named=[rpc.service for rpc in rpcs]
        )
        self._directory = tempfile.TemporaryDirectory(prefix="tidings-")

    def bind(self, address: Address) -> Address:
        """Take the address without answering yet, and return it with its real port. Raises InUse or InvalidInput."""
        check_free(address)
        try:
            self._native = NativeGrpcFront(
                str(address),
                [(f"/{rpc.service}/{rpc.name}", isinstance(rpc, Stream)) for rpc, _ in self._routes],
                io_threads=IO_THREADS,
                # Deadlines, and word of callers who leave.
                call_details=True,
                # A stream that is refused before its first message has headers and status in one, as with grpcio.
                delay_stream_headers=True,
                keepalive_time_ms=KEEPALIVE_MS,
                keepalive_timeout_ms=KEEPALIVE_TIMEOUT_MS,
                keepalive_permit_without_calls=True,
                max_concurrent_streams=MAX_STREAMS,
            )
        except OSError as error:
            raise InvalidInput(("listen", f"{address} cannot be listened on: {error}")) from error
        socket = Path(self._directory.name) / "grpcio"
        self._behind.bind_unix(socket)
        self._native.set_fallback(str(socket))
        return address.with_port(self._native.bound_port)

    async def start(self) -> None:
        """Answer."""
        assert self._native is not None
        await self._behind.start()
        self._native.start()
        self._receiver.start()

    async def set_ready(self, ready: bool) -> None:
        """Tell health checks whether a release answers."""
        await self._behind.set_ready(ready)

    async def drain(self, seconds: float) -> None:
        """Fail health checks, refuse new calls, let those under way end within `seconds`, then cut off what is left."""
        await self._behind.fail_health()
        self._stopping = True
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end and (self._calls or now - self._last_arrival < QUIET):
            await asyncio.sleep(0.01)
        left = list(self._calls.values())
        tasks = [call.task for call in left if call.task is not None]
        for call in left:
            self._refuse(call, _stopping())
            self._close(call)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Closing does not wait for the last answers to be on their way; this does.
        await asyncio.sleep(min(seconds, QUIET))
        await self._behind.drain(min(seconds, QUIET))
        if self._native is not None:
            await asyncio.to_thread(self._native.close)
        if self._receiver.ident is not None:
            await asyncio.to_thread(self._receiver.join)
        self._directory.cleanup()

    def _receive(self) -> None:
        """Take what comes until the front is closed: the thread of its own."""
        native = self._native
        assert native is not None
        while (events := native.recv_batch_details(TOGETHER)) is not None:
            for_loop: list[tuple[_Underway, Stream | None, bytes]] = []
            now = time.monotonic()
            for kind, call_id, method_id, body, _, details in events:
                if kind == EVENT_CANCEL:
                    call = self._calls.get(call_id)
                    if call is None:
                        continue  # It has its answer.
                    # This kind of event does not say of which method it is.
                    if isinstance(call.rpc, Stream):
                        for_loop.append((call, None, b""))
                    else:
                        self._end(call, call.gone_code(now))
                    continue
                assert body is not None
                assert details is not None
                arrived = self._arrive(call_id, method_id, body, details[2], now)
                if arrived is not None:
                    for_loop.append((*arrived, body))
            if for_loop:
                try:
                    self._loop.call_soon_threadsafe(self._on_loop, for_loop)
                except RuntimeError:
                    log.warning("streams dropped: the server has stopped", streams=len(for_loop))

    def _arrive(
        self, call_id: int, method_id: int, body: bytes, remaining: float | None, now: float
    ) -> tuple[_Underway, Stream] | None:
        """Let a call in: hand it to its batcher, or return it with its stream. None when it is not the loop's."""
        self._last_arrival = now
        rpc, ended = self._routes[method_id]
        without = math.inf if isinstance(rpc, Stream) else rpc.default_seconds
        deadline = now + (without if remaining is None else remaining)
        call = self._calls[call_id] = _Underway(call_id, rpc, ended, now, deadline)
        if len(body) > self._max_message_bytes:
            # In grpcio's words, by which clients know it.
            said = f"SERVER: Received message larger than max ({len(body)} vs. {self._max_message_bytes})"
            self._fail(call, grpc.StatusCode.RESOURCE_EXHAUSTED, said)
            return None
        try:
            if self._stopping:
                raise _stopping()
            if isinstance(rpc, Stream):
                return call, rpc
            self._batchers[rpc.lane].put(rpc, Call(body, deadline), call, self._deliver)
        except TidingsError as error:
            self._refuse(call, error)
        except Exception:  # The thread must live on.
            self._failed(call)
        return None

    def _deliver(self, outcomes: Sequence[Outcome]) -> None:
        """Answer the calls of a batch. In a batcher's thread."""
        native = self._native
        assert native is not None
        for call, answer in outcomes:
            if not isinstance(answer, bytes):
                self._refuse(call, answer)
            elif self._end(call, "OK"):
                native.respond(call.call_id, answer)

    def _on_loop(self, found: Sequence[tuple[_Underway, Stream | None, bytes]]) -> None:
        """Begin streams, and end those whose callers are gone."""
        for call, stream, body in found:
            if stream is not None and stream.open is not None:
                self._waiting.append((call, stream, body))
            elif stream is not None:
                call.task = self._loop.create_task(self._tell(call, stream, body))
            elif call.task is not None:
                call.task.cancel()
            else:
                self._end(call, call.gone_code(time.monotonic()))
                self._close(call)
        self._open_some()

    def _open_some(self) -> None:
        """Open sessions that wait for it. Thousands at once would only take memory from each other."""
        while self._waiting and self._opening < OPENED_AT_ONCE:
            call, stream, body = self._waiting.popleft()
            if not call.over:
                self._opening += 1
                call.task = self._loop.create_task(self._tell(call, stream, body))
                call.task.add_done_callback(self._opened)

    def _opened(self, _: object) -> None:
        self._opening -= 1
        self._open_some()

    async def _tell(self, call: _Underway, stream: Stream, body: bytes) -> None:
        """Send all of one stream, or open its session."""
        native = self._native
        assert native is not None
        try:
            if stream.open is not None:
                call.session = await stream.open(body, partial(self._wake, call))
                call.task = None
                self._wake(call)
                return
            async with aclosing(stream.handler(body)) as messages:
                async for message in messages:
                    await self._send(call, message)
            if self._end(call, "OK"):
                native.stream_end(call.call_id)
        except TidingsError as error:
            self._refuse(call, error)
        except asyncio.CancelledError:  # By the caller, by the deadline, or by the end of a drain.
            self._end(call, call.gone_code(time.monotonic()))
            raise
        except Exception:  # A fault of ours; what it was is in the log.
            self._failed(call)
        finally:
            # A cancelled task keeps the frames it was cancelled in, with all they hold, such as a release: nothing
            # here may keep the task.
            call.task = None

    async def _send(self, call: _Underway, message: bytes) -> None:
        """Send a message of a stream when the peer has room for it."""
        assert self._native is not None
        tries = 0
        while (sent := self._native.stream_try_send(call.call_id, message)) == STREAM_FULL:
            await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1
        if sent == STREAM_CLOSED:
            raise asyncio.CancelledError

    def _wake(self, call: _Underway) -> None:
        """Ask a session in the loop's next turn: once, however much woke it, and with all others that are awake."""
        if call.awake or call.session is None or call.unsent is not None:
            return
        call.awake = True
        if not self._awake:
            self._loop.call_soon(self._ask)
        self._awake.append(call)

    def _ask(self) -> None:
        """Send what sessions have, of so many of them; the rest has the next turn, for the loop has others too."""
        for _ in range(min(len(self._awake), ASKED_AT_ONCE)):
            call = self._awake[0]
            call.awake = False
            self._feed(call)
            self._awake.popleft()
        if self._awake:
            self._loop.call_soon(self._ask)

    def _feed(self, call: _Underway) -> None:
        """Send what a session has as long as the peer has room."""
        native, session = self._native, call.session
        assert native is not None
        if session is None:
            return
        try:
            message = session.next() if call.unsent is None else call.unsent
            while message is not None:
                sent = native.stream_try_send(call.call_id, message)
                if sent == STREAM_FULL:
                    call.unsent = message
                    self._loop.call_later(PAUSES[min(call.tries, len(PAUSES) - 1)], self._feed, call)
                    call.tries += 1
                    return
                call.unsent, call.tries = None, 0
                if sent == STREAM_CLOSED:
                    self._end(call, call.gone_code(time.monotonic()))
                    self._close(call)
                    return
                message = session.next()
            if session.ended:
                self._close(call)
                if self._end(call, "OK"):
                    native.stream_end(call.call_id)
        except TidingsError as error:
            self._refuse(call, error)
            self._close(call)
        except Exception:  # A fault of ours.
            self._failed(call)
            self._close(call)

    def _close(self, call: _Underway) -> None:
        """Close the session of a call, if it has one that is open."""
        session, call.session = call.session, None
        if session is not None:
            session.close()

    def _end(self, call: _Underway, code: str) -> bool:
        """Count a call as ended, once. Returns False when it was over already."""
        if self._calls.pop(call.call_id, None) is None:
            return False
        call.over = True
        call.ended(code, time.monotonic() - call.start)
        return True

    def _refuse(self, call: _Underway, error: TidingsError) -> None:
        """End a call with an error."""
        details = ((status.DETAILS_KEY, status.details_of(error)),)
        self._fail(call, status.code_of(error), status.message_of(error), details)

    def _fail(
        self, call: _Underway, code: grpc.StatusCode, message: str, trailers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """End a call with a status."""
        assert self._native is not None
        if self._end(call, code.name):
            self._native.fail(call.call_id, code.value[0], message, trailers)

    def _failed(self, call: _Underway) -> None:
        """End a call with a fault of ours, which is the exception at hand."""
        log.exception("a call failed", method=call.rpc.name)
        self._refuse(call, TidingsError("the server failed; its log says why"))


def _stopping() -> Stopping:
    return Stopping("the server is stopping: try again, or try another one", RETRY_AFTER)
