"""Fixtures: a small real server, and both clients behind one way to call them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
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
                open_clients.callback(client.close)
            else:
                open_clients.push_async_callback(client.close)
            return Connection(client)

        yield open_client
