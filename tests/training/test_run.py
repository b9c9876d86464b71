import fcntl
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import tidings
from tests.support.server import start_server
from tests.training.shop import END, make_events, write_catalogue, write_events
from tests.training.world import as_log
from tidings_core.errors import InvalidInput
from tidings_core.features import DAY
from tidings_core.release import list_releases, open_release
from tidings_index_builder.progress import silent
from tidings_training.cli import app
from tidings_training.contenders.contender import TrainingSet
from tidings_training.events import Events
from tidings_training.proof.splits import Cut, split
from tidings_training.run.gate import people_of
from tidings_training.run.job import Ran, run
from tidings_training.run.settings import read_run
from tidings_training.run.steps import Steps

SPLIT = END - 28 * DAY
NOW = END + DAY
NAMES = ["check", "gate", "fit", "release"]


def shop(seed: int = 0) -> Events:
    """A small generated shop."""
    return make_events(users=120, items=72, seed=seed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with events, a catalogue and a run's configuration."""
    write_events(tmp_path / "events.parquet", shop())
    write_catalogue(tmp_path / "catalogue.parquet")
    configure(tmp_path)
    return tmp_path


def configure(folder: Path, **more: str) -> Path:
    """Write the configuration, with further TOML values; `gate` is a table of its own."""
    gate = more.pop("gate", "")
    lines = [
        'events = "events.parquet"', 'catalogue = "catalogue.parquet"', 'work = "work"', 'releases = "releases"',
        "factors = 8", "threads = 1",
        *(f"{name} = {value}" for name, value in more.items()), "[gate]", "least_questions = 30", gate,
    ]  # fmt: skip
    path = folder / "train.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def go(folder: Path, progress: Callable[..., None] = silent, now: float = NOW) -> Ran:
    """A run of the configuration in a folder."""
    return run(read_run(folder / "train.toml"), now, progress)


def resumed(ran: Ran) -> list[str]:
    """The steps that were done before."""
    return [step.name for step in ran.steps if step.resumed]


def test_a_run_proves_learns_and_builds_and_does_each_step_once(folder: Path) -> None:
    """A release is built from the model; the same again takes every step from before, and builds nothing anew."""
    first = go(folder)
    assert first.outcome == "built", first
    assert [step.name for step in first.steps] == NAMES
    assert first.gate is not None
    assert first.gate["ndcg"]["new"] > 2 * first.gate["ndcg"]["popularity"]
    assert all(step.peak_mb > 50 for step in first.steps)
    release = open_release(folder / "releases" / str(first.release_id))
    assert release.manifest.trained_until == END
    lineage = release.manifest.lineage["build"]["model"]["lineage"]
    assert lineage["gate"]["questions"] == first.gate["questions"]
    assert len(lineage["events"]["sha256"]) == 64
    again = go(folder, now=NOW + 5)
    assert (again.outcome, again.release_id, resumed(again)) == ("built", first.release_id, NAMES)
    assert len(list_releases(folder / "releases")) == 1


def test_a_run_that_is_ended_leaves_nothing_half_done_and_goes_on_where_it_was(folder: Path) -> None:
    """Ctrl-C while the model is learned: no model, no release; the next run takes up the steps before."""

    def ended(step: str, done: int = 0, total: int = 0) -> None:
        if step == "writing the model":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(folder, ended)
    assert not (folder / "work" / "model").exists()
    assert not (folder / "releases").exists()
    after = go(folder)
    assert (after.outcome, resumed(after)) == ("built", ["check", "gate"])


@pytest.mark.long
def test_other_inputs_are_other_steps(folder: Path) -> None:
    """Another setting of the model does what rests on it anew, and leaves the check; other events do all anew."""
    go(folder)
    configure(folder, iterations="3")
    assert resumed(go(folder, now=NOW + 1)) == ["check"]
    write_events(folder / "events.parquet", shop(1))
    assert resumed(go(folder, now=NOW + 2)) == []


def before(events: Events, end: float) -> Events:
    """The events up to a time."""
    return events.between(float("-inf"), end)


def spoilt(events: Events) -> Events:
    """The same with the purchases up to the split dealt out anew."""
    past = events.times <= SPLIT
    items = events.items.copy()
    items[past] = np.random.default_rng(0).permutation(events.items[past])
    return replace(events, items=items)


def serving_of(folder: Path, events: Events) -> str:
    """Build a release of these events to serve, and configure the run to beat it."""
    write_events(folder / "events.parquet", events)
    configure(folder, gate="least_gain = -1.0\nprotected = []")
    first = go(folder, now=NOW - 50 * DAY)
    assert first.outcome == "built", first
    configure(folder, serving=f'"releases/{first.release_id}"')
    return str(first.release_id)


def test_what_is_worse_than_what_serves_is_held_back_with_the_reason(folder: Path) -> None:
    """A log whose past was spoilt teaches nothing; the release of the sound one is better, and stays."""
    served = serving_of(folder, before(shop(), SPLIT))
    write_events(folder / "events.parquet", spoilt(shop()))
    ran = go(folder)
    assert ran.outcome == "held_back"
    assert ran.gate is not None
    assert ran.gate["against"] == served
    assert ran.gate["split"] == pytest.approx(SPLIT, abs=DAY)
    assert any("is needed" in reason for reason in ran.reasons)
    assert any("returning people are surely worse off" in reason for reason in ran.reasons)
    assert len(list_releases(folder / "releases")) == 1


@pytest.mark.long
def test_what_is_better_takes_its_place(folder: Path) -> None:
    """Learned from a sound log, the new model beats the release of a spoilt one, and is built."""
    served = serving_of(folder, before(spoilt(shop()), SPLIT))
    write_events(folder / "events.parquet", shop())
    configure(folder, serving=f'"releases/{served}"')
    ran = go(folder)
    assert ran.outcome == "built", ran.reasons
    assert ran.gate is not None
    assert ran.gate["gain"]["low"] > 0


def test_where_nothing_new_happened_nothing_is_proved(folder: Path) -> None:
    """A release that has seen all there is cannot be beaten on it: held back, or promoted where that is asked for."""
    served = serving_of(folder, shop())
    held = go(folder)
    assert held.outcome == "held_back"
    assert "nothing is proved" in held.reasons[0]
    configure(folder, serving=f'"releases/{served}"', gate='unproved = "promote"')
    assert go(folder, now=NOW + 1).outcome == "built"


@pytest.mark.long
def test_the_release_that_serves_is_asked_with_what_was_done_since(folder: Path) -> None:
    """What somebody bought after its training is in their history, as a server would have it."""
    served = serving_of(folder, before(shop(), SPLIT - 60 * DAY))
    parts = split(as_log(shop()), Cut(holdout_days=28))
    release = open_release(folder / "releases" / served)
    training = TrainingSet(parts.train, parts.as_of)
    people = people_of(parts.questions, training, release)
    later = parts.train.where(parts.train.times > release.manifest.trained_until)
    assert any(person is not None for person in people)
    for person, number in zip(people, parts.questions.people, strict=True):
        bought = set(later.items[later.users == number].tolist())
        if person is None:
            assert not bought
            continue
        rows = release.snapshot.items.find_many([parts.train.item_ids[item] for item in bought])
        assert set(rows[rows >= 0].tolist()) <= set(person.history.rows.tolist())


@pytest.mark.long
def test_a_model_is_promoted_on_a_real_server_and_must_beat_it_next_time(folder: Path) -> None:
    """The first run promotes; the next one, with nothing new, meets the release that serves, and is held back."""
    releases = folder / "releases"
    releases.mkdir()
    with start_server(releases, folder / "state") as server:
        configure(folder, server=f'"{server.address}"')
        first = go(folder)
        assert first.outcome == "promoted", first
        with tidings.Client(server.address) as client:
            assert client.recommend("u0001").release_id == first.release_id
        second = go(folder)
    assert second.outcome == "held_back"
    assert second.gate is not None
    assert second.gate["against"] == first.release_id
    unreachable = go(folder)
    assert unreachable.outcome == "failed"
    assert unreachable.error


def test_two_runs_do_not_meet(folder: Path) -> None:
    """While one is at work another one says so and does nothing; the exit status tells a scheduler."""
    (folder / "work").mkdir()
    with (folder / "work" / ".run.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        told = CliRunner().invoke(app, ["run", "--config", str(folder / "train.toml")])
    assert told.exit_code == 3
    assert json.loads(told.stdout)["outcome"] == "busy"


def test_faults_are_told_in_the_one_line(folder: Path) -> None:
    """Every wrong setting by name; a missing events file; each exits with 1 and a line of JSON."""
    configure(folder, factors_="3", keep="0", gate='k = 0\nunproved = "perhaps"')
    told = CliRunner().invoke(app, ["run", "--config", str(folder / "train.toml")])
    assert told.exit_code == 1
    error = json.loads(told.stdout)["error"]
    for field in ("factors_", "keep", "gate.k", "gate.unproved"):
        assert field in error
    with pytest.raises(InvalidInput):
        read_run(folder / "train.toml")
    configure(folder)
    (folder / "events.parquet").unlink()
    gone = CliRunner().invoke(app, ["run", "--config", str(folder / "train.toml")])
    assert gone.exit_code == 1
    assert "events.parquet" in json.loads(gone.stdout)["error"]


def test_a_step_that_cannot_be_read_or_fails_is_done_again(tmp_path: Path) -> None:
    """A torn file of a step counts as none; a step that failed left no file."""
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"count": len(made)}

    def fail() -> dict[str, Any]:
        raise OSError("disk full")

    assert Steps(tmp_path)("one", {}, make) == {"count": 1}
    assert Steps(tmp_path)("one", {}, make) == {"count": 1}
    (tmp_path / "one.json").write_text('{"key": ')
    assert Steps(tmp_path)("one", {}, make) == {"count": 2}
    assert Steps(tmp_path)("one", {}, make, lambda: False) == {"count": 3}
    with pytest.raises(OSError, match="disk full"):
        Steps(tmp_path)("two", {}, fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.json"]
