"""`tidings-server decisions`: the ledger told to people and to machines, beside a running server and without one."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner, Result

import tidings
from tests.server.conftest import Clock, Shop
from tests.server.deciding.house import PATIENCE, House, Setting, open_house
from tests.support.server import start_server
from tidings_core.stored import Entry
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.adapters.sqlite_schema import FILE
from tidings_server.application.decision_record import read_record
from tidings_server.application.send_push import PushRequest
from tidings_server.application.serving import Serving
from tidings_server.cli import command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The state directory."""
    (tmp_path / "state-directory").mkdir()
    return tmp_path / "state-directory"


@pytest.fixture
def house(folder: Path, serving: Serving, directory: ReleaseDirectory, shop: Shop, clock: Clock) -> Iterator[House]:
    """A store in use, with a release, triggers and a cap of 2."""
    serving.swap(directory.open(shop.a), serving.record.promoted(shop.a, 1.0))
    with structlog.testing.capture_logs(), open_house(folder, serving, clock, Setting(max_per_day=2)) as house:
        yield house


def decisions(folder: Path, *options: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(command, ["decisions", "--state", str(folder), *options], terminal_width=200)


def told(folder: Path, *options: str) -> list[dict[str, Any]]:
    """What the command says to machines."""
    ended = decisions(folder, "--json", *options)
    assert (ended.exit_code, ended.stderr) == (0, "")
    return [json.loads(line) for line in ended.stdout.splitlines()]


def fault(folder: Path, *options: str) -> str:
    """The one line of a command that failed."""
    ended = decisions(folder, *options)
    assert (ended.exit_code, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("tidings-server: ")
    assert str(folder / FILE) in line
    return line


def buy(house: House, user: str = "ann", item: str = "item-8") -> None:
    """Let a user buy an item, and decide what that calls for."""
    house.act(user, "purchase", item)
    house.decide()


def test_machines_are_told_all_of_it_on_one_line(house: House, folder: Path) -> None:
    """All of the entry and all of its record side by side, while the store is in use."""
    buy(house)
    (entry,) = house.entries()
    (push,) = house.pushes("ann")
    (decision,) = told(folder)
    record = read_record(entry.record)
    stored = {name: value for name, value in asdict(entry).items() if name != "record"}
    assert decision == {**json.loads(json.dumps(record)), **stored}
    assert (decision["push_id"], decision["title"], decision["body"]) == (push.push_id, push.title, push.body)
    assert decision["release_id"] == push.release_id
    assert decision["serving_config"] == "goes-with"
    assert decision["profile_version"] == 1
    chosen = [item["item_id"] for item in decision["chosen"]]
    assert chosen == [item.item.item_id for item in push.items]
    assert set(chosen) <= set(decision["candidates"]["item_ids"])
    assert len(decision["candidates"]["scores"]) == len(decision["candidates"]["item_ids"])
    assert set(decision["chosen"][0]) == {"item_id", "score", "sources", "reasons"}


def test_what_became_of_a_push_since_stands_over_its_record(house: House, folder: Path) -> None:
    """The record keeps what was decided, the entry what came of it."""
    buy(house)
    house.write(lambda tx: tx.ledger.set_state(house.pushes("ann")[0].push_id, "clicked", house.now + 5))
    (decision,) = told(folder)
    assert (decision["state"], decision["outcome"]) == ("clicked", "sent")
    assert decision["changed"] == decision["time"] + 5


def test_the_newest_come_first_and_no_more_than_asked_for(house: House, folder: Path) -> None:
    """Of all users or of one; 20 when nothing is said."""
    for number in range(25):
        buy(house, f"user-{number % 5}")
        house.clock.now += 1.0
    ids = [entry.decision_id for entry in house.entries()][::-1]
    assert [decision["decision_id"] for decision in told(folder)] == ids[:20]
    assert [decision["decision_id"] for decision in told(folder, "--limit", "25")] == ids
    of_one = told(folder, "--user", "user-3", "--limit", "2")
    assert [decision["user_id"] for decision in of_one] == ["user-3"] * 2
    assert [decision["decision_id"] for decision in of_one] == ids[1::5][:2]
    assert {decision["reason"] for decision in told(folder, "--limit", "10")} == {"CAP_DAY"}


def test_people_get_a_table(house: House, folder: Path, shop: Shop) -> None:
    """When, who, why, what came of it, what was said, the first items, from which release."""
    buy(house)
    for _ in range(2):
        house.clock.now += 60.0
        buy(house, item="item-14")
    head, *rows = [" ".join(line.split()) for line in decisions(folder).stdout.splitlines()]
    assert head == "time (UTC) user cause outcome title items release"
    (push, second) = house.pushes("ann")
    items = [item.item.item_id for item in push.items]
    assert len(items) == 3
    assert rows[2] == f"2023-11-14 22:30:00 ann trigger:bought sent {push.title} {', '.join(items)} {shop.a}"
    assert rows[1].startswith(f"2023-11-14 22:31:00 ann trigger:bought sent {second.title} ")
    assert rows[0].startswith("2023-11-14 22:32:00 ann trigger:bought suppressed: CAP_DAY")


def test_a_shops_texts_are_neither_markup_nor_orders_to_the_terminal(house: House, folder: Path) -> None:
    """They are printed as they are, but for control characters; of many items the first three."""
    request = PushRequest("r1", "[red]ann[/]", "[bold]红\x1b[31m[/nothing]", 60.0, item_ids=tuple("abcde"))
    house.send(request).result(PATIENCE)
    said = " ".join(decisions(folder).stdout.split())
    assert "[red]ann[/] api sent [bold]红 [31m[/nothing] a, b, c and 2 more" in said
    assert told(folder)[0]["title"] == request.title


def test_without_any_decision_that_is_what_it_says(house: House, folder: Path) -> None:
    """To people; machines get no line."""
    assert decisions(folder).stdout == "no decision\n"
    assert decisions(folder, "--user", "ann").stdout == "no decision for ann\n"
    assert told(folder) == []


def test_it_reads_after_the_server_ended_or_died_and_leaves_the_files_as_they_are(
    house: House, folder: Path, tmp_path: Path
) -> None:
    """Also what stands in the write-ahead log alone, which a server that was killed leaves behind."""
    buy(house)
    want = told(folder)
    killed = tmp_path / "killed"
    shutil.copytree(folder, killed)
    assert (killed / f"{FILE}-wal").stat().st_size > 0
    (killed / f"{FILE}-shm").unlink()
    before = (killed / FILE).read_bytes(), (killed / f"{FILE}-wal").read_bytes()
    assert told(killed) == want
    assert ((killed / FILE).read_bytes(), (killed / f"{FILE}-wal").read_bytes()) == before
    house.store.close()
    assert not (folder / f"{FILE}-wal").exists()
    before_end = (folder / FILE).read_bytes()
    assert told(folder) == want
    assert (folder / FILE).read_bytes() == before_end


def test_a_damaged_record_is_named_and_the_others_are_told(house: House, folder: Path) -> None:
    """The command fails in the end, but not before it said all that can be read."""
    buy(house)
    (whole,) = house.entries()
    damaged = replace(whole, decision_id="damaged", push_id="other", offset=9, record=whole.record[:-3])
    house.write(lambda tx: tx.ledger.add(damaged))
    ended = decisions(folder, "--json")
    first, second = map(json.loads, ended.stdout.splitlines())
    assert ended.exit_code == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("tidings-server: damaged: the record of a decision is damaged: ")
    assert (first["decision_id"], "chosen" in first) == ("damaged", False)
    assert (second["decision_id"], "chosen" in second) == (whole.decision_id, True)
    assert "(its record is damaged)" in decisions(folder).stdout


def test_a_decision_without_a_record_is_told_by_its_entry(house: House, folder: Path) -> None:
    """Nothing is made up for what is not there."""
    house.write(lambda tx: tx.ledger.add(Entry("d", "ann", house.now, "suppressed", house.now, "api", "cap_day")))
    (decision,) = told(folder)
    assert (decision["decision_id"], decision["reason"], "chosen" in decision) == ("d", "cap_day", False)
    assert "suppressed: cap_day" in decisions(folder).stdout


def _garbage(file: Path) -> None:
    file.write_bytes(b"no database at all" * 500)


def _torn_page(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'decisions'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with file.open("r+b") as raw:
        raw.seek((page - 1) * size)
        raw.write(b"\xff" * size)


def _another_program(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE decisions (anything)")
    connection.close()


def _newer(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_garbage, "cannot be read: the database failed: file is not a database"),
        (_torn_page, "cannot be read: the database failed: database disk image is malformed"),
        (_another_program, "is a database of another program"),
        (_newer, "has tables of version 99"),
        (Path.unlink, "there is no"),
    ],
)
def test_a_database_that_cannot_be_read_is_one_line(
    house: House, folder: Path, spoil: Callable[[Path], None], why: str
) -> None:
    """Damaged, another program's, of a newer version, or missing: status 1, and what is wrong with which file."""
    buy(house)
    house.store.close()
    spoil(folder / FILE)
    assert why in fault(folder)
    assert why in fault(folder, "--json")


def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """Nothing is made by looking."""
    assert "there is no" in fault(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [("--limit", "0"), ("--limit", "many"), ("--limit", "99999999999999999999")])
def test_a_limit_that_cannot_be_is_refused(folder: Path, options: tuple[str, ...]) -> None:
    """Naming the option."""
    ended = decisions(folder, *options)
    assert ended.exit_code == 2
    assert "'--limit'" in ended.stderr


def test_the_servers_options_before_it_are_refused(folder: Path) -> None:
    """They would otherwise be passed over: another directory than the one named would be read."""
    ended = CliRunner().invoke(command, ["--state", str(folder), "decisions"])
    assert ended.exit_code == 2
    assert "give the options of decisions after it" in ended.stderr


TRIGGER = """
[trigger.bought]
event = "purchase"
serving_config = "goes-with"
template = "goes-with"
[template.goes-with]
title = "For your {% if because %}{{ because.title }}{% endif %}"
body = "{{ item.title }}"
"""


def test_beside_a_running_server_a_purchase_is_told_from_profile_to_push(shop: Shop, tmp_path: Path) -> None:
    """The profile that the token of the write asks for, and the record of the push, while the server goes on."""
    (tmp_path / "server.toml").write_text(TRIGGER)
    state = tmp_path / "state"
    with (
        start_server(shop.path, state, "--config", str(tmp_path / "server.toml")) as server,
        tidings.Client(server.address, timeout=10) as client,
    ):
        client.promote_release(shop.a)
        with client.subscribe("user-2") as pushes:
            recorded = client.record(tidings.Event("user-2", "purchase", items=["item-8"]))
            push = next(pushes)
        profile = client.get_profile("user-2", consistency_token=recorded.consistency_token)
        (decision,) = told(state, "--user", "user-2")
        assert client.record(tidings.Event("user-2", "view", items=["item-8"])).consistency_token
        with pytest.raises(tidings.NotFound):
            client.get_profile("user-3")
        with pytest.raises(tidings.InvalidArgument):
            client.get_profile("user-2", consistency_token="nonsense")
    assert [item.item_id for item in profile.bought_items] == ["item-8"]
    assert [(share.value, share.share) for share in profile.categories] == [("group-2", 1.0)]
    assert profile.known_to_release
    assert decision["push_id"] == push.push_id
    assert decision["release_id"] == shop.a
    assert [item["item_id"] for item in decision["chosen"]] == [item.item.item_id for item in push.items]
