"""What the store reported done is there after kill -9 and the loss of what was not synced."""

import json
import os
import random
import selectors
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from power_cut import ForgetfulDisk, Loss, NoCompiler
from tidings_server.adapters.sqlite_schema import FILE
from tidings_server.adapters.sqlite_store import SqliteStore

SECONDS = 60.0
WRITER = """
import os, sys, threading
from pathlib import Path
from tidings_core.stored import StoredPush, Timer
from tidings_server.adapters.sqlite_store import SqliteStore

store = SqliteStore.open(Path(sys.argv[1]), lambda: 0)
first = int(sys.argv[2])
store._connection.execute("PRAGMA synchronous = " + sys.argv[3])

def write(thread):
    for number in range(first + thread, 10**9, 4):
        user = f"user-{number % 50}"
        def job(t):
            document = t.users.get(user)
            t.events.append(f"event-{number}", user, 1, b"%d" % number)
            t.users.put(user, document.content[-2000:] + b"%d " % number, document.version)
            t.streams.append(user, StoredPush(number + 1, f"push-{number}", 0, "", b"x" * 500))
            t.timers.set(Timer(f"timer-{number}", number, user, b""))
        store.write(job).result()
        os.write(1, b"%d\\n" % number)

for thread in range(4):
    threading.Thread(target=write, args=(thread,), daemon=True).start()
threading.Event().wait()
"""
"""Writes until killed, and says the number of each job that is done."""


@pytest.fixture
def disk(tmp_path: Path) -> ForgetfulDisk:
    """A directory whose unsynced writes can be lost."""
    for name in ("state", "aside"):
        (tmp_path / name).mkdir()
    try:
        return ForgetfulDisk.prepare(tmp_path / "state", tmp_path / "aside")
    except NoCompiler as missing:
        pytest.skip(str(missing))


def run(
    disk: ForgetfulDisk, program: str, *arguments: str, until: Callable[[list[str]], bool], longer: float = 0.0
) -> list[str]:
    """Run a program on the disk until its lines are enough, kill it, and return all the lines it wrote.

    `longer`: so many seconds later. Without, the kill would always come when a commit has just ended.
    """
    environment = {**os.environ, **disk.environment()}
    command = [sys.executable, "-c", program, str(disk.directory), *arguments]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        handle, said = process.stdout.fileno(), b""
        with selectors.DefaultSelector() as selector:
            selector.register(handle, selectors.EVENT_READ)
            while not until(_lines(said)) and selector.select(SECONDS) and (more := os.read(handle, 1 << 16)):
                said += more
        with suppress(subprocess.TimeoutExpired):
            process.wait(longer)
        process.kill()
        said += process.stdout.read()
    assert until(_lines(said)), f"it ended early: {said[-200:]!r}"
    return _lines(said)


def _at_least(count: int, lines: list[str]) -> bool:
    return len(lines) >= count


def _lines(said: bytes) -> list[str]:
    """Whole lines."""
    return said.decode().split("\n")[:-1]


def kept(disk: ForgetfulDisk) -> tuple[list[int], list[int], list[int], set[int], str]:
    """Numbers of the events, pushes and timers in the database, the newest in documents, and what its check says."""
    store = SqliteStore.open(disk.directory, lambda: 0)
    try:
        events = [int(event.content) for event in store.events(0, 10**6)]
        pushes = [p.offset - 1 for user in range(50) for p in store.pushes(f"user-{user}", 0, 10**6)]
        timers = [timer.due for timer in store.due(10**9, 10**6)]
        documents = {int(number) for n in range(50) for number in store.user(f"user-{n}").content.split()[-1:]}
        check = store.write(lambda _: store._connection.execute("PRAGMA integrity_check").fetchall()).result()
        return sorted(events), sorted(pushes), sorted(timers), documents, str(check)
    finally:
        store.close()


@pytest.mark.parametrize("loss", ["all", "some"])
def test_what_was_reported_done_survives_a_power_cut(disk: ForgetfulDisk, loss: Loss) -> None:
    """Round after round on one database: nothing reported is missing, nothing is there in part, no damage."""
    chance, reported = random.Random(5), set[int]()
    for turn in range(6):
        enough = partial(_at_least, chance.randrange(100, 500))
        lines = run(disk, WRITER, str(turn * 10**6), "FULL", until=enough, longer=chance.uniform(0, 0.01))
        reported |= set(map(int, lines))
        disk.cut(loss, seed=turn)
        events, pushes, timers, documents, check = kept(disk)
        assert check == "[('ok',)]"
        assert not reported - set(events)
        assert events == pushes == timers
        assert documents <= set(events)
        assert len(set(events)) == len(events)


