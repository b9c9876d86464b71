"""Erasing a person: gone from every file, answered like a stranger, kept from coming back; as a real server does it."""

import base64
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

import tidings
from tests.server.conftest import Shop
from tests.support.server import RunningServer, start_server
from tidings_server.adapters.sqlite_erasures import TABLES
from tidings_server.adapters.sqlite_store import SqliteStore

CONFIG = """
push_max_per_day = 50
record_share = 1.0

[trigger.bought]
event = "purchase"
serving_config = "goes-with"
template = "goes-with"
[template.goes-with]
title = "For you"
body = "{{ item.title }}"
"""
WHO = "user-7"
"""A user of the release, so that there is a vector to mask."""
SECRET = "Quetzalcoatl"
"""Stands in everything that this user does."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings with a trigger, and every answer recorded."""
    (tmp_path / "server.toml").write_text(CONFIG)
    return tmp_path / "server.toml"


@pytest.fixture
def server(shop: Shop, tmp_path: Path, config: Path) -> Iterator[RunningServer]:
    """A server with a release."""
    more = ("--config", str(config), "--log-level", "debug")
    with start_server(shop.path, tmp_path / "state", *more) as running:
        with tidings.Client(running.address, timeout=30) as client:
            client.promote_release(shop.a)
        yield running


def live(client: tidings.Client, user: str = WHO, word: str = SECRET) -> None:
    """Do all that leaves anything behind: events, attributes, tags, preferences, pushes, recorded answers."""
    events = [
        tidings.Event(user, "search", query=f"{word} {number}", event_id=f"{word}-s-{number}") for number in range(40)
    ]
    events += [tidings.Event(user, "view", [f"item-{number}"], event_id=f"{word}-v-{number}") for number in range(40)]
    events.append(tidings.Event(user, "purchase", ["item-8"], event_id=f"{word}-p"))
    token = client.record(events).consistency_token
    client.update_profile(user, {"city": word}, tags=[f"tag-{word}"], source=word, event_id=f"{word}-u")
    client.set_preferences(user, tidings.Preferences(topics={f"topic-{word}": False}), event_id=f"{word}-c")
    client.register_contact(user, tidings.Email(f"{word}@example.com"))
    client.recommend(user, query=word, consistency_token=token)
    client.send_push(user, f"To {word}", body=word, request_id=f"{word}-r")
    with client.subscribe(user, device_id=f"phone-{word}") as pushes:
        assert next(pushes).title
        assert next(pushes).title


def told(shop: Shop, server: RunningServer, *more: str) -> list[str]:
    """What `tidings-server erasures` prints, beside the running server."""
    state = server.log.with_name("state")
    words = [str(Path(sys.executable).with_name("tidings-server")), "erasures", "--releases", str(shop.path)]
    return subprocess.run(
        [*words, "--state", str(state), *more], capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()


def forms(text: str) -> dict[str, bytes]:
    """A text as it could stand in a file: plain, as UTF-16, in hex, and in base64 wherever it begins."""
    plain = text.encode()
    found = {
        "plain": plain,
        "utf-16": text.encode("utf-16-le"),
        "hex": plain.hex().encode(),
        "HEX": plain.hex().upper().encode(),
    }
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + plain)
        found[f"base64+{shift}"] = whole[(4 if shift else 0) : len(whole) - 4]
    return found


def traces(folder: Path, *texts: str) -> list[tuple[str, str, str]]:
    """The files below a folder in which a text stands in any form."""
    return [
        (str(file.relative_to(folder)), text, form)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        for content in [file.read_bytes()]
        for text in texts
        for form, wanted in forms(text).items()
        if wanted in content
    ]


def records(state: Path, user: str) -> list[bytes]:
    """The packed records of a user's decisions, in which nothing can be read without unpacking them."""
    with closing(sqlite3.connect(state / "tidings.db")) as database:
        return [record for (record,) in database.execute("SELECT record FROM decisions WHERE user_id = ?", (user,))]


