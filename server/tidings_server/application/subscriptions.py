"""Who listens: for each subscription a place in the stream, a credit and a wake-up, and no queue.

Nothing is lost and nothing comes twice, because:

- A push is committed before it is published, and commits of a user's pushes come in the order of their offsets. So who
  reads the stream after a publication of offset N finds everything up to N that is still there.
- A subscription registers first and reads the document afterwards. A push committed before that reading is counted in
  the document's `newest_offset`; one committed after it is published after it, and the publication finds the
  subscription registered. Either way `newest` of its user comes to be at least that push's offset.
- `through` is the offset up to which everything was sent, skipped or is about to be. While it is less than `newest`,
  the subscription reads what comes after it. Reading fewer than it asked for, it has everything up to what `newest`
  was when the reading began; what is published meanwhile raises `newest` again. Only larger offsets are ever read, so
  nothing comes twice and the order holds.
- The push just committed goes straight to a subscription that waits, when its offset is the very next integer: there
  is none between for it to overtake. Publications may come late or out of order; then the stream is read.
- A push that is withdrawn while a reading is under way may be in what is read: `withdrawals` has changed, and the
  reading is repeated. Once sent, it is named in a withdraw; between the two, it is dropped unsent.
"""

import asyncio
import math
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import structlog

from tidings_core.errors import Overloaded, Stopping, StorageFull, TidingsError
from tidings_core.stored import StoredPush
from tidings_server.application.documents import UserDocument, write_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.mailbox import Mailbox
from tidings_server.application.places import Place, Resume, find_place, received
from tidings_server.application.store import Store, Transaction
from tidings_server.application.subscription import (
    READ_AHEAD,
    Cancellable,
    GoAway,
    Heartbeat,
    Message,
    Push,
    Subscribed,
    Subscription,
    User,
    Withdraw,
)
from tidings_server.application.write_push import expire

READING_THREADS = 2
RETRY_AFTER = 5.0
"""Seconds that one who finds no room is asked to wait."""
RECONNECTS_PER_SECOND = 1000
"""When the server stops, subscribers are told to come back at about this rate."""
FAILED_DELAY = 2.0
"""Seconds, up to twice as many, to wait when pushes cannot be read."""

_ELSEWHERE = Resume("", 0)
"""A place in the stream of another id, which means nothing in this one."""

log = structlog.get_logger(__name__)


class _Moved(Exception):
    """The user is another one now."""

    def __init__(self, user_id: str) -> None:
        super().__init__(user_id)
        self.user_id = user_id


CallLater = Callable[[float, Callable[[], None]], Cancellable]
"""Calls a function on the event loop after so many seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Subscriptions that may be open, in all and of one user, and the seconds between heartbeats."""

    subscriptions: int
    subscriptions_per_user: int
    heartbeat: float


@dataclass(frozen=True, slots=True)
class Clocks:
    """What time it is (Unix seconds), how time passes (monotonic seconds), and chance (0 to 1)."""

    time: Callable[[], float]
    monotonic: Callable[[], float]
    random: Callable[[], float]


