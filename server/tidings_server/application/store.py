"""What the server remembers, as small Protocols: event log, documents of users, streams, ledger, timers, counters.

All writing is done by jobs. A job is a function of a Transaction: what it does happens whole or not at all, and when
the Future of `Store.write` is done it is on disk. A job may be run more than once, so it must change nothing but
through its Transaction. Times are Unix milliseconds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Protocol, TypeVar

from tidings_core.contacts import SealedContact
from tidings_core.errors import TidingsError
from tidings_core.flags import GOOD, Flag
from tidings_core.stored import (
    Document,
    Entry,
    Erased,
    Erasing,
    Look,
    State,
    StoredEvent,
    StoredImport,
    StoredItem,
    StoredPush,
    Timer,
)
from tidings_server.application.erasures import Erasures

_T = TypeVar("_T")


class EventLog(Protocol):
    """The log of events, the truth from which profiles can be made again."""

    def append(self, event_id: str, user_id: str, time: int, content: bytes, flags: Flag = GOOD) -> int | None:
        """Append an event and return its number, larger than all before it; None when its id is there already."""
        ...

    def of_user(self, user_id: str, after: int, limit: int) -> list[StoredEvent]:
        """Events of a user after a number, in order, the flagged ones too, as this transaction sees them."""
        ...

    def set_flags(self, number: int, flags: Flag) -> bool:
        """Give an event other flags; False when there is none of that number. Profiles are not made again by it."""
        ...

    def remove(self, numbers: Sequence[int]) -> int:
        """Take events out of the log; returns how many there were.

        Their numbers are not given again, and their ids stay known: an event of the same id is still a duplicate.
        """
        ...


class Checkpoints(Protocol):
    """What is left of the events of a user that were taken out of the log, so that profiles can be made again."""

    def get(self, user_id: str) -> bytes:
        """What is left, as this transaction sees it; b"" for nothing."""
        ...

    def put(self, user_id: str, content: bytes) -> None:
        """Replace what is left; b"" takes it out."""
        ...


class Imports(Protocol):
    """How far imports of history have come."""

    def get(self, import_id: str) -> StoredImport:
        """How far an import has come, as this transaction sees it; at row 0 when it has not begun."""
        ...

    def put(self, state: StoredImport) -> None:
        """Replace how far an import has come."""
        ...


class Items(Protocol):
    """A durable small number for each item."""

    def number(self, item_id: str) -> int:
        """The item_no of an item, 0 or more, given at first sight and never changed."""
        ...


class Users(Protocol):
    """One document per user."""

    def get(self, user_id: str) -> Document:
        """The document as this transaction sees it: that of the user into whom this one is merged, if there is one."""
        ...

    def merged(self, user_id: str) -> list[str]:
        """The ids that were merged into a user, directly or not, in order. What is of them is of the user."""
        ...

    def merge(self, user_id: str, into: str) -> None:
        """Let an id, and those merged into it, stand for another user from now on. Its own document is gone.

        The other user's document stays as it is, and has a version above both; put it next. Raises Conflict when the
        two are one, or either is merged into another already.
        """
        ...

    def put(self, user_id: str, content: bytes, expected_version: int) -> int:
        """Replace the document and return its new version.

        Raises Conflict when its version is not `expected_version` (0: there must be none).
        """
        ...


class Streams(Protocol):
    """One stream of pushes per user, in offset order."""

    def append(self, user_id: str, push: StoredPush) -> None:
        """Add a push. Adding the same offset again changes nothing."""
        ...

    def read(self, user_id: str, after: int, limit: int) -> list[StoredPush]:
        """Pushes after an offset, in order, those that have expired too."""
        ...

    def remove(self, user_id: str, offsets: Sequence[int]) -> None:
        """Take pushes out; one that is not there is passed over."""
        ...

    def expired(self, now: int, limit: int) -> list[tuple[str, StoredPush]]:
        """Pushes of any user, with the user, that expired at or before `now`, oldest first."""
        ...


class Ledger(Protocol):
    """Every decision, sent or not."""

    def add(self, entry: Entry) -> bool:
        """Add a decision; False, and nothing changed, when its decision_id is there already."""
        ...

    def get(self, decision_id: str) -> Entry | None:
        """A decision."""
        ...

    def find_push(self, push_id: str) -> Entry | None:
        """The decision that sent a push."""
        ...

    def advance(self, user_id: str, after: int, through: int, state: State, now: int) -> int:
        """Set the state of this user's pushes with offsets after..through that are `sent`; returns their number."""
        ...

    def move(self, user_id: str, to: str, offsets: Mapping[str, int]) -> None:
        """Make the decisions for a user those for another; pushes of these ids have these offsets then."""
        ...

    def set_state(self, push_id: str, state: State, now: int) -> None:
        """Set the state of one push."""
        ...

    def remove_before(self, time: int, answers: bool, limit: int) -> int:
        """Remove up to `limit` decisions of before a time: recorded answers or those about pushes; returns how many."""
        ...

    def keep_newest(self, state: State, count: int) -> int:
        """Remove the decisions of a state but for the `count` added last; returns the number removed."""
        ...


