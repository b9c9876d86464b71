"""Subscriptions on a real store: what is committed comes, in order, once, however things cross."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.server.conftest import Clock
from tests.server.listening import PATIENCE, House, offsets, opened
from tidings_core.errors import Overloaded, Stopping, StorageFailed, StorageFull
from tidings_core.stored import StoredPush
from tidings_server.adapters.sqlite_schema import FILE
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.documents import UserDocument
from tidings_server.application.places import Place, Resume, find_place
from tidings_server.application.subscription import READ_AHEAD, GoAway, Heartbeat, Push, Withdraw


@pytest.fixture
async def house(tmp_path: Path, clock: Clock) -> AsyncIterator[House]:
    """An empty store with nobody listening."""
    async with opened(tmp_path / "state", clock) as house:
        yield house


async def test_pushes_come_in_order_and_each_names_the_one_before(house: House) -> None:
    """Whether they waited in the stream or come while one listens, nothing is left out and nothing comes twice."""
    for _ in range(READ_AHEAD + 3):
        house.push("ann")
    listener = await house.listen("ann", max_unacked=1000)
    waited = await listener.pushes()
    straight = []
    for _ in range(3):
        house.push("ann")
        straight += await listener.pushes()
    assert offsets(waited + straight) == list(range(1, READ_AHEAD + 7))
    assert [push.prev_offset for push in waited + straight] == list(range(READ_AHEAD + 6))


async def test_pushes_of_others_do_not_come(house: House) -> None:
    """A subscription is one user's."""
    listener = await house.listen("ann")
    house.push("bob")
    assert await listener.pushes() == []


async def test_the_newest_push_goes_straight_to_one_who_is_waiting(tmp_path: Path, clock: Clock) -> None:
    """No reading of the store stands between the commit and a subscriber who has everything else."""

    class Counting(SqliteStore):
        read = 0

        def pushes(self, user_id: str, after: int, limit: int) -> list[StoredPush]:
            Counting.read += 1
            return super().pushes(user_id, after, limit)

    async with opened(tmp_path / "state", clock, opening=Counting.open) as house:
        listener = await house.listen("ann")
        assert await listener.pushes() == []
        for _ in range(5):
            house.push("ann")
            assert len(await listener.pushes()) == 1
    assert Counting.read == 0


PLACES: dict[str, tuple[Resume | None, Place]] = {
    "unset": (None, Place(5, True)),
    "where it was": (Resume("now", 5), Place(5, True)),
    "further": (Resume("now", 8), Place(8, True, received=8)),
    "the newest": (Resume("now", 10), Place(10, True, received=10)),
    "of the future": (Resume("now", 11), Place(5, False)),
    "of another history": (Resume("then", 8), Place(5, False)),
    "before what it acknowledged": (Resume("now", 4), Place(5, True)),
    "before what was dropped": (Resume("now", 2), Place(5, False)),
}


@pytest.mark.parametrize("case", PLACES)
def test_a_device_goes_on_where_it_was_or_is_told_that_it_cannot(case: str) -> None:
    """A place of this history is taken up; what was acknowledged never comes again; what was lost is admitted."""
    resume, place = PLACES[case]
    document = UserDocument(newest_offset=10, lost_through=3, acknowledged=9, devices={"phone": (5, 0), "tv": (9, 0)})
    assert find_place(document, "phone", resume, "now") == place


def test_a_new_device_begins_after_what_any_device_acknowledged() -> None:
    """A second device is not sent what the first one dealt with long ago."""
    document = UserDocument(newest_offset=10, lost_through=3, acknowledged=9, devices={"tv": (9, 0)})
    assert find_place(document, "phone", None, "now") == Place(9, True, received=9)
    assert find_place(document, "phone", Resume("now", 7), "now") == Place(7, True, received=7)
    assert find_place(document, "phone", Resume("then", 7), "now") == Place(9, False, received=9)


def test_a_device_that_missed_what_was_dropped_is_told_so_without_asking() -> None:
    """Without a place of its own, recovered is false when what it had not acknowledged was dropped."""
    document = UserDocument(newest_offset=10, lost_through=6, acknowledged=5, devices={"tv": (5, 0)})
    assert find_place(document, "tv", None, "now") == Place(5, False)
    assert find_place(document, "phone", None, "now") == Place(5, False, received=5)