def test_after_an_erasure_no_file_has_a_trace(server: RunningServer, tmp_path: Path) -> None:
    """Neither the database nor its log, neither free pages nor the server's own log, in no form."""
    state, other = tmp_path / "state", "Huitzilopochtli"
    with tidings.Client(server.address, timeout=30) as client:
        client.record([tidings.Event("someone-else", "view", ["item-1"], event_id="else")])
        live(client)
        live(client, "user-13", other)
        packed = records(state, WHO)
        assert len(packed) >= 3
        assert traces(state, SECRET, WHO)
        receipt = client.erase_profile(WHO)
        assert receipt.scrubbed
        assert (receipt.removed["documents"], receipt.removed["contacts"]) == (1, 1)
        assert receipt.removed["events"] >= 83
        assert receipt.removed["pushes"] >= 2
        assert receipt.removed["decisions"] == len(packed)
        assert (receipt.removed["ids"], receipt.due_release_ids) == (1, tuple(sorted(receipt.due_release_ids)))
        for when in ("running", "stopped"):
            assert traces(state, SECRET, WHO) == [], when
            assert traces(tmp_path / "state", other), when
            content = b"".join(file.read_bytes() for file in state.iterdir())
            assert not [record for record in packed if record[10:42] in content], when
            if when == "running":
                assert server.stop() == 0
        # The log of all that was done, at its most talkative, names nobody.
        assert [line["event"] for line in server.logged()].count("recommend") == 2
        assert not [word for word in (SECRET, other, WHO, "user-13", "someone-else") if word in server.log.read_text()]


def test_who_was_erased_is_a_stranger_and_stays_one(server: RunningServer, shop: Shop) -> None:
    """Answers, pushes, streams and events: nothing is used of what was known, and nothing is recorded any more."""
    with tidings.Client(server.address, timeout=30) as client:
        live(client)
        with client.subscribe(WHO, device_id="tablet") as pushes:
            receipt = client.erase_profile(WHO)
            with pytest.raises(tidings.TidingsError, match="erased"):
                list(pushes)
        assert client.erase_profile(WHO) == receipt
        stranger, answer = client.recommend("nobody"), client.recommend(WHO)
        assert [one.item.item_id for one in answer.items] == [one.item.item_id for one in stranger.items]
        assert [one.cause for one in answer.degraded] == ["erased"]
        (verdict,) = client.record(tidings.Event(WHO, "view", ["item-3"], event_id="late")).verdicts
        assert verdict.status is tidings.EventStatus.ERASED
        for call in (
            lambda: client.send_push(WHO, "Hello"),
            lambda: client.update_profile(WHO, {"city": "Rome"}),
            lambda: client.set_preferences(WHO, tidings.Preferences(channels={"email": False})),
            lambda: next(client.subscribe(WHO)),
            lambda: client.register_contact(WHO, tidings.Email("someone@example.com")),
        ):
            with pytest.raises(tidings.FailedPrecondition, match="erased"):
                call()
        for show in (lambda: client.get_profile(WHO), lambda: list(client.export_profile(WHO))):
            with pytest.raises(tidings.NotFound):
                show()
        everybody = client.find_audience(["item-1"], include_refused=True, limit=1000)
        assert WHO not in {member.user_id for page in everybody for member in page.members}
        assert receipt.due_release_ids == tuple(sorted((shop.a, shop.b, shop.c)))
        assert {one.release_id: one.erased_user_count for one in client.list_releases()} == dict.fromkeys(
            (shop.a, shop.b, shop.c), 1
        )
        # The server does not know who was erased, but who of a release was.
        assert told(shop, server, "--json") == [
            json.dumps({"release_id": name, "users": 60, "erased": 1}) for name in (shop.c, shop.b, shop.a)
        ]
        assert told(shop, server, "--ids", shop.a) == [WHO]