class Timers(Protocol):
    """Things to do later. They survive a crash and are done once: remove one in the transaction that does it."""

    def set(self, timer: Timer) -> None:
        """Set a timer. One of the same key that is set already stays as it is."""
        ...

    def remove(self, key: str) -> bool:
        """Remove a timer; False when it was not set."""
        ...


class Looks(Protocol):
    """Whose tags are to be looked at, and when. One entry for each user."""

    def begin(self, name: str, now: int) -> int:
        """Go on with the watch of a name; when it was another, forget everybody and begin at `now`.

        Returns when it began.
        """
        ...

    def ask(self, user_id: str, now: int, loud: bool) -> None:
        """Have a user looked at now, loudly if that is so of this or of what waits at `now` already."""
        ...

    def set(self, user_id: str, due: int) -> None:
        """Note that a user was looked at, and when to look again, loudly."""
        ...

    def remove(self, user_id: str) -> None:
        """Forget a user."""
        ...


class Counters(Protocol):
    """Shared counts with a limit, such as a budget. A reservation is named, so that repeating it changes nothing."""

    def reserve(self, counter: str, name: str, amount: int, limit: int, expires: int) -> bool:
        """Reserve an amount until `expires` if all that is reserved and committed stays within `limit`.

        True when the reservation of that name holds, also from before.
        """
        ...

    def commit(self, counter: str, name: str) -> bool:
        """Make a reservation final, also one that has expired but was not given to others; False when there is none."""
        ...

    def release(self, counter: str, name: str) -> bool:
        """Give a reservation back; False when there is none, or when it is final."""
        ...

    def used(self, counter: str, now: int) -> int:
        """All that is committed, or reserved and not expired."""
        ...


class CatalogueItems(Protocol):
    """What is known of items, and the order in which it changed."""

    def get(self, item_id: str) -> StoredItem:
        """What is known of an item, as this transaction sees it."""
        ...

    def put(self, item_id: str, time: int, content: bytes) -> int:
        """Replace what is known of an item; returns the number of this change, larger than all before it."""
        ...


class Contacts(Protocol):
    """How users can be reached, sealed, with a wrapped key for each user."""

    def read(self, user_id: str) -> tuple[bytes, list[SealedContact]]:
        """The wrapped key of a user, b"" for none, and the user's contacts, those registered first in front."""
        ...

    def put(self, user_id: str, key: bytes, contact: SealedContact) -> None:
        """Add or replace a contact, sealed under the wrapped key that stands for the user from now on."""
        ...

    def remove(self, user_id: str, contact_id: bytes) -> bool:
        """Remove a contact, and with a user's last one the key; False when there was none."""
        ...

    def holders(self, contact_id: bytes) -> list[str]:
        """The users who have a contact."""
        ...

    def expire(self, now: int, limit: int) -> int:
        """Remove contacts that expired at or before `now`, the oldest first; returns how many."""
        ...

    def erase(self, user_id: str) -> int:
        """Destroy a user's key and remove all contacts; returns how many there were."""
        ...


class Transaction(Protocol):
    """What a job writes through. It sees what it wrote, and what jobs before it wrote."""

    @property
    def events(self) -> EventLog:
        """The event log."""
        ...

    @property
    def checkpoints(self) -> Checkpoints:
        """What is left of events that were taken out."""
        ...

    @property
    def imports(self) -> Imports:
        """How far imports have come."""
        ...

    @property
    def items(self) -> Items:
        """Numbers of items."""
        ...

    @property
    def users(self) -> Users:
        """Documents."""
        ...

    @property
    def streams(self) -> Streams:
        """Streams of pushes."""
        ...

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        ...

    @property
    def timers(self) -> Timers:
        """Timers."""
        ...

    @property
    def looks(self) -> Looks:
        """Who is to be looked at."""
        ...

    @property
    def counters(self) -> Counters:
        """Counters."""
        ...

    @property
    def catalogue(self) -> CatalogueItems:
        """The catalogue."""
        ...

    @property
    def contacts(self) -> Contacts:
        """Contacts."""
        ...

    @property
    def erasures(self) -> Erasures:
        """Who was erased."""
        ...