async def test_resuming_counts_as_an_acknowledgement(house: House) -> None:
    """What a device says it has is delivered, on disk, and does not come again to a subscription without a place."""
    pushes = [house.push("ann") for _ in range(3)]
    first = await house.listen("ann", "phone", Resume(house.store.epoch, 2))
    assert offsets(await first.pushes()) == [3]
    assert house.document("ann").devices == {"phone": (2, house.now)}
    assert [house.state_of(push.push_id) for push in pushes] == ["delivered", "delivered", "sent"]
    assert offsets(await (await house.listen("ann", "phone")).pushes()) == [3]


@pytest.mark.parametrize("resuming", [False, True])
async def test_the_first_subscription_of_a_device_writes_its_place_once(house: House, resuming: bool) -> None:
    """Also in an empty stream; subscribing again to the same writes nothing."""
    place = Resume(house.store.epoch, 0) if resuming else None
    listener = await house.listen("nobody", "phone", place)
    assert (listener.opened.offset, listener.opened.recovered) == (0, True)
    assert house.document("nobody") == UserDocument(devices={"phone": (0, house.now)})
    before = house.store.user("nobody")
    house.clock.now += 60
    await house.listen("nobody", "phone", place)
    assert house.store.user("nobody") == before


async def test_what_another_device_acknowledged_still_comes_to_one_that_only_subscribed(house: House) -> None:
    """A device goes on from where it first subscribed, though it never acknowledged anything."""
    phone, laptop = await house.listen("ann", "phone"), await house.listen("ann", "laptop")
    house.push("ann")
    assert offsets(await phone.pushes()) == offsets(await laptop.pushes()) == [1]
    laptop.acknowledge(1)
    await phone.leave()
    house.push("ann")
    assert offsets(await (await house.listen("ann", "phone")).pushes()) == [1, 2]
    assert offsets(await (await house.listen("ann", "tv")).pushes()) == [2]


@pytest.mark.parametrize("resuming", [False, True])
async def test_on_a_full_disk_a_stream_opens_though_its_place_cannot_be_written(
    tmp_path: Path, clock: Clock, resuming: bool
) -> None:
    """What is there can be read; the place it named counts for this stream, and is written when there is room."""

    class Full(SqliteStore):
        full = False

        def write(self, job: Callable[[Any], Any]) -> "Future[Any]":
            if not self.full:
                return super().write(job)
            refused: Future[Any] = Future()
            refused.set_exception(StorageFull("the disk is full", 1.0))
            return refused

    async with opened(tmp_path / "state", clock, opening=Full.open) as house:
        house.push("ann")
        house.push("ann")
        before = house.store.user("ann")
        Full.full = True
        listener = await house.listen("ann", "phone", Resume(house.store.epoch, 1) if resuming else None)
        assert offsets(await listener.pushes()) == ([2] if resuming else [1, 2])
        assert house.store.user("ann") == before
        Full.full = False
        listener.acknowledge(1)
        assert house.document("ann").devices == {"phone": (1, house.now)}


async def test_a_device_that_is_further_than_its_stream_is_logged(house: House) -> None:
    """It shows that the state was set back, and the log says what to do; once, however many come."""
    house.push("ann")
    with structlog.testing.capture_logs() as logs:
        for device in ("phone", "tv"):
            listener = await house.listen("ann", device, Resume(house.store.epoch, 7))
            assert not listener.opened.recovered
    (said,) = (line for line in logs if line["log_level"] == "error")
    assert "tidings-server renew-epoch" in said["event"]
    assert said["problem"] == "it has offset 7, and the newest is 1"


async def test_every_device_gets_every_push_from_its_own_place(house: House) -> None:
    """Devices do not take pushes from each other, wherever each of them stands."""
    for _ in range(4):
        house.push("ann")
    phone = await house.listen("ann", "phone", Resume(house.store.epoch, 1))
    tv = await house.listen("ann", "tv", Resume(house.store.epoch, 3))
    house.push("ann")
    assert offsets(await phone.pushes()) == [2, 3, 4, 5]
    assert offsets(await tv.pushes()) == [4, 5]


async def test_the_same_device_again_ends_its_older_subscription(house: House) -> None:
    """The older one is told that it was replaced, and ends; the newer one goes on and can be acknowledged alone."""
    older = await house.listen("ann", "phone")
    newer = await house.listen("ann", "phone")
    assert await older.all() == [GoAway("replaced", 0.0, resumable=False)]
    assert house.subscriptions.find(older.opened.subscription_id, "ann") is None
    house.push("ann")
    assert offsets(await newer.pushes()) == [1]
    assert house.subscriptions.count == 1


