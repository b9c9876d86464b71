"""Who is let in: a call that would not have its turn in time is refused at once, and not after it has waited."""

import statistics
import threading
from collections import deque

from tidings_core.errors import Overloaded

RETRY_AFTER = 0.5
"""Seconds a refused caller is asked to wait: longer than a full queue takes to empty."""
LEARNED_FROM = 15
"""So many batches are remembered of each method; before there are as many, nobody is refused for being late."""
PATIENCE = 0.1
"""Seconds that more may wait than `standing`, and that a call may wait behind them: a burst is let in, a queue that
stays only makes all calls late.
"""

ANEW = 0.25
"""A burst is over when so small a share of `standing` still waits."""


class Admission:
    """What waits for one lane and is worked on there, in seconds of work, and what follows for the next call.

    For any thread.
    """

    def __init__(self, threads: int, max_waiting: int, standing: int) -> None:
        """`max_waiting` calls may wait at any time, `standing` for longer than a moment."""
        self._threads = threads
        self._max_waiting = max_waiting
        self._standing = standing
        self._took: dict[str, deque[float]] = {}
        self._costs: dict[str, float] = {}
        self._ahead = 0.0
        self._burst_ends: float | None = None
        self._changing = threading.Lock()

    def refusal(self, waiting: int, now: float) -> Overloaded | None:
        """Why no call may join `waiting` others at `now` (monotonic seconds), None: one may."""
        if waiting >= self._max_waiting:
            return Overloaded(
                f"{self._max_waiting} calls are waiting, the most this server lets wait: try again later", RETRY_AFTER
            )
        if waiting >= self._standing:
            if self._burst_ends is None:
                self._burst_ends = now + PATIENCE
            if now > self._burst_ends or self._ahead > PATIENCE * self._threads:
                return Overloaded("more calls come than this server can answer: try again later", RETRY_AFTER)
        elif waiting <= self._standing * ANEW:
            # Not before most of the queue is gone is what comes next another burst.
            self._burst_ends = None
        return None

    def late(self, waiting: int, now: float, deadline: float) -> Overloaded | None:
        """Why a call with a deadline (monotonic seconds) may not: it would have its turn too late; None: it may."""
        wait = self._ahead / self._threads
        if waiting and wait and now + wait > deadline:
            return Overloaded("the call would wait past its deadline: try again later", RETRY_AFTER)
        return None

    def admit(self, method: str) -> float:
        """Let a call in, and return the seconds of work that it is thought to be."""
        cost = self._costs.get(method, 0.0)
        with self._changing:
            self._ahead += cost
        return cost

    def done(self, cost: float) -> None:
        """Work of so many seconds, as it was thought to be, is behind."""
        with self._changing:
            # What rounding leaves must not add up over millions of calls.
            self._ahead = max(0.0, self._ahead - cost)

    def learn(self, method: str, calls: int, seconds: float) -> None:
        """A batch of so many calls took so long."""
        with self._changing:
            took = self._took.setdefault(method, deque(maxlen=LEARNED_FROM))
            took.append(seconds / calls)
            if len(took) == LEARNED_FROM:
                # One slow moment says nothing of the next.
                self._costs[method] = statistics.median(took)
