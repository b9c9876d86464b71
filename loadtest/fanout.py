"""One text for everyone: how fast, how cheap, and how much memory does it take to tell N people who listen?

The server process keeps to core 0: a front, the subscriptions, and a real store, put together as the server does it.
The listeners, the program caller.c, have core 1. It measures

  storm      everyone subscribes at the same moment: how many get in, and how long until the last one has
  memory     bytes that the process grew by, per listener who waits
  burst      everyone's push is committed first; then, in one moment, all are published: time from there to each receipt
  stream     pushes are committed and published as fast as they can be: time from each commit to its receipt
  plain      the same burst from plain grpc.aio: a task per listener, one wake-up for all, the message's bytes shared

CPU per message is the process's time in a burst; that of plain grpc.aio beside it, in the same run.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import psutil

from caller import Caller, NoCompiler, build, keep_to
from tidings.v1 import push_service_pb2 as pb
from tidings_core.stored import StoredPush
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.adapters.state_directory import StateDirectory
from tidings_server.application.acknowledge import Acknowledge
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.send_push import PushRequest, SendPush
from tidings_server.application.serving import Serving
from tidings_server.application.subscriptions import Clocks, Limits, Subscriptions
from tidings_server.application.write_push import Rules
from tidings_server.metrics import Metrics
from tidings_server.settings import Address
from tidings_server.transport.calls import Stream
from tidings_server.transport.events import encode_event
from tidings_server.transport.front import find_front
from tidings_server.transport.push_encoding import encode_push
from tidings_server.transport.pushes import PushHandlers

SUBSCRIBE = "/tidings.v1.PushService/Subscribe"
TITLE = "The sale begins now"
BODY = "Thirty per cent off everything for the garden until Sunday night. Come and have a look: " + "x" * 160
PATIENCE = 120.0
CREDIT = 1000
"""Pushes that may be ahead of what a listener acknowledged; nobody acknowledges here."""


def user_of(number: int) -> str:
    """The user whose stream has that number."""
    return f"user-{number}"


class Teller:
    """The server process: it does what the lines on its standard input say, and answers each with a line."""

    def __init__(self, folder: Path, front: str) -> None:
        """Open the state directory and put together what is needed."""
        self._loop = asyncio.get_running_loop()
        self._state = StateDirectory.open(folder)
        self._store = SqliteStore.open(folder, lambda: int(time.time() * 1000), max_waiting=1_000_000)
        documents = KnownDocuments(self._store)
        limits = Limits(1_000_000, 16, 3600.0)
        clocks = Clocks(time.time, time.monotonic, lambda: 0.5)
        self._subscriptions = Subscriptions(self._store, documents, limits, clocks)
        metrics = Metrics()
        self._send = SendPush(
            self._store, documents, Serving(self._state), encode_push, Rules(10**6, 10**4), self._publish, metrics,
            time.time,
        )  # fmt: skip
        acknowledge = Acknowledge(self._store, documents, self._subscriptions, encode_event, time.time)
        handlers = PushHandlers(self._subscriptions, acknowledge)
        stream = Stream("tidings.v1.PushService", "Subscribe", handlers.subscribe, handlers.open)
        self.front = find_front(front)([], {}, metrics, 1 << 20, [stream])
        self._held: list[tuple[str, StoredPush, Sequence[str]]] | None = None
        self._committed: dict[str, int] = {}
        self._round = 0

    def send(self, count: int, hold: bool) -> dict[str, Any]:
        """Send everyone a push. Held back, all are published together once the last is committed."""
        self._round += 1
        self._committed.clear()
        self._held = [] if hold else None
        cpu = time.process_time()
        answers = [
            self._send(PushRequest(f"{self._round}-{number}", user_of(number), TITLE, 86_400.0, BODY))
            for number in range(count)
        ]
        for answer in answers:
            answer.result()
        if self._held is None:
            return {"committed": [self._committed[user_of(number)] for number in range(count)]}
        cpu, at = time.process_time(), time.monotonic_ns()
        for held in self._held:
            self._subscriptions.publish(*held)
        return {"at": at, "cpu": cpu}

    def _publish(self, user_id: str, push: StoredPush, withdrawn: Sequence[str]) -> None:
        """Note when a push was committed, in the store's writer thread, and tell of it."""
        self._committed[user_id] = time.monotonic_ns()
        if self._held is None:
            self._subscriptions.publish(user_id, push, withdrawn)
        else:
            self._held.append((user_id, push, withdrawn))