async def test_a_subscription_is_found_by_its_own_user_only(house: House) -> None:
    """Nobody acknowledges for somebody else, and nothing is found once it is closed."""
    listener = await house.listen("ann")
    name = listener.opened.subscription_id
    assert house.subscriptions.find(name, "bob") is None
    assert house.subscriptions.find(name, "ann") is not None
    await listener.leave()
    assert house.subscriptions.find(name, "ann") is None


async def test_one_who_never_acknowledges_costs_its_place_only(house: House) -> None:
    """It gets as many pushes as it said, however many come; nothing piles up for it, and others get all of theirs."""
    silent = await house.listen("ann", "silent", max_unacked=3)
    asleep = await house.listen("ann", "asleep", max_unacked=1000)
    awake = await house.listen("ann", "awake", max_unacked=1000)
    got, mute = [], []
    for _ in range(100):
        for sending in [house.begin_push("ann") for _ in range(5)]:
            house.pushed(sending)
        got += await awake.pushes()
        mute += await silent.pushes()
    assert offsets(got) == list(range(1, 501))
    assert offsets(mute) == [1, 2, 3]
    for listener, sent in ((silent, 3), (asleep, 0)):
        kept = house.subscriptions.find(listener.opened.subscription_id, "ann")
        assert kept is not None
        assert (len(kept.unacked), kept.ahead, kept.withdrawn) == (sent, [], [])


async def test_credit_that_is_given_back_lets_the_stream_go_on(house: House) -> None:
    """After an acknowledgement as many more come as it made room for, and acknowledging less changes nothing."""
    for _ in range(10):
        house.push("ann")
    listener = await house.listen("ann", max_unacked=4)
    assert offsets(await listener.pushes()) == [1, 2, 3, 4]
    listener.acknowledge(3)
    assert offsets(await listener.pushes()) == [5, 6, 7]
    listener.acknowledge(1)
    assert offsets(await listener.pushes()) == []
    listener.acknowledge(7)
    assert offsets(await listener.pushes()) == [8, 9, 10]


async def test_a_heartbeat_comes_when_nothing_else_did(house: House) -> None:
    """After the interval there is one, with the newest offset; a push in between puts it off."""
    house.push("ann")
    listener = await house.listen("ann", "phone", Resume(house.store.epoch, 1))
    assert await listener.all() == []
    (timer,) = house.timers.waiting
    assert 7.5 <= timer.seconds <= 15  # The first comes early by chance.
    house.clock.now += timer.seconds
    house.timers.fire()
    assert await listener.all() == [Heartbeat(house.now, 1)]
    house.clock.now += 14
    house.push("ann")
    await listener.pushes()
    house.clock.now += 1
    house.timers.fire()
    assert await listener.all() == []
    (timer,) = house.timers.waiting
    assert timer.seconds == pytest.approx(14)
    house.clock.now += 14
    house.timers.fire()
    assert await listener.all() == [Heartbeat(house.now, 2)]


async def test_one_who_does_not_read_gets_one_heartbeat_not_many(house: House) -> None:
    """Heartbeats that nobody took do not pile up."""
    listener = await house.listen("ann")
    assert await listener.all() == []
    await listener.leave()
    sleeper = await house.listen("ann")
    house.push("ann")
    assert isinstance(await sleeper.next(), Push)
    for _ in range(5):
        house.clock.now += 15
        house.timers.fire()
    assert await sleeper.all() == [Heartbeat(house.now, 1)]


async def test_expired_pushes_are_not_sent(house: House) -> None:
    """What is past its time is left out, in between and at the end, and uses up no credit."""
    house.push("ann", ttl=1.0)
    house.push("ann")
    house.push("ann", ttl=1.0)
    house.push("ann", ttl=60.0)
    house.clock.now += 1
    listener = await house.listen("ann", max_unacked=2)
    got = await listener.pushes()
    assert [(push.prev_offset, push.stored.offset) for push in got] == [(0, 2), (2, 4)]
    assert listener.acknowledge(4) == 4
    house.push("ann")
    assert [(push.prev_offset, push.stored.offset) for push in await listener.pushes()] == [(4, 5)]


