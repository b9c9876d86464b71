"""One subscription: what it is told, its place in the stream, its credit and its wake-up."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from tidings_core.stored import StoredPush

READ_AHEAD = 32
"""So many pushes are read for a subscription at once."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The subscription is open: what comes is after `offset`. `heartbeat` is in seconds."""

    subscription_id: str
    epoch: str
    offset: int
    recovered: bool
    heartbeat: float


@dataclass(frozen=True, slots=True)
class Push:
    """A push, and the offset of the message before it on this subscription."""

    stored: StoredPush
    prev_offset: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """A push that was sent, and that a newer one took the place of."""

    push_id: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The server's time in Unix milliseconds, and the offset of the user's newest push."""

    time: int
    newest_offset: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """The stream ends. `reconnect_delay` is in seconds."""

    reason: Literal["stopping", "replaced", "failed", "erased", "merged"]
    reconnect_delay: float
    resumable: bool


Message = Subscribed | Push | Withdraw | Heartbeat | GoAway


class Cancellable(Protocol):
    """A call that was asked for later."""

    def cancel(self) -> None:
        """Take it back."""
        ...


@dataclass(slots=True)
class User:
    """One user's subscriptions by device, and the largest offset heard of."""

    user_id: str
    devices: "dict[str, Subscription]"
    newest: int = 0
    withdrawals: int = 0


class Subscription:
    """One open stream. Its attributes belong to the event loop.

    Other threads may read `subscription_id`, `user.user_id`, `device_id` and `sent`.
    """

    __slots__ = (
        "ahead", "beat_due", "device_id", "end", "failure", "idle", "last", "max_unacked", "on_wake", "reading", "sent",
        "subscription_id", "through", "timer", "told_lost", "unacked", "user", "waiter", "withdrawn",
    )  # fmt: skip

    def __init__(
        self, user: User, device_id: str, max_unacked: int, now: float, on_wake: Callable[[], None] | None = None
    ) -> None:
        """Begin at nothing; `now` is monotonic seconds. Woken, it calls `on_wake`; without one, `wait` ends."""
        self.subscription_id = secrets.token_hex(12)
        self.user = user
        self.device_id = device_id
        self.max_unacked = max_unacked
        self.sent = 0
        """Offset of the push sent last, or of the beginning."""
        self.through = 0
        self.told_lost = 0
        """What was dropped up to here the subscriber knows of."""
        self.unacked: list[tuple[int, str]] = []
        """Offsets and ids of what was sent and not acknowledged, at most `max_unacked`."""
        self.ahead: list[StoredPush] = []
        """What was read and is sent next, never more than there is credit for, nor than READ_AHEAD."""
        self.withdrawn: list[str] = []
        """Pushes to withdraw, all of which were in `unacked`."""
        self.end: GoAway | None = None
        self.failure: Exception | None = None
        """What reading failed with, when it is a fault of ours."""
        self.beat_due = False
        self.idle = False
        """Whether it was told all there was, and has not asked again."""
        self.reading = False
        self.on_wake = on_wake
        self.last = now
        """When something was last sent, or a heartbeat was last due."""
        self.timer: Cancellable | None = None
        self.waiter: asyncio.Future[None] | None = None

    @property
    def credit(self) -> int:
        """How many pushes may still be sent."""
        return self.max_unacked - len(self.unacked) - len(self.ahead)

    def wake(self) -> None:
        """Let it look again whether there is something to do."""
        if self.on_wake is not None:
            self.on_wake()
        elif self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def wait(self) -> None:
        """Wait to be woken."""
        self.waiter = asyncio.get_running_loop().create_future()
        try:
            await self.waiter
        finally:
            self.waiter = None
