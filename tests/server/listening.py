"""A real store with subscribers on it: pushes are written and published as the server does it, devices listen."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.server.conftest import Clock
from tidings_core.errors import TidingsError
from tidings_core.stored import Entry, StoredPush
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.adapters.state_directory import StateDirectory
from tidings_server.application.acknowledge import Acknowledge, Acknowledgement, Outcome
from tidings_server.application.documents import UserDocument, read_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.places import Resume
from tidings_server.application.send_push import PushRequest, SendPush
from tidings_server.application.serving import Serving
from tidings_server.application.subscription import Message, Push, Subscribed
from tidings_server.application.subscriptions import Clocks, Limits, Subscriptions
from tidings_server.application.write_push import Rules
from tidings_server.transport.events import encode_event
from tidings_server.transport.push_encoding import encode_push

PATIENCE = 30.0
"""Seconds after which what is waited for will not come any more."""


@dataclass
class Timers:
    """What was asked for later, for the test to let happen."""

    waiting: "list[Later]" = field(default_factory=list)

    def __call__(self, seconds: float, call: Callable[[], None]) -> "Later":
        """Keep a call for later."""
        later = Later(self, seconds, call)
        self.waiting.append(later)
        return later

    def fire(self) -> None:
        """Make every call that waits now."""
        due, self.waiting = self.waiting, []
        for later in due:
            later.call()


@dataclass(eq=False)
class Later:
    """A call that waits for its time."""

    timers: Timers
    seconds: float
    call: Callable[[], None]

    def cancel(self) -> None:
        """Take it back."""
        if self in self.timers.waiting:
            self.timers.waiting.remove(self)


class Uncounted:
    """A meter nobody reads."""

    def decision(self, cause: str, outcome: str) -> None:
        """Count nothing."""

    def decided(self, seconds: float) -> None:
        """Time nothing."""

    def pushed(self, seconds: float) -> None:
        """Time nothing."""


@dataclass
class House:
    """A store, who sends pushes through it, and who listens to it."""

    store: SqliteStore
    subscriptions: Subscriptions
    clock: Clock
    timers: Timers
    documents: KnownDocuments
    acknowledge: Acknowledge
    serving: Serving
    history: int
    made: int = 0
    published: dict[str, tuple[StoredPush, Sequence[str]]] = field(default_factory=dict)
    telling: bool = True

    @property
    def now(self) -> int:
        """The time in Unix milliseconds."""
        return int(self.clock.now * 1000)

    def push(self, user_id: str, key: str = "", ttl: float = 86_400.0, items: tuple[str, ...] = ()) -> StoredPush:
        """Send a push of use for `ttl` seconds; return when it is on disk and published."""
        return self.pushed(self.begin_push(user_id, key, ttl, items))

    def begin_push(
        self, user_id: str, key: str = "", ttl: float = 86_400.0, items: tuple[str, ...] = ()
    ) -> "Future[Entry]":
        """The same, without waiting."""
        self.made += 1
        rules = Rules(1_000_000, self.history)
        send = SendPush(
            self.store, self.documents, self.serving, encode_push, rules, self._publish, Uncounted(), self.clock
        )
        return send(PushRequest(f"request-{self.made}", user_id, "News", ttl, item_ids=items, collapse_key=key))

    def pushed(self, sending: "Future[Entry]") -> StoredPush:
        """The push that was sent, once it is on disk and published."""
        return self.published[sending.result(PATIENCE).push_id][0]

    def publish(self, push: StoredPush) -> None:
        """Publish a push that was sent while `telling` was off."""
        self.subscriptions.publish("ann", *self.published[push.push_id])

    def _publish(self, user_id: str, push: StoredPush, withdrawn: Sequence[str]) -> None:
        self.published[push.push_id] = push, withdrawn
        if self.telling:
            self.subscriptions.publish(user_id, push, withdrawn)

    def document(self, user_id: str) -> UserDocument:
        """A user's document."""
        return read_document(self.store.user(user_id))

    def state_of(self, push_id: str) -> str:
        """What the ledger says became of a push."""
        entry = self.store.write(lambda transaction: transaction.ledger.find_push(push_id)).result(PATIENCE)
        assert entry is not None
        return entry.state

    async def listen(
        self, user_id: str, device_id: str = "", resume: Resume | None = None, max_unacked: int = 32
    ) -> "Listener":
        """A device that listens, once its subscription is open."""
        listener = Listener(self, user_id, device_id, resume, max_unacked)
        subscribed = await listener.next()
        assert isinstance(subscribed, Subscribed)
        listener.opened = subscribed
        return listener


