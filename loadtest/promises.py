"""What a server promised its clients, and whether it kept it: the load of loadtest/crash.py and its judge.

A promise is an answer: an event accepted, a push sent, an acknowledgement taken. A call without an answer, because the
server died, promised nothing: what it asked for may be there or not, but never in part and never twice.
"""

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from sqlite3 import connect

import grpc

from catalogue_promises import Items, change, judge_items, new_items
from erase_promises import Erased, erase, judge_erased
from import_promises import Imported, go_on, judge_import
from merge_promises import Merges, judge_merges, merge
from tidings.v1 import event_pb2, event_service_pb2, profile_service_pb2, push_service_pb2, recommendation_service_pb2
from tidings.v1.catalog_service_pb2_grpc import CatalogServiceStub
from tidings.v1.event_service_pb2_grpc import EventServiceStub
from tidings.v1.profile_service_pb2_grpc import ProfileServiceStub
from tidings.v1.push_service_pb2_grpc import PushServiceStub
from tidings.v1.recommendation_service_pb2_grpc import RecommendationServiceStub

DEVICE = "phone"
TRIGGER = "bought"
"""The trigger that the server of loadtest/crash.py has, on every purchase."""
CALL_SECONDS = 20.0
PATIENCE = 30.0
"""Seconds after which a decision or a push that was promised counts as lost."""
MISSING = "missing"

Answer = tuple[str, str, int]
"""What SendPush answered: decision, push_id and offset."""


@dataclass
class Tally:
    """What was found. `said` holds the first faults in words."""

    checked: int = 0
    lost: int = 0
    doubled: int = 0
    corrupt: int = 0
    said: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, kept: bool, kind: str, words: str) -> None:
        """Count a promise, and a fault of a kind (lost, doubled, corrupt) when it was not kept."""
        with self._lock:
            self.checked += 1
            if not kept:
                setattr(self, kind, getattr(self, kind) + 1)
                self.said = [*self.said, f"{kind}: {words}"][:20]


@dataclass
class Promises:
    """What was asked for and what was answered, over all crashes. Each part is written by one kind of thread."""

    events: dict[str, event_pb2.Event] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    sends: dict[str, push_service_pb2.SendPushRequest] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    received: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    acknowledged: Counter[str] = field(default_factory=Counter)
    tokens: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By user: an event that was accepted, and the token that came with it."""
    epoch: str = ""
    items: Items = field(default_factory=new_items)
    erased: Erased = field(default_factory=Erased)
    merges: Merges = field(default_factory=Merges)
    imported: Imported = field(default_factory=Imported)


class Shop:
    """Connection to a server."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self.events = EventServiceStub(self._channel)
        self.profiles = ProfileServiceStub(self._channel)
        self.pushes = PushServiceStub(self._channel)
        self.recommendations = RecommendationServiceStub(self._channel)
        self.catalogue = CatalogServiceStub(self._channel)

    def close(self) -> None:
        """Disconnect."""
        self._channel.close()


