"""The client's words for preferences, export and erasure, sync, asyncio and on the command line, at a real server."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import tidings
from tests.server.conftest import Shop
from tests.support.server import RunningServer, start_server
from tidings import __main__ as command
from tidings_core.errors import InvalidInput
from tidings_server.settings import load

WEEKEND = tidings.QuietHours(
    "Europe/Berlin", (tidings.QuietSpan("sat", "22:00", "10:00"), tidings.QuietSpan("sun", "00:00", "24:00"))
)


@pytest.fixture(scope="module")
def server(front: str, built_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without any settings, on each front."""
    state = tmp_path_factory.mktemp("privacy") / "state"
    with start_server(built_shop.path, state, "--front", front) as running:
        yield running


def run(server: RunningServer, *words: str) -> int:
    """Run `tidings`."""
    return command.main([*words, "--server", server.address, "--timeout", "30"])


def test_what_is_said_is_what_is_shown(server: RunningServer) -> None:
    """Every part; what a later call does not name stays, and what is taken back is not shown."""
    with tidings.Client(server.address, timeout=30) as client:
        said = tidings.Preferences(
            channels={"email": False, "stream": True},
            topics={"sale": False, "新品": True},
            consent={"training": False},
            quiet_hours=WEEKEND,
            max_per_day=0,
        )
        client.record(tidings.Event("ann", "view", ["item-1"]))
        first = client.set_preferences("ann", said, event_id="one")
        assert not first.duplicate
        assert client.set_preferences("ann", tidings.Preferences(max_per_day=9), event_id="one").duplicate
        assert client.get_profile("ann", consistency_token=first.consistency_token).preferences == said
        client.set_preferences(
            "ann",
            tidings.Preferences(topics={"sale": None}, quiet_hours=tidings.QuietHours(), max_per_day=-1),
        )
        assert client.get_profile("ann").preferences == tidings.Preferences(
            channels={"email": False, "stream": True}, topics={"新品": True}, consent={"training": False}
        )


def test_what_was_said_by_somebody_who_did_nothing_yet_is_shown(server: RunningServer) -> None:
    """A refusal may be all that there is of a person, who wants to see that it stands."""
    with tidings.Client(server.address, timeout=30) as client:
        said = tidings.Preferences(consent={"profiling": False})
        client.set_preferences("newcomer", said)
        assert client.get_profile("newcomer").preferences == said


def test_asyncio_says_exports_and_erases_too(server: RunningServer) -> None:
    """The same calls, awaited."""

    async def journey() -> tuple[list[str], tidings.ErasureReceipt]:
        async with tidings.aio.Client(server.address, timeout=30) as client:
            await client.set_preferences("aio", tidings.Preferences(consent={"marketing": False}))
            kinds = [line["kind"] async for line in client.export_profile("aio")]
            return kinds, await client.erase_profile("aio")

    kinds, receipt = asyncio.run(journey())
    assert kinds == ["about", "document", "event", "end"]
    assert (receipt.removed["events"], receipt.scrubbed) == (1, True)


def test_the_command_line_says_exports_and_erases(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Choices as NAME=yes|no|default, quiet hours as a zone and times; an erasure wants to be meant."""
    assert run(server, "record", "bob", "view", "item-1") == 0
    said = ["--channel", "email=no", "--consent", "profiling=yes", "--topic", "sale=no", "--max-per-day", "2"]
    assert run(server, "set-preferences", "bob", *said, "--quiet", "Asia/Shanghai", "daily=22:00-08:00") == 0
    capsys.readouterr()
    assert run(server, "profile", "bob", "--json") == 0
    shown = json.loads(capsys.readouterr().out)["preferences"]
    assert (shown["channels"], shown["topics"], shown["max_per_day"]) == ({"email": False}, {"sale": False}, 2)
    assert len(shown["quiet_hours"]["spans"]) == 7
    assert run(server, "export-profile", "bob") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["kind"] for line in lines] == ["about", "document", "event", "event", "end"]
    with pytest.raises(SystemExit):
        run(server, "erase-profile", "bob")
    assert run(server, "erase-profile", "bob", "--yes") == 0
    assert "2 events" in capsys.readouterr().out
    assert run(server, "set-preferences", "bob", "--channel", "email=yes") == 1
    assert run(server, "set-preferences", "bob", "--lift-erasure", "--channel", "email=yes") == 0
    with pytest.raises(SystemExit):
        run(server, "set-preferences", "bob", "--channel", "email=perhaps")


def test_all_that_is_wrong_is_named_at_once(server: RunningServer) -> None:
    """By the client what cannot be sent, by the server what cannot be meant; nothing is half done."""
    with tidings.Client(server.address, timeout=30) as client:
        clock, day = tidings.QuietSpan("mon", "9", "10:00"), tidings.QuietSpan("day", "09:00", "10:00")
        for said, named in (
            (tidings.Preferences(channels={"pigeon": True}), "channels"),
            (tidings.Preferences(quiet_hours=tidings.QuietHours("UTC", (clock,))), "start"),
            (tidings.Preferences(quiet_hours=tidings.QuietHours("UTC", (day,))), "weekday"),
        ):
            with pytest.raises(tidings.InvalidArgument, match=named):
                client.set_preferences("cleo", said)
        night = tidings.QuietHours("Mars/Olympus", (tidings.QuietSpan("mon", "24:00", "00:00"),))
        wrong = tidings.Preferences(topics={"a\nb": False, "": True}, max_per_day=-2, quiet_hours=night)
        with pytest.raises(tidings.InvalidArgument) as refused:
            client.set_preferences("cleo", wrong)
        fields = {field for field, _ in refused.value.fields}
        assert {"preferences.max_per_day", "preferences.quiet_hours.time_zone"} <= fields
        assert {"preferences.quiet_hours.spans[0].start", "preferences.quiet_hours.spans[0].end"} <= fields
        assert len([field for field in fields if field.startswith("preferences.topics")]) == 2
        many = tidings.Preferences(topics={f"topic {number}": False for number in range(501)})
        with pytest.raises(tidings.InvalidArgument, match="has 501 entries, may have 500 at most"):
            client.set_preferences("cleo", many)
        with pytest.raises(tidings.NotFound):
            list(client.export_profile("cleo"))


def test_settings_of_privacy_and_retention_are_checked(tmp_path: Path) -> None:
    """All faults at once, with what is known; ages are days or hours."""
    config = tmp_path / "server.toml"
    config.write_text(
        '[privacy]\nmin_audience = -1\nprofilng = true\n[retention]\nview = "90"\nreturn = "2d"\nlook = "1d"\n'
    )
    with pytest.raises(InvalidInput) as refused:
        load(config, {})
    found = dict(refused.value.violations)
    assert set(found) == {"privacy.min_audience", "privacy.profilng", "retention.view", "retention.look"}
    assert "known are profiling, marketing, training" in found["privacy.profilng"]
    assert '"90d" or "12h"' in found["retention.view"]
    config.write_text('[privacy]\nprofiling = false\n[retention]\nview = "90d"\nreturn = "36h"\nanswers = "1d"\n')
    settings = load(config, {})
    assert settings.privacy.rules.consent == {"profiling": False, "marketing": True, "training": True}
    retention = settings.retention.retention
    assert (retention.events, retention.answers) == ({"view": 90 * 86_400_000, "return": 36 * 3_600_000}, 86_400_000)
