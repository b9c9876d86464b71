"""A real store, a real release and the decider over them, step by step: clocks stand still until a test moves them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from tests.server.conftest import Clock
from tidings.v1 import push_service_pb2 as pb
from tidings_core.errors import Overloaded, StorageFailed
from tidings_core.events import Event, EventItem, EventType
from tidings_core.model import SERVING_CONFIGS
from tidings_core.profile import fold
from tidings_core.stored import Document, Entry, StoredPush
from tidings_core.triggers import Trigger
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.compose import Composer, Words
from tidings_server.application.decide_push import DecidePushes
from tidings_server.application.decision_record import read_record
from tidings_server.application.documents import UserDocument, read_document, write_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.people import People
from tidings_server.application.plan_push import Ask, PlanPushes, Wording
from tidings_server.application.recommend import Recommend
from tidings_server.application.record_events import take_in
from tidings_server.application.send_push import SendPush
from tidings_server.application.serving import Serving
from tidings_server.application.store import Store, Transaction
from tidings_server.application.write_push import Rules
from tidings_server.transport.push_encoding import encode_push, show_item

PATIENCE = 30.0
"""Seconds after which what is waited for will not come any more."""
TRIGGERS = {
    trigger.name: trigger
    for trigger in (
        Trigger("bought", "purchase", "goes-with", "goes-with"),
        Trigger("searched", "search", "search", "found"),
        Trigger("browsed", "view", "browse", "browsing", of="category"),
    )
}
TEMPLATES = {
    "goes-with": Words("For your {{ because.title }}", "{{ items | map(attribute='title') | join(', ') }}"),
    "found": Words("You searched for {{ query }}", "{{ item.title }}", "https://shop.example/{{ item.item_id }}"),
    "browsing": Words("New in {{ category }}", "{{ item.title }}"),
}

Logged = list[MutableMapping[str, Any]]
Open = Callable[..., AbstractContextManager["House"]]
_T = TypeVar("_T")


@dataclass
class Counted:
    """What a meter was told."""

    decisions: Counter[tuple[str, str]] = field(default_factory=Counter)
    decide_seconds: list[float] = field(default_factory=list)
    push_seconds: list[float] = field(default_factory=list)

    def decision(self, cause: str, outcome: str) -> None:
        """Count a decision."""
        self.decisions[cause, outcome] += 1

    def decided(self, seconds: float) -> None:
        """Keep how long it took."""
        self.decide_seconds.append(seconds)

    def pushed(self, seconds: float) -> None:
        """Keep how long after its event it was on disk."""
        self.push_seconds.append(seconds)


@dataclass
class House:
    """The parts of a server that decide, and what came of it."""

    store: SqliteStore
    clock: Clock
    triggers: Mapping[str, Trigger]
    decider: DecidePushes
    send: SendPush
    counted: Counted
    published: list[tuple[str, StoredPush, tuple[str, ...]]]
    made: int = 0

    @property
    def now(self) -> int:
        """The time in Unix milliseconds."""
        return int(self.clock.now * 1000)

    def write(self, job: Callable[[Transaction], _T]) -> _T:
        """Run a job and wait for it."""
        future: Future[_T] = self.store.write(job)
        return future.result(PATIENCE)

    def act(
        self, user: str, type: EventType, *items: str, query: str = "", category: str = "", age: float = 0.0
    ) -> Event:
        """Record what a user did, `age` seconds ago, with what triggers make of it."""
        self.made += 1
        time = self.now - int(age * 1000)
        event = Event(f"event-{self.made}", type, user, time, tuple(map(EventItem, items)), category, query)
        self.write(lambda tx: self._record(tx, event))
        return event

    def decide(self) -> None:
        """Decide all that is due, to the end."""
        while self.decider.decide_due():
            assert self.decider.settle(PATIENCE)
        assert self.decider.settle(PATIENCE)

    def pushes(self, user: str) -> list[pb.Push]:
        """The pushes in a user's stream."""
        return [pb.Push.FromString(push.content) for push in self.store.pushes(user, 0, 10_000)]

    def entries(self, user: str = "") -> list[Entry]:
        """The decisions for a user, oldest first."""
        return self.store.decisions(user, 10_000)[::-1]

    def outcomes(self, user: str = "") -> list[str]:
        """What became of the decisions for a user, oldest first: the state, or the reason why not."""
        return [entry.reason or entry.state for entry in self.entries(user)]

    def record(self, entry: Entry) -> dict[str, Any]:
        """The full record of a decision."""
        return read_record(entry.record)

    def document(self, user: str) -> UserDocument:
        """A user's document."""
        return read_document(self.store.user(user))

    def change(self, user: str, change: Callable[[UserDocument], UserDocument]) -> None:
        """Change a user's document."""

        def job(tx: Transaction) -> None:
            stored = tx.users.get(user)
            tx.users.put(user, write_document(change(read_document(stored))), stored.version)

        self.write(job)

    def change_profile(self, user: str, type: EventType, *items: str, category: str = "") -> None:
        """Let a profile take in an event without any trigger."""
        self.made += 1
        event = Event(f"event-{self.made}", type, user, self.now, tuple(map(EventItem, items)), category)

        def job(tx: Transaction) -> None:
            stored = tx.users.get(user)
            document, numbers = read_document(stored), [tx.items.number(item) for item in items]
            document = replace(document, profile=fold(document.profile, [(event, numbers)]))
            tx.users.put(user, write_document(document), stored.version)

        self.write(job)

    def _record(self, tx: Transaction, event: Event) -> None:
        stored = tx.users.get(event.user_id)
        triggers = tuple(self.triggers.values())
        document, _ = take_in(tx, read_document(stored), [(event, b"")], triggers, self.now)
        tx.users.put(event.user_id, write_document(document), stored.version)


