"""Controls on a running server: a changed file changes the next answers, and everything is told."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import tidings
from tests.support.server import RunningServer, start_server
from tests.support.world import make_world

PIN = '[control.hero]\nkind = "pin"\nitem_ids = ["item-299"]\n'
SETTINGS = """
controls = "{controls}"
record_share = 1.0
[trigger.bought]
event = "purchase"
serving_config = "goes-with"
template = "bought"
[template.bought]
title = "For you: {{{{ item.title }}}}"
"""


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run a `tidings-server` command to its end."""
    command = [sys.executable, "-m", "tidings_server", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def put(path: Path, text: str) -> None:
    """Replace a file, as an editor does."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, path)


def eventually(server: RunningServer, sample: str, value: float) -> None:
    """Wait until a metric has a value."""
    end = time.monotonic() + 20
    while server.metric(sample) != value:
        assert time.monotonic() < end, f"{sample} is {server.metric(sample)}, not {value}"
        time.sleep(0.05)


def test_a_changed_file_of_controls_changes_the_next_answers(tmp_path: Path) -> None:
    """Put in force while the server runs, kept on a fault, told by Explain and in the records, and previewed before."""
    controls, config = tmp_path / "controls.toml", tmp_path / "server.toml"
    releases, state = tmp_path / "releases", tmp_path / "state"
    release_id = make_world().write(releases).release_id
    controls.write_text("")
    config.write_text(SETTINGS.format(controls=controls))
    options = ["--config", str(config), "--releases", str(releases), "--state", str(state)]
    with start_server(releases, state, "--config", str(config)) as server, tidings.Client(server.address) as client:
        client.promote_release(release_id)
        plain = [item.item.item_id for item in client.recommend("user-7", k=5).items]
        assert "item-299" not in plain
        client.recommend("user-8", k=5)

        new = tmp_path / "new.toml"
        new.write_text(PIN)
        checked = run("controls", "check", str(new), *options)
        assert (checked.returncode, checked.stdout) == (0, f"1 control is fine ({release_id})\n")
        assert checked.stderr == ""
        misspelt = tmp_path / "misspelt.toml"
        misspelt.write_text(PIN.replace("item-299", "itme-299"))
        noted = run("controls", "check", str(misspelt), *options)
        assert noted.returncode == 0
        assert "note: control.hero.item_ids[0]: is 'itme-299', and the release has no such item" in noted.stderr
        eventually(server, 'tidings_recorded_answers_total{outcome="recorded"}', 2.0)
        previewed = run("controls", "preview", str(new), *options, "--json")
        assert previewed.returncode == 0, previewed.stderr
        found = json.loads(previewed.stdout)
        assert (found["release_id"], found["answers"], found["changed"]) == (release_id, 2, 2)
        by_user = {example["user_id"]: example for example in found["examples"]}
        assert by_user["user-7"]["before"] == plain
        table = run("controls", "preview", str(new), *options).stdout
        assert "2 of 2 recorded answers would change (100.0%)" in table

        put(controls, PIN)
        eventually(server, 'tidings_controls{state="fit"}', 1.0)
        pinned = client.recommend("user-7", k=5)
        assert [item.item.item_id for item in pinned.items] == by_user["user-7"]["after"]
        assert pinned.items[0].item.item_id == "item-299"
        assert "pinned" in [said.source for said in pinned.items[0].sources]

        put(controls, PIN + '[control.bad]\nkind = "boost"\n')
        eventually(server, "tidings_controls_refused", 1.0)
        assert client.recommend("user-7", k=1).items[0].item.item_id == "item-299"
        refused = next(line for line in server.logged() if "refused; the old ones stay" in line["event"])
        assert "control.bad.places" in refused["problem"]

        client.record(tidings.Event("ann", "purchase", items=["item-8"]))
        with client.subscribe("ann") as pushes:
            push = next(pushes)
        assert push.items[0].item.item_id == "item-299"

        put(controls, "")
        eventually(server, 'tidings_controls{state="fit"}', 0.0)
        assert [item.item.item_id for item in client.recommend("user-7", k=5).items] == plain
    printed = run("decisions", "--state", str(state), "--user", "ann", "--json").stdout
    (decision,) = [json.loads(line) for line in printed.splitlines()]
    assert [move["rule"] for move in decision["moves"]] == ["complements", "pin:hero"]
    assert decision["moves"][1]["items"]["item-299"][1] == 1


def test_a_control_on_what_the_release_lacks_is_refused_beforehand(tmp_path: Path) -> None:
    """By field, with what there is."""
    releases, state, controls = tmp_path / "releases", tmp_path / "state", tmp_path / "controls.toml"
    release_id = make_world().write(releases).release_id
    with start_server(releases, state) as server, tidings.Client(server.address) as client:
        client.promote_release(release_id)
    controls.write_text('[control.a]\nkind = "diversify"\nattribute = "colour"\nmax_per_value = 1\n')
    for command in ("check", "preview"):
        ran = run("controls", command, str(controls), "--releases", str(releases), "--state", str(state))
        assert ran.returncode == 1
        assert "control.a.attribute: is 'colour'" in ran.stderr


def test_without_a_release_only_the_file_is_checked(tmp_path: Path) -> None:
    """And a preview has nothing to compare with."""
    controls = tmp_path / "controls.toml"
    controls.write_text(PIN)
    where = ["--releases", str(tmp_path), "--state", str(tmp_path)]
    checked = run("controls", "check", str(controls), *where)
    assert "no release serves to check attributes against" in checked.stdout
    assert "no release serves" in run("controls", "preview", str(controls), *where).stderr
    bad = run("controls", "preview", str(controls), *where, "--at", "tomorrow")
    assert "at: is 'tomorrow', must be a time with a zone" in bad.stderr


def test_a_server_does_not_start_with_controls_it_cannot_read(tmp_path: Path) -> None:
    """--check-config says so too."""
    controls, config = tmp_path / "controls.toml", tmp_path / "server.toml"
    controls.write_text('[control.a]\nkind = "pin"\n')
    config.write_text(f'controls = "{controls}"\nreleases = "{tmp_path}"\nstate = "{tmp_path / "state"}"\n')
    for words in (["--config", str(config)], ["--config", str(config), "--check-config"]):
        ran = run(*words)
        assert ran.returncode == 1
        assert "control.a.item_ids: is missing: a pin needs it" in ran.stderr
