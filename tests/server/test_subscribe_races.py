"""What happens at the same moment: publications, readings, withdrawals and subscribers that come and go."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.server.conftest import Clock
from tests.server.listening import PATIENCE, House, offsets, opened
from tidings_core.stored import StoredPush
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.documents import read_document, write_document
from tidings_server.application.places import Resume
from tidings_server.application.store import Transaction
from tidings_server.application.subscription import Push


@pytest.fixture
async def house(tmp_path: Path, clock: Clock) -> AsyncIterator[House]:
    """An empty store with nobody listening."""
    async with opened(tmp_path / "state", clock) as house:
        yield house


class Held(SqliteStore):
    """A store whose reading of pushes waits, before or after it happens, for the test to let it go on."""

    def hold(self, after: bool) -> None:
        """Let the next reading stop before, or after, it has read."""
        self.reached, self.let_go, self.after, self.holding = threading.Event(), threading.Event(), after, True

    def pushes(self, user_id: str, after: int, limit: int) -> list[StoredPush]:
        """Read, and wait where told to."""
        holding, self.holding = getattr(self, "holding", False), False
        found = super().pushes(user_id, after, limit) if self.after else []
        if holding:
            self.reached.set()
            assert self.let_go.wait(PATIENCE)
        return found if self.after else super().pushes(user_id, after, limit)

    after = True


@pytest.fixture
async def held(tmp_path: Path, clock: Clock) -> AsyncIterator[tuple[House, Held]]:
    """A house on a store that can be held."""
    async with opened(tmp_path / "state", clock, opening=Held.open) as house:
        assert isinstance(house.store, Held)
        yield house, house.store


@pytest.mark.parametrize("after", [False, True])
async def test_what_is_published_during_a_reading_is_neither_lost_nor_sent_twice(
    held: tuple[House, Held], after: bool
) -> None:
    """A push may be committed just before or just after the stream is read: it comes once."""
    house, store = held
    house.push("ann")
    listener = await house.listen("ann")
    store.hold(after)
    coming = asyncio.ensure_future(listener.next())
    await asyncio.to_thread(store.reached.wait, PATIENCE)
    await asyncio.to_thread(house.push, "ann")
    store.let_go.set()
    first = await coming
    assert isinstance(first, Push)
    assert offsets([first, *await listener.pushes()]) == [1, 2]


async def test_a_push_withdrawn_during_a_reading_is_not_sent(held: tuple[House, Held]) -> None:
    """What was read is read again when a push was taken back meanwhile."""
    house, store = held
    house.push("ann", key="cart")
    listener = await house.listen("ann")
    store.hold(after=True)
    coming = asyncio.ensure_future(listener.next())
    await asyncio.to_thread(store.reached.wait, PATIENCE)
    await asyncio.to_thread(house.push, "ann", "cart")
    store.let_go.set()
    first = await coming
    assert isinstance(first, Push)
    assert offsets([first, *await listener.pushes()]) == [2]


async def test_publications_may_come_late_and_out_of_order(house: House) -> None:
    """Each push comes once and in order, also when the second is published before the first."""
    listener = await house.listen("ann")
    assert await listener.pushes() == []
    house.telling = False
    first, second, third = (house.push("ann") for _ in range(3))
    house.publish(second)
    assert offsets(await listener.pushes()) == [1, 2, 3]
    house.publish(third)
    house.publish(first)
    assert await listener.pushes() == []
    late, newer = (house.push("ann", key="cart") for _ in range(2))
    house.publish(newer)
    house.publish(late)
    assert offsets(await listener.pushes()) == [5]


async def test_offsets_need_not_be_dense(house: House) -> None:
    """A push whose offset is not the next integer is sent all the same."""
    listener = await house.listen("ann")
    assert await listener.pushes() == []

    def skip(transaction: Transaction) -> None:
        stored = transaction.users.get("ann")
        document = replace(read_document(stored), newest_offset=41)
        transaction.users.put("ann", write_document(document), stored.version)

    house.store.write(skip).result(PATIENCE)
    house.push("ann")
    got = await listener.pushes()
    assert [(push.prev_offset, push.stored.offset) for push in got] == [(0, 42)]


async def test_subscribing_while_pushes_are_committed_loses_nothing(house: House) -> None:
    """Devices that come at any moment of a burst all end with the same, whole stream."""
    total, come_and_gone = 300, 40
    chance = random.Random(7)
    arrived = threading.Event()

    def burst() -> None:
        for number in range(total):
            house.push("ann")
            if number == 20:
                arrived.set()

    writing = asyncio.create_task(asyncio.to_thread(burst))
    await asyncio.to_thread(arrived.wait, PATIENCE)
    place, got = Resume(house.store.epoch, 0), list[int]()
    for _ in range(come_and_gone):
        listener = await house.listen("ann", "phone", place, max_unacked=1000)
        assert listener.opened.recovered
        for _ in range(chance.randrange(12)):
            if place.offset < total:
                got.append((await listener.push()).stored.offset)
                place = Resume(house.store.epoch, got[-1])
        await listener.leave()
    await writing
    last = await house.listen("ann", "phone", place, max_unacked=1000)
    got += offsets(await last.pushes())
    assert got == list(range(1, total + 1))