@dataclass(frozen=True)
class Setting:
    """What a test may choose; `around` puts something between the decider and its store."""

    triggers: Mapping[str, Trigger] = field(default_factory=lambda: TRIGGERS)
    templates: Mapping[str, Words] = field(default_factory=lambda: TEMPLATES)
    max_per_day: int = 5
    history: int = 200
    around: Callable[[Store], Store] = lambda store: store
    ask_around: Callable[[Ask], Ask] = lambda ask: ask


@contextmanager
def open_house(state: Path, serving: Serving, clock: Clock, setting: Setting) -> Iterator[House]:
    """Open the store in a directory, and decide over it; on leaving everything that waits is written."""
    store = SqliteStore.open(state, lambda: int(clock() * 1000))
    published: list[tuple[str, StoredPush, tuple[str, ...]]] = []

    def publish(user: str, push: StoredPush, withdrawn: Sequence[str]) -> None:
        published.append((user, push, tuple(withdrawn)))

    counted, rules = Counted(), Rules(setting.max_per_day, setting.history)
    wording = Wording(Composer(setting.templates), show_item, encode_push)
    near = setting.around(store)
    documents = KnownDocuments(near)
    people = People(near, documents)
    ask = setting.ask_around(Recommend(serving, clock, clock, find_person=people.find))
    plans = PlanPushes(documents, ask, setting.triggers, SERVING_CONFIGS, wording, rules, clock)
    decider = DecidePushes(near, documents, plans, rules, publish, counted, clock, clock)
    send = SendPush(near, documents, serving, encode_push, rules, publish, counted, clock)
    try:
        yield House(store, clock, setting.triggers, decider, send, counted, published)
    finally:
        decider.close(PATIENCE)
        store.close()


class Around:
    """The real store, whose `write` a test can make fail or hold back; documents of `unreadable` users fail to read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.fails: Exception | None = None
        self.before: Callable[[Transaction], None] | None = None
        self.tried = 0
        self.unreadable: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def user(self, user_id: str) -> Document:
        """Read, unless told otherwise."""
        if user_id in self.unreadable:
            raise StorageFailed("the database failed")
        return self._store.user(user_id)

    def write(self, job: Callable[[Transaction], _T]) -> "Future[_T]":
        """Write, unless told otherwise; `before` runs once inside the transaction, in front of the job."""
        self.tried += 1

        def guarded(tx: Transaction) -> _T:
            if self.fails is not None:
                raise self.fails
            before, self.before = self.before, None
            if before is not None:
                before(tx)
            return job(tx)

        if isinstance(self.fails, Overloaded):
            raise self.fails
        return self._store.write(guarded)


def groups(item_ids: Sequence[str]) -> set[int]:
    """The groups of the generated shop's items."""
    return {int(item_id.removeprefix("item-")) % 6 for item_id in item_ids}


def items_of(push: Any) -> list[str]:
    """Ids of a push's items."""
    return [item.item.item_id for item in push.items]
