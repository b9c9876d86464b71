"""Acknowledge: a device has its pushes up to an offset, and some of them were shown, clicked or waved away."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Literal

from tidings_core.errors import InvalidInput, NotFound, TidingsError
from tidings_core.events import Event, EventItem, EventType
from tidings_core.privacy import EVERYTHING, PrivacyRules
from tidings_core.stored import Entry, State
from tidings_server.application.decision_record import read_record
from tidings_server.application.documents import UserDocument, write_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.places import received
from tidings_server.application.record_events import Door, take_in
from tidings_server.application.store import Store, Transaction, outcome
from tidings_server.application.subscription import Subscription
from tidings_server.application.subscriptions import Subscriptions

Outcome = Literal["delivered", "displayed", "clicked", "dismissed", "rejected"]
"""What became of a push on a device."""

MAX_NAMED = 8
"""So many pushes of others are named in one refusal."""

_EVENTS: Mapping[Outcome, EventType] = MappingProxyType(
    {"displayed": "impression", "clicked": "click", "dismissed": "dismiss"}
)
_TELLING: Sequence[State] = (
    "sent", "delivered", "lost", "expired", "collapsed", "rejected", "displayed", "dismissed", "clicked",
)  # fmt: skip
"""States of a push; a later one says more, and none gives way to one before it: devices report in any order."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a device says: it has every push up to `offset`, and what became of some, by push_id."""

    user_id: str
    subscription_id: str
    offset: int
    outcomes: Sequence[tuple[str, Outcome]] = ()


@dataclass(frozen=True, slots=True)
class _Done:
    """What a device has acknowledged by now, and the document, whose version is 0 when it was not changed.

    `size` is the length of its stored form.
    """

    offset: int
    version: int
    document: UserDocument
    size: int


class Acknowledge:
    """Writes acknowledgements down, then gives their subscriptions credit. Blocks its thread until they are on disk."""

    def __init__(
        self,
        store: Store,
        documents: KnownDocuments,
        subscriptions: Subscriptions,
        encode: Callable[[Event], bytes],
        now: Callable[[], float],
        privacy: PrivacyRules = EVERYTHING,
        watch: Callable[[], None] | None = None,
        door: Door | None = None,
    ) -> None:
        """`encode` makes what the log keeps of an event; `now` gives Unix seconds.

        `privacy` says what profiles may be used for. `watch` is called, after a commit, when tags are watched; None:
        they are not. Without a `door` every event counts.
        """
        self._privacy = privacy
        self._door = door
        self._store = store
        self._documents = documents
        self._subscriptions = subscriptions
        self._encode = encode
        self._now = now
        self._watch = watch

    def __call__(self, given: Sequence[Acknowledgement]) -> list[int | TidingsError]:
        """For each, in order, the offset that its device has acknowledged by now, or why nothing of it was written.

        NotFound: the subscription is not open, or another user's; InvalidInput: the offset was not sent on it, or a
        push is not this user's; StorageFull, StorageFailed, Overloaded.
        """
        under_way = [self._submit(one) for one in given]
        return [one if isinstance(one, TidingsError) else _answer(one) for one in under_way]

    def _submit(self, given: Acknowledgement) -> "Future[_Done] | TidingsError":
        try:
            subscription = self._find(given)
            given = replace(given, user_id=subscription.user.user_id)
            done = self._store.write(partial(self._job, given, subscription.device_id, int(self._now() * 1000)))
        except TidingsError as error:
            return error
        done.add_done_callback(partial(self._written, given, subscription))
        return done

    def _written(self, given: Acknowledgement, subscription: Subscription, done: "Future[_Done]") -> None:
        """Let the stream go on once it is on disk. In the store's writer thread."""
        if done.exception() is not None:
            return
        made = done.result()
        if made.version:
            self._documents.keep(given.user_id, made.version, made.document, made.size)
            if self._watch is not None:
                self._watch()
        self._subscriptions.acknowledged(subscription, given.offset)

    def _find(self, given: Acknowledgement) -> Subscription:
        subscription = self._subscriptions.find(given.subscription_id, given.user_id)
        if subscription is None:
            whose = self._documents.stored(given.user_id).user_id
            subscription = self._subscriptions.find(given.subscription_id, whose) if whose else None
        if subscription is None:
            raise _not_open(given.subscription_id)
        if given.offset > subscription.sent:
            raise InvalidInput(
                (
                    "offset",
                    f"is {given.offset}, and only pushes up to {subscription.sent} were sent on this subscription",
                )
            )
        return subscription

    def _job(self, given: Acknowledgement, device_id: str, now_ms: int, transaction: Transaction) -> _Done:
        entries = _pushes(transaction, given)
        stored = transaction.users.get(given.user_id)
        if stored.user_id:
            raise _not_open(given.subscription_id)  # Its user became another one's just now, and its stream ends.
        before = self._documents.decode(given.user_id, stored)
        document = received(transaction, before, given.user_id, device_id, given.offset, now_ms)
        for push_id, state in _told(entries, given.outcomes).items():
            transaction.ledger.set_state(push_id, state, now_ms)
        events = _events(entries, given.outcomes, now_ms)
        logged = [(event, self._encode(event)) for event in events]
        watching = self._watch is not None
        document, _ = take_in(transaction, document, logged, (), now_ms, self._privacy, watching, self._door)
        version = size = 0
        if document is not before:
            content = write_document(document)
            version, size = transaction.users.put(given.user_id, content, stored.version), len(content)
        return _Done(document.devices.get(device_id, (given.offset, 0))[0], version, document, size)


