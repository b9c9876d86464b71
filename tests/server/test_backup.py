"""`tidings-server backup | restore | verify`: what is kept is whole, of one moment, and put over nothing newer."""

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import tidings
from tests.server.conftest import Shop
from tests.server.test_migrations import STATES, unpack
from tests.support.server import start_server
from tidings import Client, Event
from tidings_core.stored import Document
from tidings_server.adapters.backup_directory import MANIFEST, UNFINISHED, FileInfo, check_files, read_backup
from tidings_server.adapters.restore_directory import RESTORED
from tidings_server.adapters.sqlite_schema import FILE
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.adapters.state_directory import KEY, LOCK, StateDirectory
from tidings_server.application.documents import read_document
from tidings_server.application.store import Transaction
from tidings_server.cli import command

STATE = "version_3"


def run(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(command, [str(each) for each in arguments], terminal_width=200)


def done(*arguments: object) -> dict[str, Any]:
    """What a command that went well tells as JSON."""
    ended = run(*arguments, "--json")
    assert ended.exit_code == 0, ended.output
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def refused(*arguments: object) -> str:
    """What a command that was refused says."""
    ended = run(*arguments)
    assert (ended.exit_code, ended.stdout) == (1, ""), ended.output
    return "\n".join(line for line in ended.stderr.splitlines() if line.startswith("tidings-server: "))


def append(event_id: str, tx: Transaction) -> int | None:
    """Append an event of ann's."""
    return tx.events.append(event_id, "ann", 1, b"x")


def write(state: Path, count: int = 1) -> None:
    """Let the history of a state directory go on by some events."""
    store = SqliteStore.open(state, lambda: 0)
    try:
        for number in range(count):
            job = partial(append, f"later-{store.position}-{number}")
            store.write(job).result(30)
    finally:
        store.close()


def epoch(state: Path) -> str:
    """The name of a history."""
    with closing(sqlite3.connect(state / FILE)) as connection:
        return str(connection.execute("SELECT value FROM about WHERE name = 'epoch'").fetchone()[0])


def files(folder: Path) -> dict[str, bytes]:
    """All files below a directory but the lock, and those that readers of a database leave beside it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (LOCK, f"{FILE}-shm", f"{FILE}-wal")
    }


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with something in every table, whose server has stopped."""
    found = unpack(STATE, tmp_path)
    StateDirectory.open(found).close()
    SqliteStore.open(found, lambda: 0).close()
    return found


@pytest.fixture
def kept(state: Path, tmp_path: Path) -> Path:
    """A backup of it."""
    done("backup", tmp_path / "kept", "--state", state)
    return tmp_path / "kept"


def test_a_backup_beside_a_writing_server_is_of_one_moment(shop: Shop, tmp_path: Path) -> None:
    """Profiles, log and places fit each other, though all of them changed while it was made; then it answers."""
    state, stop = tmp_path / "state", threading.Event()
    with start_server(shop.path, state) as server, Client(server.address) as client:
        client.promote_release(shop.a)

        def speak(user: str) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                # Minutes apart, so that they are no flood.
                when = datetime.now(UTC) - timedelta(minutes=number % 10_000)
                batch = [
                    Event(user, "view", ["i1"], event_id=f"{user}-{number}-{at}", event_time=when) for at in range(20)
                ]
                client.record(batch)

        threads = [threading.Thread(target=speak, args=(user,)) for user in ("ann", "bob")]
        for thread in threads:
            thread.start()
        try:
            told = [
                done(
                    "backup",
                    tmp_path / f"kept-{at}",
                    "--state",
                    state,
                    "--releases",
                    shop.path,
                    "--with-releases",
                    "all",
                )
                for at in range(4)
            ]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert run("verify", state).exit_code == 0
        assert "runs on" in refused("restore", tmp_path / "kept-0", "--state", state, "--force")
    counts = [found["events"] for found in told]
    assert counts == sorted(counts)
    assert all(found["live"] for found in told)
    for at, found in enumerate(told):
        assert run("verify", tmp_path / f"kept-{at}").exit_code == 0
        with closing(sqlite3.connect(f"file:{tmp_path}/kept-{at}/{FILE}?immutable=1", uri=True)) as connection:
            logged = dict(connection.execute("SELECT user_id, count(*) FROM events GROUP BY user_id"))
            for user, version, content in connection.execute("SELECT user_id, version, content FROM users"):
                assert read_document(Document(version, content)).profile.totals == {"view": logged[user]}
            assert sum(logged.values()) == found["events"]
    shutil.rmtree(shop.path)
    shop.path.mkdir()
    again = done("restore", tmp_path / "kept-3", "--state", tmp_path / "again", "--releases", shop.path)
    assert (again["releases"], again["missing_releases"]) == ([shop.a], [])
    with start_server(shop.path, tmp_path / "again") as server, Client(server.address) as client:
        assert server.release_id == shop.a
        assert len(client.recommend("ann").items) > 0
        assert sum(count.total for count in client.get_profile("ann").counts) > 0


def test_what_was_restored_is_what_was_kept(state: Path, kept: Path, tmp_path: Path) -> None:
    """Key, record and every row; only the history has another name. A directory that is empty will do."""
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "none" / "deep", tmp_path / "empty"):
        told = done("restore", kept, "--state", folder)
        assert (told["epoch"], told["aside"]) == (epoch(folder), "")
        assert epoch(folder) != epoch(state)
        assert (folder / KEY).read_bytes() == (state / KEY).read_bytes()
        dumps = []
        for each in (state, folder):
            with closing(sqlite3.connect(each / FILE)) as connection:
                dumps.append([line for line in connection.iterdump() if 'INTO "about"' not in line])
        assert dumps[0] == dumps[1]
        assert run("verify", folder).exit_code == 0
        assert {path.stat().st_mode & 0o077 for path in folder.iterdir() if path.name in (FILE, KEY)} == {0}