class Listener:
    """One device: takes messages one at a time, when the test says so."""

    opened: Subscribed
    made_at = 0
    """When the last message was made, in Unix milliseconds: it may have waited to be taken."""
    made_after = 0
    """How many pushes had been sent when it was made."""

    def __init__(self, house: House, user_id: str, device_id: str, resume: Resume | None, max_unacked: int) -> None:
        self.house = house
        self.user_id = user_id
        self.device_id = device_id
        self.stream = house.subscriptions.subscribe(user_id, device_id, resume, max_unacked)
        self._coming: asyncio.Task[Message] | None = None

    async def next(self) -> Message:
        """The next message, waiting for it. Raises StopAsyncIteration at the end."""
        coming = self._ask()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([coming])
        self._coming = None
        return coming.result()

    async def push(self) -> Push:
        """The next message, which must be a push."""
        message = await self.next()
        assert isinstance(message, Push)
        return message

    async def all(self) -> list[Message]:
        """Every message there is until there is nothing more to tell for now, or the end."""
        told: list[Message] = []
        while (message := await self.one()) is not None:
            told.append(message)
        return told

    async def one(self) -> Message | None:
        """The next message, or None when there is nothing to tell for now, or at the end."""
        coming = await self._told_or_idle()
        if coming is None:
            return None
        self._coming = None
        try:
            return coming.result()
        except StopAsyncIteration:
            return None

    async def pushes(self) -> list[Push]:
        """Every push there is; there must be nothing else."""
        told = await self.all()
        pushes = [message for message in told if isinstance(message, Push)]
        assert pushes == told
        return pushes

    def acknowledge(self, offset: int, *outcomes: tuple[str, Outcome]) -> int:
        """Acknowledge, and return the offset that was answered. Raises the error that was."""
        given = Acknowledgement(self.user_id, self.opened.subscription_id, offset, outcomes)
        (answer,) = self.house.acknowledge([given])
        if isinstance(answer, TidingsError):
            raise answer
        return answer

    async def settle(self) -> None:
        """Let the message that was asked for be made, if there is one; nothing is taken."""
        if self._coming is not None:
            await self._told_or_idle()

    async def leave(self) -> None:
        """Go away, as the front closes a stream when its peer is gone."""
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.wait([self._coming])
        await self.stream.aclose()

    def _ask(self) -> "asyncio.Task[Message]":
        if self._coming is None:
            self._coming = asyncio.ensure_future(self._take())
        return self._coming

    async def _take(self) -> Message:
        message = await anext(self.stream)
        self.made_at, self.made_after = self.house.now, self.house.made
        return message

    async def _told_or_idle(self) -> "asyncio.Task[Message] | None":
        coming = self._ask()
        async with asyncio.timeout(PATIENCE):
            await asyncio.sleep(0)  # What other threads asked the loop for comes first.
            while not coming.done():
                found = self.house.subscriptions.find(self.opened.subscription_id, self.user_id)
                if found is not None and found.idle and found.waiter is not None and not found.waiter.done():
                    return None
                await asyncio.sleep(0)
        return coming


def offsets(pushes: Sequence[Push]) -> list[int]:
    """Where the pushes stand in their stream."""
    return [push.stored.offset for push in pushes]


@asynccontextmanager
async def opened(
    directory: Path,
    clock: Clock,
    history: int = 1000,
    most: int = 100,
    most_of_user: int = 4,
    opening: Callable[[Path, Callable[[], int]], SqliteStore] = SqliteStore.open,
) -> AsyncIterator[House]:
    """A house on the store in a state directory, which `opening` opens."""
    state = StateDirectory.open(directory)
    store = opening(directory, lambda: int(clock.now * 1000))
    timers = Timers()
    clocks = Clocks(clock, clock, lambda: 0.5)
    documents = KnownDocuments(store)
    subscriptions = Subscriptions(store, documents, Limits(most, most_of_user, 15.0), clocks, timers)
    try:
        acknowledge = Acknowledge(store, documents, subscriptions, encode_event, clock)
        yield House(store, subscriptions, clock, timers, documents, acknowledge, Serving(state), history)
    finally:
        subscriptions.close()
        await asyncio.to_thread(store.close)
        state.close()
