"""The load generator says what happened: it counts every answer, asks at random, and sees every message of a stream."""

import asyncio
import functools
import shutil
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from grpc import StatusCode

from caller import ENDED, Caller, Streams, build
from tidings_core.errors import NotFound, Overloaded, TidingsError
from tidings_server.metrics import Metrics
from tidings_server.settings import Address
from tidings_server.transport.batcher import Batcher
from tidings_server.transport.calls import Call, Method, Stream
from tidings_server.transport.front import find_front

pytestmark = pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="there is no C compiler")

BODIES = [b"%d" % number for number in range(100)]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built generator."""
    return build(tmp_path_factory.mktemp("caller"))


class Desk:
    """What the server of the tests does: repeats a request ten times, knows no 13, tells everyone but 7.

    It has no time for 77, and takes its time for "slow".
    """

    def __init__(self) -> None:
        self.asked: Counter[bytes] = Counter()
        self.speak = asyncio.Event()
        self.hurry = threading.Event()

    def answer(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer calls."""
        self.asked.update(call.body for call in calls)
        if any(call.body == b"slow" for call in calls):
            self.hurry.wait(10)
        faults: dict[bytes, TidingsError] = {b"13": NotFound("no 13"), b"77": Overloaded("no time", 1.0)}
        return [faults.get(call.body) or call.body * 10 for call in calls]

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
async def desk(program: Path, front_name: str = "grpcio") -> AsyncIterator[tuple[Desk, Caller]]:
    """A desk, and the generator that calls it."""
    if front_name == "native":
        pytest.importorskip("pygrpc_native", reason="the extra [native] is not installed")
    made, batcher = Desk(), Batcher("compute", 1, 1000, time.monotonic)
    method = Method("t.Desk", "Ask", made.answer, "compute", 16, 10.0)
    streams = [Stream("t.Desk", "Hear", made.tell)]
    front = find_front(front_name)([method], {"compute": batcher}, Metrics(), 1 << 20, streams)
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
        # Ten of a hundred requests have one digit, and so an answer of 10 bytes; two have an error.
        calls = found["calls_per_second"] * 0.8
        assert 0.04 * calls < found["short_answers"] < 0.2 * calls
        assert 0 < found["refused"] < found["failed"] < 0.06 * calls
        assert found["cpu_seconds"] > 0
        assert len(made.asked) > 80


@pytest.mark.parametrize("front", ["grpcio", "native"])
async def test_each_call_is_recorded_with_its_time_and_code(program: Path, front: str, tmp_path: Path) -> None:
    """A row for each call that ended, also of the first moments, whatever the front's way to write a status."""
    async with desk(program, front) as (_, caller):
        before = time.monotonic_ns()
        call = functools.partial(caller.calls, "/t.Desk/Ask", [b"13", b"77", b"5"], record=tmp_path / "ended")
        await asyncio.to_thread(call, seconds=0.5, in_flight=6)
        rows = np.fromfile(tmp_path / "ended", ENDED)
    ok, exhausted, missing = (
        code.value[0] for code in (StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED, StatusCode.NOT_FOUND)
    )
    assert set(rows["code"]) == {ok, exhausted, missing}
    assert min(Counter(rows["code"].tolist()).values()) > len(rows) / 6
    assert np.all((rows["due"] >= before) & (rows["due"] < before + 5e9))
    assert np.all(rows["ms"] > 0)


@pytest.mark.parametrize("tell", [True, False])
async def test_a_call_without_an_answer_is_left(program: Path, tell: bool, tmp_path: Path) -> None:
    """After its time; with a deadline that the server was told of, or without a word."""
    async with desk(program) as (made, caller):
        call = functools.partial(caller.calls, "/t.Desk/Ask", [b"slow"], record=tmp_path / "ended")
        found = await asyncio.to_thread(call, seconds=1.0, in_flight=2, leave_ms=50, tell=tell)
        made.hurry.set()
        rows = np.fromfile(tmp_path / "ended", ENDED)
    assert found["calls_per_second"] == 0
    assert found["failed"] > 10
    assert set(rows["code"]) == {(StatusCode.DEADLINE_EXCEEDED if tell else StatusCode.CANCELLED).value[0]}
    assert np.all(rows["ms"] > 45)


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
