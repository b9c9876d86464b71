"""Prune: take out of log and ledger what is kept no longer, in the background, a little at a time.

Before an event goes, it is folded into its user's checkpoint: what a profile adds up stays right, and a profile can be
made again from the checkpoint and the events that are left. What tells of single events goes from checkpoint and
profile too (`retention.forget`).
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import structlog

from tidings_core import profile
from tidings_core.changes import Change, Logged
from tidings_core.errors import TidingsError
from tidings_core.events import Event
from tidings_core.flags import GOOD
from tidings_core.profile import Profile
from tidings_core.retention import Retention, forget
from tidings_core.stored import StoredEvent
from tidings_server.application.documents import read_checkpoint, write_checkpoint, write_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.store import Store, Transaction

PAGE = 1000
"""Events that are looked at together."""
ROWS = 100
"""Events, or decisions, that are removed in one transaction."""
REST_SECONDS = 0.02
"""Between two transactions, for those who record."""
LEAST_PAUSE, LONGEST_PAUSE = 600.0, 86_400.0
"""Seconds between two passes: a 24th of the shortest retention, within these."""

log = structlog.get_logger(__name__)


class Decode(Protocol):
    """Reads what the log keeps."""

    def __call__(self, content: bytes) -> Logged:
        """The event or change. Raises StorageFailed when it is damaged."""
        ...


class Prune:
    """Prunes in a thread of its own."""

    def __init__(
        self,
        store: Store,
        documents: KnownDocuments,
        retention: Retention,
        decode: Decode,
        now: Callable[[], float],
    ) -> None:
        """`now` gives Unix seconds."""
        self._store = store
        self._documents = documents
        self._retention = retention
        self._decode = decode
        self._now = now
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prune", daemon=True)

    def start(self) -> None:
        """Begin, when anything is ever to be removed."""
        if math.isfinite(self._pause):
            self._thread.start()

    def close(self, seconds: float) -> None:
        """End after the transaction that is under way."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    @property
    def _pause(self) -> float:
        ages = [age for age in (self._retention.shortest, self._retention.decisions, self._retention.answers) if age]
        return min(max(min(ages) / 24_000, LEAST_PAUSE), LONGEST_PAUSE) if ages else math.inf

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self.pass_over()
            except TidingsError as error:
                log.warning("what is kept no longer is not removed; later again", problem=str(error))
            except Exception:  # Whatever it is, it must not end the thread.
                log.exception("what is kept no longer is not removed; later again")
            self._stopping.wait(self._pause)

    def pass_over(self) -> dict[str, int]:
        """Go through log and ledger once; returns how many events and decisions were removed.

        Raises StorageFull, StorageFailed, Overloaded or Stopping; then what was removed so far stays removed.
        """
        counts = {"events": self._events() if self._retention.shortest else 0, "decisions": 0}
        now = int(self._now() * 1000)
        for answers, age in ((False, self._retention.decisions), (True, self._retention.answers)):
            if age:
                counts["decisions"] += self._decisions(now - age, answers)
        if any(counts.values()):
            log.info("removed what is kept no longer", **counts)
        return counts

    def _events(self) -> int:
        now, after, count = int(self._now() * 1000), 0, 0
        while not self._stopping.is_set() and (page := self._store.events(after, PAGE)):
            after = page[-1].number
            found = [one for one in page if one.time < now - self._retention.shortest]
            past = [(one, event) for one in found if (event := self._past(one, now)) is not None]
            for start in range(0, len(past), ROWS):
                count += self._store.write(partial(self._remove, past[start : start + ROWS], now)).result()
                self._stopping.wait(REST_SECONDS)
        return count

    def _past(self, stored: StoredEvent, now: int) -> Event | None:
        """The event in an entry of the log, if it is one that is kept no longer. What was said is kept."""
        logged = self._decode(stored.content)
        if isinstance(logged, Change) or not self._retention.past(logged.type, logged.time, now):
            return None
        return logged

    def _remove(self, past: Sequence[tuple[StoredEvent, Event]], now: int, tx: Transaction) -> int:
        """The transaction of some events."""
        of_user: dict[str, list[tuple[StoredEvent, Event]]] = {}
        for stored, event in past:
            of_user.setdefault(stored.user_id, []).append((stored, event))
        count = 0
        for user_id, events in of_user.items():
            # Somebody may have been erased meanwhile.
            there = [(stored, event) for stored, event in events if tx.events.remove([stored.number])]
            count += len(there)
            if there:
                self._checkpoint(tx, user_id, [event for stored, event in there if stored.flags == GOOD], now)
        return count

    def _checkpoint(self, tx: Transaction, user_id: str, events: Sequence[Event], now: int) -> None:
        before = read_checkpoint(tx.checkpoints.get(user_id))
        numbered = [(event, [tx.items.number(item.item_id) for item in event.items]) for event in events]
        tx.checkpoints.put(user_id, write_checkpoint(self._forgotten(profile.fold(before, numbered), now)))
        stored = tx.users.get(user_id)
        if stored.version:
            document = self._documents.decode(user_id, stored)
            known = self._forgotten(document.profile, now)
            if known != document.profile:
                tx.users.put(stored.whose(user_id), write_document(replace(document, profile=known)), stored.version)

    def _forgotten(self, known: Profile, now: int) -> Profile:
        return forget(known, self._retention, now)

    def _decisions(self, before: int, answers: bool) -> int:
        count = 0
        while not self._stopping.is_set():
            done = self._store.write(lambda tx: tx.ledger.remove_before(before, answers, ROWS)).result()
            count += done
            if done < ROWS:
                break
            self._stopping.wait(REST_SECONDS)
        return count
