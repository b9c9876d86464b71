"""Calls from other threads to the event loop, which is woken once for many of them."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from functools import partial

import structlog

AT_ONCE = 256
"""So many are made in one turn of the loop: it has others to look after."""

log = structlog.get_logger(__name__)


class Mailbox:
    """What other threads want to have done on the event loop that it is made on, in the order in which they asked."""

    def __init__(self) -> None:
        """Take the running loop."""
        self._loop = asyncio.get_running_loop()
        self._posted: deque[Callable[[], None]] = deque()
        self._woken = threading.Lock()
        """Held from waking the loop until it comes to what was posted."""

    def post(self, call: Callable[..., None], *given: object) -> bool:
        """Have a function called with what is given. For any thread; never waits. False when the loop has stopped."""
        self._posted.append(partial(call, *given))
        if not self._woken.acquire(blocking=False):
            return True  # The loop is about to come to it.
        try:
            self._loop.call_soon_threadsafe(self._open)
        except RuntimeError:
            return False
        return True

    def _open(self) -> None:
        """Begin with what was posted. What comes from now on wakes the loop again."""
        self._woken.release()
        self._do_some()

    def _do_some(self) -> None:
        for _ in range(AT_ONCE):
            if not self._posted:
                return
            try:
                self._posted.popleft()()
            except Exception:  # The others are not to wait for it.
                log.exception("a call on the event loop failed")
        self._loop.call_soon(self._do_some)
