"""Every store does jobs whole or not at all, and keeps them, as its Protocol promises."""

import threading
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest

from tests.server.storing import WAIT, Opened, Stalled, entry, push
from tidings_core.errors import Conflict, InvalidInput, Overloaded, Stopping, StorageFailed
from tidings_core.stored import Document, StoredEvent, Timer
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.store import Transaction, outcome


def test_a_job_answers_through_its_future_when_reads_see_it(opened: Opened) -> None:
    """The result of a job is that of its Future, and its callback reads what it wrote."""
    seen: list[Document] = []

    def job(transaction: Transaction) -> str:
        transaction.users.put("anna", b"one", 0)
        return "done"

    stalled = Stalled(opened.store)
    future = opened.store.write(job)
    future.add_done_callback(lambda _: seen.append(opened.store.user("anna")))
    assert opened.store.user("anna") == Document()
    stalled.release()
    assert future.result(WAIT) == "done"
    assert opened.do(lambda _: seen) == [Document(1, b"one")]


def test_a_job_that_raises_leaves_nothing_and_raises_through_its_future(opened: Opened) -> None:
    """All that a job wrote before it raised is gone, and the caller gets what it raised."""

    def job(transaction: Transaction) -> None:
        transaction.events.append("e", "anna", 1, b"")
        transaction.items.number("hat")
        transaction.users.put("anna", b"one", 0)
        transaction.streams.append("anna", push(1))
        transaction.ledger.add(entry(1, offset=1))
        transaction.timers.set(Timer("t", 1, "anna", b""))
        transaction.counters.reserve("budget", "a", 1, 1, 2_000)
        raise ZeroDivisionError("as it was told to")

    future = opened.store.write(job)
    with pytest.raises(ZeroDivisionError, match="as it was told to"):
        future.result(WAIT)
    store = opened.store
    assert (store.position, store.events(0, 9), list(store.item_ids(0)), store.user("anna")) == (0, [], [], Document())
    assert (store.pushes("anna", 0, 9), store.decisions("", 9), store.next_due()) == ([], [], None)
    assert opened.do(lambda t: t.counters.used("budget", 1_000)) == 0
    assert opened.do(lambda t: t.events.append("e", "anna", 1, b"")) == 1


def test_an_error_of_ours_is_told_apart_from_others(opened: Opened) -> None:
    """`outcome` gives errors of ours as values, and raises any other."""
    refused: Future[None] = Future()
    refused.set_exception(NotImplementedError())
    conflict: Future[object] = opened.store.write(lambda t: t.users.put("anna", b"", 7))
    conflict.exception(WAIT)
    assert isinstance(outcome(conflict), Conflict)
    with pytest.raises(NotImplementedError):
        outcome(refused)


def test_a_job_sees_what_it_and_jobs_before_it_wrote(opened: Opened) -> None:
    """Jobs that are committed together see each other's effects in order."""
    stalled = Stalled(opened.store)
    first = opened.store.write(lambda t: t.users.put("anna", b"one", 0))
    second = opened.store.write(lambda t: (t.users.get("anna"), t.users.put("anna", b"two", 1), t.users.get("anna")))
    stalled.release()
    assert first.result(WAIT) == 1
    assert second.result(WAIT) == (Document(1, b"one"), 2, Document(2, b"two"))


def test_a_job_that_fails_hurts_no_other(opened: Opened) -> None:
    """Of jobs that wait together, those around a failing one are kept whole."""
    stalled = Stalled(opened.store)
    futures = [opened.store.write(partial(_put_or_fail, n)) for n in range(10)]
    stalled.release()
    assert [future.exception(WAIT) is not None for future in futures] == [n % 3 == 1 for n in range(10)]
    assert [opened.store.user(f"user-{n}").version for n in range(10)] == [int(n % 3 != 1) for n in range(10)]


def _put(number: int, transaction: Transaction) -> int:
    return transaction.users.put(f"user-{number}", b"", 0)


def _put_or_fail(number: int, transaction: Transaction) -> None:
    transaction.users.put(f"user-{number}", b"", 0)
    if number % 3 == 1:
        raise ValueError(number)


def test_a_cancelled_job_is_not_run(opened: Opened) -> None:
    """A job that still waits can be cancelled; the others run."""
    stalled = Stalled(opened.store)
    cancelled = opened.store.write(lambda t: t.users.put("anna", b"", 0))
    other = opened.store.write(lambda t: t.users.put("ben", b"", 0))
    assert cancelled.cancel()
    stalled.release()
    other.result(WAIT)
    assert (opened.store.user("anna").version, opened.store.user("ben").version) == (0, 1)