def test_an_older_state_is_moved_aside_for_a_newer_backup(state: Path, tmp_path: Path) -> None:
    """Nothing of it is deleted."""
    shutil.copytree(state, tmp_path / "older")
    write(state)
    done("backup", tmp_path / "newer", "--state", state)
    before = files(tmp_path / "older")
    told = done("restore", tmp_path / "newer", "--state", tmp_path / "older")
    assert files(Path(told["aside"])) == before
    assert run("verify", tmp_path / "older").exit_code == 0


@pytest.mark.parametrize("other", ["newer", "another history"])
def test_what_the_backup_does_not_hold_is_not_replaced_unless_it_must_be(
    other: str, state: Path, kept: Path, tmp_path: Path
) -> None:
    """The refusal says what would be lost and the ways out; with --force it is moved aside."""
    write(state)
    if other == "another history":
        assert run("renew-epoch", "--state", state).exit_code == 0
    before = files(state)
    said = refused("restore", kept, "--state", state)
    assert ("another history" in said) == (other == "another history")
    assert other != "newer" or "events up to 6 (the backup: 5)" in said
    assert all(way in said for way in ("--force", "--state", "aside"))
    assert files(state) == before
    told = done("restore", kept, "--state", state, "--force")
    assert files(Path(told["aside"])) == before
    assert epoch(state) == told["epoch"]


def test_a_release_is_one_step_of_what_is_told(kept: Path) -> None:
    """Not one for each of its files, of which there are some sixty."""
    steps: list[str] = []
    for name in ("releases/r1/index.faiss", "releases/r1/manifest.json"):
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        (kept / name).write_bytes(b"x")
    manifest = read_backup(kept)
    held = {f"releases/r1/{name}": FileInfo(1, "") for name in ("index.faiss", "manifest.json")}
    check_files(kept, replace(manifest, files={**manifest.files, **held}), lambda step, *_: steps.append(step))
    assert [step for step in steps if "r1" in step] == ["checking release r1"] * 2