def test_an_erasure_outlives_a_restart_and_is_lifted_by_saying_so(
    server: RunningServer, shop: Shop, tmp_path: Path, config: Path
) -> None:
    """Somebody who comes back begins anew: what was done before is refused, and the vector stays masked."""
    with tidings.Client(server.address, timeout=30) as client:
        live(client)
        client.erase_profile(WHO)
    before = datetime.now(UTC)
    server.stop()
    with (
        start_server(shop.path, tmp_path / "state", "--config", str(config)) as again,
        tidings.Client(again.address, timeout=30) as client,
    ):
        (verdict,) = client.record(tidings.Event(WHO, "view", ["item-3"])).verdicts
        assert verdict.status is tidings.EventStatus.ERASED
        token = client.set_preferences(WHO, tidings.Preferences(), lift_erasure=True).consistency_token
        stranger = client.recommend("nobody")
        answer = client.recommend(WHO, consistency_token=token)
        assert [one.item.item_id for one in answer.items] == [one.item.item_id for one in stranger.items]
        done = client.record(
            [
                tidings.Event(WHO, "purchase", ["item-3"], event_id="new"),
                tidings.Event(WHO, "view", ["item-4"], event_time=datetime(2026, 1, 1, tzinfo=UTC), event_id="old"),
            ]
        )
        assert [one.status for one in done.verdicts] == ["accepted", "erased"]
        assert before <= datetime.now(UTC)
        profile = client.get_profile(WHO)
        assert ([one.item_id for one in profile.bought_items], profile.attributes, profile.searches) == (
            ["item-3"],
            (),
            (),
        )


def test_an_export_has_everything_and_says_when_it_is_whole(server: RunningServer) -> None:
    """Every event, push, decision and word, readable, ids in place of numbers; the last line counts them."""
    with tidings.Client(server.address, timeout=30) as client:
        live(client)
        lines = list(client.export_profile(WHO))
        kinds = [line["kind"] for line in lines]
        assert (kinds[0], kinds[1], kinds[-1]) == ("about", "document", "end")
        assert lines[-1]["counts"] == {kind: kinds.count(kind) for kind in set(kinds[1:-1])}
        assert {line.get("event_id") for line in lines if line["kind"] == "event"} >= {
            *(f"{SECRET}-v-{number}" for number in range(40)), f"{SECRET}-p", f"{SECRET}-u", f"{SECRET}-c",
        }  # fmt: skip
        (contact,) = (line["contact"] for line in lines if line["kind"] == "contact")
        assert contact == {"address": f"{SECRET}@example.com"}
        profile = lines[1]["profile"]
        assert [one["item_id"] for one in profile["bought"]] == ["item-8"]
        assert SECRET in json.dumps(profile["stated"])
        assert f"topic-{SECRET}" in json.dumps(profile["preferences"])
        assert {line["title"] for line in lines if line["kind"] == "push"} == {"For you", f"To {SECRET}"}
        states = [line["state"] for line in lines if line["kind"] == "decision"]
        assert {"answered", "delivered"} <= set(states)
        with pytest.raises(tidings.NotFound):
            list(client.export_profile("nobody"))


def test_erasing_is_asked_for_rightly(server: RunningServer) -> None:
    """An id with a line break is refused; one of whom nothing is known is erased all the same, and stays so."""
    with tidings.Client(server.address, timeout=30) as client:
        with pytest.raises(tidings.InvalidArgument, match="control character"):
            client.erase_profile("a\nb")
        assert client.erase_profile("unheard-of").removed["events"] == 0
        (verdict,) = client.record(tidings.Event("unheard-of", "view", ["item-3"])).verdicts
        assert verdict.status is tidings.EventStatus.ERASED
        with pytest.raises(tidings.InvalidArgument, match="is empty"):
            client.set_preferences("someone", tidings.Preferences())