def test_the_power_cut_takes_what_is_not_synced(disk: ForgetfulDisk) -> None:
    """Without syncs the same run loses jobs that were reported done: the test above can fail."""
    reported = set(map(int, run(disk, WRITER, "0", "OFF", until=partial(_at_least, 200))))
    assert disk.cut("all", seed=0)
    assert reported - set(kept(disk)[0])


PLAIN = """
import os, sys
handle = os.open(sys.argv[1] + "/file", os.O_RDWR | os.O_CREAT)
os.write(handle, b"synced, and ")
os.write(handle, b"long")
os.fsync(handle)
os.pwrite(handle, b"SYNCED", 0)
os.pwritev(handle, [b"and", b" more"], 12)
os.ftruncate(handle, 8)
os.posix_fallocate(handle, 0, 5000)
other = os.open(sys.argv[1] + "/other", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.writev(other, [b"one, ", b"two"])
os.fdatasync(other)
os.write(other, b", three")
print("done", flush=True)
sys.stdin.read()
"""


def test_every_kind_of_unsynced_change_is_undone(disk: ForgetfulDisk) -> None:
    """Overwritten, appended, cut off and grown: each file is as it was at its own last sync."""
    run(disk, PLAIN, until=lambda lines: lines == ["done"])
    assert (disk.directory / "file").stat().st_size == 5000
    assert disk.cut("all", seed=0) == 5
    assert (disk.directory / "file").read_bytes() == b"synced, and long"
    assert (disk.directory / "other").read_bytes() == b"one, two"


def test_a_part_of_the_unsynced_changes_may_be_kept(disk: ForgetfulDisk) -> None:
    """With "some", different seeds leave different files, and what was synced stands in all."""
    run(disk, PLAIN, until=lambda lines: lines == ["done"])
    files = {name: (disk.directory / name).read_bytes() for name in ("file", "other")}
    log = disk.log.read_bytes()
    outcomes = set()
    for seed in range(20):
        for name, content in files.items():
            (disk.directory / name).write_bytes(content)
        disk.log.write_bytes(log)
        disk.cut("some", seed)
        outcomes.add((disk.directory / "other").read_bytes())
    assert outcomes == {b"one, two", b"one, two, three"}


FILLER = """
import json, sys
from pathlib import Path
from tidings_server.adapters.sqlite_store import SqliteStore

full = Path(sys.argv[2])
store = SqliteStore.open(Path(sys.argv[1]), lambda: 0)
def attempt(number):
    futures = [store.write(lambda t, n=n: (t.events.append(f"{number}-{n}", "anna", 1, b"x" * 3000),
                                           t.users.put(f"user-{number}-{n}", b"d", 0))) for n in range(20)]
    errors = sorted({type(future.exception()).__name__ for future in futures})
    reads = (store.position, store.user(f"user-{number}-0").version, store.user("user-0-0").version)
    print(json.dumps([errors, *reads]), flush=True)

attempt(0)
full.touch()
attempt(1), attempt(2)
full.unlink()
attempt(3)
store.close()
print("closed", flush=True)
"""


def test_a_full_disk_refuses_writes_and_heals_by_itself(disk: ForgetfulDisk) -> None:
    """While writing fails with ENOSPC jobs raise StorageFull, reads go on and show none of them; then all is well."""
    lines = run(disk, FILLER, str(disk.full), until=lambda lines: lines[-1:] == ["closed"])
    assert [json.loads(line) for line in lines[:-1]] == [
        [["NoneType"], 20, 1, 1],
        [["StorageFull"], 20, 0, 1],
        [["StorageFull"], 20, 0, 1],
        [["NoneType"], 40, 1, 1],
    ]
    store = SqliteStore.open(disk.directory, lambda: 0)
    assert [event.event_id[0] for event in store.events(0, 100)] == ["0"] * 20 + ["3"] * 20
    store.close()
    assert (disk.directory / FILE).exists()