def test_no_history_is_lost_by_a_move(state: Path, kept: Path, tmp_path: Path) -> None:
    """The backup of a stopped server may keep its epoch."""
    told = done("restore", kept, "--state", tmp_path / "moved", "--keep-epoch")
    assert told["epoch"] == epoch(state) == epoch(tmp_path / "moved")


def test_a_backup_beside_a_server_cannot_keep_its_epoch(shop: Shop, tmp_path: Path) -> None:
    """That one went on after it."""
    with start_server(shop.path, tmp_path / "state"):
        done("backup", tmp_path / "kept", "--state", tmp_path / "state")
    assert "--keep-epoch" in refused("restore", tmp_path / "kept", "--state", tmp_path / "moved", "--keep-epoch")
    assert not (tmp_path / "moved").exists()


def test_the_key_may_be_kept_elsewhere(state: Path, tmp_path: Path) -> None:
    """Then a restore needs it, and it must be one."""
    done("backup", tmp_path / "kept", "--state", state, "--without-key")
    assert KEY not in files(tmp_path / "kept")
    where = ("restore", tmp_path / "kept", "--state", tmp_path / "again")
    assert "without the key" in refused(*where)
    (tmp_path / "short").write_bytes(b"x")
    assert "has 1 bytes" in refused(*where, "--key", tmp_path / "short")
    assert not (tmp_path / "again").exists()
    done(*where, "--key", state / KEY)
    assert (tmp_path / "again" / KEY).read_bytes() == (state / KEY).read_bytes()


def cut(file: Path) -> None:
    """Take the second half of a file away."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def turn(file: Path) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def edit(file: Path, old: str, new: str) -> None:
    """Change some words of a file."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda kept: cut(kept / FILE), "tidings.db has"),
        (lambda kept: turn(kept / FILE), "tidings.db has been changed"),
        (lambda kept: turn(kept / KEY), "key has been changed"),
        (lambda kept: (kept / KEY).unlink(), "key cannot be read"),
        (lambda kept: (kept / "more").write_bytes(b""), "more is not in the manifest"),
        (lambda kept: cut(kept / MANIFEST), "manifest.json is not JSON"),
        (lambda kept: (kept / MANIFEST).unlink(), "no backup"),
        (lambda kept: edit(kept / MANIFEST, '"live": false', '"live": true'), "manifest.json has been changed"),
    ],
)
def test_a_backup_that_was_cut_or_changed_is_refused_with_the_reason(
    harm: Callable[[Path], None], words: str, kept: Path, tmp_path: Path
) -> None:
    """By verify and by restore, which makes nothing."""
    harm(kept)
    assert words in refused("verify", kept)
    assert words in refused("restore", kept, "--state", tmp_path / "again")
    assert not list(tmp_path.glob("again*"))


def test_what_was_not_finished_is_no_backup(kept: Path, state: Path, tmp_path: Path) -> None:
    """Under the name that it is written under, even when all of it is there; the next one of that name replaces it."""
    left = kept.with_name(f"next{UNFINISHED}")
    kept.rename(left)
    assert "was not finished" in refused("verify", left)
    assert "was not finished" in refused("restore", left, "--state", tmp_path / "again")
    done("backup", tmp_path / "next", "--state", state)
    assert not left.exists()
    assert "is there already" in refused("backup", tmp_path / "next", "--state", state)


