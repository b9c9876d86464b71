"""The store in one SQLite database: one thread writes, any thread reads.

Jobs that wait together are committed together, which shares the cost of the sync. Only the writing connection
checkpoints; readers are short, so the write-ahead log starts over soon after it was checkpointed.
"""

import math
import os
import sqlite3
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tidings_core.contacts import SealedContact
from tidings_core.errors import Overloaded, Stopping, StorageFailed, TidingsError
from tidings_core.stored import (
    Document,
    Entry,
    Erased,
    Erasing,
    Look,
    StoredEvent,
    StoredImport,
    StoredItem,
    StoredPush,
    Timer,
)
from tidings_server.adapters.sqlite_contacts import read_contacts
from tidings_server.adapters.sqlite_erasures import read_erased, read_erased_vectors, read_erasing
from tidings_server.adapters.sqlite_imports import read_import
from tidings_server.adapters.sqlite_looks import read_looks_due, read_never_looked_at, read_next_look
from tidings_server.adapters.sqlite_schema import BUSY_MS, FILE, open_database, open_reader
from tidings_server.adapters.sqlite_statements import Statements, failure
from tidings_server.adapters.sqlite_tables import (
    read_catalogue_changes,
    read_catalogue_item,
    read_checkpoint,
    read_decision,
    read_decisions,
    read_due,
    read_events,
    read_items,
    read_newest_users,
    read_next_due,
    read_pushes,
    read_timers,
    read_user_events,
)
from tidings_server.adapters.sqlite_transaction import SqliteTransaction
from tidings_server.adapters.sqlite_user_table import Changes, read_merged, read_row, read_users, read_versions

