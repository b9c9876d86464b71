"""The batcher takes whatever waits, drops what nobody wants, and refuses what it has no room for."""

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from tidings_core.errors import DeadlinePassed, NotFound, Overloaded, TidingsError
from tidings_server.transport.batcher import Batcher
from tidings_server.transport.calls import Call, Method

LATER = 1000.0


class Gate:
    """A handler that echoes, and can be held shut so that calls pile up behind it."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.opened.set()

    def __call__(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Note the batch, wait for the gate, and answer in capitals."""
        self.batches.append([call.body for call in calls])
        self.entered.set()
        assert self.opened.wait(30)
        return [NotFound("no") if call.body == b"missing" else call.body.upper() for call in calls]

    async def hold(self, batcher: Batcher, method: Method) -> "asyncio.Future[bytes]":
        """Shut the gate behind one call that a thread is now busy with."""
        self.opened.clear()
        self.entered.clear()
        first = batcher.submit(method, Call(b"first", LATER))
        await asyncio.to_thread(self.entered.wait, 30)
        return first


@pytest.fixture
def gate() -> Gate:
    """An open gate."""
    return Gate()


def method_of(gate: Gate, max_batch: int = 4, name: str = "Echo") -> Method:
    """A method that the gate handles."""
    return Method("test.Gate", name, gate, "compute", max_batch, 1.0)


@pytest.fixture
def sizes() -> list[int]:
    """The batch sizes that were observed."""
    return []


@pytest.fixture
def batcher(sizes: list[int], gate: Gate) -> Iterator[Batcher]:
    """One thread, room for six, a clock at 0."""
    batcher = Batcher("test", 1, 6, lambda: 0.0, sizes.append)
    yield batcher
    gate.opened.set()
    batcher.close(30)


async def test_a_call_alone_is_answered_at_once(batcher: Batcher, gate: Gate) -> None:
    """Nothing waits for company."""
    assert await batcher.submit(method_of(gate), Call(b"alone", LATER)) == b"ALONE"
    assert gate.batches == [[b"alone"]]


async def test_what_waits_is_taken_together_up_to_max_batch(batcher: Batcher, gate: Gate, sizes: list[int]) -> None:
    """Six calls behind a busy thread become a batch of four and one of two, in order."""
    method = method_of(gate)
    first = await gate.hold(batcher, method)
    waiting = [batcher.submit(method, Call(b"w%d" % n, LATER)) for n in range(6)]
    assert batcher.waiting == 6
    gate.opened.set()
    assert await asyncio.gather(first, *waiting) == [b"FIRST", *(b"W%d" % n for n in range(6))]
    assert gate.batches == [[b"first"], [b"w0", b"w1", b"w2", b"w3"], [b"w4", b"w5"]]
    assert sizes == [1, 4, 2]


async def test_methods_are_never_mixed_in_a_batch(batcher: Batcher, gate: Gate) -> None:
    """Each handler sees its own calls only, and every call is answered."""
    others = Gate()
    echo, other = method_of(gate), Method("test.Gate", "Other", others, "compute", 4, 1.0)
    first = await gate.hold(batcher, echo)
    waiting = [batcher.submit(method, Call(b"x", LATER)) for method in (echo, other, other, echo, echo)]
    gate.opened.set()
    await asyncio.gather(first, *waiting)
    assert gate.batches == [[b"first"], [b"x"], [b"x", b"x"]]
    assert others.batches == [[b"x", b"x"]]


async def test_a_method_that_is_never_batched_runs_alone(batcher: Batcher, gate: Gate) -> None:
    """max_batch 1 means one call a time."""
    method = method_of(gate, max_batch=1)
    first = await gate.hold(batcher, method)
    waiting = [batcher.submit(method, Call(b"x", LATER)) for _ in range(3)]
    gate.opened.set()
    await asyncio.gather(first, *waiting)
    assert [len(batch) for batch in gate.batches] == [1, 1, 1, 1]


async def test_a_full_queue_refuses_at_once_and_says_when_to_return(batcher: Batcher, gate: Gate) -> None:
    """The seventh waiting call is refused; the six before it are answered."""
    method = method_of(gate)
    first = await gate.hold(batcher, method)
    waiting = [batcher.submit(method, Call(b"x", LATER)) for _ in range(6)]
    with pytest.raises(Overloaded, match="6 calls are waiting") as refused:
        batcher.submit(method, Call(b"y", LATER))
    assert refused.value.retry_after > 0
    gate.opened.set()
    assert await asyncio.gather(first, *waiting) == [b"FIRST", *[b"X"] * 6]