async def test_a_push_that_expired_before_it_was_sent_is_not_delivered(house: House) -> None:
    """The ledger has it as expired, whatever is acknowledged after it, and the stream has it no more."""
    early = house.push("ann", ttl=1.0)
    sent = house.push("ann", ttl=60.0)
    late = [house.push("ann", ttl=1.0) for _ in range(2)]
    house.clock.now += 1
    listener = await house.listen("ann")
    assert offsets([await listener.push()]) == [2]
    listener.acknowledge(2)
    assert await listener.pushes() == []
    last = house.push("ann")
    assert offsets(await listener.pushes()) == [5]
    listener.acknowledge(5)
    assert [house.state_of(push.push_id) for push in (early, *late)] == ["expired"] * 3
    assert [house.state_of(push.push_id) for push in (sent, last)] == ["delivered"] * 2
    assert [push.offset for push in house.store.pushes("ann", 0, 9)] == [2, 5]


async def test_a_push_that_one_device_had_in_time_stays_delivered(house: House) -> None:
    """That it came too late for another device does not take it back."""
    push = house.push("ann", ttl=60.0)
    phone = await house.listen("ann", "phone")
    assert offsets(await phone.pushes()) == [1]
    tv = await house.listen("ann", "tv")
    phone.acknowledge(1)
    house.clock.now += 60
    assert await tv.pushes() == []
    assert house.state_of(push.push_id) == "delivered"


