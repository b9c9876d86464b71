"""Random sequences of everything that can happen to a stream never lose, reorder or repeat a push."""

import asyncio
import math
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.server.conftest import Clock
from tests.server.listening import House, Listener, opened
from tidings_core.stored import StoredPush
from tidings_server.application.places import Resume
from tidings_server.application.subscription import GoAway, Heartbeat, Message, Push, Withdraw

USER = "ann"
DEVICES = ("phone", "tv")
HISTORY = 8
TTL = 60.0

_T = TypeVar("_T")


@dataclass
class Device:
    """What the device itself remembers, and what the test knows of it."""

    acknowledged: int = 0
    """What the server answered that it has of this device."""
    known: bool = False
    """Whether it ever subscribed, which gives it a place of its own."""
    received: int = 0
    """Offset of the last push received, or of `subscribed`."""
    epoch: str = ""
    listener: Listener | None = None
    seen: list[str] = field(default_factory=list)
    """The pushes of this subscription, in order."""
    shown: set[str] = field(default_factory=set)
    """Pushes of this subscription that were not withdrawn."""
    start: int = 0
    max_unacked: int = 0
    told_lost: int = 0
    """What was dropped up to here it was told of, or could have been, when it subscribed."""


class Streams(RuleBasedStateMachine):
    """One user with two devices, and a server that is restarted now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.stack = AsyncExitStack()
        self.house: House
        self.pushes: list[StoredPush] = []
        self.replaced: dict[str, int] = {}
        self.dropped = 0
        self.devices = {name: Device() for name in DEVICES}

    def run(self, coming: Coroutine[Any, Any, _T]) -> _T:
        """Run on the loop of this machine."""
        return self.loop.run_until_complete(coming)

    @initialize()
    def start(self) -> None:
        """Start the server."""
        # Both devices listen at first, so that short sequences say something too.
        entering = self.stack.enter_async_context(opened(Path(self.folder.name) / "state", self.clock, HISTORY))
        self.house = self.run(entering)
        for name in DEVICES:
            self.subscribe(name, "")

    def teardown(self) -> None:
        """End everything."""
        self.run(self.end())
        self.run(self.loop.shutdown_asyncgens())
        self.loop.close()
        self.folder.cleanup()

    async def end(self) -> None:
        """Let every device and the server go."""
        for device in self.devices.values():
            await self.leave(device)
        await self.stack.aclose()

    async def leave(self, device: Device) -> None:
        """Let a device go away."""
        if device.listener is not None:
            await device.listener.leave()
            device.listener = None

    @rule(keys=st.lists(st.sampled_from(["", "", "a", "b"]), min_size=1, max_size=6), mortal=st.booleans())
    def push(self, keys: list[str], mortal: bool) -> None:
        """Pushes are sent, perhaps some that take the place of others."""
        for key in keys:
            self.push_one(key, mortal)

    def push_one(self, key: str, mortal: bool) -> None:
        """A push is sent."""
        # What a push takes the place of: pushes of its key that are still there and that no device acknowledged.
        oldest = max(*(device.acknowledged for device in self.devices.values()), len(self.pushes) - HISTORY)
        if key:
            older = [one.push_id for one in self.pushes if one.collapse_key == key and one.offset > oldest]
            self.replaced = {**dict.fromkeys(older, len(self.pushes) + 1), **self.replaced}
        self.house.made = len(self.pushes)
        pushing = asyncio.to_thread(self.house.push, USER, key, TTL if mortal else 30 * 86_400.0)
        self.pushes.append(self.run(pushing))
        self.settle()
        due = [one for one in self.pushes if one.offset <= self.pushes[-1].offset - HISTORY]
        left = [one.offset for one in due if one.push_id not in self.replaced and not self.expired(one)]
        self.dropped = max([self.dropped, *left])

    def expired(self, push: StoredPush) -> bool:
        """Whether a push is past its time."""
        return push.expires <= self.house.now

    @rule(restart=st.sampled_from([False, False, True]))
    def go_on(self, restart: bool) -> None:
        """Time passes: some pushes expire, and heartbeats fall due. Or the server is started again on the same disk."""
        if restart:
            self.run(self.end())
            self.stack = AsyncExitStack()
            self.start()
        else:
            self.clock.now += 20
            self.house.timers.fire()
            self.settle()

    def settle(self) -> None:
        """Let every device that waits for a message be told one now, if there is one, and not at some later moment."""
        for device in self.devices.values():
            if device.listener is not None:
                self.run(device.listener.settle())

    @rule(name=st.sampled_from(DEVICES), resume=st.sampled_from(["", "", "here", "back", "future", "epoch"]))
    def subscribe(self, name: str, resume: str) -> None:
        """A device subscribes, perhaps naming a place, good or bad; an older subscription of it may be open."""
        device = self.devices[name]
        older, epoch = device.listener, self.house.store.epoch
        newest = self.pushes[-1].offset if self.pushes else 0
        place: Resume | None = {
            "here": Resume(device.epoch, device.received),
            "back": Resume(epoch, device.received // 2),
            "future": Resume(epoch, newest + 1),
            "epoch": Resume("another", device.received),
        }.get(resume)
        device.max_unacked = 3 + len(self.pushes) % 4
        device.listener = self.run(self.house.listen(USER, name, place, device.max_unacked))
        if older is not None:
            last = self.run(older.all())[-1]
            assert isinstance(last, GoAway)
            assert last.reason == "replaced" or device.received < self.dropped
            self.run(older.leave())
        opened = device.listener.opened
        start = device.acknowledged if device.known else max(one.acknowledged for one in self.devices.values())
        good = place is not None and place.epoch == epoch and place.offset <= newest
        if place is None:
            assert opened.recovered == (start >= self.dropped)
        elif good:
            assert opened.recovered == (place.offset >= self.dropped)
            start = max(place.offset, device.acknowledged)
        else:
            assert not opened.recovered
        device.known, device.acknowledged = True, start
        assert (opened.offset, opened.epoch) == (start, epoch)
        device.start = device.received = start
        device.told_lost = self.dropped
        device.epoch, device.seen, device.shown = epoch, [], set()

    def listening(self) -> list[Device]:
        """The devices that listen."""
        return [device for device in self.devices.values() if device.listener is not None]

    @precondition(lambda self: self.listening())
    @rule(data=st.data(), share=st.sampled_from([None, 0.0, 0.5, 1.0, 1.0]))
    def receive_all(self, data: st.DataObject, share: float | None) -> None:
        """A device takes everything there is for it; then it has everything it may have. Perhaps it says so."""
        device = data.draw(st.sampled_from(self.listening()))
        while device.listener is not None and (message := self.run(device.listener.one())) is not None:
            self.take(device, message)
        if device.listener is not None:
            self.nothing_is_missing(device)
            self.acknowledge(device, share)

    @precondition(lambda self: self.listening())
    @rule(data=st.data(), share=st.sampled_from([None, 0.0, 0.5, 1.0]))
    def receive_one(self, data: st.DataObject, share: float | None) -> None:
        """A device takes one message; what was read ahead for it stays untold. Perhaps it says so."""
        device = data.draw(st.sampled_from(self.listening()))
        assert device.listener is not None
        if (message := self.run(device.listener.one())) is not None:
            self.take(device, message)
        self.acknowledge(device, share)

    def take(self, device: Device, message: Message) -> None:
        """See that a message is what may come now."""
        match message:
            case Push(stored, prev_offset):
                assert prev_offset == device.received < stored.offset
                assert stored.offset > device.acknowledged
                assert stored in self.pushes
                assert stored.push_id not in device.seen
                assert device.listener is not None
                assert stored.expires > device.listener.made_at
                assert self.replaced.get(stored.push_id, math.inf) > device.listener.made_after
                left_out = [one for one in self.good_after(device.received) if one.offset < stored.offset]
                assert all(one.offset <= device.told_lost for one in left_out)
                device.received = stored.offset
                device.seen.append(stored.push_id)
                device.shown.add(stored.push_id)
                assert self.ahead(device) <= device.max_unacked
            case Withdraw(push_id):
                assert push_id in device.shown
                assert push_id in self.replaced
                device.shown.remove(push_id)
            case Heartbeat(_, newest_offset):
                assert device.received <= newest_offset <= (self.pushes[-1].offset if self.pushes else 0)
            case GoAway(reason):
                # Only one that is so slow that what it did not have was dropped is sent away, and once for it.
                assert (reason, max(device.received, device.told_lost) < self.dropped) == ("failed", True)
                self.run(self.leave(device))

    def nothing_is_missing(self, device: Device) -> None:
        """A device that took everything has every push that is still good, or as many as it may have ahead."""
        left = self.good_after(device.received)
        assert self.ahead(device) == device.max_unacked or all(one.offset <= device.told_lost for one in left)
        assert device.shown.isdisjoint(self.replaced)

    def ahead(self, device: Device) -> int:
        """How many pushes a device has that it did not acknowledge."""
        return sum(one.push_id in device.seen and one.offset > device.acknowledged for one in self.pushes)

    def good_after(self, offset: int) -> list[StoredPush]:
        """The pushes after an offset that should be brought, were none dropped."""
        later = self.pushes[offset:]
        return [one for one in later if one.push_id not in self.replaced and not self.expired(one)]

    def acknowledge(self, device: Device, share: float | None) -> None:
        """A device acknowledges some of what it received, or less than before."""
        if share is None or device.listener is None:
            return
        offset = device.start + round((device.received - device.start) * share)
        answer = self.run(asyncio.to_thread(device.listener.acknowledge, offset))
        device.acknowledged = max(device.acknowledged, offset)
        assert answer == device.acknowledged
        self.settle()

    @precondition(lambda self: self.listening())
    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        """A device goes away without a word."""
        self.run(self.leave(data.draw(st.sampled_from(self.listening()))))


TestStreams = Streams.TestCase
TestStreams.settings = settings(
    max_examples=50, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)
