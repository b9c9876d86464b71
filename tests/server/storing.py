"""What the tests of stores share: a store to open and close, things to put into it, and a writer that waits."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tidings_core.stored import Entry, StoredPush, Timer
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.store import Store, Transaction

WAIT = 30.0
ADAPTERS = {"sqlite": SqliteStore.open}


class Opened:
    """A store on a directory of its own, which can be closed and opened again, with a clock to set."""

    def __init__(self, open_store: Callable[..., SqliteStore], directory: Path) -> None:
        self._open = open_store
        self._directory = directory
        self.now = 1_000
        self.adapter = open_store(directory, lambda: self.now)

    @property
    def store(self) -> Store:
        """The store, as the application sees it."""
        return self.adapter

    def reopen(self, max_waiting: int = 100) -> None:
        """Close the store and open it again."""
        self.adapter.close()
        self.adapter = self._open(self._directory, lambda: self.now, max_waiting)

    def do(self, job: Callable[[Transaction], Any]) -> Any:
        """Run a job to its end."""
        return self.store.write(job).result(WAIT)


def push(offset: int, expires: int = 0, push_id: str = "") -> StoredPush:
    """A push."""
    return StoredPush(offset, push_id or f"push-{offset}", expires, "key", b"content \x00 %d" % offset)


def entry(number: int, user_id: str = "anna", offset: int = 0, **fields: Any) -> Entry:
    """A decision, sent when it has an offset."""
    sent = {"state": "sent", "push_id": f"{user_id}-{offset}", "offset": offset}
    unsent = {"state": "suppressed", "reason": "cap_day"}
    given: dict[str, Any] = {"cause": "api", "record": b"\x00record", **(sent if offset else unsent), **fields}
    return Entry(decision_id=f"decision-{number}", user_id=user_id, time=number, changed=number, **given)


def add_pushes(*pushes: tuple[str, StoredPush]) -> Callable[[Transaction], None]:
    """A job that adds pushes to streams, each with its user."""

    def job(transaction: Transaction) -> None:
        for user_id, each in pushes:
            transaction.streams.append(user_id, each)

    return job


def set_timers(*timers: Timer) -> Callable[[Transaction], None]:
    """A job that sets timers."""

    def job(transaction: Transaction) -> None:
        for timer in timers:
            transaction.timers.set(timer)

    return job


class Stalled:
    """Keeps the writer in a job until released, so that jobs wait."""

    def __init__(self, store: Store) -> None:
        self._go = threading.Event()
        self._inside = threading.Event()
        self.future: Future[None] = store.write(self._wait)
        assert self._inside.wait(WAIT)

    def _wait(self, _: Transaction) -> None:
        self._inside.set()
        assert self._go.wait(WAIT)

    def release(self) -> None:
        """Let the writer go on."""
        self._go.set()
        self.future.result(WAIT)