def edited(old: str, new: str) -> str:
    """A statement that changes documents."""
    return f"UPDATE users SET content = CAST(replace(content, '{old}', '{new}') AS BLOB)"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE users SET content = x'7b' WHERE user_id = 'ann'", "user 'ann': a user's document is damaged"),
        (edited('"applied_through":5', '"applied_through":9'), "event 9 is folded in, the log ends at 5"),
        (edited('"newest_offset":3', '"newest_offset":2'), "push 3 is in the stream, the newest offset is 2"),
        (edited('"acknowledged":1', '"acknowledged":7'), "a place is beyond the newest offset, 3"),
        ("INSERT INTO timers VALUES ('trigger/t/e', 1, 'eve', x'')", "a timer is set for 'eve', of whom"),
        ("DELETE FROM users WHERE user_id = 'ann'", "pushes are kept for 'ann', of whom there is no document"),
        ("UPDATE pushes SET offset = 2 WHERE offset = 1", "the push of user 'ann' at 2 has another place"),
        ("DELETE FROM event_keys", "event 1 has no key"),
        ("INSERT INTO counters VALUES ('budget', 5)", "the counter 'budget' does not hold"),
    ],
)
def test_a_promise_between_tables_that_is_broken_is_named(
    statement: str, words: str, state: Path, tmp_path: Path
) -> None:
    """Of a state directory and of a backup of it, which is not restored."""
    with closing(sqlite3.connect(state / FILE)) as connection, connection:
        connection.execute("DELETE FROM pushes WHERE offset = 2")
        connection.execute(statement)
    done("backup", tmp_path / "kept", "--state", state)
    for path in (state, tmp_path / "kept"):
        assert words in refused("verify", path)
    assert words in refused("restore", tmp_path / "kept", "--state", tmp_path / "again")
    told = run("verify", state, "--json")
    assert told.exit_code == 1
    assert any(words in fault for fault in json.loads(told.stdout)["faults"])


def test_a_damaged_page_is_found_in_a_state_directory(state: Path) -> None:
    """There is no checksum there: the database looks over its pages."""
    content = bytearray((state / FILE).read_bytes())
    content[4096 * 3 : 4096 * 3 + 100] = b"\xff" * 100
    (state / FILE).write_bytes(content)
    assert "damaged" in refused("verify", state)


def test_a_restore_that_was_stopped_before_its_last_step_goes_on(state: Path, kept: Path) -> None:
    """The old state is aside, the new one ready and not in place: the same command puts it there."""
    told = done("restore", kept, "--state", state)
    before = files(state)
    state.rename(state.with_name("state.restoring"))
    assert RESTORED in before
    again = done("restore", kept, "--state", state)
    assert (again, files(state)) == (told, before)