def test_too_many_waiting_jobs_are_refused_at_once(opened: Opened) -> None:
    """What does not fit into the queue is told so with a time to come back; what did fit is done."""
    opened.reopen(max_waiting=2)
    stalled = Stalled(opened.store)
    waiting = [opened.store.write(partial(_put, n)) for n in range(2)]
    with pytest.raises(Overloaded, match="2 writes wait already") as refused:
        opened.store.write(lambda t: t.users.put("late", b"", 0))
    assert refused.value.retry_after > 0
    stalled.release()
    assert [future.result(WAIT) for future in waiting] == [1, 1]
    assert opened.do(lambda t: t.users.get("late")) == Document()


def test_closing_does_what_waits_and_takes_nothing_more(opened: Opened) -> None:
    """`close` ends when every job that waited is on disk; afterwards jobs and reads are refused."""
    stalled = Stalled(opened.store)
    waiting = [opened.store.write(partial(_put, n)) for n in range(50)]
    closer = threading.Thread(target=opened.adapter.close)
    closer.start()
    stalled.release()
    closer.join(WAIT)
    assert [future.result(0) for future in waiting] == [1] * 50
    with pytest.raises(Stopping):
        opened.store.write(lambda _: None)
    with pytest.raises(StorageFailed, match="closed"):
        opened.store.pushes("anna", 0, 1)
    opened.reopen()
    assert opened.store.user("user-49") == Document(1, b"")


def test_everything_is_there_after_opening_again(opened: Opened) -> None:
    """A store opened again answers as before, with the same epoch, and goes on counting."""

    def job(transaction: Transaction) -> None:
        transaction.events.append("e1", "anna", 5, b"view")
        transaction.items.number("hat")
        transaction.users.put("anna", b"one", 0)
        transaction.streams.append("anna", push(3, 9))
        transaction.ledger.add(entry(1, offset=3))
        transaction.timers.set(Timer("t", 4, "anna", b"do"))
        transaction.counters.reserve("budget", "a", 3, 3, 2_000)

    opened.do(job)
    epoch = opened.store.epoch
    opened.reopen()
    store = opened.store
    assert (store.epoch, store.position) == (epoch, 1)
    assert store.events(0, 9) == [StoredEvent(1, "e1", "anna", 5, b"view")]
    assert list(store.item_ids(0)) == [(0, "hat")]
    assert (store.user("anna"), store.pushes("anna", 0, 9)) == (Document(1, b"one"), [push(3, 9)])
    assert store.decisions("anna", 9) == [entry(1, offset=3)]
    assert store.due(4, 9) == [Timer("t", 4, "anna", b"do")]
    assert opened.do(lambda t: (t.events.append("e1", "anna", 5, b""), t.events.append("e2", "anna", 5, b""))) == (
        None,
        2,
    )
    assert opened.do(lambda t: (t.items.number("cap"), t.counters.used("budget", 1_000))) == (1, 3)


def test_two_histories_have_two_names(opened: Opened, tmp_path: Path) -> None:
    """A store that begins anew has an epoch of its own."""
    other = Opened(opened._open, _made(tmp_path / "other"))
    assert other.store.epoch != opened.store.epoch
    assert other.store.epoch
    other.adapter.close()


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def test_readers_see_whole_jobs_only_and_never_go_back(opened: Opened) -> None:
    """While jobs write, each read shows all of a job or nothing, and no read shows less than one before it."""
    ended = threading.Event()
    faults: list[str] = []

    def read() -> None:
        low = 0
        while not ended.is_set():
            pushes = len(opened.store.pushes("anna", 0, 10_000))
            version = opened.store.user("anna").version
            events = len(opened.store.events(0, 10_000))
            if pushes % 3 or pushes < 3 * low or version < pushes // 3 or events < version:
                faults.append(f"{low=} {pushes=} {version=} {events=}")
            low = max(low, events)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(200):
        opened.do(partial(_add_all, number))
    ended.set()
    for reader in readers:
        reader.join(WAIT)
    assert not faults
    assert len(opened.store.pushes("anna", 0, 10_000)) == 600


def _add_all(number: int, transaction: Transaction) -> None:
    transaction.users.put("anna", b"%d" % number, number)
    transaction.events.append(f"e{number}", "anna", 1, b"")
    for offset in range(3 * number + 1, 3 * number + 4):
        transaction.streams.append("anna", push(offset))


def test_a_store_needs_its_directory(tmp_path: Path) -> None:
    """A directory that is not there is named."""
    with pytest.raises(InvalidInput, match="nowhere"):
        SqliteStore.open(tmp_path / "nowhere", lambda: 0)