async def test_a_caller_that_went_away_costs_no_work(batcher: Batcher, gate: Gate) -> None:
    """A call cancelled while it waits never reaches the handler."""
    method = method_of(gate)
    first = await gate.hold(batcher, method)
    gone, kept = (batcher.submit(method, Call(body, LATER)) for body in (b"gone", b"kept"))
    gone.cancel()
    gate.opened.set()
    assert list(await asyncio.gather(first, kept)) == [b"FIRST", b"KEPT"]
    assert gate.batches == [[b"first"], [b"kept"]]


async def test_a_deadline_that_passed_while_waiting_costs_no_work(batcher: Batcher, gate: Gate) -> None:
    """Such a call ends with DeadlinePassed and never reaches the handler."""
    method = method_of(gate)
    with pytest.raises(DeadlinePassed):
        await batcher.submit(method, Call(b"late", 0.0))
    assert gate.batches == []


async def test_an_error_belongs_to_its_call_alone(batcher: Batcher, gate: Gate) -> None:
    """A neighbour's error is not mine."""
    method = method_of(gate)
    first = await gate.hold(batcher, method)
    bad, good = (batcher.submit(method, Call(body, LATER)) for body in (b"missing", b"there"))
    gate.opened.set()
    await first
    assert await good == b"THERE"
    with pytest.raises(NotFound):
        await bad


async def test_a_handler_that_raises_fails_its_batch_and_the_thread_lives_on(batcher: Batcher, gate: Gate) -> None:
    """The callers get an error that tells nothing of the inside, and the next call is answered."""

    def broken(calls: Sequence[Call]) -> list[bytes | TidingsError]:
        raise ZeroDivisionError("secret")

    def short(calls: Sequence[Call]) -> list[bytes | TidingsError]:
        return []

    for handler in (broken, short):
        with pytest.raises(TidingsError, match="its log says why") as failed:
            await batcher.submit(Method("test.Gate", "Broken", handler, "compute", 4, 1.0), Call(b"", LATER))
        assert failed.value.reason == "INTERNAL"
    assert await batcher.submit(method_of(gate), Call(b"next", LATER)) == b"NEXT"


async def test_closing_answers_what_waits(gate: Gate) -> None:
    """Threads end after the queue is empty, not before."""
    batcher = Batcher("closing", 2, 10, lambda: 0.0)
    waiting = [batcher.submit(method_of(gate), Call(b"x", LATER)) for _ in range(10)]
    await asyncio.to_thread(batcher.close, 30)
    assert await asyncio.gather(*waiting) == [b"X"] * 10


async def test_what_no_work_is_done_for_is_counted_by_why(gate: Gate) -> None:
    """Refused, late, or left by its caller: each once."""
    why: list[str] = []
    batcher = Batcher("test", 1, 3, lambda: 0.0, observe_unserved=why.append)
    method = method_of(gate)
    first = await gate.hold(batcher, method)
    left = batcher.submit(method, Call(b"left", LATER))
    late = batcher.submit(method, Call(b"late", -1.0))
    last = batcher.submit(method, Call(b"last", LATER))
    with pytest.raises(Overloaded):
        batcher.submit(method, Call(b"refused", LATER))
    left.cancel()
    gate.opened.set()
    assert [await first, await last] == [b"FIRST", b"LAST"]
    with pytest.raises(DeadlinePassed):
        await late
    assert sorted(why) == ["late", "left", "refused"]
    batcher.close(30)


async def test_a_handler_can_ask_whether_a_caller_still_waits(batcher: Batcher) -> None:
    """So that it need not go on with a call that nobody waits for any more."""
    entered, go, seen = threading.Event(), threading.Event(), []

    def handle(calls: Sequence[Call]) -> list[bytes | TidingsError]:
        seen.append(calls[0].left())
        entered.set()
        assert go.wait(30)
        seen.append(calls[0].left())
        return [b""]

    call = batcher.submit(Method("test.Gate", "Slow", handle, "compute", 1, 1.0), Call(b"", LATER))
    await asyncio.to_thread(entered.wait, 30)
    call.cancel()
    go.set()
    await asyncio.to_thread(batcher.close, 30)
    assert seen == [False, True]