def test_what_is_no_state_directory_is_left_alone(kept: Path, tmp_path: Path) -> None:
    """Somebody's own files, and nothing at all."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    assert "holds letter and no database" in refused("restore", kept, "--state", tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter"]
    assert "there is no" in refused("backup", tmp_path / "other", "--state", tmp_path / "mine")
    assert "is no backup" in refused("verify", tmp_path / "mine")
    assert not (tmp_path / "other").exists()


def test_a_state_that_cannot_be_read_is_replaced_only_when_it_must_be(kept: Path, state: Path) -> None:
    """Nobody knows whether it is older; with --force it is moved aside as it is."""
    (state / FILE).write_bytes(b"no database" * 1000)
    before = files(state)
    assert "--force moves" in refused("restore", kept, "--state", state)
    ended = run("restore", kept, "--state", state, "--force", "--json")
    # Who was erased since cannot be told either: it is not passed over in silence.
    assert "people who were erased since the backup was made may be back" in ended.stderr
    assert files(Path(json.loads(ended.stdout)["aside"])) == before
    assert run("verify", state).exit_code == 0


def test_a_directory_that_tells_of_no_erasures_is_not_passed_over(kept: Path, tmp_path: Path) -> None:
    """Misspelt, or without its key, it would bring people back who were erased: nothing is put there."""
    (tmp_path / "keyless").mkdir()
    (tmp_path / "keyless" / FILE).touch()
    for name, lacks in (("misspelt", FILE), ("keyless", KEY)):
        said = refused("restore", kept, "--state", tmp_path / "again", "--erased-by", tmp_path / name)
        assert f"erased-by: there is no {tmp_path / name / lacks}" in said
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("told", ["by what stood there", "by a later backup"])
def test_whoever_was_erased_since_is_erased_again(told: str, shop: Shop, tmp_path: Path) -> None:
    """A backup of before holds all of a person: put back, nothing of that person is answered, or taken any more."""
    state, kept = tmp_path / "state", tmp_path / "kept"
    with start_server(shop.path, state) as server, Client(server.address) as client:
        for user in ("erased-person", "nobody-else"):
            client.record(Event(user, "view", ["i1"]))
            client.register_contact(user, tidings.Email(f"{user}@example.com"))
        done("backup", kept, "--state", state)
        for user in ("who-came-later", "who-came-back"):
            client.record(Event(user, "view", ["i1"]))
        for user in ("erased-person", "who-came-later", "who-came-back"):
            client.erase_profile(user)
        client.set_preferences("who-came-back", tidings.Preferences(), lift_erasure=True)
        done("backup", tmp_path / "later", "--state", state)
        assert server.stop() == 0
    assert b"erased-person" in (kept / FILE).read_bytes()
    target, more = state, list[object]()
    if told == "by a later backup":
        target, more = tmp_path / "other", ["--erased-by", tmp_path / "later"]
    again = done("restore", kept, "--state", target, "--releases", shop.path, "--force", *more)
    assert again["erased"] == 1
    assert b"erased-person" not in (target / FILE).read_bytes()
    assert run("verify", target).exit_code == 0
    with start_server(shop.path, target) as server, Client(server.address) as client:
        with pytest.raises(tidings.NotFound):
            client.get_profile("erased-person")
        assert client.get_profile("nobody-else").contacts[0].masked == "n***@example.com"
        for user in ("erased-person", "who-came-later", "who-came-back"):
            (verdict,) = client.record(Event(user, "view", ["i1"])).verdicts
            assert verdict.status is tidings.EventStatus.ERASED


def test_who_came_back_before_the_backup_stays(shop: Shop, tmp_path: Path) -> None:
    """The erasure that is known from elsewhere is one that the backup knows too: what is in it is from afterwards."""
    state, kept = tmp_path / "state", tmp_path / "kept"
    with start_server(shop.path, state) as server, Client(server.address) as client:
        client.record(Event("ann", "view", ["i1"]))
        client.erase_profile("ann")
        client.set_preferences("ann", tidings.Preferences(), lift_erasure=True)
        client.record(Event("ann", "view", ["i2"]))
        done("backup", kept, "--state", state)
        client.record(Event("ann", "view", ["i3"]))
        assert server.stop() == 0
    assert done("restore", kept, "--state", state, "--releases", shop.path, "--force")["erased"] == 0
    with start_server(shop.path, state) as server, Client(server.address) as client:
        assert [event.item_ids for event in client.get_profile("ann").recent_events] == [("i2",)]


def test_who_is_being_erased_may_be_there_in_part(state: Path) -> None:
    """The document goes first, the rest follows: a moment in between is no fault."""
    store = SqliteStore.open(state, lambda: 0)
    store.write(lambda tx: tx.erasures.begin([b"k" * 16], ["ann"], 1, {})).result(30)
    store.close()
    assert run("verify", state).exit_code == 0


@pytest.mark.parametrize("name", STATES)
def test_a_backup_of_any_earlier_version_is_kept_checked_and_put_back(name: str, tmp_path: Path) -> None:
    """As it is; brought up when it is put back."""
    state = unpack(name, tmp_path)
    (state / LOCK).touch()
    done("backup", tmp_path / "kept", "--state", state)
    for path in (state, tmp_path / "kept"):
        assert run("verify", path).exit_code == 0
    assert done("restore", tmp_path / "kept", "--state", tmp_path / "again")["extent"]["events"] == 5
    assert run("verify", tmp_path / "again").exit_code == 0
