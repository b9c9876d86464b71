"""A model that goes by order, from events through a release to the answers of a server."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import tidings
from tests.support.server import start_server
from tests.training.shop import make_events, write_events
from tests.training.world import LONG, SHORT, order_world
from tidings_core.encoder import encoded
from tidings_core.events import EVENT_TYPES
from tidings_core.release import ChangesHeld, open_release
from tidings_index_builder.build import build_release
from tidings_index_builder.fold import fold
from tidings_index_builder.model_dir import read_model, write_model
from tidings_index_builder.progress import silent
from tidings_training.cli import app
from tidings_training.contenders.contender import TrainingSet
from tidings_training.contenders.gru import learn_gru
from tidings_training.log import Log
from tidings_training.proof import metrics
from tidings_training.proof.compare import rank
from tidings_training.proof.served import serve_model
from tidings_training.questions import of_sessions
from tidings_training.trainer import Settings, Trainer

ITEMS = 60
CONFIG = """
[serving.next]
sources = [{name = "ann", k = 10}]
rerank = false
exclude_bought = false
diversity = false
"""


def shop() -> Log:
    """The planted order; what each looked at last they bought."""
    log = order_world(users=400)
    kinds = log.kinds.copy()
    last = len(log) - 1 - np.unique(log.users[::-1], return_index=True)[1]
    kinds[last] = EVENT_TYPES.index("purchase")
    return replace(log, kinds=kinds)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A releases directory with what a trainer made of the shop's events by the recurrent network."""
    folder = tmp_path_factory.mktemp("order")
    events = shop().liked()
    settings = Settings(retrieval="gru", factors=32)
    learned = Trainer(events, None, folder / "scratch", settings).model(float(events.times.max()))
    assert learned is not None
    write_model(folder / "model", learned, {})
    model = read_model(folder / "model")
    build_release(
        items=model.items, users=model.users, model=model, metric="inner_product", releases=folder / "releases",
        now=model.as_of, exact=True, report=False,
    )  # fmt: skip
    return folder / "releases"


def follows(client: tidings.Client, user_id: str, first: int, ago: float, pause: float) -> str:
    """What is recommended first to somebody who looked at an item and, after a short pause, at the next one."""
    now = datetime.now(UTC)
    times = [now - timedelta(seconds=ago + pause), now - timedelta(seconds=ago)]
    done = client.record(
        [
            tidings.Event(user_id, "view", [f"i{(first + at) % ITEMS:04}"], event_time=time)
            for at, time in enumerate(times)
        ]
    )
    answer = client.recommend(user_id, k=5, serving_config="next", consistency_token=done.consistency_token)
    return answer.items[0].item.item_id


def test_a_visitor_is_answered_by_the_order_and_the_pauses_of_what_they_just_did(
    releases: Path, tmp_path: Path
) -> None:
    """People the release has never seen look at two things: after a minute the item one further comes first, after
    forty days the one seven further."""
    (tmp_path / "server.toml").write_text(CONFIG)
    with (
        start_server(releases, tmp_path / "state", "--config", str(tmp_path / "server.toml")) as server,
        tidings.Client(server.address) as client,
    ):
        client.promote_release(client.list_releases()[0].release_id)
        firsts = range(0, ITEMS, 5)
        soon = [follows(client, f"soon-{first}", first, SHORT, SHORT) for first in firsts]
        late = [follows(client, f"late-{first}", first, LONG, SHORT) for first in firsts]
    assert sum(found == f"i{(first + 2) % ITEMS:04}" for found, first in zip(soon, firsts, strict=True)) >= 11
    assert sum(found == f"i{(first + 8) % ITEMS:04}" for found, first in zip(late, firsts, strict=True)) >= 11


def test_the_release_answers_what_the_model_answers(tmp_path: Path) -> None:
    """Asked through an index and `recommend`, each question at its own time, the lists are the network's."""
    log = order_world()
    held = log.users % 4 == 0
    train = log.where(~held)
    training = TrainingSet(train, float(log.times.max()), aged=False)
    asked = of_sessions(train, log.where(held), 0).where(np.arange(300))
    model = learn_gru(training, factors=32, hidden=48, passes=12, learning_rate=0.01)
    served = serve_model("gru", model, training, asked, (10,), True, tmp_path)
    own = rank(model, training, asked, 10, silent)
    assert (served.lists[:, 0] == own[:, 0]).mean() > 0.97
    mrr = metrics.METRICS.index("mrr")
    found = metrics.measure(metrics.hits(own, asked.wanted), np.ones(len(asked)), 10)[:, mrr]
    assert served.at[10][:, mrr].mean() == pytest.approx(found.mean(), abs=0.01)


def test_a_release_keeps_its_encoder_when_changes_are_folded_in(releases: Path, tmp_path: Path) -> None:
    """What is folded is read by the same encoder; vectors of another trainer have none."""
    (folder,) = releases.iterdir()
    before = open_release(folder)
    manifest = fold(folder, [], ChangesHeld("history", 1), tmp_path, before.manifest.created_at + 60)
    after = open_release(tmp_path / manifest.release_id)
    assert (before.manifest.encoded, after.manifest.encoded) == (True, True)
    rows, times = [np.array([3, 4], np.int32)], [np.array([0.0, SHORT])]
    np.testing.assert_allclose(
        encoded(rows, times, 2 * SHORT, after.snapshot), encoded(rows, times, 2 * SHORT, before.snapshot), atol=1e-5
    )
    model = read_model(folder.parent.parent / "model")
    other = replace(model.items, vectors=model.items.vectors * 2)
    manifest = build_release(
        items=other, users=model.users, model=model, metric="inner_product", releases=tmp_path, now=model.as_of,
        exact=True, report=False,
    )  # fmt: skip
    assert not manifest.encoded


def test_fit_takes_the_model_that_makes_the_embeddings(tmp_path: Path) -> None:
    """`--retrieval gru` leaves an encoder in the model, `bpr` vectors alone, and an unknown name is refused."""
    events = make_events(users=60, items=48)
    write_events(tmp_path / "events.parquet", events)
    for name, has in (("gru", True), ("bpr", False)):
        told = run("fit", "--events", tmp_path / "events.parquet", "--out", tmp_path / name, "--no-evaluate",
                   "--retrieval", name, "--factors", 8, "--json")  # fmt: skip
        assert told.exit_code == 0, told.stderr
        model = read_model(tmp_path / name)
        assert (model.encoder is not None, model.fold_in) == (has, None)
        assert model.lineage["settings"]["retrieval"] == name
    told = run("fit", "--events", tmp_path / "events.parquet", "--out", tmp_path / "x", "--retrieval", "rnn")
    assert told.exit_code == 1
    assert "there is no rnn; there are als, bpr, gru" in told.stderr


def run(*arguments: object) -> Result:
    """`tidings-train` in this process."""
    return CliRunner().invoke(app, [*map(str, arguments)])