class Subscriptions:
    """All open subscriptions. Lives on the event loop it is made on; what may be called from elsewhere says so."""

    def __init__(
        self,
        store: Store,
        documents: KnownDocuments,
        limits: Limits,
        clocks: Clocks,
        call_later: CallLater | None = None,
    ) -> None:
        """Serve what `store` holds. `call_later` is the event loop's own when not given."""
        self._store = store
        self._documents = documents
        self._limits = limits
        self._clocks = clocks
        self._loop = asyncio.get_running_loop()
        self._call_later: CallLater = call_later or self._loop.call_later
        self._readers = ThreadPoolExecutor(READING_THREADS, "pushes")
        self._users: dict[str, User] = {}
        self._open: dict[str, Subscription] = {}
        self._count = 0
        self._stopping = False
        self._complained = -math.inf
        self._mailbox = Mailbox()

    @property
    def count(self) -> int:
        """How many streams there are, those that are ending too. For any thread."""
        return self._count

    async def subscribe(
        self, user_id: str, device_id: str, resume: Resume | None, max_unacked: int
    ) -> AsyncGenerator[Message, None]:
        """Open a subscription: `Subscribed`, then what there is to tell, each when the one before was taken.

        Ends after a GoAway. Close it when nobody listens any more. Raises Overloaded, Stopping or StorageFailed before
        anything else.
        """
        subscription, message = await self.open(user_id, device_id, resume, max_unacked)
        try:
            yield message
            while not isinstance(message, GoAway):
                found = self.next_message(subscription)
                if found is None:
                    await subscription.wait()
                else:
                    message = found
                    yield message
        finally:
            self.leave(subscription)

    async def open(
        self,
        user_id: str,
        device_id: str,
        resume: Resume | None,
        max_unacked: int,
        on_wake: Callable[[], None] | None = None,
    ) -> tuple[Subscription, Message]:
        """Open a subscription for who asks `next_message` himself; returns it and the first message, `Subscribed`.

        `on_wake` is called on the event loop when there may be something to tell after there was nothing; also before
        this returns. What is open must `leave`. Raises Overloaded, Stopping or StorageFailed.
        """
        subscription = self._admit(user_id, device_id, max_unacked, on_wake)
        try:
            place = await self._begin(subscription, resume)
        except _Moved as moved:
            self.leave(subscription)
            return await self.open(moved.user_id, device_id, _ELSEWHERE if resume else None, max_unacked, on_wake)
        except BaseException:
            self.leave(subscription)
            raise
        heartbeat = self._limits.heartbeat
        # The first comes early by chance, so that those who came together do not beat together.
        subscription.last = self._clocks.monotonic() - heartbeat * self._clocks.random() / 2
        self._keep_beating(subscription)
        return subscription, Subscribed(
            subscription.subscription_id, self._store.epoch, place.offset, place.recovered, heartbeat
        )

    def leave(self, subscription: Subscription) -> None:
        """End a subscription that nobody listens to any more, once."""
        self._count -= 1
        if subscription.timer is not None:
            subscription.timer.cancel()
        if self._open.pop(subscription.subscription_id, None) is None:
            return  # Another one took its place.
        user = subscription.user
        del user.devices[subscription.device_id]
        if not user.devices:
            del self._users[user.user_id]

    def publish(self, user_id: str, push: StoredPush, withdrawn: Sequence[str] = ()) -> None:
        """Tell of a push that was committed, and of the pushes it took the place of. For any thread; never waits."""
        if user_id not in self._users:
            return  # Who registers from now on reads a document that counts this push.
        if not self._mailbox.post(self._tell, user_id, push, withdrawn):
            log.debug("nobody is told of a push: the server has stopped", push_id=push.push_id)

    def moved(self, user_id: str) -> None:
        """End the subscriptions of an id that is somebody else's now. For any thread."""
        if not self._mailbox.post(self._end_all, user_id):
            log.debug("nobody is told of a merge: the server has stopped")

    def find(self, subscription_id: str, user_id: str) -> Subscription | None:
        """A subscription of a user that is open. For any thread."""
        found = self._open.get(subscription_id)
        return found if found is not None and found.user.user_id == user_id else None

    def acknowledged(self, subscription: Subscription, offset: int) -> None:
        """Give back the credit of everything up to `offset`, whose acknowledgement is on disk. For any thread."""
        if not self._mailbox.post(self._give_back, subscription, offset):
            log.debug("no credit to give back: the server has stopped")

    def forget(self, user_id: str) -> bool:
        """End the subscriptions of a user who was erased; whether there were any. For any thread."""
        if user_id not in self._users:
            return False
        return self._mailbox.post(self._send_away, user_id)

    def _send_away(self, user_id: str) -> None:
        user = self._users.get(user_id)
        for subscription in () if user is None else list(user.devices.values()):
            subscription.ahead.clear()
            self._end(subscription, GoAway("erased", 0.0, resumable=False))

    def stop(self) -> None:
        """Refuse new subscriptions and end all others, with a time to come back that spreads them."""
        self._stopping = True
        spread = max(1.0, self._count / RECONNECTS_PER_SECOND)
        for subscription in list(self._open.values()):
            self._end(subscription, GoAway("stopping", spread * self._clocks.random(), resumable=True))

    def close(self) -> None:
        """End the threads that read."""
        self._readers.shutdown()

    def _admit(
        self, user_id: str, device_id: str, max_unacked: int, on_wake: Callable[[], None] | None
    ) -> Subscription:
        """Register a subscription in place of the device's older one. Raises Stopping, Overloaded or ErasedUser."""
        limits = self._limits
        if self._stopping:
            raise Stopping("the server is stopping: try again, or try another one", 1 + self._clocks.random())
        self._documents.erased.refuse(user_id)
        user = self._users.get(user_id) or User(user_id, {})
        older = user.devices.get(device_id)
        # One that takes the place of its older one finds room also in a full house, unless too many are still ending.
        full = older is None and len(self._open) >= limits.subscriptions
        if full or self._count >= 2 * limits.subscriptions:
            raise Overloaded(
                f"{limits.subscriptions} subscriptions are open, the most this server has: try again later",
                RETRY_AFTER * (1 + self._clocks.random()),
            )
        if older is None and len(user.devices) >= limits.subscriptions_per_user:
            raise Overloaded(
                f"{limits.subscriptions_per_user} devices of this user have subscriptions, the most a user may have: "
                "end one first",
                RETRY_AFTER,
            )
        if older is not None:
            del self._open[older.subscription_id]
            self._end(older, GoAway("replaced", 0.0, resumable=False))
        subscription = Subscription(user, device_id, max_unacked, self._clocks.monotonic(), on_wake)
        user.devices[device_id] = subscription
        self._users[user_id] = user
        self._open[subscription.subscription_id] = subscription
        self._count += 1
        return subscription

    async def _begin(self, subscription: Subscription, resume: Resume | None) -> Place:
        """Find the subscription's place, and write down where a device is that is new, or says it has more."""
        user, device_id, epoch = subscription.user, subscription.device_id, self._store.epoch
        document = await self._loop.run_in_executor(self._readers, self._document, user.user_id)
        place = find_place(document, device_id, resume, epoch)
        subscription.told_lost = document.lost_through
        if resume is not None and resume.epoch == epoch and resume.offset > document.newest_offset:
            self._complain(
                "a device was further than its stream: if an older copy of the state was put back, stop the server and "
                "run `tidings-server renew-epoch`",
                f"it has offset {resume.offset}, and the newest is {document.newest_offset}",
            )
        if place.received is not None:
            job = partial(self._receive, user.user_id, device_id, place.received, self._now())
            try:
                # Subscriptions that begin together share a commit. One whose caller goes away meanwhile is written too.
                document = await asyncio.shield(asyncio.wrap_future(self._store.write(job)))
                # Its older subscription may have acknowledged more meanwhile.
                place = replace(place, offset=max(place.offset, document.devices.get(device_id, (0, 0))[0]))
            except StorageFull:
                # Pushes that are there can be read; its next acknowledgement says the same.
                log.debug("the place of a device is not written: the disk is full")
        user.newest = max(user.newest, document.newest_offset)
        subscription.sent = subscription.through = place.offset
        return place

    def _document(self, user_id: str) -> UserDocument:
        """The document of a user who is no other one's. Raises _Moved.

        It is read when the subscription is registered: one who is merged after this is found among those to end.
        """
        stored = self._documents.stored(user_id)
        if stored.user_id:
            raise _Moved(stored.user_id)
        return self._documents.committed(user_id, stored)

    def _receive(self, user_id: str, device_id: str, offset: int, now: int, transaction: Transaction) -> UserDocument:
        """The transaction that writes down what a device says it has."""
        stored = transaction.users.get(user_id)
        before = self._documents.decode(user_id, stored)
        if stored.user_id:
            raise _Moved(stored.user_id)
        after = received(transaction, before, user_id, device_id, offset, now)
        if after is not before:
            transaction.users.put(user_id, write_document(after), stored.version)
        return after

    def next_message(self, subscription: Subscription) -> Message | None:
        """What to tell next; None when there is nothing for now: it is woken when that may have changed."""
        subscription.idle = False
        if subscription.failure is not None:
            raise subscription.failure
        if subscription.end is not None:
            return subscription.end
        if subscription.withdrawn:
            return self._telling(subscription, Withdraw(subscription.withdrawn.pop(0)))
        if subscription.ahead:
            self._skip_expired(subscription)
        if subscription.ahead:
            push = subscription.ahead.pop(0)
            prev_offset, subscription.sent = subscription.sent, push.offset
            subscription.unacked.append((push.offset, push.push_id))
            return self._telling(subscription, Push(push, prev_offset))
        if subscription.beat_due:
            return self._telling(subscription, Heartbeat(self._now(), subscription.user.newest))
        if subscription.reading:
            return None
        if subscription.through < subscription.user.newest and subscription.credit > 0:
            self._read(subscription)
        else:
            subscription.idle = True
        return None

    def _skip_expired(self, subscription: Subscription) -> None:
        """Drop what is past its time, and have the ledger say so.

        The store is told before a later push is sent, so before one can be acknowledged: what was never sent does not
        come to be delivered.
        """
        ahead, now = subscription.ahead, self._now()
        expired: list[StoredPush] = []
        while ahead and 0 < ahead[0].expires <= now:
            expired.append(ahead.pop(0))
        if not expired:
            return
        try:
            self._store.write(partial(expire, user_id=subscription.user.user_id, pushes=expired, now=now))
        except TidingsError as error:
            log.debug("expired pushes stay in their stream for now", problem=str(error))

    def _telling(self, subscription: Subscription, message: Message) -> Message:
        subscription.beat_due = False
        subscription.last = self._clocks.monotonic()
        return message

    def _read(self, subscription: Subscription) -> None:
        """Begin to read what comes next into `ahead`."""
        user, after = subscription.user, subscription.through
        limit = min(subscription.credit, READ_AHEAD)
        subscription.reading = True
        reading = self._loop.run_in_executor(self._readers, self._stream_after, user.user_id, after, limit)
        reading.add_done_callback(partial(self._have_read, subscription, after, limit, user.newest, user.withdrawals))

    def _have_read(
        self,
        subscription: Subscription,
        after: int,
        limit: int,
        newest: int,
        withdrawals: int,
        reading: "asyncio.Future[tuple[list[StoredPush], int]]",
    ) -> None:
        """Take in what was read: at most `limit` pushes after `after`, when `newest` and `withdrawals` were so."""
        subscription.reading = False
        try:
            found, lost_through = reading.result()
        except asyncio.CancelledError:
            return  # The loop is ending.
        except TidingsError as error:
            self._complain("pushes cannot be read; subscribers are sent away", str(error))
            delay = FAILED_DELAY * (1 + self._clocks.random())
            self._end(subscription, GoAway("failed", delay, resumable=True))
            return
        except Exception as error:
            subscription.failure = error
            subscription.wake()
            return
        if lost_through > max(after, subscription.told_lost):
            # It was so slow that what it had not yet got was dropped. Resuming, it is told so: recovered is false.
            self._end(subscription, GoAway("failed", 0.0, resumable=True))
            return
        if withdrawals == subscription.user.withdrawals:
            subscription.ahead = found
            last = found[-1].offset if found else after
            subscription.through = last if len(found) == limit else max(last, newest)
        subscription.wake()

    def _stream_after(self, user_id: str, after: int, limit: int) -> tuple[list[StoredPush], int]:
        """The next pushes of a user and, when some are missing before them, up to where pushes were dropped."""
        found = self._store.pushes(user_id, after, limit)
        if found and found[0].offset == after + 1:
            return found, 0
        return found, self._documents.read(user_id)[1].lost_through

    def _tell(self, user_id: str, push: StoredPush, withdrawn: Sequence[str]) -> None:
        user = self._users.get(user_id)
        if user is None:
            return
        in_order = push.offset > user.newest
        user.newest = max(user.newest, push.offset)
        user.withdrawals += bool(withdrawn)
        for subscription in user.devices.values():
            if withdrawn:
                subscription.ahead = [ahead for ahead in subscription.ahead if ahead.push_id not in withdrawn]
                subscription.withdrawn += [push_id for _, push_id in subscription.unacked if push_id in withdrawn]
            next_one = in_order and push.offset == subscription.through + 1
            room = subscription.credit > 0 and len(subscription.ahead) < READ_AHEAD
            if next_one and room and subscription.idle:
                subscription.ahead.append(push)
                subscription.through = push.offset
            subscription.wake()

    def _end_all(self, user_id: str) -> None:
        user = self._users.get(user_id)
        for subscription in [] if user is None else list(user.devices.values()):
            self._end(subscription, GoAway("merged", 0.0, resumable=True))

    def _give_back(self, subscription: Subscription, offset: int) -> None:
        del subscription.unacked[: bisect_right(subscription.unacked, offset, key=lambda sent: sent[0])]
        subscription.wake()

    def _end(self, subscription: Subscription, end: GoAway) -> None:
        subscription.end = subscription.end or end
        subscription.wake()

    def _keep_beating(self, subscription: Subscription) -> None:
        """Look when a heartbeat may be due: one timer per subscription, however much it is sent."""
        left = subscription.last + self._limits.heartbeat - self._clocks.monotonic()
        subscription.timer = self._call_later(max(left, 0.0), partial(self._beat, subscription))

    def _beat(self, subscription: Subscription) -> None:
        if subscription.last + self._limits.heartbeat <= self._clocks.monotonic():
            subscription.last = self._clocks.monotonic()
            subscription.beat_due = True
            subscription.wake()
        self._keep_beating(subscription)

    def _complain(self, what: str, problem: str) -> None:
        """Log at most once a second: thousands of subscriptions fail together."""
        now = self._clocks.monotonic()
        if now - self._complained >= 1:
            self._complained = now
            log.error(what, problem=problem)

    def _now(self) -> int:
        """The time in Unix milliseconds."""
        return round(self._clocks.time() * 1000)
