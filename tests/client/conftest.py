"""Fixtures: a small real server, and both clients behind one way to call them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import pytest

import tidings
from tests.client.service import SmallServer, small_server


@pytest.fixture
def server() -> Iterator[SmallServer]:
    """A small server of its own for each test."""
    with small_server() as running:
        yield running


class Connection:
    """One client, blocking or asyncio, whose calls a test awaits either way."""

    def __init__(self, client: tidings.Client | tidings.aio.Client) -> None:
        self._client = client

    async def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Make the named call."""
        method = getattr(self._client, name)
        if isinstance(self._client, tidings.Client):
            return await asyncio.to_thread(method, *arguments, **options)
        return await method(*arguments, **options)

    def subscribe(self, user_id: str, **options: Any) -> "Pushes":
        """Subscribe; the pauses before connecting again are left out."""
        return Pushes(self._client.subscribe(user_id, **({"random": Hasty()} | options)))


class Hasty(Random):
    """Draws the shortest pause."""

    def uniform(self, a: float, b: float) -> float:
        """The lower end."""
        assert a < b
        return a


class Pushes:
    """One subscription, blocking or asyncio, that a test awaits either way."""

    def __init__(self, subscription: tidings.Subscription | tidings.aio.Subscription) -> None:
        self.subscription = subscription

    async def next(self) -> tidings.Push | None:
        """The next push, None at the end."""
        if isinstance(self.subscription, tidings.Subscription):
            return await asyncio.to_thread(next, self.subscription, None)
        return await anext(self.subscription, None)

    async def names(self, count: int) -> list[str]:
        """The ids of the next pushes."""
        found = []
        for _ in range(count):
            push = await self.next()
            assert push is not None
            found.append(push.push_id)
        return found

    async def close(self) -> None:
        """Close the subscription."""
        if isinstance(self.subscription, tidings.Subscription):
            await asyncio.to_thread(self.subscription.close)
        else:
            await self.subscription.close()


Connect = Callable[..., Connection]


@pytest.fixture(params=["blocking", "asyncio"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Return the function that opens a client; each test runs with the blocking and with the asyncio one."""
    kind = tidings.Client if request.param == "blocking" else tidings.aio.Client
    async with AsyncExitStack() as open_clients:

        def open_client(address: str, **options: Any) -> Connection:
            # Ample time, so that a busy machine fails no test; a test of the deadline names its own.
            client = kind(address, **({"timeout": 20.0} | options))
            if isinstance(client, tidings.Client):
                open_clients.push_async_callback(asyncio.to_thread, client.close)
            else:
                open_clients.push_async_callback(client.close)
            return Connection(client)

        yield open_client
