"""The load generator says what happened: it counts every answer, asks at random, and sees every message of a stream."""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from caller import Caller, Streams, build
from tidings_core.errors import NotFound, Overloaded, TidingsError
from tidings_server.metrics import Metrics
from tidings_server.settings import Address
from tidings_server.transport.batcher import Batcher
from tidings_server.transport.calls import Call, Method, Stream
from tidings_server.transport.front_grpcio import GrpcioFront

pytestmark = pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="there is no C compiler")

BODIES = [b"%d" % number for number in range(100)]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built generator."""
    return build(tmp_path_factory.mktemp("caller"))


class Desk:
    """What the server of the tests does: repeats a request ten times, knows no 13, tells everyone but 7."""

    def __init__(self) -> None:
        self.asked: Counter[bytes] = Counter()
        self.speak = asyncio.Event()

    def answer(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer calls."""
        self.asked.update(call.body for call in calls)
        return [NotFound("no 13") if call.body == b"13" else call.body * 10 for call in calls]

    async def tell(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """Tell a stream who it is and, when it is time, something long."""
        if body == b"7":
            raise Overloaded("no 7", 1.0)
        yield body
        await self.speak.wait()
        yield b"short"
        yield body * 1000
        await asyncio.Event().wait()


@asynccontextmanager
async def desk(program: Path) -> AsyncIterator[tuple[Desk, Caller]]:
    """A desk, and the generator that calls it."""
    made, batcher = Desk(), Batcher("compute", 1, 1000, time.monotonic)
    method = Method("t.Desk", "Ask", made.answer, "compute", 16, 10.0)
    front = GrpcioFront([method], {"compute": batcher}, Metrics(), 1 << 20, [Stream("t.Desk", "Hear", made.tell)])
    address = front.bind(Address("127.0.0.1", 0))
    await front.start()
    try:
        yield made, Caller(program, str(address), core=None)
    finally:
        await front.drain(0.0)
        await asyncio.to_thread(batcher.close, 30)


@pytest.mark.parametrize("rate", [0.0, 500.0])
async def test_each_call_is_counted_for_what_came_of_it(program: Path, rate: float) -> None:
    """Answers, short ones and errors; each request comes up about as often as any other."""
    async with desk(program) as (made, caller):
        found = await asyncio.to_thread(caller.calls, "/t.Desk/Ask", BODIES, 1.0, 8, rate, 20)
        if rate:
            assert found["calls_per_second"] == pytest.approx(rate, rel=0.3)
        assert found["calls_per_second"] > 100
        assert 0 < found["p50_ms"] < found["p99_ms"]
        # Ten of a hundred requests have one digit, and so an answer of 10 bytes; one has an error.
        calls = found["calls_per_second"] * 0.8
        assert 0.04 * calls < found["short_answers"] < 0.2 * calls
        assert 0 < found["failed"] < 0.04 * calls
        assert len(made.asked) > 80


async def test_every_message_of_every_stream_is_seen(program: Path) -> None:
    """Who is let in and who is refused; then each long message, with the number of its stream and when it came."""
    async with desk(program) as (made, caller):
        with caller.streams("/t.Desk/Hear", BODIES, 3, least=100, patience=30.0) as streams:
            assert await asyncio.to_thread(_opened, streams) == (99, 1, 0)
            expected = await asyncio.to_thread(streams.expect, 99)
            before = time.monotonic_ns()
            made.speak.set()
            receipts = await asyncio.to_thread(expected.receive)
            assert sorted(receipts["stream"]) == [number for number in range(100) if number != 7]
            sizes = {int(row["stream"]): int(row["size"]) for row in receipts}
            assert sizes == {number: 1000 * len(BODIES[number]) for number in range(100) if number != 7}
            assert np.all((receipts["at"] >= before) & (receipts["at"] <= time.monotonic_ns()))


def _opened(streams: Streams) -> tuple[float, float, float]:
    found = streams.opened()
    return found["open"], found["refused"], found["silent"]
