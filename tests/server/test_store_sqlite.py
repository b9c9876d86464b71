"""What the SQLite store promises beyond the Protocols: commits shared, faults survived, damage refused."""

import sqlite3
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.server.storing import WAIT, Stalled, entry, push
from tidings_core.errors import InvalidInput, StorageFailed, StorageFull
from tidings_core.stored import Document, StoredEvent
from tidings_server.adapters import sqlite_schema, sqlite_store
from tidings_server.adapters.sqlite_schema import FILE
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.store import Transaction


def open_store(directory: Path) -> SqliteStore:
    """A store whose clock stands at 0."""
    return SqliteStore.open(directory, lambda: 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """A new store."""
    store = open_store(tmp_path)
    yield store
    store.close()


def put(user_id: str, size: int, transaction: Transaction) -> int:
    """Give a user a new document of so many bytes."""
    return transaction.users.put(user_id, b"x" * size, transaction.users.get(user_id).version)


def put_pages(number: int, transaction: Transaction) -> None:
    """Write some 40 KB."""
    for part in range(10):
        put(f"user-{number}-{part}", 4000, transaction)


def pragma(store: SqliteStore, statement: str) -> str:
    """Run a PRAGMA on the connection that writes, from its own thread."""
    return store.write(lambda _: str(store._connection.execute(f"PRAGMA {statement}").fetchone()[0])).result(WAIT)


def test_jobs_that_wait_share_a_commit(store: SqliteStore) -> None:
    """A hundred jobs that waited together cost one commit, or two."""
    stalled = Stalled(store)
    futures = [store.write(partial(put, f"user-{n}", 100)) for n in range(100)]
    before = store.commits
    stalled.release()
    assert [future.result(WAIT) for future in futures] == [1] * 100
    assert store.commits - before <= 2


def test_every_commit_is_synced(store: SqliteStore) -> None:
    """The writing connection runs in WAL mode and syncs each commit."""
    assert (pragma(store, "journal_mode"), pragma(store, "synchronous")) == ("wal", "2")


def test_a_full_disk_refuses_whole_jobs_until_there_is_room(store: SqliteStore) -> None:
    """A job that finds no room raises StorageFull and leaves nothing; reads go on; with room again all is well."""
    store.write(partial(put, "anna", 100)).result(WAIT)
    limit = pragma(store, f"max_page_count = {int(pragma(store, 'page_count')) + 20}")
    done = [store.write(partial(put_pages, number)).exception(WAIT) for number in range(5)]
    kept = done.index(next(filter(None, done)))
    assert int(limit) > 0
    assert 0 < kept < 5
    for number, error in enumerate(done):
        assert isinstance(error, StorageFull) == (number >= kept)
        assert [store.user(f"user-{number}-{part}").version for part in range(10)] == [int(error is None)] * 10
    assert all(error.retry_after > 0 for error in done if isinstance(error, StorageFull))
    assert store.user("anna").version == 1
    pragma(store, "max_page_count = 100000")
    store.write(partial(put_pages, 9)).result(WAIT)
    assert (store.user("user-9-9").version, pragma(store, "integrity_check")) == (1, "ok")


def test_a_large_job_that_does_not_fit_hurts_no_small_one(store: SqliteStore) -> None:
    """Of jobs that wait together, only the one without room fails."""
    pragma(store, f"max_page_count = {int(pragma(store, 'page_count')) + 20}")
    stalled = Stalled(store)
    small = [store.write(partial(put, f"small-{n}", 100)) for n in range(5)]
    large = store.write(lambda t: [put_pages(n, t) for n in range(10)])  # type: ignore[func-returns-value]
    small += [store.write(partial(put, f"small-{n}", 100)) for n in range(5, 10)]
    stalled.release()
    assert [future.result(WAIT) for future in small] == [1] * 10
    assert isinstance(large.exception(WAIT), StorageFull)
    assert store.user("user-0-0") == Document()


def test_a_job_cannot_go_on_after_the_disk_was_full(store: SqliteStore) -> None:
    """A job that catches the error and writes on still fails whole, with that error."""
    pragma(store, f"max_page_count = {int(pragma(store, 'page_count')) + 5}")

    def job(transaction: Transaction) -> str:
        with suppress(StorageFull):
            put_pages(0, transaction)
        with suppress(StorageFull):
            put("anna", 1, transaction)
        return "done"

    assert isinstance(store.write(job).exception(WAIT), StorageFull)
    assert (store.user("anna"), store.user("user-0-0")) == (Document(), Document())


def test_a_job_cannot_go_on_after_a_statement_failed(store: SqliteStore) -> None:
    """A job that catches StorageFailed and ends well fails whole all the same, and hurts no other."""

    def job(transaction: Transaction) -> str:
        transaction.ledger.add(entry(1, offset=1))
        with pytest.raises(StorageFailed, match="UNIQUE"):
            transaction.ledger.add(entry(2, offset=1))
        with pytest.raises(StorageFailed, match="UNIQUE"):
            put("anna", 1, transaction)
        return "done"

    stalled = Stalled(store)
    failing, other = store.write(job), store.write(partial(put, "ben", 1))
    stalled.release()
    assert isinstance(failing.exception(WAIT), StorageFailed)
    assert other.result(WAIT) == 1
    assert (store.decisions("", 9), store.user("anna")) == ([], Document())


def test_a_database_that_is_locked_fails_jobs_and_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program holds the database jobs raise StorageFailed and reads go on; afterwards all is well."""
    for module in (sqlite_schema, sqlite_store):
        monkeypatch.setattr(module, "BUSY_MS", 0)
    file = tmp_path / FILE
    with closing(open_store(tmp_path)) as store, closing(sqlite3.connect(file, isolation_level=None)) as other:
        store.write(partial(put, "anna", 100)).result(WAIT)
        other.execute("BEGIN IMMEDIATE")
        futures = [store.write(partial(put, f"user-{n}", 100)) for n in range(5)]
        assert {type(future.exception(WAIT)) for future in futures} == {StorageFailed}
        assert (store.user("anna").version, len(store.pushes("anna", 0, 9))) == (1, 0)
        other.execute("ROLLBACK")
        assert store.write(partial(put, "user-0", 100)).result(WAIT) == 1
        assert not store._connection.in_transaction


def test_the_cache_never_shows_what_was_undone(store: SqliteStore) -> None:
    """A document read before, during and after a commit that failed is the one on disk."""
    store.write(partial(put, "anna", 100)).result(WAIT)
    pragma(store, f"max_page_count = {int(pragma(store, 'page_count')) + 1}")

    def job(transaction: Transaction) -> None:
        put("anna", 50, transaction)
        assert store.user("anna").version == 1
        put_pages(0, transaction)

    assert isinstance(store.write(job).exception(WAIT), StorageFull)
    assert store.user("anna") == Document(1, b"x" * 100)


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents over the bound are read from disk, and the newest version of each comes back."""
    monkeypatch.setattr(sqlite_store, "CACHE_BYTES", 10_000)
    with closing(open_store(tmp_path)) as store:
        for turn in range(2):
            for number in range(50):
                store.write(partial(put, f"user-{number}", 1000 + turn)).result(WAIT)
        assert store._documents._bytes <= 10_000
        assert {len(store.user(f"user-{number}").content) for number in range(50)} == {1001}
        assert 0 < store._documents._bytes <= 10_000


def test_the_write_ahead_log_stays_small_under_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With threads that read all the time the log is written over and over, not longer and longer."""
    monkeypatch.setattr(sqlite_store, "MAX_LOG_BYTES", 6 << 20)
    with closing(open_store(tmp_path)) as store:
        ended = threading.Event()

        def read() -> None:
            while not ended.is_set():
                store.pushes("anna", 0, 10)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        written = [store.write(partial(put_pages, number)) for number in range(600)]
        for future in written:
            future.result(WAIT)
        ended.set()
        for reader in readers:
            reader.join(WAIT)
        store.write(lambda _: None).result(WAIT)
        # 24 MB were written; one commit may pass the limit by what is committed together.
        assert (tmp_path / f"{FILE}-wal").stat().st_size < 18 << 20


def test_a_reader_that_stays_does_not_stop_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup that holds an old state makes the log grow; jobs go on, and the log shrinks when it is gone."""
    monkeypatch.setattr(sqlite_store, "MAX_LOG_BYTES", 1 << 20)
    with closing(open_store(tmp_path)) as store, closing(sqlite3.connect(tmp_path / FILE)) as backup:
        backup.execute("BEGIN")
        assert backup.execute("SELECT count(*) FROM users").fetchone() == (0,)
        for number in range(100):
            store.write(partial(put_pages, number)).result(WAIT)
        grown = (tmp_path / f"{FILE}-wal").stat().st_size
        assert grown > 4 << 20
        assert backup.execute("SELECT count(*) FROM users").fetchone() == (0,)
        backup.rollback()
        for number in range(100):
            store.write(partial(put_pages, number)).result(WAIT)
        store.write(lambda _: None).result(WAIT)
        assert (tmp_path / f"{FILE}-wal").stat().st_size < grown


def test_a_log_that_a_reader_holds_is_not_emptied_at_every_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes would wait for it each time. It is tried again after a while, and at once for who asks."""
    with closing(open_store(tmp_path)) as store, closing(sqlite3.connect(tmp_path / FILE)) as backup:
        store.write(partial(put_pages, 0)).result(WAIT)
        truncate, tried = store._truncate, list[bool]()

        def counted() -> bool:
            tried.append(truncate())
            return tried[-1]

        monkeypatch.setattr(store, "_truncate", counted)
        backup.execute("BEGIN")
        assert backup.execute("SELECT count(*) FROM users").fetchone()
        assert store.scrub().result(WAIT) is False
        for number in range(1, 20):
            store.write(partial(put_pages, number)).result(WAIT)
        assert tried == [True]
        backup.rollback()
        monkeypatch.setattr(store, "_scrub_at", 0.0)
        store.write(lambda _: None).result(WAIT)
        store.write(lambda _: None).result(WAIT)
        assert tried == [True, False]
        assert store.scrub().result(WAIT) is True


def test_nobody_else_reads_the_files(store: SqliteStore, tmp_path: Path) -> None:
    """The database and its companions have mode 0600."""
    store.write(partial(put, "anna", 1)).result(WAIT)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [FILE, f"{FILE}-shm", f"{FILE}-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


# Opening


def filled(directory: Path) -> Path:
    """A closed database with some pages; returns its file."""
    with closing(open_store(directory)) as store:
        store.write(lambda t: t.streams.append("anna", push(1))).result(WAIT)
        for number in range(5):
            store.write(partial(put_pages, number)).result(WAIT)
    return directory / FILE


def refusal(directory: Path) -> str:
    """Why a directory is refused."""
    with pytest.raises(InvalidInput) as refused:
        open_store(directory)
    ((field, problem),) = refused.value.violations
    assert field == "state"
    assert str(directory / FILE) in problem
    return problem


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda _: b"no database at all" * 100, "not a database"),
        (lambda content: content[: len(content) // 2], "malformed"),
        (lambda content: content[:5000] + b"\xff" * (len(content) - 5000), "it is damaged|malformed"),
    ],
    ids=["garbage", "truncated", "overwritten"],
)
def test_a_damaged_file_is_refused_with_its_name_and_the_way_out(tmp_path: Path, damage: object, problem: str) -> None:
    """The message says what to do, and the file stays as it is."""
    assert callable(damage)
    file = filled(tmp_path)
    content = damage(file.read_bytes())
    file.write_bytes(content)
    said = refusal(tmp_path)
    assert any(word in said for word in problem.split("|"))
    assert "put back a backup with `tidings-server restore --force`" in said
    assert file.read_bytes() == content


def test_damage_in_a_file_too_large_to_check_fails_the_read_that_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be read raises StorageFailed, in reads and in jobs; what can is still read."""
    file = filled(tmp_path)
    monkeypatch.setattr(sqlite_schema, "CHECKED_BYTES", 0)
    with closing(sqlite3.connect(file)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'users'").fetchone()
    with file.open("r+b") as damaged:
        damaged.seek((page - 1) * 4096)
        damaged.write(b"\xff" * 4096)
    with closing(open_store(tmp_path)) as store:
        with pytest.raises(StorageFailed, match="malformed"):
            store.user("user-0-0")
        failed: Future[Document] = store.write(lambda t: t.users.get("user-0-0"))
        assert isinstance(failed.exception(WAIT), StorageFailed)
        assert store.pushes("anna", 0, 9) == [push(1)]


def test_a_database_of_the_future_is_refused(tmp_path: Path) -> None:
    """Tables of a newer version are left alone, and both versions are named."""
    file = filled(tmp_path)
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA user_version = 99")
    said = refusal(tmp_path)
    assert "version 99" in said
    assert f"knows {len(sqlite_schema.MIGRATIONS)}" in said


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    """Another program's database is left as it is."""
    with closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.execute("CREATE TABLE notes (text)")
        database.commit()
    before = (tmp_path / FILE).read_bytes()
    assert "another program" in refusal(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_a_directory_in_the_files_place_is_refused(tmp_path: Path) -> None:
    """What is no file is named."""
    (tmp_path / FILE).mkdir()
    assert "cannot be used" in refusal(tmp_path)


def test_a_file_of_no_bytes_becomes_a_database(tmp_path: Path) -> None:
    """A crash right after the file was made leaves it empty; the next start goes on from there."""
    (tmp_path / FILE).touch()
    with closing(open_store(tmp_path)) as store:
        assert store.write(partial(put, "anna", 1)).result(WAIT) == 1


def test_tables_of_the_first_version_keep_their_events(tmp_path: Path) -> None:
    """A log that was written before events had flags goes on from where it was, and is found by user."""
    with closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.executescript(
            f"PRAGMA application_id = {sqlite_schema.APPLICATION_ID}; {sqlite_schema.MIGRATIONS[0]};"
            "PRAGMA user_version = 1; INSERT INTO events VALUES (3, 'a', 'anna', 5, x'01'), (8, 'b', 'ben', 6, x'02')"
        )
    with closing(open_store(tmp_path)) as store:
        assert (store.position, store.user_events("ben", 0, 9)) == (8, [StoredEvent(8, "b", "ben", 6, b"\x02")])
        assert [event.number for event in store.events(0, 9)] == [3, 8]
        assert store.write(lambda t: t.events.append("c", "anna", 7, b"")).result(WAIT) == 9


def test_nothing_is_left_where_a_page_was_divided(tmp_path: Path) -> None:
    """What SQLite leaves in the unused middle of a page is gone after a scrub, and what is stored stays."""
    file = tmp_path / FILE
    with closing(sqlite_schema.open_database(tmp_path)) as connection:
        connection.execute("INSERT INTO users (user_id, version, content) VALUES ('kept', 1, x'7b7d')")
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'users'")
        ((size,),) = connection.execute("PRAGMA page_size")
    with file.open("r+b") as database:
        database.seek((page - 1) * size + size // 2)
        database.write(b"vanished")
    assert b"vanished" in file.read_bytes()
    store = open_store(tmp_path)
    try:
        assert store.scrub().result()
        assert b"vanished" not in file.read_bytes()
        assert store.user("kept").version == 1
    finally:
        store.close()
