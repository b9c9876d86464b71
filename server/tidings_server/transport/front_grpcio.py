"""The grpcio front: gRPC over HTTP/2 by grpcio's asyncio server, on raw bytes, with health and reflection."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tidings_core.errors import InvalidInput, Stopping, TidingsError
from tidings_server.metrics import Ended, Metrics
from tidings_server.settings import Address
from tidings_server.transport import status
from tidings_server.transport.addresses import check_free
from tidings_server.transport.batcher import Batcher
from tidings_server.transport.calls import Call, Lane, Method, Stream, Upload

READY_SERVICE = "tidings.v1.RecommendationService"
"""The health service that is SERVING only while a release answers."""

QUIET = 0.1
"""Seconds without a new call after which a drain takes it that callers have gone elsewhere."""
RETRY_AFTER = 1.0
"""Seconds a caller is asked to wait for the next server."""

MAX_PENDING = 1 << 16
"""Calls that grpc-core holds at most until the event loop takes them, unless told otherwise."""

# Finds peers that vanished.
KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS = 60_000, 20_000

Context = grpc.aio.ServicerContext[bytes, bytes]
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
FindHandler = Callable[[], Any]
"""Gives the Handler of the next call of a method."""

_T = TypeVar("_T")

log = structlog.get_logger(__name__)


class _Handlers(grpc.GenericRpcHandler):
    """Finds the handler of each call by the method's path."""

    def __init__(self, found: Mapping[str, FindHandler]) -> None:
        self._found = found

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        """The handler of a call; None for a method that nobody has."""
        find = self._found.get(handler_call_details.method)
        return None if find is None else find()


def _always(handler: Handler) -> Handler:
    return handler


