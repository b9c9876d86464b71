"""Record what users did: into the log, into their profiles, and on to the triggers, all in one transaction."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from tidings_core.errors import TidingsError
from tidings_core.events import Event, Fault, event_faults
from tidings_core.profile import fold
from tidings_core.triggers import Trigger
from tidings_server.application.consistency import write_token
from tidings_server.application.documents import UserDocument, write_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.push_timer import PushTimer
from tidings_server.application.store import Store, Transaction, outcome

Proposed = tuple[Event, bytes]
"""An event, and what the log keeps of it."""
Status = Literal["accepted", "duplicate", "rejected"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one event; `faults` says why one was rejected."""

    status: Status
    faults: Sequence[Fault] = ()


ACCEPTED, DUPLICATE = Verdict("accepted"), Verdict("duplicate")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of the events of one call, in order, and the token that makes reads see them ("": none was good)."""

    verdicts: Sequence[Verdict]
    token: str


def take_in(
    tx: Transaction, document: UserDocument, events: Sequence[Proposed], triggers: Sequence[Trigger], now_ms: int
) -> tuple[UserDocument, list[bool]]:
    """Record events of one user inside a transaction: append to the log, fold what is new, set timers for triggers.

    Returns the document after it, for the caller to put, and for each event whether it was new; one that is not changed
    nothing. `now_ms` is Unix milliseconds. The events must be without faults.
    """
    taken = _take_in(tx, document, events, triggers, now_ms)
    return taken.document, taken.new


@dataclass(frozen=True, slots=True)
class _Taken:
    document: UserDocument
    new: list[bool]
    timers: int


def _take_in(
    tx: Transaction, document: UserDocument, events: Sequence[Proposed], triggers: Sequence[Trigger], now_ms: int
) -> _Taken:
    numbers = [tx.events.append(event.event_id, event.user_id, event.time, content) for event, content in events]
    fresh = [event for (event, _), number in zip(events, numbers, strict=True) if number is not None]
    new = [number is not None for number in numbers]
    if not fresh:
        return _Taken(document, new, 0)
    items = ([tx.items.number(item.item_id) for item in event.items] for event in fresh)
    document = replace(
        document,
        profile=fold(document.profile, zip(fresh, items, strict=True)),
        applied_through=max(document.applied_through, *(number for number in numbers if number is not None)),
    )
    called_for = [timer for trigger in triggers for timer in _timers(trigger, fresh, document, now_ms)]
    for timer in called_for:
        tx.timers.set(timer.timer(now_ms))
    return _Taken(document, new, len(called_for))


def _timers(trigger: Trigger, fresh: Iterable[Event], document: UserDocument, now_ms: int) -> list[PushTimer]:
    """The timers that a trigger sets for events that the document has taken in."""
    cooldown_ms = trigger.cooldown_seconds * 1000
    if now_ms - document.fired.get(trigger.name, 0) < cooldown_ms:
        return []
    matching = [event for event in fresh if trigger.matches(event, document.profile, now_ms)]
    if cooldown_ms > 0 and matching:
        # All but one would be suppressed; the newest is the one to speak of.
        matching = [max(matching, key=lambda event: event.time)]
    return [PushTimer(trigger.name, event) for event in matching]


@dataclass(frozen=True, slots=True)
class _Done:
    """What a job did: its verdicts, the documents it put with their versions, and how many timers it set."""

    verdicts: list[Verdict]
    documents: dict[str, tuple[int, UserDocument]]
    timers: int


class RecordEvents:
    """Records the events of calls, one transaction for each call. Blocks its thread until they are on disk.

    The store commits what waits together, so that a call alone in its transaction costs no sync of its own, and one
    that fails hurts no other.
    """

    def __init__(
        self,
        store: Store,
        documents: KnownDocuments,
        triggers: Sequence[Trigger],
        now: Callable[[], float],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """`now` gives Unix seconds. `wake` is called, after the commit, when a trigger's timer was set."""
        self._store = store
        self._documents = documents
        self._triggers = triggers
        self._now = now
        self._wake = wake

    def __call__(self, calls: Sequence[Sequence[Proposed | Verdict]]) -> list[Recorded | TidingsError]:
        """Record the events of several calls; what comes as a Verdict was rejected before and stays so.

        For each call what became of its events, or the error for which none of them was recorded: StorageFull,
        StorageFailed, Overloaded, Stopping. An event whose id comes twice is a duplicate the second time.
        """
        now_ms = int(self._now() * 1000)
        under_way = [self._start([_checked(given, now_ms) for given in call], now_ms) for call in calls]
        return [self._finish(one) for one in under_way]

    def _start(self, call: Sequence[Proposed | Verdict], now_ms: int) -> "Recorded | TidingsError | Future[_Done]":
        rejected = [given for given in call if isinstance(given, Verdict)]
        if len(rejected) == len(call):
            return Recorded(rejected, "")
        try:
            done = self._store.write(partial(self._job, call, now_ms))
        except TidingsError as error:
            return error
        done.add_done_callback(self._told)
        return done

    def _job(self, call: Sequence[Proposed | Verdict], now_ms: int, tx: Transaction) -> _Done:
        """The transaction of one call."""
        verdicts = [given if isinstance(given, Verdict) else DUPLICATE for given in call]
        of_user: dict[str, dict[int, Proposed]] = {}
        for at, given in enumerate(call):
            if not isinstance(given, Verdict):
                of_user.setdefault(given[0].user_id, {})[at] = given
        documents: dict[str, tuple[int, UserDocument]] = {}
        timers = 0
        for user_id, events in of_user.items():
            stored = tx.users.get(user_id)
            before = self._documents.decode(user_id, stored)
            taken = _take_in(tx, before, list(events.values()), self._triggers, now_ms)
            timers += taken.timers
            for at, new in zip(events, taken.new, strict=True):
                if new:
                    verdicts[at] = ACCEPTED
            if any(taken.new):
                version = tx.users.put(user_id, write_document(taken.document), stored.version)
                documents[user_id] = version, taken.document
        return _Done(verdicts, documents, timers)

    def _told(self, done: "Future[_Done]") -> None:
        """Keep what is on disk now, and wake the triggers. In the store's writer thread."""
        if done.exception() is not None:
            return
        for user_id, (version, document) in done.result().documents.items():
            self._documents.keep(user_id, version, document)
        if done.result().timers:
            self._wake()

    def _finish(self, under_way: "Recorded | TidingsError | Future[_Done]") -> Recorded | TidingsError:
        if not isinstance(under_way, Future):
            return under_way
        made = outcome(under_way)
        return made if isinstance(made, TidingsError) else Recorded(made.verdicts, write_token(self._store))


def _checked(given: Proposed | Verdict, now_ms: int) -> Proposed | Verdict:
    if isinstance(given, Verdict):
        return given
    faults = event_faults(given[0], now_ms)
    return Verdict("rejected", faults) if faults else given