@dataclass
class Load:
    """Clients that ask for things until the server dies. What they are promised goes to `promises`."""

    shop: Shop
    promises: Promises
    tally: Tally
    users: Sequence[str]
    items: int
    seed: int
    turn: int
    ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask from several threads; on leaving, wait until they have noticed the end."""
        work: list[Callable[[random.Random, int], None]] = [self._record, self._record, self._send, self._read]
        work += [self._changer("red"), self._changer("blue"), self._erase, self._merge, self._import]
        jobs = [*work, *(self._listener(user) for user in self.users)]
        threads = [threading.Thread(target=self._until_dead, args=(job, at)) for at, job in enumerate(jobs)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.ended.set()
            for thread in threads:
                thread.join()

    def _until_dead(self, job: Callable[[random.Random, int], None], at: int) -> None:
        chance = random.Random(f"{self.seed}/{self.turn}/{at}")
        number = 0
        while not self.ended.is_set():
            number += 1
            try:
                job(chance, number * 100 + at)
            except grpc.RpcError as error:
                # Only the end of the server may be in the way; load that it sheds comes again.
                if error.code() not in (
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.CANCELLED,
                    grpc.StatusCode.UNKNOWN,
                ):
                    shed = error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                    self.tally.check(shed, "corrupt", f"{job} answered {error.code()}: {error.details()}")
                self.ended.wait(0.01)

    def _record(self, chance: random.Random, number: int) -> None:
        """Record one event or a batch, with repeats of ids from before and within the batch."""
        promises = self.promises
        events = [self._event(chance, f"{self.turn}-{number}-{at}") for at in range(chance.choice((1, 1, 1, 20)))]
        known = list(promises.accepted)
        again = [promises.events[chance.choice(known)] for _ in range(chance.choice((0, 1, 3))) if known]
        batch = [*events, *again, *events[: chance.randrange(3)]]
        promises.events.update((event.event_id, event) for event in events)
        answer = self.shop.events.RecordEvents(
            event_service_pb2.RecordEventsRequest(events=batch), timeout=CALL_SECONDS
        )
        statuses = [verdict.status for verdict in answer.verdicts]
        new = statuses[: len(events)]
        right = all(status == event_service_pb2.EVENT_STATUS_ACCEPTED for status in new)
        self.tally.check(right, "doubled", f"new events got {new}")
        repeats = statuses[len(events) :]
        right = all(status == event_service_pb2.EVENT_STATUS_DUPLICATE for status in repeats)
        self.tally.check(right, "doubled", f"repeated events got {repeats}")
        with self._lock:
            promises.accepted.update(event.event_id for event in events)
            promises.tokens[events[-1].user_id] = (events[-1].event_id, answer.consistency_token)

    def _event(self, chance: random.Random, event_id: str) -> event_pb2.Event:
        event = event_pb2.Event(
            event_id=event_id,
            type=chance.choice((event_pb2.EVENT_TYPE_VIEW,) * 3 + (event_pb2.EVENT_TYPE_PURCHASE,)),
            user_id=chance.choice(self.users),
            items=[event_pb2.EventItem(item_id=f"item-{chance.randrange(self.items)}")],
        )
        event.event_time.GetCurrentTime()
        return event

    def _send(self, chance: random.Random, number: int) -> None:
        """Send a push, or ask for one of before again."""
        promises = self.promises
        if promises.sends and chance.random() < 0.3:
            request = promises.sends[chance.choice(list(promises.sends))]
        else:
            request = push_service_pb2.SendPushRequest(
                request_id=f"{self.turn}-{number}", user_id=chance.choice(self.users), title=f"Push {number}"
            )
            promises.sends[request.request_id] = request
        send(self.shop, promises, self.tally, request)

    def _read(self, chance: random.Random, number: int) -> None:
        """Recommend and show a profile with the token of a write: both see it."""
        with self._lock:
            known = sorted(self.promises.tokens.items())
        if not known:
            self.ended.wait(0.01)
            return
        user_id, (event_id, token) = chance.choice(known)
        event = self.promises.events[event_id]
        if number % 2:
            asked = recommendation_service_pb2.RecommendRequest(user_id=user_id, k=5, consistency_token=token)
            items = {
                item.item.item_id for item in self.shop.recommendations.Recommend(asked, timeout=CALL_SECONDS).items
            }
            bought = event.type == event_pb2.EVENT_TYPE_PURCHASE and event.items[0].item_id in items
            self.tally.check(not bought, "lost", f"{user_id} is recommended what was bought in {event_id}")
        else:
            wanted = profile_service_pb2.GetProfileRequest(user_id=user_id, consistency_token=token)
            profile = self.shop.profiles.GetProfile(wanted, timeout=CALL_SECONDS).profile
            there = any(count.type == event.type and count.total for count in profile.counts)
            self.tally.check(there, "lost", f"the profile of {user_id} does not show {event_id}")

    def _erase(self, chance: random.Random, number: int) -> None:
        """Have somebody erased."""
        erase(self.shop, self.promises.erased, self.tally, chance, self.turn, number)

    def _import(self, chance: random.Random, _: int) -> None:
        """Go on with the import of history."""
        go_on(self.shop, self.promises.imported, self.tally, chance)

    def _changer(self, owner: str) -> Callable[[random.Random, int], None]:
        def say(chance: random.Random, number: int) -> None:
            """Change items that nobody else does."""
            change(self.shop, self.promises.items, self.tally, chance, owner, self.turn, number)

        return say

    def _merge(self, chance: random.Random, number: int) -> None:
        """Merge a visitor nobody else knows."""
        merge(self.shop, self.promises.merges, self.tally, chance, self.turn, number)

    def _listener(self, user_id: str) -> Callable[[random.Random, int], None]:
        def listen(chance: random.Random, _: int) -> None:
            """Receive pushes, and acknowledge now and then."""
            with closing(Stream(self.shop, self.promises, self.tally, user_id)) as stream:
                for push in stream.pushes():
                    if chance.random() < 0.3:
                        stream.acknowledge(push.offset)

        return listen


class Stream:
    """A subscription of one user's device, each message held against what was promised."""

    def __init__(self, shop: Shop, promises: Promises, tally: Tally, user_id: str) -> None:
        self._shop = shop
        self._promises = promises
        self._tally = tally
        self._user_id = user_id
        self._call = shop.pushes.Subscribe(
            push_service_pb2.SubscribeRequest(user_id=user_id, device_id=DEVICE, max_unacked=1000)
        )
        self._subscription_id = ""
        self._offset = 0

    def pushes(self, through: int | None = None) -> Iterator[push_service_pb2.Push]:
        """Its pushes as they come, up to an offset."""
        for message in self._call:
            if message.HasField("subscribed"):
                self._begin(message.subscribed)
            elif message.HasField("push"):
                self._take(message.push)
                yield message.push
            if through is not None and self._offset >= through:
                return

    def acknowledge(self, offset: int) -> None:
        """Acknowledge, and remember it once it is answered."""
        asked = push_service_pb2.AcknowledgeRequest(
            user_id=self._user_id, subscription_id=self._subscription_id, offset=offset
        )
        self._shop.pushes.Acknowledge(asked, timeout=CALL_SECONDS)
        self._promises.acknowledged[self._user_id] = max(offset, self._promises.acknowledged[self._user_id])

    def close(self) -> None:
        """Unsubscribe."""
        self._call.cancel()

    def _begin(self, subscribed: push_service_pb2.Subscribed) -> None:
        promises, offset = self._promises, subscribed.offset
        promises.epoch = promises.epoch or subscribed.epoch
        self._tally.check(subscribed.epoch == promises.epoch, "lost", f"epoch {subscribed.epoch}")
        self._tally.check(subscribed.recovered, "lost", f"{self._user_id}: not recovered")
        kept = offset >= promises.acknowledged[self._user_id]
        self._tally.check(kept, "doubled", f"{self._user_id} begins at {offset}, before what it acknowledged")
        self._subscription_id, self._offset = subscribed.subscription_id, offset

    def _take(self, push: push_service_pb2.Push) -> None:
        words = f"{self._user_id}: push {push.push_id} at {push.offset} after {push.prev_offset}"
        self._tally.check(push.prev_offset == self._offset < push.offset, "lost", f"{words}, expected {self._offset}")
        acknowledged = self._promises.acknowledged[self._user_id]
        self._tally.check(push.offset > acknowledged, "doubled", f"{words}, acknowledged {acknowledged}")
        received = self._promises.received[self._user_id]
        known = received.setdefault(push.offset, push.push_id)
        self._tally.check(known == push.push_id, "corrupt", f"{words} was {known} before")
        self._offset = push.offset


