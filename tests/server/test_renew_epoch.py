"""`tidings-server renew-epoch`: after an older copy of the state is put back, nobody is taken at their word."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.server.conftest import Clock, Shop
from tests.server.listening import PATIENCE, offsets, opened
from tests.support.server import start_server
from tidings_core.errors import Conflict
from tidings_server.adapters.sqlite_schema import FILE
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.consistency import check_token, write_token
from tidings_server.application.places import Resume
from tidings_server.cli import command


def renew(folder: Path) -> Result:
    """Run the command."""
    return CliRunner().invoke(command, ["renew-epoch", "--state", str(folder)], terminal_width=200)


def renewed(folder: Path) -> tuple[str, str]:
    """Run the command; the epochs before and after that it names."""
    ended = renew(folder)
    assert (ended.exit_code, ended.stderr) == (0, "")
    words = ended.stdout.split()
    assert words == ["the", "epoch", "was", words[3], "and", "is", words[6], "now"]
    return words[3], words[6]


def put_back(folder: Path, copy: Path) -> None:
    """Put a copy of the state directory in its place."""
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)


def fault(folder: Path) -> str:
    """The one line of the command, which failed."""
    ended = renew(folder)
    assert (ended.exit_code, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    return line


async def test_a_device_hears_that_history_was_lost_though_its_offset_was_passed(tmp_path: Path, clock: Clock) -> None:
    """What came since the copy was put back is sent, and recovered is false."""
    folder, copy = tmp_path / "state", tmp_path / "copy"
    async with opened(folder, clock) as house:
        epoch = (await house.listen("ann", "phone")).opened.epoch
    shutil.copytree(folder, copy)
    async with opened(folder, clock) as house:
        listener = await house.listen("ann", "phone", Resume(epoch, 0))
        for _ in range(3):
            house.push("ann")
        await listener.pushes()
        listener.acknowledge(3)
    put_back(folder, copy)
    old, new = renewed(folder)
    assert (old == epoch, new == epoch) == (True, False)
    async with opened(folder, clock) as house:
        house.made = 100
        for _ in range(4):
            house.push("ann")
        listener = await house.listen("ann", "phone", Resume(epoch, 3))
        assert (listener.opened.epoch, listener.opened.recovered) == (new, False)
        assert offsets(await listener.pushes()) == [1, 2, 3, 4]


def test_a_token_of_a_lost_event_is_refused_though_its_number_was_passed(tmp_path: Path) -> None:
    """Another event has that number now."""
    folder, copy = tmp_path / "state", tmp_path / "copy"
    folder.mkdir()

    def append(event_id: str) -> str:
        store = SqliteStore.open(folder, lambda: 1)
        try:
            store.write(lambda tx: tx.events.append(event_id, "ann", 1, b"x")).result(PATIENCE)
            return write_token(store)
        finally:
            store.close()

    append("e1")
    shutil.copytree(folder, copy)
    lost = append("e2")
    put_back(folder, copy)
    renewed(folder)
    append("e3")
    store = SqliteStore.open(folder, lambda: 1)
    try:
        assert store.position == 2
        check_token(store, write_token(store))
        with pytest.raises(Conflict, match="of another history"):
            check_token(store, lost)
    finally:
        store.close()


async def test_nothing_else_is_changed_and_the_name_lasts(tmp_path: Path, clock: Clock) -> None:
    """Pushes and places are as they were; each time the name is another one, and the next start has it."""
    folder = tmp_path / "state"
    async with opened(folder, clock) as house:
        house.push("ann")
        await house.listen("ann", "phone")
        before = house.store.user("ann"), house.store.pushes("ann", 0, 9), house.store.decisions("", 9)
    names = [renewed(folder) for _ in range(2)]
    assert names[0][1] == names[1][0]
    async with opened(folder, clock) as house:
        assert house.store.epoch == names[1][1]
        assert (house.store.user("ann"), house.store.pushes("ann", 0, 9), house.store.decisions("", 9)) == before


def test_it_is_refused_while_a_server_runs(shop: Shop, tmp_path: Path) -> None:
    """Naming the directory and the process; the server and its epoch stay as they are."""
    folder = tmp_path / "state"
    with start_server(shop.path, folder) as server:
        said = fault(folder)
        assert f"{folder} is in use by another server (process {server.process.pid})" in said
        assert server.stop() == 0
    renewed(folder)


def test_without_a_database_nothing_is_made(tmp_path: Path) -> None:
    """A directory that is not there stays so, and one without a database stays empty."""
    assert "there is no" in fault(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert f"there is no {tmp_path / 'empty' / FILE}" in fault(tmp_path / "empty")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_a_damaged_database_is_named_and_left_alone(tmp_path: Path) -> None:
    """Not even another program's file is touched."""
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    assert str(tmp_path / FILE) in fault(tmp_path)
    assert (tmp_path / FILE).read_bytes() == b"no database" * 1000