def test_a_backup_that_is_put_back_brings_nobody_back(
    server: RunningServer, shop: Shop, tmp_path: Path, config: Path
) -> None:
    """Whoever was erased since it was made is erased from it, and stays so; everybody else is there."""
    state, backup = tmp_path / "state", tmp_path / "backup"
    keep = [str(Path(sys.executable).with_name("tidings-server"))]
    common = ["--state", str(state), "--releases", str(shop.path), "--json"]
    with tidings.Client(server.address, timeout=30) as client:
        live(client)
        live(client, "user-13", "Huitzilopochtli")
        subprocess.run([*keep, "backup", str(backup), *common], check=True, capture_output=True, timeout=60)
        client.erase_profile(WHO)
    server.stop()
    done = subprocess.run(
        [*keep, "restore", str(backup), *common, "--force"], check=True, capture_output=True, timeout=60
    )
    assert json.loads(done.stdout)["erased"] == 1
    assert traces(state, SECRET, WHO) == []
    with (
        start_server(shop.path, state, "--config", str(config)) as again,
        tidings.Client(again.address, timeout=30) as client,
    ):
        assert [one.item_id for one in client.get_profile("user-13").bought_items] == ["item-8"]
        (verdict,) = client.record(tidings.Event(WHO, "view", ["item-3"])).verdicts
        assert verdict.status is tidings.EventStatus.ERASED


def test_whatever_is_kept_by_user_is_erased(tmp_path: Path) -> None:
    """Every table of the database that has a user in it is one that an erasure goes through."""
    SqliteStore.open(tmp_path, lambda: 0).close()
    with closing(sqlite3.connect(tmp_path / "tidings.db")) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        about = {
            name
            for name in names
            for column in database.execute(f"PRAGMA table_info({name})")
            if column[1] == "user_id"
        }
    assert about == {*TABLES, "users", "contacts", "contact_keys"}


def test_a_person_is_erased_under_every_id(server: RunningServer, tmp_path: Path) -> None:
    """What was done as a visitor goes with the rest, whichever id is named; neither id comes back."""
    with tidings.Client(server.address, timeout=30) as client:
        live(client, "cookie-Huitzilopochtli", "Huitzilopochtli")
        live(client)
        client.merge_profiles("cookie-Huitzilopochtli", WHO)
        receipt = client.erase_profile("cookie-Huitzilopochtli")
        assert receipt.removed["ids"] == 2
        assert receipt.removed["events"] >= 2 * 83
        assert client.erase_profile(WHO).removed == receipt.removed
        assert traces(tmp_path / "state", SECRET, WHO, "Huitzilopochtli") == []
        for user in (WHO, "cookie-Huitzilopochtli"):
            (verdict,) = client.record(tidings.Event(user, "view", ["item-3"])).verdicts
            assert verdict.status is tidings.EventStatus.ERASED


def test_who_comes_back_is_found_by_what_they_do_since(server: RunningServer) -> None:
    """Not by the vector that the release has of them from before, which is nobody's any more."""

    def found(client: tidings.Client) -> dict[str, float]:
        pages = client.find_audience(["item-1"], include_refused=True, limit=1000)
        return {member.user_id: member.score for page in pages for member in page.members}

    with tidings.Client(server.address, timeout=30) as client:
        before = found(client)[WHO]
        client.erase_profile(WHO)
        client.set_preferences(WHO, tidings.Preferences(), lift_erasure=True)
        assert WHO not in found(client)
        token = client.record(tidings.Event(WHO, "purchase", ["item-3"])).consistency_token
        client.recommend(WHO, consistency_token=token)
        after = found(client)
        assert WHO in after
        assert after[WHO] != before


def test_a_reader_that_stays_delays_the_scrubbing_and_is_told_of(server: RunningServer, tmp_path: Path) -> None:
    """Such as a backup: everything is gone from the tables at once, and from the files when it has ended."""
    state = tmp_path / "state"
    with tidings.Client(server.address, timeout=60) as client:
        live(client)
        with closing(sqlite3.connect(state / "tidings.db", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM events").fetchone()
            receipt = client.erase_profile(WHO)
            assert (receipt.scrubbed, receipt.removed["documents"]) == (False, 1)
        assert client.erase_profile(WHO).scrubbed
        assert traces(state, SECRET, WHO) == []
