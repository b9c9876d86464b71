"""Adaptive batching: a thread that is free takes whatever waits. No timers.

Calls wait in one bounded queue. Under light load a call is taken at once and alone; under heavy load batches grow, and
each call costs less. The answers of a batch are handed back together.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Literal, cast

import structlog

from tidings_core.errors import DeadlinePassed, Overloaded, TidingsError
from tidings_server.transport.admission import Admission
from tidings_server.transport.calls import Call, Caller, Method

Unserved = Literal["refused", "late", "left"]
"""Why no work is done for a call: it would have waited too long and was refused; its deadline passed, or its caller
left, while it waited.
"""


Outcome = tuple[Any, bytes | TidingsError]
"""A Caller, and the answer or the error that the call ends with."""
Deliver = Callable[[Sequence[Outcome]], None]
"""Hands back the answers of a batch, in the thread that made them. Never waits. Callers may be gone by then."""
Waiting = tuple[Method, Call, Caller, Deliver, float]
"""What the queue holds; the last are the seconds of work that a call is thought to be."""

log = structlog.get_logger(__name__)


class Batcher:
    """Threads that run the handlers of one lane. Calls come from one thread: by `submit` from the event loop's."""

    def __init__(
        self,
        name: str,
        threads: int,
        max_waiting: int,
        monotonic: Callable[[], float],
        observe_batch: Callable[[int], None] = lambda _: None,
        observe_unserved: Callable[[Unserved], None] = lambda _: None,
        standing: int | None = None,
    ) -> None:
        """Start the threads. `max_waiting` calls may wait, `standing` (None: as many) for longer than a moment.

        `observe_batch` is told the size of each batch, `observe_unserved` of each call that no work is done for.
        """
        self._admission = Admission(threads, max_waiting, max_waiting if standing is None else standing)
        self._observe_unserved = observe_unserved
        self._monotonic = monotonic
        self._observe_batch = observe_batch
        # A SimpleQueue is C code and takes no Python lock; its bound is kept by `put`, which one thread calls.
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Number of calls that no thread has taken yet."""
        return self._queue.qsize()

    def submit(self, method: Method, call: Call) -> "asyncio.Future[bytes]":
        """Queue a call and return the future of its answer. Cancelling it drops the call if it still waits.

        The future raises the call's TidingsError. Raises Overloaded at once when the queue is full.
        """
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.put(method, call, future, _to_loop)
        return future

    def put(self, method: Method, call: Call, caller: Caller, deliver: Deliver) -> None:
        """Queue a call whose answer `deliver` hands to `caller`, together with those of the same batch.

        A batch goes to the `deliver` of its first call: all calls of a method come from one front. Raises Overloaded at
        once when the call would not have its turn in time.
        """
        refused = self.refuse()
        if refused is not None:
            raise refused
        late = self._admission.late(self._queue.qsize(), self._monotonic(), call.deadline)
        if late is not None:
            self._observe_unserved("refused")
            raise late
        call.caller = caller
        self._queue.put((method, call, caller, deliver, self._admission.admit(method.name)))

    def refuse(self) -> Overloaded | None:
        """Why no call is let in now, whatever its deadline; None: one is. A front that asks refuses the call."""
        refused = self._admission.refusal(self._queue.qsize(), self._monotonic())
        if refused is not None:
            self._observe_unserved("refused")
        return refused

    def close(self, seconds: float) -> None:
        """End the threads after what waits; wait up to `seconds` for each."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(seconds)

    def _run(self) -> None:
        ahead: list[Waiting | None] = []
        while True:
            first = ahead.pop() if ahead else self._queue.get()
            if first is None:
                return
            batch, ahead = self._take(first)
            self._answer(batch)
            # A thread that waits holds on to nothing of its last batch.
            del first, batch

    def _take(self, first: Waiting) -> tuple[list[Waiting], list[Waiting | None]]:
        """Take what waits for the same method as `first`, up to its max_batch.

        Returns the batch, and what was taken after it and is not part of it: the first call of another method, or the
        sign to end. The queue cannot take it back, so it begins this thread's next batch.
        """
        batch = [first]
        while len(batch) < first[0].max_batch:
            try:
                waiting = self._queue.get_nowait()
            except Empty:
                break
            if waiting is None or waiting[0] is not first[0]:
                return batch, [waiting]
            batch.append(waiting)
        return batch, []

    def _answer(self, group: Sequence[Waiting]) -> None:
        """Run one handler for the calls of its method that are still wanted, and hand the answers back."""
        method, _, _, deliver, _ = group[0]
        now = self._monotonic()
        outcomes: list[Outcome] = []
        calls: list[Call] = []
        callers: list[Caller] = []
        for _, call, caller, _, _ in group:
            if caller.done():
                self._observe_unserved("left")
            elif call.deadline <= now:
                self._observe_unserved("late")
                outcomes.append((caller, DeadlinePassed("the deadline passed while the call was waiting")))
            else:
                calls.append(call)
                callers.append(caller)
        if calls:
            self._observe_batch(len(calls))
            outcomes.extend(zip(callers, self._handle(method, calls), strict=True))
            self._admission.learn(method.name, len(calls), self._monotonic() - now)
        self._admission.done(sum(cost for *_, cost in group))
        if outcomes:
            try:
                deliver(outcomes)
            except RuntimeError:
                log.warning("answers dropped: the server has stopped", method=method.name, calls=len(outcomes))

    def _handle(self, method: Method, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        try:
            answers = method.handler(calls)
            if len(answers) != len(calls):
                raise AssertionError(f"{len(answers)} answers for {len(calls)} calls")
            return answers
        except Exception:  # The thread must live on, whatever a handler does.
            log.exception("a handler failed", method=method.name, calls=len(calls))
            return [TidingsError("the server failed; its log says why") for _ in calls]


def _to_loop(outcomes: Sequence[Outcome]) -> None:
    """Hand the answers of a batch, whose callers are Futures, to their event loop, all at once."""
    loop = cast("asyncio.Future[bytes]", outcomes[0][0]).get_loop()
    loop.call_soon_threadsafe(_complete, outcomes)


def _complete(outcomes: Sequence[Outcome]) -> None:
    """Complete the futures of a batch. Runs on the event loop."""
    for future, answer in outcomes:
        if future.done():
            continue
        if isinstance(answer, bytes):
            future.set_result(answer)
        else:
            future.set_exception(answer)