def send(shop: Shop, promises: Promises, tally: Tally, request: push_service_pb2.SendPushRequest) -> None:
    """Send a push: the answer is the one of before, if there was one, and its offset is larger than all before it."""
    answer = shop.pushes.SendPush(request, timeout=CALL_SECONDS)
    decision = push_service_pb2.PushDecision.Name(answer.decision)
    got = (decision, answer.push_id, answer.offset)
    before = promises.answers.setdefault(request.request_id, got)
    tally.check(got == before, "doubled", f"request {request.request_id} answered {got}, before {before}")


def judge(shop: Shop, promises: Promises, tally: Tally, database: Path, users: Sequence[str]) -> None:
    """Hold a server that was started again against all that was promised. Afterwards nothing is unknown any more."""
    for user_id, (event_id, token) in promises.tokens.items():
        try:
            wanted = profile_service_pb2.GetProfileRequest(user_id=user_id, consistency_token=token)
            shop.profiles.GetProfile(wanted, timeout=CALL_SECONDS)
            tally.check(True, "lost", "")
        except grpc.RpcError as error:
            tally.check(False, "lost", f"the token of {event_id}: {error.code()}: {error.details()}")
    judge_items(shop, promises.items, tally)
    judge_erased(shop, promises.erased, tally, database.parent)
    judge_merges(shop, promises.merges, tally)
    judge_import(shop, promises.imported, tally, database)
    _judge_bounds(shop, promises, tally, users)
    _send_events_again(shop, promises, tally)
    _judge_bounds(shop, promises, tally, users)
    for request in promises.sends.values():
        send(shop, promises, tally, request)
    _judge_database(promises, tally, database)
    for user_id in users:
        _judge_stream(shop, promises, tally, database, user_id)


