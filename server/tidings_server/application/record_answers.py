"""Record a share of the answers to Recommend, with all that they were made from, off the path of the answers.

An answer that is to be recorded is offered to a thread of its own, which packs it and hands it to the store. There is
room for a few; what finds none, and what the store does not take, is counted and gone.
"""

import threading
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue

import structlog

from tidings_core.errors import TidingsError
from tidings_core.model import Answer, Considered, Query
from tidings_core.release import Release
from tidings_core.stored import Entry
from tidings_server.application.decision_record import Basis, pack_answer
from tidings_server.application.store import Store, Transaction

MAX_WAITING = 64
"""Answers that may wait to be written. Each keeps its candidates, some 50 kB."""
TOGETHER = 32
"""So many are written in one transaction at most."""
TRIMS = 64
"""Old records are removed so many times while as many as are kept are written."""

Count = Callable[[str], None]
"""Told of each answer that was to be recorded what became of it: "recorded", "dropped" or "failed"."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Given:
    """An answer that was given to a user ("": nobody who is known). `now` is Unix seconds; the query has the person."""

    decision_id: str
    user_id: str
    query: Query
    answer: Answer
    release: Release
    now: float


class RecordAnswers:
    """The recorder: its thread writes what it was offered, in order."""

    def __init__(
        self,
        store: Store,
        kept: int,
        count: Count,
        max_waiting: int = MAX_WAITING,
        erased: Container[str] = frozenset(),
        observe: Callable[[Considered, Release], None] = lambda *_: None,
    ) -> None:
        """Keep the `kept` newest records in the store; of users among the `erased` none.

        `observe` is told what was considered for each answer, in the recorder's thread.
        """
        self._observe = observe
        self._erased = erased
        self._store = store
        self._kept = kept
        self._count = count
        self._max_waiting = max_waiting
        self._since_trim = kept  # The first write trims: the setting may have become smaller.
        self._works = True
        self._queue: SimpleQueue[Given | threading.Event | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Take nothing more, and wait so long for what was offered."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def offer(self, given: Given) -> bool:
        """Take an answer to be recorded; False when there is no room. Never waits."""
        if self._queue.qsize() >= self._max_waiting:
            self._count("dropped")
            return False
        self._queue.put(given)
        return True

    def settle(self, seconds: float) -> bool:
        """Wait until all that was offered so far is on disk or given up; False when it takes longer."""
        done = threading.Event()
        self._queue.put(done)
        return done.wait(seconds)

    def _work(self) -> None:
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Take what waits and write it; False at the end. What was taken is let go of before more is waited for."""
        taken = [self._queue.get()]
        with suppress(Empty):
            while len(taken) < TOGETHER and taken[-1] is not None:
                taken.append(self._queue.get_nowait())
        batch = [one for one in taken if isinstance(one, Given)]
        if batch:
            self._record(batch)
        for one in taken:
            if isinstance(one, threading.Event):
                one.set()
        return taken[-1] is not None

    def _record(self, batch: Sequence[Given]) -> None:
        """Write records in one transaction. Whatever goes wrong ends these and nothing else."""
        try:
            for given in batch:
                if given.answer.considered is not None:
                    self._observe(given.answer.considered, given.release)
            entries = [_entry(given) for given in batch]
            self._since_trim += len(entries)
            trim = self._since_trim >= max(1, self._kept // TRIMS)
            self._store.write(partial(self._add, entries, trim)).result()
        except Exception as error:
            if self._works:  # Said once, until it works again.
                log.warning(
                    "answers are not recorded", problem=str(error), exc_info=not isinstance(error, TidingsError)
                )
            self._works = False
            outcome = "failed"
        else:
            if trim:
                self._since_trim = 0
            self._works, outcome = True, "recorded"
        for _ in batch:
            self._count(outcome)

    def _add(self, entries: Sequence[Entry], trim: bool, tx: Transaction) -> None:
        for entry in entries:
            if entry.user_id not in self._erased:
                tx.ledger.add(entry)
        if trim:
            tx.ledger.keep_newest("answered", self._kept)


def _entry(given: Given) -> Entry:
    """The entry of an answer in the ledger, with its full record."""
    query, now = given.query, int(given.now * 1000)
    cause = f"recommend:{query.serving.name}"
    basis = Basis(
        decision_id=given.decision_id,
        time=now,
        user_id=given.user_id,
        cause=cause,
        serving_config=query.serving.name,
        release_id=given.release.manifest.release_id,
        profile_version=0 if query.person is None else query.person.version,
        k=query.k,
        question=query,
        answer=given.answer,
        snapshot=given.release.snapshot,
    )
    return Entry(given.decision_id, given.user_id, now, "answered", now, cause, record=pack_answer(basis))
