"""Record what users did: into the log, into their profiles, and on to the triggers, all in one transaction."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from tidings_core.changes import Logged
from tidings_core.cleaning import Cleaning, judged
from tidings_core.errors import ErasedUser, StorageFailed, TidingsError
from tidings_core.events import NEVER, Event, event_faults
from tidings_core.faults import Fault
from tidings_core.flags import GOOD, Flag
from tidings_core.privacy import EVERYTHING, PrivacyRules, standing_of
from tidings_core.profile import EMPTY, fold, order_key
from tidings_core.stored import Document
from tidings_core.triggers import Trigger
from tidings_server.application.consistency import write_token
from tidings_server.application.documents import UserDocument, write_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.push_timer import PushTimer
from tidings_server.application.replay import Decode, cancel_orders, item_numbers, replay
from tidings_server.application.store import Store, Transaction, outcome

TOGETHER = 256
"""So many events share a job, unless one call alone has more: who else writes waits for a job to end."""

FOREVER = 1 << 62
"""Later than any event, in Unix milliseconds."""

Proposed = tuple[Event, bytes]
"""An event, and what the log keeps of it."""
Entry = tuple[Logged, bytes]
"""An event or a change, and what the log keeps of it."""
Status = Literal["accepted", "duplicate", "rejected", "erased"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one event; `faults` says why one was rejected."""

    status: Status
    faults: Sequence[Fault] = ()