async def test_a_store_that_takes_no_more_does_not_stop_a_stream_at_an_expired_push(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is skipped all the same, and left to be taken out later."""
    house.push("ann", ttl=1.0)
    house.push("ann")
    house.clock.now += 1
    listener = await house.listen("ann")

    def refuse(job: object) -> None:
        raise Overloaded("too much waits", 1.0)

    with monkeypatch.context() as patched:
        patched.setattr(house.store, "write", refuse)
        assert offsets(await listener.pushes()) == [2]
    assert [push.offset for push in house.store.pushes("ann", 0, 9)] == [1, 2]


async def test_a_push_that_expires_while_it_waits_for_credit_is_not_sent(house: House) -> None:
    """The time that counts is that of sending."""
    listener = await house.listen("ann", max_unacked=1)
    house.push("ann")
    house.push("ann", ttl=1.0)
    assert offsets(await listener.pushes()) == [1]
    house.clock.now += 1
    listener.acknowledge(1)
    assert await listener.pushes() == []


async def test_a_newer_push_of_a_key_withdraws_the_older_where_it_was_sent(house: House) -> None:
    """Who has the older one is told to take it away, before the newer comes; who does not have it never gets it."""
    older = house.push("ann", key="cart")
    house.push("ann")
    phone = await house.listen("ann", "phone")
    assert offsets(await phone.pushes()) == [1, 2]
    tv = await house.listen("ann", "tv", max_unacked=1)
    assert offsets(await tv.pushes()) == [1]
    newer = house.push("ann", key="cart")
    watch = await house.listen("ann", "watch")
    assert await phone.all() == [Withdraw(older.push_id), Push(newer, 2)]
    assert await tv.all() == [Withdraw(older.push_id)]
    assert offsets(await watch.pushes()) == [2, 3]
    tv.acknowledge(1)
    assert offsets(await tv.pushes()) == [2]


async def test_a_push_that_is_withdrawn_before_it_was_sent_never_comes(house: House) -> None:
    """Even when it was read already and waits for its turn."""
    listener = await house.listen("ann")
    house.push("ann")
    house.push("ann", key="cart")
    house.push("ann")
    assert offsets([await listener.push()]) == [1]
    house.push("ann", key="cart")
    assert offsets(await listener.pushes()) == [3, 4]


async def test_one_so_slow_that_pushes_were_dropped_is_told_so(tmp_path: Path, clock: Clock) -> None:
    """Its stream ends; resuming, it hears that it could not be recovered, and gets what is left."""
    async with opened(tmp_path / "state", clock, history=5) as house:
        slow = await house.listen("ann", "phone", max_unacked=2)
        for _ in range(12):
            house.push("ann")
            if house.made == 2:
                assert offsets(await slow.pushes()) == [1, 2]
        assert await slow.pushes() == []
        slow.acknowledge(2)
        assert await slow.all() == [GoAway("failed", 0.0, resumable=True)]
        again = await house.listen("ann", "phone", Resume(house.store.epoch, 2))
        assert not again.opened.recovered
        assert offsets(await again.pushes()) == [8, 9, 10, 11, 12]
        # What was lost is said once: the stream goes on.
        house.push("ann")
        assert offsets(await again.pushes()) == [13]


async def test_a_damaged_document_is_an_error_before_the_stream(house: House) -> None:
    """Nothing is told of a stream whose beginning cannot be read, and its room is free again."""
    house.store.write(lambda transaction: transaction.users.put("ann", b"{}", 0)).result(PATIENCE)
    with pytest.raises(StorageFailed, match="damaged"):
        await house.listen("ann")
    assert house.subscriptions.count == 0


async def test_when_pushes_cannot_be_read_subscribers_are_sent_away(house: House, tmp_path: Path) -> None:
    """A stream that fails on disk ends with a go_away that may be resumed after a while, not with silence."""
    house.push("ann")
    listener = await house.listen("ann")
    with sqlite3.connect(tmp_path / "state" / FILE) as database:
        database.execute("DROP TABLE pushes")
    database.close()
    assert await listener.all() == [GoAway("failed", 3.0, resumable=True)]


async def test_the_limits_of_subscriptions_are_kept(tmp_path: Path, clock: Clock) -> None:
    """One more device of a user, or one more subscription of anybody, is refused until another one ends."""
    async with opened(tmp_path / "state", clock, most=4, most_of_user=2) as house:
        phone, tv = await house.listen("ann", "phone"), await house.listen("ann", "tv")
        with pytest.raises(Overloaded, match="2 devices of this user"):
            await house.listen("ann", "watch")
        bob, cid = await house.listen("bob"), await house.listen("cid")
        with pytest.raises(Overloaded, match="4 subscriptions are open"):
            await house.listen("eve")
        await tv.leave()
        eve = await house.listen("eve")
        for listener in (phone, bob, cid, eve):
            assert await listener.all() == []


async def test_a_device_that_comes_back_finds_room_in_a_full_house(tmp_path: Path, clock: Clock) -> None:
    """Its older stream, perhaps a dead one, does not count against it; but those that are ending may not pile up."""
    async with opened(tmp_path / "state", clock, most=2) as house:
        listeners = [await house.listen(user) for user in ("ann", "bob", "ann", "ann")]
        assert house.subscriptions.count == 4
        with pytest.raises(Overloaded):
            await house.listen("ann")
        assert await listeners[0].all() == [GoAway("replaced", 0.0, resumable=False)]
        assert (await house.listen("ann")).opened.recovered


async def test_stopping_sends_everybody_away_and_lets_nobody_in(house: House) -> None:
    """All are told to come back, with a delay; who comes anew is refused."""
    listeners = [await house.listen("ann", f"device-{number}") for number in range(4)]
    assert [await listener.all() for listener in listeners] == [[]] * 4
    house.subscriptions.stop()
    for listener in listeners:
        assert await listener.all() == [GoAway("stopping", 0.5, resumable=True)]
    assert house.subscriptions.count == 0
    with pytest.raises(Stopping):
        await house.listen("ann")


async def test_one_who_leaves_leaves_nothing_behind(house: House) -> None:
    """Wherever a stream is when it is closed, no timer, no name and no count of it stays."""
    for steps in range(3):
        house.push("ann")
        listener = await house.listen("ann", max_unacked=2)
        for _ in range(steps):
            await listener.next()
        await listener.leave()
    waiting = await house.listen("bob")
    await waiting.all()
    await waiting.leave()
    left: Any = (house.subscriptions.count, house.subscriptions._users, house.subscriptions._open)
    assert left == (0, {}, {})
    assert house.timers.waiting == []


async def test_the_loop_is_woken_once_for_all_that_is_published(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pushes were committed together, and whoever they are for."""
    ann, bob = await house.listen("ann"), await house.listen("bob")
    house.telling = False
    pushes = [(user, house.push(user)) for _ in range(20) for user in ("ann", "bob")]
    loop, woken = asyncio.get_running_loop(), list[Any]()
    wake = loop.call_soon_threadsafe

    def counted(*given: Any) -> object:
        woken.append(given)
        return wake(*given)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    for user, push in pushes:
        house.subscriptions.publish(user, push)
    assert len(woken) == 1
    monkeypatch.undo()
    assert offsets(await ann.pushes()) == offsets(await bob.pushes()) == list(range(1, 21))
