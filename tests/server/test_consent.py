"""The matrix of consent: every use of what is known of a person, in every state that the person can have asked for."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import tidings
from tests.server.conftest import Shop
from tests.support.server import RunningServer, start_server
from tidings_core.stored import Entry
from tidings_server.adapters.sqlite_ledger import read_ledger

CONFIG = """
[privacy]
min_audience = 0

[trigger.searched]
event = "search"
serving_config = "for-you"
template = "found"
[template.found]
title = "You searched for {{ query }}"
"""
PATIENCE = 30.0

Use = str
ALL = {"answer", "audience", "push", "asked_for", "profile", "export"}


@dataclass(frozen=True)
class State:
    """What a person said, and what may be done then. `minor`: they are young; `erased`: they asked to be gone."""

    consent: Mapping[str, bool | None]
    allowed: set[Use]
    minor: bool = False
    erased: bool = False


STATES: Mapping[str, State] = {
    "nothing said": State({}, ALL),
    "all granted": State({"profiling": True, "marketing": True, "training": True}, ALL),
    "no training": State({"training": False}, ALL - {"export"}),
    "no marketing": State({"marketing": False}, ALL - {"audience", "push"}),
    "no marketing, no training": State({"marketing": False, "training": False}, ALL - {"audience", "push", "export"}),
    "no profiling": State({"profiling": False}, {"push", "asked_for"}),
    "no profiling, no training": State({"profiling": False, "training": False}, {"push", "asked_for"}),
    "no profiling, no marketing": State({"profiling": False, "marketing": False}, {"asked_for"}),
    "nothing granted": State({"profiling": False, "marketing": False, "training": False}, {"asked_for"}),
    "taken back": State({"profiling": None, "marketing": None}, ALL),
    "a minor": State({}, ALL - {"audience", "push"}, minor=True),
    "erased": State({}, set(), erased=True),
}
USERS = {name: f"user-{at}" for at, name in enumerate(STATES)}


@pytest.fixture(scope="module")
def place(built_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, Path]]:
    """A server where everybody has done something, and then said what they want; with its state directory."""
    folder = tmp_path_factory.mktemp("consent")
    (folder / "server.toml").write_text(CONFIG)
    with start_server(built_shop.path, folder / "state", "--config", str(folder / "server.toml")) as server:
        with tidings.Client(server.address, timeout=30) as client:
            client.promote_release(built_shop.a)
            for name, state in STATES.items():
                user = USERS[name]
                client.record([tidings.Event(user, "view", [f"item-{number}"]) for number in (3, 9, 15)])
                if name == "taken back":
                    client.set_preferences(user, tidings.Preferences(consent={"profiling": False, "marketing": False}))
                if state.consent:
                    client.set_preferences(user, tidings.Preferences(consent=state.consent))
                if state.minor:
                    born = date.today() - timedelta(days=16 * 365)
                    client.update_profile(user, {"birth_date": born.isoformat()})
                if state.erased:
                    client.erase_profile(user)
        yield server, folder / "state"


def answer(client: tidings.Client, user: str, _: Path) -> bool:
    """Recommend, BatchRecommend and Explain agree; whether they went by what is known. If not, they say so."""
    stranger = [one.item.item_id for one in client.recommend("nobody").items]
    question = tidings.RecommendQuery(user)
    (batched,) = client.batch_recommend([question])
    single, told = client.recommend(user), client.explain(question)
    given = [[one.item.item_id for one in made.items] for made in (single, batched)]
    given.append([one.item_id for one in told.items])
    causes = [tuple(str(one.cause) for one in made.degraded) for made in (single, batched, told)]
    assert given[0] == given[1] == given[2]
    assert len(set(causes)) == 1
    if causes[0]:
        assert causes[0] in (("no_consent",), ("erased",))
        assert given[0] == stranger
    else:
        assert given[0] != stranger
    return not causes[0]


def audience(client: tidings.Client, user: str, _: Path) -> bool:
    """Whether FindAudience names the user among all."""
    pages = client.find_audience(["item-1", "item-2"], include_refused=True, limit=10_000)
    return user in {member.user_id for page in pages for member in page.members}


def push(client: tidings.Client, user: str, state: Path) -> bool:
    """Whether a trigger and SendPush reach the user with marketing; what is not sent says why in the ledger."""
    status = client.record(tidings.Event(user, "search", query="thing")).verdicts[0].status
    try:
        sent = client.send_push(user, "Have a look")
    except tidings.FailedPrecondition:
        assert status is tidings.EventStatus.ERASED
        assert read_ledger(state, user, 10) == []
        return False
    entries = until(lambda: [one for one in read_ledger(state, user, 10) if one.cause == "trigger:searched"])
    assert len(entries) == 1
    if sent.decision is tidings.PushDecision.SENT:
        assert entries[0].push_id
        return True
    assert entries[0].reason.lower() == sent.reason in ("no_consent", "minor")
    return False


def asked_for(client: tidings.Client, user: str, _: Path) -> bool:
    """Whether word of an order reaches the user."""
    try:
        return client.send_push(user, "Your order", asked_for=True).decision is tidings.PushDecision.SENT
    except tidings.FailedPrecondition:
        return False


def profile(client: tidings.Client, user: str, _: Path) -> bool:
    """Whether what the user does now becomes part of the profile; if not, the log flags it and trends ignore it."""
    (verdict,) = client.record(tidings.Event(user, "view", ["item-77"])).verdicts
    if verdict.status is tidings.EventStatus.ERASED:
        return False
    seen = {item for event in client.get_profile(user).recent_events for item in event.item_ids}
    events = [line for line in client.export_profile(user) if line["kind"] == "event" and line.get("items")]
    (flags,) = {line["flags"] for line in events if line["items"][0]["item_id"] == "item-77"}
    assert (flags == 0) == ("item-77" in seen)
    return flags == 0


def export(_: tidings.Client, user: str, state: Path) -> bool:
    """Whether what may be learned from has anything that the user did."""
    return user in exported(state)


@cache
def exported(state: Path) -> frozenset[str]:
    """The users in an export of all events, made beside the running server."""
    out, config = state.with_name("export"), state.with_name("server.toml")
    words = [str(Path(sys.executable).with_name("tidings-server")), "export", "events", "--out", str(out)]
    words += ["--state", str(state), "--config", str(config), "--json"]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    tables = [pq.read_table(file, columns=["user_id"]) for file in out.glob("*.parquet")]
    return frozenset(user for table in tables for user in table["user_id"].to_pylist())


CHECKS: Mapping[Use, Callable[[tidings.Client, str, Path], bool]] = {
    "answer": answer,
    "audience": audience,
    "push": push,
    "asked_for": asked_for,
    "profile": profile,
    "export": export,
}


@pytest.mark.parametrize("use", CHECKS)
@pytest.mark.parametrize("state", STATES)
def test_a_use_is_made_just_when_it_may_be(place: tuple[RunningServer, Path], state: str, use: Use) -> None:
    """For each state of consent and each use: it happens, or it does not and says why."""
    server, folder = place
    with tidings.Client(server.address, timeout=30) as client:
        assert CHECKS[use](client, USERS[state], folder) == (use in STATES[state].allowed)


def until(look: Callable[[], list[Entry]]) -> list[Entry]:
    """What there is, as soon as there is anything."""
    end = time.monotonic() + PATIENCE
    while not (found := look()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


def test_where_people_must_opt_in_silence_is_no_consent(built_shop: Shop, tmp_path: Path) -> None:
    """Of whom the release knows something, and nobody has said anything: nothing of it is used until they say so."""
    silent, willing = "user-1", "user-7"
    config = "[privacy]\nprofiling = false\nmarketing = false\n" + CONFIG.replace("[privacy]\n", "", 1).lstrip()
    (tmp_path / "server.toml").write_text(config)
    state = tmp_path / "state"
    with (
        start_server(built_shop.path, state, "--config", str(tmp_path / "server.toml")) as server,
        tidings.Client(server.address, timeout=30) as client,
    ):
        client.promote_release(built_shop.a)
        assert not answer(client, silent, state)
        assert not audience(client, silent, state)
        assert client.send_push(silent, "Have a look").reason is tidings.SuppressReason.NO_CONSENT
        client.set_preferences(willing, tidings.Preferences(consent={"profiling": True, "marketing": True}))
        assert answer(client, willing, state)
        assert audience(client, willing, state)
        assert client.send_push(willing, "Have a look").decision is tidings.PushDecision.SENT
        client.record(tidings.Event(silent, "view", ["item-1"]))
        assert {line["flags"] for line in client.export_profile(silent) if line["kind"] == "event"} == {16}