class Plain:
    """Plain grpc.aio: a coroutine per listener, one list of those who wait, and a message whose bytes are shared."""

    def __init__(self) -> None:
        """Make the server."""
        self._loop = asyncio.get_running_loop()
        options = [("grpc.so_reuseport", 0), ("grpc.server.max_pending_requests", 1 << 16),
                   ("grpc.server.max_pending_requests_hard_limit", 1 << 16)]  # fmt: skip
        self.server = grpc.aio.server(options=options)
        handlers: Any = {"Subscribe": grpc.unary_stream_rpc_method_handler(self._subscribe)}
        service = grpc.method_handlers_generic_handler("tidings.v1.PushService", handlers)
        self.server.add_generic_rpc_handlers((service,))
        self._waiting: list[asyncio.Future[bytes]] = []

    def send(self, count: int, hold: bool) -> dict[str, Any]:  # noqa: ARG002
        """Tell everyone."""
        push = pb.Push(push_id="x" * 32, offset=1, title=TITLE, body=BODY)
        message = pb.SubscribeResponse(push=push).SerializeToString()
        cpu, at = time.process_time(), time.monotonic_ns()
        self._loop.call_soon_threadsafe(self._tell, message)
        return {"at": at, "cpu": cpu}

    def _tell(self, message: bytes) -> None:
        told, self._waiting = self._waiting, []
        for waiter in told:
            if not waiter.done():
                waiter.set_result(message)

    async def _subscribe(self, body: bytes, context: Any) -> AsyncGenerator[bytes, None]:  # noqa: ARG002
        yield pb.SubscribeResponse(subscribed=pb.Subscribed(subscription_id="x" * 24)).SerializeToString()
        while True:
            waiter: asyncio.Future[bytes] = self._loop.create_future()
            self._waiting.append(waiter)
            yield await waiter


async def serve(folder: Path, front: str) -> None:
    """Be the server process."""
    teller: Teller | Plain
    if front == "plain":
        teller = Plain()
        port = teller.server.add_insecure_port("127.0.0.1:0")
        await teller.server.start()
    else:
        teller = Teller(folder, front)
        port = teller.front.bind(Address("127.0.0.1", 0)).port
        await teller.front.start()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(target=_obey, args=(teller, lambda: loop.call_soon_threadsafe(ended.set)), daemon=True).start()
    print(json.dumps({"port": port}), flush=True)
    await ended.wait()
    os._exit(0)  # Nothing here is worth an orderly end.


def _obey(teller: Teller | Plain, end: Callable[[], object]) -> None:
    for line in sys.stdin:
        what, count = line.split()
        answer = {"cpu": time.process_time()} if what == "cpu" else teller.send(int(count), what == "hold")
        print(json.dumps(answer), flush=True)
    end()


class Server:
    """A server process, told what to do."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.port: int = self._read()["port"]

    @property
    def memory(self) -> int:
        """Bytes of memory that are its own."""
        return int(psutil.Process(self.process.pid).memory_full_info().uss)

    def do(self, what: str, count: int = 0) -> dict[str, Any]:
        """Do it, and return what it answers."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what} {count}\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


