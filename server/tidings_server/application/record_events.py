"""Record what users did: into the log, into their profiles, and on to the triggers, all in one transaction."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from tidings_core.changes import Logged
from tidings_core.errors import ErasedUser, StorageFailed, TidingsError
from tidings_core.events import NEVER, Event, event_faults
from tidings_core.faults import Fault
from tidings_core.flags import GOOD, Flag
from tidings_core.privacy import EVERYTHING, PrivacyRules, standing_of
from tidings_core.profile import EMPTY, fold
from tidings_core.triggers import Trigger
from tidings_server.application.consistency import write_token
from tidings_server.application.documents import UserDocument, write_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.push_timer import PushTimer
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


def take_in(
    tx: Transaction,
    document: UserDocument,
    entries: Sequence[Entry],
    triggers: Sequence[Trigger],
    now_ms: int,
    privacy: PrivacyRules = EVERYTHING,
    watching: bool = False,
) -> tuple[UserDocument, list[bool]]:
    """Record events and changes of one user inside a transaction: append to the log, fold what is new, set timers.

    Returns the document after it, for the caller to put, and for each entry whether it was new; one that is not changed
    nothing. `now_ms` is Unix milliseconds. The entries must be without faults. Events of somebody whose profile may not
    be used, by `privacy`, are flagged in the log and become no part of it. `watching`: have the user's tags looked at.
    """
    taken = _take_in(tx, document, entries, triggers, now_ms, privacy, watching)
    return taken.document, taken.new


@dataclass(frozen=True, slots=True)
class _Taken:
    document: UserDocument
    new: list[bool]
    timers: int


def _take_in(
    tx: Transaction,
    document: UserDocument,
    entries: Sequence[Entry],
    triggers: Sequence[Trigger],
    now_ms: int,
    privacy: PrivacyRules,
    watching: bool,
) -> _Taken:
    usable = standing_of(document.profile, privacy).may("answer", now_ms)
    flags = [GOOD if usable or not isinstance(one, Event) else Flag.NO_CONSENT for one, _ in entries]
    numbers = [
        tx.events.append(one.event_id, one.user_id, one.time, content, flag)
        for (one, content), flag in zip(entries, flags, strict=True)
    ]
    fresh = [one for (one, _), number in zip(entries, numbers, strict=True) if number is not None]
    new = [number is not None for number in numbers]
    if not fresh:
        return _Taken(document, new, 0)
    folded = fresh if usable else [one for one in fresh if not isinstance(one, Event)]
    items = ([tx.items.number(item.item_id) for item in one.items] if isinstance(one, Event) else [] for one in folded)
    document = replace(
        document,
        profile=fold(document.profile, zip(folded, items, strict=True)),
        applied_through=max(document.applied_through, *(number for number in numbers if number is not None)),
    )
    events = [one for one in fresh if isinstance(one, Event)]
    # An event by itself may call for a push all the same; what was done before may not be looked at.
    looked_at = document if usable else replace(document, profile=EMPTY)
    called_for = [timer for trigger in triggers for timer in _timers(trigger, events, looked_at, now_ms)]
    for timer in called_for:
        tx.timers.set(timer.timer(now_ms))
    if watching:
        loud = len(events) < len(fresh) or any(event.type not in NEVER for event in events)
        tx.looks.ask(fresh[0].user_id, now_ms, loud)
    return _Taken(document, new, len(called_for))


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
    """What a job did: the verdicts of each call, how many timers it set, and the documents it put.

    Each with its version, and the length of its stored form.
    """

    verdicts: list[list[Verdict]]
    documents: dict[str, tuple[int, UserDocument, int]]
    timers: int


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
    ) -> None:
        """`now` gives Unix seconds. `wake` is called, after the commit, when a trigger's timer was set.

        `privacy` says what profiles may be used for. `watch` is called, after a commit, when tags are watched; None:
        they are not.
        """
        self._privacy = privacy
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
        timers = 0
        for user_id, events in of_user.items():
            stored = tx.users.get(user_id)
            try:
                before = self._documents.decode(user_id, stored)
            except ErasedUser:
                before = UserDocument(erased_through=FOREVER)
            for number, at in [place for place, (event, _) in events.items() if event.time <= before.erased_through]:
                verdicts[number][at] = ERASED
                del events[number, at]
            watching = self._watch is not None
            taken = _take_in(tx, before, list(events.values()), self._triggers, now_ms, self._privacy, watching)
            timers += taken.timers
            for (number, at), new in zip(events, taken.new, strict=True):
                if new:
                    verdicts[number][at] = ACCEPTED
            if any(taken.new):
                content = write_document(taken.document)
                version = tx.users.put(user_id, content, stored.version)
                documents[user_id] = version, taken.document, len(content)
        return _Done(verdicts, documents, timers)

    def _told(self, done: "Future[_Done]") -> None:
        """Keep what is on disk now, and wake the triggers. In the store's writer thread."""
        if done.exception() is not None:
            return
        for user_id, (version, document, size) in done.result().documents.items():
            self._documents.keep(user_id, version, document, size)
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