def _judge_bounds(shop: Shop, promises: Promises, tally: Tally, users: Sequence[str]) -> None:
    """Totals of profiles lie between what was accepted and what was asked for."""
    most = Counter((event.user_id, event.type) for event in promises.events.values())
    least = Counter((promises.events[name].user_id, promises.events[name].type) for name in promises.accepted)
    for user_id in users:
        try:
            wanted = profile_service_pb2.GetProfileRequest(user_id=user_id)
            counts = shop.profiles.GetProfile(wanted, timeout=CALL_SECONDS).profile.counts
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            counts = []
        totals = Counter({count.type: count.total for count in counts})
        for kind in (event_pb2.EVENT_TYPE_VIEW, event_pb2.EVENT_TYPE_PURCHASE):
            low, total, high = least[user_id, kind], totals[kind], most[user_id, kind]
            tally.check(total >= low, "lost", f"profile of {user_id}: {total} of type {kind}, accepted {low}")
            tally.check(total <= high, "doubled", f"profile of {user_id}: {total} of type {kind}, asked {high}")


def _send_events_again(shop: Shop, promises: Promises, tally: Tally) -> None:
    """What was accepted is a duplicate; what is not known becomes accepted."""
    events = list(promises.events.values())
    for start in range(0, len(events), 500):
        part = events[start : start + 500]
        request = event_service_pb2.RecordEventsRequest(events=part)
        verdicts = shop.events.RecordEvents(request, timeout=CALL_SECONDS).verdicts
        for event, verdict in zip(part, verdicts, strict=True):
            if event.event_id in promises.accepted:
                there = verdict.status == event_service_pb2.EVENT_STATUS_DUPLICATE
                tally.check(there, "lost", f"accepted event {event.event_id} got {verdict.status}")
            promises.accepted.add(event.event_id)


def _judge_database(promises: Promises, tally: Tally, database: Path) -> None:
    """Each purchase led to one decision, each push to one place, and the database is whole."""
    end = time.monotonic() + PATIENCE
    with closing(connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as reader:
        while reader.execute("SELECT count(*) FROM timers").fetchone()[0] and time.monotonic() < end:
            time.sleep(0.02)
        decisions = {row[0] for row in reader.execute("SELECT decision_id FROM decisions WHERE cause LIKE 'trigger:%'")}
        events = [row[0] for row in reader.execute("SELECT event_id FROM events")]
        state = reader.execute("PRAGMA integrity_check").fetchone()[0]
    tally.check(state == "ok", "corrupt", state)
    purchases = [e.event_id for e in promises.events.values() if e.type == event_pb2.EVENT_TYPE_PURCHASE]
    called = {f"trigger/{TRIGGER}/{event_id}" for event_id in purchases}
    for missing in called - decisions:
        tally.check(False, "lost", f"no decision {missing}")
    for extra in decisions - called:
        tally.check(False, "doubled", f"nothing called for the decision {extra}")
    tally.check(len(events) == len(set(events)), "doubled", "an event is in the log twice")
    tally.check(not promises.accepted - set(events), "lost", "accepted events are not in the log")
    tally.checked += len(called) + len(promises.accepted)


def _judge_stream(shop: Shop, promises: Promises, tally: Tally, database: Path, user_id: str) -> None:
    """The device has got, or gets now, every push that was ever sent to its user, each at one place."""
    query = "SELECT offset, push_id FROM decisions WHERE user_id = ? AND push_id <> '' ORDER BY offset"
    with closing(connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as reader:
        sent: list[tuple[int, str]] = reader.execute(query, (user_id,)).fetchall()
    received = promises.received[user_id]
    last = sent[-1][0] if sent else 0
    with closing(Stream(shop, promises, tally, user_id)) as stream:
        guard = threading.Timer(PATIENCE, stream.close)
        guard.start()
        try:
            # What the device acknowledged does not come again; then `subscribed` says so.
            for _ in stream.pushes(last):
                pass
        except grpc.RpcError:
            tally.check(False, "lost", f"{user_id}: pushes up to {last} did not come within {PATIENCE} s")
        finally:
            guard.cancel()
    for offset, push_id in sent:
        tally.check(received.get(offset, MISSING) == push_id, "lost", f"{user_id}: push {push_id} at {offset}")
    tally.check(len({push_id for _, push_id in sent}) == len(sent), "doubled", f"{user_id}: a push has two places")
    unknown = set(received.items()) - set(sent)
    tally.check(not unknown, "lost", f"{user_id} has got pushes of which the ledger knows nothing: {unknown}")
    promised = {
        push_id: o for name, (_, push_id, o) in promises.answers.items() if promises.sends[name].user_id == user_id
    }
    places = {push_id: offset for offset, push_id in sent}
    for push_id, offset in promised.items():
        tally.check(not push_id or places.get(push_id) == offset, "lost", f"{user_id}: {push_id} promised at {offset}")