@contextmanager
def server(folder: Path, front: str) -> Iterator[Server]:
    """A server process on core 0."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(folder), "--front", front],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: keep_to(0),
    )
    try:
        yield Server(process)
    finally:
        process.kill()
        process.wait()


def measure(program: Path, folder: Path, front: str, options: argparse.Namespace) -> dict[str, float]:
    """Measure one front."""
    count = options.subscribers
    requests = [
        pb.SubscribeRequest(user_id=user_of(number), max_unacked=CREDIT).SerializeToString() for number in range(count)
    ]
    with server(folder, front) as told:
        caller = Caller(program, f"127.0.0.1:{told.port}")
        with caller.streams(SUBSCRIBE, requests[:10], 1) as streams:
            streams.opened()
        before = told.memory
        with caller.streams(
            SUBSCRIBE, requests, options.connections, options.spread, least=100, patience=PATIENCE
        ) as streams:
            opened = streams.opened()
            time.sleep(1.0)
            figures = {
                "open": opened["open"],
                "refused": opened["refused"],
                "silent": opened["silent"],
                "storm_seconds": opened["seconds"],
                "bytes_per_subscriber": (told.memory - before) / max(1.0, opened["open"]),
            }
            bursts = [_burst(told, streams, int(opened["open"])) for _ in range(options.rounds)]
            figures |= {name: statistics.median(one[name] for one in bursts) for name in bursts[0]}
            if front != "plain":
                figures |= _stream(told, streams, count)
    return figures


def _burst(told: Server, streams: Any, count: int) -> dict[str, float]:
    expected = streams.expect(count)
    sent = told.do("hold", count)
    receipts = expected.receive()
    spent = told.do("cpu")["cpu"] - sent["cpu"]
    after = np.sort(receipts["at"] - sent["at"]) / 1e6
    return {
        "burst_received": float(len(receipts)),
        "burst_p50_ms": float(np.quantile(after, 0.5)),
        "burst_p99_ms": float(np.quantile(after, 0.99)),
        "burst_messages_per_second": len(receipts) / float(after[-1]) * 1e3,
        "cpu_us_per_message": spent / len(receipts) * 1e6,
    }


def _stream(told: Server, streams: Any, count: int) -> dict[str, float]:
    expected = streams.expect(count)
    began = time.monotonic()
    committed = np.array(told.do("send", count)["committed"])
    receipts = expected.receive()
    after = np.sort(receipts["at"] - committed[receipts["stream"]]) / 1e6
    return {
        "stream_received": float(len(receipts)),
        "stream_p50_ms": float(np.quantile(after, 0.5)),
        "stream_p99_ms": float(np.quantile(after, 0.99)),
        "stream_messages_per_second": len(receipts) / (float(receipts["at"].max()) / 1e9 - began),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=10_000)
    parser.add_argument("--front", default="native", choices=("native", "grpcio", "plain"))
    parser.add_argument("--connections", type=int, default=100, help="that the listeners share (default 100)")
    parser.add_argument("--spread", type=float, default=0.0, help="seconds over which they come (default: at once)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - is standard output")
    parser.add_argument("--serve", metavar="DIR", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(Path(options.serve), options.front))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            program = build(folder)
        except NoCompiler as error:
            raise SystemExit(str(error)) from error
        figures = measure(program, folder / "state", options.front, options)
        plain = measure(program, folder / "none", "plain", options) if options.front != "plain" else figures
    result = {
        "front": options.front,
        "subscribers": options.subscribers,
        "connections": options.connections,
        **figures,
        "plain_cpu_us_per_message": plain["cpu_us_per_message"],
        "plain_burst_p99_ms": plain["burst_p99_ms"],
        "plain_bytes_per_subscriber": plain["bytes_per_subscriber"],
        "cpu_over_plain": figures["cpu_us_per_message"] / plain["cpu_us_per_message"],
    }
    if options.json == "-":
        print(json.dumps(result))
        return
    if options.json:
        Path(options.json).write_text(json.dumps(result) + "\n")
    for key, value in result.items():
        print(f"{key:32} {value:.3f}" if isinstance(value, float) else f"{key:32} {value}")


if __name__ == "__main__":
    main()