ACCEPTED, DUPLICATE, ERASED = Verdict("accepted"), Verdict("duplicate"), Verdict("erased")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of the events of one call, in order, and the token that makes reads see them ("": none was good)."""

    verdicts: Sequence[Verdict]
    token: str


@dataclass(frozen=True, slots=True)
class Door:
    """What entries go through on their way into log and profile: the rules by which some count for nothing.

    `decode` reads what the log kept of those that came before.
    """

    cleaning: Cleaning
    decode: Decode


def take_in(
    tx: Transaction,
    document: UserDocument,
    entries: Sequence[Entry],
    triggers: Sequence[Trigger],
    now_ms: int,
    privacy: PrivacyRules = EVERYTHING,
    watching: bool = False,
    door: Door | None = None,
) -> tuple[UserDocument, list[bool]]:
    """Record events and changes of one user inside a transaction: append to the log, fold what is new, set timers.

    Returns the document after it, for the caller to put when it is another one, and for each entry whether it was new;
    one that is not changed nothing. What does not count by the rules of `door` is flagged in the log, and neither
    folded nor looked at by triggers; events of somebody whose profile may not be used, by `privacy`, are flagged and
    become no part of it. An order that is cancelled is taken out of the profile again. `watching`: have the user's tags
    looked at. `now_ms` is Unix milliseconds. The entries must be without faults.
    """
    taken = _take_in(tx, document, entries, triggers, now_ms, privacy, watching, door)
    return taken.document, taken.new


def whose(events: Sequence[Proposed], stored: Document) -> Sequence[Proposed]:
    """Events of the user under whose id a document stands: they came under another one where that is told."""
    if not stored.user_id:
        return events
    return [(replace(event, user_id=stored.user_id), content) for event, content in events]


@dataclass(frozen=True, slots=True)
class _Taken:
    document: UserDocument
    new: list[bool]
    timers: int
    flags: Sequence[Flag]


def _take_in(
    tx: Transaction,
    document: UserDocument,
    entries: Sequence[Entry],
    triggers: Sequence[Trigger],
    now_ms: int,
    privacy: PrivacyRules,
    watching: bool,
    door: Door | None,
) -> _Taken:
    usable = standing_of(document.profile, privacy).may("answer", now_ms)
    consent = GOOD if usable else Flag.NO_CONSENT
    numbers = [
        tx.events.append(one.event_id, one.user_id, one.time, content, consent if isinstance(one, Event) else GOOD)
        for one, content in entries
    ]
    fresh = {number: one for (one, _), number in zip(entries, numbers, strict=True) if number is not None}
    new = [number is not None for number in numbers]
    flags = _flag(tx, document, fresh, consent, door)
    good = {number: one for number, one in fresh.items() if number not in flags}
    events = [one for one in good.values() if isinstance(one, Event)]
    told = [*flags.values(), *([] if usable else [consent] * len(events))]
    folded = good if usable else {number: one for number, one in good.items() if not isinstance(one, Event)}
    if folded:
        document = replace(
            document,
            profile=fold(document.profile, [(one, item_numbers(tx, one)) for one in folded.values()]),
            applied_through=max(document.applied_through, *folded),
        )
    cancelled = {order_key(event.order_id) for event in events if event.type == "cancel"}
    if cancelled and door is not None:
        count = cancel_orders(tx, events[0].user_id, cancelled, door.decode)
        if count:
            document = replace(document, profile=replay(tx, events[0].user_id, door.decode))
            told += [Flag.CANCELLED] * count
    # An event by itself may call for a push all the same; what was done before may not be looked at.
    looked_at = document if usable else replace(document, profile=EMPTY)
    called_for = [timer for trigger in triggers for timer in _timers(trigger, events, looked_at, now_ms)]
    for timer in called_for:
        tx.timers.set(timer.timer(now_ms))
    if watching and good:
        loud = len(events) < len(good) or any(event.type not in NEVER for event in events)
        tx.looks.ask(next(iter(good.values())).user_id, now_ms, loud)
    return _Taken(document, new, len(called_for), told)


def _flag(
    tx: Transaction, document: UserDocument, fresh: Mapping[int, Logged], consent: Flag, door: Door | None
) -> dict[int, Flag]:
    """Flag those of the new entries that do not count; their flags, by number."""
    events = {number: one for number, one in fresh.items() if isinstance(one, Event)}
    if door is None or not events:
        return {}
    flags = judged(door.cleaning, document.profile, list(events.values()))
    found = {number: flag for number, flag in zip(events, flags, strict=True) if flag}
    for number, flag in found.items():
        tx.events.set_flags(number, flag | consent)
    return found


def _timers(trigger: Trigger, fresh: Iterable[Event], document: UserDocument, now_ms: int) -> list[PushTimer]:
    """The timers that a trigger sets for events that the document has taken in."""
    fired = document.fired.get(trigger.name, 0)
    matching = [event for event in fresh if trigger.matches(event, document.profile, now_ms, fired)]
    if trigger.count > 1 and matching:
        # Events that came together make one count full.
        matching = [max(matching, key=lambda event: event.time)]
    return [PushTimer(trigger.name, event) for event in matching]


Call = Sequence[Proposed | Verdict]
"""The events of one call; a Verdict stands for one that was rejected before."""


@dataclass(frozen=True, slots=True)
class _Done:
    """What a job did: the verdicts of each call, the documents it put, how many timers it set, the flags it gave.

    Each document with its version, and the length of its stored form.
    """

    verdicts: list[list[Verdict]]
    documents: dict[str, tuple[int, UserDocument, int]]
    timers: int
    flags: list[Flag]


class RecordEvents:
    """Records the events of many calls together. Blocks its thread until they are on disk.

    Calls that come together share a transaction, so that a user who does much is folded once for all of them. When it
    fails each call has one of its own: what is wrong with one hurts no other.
    """

    def __init__(
        self,
        store: Store,
        documents: KnownDocuments,
        triggers: Sequence[Trigger],
        now: Callable[[], float],
        wake: Callable[[], None] = lambda: None,
        privacy: PrivacyRules = EVERYTHING,
        watch: Callable[[], None] | None = None,
        door: Door | None = None,
        flagged: Callable[[Flag], None] = lambda _: None,
    ) -> None:
        """`now` gives Unix seconds. `privacy` says what profiles may be used for; without a `door` every event counts.

        After a commit `wake` is called when a trigger's timer was set, `watch` when tags are watched (None: they are
        not), and `flagged` with the flags of each event that does not count, or not any more.
        """
        self._privacy = privacy
        self._door = door
        self._flagged = flagged
        self._store = store
        self._documents = documents
        self._triggers = triggers
        self._now = now
        self._wake = wake
        self._watch = watch

    def __call__(self, calls: Sequence[Call]) -> list[Recorded | TidingsError]:
        """Record the events of several calls; what comes as a Verdict was rejected before and stays so.

        For each call what became of its events, or the error for which none of them was recorded: StorageFull,
        StorageFailed, Overloaded, Stopping. Of events with one id all but one are duplicates.
        """
        now_ms = int(self._now() * 1000)
        checked = [[_checked(given, now_ms) for given in call] for call in calls]
        jobs = _jobs(checked)
        under_way = [self._start([checked[at] for at in places], now_ms) for places in jobs]
        made: dict[int, Recorded | TidingsError] = {}
        for places, one in zip(jobs, under_way, strict=True):
            outcomes = self._finish(one, len(places))
            if len(places) > 1 and isinstance(outcomes[0], StorageFailed):
                # The document of one of their users may be damaged.
                singly = [self._start([checked[at]], now_ms) for at in places]
                outcomes = [self._finish(alone, 1)[0] for alone in singly]
            made.update(zip(places, outcomes, strict=True))
        return [
            made[at] if at in made else Recorded([v for v in call if isinstance(v, Verdict)], "")
            for at, call in enumerate(checked)
        ]

    def _start(self, calls: Sequence[Call], now_ms: int) -> "TidingsError | Future[_Done]":
        try:
            done = self._store.write(partial(self._job, calls, now_ms))
        except TidingsError as error:
            return error
        done.add_done_callback(self._told)
        return done

    def _job(self, calls: Sequence[Call], now_ms: int, tx: Transaction) -> _Done:
        """The transaction of some calls, user by user."""
        verdicts = [[given if isinstance(given, Verdict) else DUPLICATE for given in call] for call in calls]
        of_user: dict[str, dict[tuple[int, int], Proposed]] = {}
        for number, call in enumerate(calls):
            for at, given in enumerate(call):
                if not isinstance(given, Verdict):
                    of_user.setdefault(given[0].user_id, {})[number, at] = given
        documents: dict[str, tuple[int, UserDocument, int]] = {}
        timers, flags = 0, list[Flag]()
        for user_id, events in of_user.items():
            stored = tx.users.get(user_id)
            try:
                before = self._documents.decode(stored.whose(user_id), stored)
            except ErasedUser:
                before = UserDocument(erased_through=FOREVER)
            for number, at in [place for place, (event, _) in events.items() if event.time <= before.erased_through]:
                verdicts[number][at] = ERASED
                del events[number, at]
            user_id, entries = stored.whose(user_id), whose(list(events.values()), stored)
            watching = self._watch is not None
            taken = _take_in(tx, before, entries, self._triggers, now_ms, self._privacy, watching, self._door)
            timers += taken.timers
            flags += taken.flags
            for (number, at), new in zip(events, taken.new, strict=True):
                if new:
                    verdicts[number][at] = ACCEPTED
            if taken.document is not before:
                content = write_document(taken.document)
                version = tx.users.put(user_id, content, stored.version)
                documents[user_id] = version, taken.document, len(content)
        return _Done(verdicts, documents, timers, flags)

    def _told(self, done: "Future[_Done]") -> None:
        """Keep what is on disk now, and wake the triggers. In the store's writer thread."""
        if done.exception() is not None:
            return
        for user_id, (version, document, size) in done.result().documents.items():
            self._documents.keep(user_id, version, document, size)
        for flag in done.result().flags:
            self._flagged(flag)
        if done.result().timers:
            self._wake()
        if self._watch is not None and done.result().documents:
            self._watch()

    def _finish(self, under_way: "TidingsError | Future[_Done]", count: int) -> list[Recorded | TidingsError]:
        """What became of each of `count` calls."""
        if isinstance(under_way, TidingsError):
            return [under_way] * count
        made = outcome(under_way)
        if isinstance(made, TidingsError):
            return [made] * count
        token = write_token(self._store)
        return [Recorded(verdicts, token) for verdicts in made.verdicts]


def _jobs(calls: Sequence[Call]) -> list[list[int]]:
    """The places of the calls that share a job, for all calls that have an event to record."""
    jobs: list[list[int]] = []
    events = TOGETHER
    for at, call in enumerate(calls):
        if all(isinstance(given, Verdict) for given in call):
            continue
        events += len(call)
        if events > TOGETHER:
            jobs.append([])
            events = len(call)
        jobs[-1].append(at)
    return jobs


def _checked(given: Proposed | Verdict, now_ms: int) -> Proposed | Verdict:
    if isinstance(given, Verdict):
        return given
    faults = event_faults(given[0], now_ms)
    return Verdict("rejected", faults) if faults else given