class GrpcioFront:
    """A gRPC server for Methods and Streams. Everything but the Methods' handlers runs on the event loop."""

    def __init__(
        self,
        methods: Sequence[Method],
        batchers: Mapping[Lane, Batcher],
        metrics: Metrics,
        max_message_bytes: int,
        streams: Sequence[Stream] = (),
        uploads: Sequence[Upload] = (),
        named: Sequence[str] = (),
        max_pending: int = MAX_PENDING,
    ) -> None:
        """Take the methods, the batcher that runs each lane, the streams, and the streams that callers send.

        Reflection names the services of `named` too, which another front has. `max_pending` calls wait at most until
        the event loop takes them; grpc-core cuts off more.
        """
        self._stopping = False
        self._under_way = 0
        self._last_arrival = 0.0
        self._server = grpc.aio.server(
            options=[
                # Two servers on one port would share its calls without anyone being told.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                # Clients may ping every 10 s, also without a call under way.
                ("grpc.keepalive_time_ms", KEEPALIVE_MS),
                ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                # What waits for the event loop is refused by the handlers, with a status and a time to come back. But
                # to refuse a call costs the loop as much as any call does, some 150 us: where more come than it can
                # even refuse, all would wait, and grpc-core resets calls itself, without a word.
                ("grpc.server.max_pending_requests", max_pending),
                ("grpc.server.max_pending_requests_hard_limit", max_pending),
            ]
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        found: dict[str, FindHandler] = {}
        for method in methods:
            found[f"/{method.service}/{method.name}"] = self._found(
                method, batchers[method.lane], metrics.calls(method.name)
            )
        for stream in streams:
            sending: Handler = grpc.unary_stream_rpc_method_handler(self._stream(stream, metrics.calls(stream.name)))
            found[f"/{stream.service}/{stream.name}"] = partial(_always, sending)
        for upload in uploads:
            taking: Handler = grpc.stream_unary_rpc_method_handler(self._upload(upload, metrics.calls(upload.name)))
            found[f"/{upload.service}/{upload.name}"] = partial(_always, taking)
        self._server.add_generic_rpc_handlers((_Handlers(found),))
        services = [path.split("/")[1] for path in found]
        names = (*dict.fromkeys((*services, *named)), health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def bind(self, address: Address) -> Address:
        """Take the address without answering yet, and return it with its real port. Raises InUse or InvalidInput."""
        check_free(address)
        try:
            return address.with_port(self._server.add_insecure_port(str(address)))
        except RuntimeError as error:
            raise InvalidInput(("listen", f"{address} cannot be listened on: {error}")) from error

    def bind_unix(self, path: Path) -> None:
        """Take a Unix socket without answering yet."""
        self._server.add_insecure_port(f"unix:{path}")

    async def start(self) -> None:
        """Answer."""
        await self.set_ready(False)
        await self._server.start()

    async def set_ready(self, ready: bool) -> None:
        """Tell health checks whether a release answers."""
        serving = health_pb2.HealthCheckResponse.SERVING
        await self._health.set(READY_SERVICE, serving if ready else health_pb2.HealthCheckResponse.NOT_SERVING)

    async def fail_health(self) -> None:
        """Tell health checks that the server is about to end, for good."""
        await self._health.enter_graceful_shutdown()

    async def drain(self, seconds: float) -> None:
        """Fail health checks, refuse new calls, let those under way end within `seconds`, then cut off what is left.

        New calls are refused here and not by closing the server at once: grpcio cancels the calls it has received but
        not yet handed over when it is closed, and a client does not retry what was cancelled.
        """
        await self.fail_health()
        self._stopping = True
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end and (self._under_way or now - self._last_arrival < QUIET):
            await asyncio.sleep(0.01)
        # What is left are streams that watch health, and calls that are out of time.
        await self._server.stop(min(seconds, QUIET))

    def _found(self, method: Method, batcher: Batcher, ended: Ended) -> FindHandler:
        """What finds the handler of a method's next call."""
        answering: Handler = grpc.unary_unary_rpc_method_handler(self._call(method, batcher, ended))

        def find() -> Handler:
            refused = None if self._stopping else batcher.refuse()
            return answering if refused is None else self._refusing(refused, ended)

        return find

    def _refusing(self, error: TidingsError, ended: Ended) -> Handler:
        """What refuses a call before its request is even read: nothing costs less, and there may be thousands."""

        async def refuse(_: object, context: Context) -> bytes:
            self._last_arrival = time.monotonic()
            ended(status.code_of(error).name, 0.0)
            await _refuse(context, error)
            raise AssertionError("a refusal always raises")

        # As if requests came in a stream: then none is waited for.
        return grpc.stream_unary_rpc_method_handler(refuse)

    def _call(self, method: Method, batcher: Batcher, ended: Ended) -> Callable[[bytes, Context], Awaitable[bytes]]:
        """What grpcio runs for each call of a method."""

        async def call(body: bytes, context: Context) -> bytes:
            remaining = context.time_remaining()
            seconds = method.default_seconds if remaining is None else remaining
            return await self._serve(
                method.name, context, seconds, ended, lambda deadline: batcher.submit(method, Call(body, deadline))
            )

        return call

    def _stream(self, stream: Stream, ended: Ended) -> Callable[[bytes, Context], Awaitable[None]]:
        """What grpcio runs for each call of a stream."""

        async def send(body: bytes, context: Context) -> None:
            async with aclosing(stream.handler(body)) as messages:
                async for message in messages:
                    try:
                        # It waits while the peer does not read: the next message is not even made before.
                        await context.write(message)
                    except grpc.aio.InternalError as gone:
                        # The call is over already. grpcio is about to cancel this task for it.
                        raise asyncio.CancelledError from gone

        async def sending(body: bytes, context: Context) -> None:
            remaining = context.time_remaining()
            seconds = math.inf if remaining is None else remaining
            await self._serve(stream.name, context, seconds, ended, lambda _: send(body, context))

        return sending

    def _upload(self, upload: Upload, ended: Ended) -> Callable[[AsyncIterator[bytes], Context], Awaitable[bytes]]:
        """What grpcio runs for each call of a stream that callers send."""

        async def take(messages: AsyncIterator[bytes], context: Context) -> bytes:
            remaining = context.time_remaining()
            seconds = math.inf if remaining is None else remaining
            return await self._serve(upload.name, context, seconds, ended, lambda _: upload.handler(messages))

        return take

    async def _serve(
        self, name: str, context: Context, seconds: float, ended: Ended, work: Callable[[float], Awaitable[_T]]
    ) -> _T:
        """Do the work of one call, which gets its deadline, count it, and end it with the error it raises."""
        start = self._last_arrival = time.monotonic()
        deadline = start + seconds
        code = "CANCELLED"
        self._under_way += 1
        try:
            if self._stopping:
                raise Stopping("the server is stopping: try again, or try another one", RETRY_AFTER)
            answer = await work(deadline)
            code = "OK"
            return answer
        except TidingsError as error:
            code = status.code_of(error).name
            await _refuse(context, error)
        except asyncio.CancelledError:  # By the caller, by the deadline, or by the end of a drain.
            if time.monotonic() >= deadline:
                code = grpc.StatusCode.DEADLINE_EXCEEDED.name
            raise
        except Exception:  # A fault of ours; what it was is in the log.
            log.exception("a call failed", method=name)
            code = grpc.StatusCode.INTERNAL.name
            await _refuse(context, TidingsError("the server failed; its log says why"))
        finally:
            self._under_way -= 1
            ended(code, time.monotonic() - start)
        raise AssertionError("a refusal always raises")


async def _refuse(context: Context, error: TidingsError) -> None:
    """End a call with an error. Always raises."""
    details = ((status.DETAILS_KEY, status.details_of(error)),)
    await context.abort(status.code_of(error), status.message_of(error), details)