def _not_open(subscription_id: str) -> NotFound:
    return NotFound(f"subscription {subscription_id[:64]} is not open, or not this user's: subscribe again")


def _answer(under_way: "Future[_Done]") -> int | TidingsError:
    done = outcome(under_way)
    return done if isinstance(done, TidingsError) else done.offset


def _pushes(transaction: Transaction, given: Acknowledgement) -> dict[str, Entry]:
    """The decisions whose pushes have an outcome, by push_id. Raises InvalidInput for what is no push of the user."""
    named = dict.fromkeys(push_id for push_id, _ in given.outcomes)
    found = {push_id: transaction.ledger.find_push(push_id) for push_id in named}
    entries = {push_id: entry for push_id, entry in found.items() if entry and entry.user_id == given.user_id}
    foreign = [
        (f"outcomes[{at}].push_id", f"is {push_id[:64]!r}, which is no push of this user")
        for at, (push_id, _) in enumerate(given.outcomes)
        if push_id not in entries
    ]
    if foreign:
        raise InvalidInput(*foreign[:MAX_NAMED])
    return entries


def _events(entries: Mapping[str, Entry], outcomes: Sequence[tuple[str, Outcome]], now_ms: int) -> Iterator[Event]:
    """What outcomes say the user did. The id of each is the outcome's own, so that a repeat is a duplicate."""
    items: dict[str, tuple[EventItem, ...]] = {}
    for push_id, what in dict.fromkeys(outcomes):
        if what not in _EVENTS:
            continue
        if push_id not in items:
            chosen = read_record(entries[push_id].record)["chosen"]
            items[push_id] = tuple(EventItem(one["item_id"]) for one in chosen)
        if items[push_id]:
            event_id = f"push/{push_id}/{what}"
            yield Event(event_id, _EVENTS[what], entries[push_id].user_id, now_ms, items[push_id], push_id=push_id)


def _told(entries: Mapping[str, Entry], outcomes: Sequence[tuple[str, Outcome]]) -> dict[str, State]:
    """The states that outcomes change, each once and for one that says more than the one before."""
    changed: dict[str, State] = {}
    for push_id, what in outcomes:
        if _TELLING.index(what) > _TELLING.index(changed.get(push_id, entries[push_id].state)):
            changed[push_id] = what
    return changed