MAX_WAITING = 4096
"""Jobs that may wait."""
MAX_TOGETHER = 256
"""Jobs that are committed together at most."""
TOGETHER_SECONDS = 0.02
"""No more jobs join a commit when it has run for so long."""
RETRY_SECONDS = 1.0
CACHE_BYTES = 64 << 20
ENTRY_BYTES = 300
"""What a cached document costs besides its content."""
MAX_LOG_BYTES = 64 << 20
"""SQLite checkpoints at 4 MB of its own accord. Past this the writer waits for readers to let go of the log."""
LET_GO_MS = 100
SCRUB_AGAIN = 5.0
"""Seconds until it is tried again to empty a log that a reader held, for which a commit waits LET_GO_MS."""
REWRITTEN_BYTES = 64 << 20
"""A database up to this size is rewritten after an erasure, in less than a second or so."""
PAGE = 10_000
"""Rows read at a time by what reads on and on, so that no reader holds an old state for long."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[[SqliteTransaction], Any]
    future: "Future[Any]"


@dataclass(frozen=True, slots=True)
class _Ran:
    """What a job came to, told when it is on disk."""

    job: _Job
    result: Any = None
    error: BaseException | None = None

    def tell(self) -> None:
        if self.error is None:
            self.job.future.set_result(self.result)
        else:
            self.job.future.set_exception(self.error)


class SqliteStore:
    """The store. `epoch` names this history. The caller holds the lock of the directory."""

    def __init__(
        self, directory: Path, connection: sqlite3.Connection, now_ms: Callable[[], int], max_waiting: int
    ) -> None:
        """Use `SqliteStore.open`."""
        self._directory = directory
        self._connection = connection
        self._now_ms = now_ms
        self._max_waiting = max_waiting
        self._waiting: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._closed = False
        self._pool = threading.Lock()
        self._readers: list[sqlite3.Connection] = []
        self._documents = _DocumentCache(CACHE_BYTES)
        self._log_limit = MAX_LOG_BYTES
        self._scrubs: deque[Future[bool]] = deque()
        self._scrub_due = True  # A crash may have left what was removed in the log.
        self._scrub_at = -math.inf
        self.commits = 0
        sql = Statements(connection)
        ((erased,),) = sql.rows("SELECT count(*) FROM (SELECT 1 FROM erased LIMIT 1)")
        self._rewrite_due = bool(erased)
        ((epoch,),) = sql.rows("SELECT value FROM about WHERE name = 'epoch'")
        sql.rows(f"PRAGMA journal_size_limit = {MAX_LOG_BYTES}")
        ((position,),) = sql.rows("SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'")
        self.epoch: str = epoch
        self.position: int = position
        ((changed,),) = sql.rows("SELECT ifnull(max(number), 0) FROM catalogue")
        self.catalogue_position: int = changed
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, directory: Path, now_ms: Callable[[], int], max_waiting: int = MAX_WAITING) -> "SqliteStore":
        """Open the database of a state directory, or make it. `now_ms` is the time in Unix milliseconds.

        Raises InvalidInput when it is damaged, another program's or of a newer version; StorageFull.
        """
        return cls(directory, open_database(directory), now_ms, max_waiting)

    def close(self) -> None:
        """Do what waits, then let go of the files. No job is taken any more; reading fails."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        with self._pool:
            self._closed = True
            for reader in self._readers:
                reader.close()
            self._readers.clear()
        self._connection.close()

    @property
    def size(self) -> int:
        """Bytes of the database and its write-ahead log."""
        paths = (self._directory / (FILE + suffix) for suffix in ("", "-wal"))
        return sum(path.stat().st_size for path in paths if path.exists())

    @property
    def waiting(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def write(self, job: Callable[[SqliteTransaction], _T]) -> "Future[_T]":
        """Run a job; the Future is done when its effects are on disk, or when it failed and has none.

        Raises Overloaded when too many jobs wait, Stopping after `close`.
        """
        future: Future[_T] = Future()
        with self._wake:
            if self._closing:
                raise Stopping("the store is closed: the server is stopping", RETRY_SECONDS)
            if len(self._waiting) >= self._max_waiting:
                raise Overloaded(f"{self._max_waiting} writes wait already: come back later", RETRY_SECONDS)
            self._waiting.append(_Job(job, future))
            self._wake.notify()
        return future

    def scrub(self) -> "Future[bool]":
        """Leave nothing of what was removed to be read in the files; whether that is so now.

        The database is rewritten, since SQLite leaves copies behind where it divides a page, and the write-ahead log is
        emptied. It is not so while a reader that stays, such as a backup, holds the log; then that is done when a later
        commit can. A database above REWRITTEN_BYTES is not rewritten: all writes would wait for it.
        """
        done: Future[bool] = Future()
        self._scrubs.append(done)
        self.write(lambda _: None)
        return done

    def user(self, user_id: str) -> Document:
        """A user's document. Raises StorageFailed."""
        found = self._row(user_id)
        while found.user_id:
            moved = found.user_id
            found = self._row(moved)
            if not found.user_id:
                return replace(found, user_id=moved)
        return found

    def _row(self, user_id: str) -> Document:
        """What stands under a user's id itself: a document or, with `user_id`, the way to it."""
        found = self._documents.get(user_id)
        if found is None:
            turn = self._documents.turn
            with self._reading() as sql:
                found = read_row(sql, user_id)
            self._documents.keep(user_id, found, turn)
        return found

    def merged(self, user_id: str) -> list[str]:
        """The ids that were merged into a user, in order. Raises StorageFailed."""
        with self._reading() as sql:
            return read_merged(sql, user_id)

    def users(self, user_ids: Sequence[str]) -> dict[str, Document]:
        """The documents of users, of those who have one. Raises StorageFailed."""
        with self._reading() as sql:
            return read_users(sql, user_ids)

    def versions(self, user_ids: Sequence[str]) -> dict[str, int]:
        """The versions of the documents of users, of those who have one. Raises StorageFailed."""
        with self._reading() as sql:
            return read_versions(sql, user_ids)

    def newest_users(self, events: int) -> list[str]:
        """The users of so many events, the newest of the log, each once. Raises StorageFailed."""
        with self._reading() as sql:
            return read_newest_users(sql, events)

    def pushes(self, user_id: str, after: int, limit: int) -> list[StoredPush]:
        """Pushes of a user after an offset, in order, those that have expired too. Raises StorageFailed."""
        with self._reading() as sql:
            return read_pushes(sql, user_id, after, limit)

    def due(self, now: int, limit: int) -> list[Timer]:
        """Timers due at or before `now`, those due first in front. Raises StorageFailed."""
        with self._reading() as sql:
            return read_due(sql, now, limit)

    def next_due(self) -> int | None:
        """When the next timer is due; None when none is set. Raises StorageFailed."""
        with self._reading() as sql:
            return read_next_due(sql)

    def looks_due(self, now: int, limit: int) -> list[Look]:
        """Users to look at at or before `now`, those due first in front. Raises StorageFailed."""
        with self._reading() as sql:
            return read_looks_due(sql, now, limit)

    def next_look(self) -> int | None:
        """When somebody is to be looked at next; None when nobody is. Raises StorageFailed."""
        with self._reading() as sql:
            return read_next_look(sql)

    def never_looked_at(self, after: str, limit: int) -> list[str]:
        """Users with a document who are not among those to look at, after one, in order. Raises StorageFailed."""
        with self._reading() as sql:
            return read_never_looked_at(sql, after, limit)

    def decisions(self, user_id: str, limit: int) -> list[Entry]:
        """The decisions for a user ("" for any) that were added last, the last one first. Raises StorageFailed."""
        with self._reading() as sql:
            return read_decisions(sql, user_id, limit)

    def decision(self, name: str) -> Entry | None:
        """The decision of a decision_id or of a push_id, None when there is none. Raises StorageFailed."""
        with self._reading() as sql:
            return read_decision(sql, name)

    def item_ids(self, first: int) -> Iterator[tuple[int, str]]:
        """Items and their numbers from a number on, in order of number. Raises StorageFailed."""
        while True:
            with self._reading() as sql:
                rows = read_items(sql, first, PAGE)
            yield from rows
            if len(rows) < PAGE:
                return
            first = rows[-1][0] + 1

    def events(self, after: int, limit: int) -> list[StoredEvent]:
        """Events of the log after a number, in order. Raises StorageFailed."""
        with self._reading() as sql:
            return read_events(sql, after, limit)

    def user_events(self, user_id: str, after: int, limit: int) -> list[StoredEvent]:
        """Events of a user after a number, in order. Raises StorageFailed."""
        with self._reading() as sql:
            return read_user_events(sql, user_id, after, limit)

    def checkpoint(self, user_id: str) -> bytes:
        """What is left of the events of a user that were taken out; b"" for nothing. Raises StorageFailed."""
        with self._reading() as sql:
            return read_checkpoint(sql, user_id)

    def contacts(self, user_id: str) -> tuple[bytes, list[SealedContact]]:
        """The wrapped key of a user, b"" for none, and the user's contacts. Raises StorageFailed."""
        with self._reading() as sql:
            return read_contacts(sql, user_id)

    def timers(self, user_id: str) -> list[Timer]:
        """The timers of a user. Raises StorageFailed."""
        with self._reading() as sql:
            return read_timers(sql, user_id)

    def erased(self) -> list[Erased]:
        """All who were erased. Raises StorageFailed."""
        with self._reading() as sql:
            return read_erased(sql)

    def erasing(self) -> list[Erasing]:
        """The erasures that are not done. Raises StorageFailed."""
        with self._reading() as sql:
            return read_erasing(sql)

    def erased_vectors(self, key: bytes = b"") -> dict[str, int]:
        """How many erased users each release has vectors of, as far as it is known; with a key that user alone.

        Raises StorageFailed.
        """
        with self._reading() as sql:
            return read_erased_vectors(sql, key)

    def history(self, import_id: str) -> StoredImport:
        """How far an import has come. Raises StorageFailed."""
        with self._reading() as sql:
            return read_import(sql, import_id)

    def catalogue_item(self, item_id: str) -> StoredItem:
        """What is known of an item. Raises StorageFailed."""
        with self._reading() as sql:
            return read_catalogue_item(sql, item_id)

    def catalogue_changes(self, after: int, limit: int) -> list[StoredItem]:
        """Items whose last change has a number above `after`, in order of it. Raises StorageFailed."""
        with self._reading() as sql:
            return read_catalogue_changes(sql, after, limit)

    @contextmanager
    def _reading(self) -> Iterator[Statements]:
        """A connection that nobody else uses meanwhile. There are as many as threads ever read at once."""
        with self._pool:
            if self._closed:
                raise StorageFailed("the store is closed")
            connection = self._readers.pop() if self._readers else None
        try:
            connection = connection or open_reader(self._directory)
        except sqlite3.Error as error:
            raise failure(error) from error
        try:
            yield Statements(connection)
        finally:
            with self._pool:
                if self._closed:
                    connection.close()
                else:
                    self._readers.append(connection)

    def _work(self) -> None:
        """The writer's thread: commit what waits until closed and nothing waits."""
        while (first := self._take()) is not None:
            batch: list[_Job] = []
            error = self._commit(self._joining(first, batch))
            if error is not None and len(batch) > 1:
                # Together they failed, perhaps because of one of them: on its own each gets what it deserves.
                for job in batch:
                    self._fail([job], self._commit([job]))
            else:
                self._fail(batch, error)
            if self._scrubs or (self._scrub_due and time.monotonic() >= self._scrub_at):
                self._scrub()
            self._bound_log(error is not None)

    def _fail(self, jobs: Iterable[_Job], error: TidingsError | None) -> None:
        if error is not None:
            for job in jobs:
                job.future.set_exception(error)

    def _take(self) -> _Job | None:
        """The next job, waiting for it; None when closed and none waits."""
        with self._wake:
            while not self._waiting and not self._closing:
                self._wake.wait()
            return self._waiting.popleft() if self._waiting else None

    def _joining(self, first: _Job, batch: list[_Job]) -> Iterator[_Job]:
        """A job and those that wait, as long as there is room and time; `batch` gets those that were not cancelled."""
        until = time.monotonic() + TOGETHER_SECONDS
        job: _Job | None = first
        while job is not None:
            if job.future.set_running_or_notify_cancel():
                batch.append(job)
                yield job
            room = len(batch) < MAX_TOGETHER and time.monotonic() < until
            job = self._waiting.popleft() if room and self._waiting else None

    def _commit(self, jobs: Iterable[_Job]) -> TidingsError | None:
        """Run jobs in one transaction and tell their futures.

        Returns why when the transaction failed as a whole; then no job has had effects, and no future was told. When
        it could not begin, all futures are told.
        """
        changes = Changes()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            # Whoever holds the database holds up all that wait: none is made to wait for it again.
            self._fail(jobs, failure(error))
            return None
        try:
            ran = [self._run(job, changes) for job in jobs]
            # From here to the end of the commit readers ask the database: it changes for all of them at once.
            self._documents.forget(changes.documents)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, TidingsError) as error:
            with suppress(sqlite3.Error):
                self._connection.rollback()
            self._documents.put({})
            return failure(error) if isinstance(error, sqlite3.Error) else error
        self.position = max(self.position, changes.newest_event)
        self.catalogue_position = max(self.catalogue_position, changes.newest_item)
        self._documents.put(changes.documents)
        self.commits += 1
        for each in ran:
            each.tell()
        return None

    def _run(self, job: _Job, changes: Changes) -> _Ran:
        """Run one job: when it fails, what it did is undone. Raises when the whole transaction is lost."""
        sql = Statements(self._connection)
        transaction = SqliteTransaction(sql, self._now_ms)
        self._connection.execute("SAVEPOINT job")
        result, raised = None, None
        try:
            result = job.run(transaction)
        except BaseException as error:
            raised = error
        if sql.error is not None and not self._connection.in_transaction:
            raise sql.error
        failed = sql.error or raised
        if failed is not None:
            self._connection.execute("ROLLBACK TO job")
        self._connection.execute("RELEASE job")
        if failed is None:
            changes.add(transaction.changes)
        return _Ran(job, result, failed)

    def _scrub(self) -> None:
        waiting = [self._scrubs.popleft() for _ in range(len(self._scrubs))]
        if waiting or self._rewrite_due:
            self._rewrite_due = not self._rewrite()
        held = self._truncate()
        self._scrub_due, self._scrub_at = held, time.monotonic() + SCRUB_AGAIN
        for done in waiting:
            done.set_result(not held and not self._rewrite_due)

    def _rewrite(self) -> bool:
        """Write the database anew, but for what no longer belongs to it; whether it was done."""
        with suppress(OSError, sqlite3.Error):
            if os.stat(self._directory / FILE).st_size <= REWRITTEN_BYTES:
                self._connection.execute("VACUUM")
                return True
        return False

    def _truncate(self) -> bool:
        """Write all of the log into the database and cut it off; whether somebody held it."""
        held = True
        with suppress(sqlite3.Error):
            self._connection.execute(f"PRAGMA busy_timeout = {LET_GO_MS}")
            try:
                held = bool(self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        return held

    def _bound_log(self, failed: bool) -> None:
        """Keep the write-ahead log small; when the disk is full, make what was written to it room for more."""
        with suppress(OSError, sqlite3.Error):
            size = os.stat(self._directory / f"{FILE}-wal").st_size
            if size <= MAX_LOG_BYTES:
                self._log_limit = MAX_LOG_BYTES
            if not failed and size <= self._log_limit:
                return
            held = self._truncate()
            # A reader that stays, such as a backup, must not make every commit wait for it.
            self._log_limit = (size if held else 0) + MAX_LOG_BYTES


class _DocumentCache:
    """The documents used last, up to a number of bytes. Never one that is older than what the database shows.

    `turn` is odd from `forget` to `put`, while the database is about to change. What a reader found is kept only when
    the turn is even and the same as before it read.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._documents: OrderedDict[str, Document] = OrderedDict()
        self._lock = threading.Lock()
        self.turn = 0

    def get(self, user_id: str) -> Document | None:
        with self._lock:
            found = self._documents.get(user_id)
            if found is not None:
                self._documents.move_to_end(user_id)
            return found

    def keep(self, user_id: str, document: Document, turn: int) -> None:
        with self._lock:
            if turn == self.turn and turn % 2 == 0:
                self._set(user_id, document)

    def forget(self, user_ids: Iterable[str]) -> None:
        with self._lock:
            self.turn += 1
            for user_id in user_ids:
                self._drop(user_id)

    def put(self, documents: dict[str, Document]) -> None:
        with self._lock:
            self.turn += self.turn % 2
            for user_id, document in documents.items():
                if document.version:
                    self._set(user_id, document)

    def _set(self, user_id: str, document: Document) -> None:
        self._drop(user_id)
        self._documents[user_id] = document
        self._bytes += len(document.content) + ENTRY_BYTES
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._documents)))

    def _drop(self, user_id: str) -> None:
        old = self._documents.pop(user_id, None)
        if old is not None:
            self._bytes -= len(old.content) + ENTRY_BYTES