class Store(Protocol):
    """The store. Reads see everything whose write is done, from any thread, and never wait for a write."""

    @property
    def epoch(self) -> str:
        """Name of this history. It changes only when history is lost."""
        ...

    @property
    def position(self) -> int:
        """Number of the newest event on disk, 0 for none."""
        ...

    @property
    def catalogue_position(self) -> int:
        """Number of the newest change of the catalogue on disk, 0 for none."""
        ...

    def write(self, job: Callable[[Transaction], _T]) -> "Future[_T]":
        """Run a job; the Future is done when its effects are on disk, or when it failed and has none.

        What the job raises, the Future raises. It raises StorageFull or StorageFailed when the job could not be kept.
        Raises at once Overloaded when too many jobs wait, Stopping once the store is closed. Callbacks of the Future
        run in the writer's thread: keep them short. When they run, reads see the effects.
        """
        ...

    def user(self, user_id: str) -> Document:
        """A user's document: that of the user into whom this one is merged, if there is one. Raises StorageFailed."""
        ...

    def merged(self, user_id: str) -> list[str]:
        """The ids that were merged into a user, directly or not, in order. Raises StorageFailed."""
        ...

    def users(self, user_ids: Sequence[str]) -> dict[str, Document]:
        """The documents of users who have one, b"" for one who is merged into another. Raises StorageFailed."""
        ...

    def versions(self, user_ids: Sequence[str]) -> dict[str, int]:
        """The versions of the documents of users who have one, 0 for one who is merged. Raises StorageFailed."""
        ...

    def newest_users(self, events: int) -> list[str]:
        """The users of so many events, the newest that count, each once. Raises StorageFailed."""
        ...

    def pushes(self, user_id: str, after: int, limit: int) -> list[StoredPush]:
        """Pushes of a user after an offset, in order, those that have expired too. Raises StorageFailed."""
        ...

    def due(self, now: int, limit: int) -> list[Timer]:
        """Timers due at or before `now`, those due first in front. Raises StorageFailed."""
        ...

    def next_due(self) -> int | None:
        """When the next timer is due; None when none is set. Raises StorageFailed."""
        ...

    def looks_due(self, now: int, limit: int) -> list[Look]:
        """Users to look at at or before `now`, those due first in front. Raises StorageFailed."""
        ...

    def next_look(self) -> int | None:
        """When somebody is to be looked at next; None when nobody is. Raises StorageFailed."""
        ...

    def never_looked_at(self, after: str, limit: int) -> list[str]:
        """Users with a document who are not among those to look at, after one, in order. Raises StorageFailed."""
        ...

    def decisions(self, user_id: str, limit: int) -> list[Entry]:
        """The decisions for a user ("" for any) that were added last, the last one first. Raises StorageFailed."""
        ...

    def decision(self, name: str) -> Entry | None:
        """The decision of a decision_id or of a push_id, None when there is none. Raises StorageFailed."""
        ...

    def item_ids(self, first: int) -> Iterator[tuple[int, str]]:
        """Items and their numbers from a number on, in order of number. Raises StorageFailed."""
        ...

    def events(self, after: int, limit: int) -> list[StoredEvent]:
        """Events of the log after a number, in order. Raises StorageFailed."""
        ...

    def user_events(self, user_id: str, after: int, limit: int) -> list[StoredEvent]:
        """Events of a user after a number, in order, the flagged ones too. Raises StorageFailed."""
        ...

    def checkpoint(self, user_id: str) -> bytes:
        """What is left of the events of a user that were taken out; b"" for nothing. Raises StorageFailed."""
        ...

    def contacts(self, user_id: str) -> tuple[bytes, list[SealedContact]]:
        """The wrapped key of a user, b"" for none, and the user's contacts. Raises StorageFailed."""
        ...

    def history(self, import_id: str) -> StoredImport:
        """How far an import of history has come, at row 0 when it has not begun. Raises StorageFailed."""
        ...

    def erased(self) -> list[Erased]:
        """All who were erased. Raises StorageFailed."""
        ...

    def erasing(self) -> list[Erasing]:
        """The erasures that are not done. Raises StorageFailed."""
        ...

    def erased_vectors(self, key: bytes = b"") -> dict[str, int]:
        """How many erased users each release has vectors of, as far as it is known; with a key that user alone.

        Raises StorageFailed.
        """
        ...

    def timers(self, user_id: str) -> list[Timer]:
        """The timers of a user. Raises StorageFailed."""
        ...

    def scrub(self) -> "Future[bool]":
        """Make what was removed unreadable on disk; whether it is. If not, that is done as soon as it can be."""
        ...

    def catalogue_item(self, item_id: str) -> StoredItem:
        """What is known of an item. Raises StorageFailed."""
        ...

    def catalogue_changes(self, after: int, limit: int) -> list[StoredItem]:
        """Items whose last change has a number above `after`, in order of it. Raises StorageFailed."""
        ...


def outcome(done: "Future[_T]") -> "_T | TidingsError":
    """The result of a Future that is done, or the error of ours that it raised."""
    error = done.exception()
    if isinstance(error, TidingsError):
        return error
    return done.result()
