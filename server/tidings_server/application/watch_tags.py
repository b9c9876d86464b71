"""Watch tags: find those that came or went, since a profile changed or since time passed, and tell the triggers.

Whoever changes a profile asks, in the same transaction, that its user be looked at; a look sets when to look again. So
it is with the store what is to be done, and a crash leaves it to be done. What is found is a change of the profile, in
the log like any other, with the timers of its triggers in one transaction.

Somebody who was there before the watch began has had tags all along: at the first look they are noted, and call for
nothing. Nor does what follows from a push: a decision never leads to a decision.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b

import structlog

from tidings_core.changes import Change, TagMove, base_of
from tidings_core.errors import ErasedUser, Overloaded, Stopping, StorageFailed, StorageFull
from tidings_core.events import Event
from tidings_core.profile import Profile
from tidings_core.stored import Look
from tidings_core.triggers import Trigger
from tidings_server.application.documents import UserDocument, write_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.push_timer import PushTimer
from tidings_server.application.record_events import take_in
from tidings_server.application.store import Store, Transaction
from tidings_server.application.user_tags import UserTags

TOGETHER = 64
"""Users that are looked at in one transaction."""
NEVER = 1 << 62
"""When somebody is looked at again whom time alone does not change."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds to wait after the store failed; it doubles while it keeps failing."""
LONGEST_WAIT = 60.0
SHARE = 0.2
"""Of its time the first look at all users works so much; answers have the rest."""
FAILS = (StorageFull, StorageFailed, Overloaded, Stopping)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was found of a user: the document it was found in, and the changes that say so."""

    look: Look
    version: int
    moves: Sequence[TagMove]
    due: int


@dataclass(frozen=True, slots=True)
class _Done:
    """What a transaction did: the documents it put, each with version and stored length, and how many timers it set."""

    documents: dict[str, tuple[int, UserDocument, int]]
    timers: int
    moves: int


class WatchTags:
    """The watch. What its thread does over and over, `look` and `begin` do once."""

    def __init__(
        self,
        store: Store,
        documents: KnownDocuments,
        tags: UserTags,
        triggers: Sequence[Trigger],
        encode: Callable[[Change], bytes],
        now: Callable[[], float],
        monotonic: Callable[[], float],
        wake: Callable[[], None],
        told: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Of the triggers those on tags say what is watched.

        `wake` is called, after the commit, when a trigger's timer was set; `told` is given how many tags came or went.
        `now` gives Unix seconds, `monotonic` those that pass.
        """
        self._store = store
        self._documents = documents
        self._tags = tags
        self._triggers = [trigger for trigger in triggers if trigger.tag]
        self._names = frozenset(trigger.tag for trigger in self._triggers)
        self._encode = encode
        self._now = now
        self._monotonic = monotonic
        self._wake = wake
        self._told = told
        self._since = 0
        self._after: str | None = ""
        self._changed = threading.Condition()
        self._woken = self._stopping = False
        self.pause = 0.0
        self._thread = threading.Thread(target=self._work, name="tags", daemon=True)

    @property
    def watching(self) -> bool:
        """Whether any tag is watched."""
        return bool(self._names)

    @property
    def name(self) -> str:
        """Names what is watched: by other rules, or other tags, it is another watch."""
        asked = sorted((rule.name, rule.when.source, rule.variable) for rule in self._tags.rules)
        return blake2b(repr((sorted(self._names), asked)).encode(), digest_size=12).hexdigest()

    def start(self) -> None:
        """Start the thread, if there is anything to watch."""
        if self.watching:
            self._thread.start()

    def wake(self) -> None:
        """Say that somebody is to be looked at. From any thread."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self, seconds: float) -> None:
        """Look at nobody more, and wait so long for a look under way."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def begin(self) -> None:
        """Go on with the watch of before or, when it was another, begin a new one. Raises what the store does."""
        now = int(self._now() * 1000)
        self._since = self._store.write(lambda tx: tx.looks.begin(self.name, now)).result()
        self._after = ""

    def look(self) -> bool:
        """Look at those who are due; whether more may be. Raises what the store does."""
        now = int(self._now() * 1000)
        due = self._store.looks_due(now, TOGETHER)
        self._look_at(due, now)
        return len(due) == TOGETHER

    def look_first(self) -> bool:
        """Look at some who were never looked at; whether there may be more. Raises what the store does."""
        if self._after is None:
            return False
        now = int(self._now() * 1000)
        users = self._store.never_looked_at(self._after, TOGETHER)
        self._look_at([Look(user_id, now, loud=False, looked=False) for user_id in users], now)
        self._after = users[-1] if len(users) == TOGETHER else None
        return self._after is not None

    def _look_at(self, looks: Sequence[Look], now: int) -> None:
        if not looks:
            return
        found = [self._found(look, now) for look in looks]
        done = self._store.write(partial(self._job, found, now))
        made = done.result()
        for user_id, (version, document, size) in made.documents.items():
            self._documents.keep(user_id, version, document, size)
        if made.moves:
            self._told(made.moves)
        if made.timers:
            self._wake()

    def _found(self, look: Look, now: int) -> _Looked:
        """What is found of a user; of one whose document is damaged, or another's by now, that nothing changes."""
        try:
            stored = self._documents.stored(look.user_id)
            if stored.user_id:
                return _Looked(look, -1, (), NEVER)
            profile = self._documents.committed(look.user_id, stored).profile
            if not self._tags.usable(profile, now):
                # When that changes, so does the profile.
                return _Looked(look, stored.version, (), NEVER)
            there, until = self._tags.found(self._names, profile, now)
        except ErasedUser:
            return _Looked(look, -1, (), NEVER)
        except StorageFailed as error:
            log.error("the tags of a user cannot be looked at", problem=str(error))
            return _Looked(look, -1, (), NEVER)
        before = {name for name in profile.stated.found_tags if name in self._names or base_of(name) in self._names}
        moves = [TagMove(tag, tag in there) for tag in sorted(there ^ before)]
        return _Looked(look, stored.version, moves, NEVER if until == math.inf else max(int(until), now + 1))

    def _job(self, found: Sequence[_Looked], now: int, tx: Transaction) -> _Done:
        """The transaction of some looks. Who changed meanwhile stays to be looked at."""
        documents: dict[str, tuple[int, UserDocument, int]] = {}
        timers = moves = 0
        for one in found:
            user_id = one.look.user_id
            stored = tx.users.get(user_id)
            if one.version >= 0 and stored.version != one.version:
                continue
            if stored.version == 0 or stored.user_id:
                tx.looks.remove(user_id)
                continue
            tx.looks.set(user_id, one.due)
            if not one.moves:
                continue
            before = self._documents.decode(user_id, stored)
            time = max(now, before.profile.last_change + 1)
            changes = [Change(_id(user_id, move, time), user_id, time, move) for move in one.moves]
            document, _ = take_in(tx, before, [(change, self._encode(change)) for change in changes], (), now)
            content = write_document(document)
            documents[user_id] = tx.users.put(user_id, content, stored.version), document, len(content)
            moves += len(changes)
            if one.look.looked or _born(before.profile) >= self._since:
                timers += self._fire(tx, changes, now) if one.look.loud else 0
        return _Done(documents, timers, moves)

    def _fire(self, tx: Transaction, changes: Sequence[Change], now: int) -> int:
        """Set the timers of the triggers that changes call; returns their number."""
        timers = 0
        for change in changes:
            assert isinstance(change.what, TagMove)
            for trigger in self._triggers:
                if trigger.calls(change.what):
                    tag = change.what.tag
                    event = Event(change.event_id, "tag", change.user_id, change.time, tag=tag)
                    tx.timers.set(PushTimer(trigger.name, event).timer(now))
                    timers += 1
        return timers

    def _work(self) -> None:
        begun = False
        while not self._stopping:
            try:
                if not begun:
                    self.begin()
                    begun = True
                start = self._monotonic()
                more = self.look()
                self.pause = 0.0
                wait = 0.0
                if not more:
                    more = self.look_first()
                    took = self._monotonic() - start
                    wait = took * (1 / SHARE - 1) if more else self._seconds_to_wait()
            except FAILS as error:
                self.pause = min(max(2 * self.pause, FIRST_PAUSE), LONGEST_PAUSE)
                log.warning("tags wait: the store failed", problem=str(error), pause=self.pause)
                wait = self.pause
            except Exception:  # Whatever it is, it must not end the thread.
                log.exception("the watch of tags failed; it tries again")
                wait = LONGEST_PAUSE
            with self._changed:
                if not self._woken and not self._stopping and wait > 0:
                    self._changed.wait(wait)
                self._woken = False

    def _seconds_to_wait(self) -> float:
        due = self._store.next_look()
        return LONGEST_WAIT if due is None else min(max(due / 1000 - self._now(), 0.0), LONGEST_WAIT)


def _born(profile: Profile) -> int:
    """When the first that is known of a user happened (Unix milliseconds)."""
    return profile.first_time or profile.last_change


def _id(user_id: str, move: TagMove, time: int) -> str:
    """The id of a change that a look found: another look finds another."""
    named = repr((user_id, move.tag, move.entered, time)).encode()
    return f"tag/{blake2b(named, digest_size=16).hexdigest()}"
