"""Training sees what the server saw: on the real shop, features replayed at a time are those that were served then."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import tidings
from tests.support.server import start_server
from tidings_core.model import Query, Snapshot
from tidings_core.recommend import retrieve
from tidings_core.release import open_release
from tidings_core.subjects import resolve
from tidings_index_builder.build import build_release
from tidings_index_builder.model_dir import read_model
from tidings_server.adapters.sqlite_ledger import read_ledger
from tidings_server.application.decision_record import read_record
from tidings_server.cli import command
from tidings_training.event_files import read_log
from tidings_training.fit import fit
from tidings_training.replay import Replay
from tidings_training.trainer import SERVING, Settings

SHOP = Path(__file__).parents[2] / "examples" / "online_retail" / "online_retail.parquet"
ROWS = 30_000
ASKED = 60


class Moved:
    """Lines of Online Retail, moved so that the 85th of a hundred was a minute ago; learned from up to the 70th."""

    def __init__(self, folder: Path) -> None:
        table = pq.read_table(SHOP).slice(0, ROWS)
        table = table.filter(pc.is_valid(table["customer_id"])).sort_by("invoice_date")
        # Two weeks are stretched over five months: a ranker learns from windows of two weeks.
        seconds = np.asarray(table["invoice_date"].cast(pa.int64()).to_numpy()) // 1000 * 10
        self.now = int(time.time()) - 60
        seconds = seconds + (self.now - int(np.quantile(seconds, 0.85, method="lower")))
        self.cut = float(np.quantile(seconds, 0.7, method="lower"))
        kinds = np.where(np.asarray(table["quantity"]) > 0, "purchase", "return")
        self.users = [str(user) for user in table["customer_id"].to_pylist()]
        self.items, self.seconds, self.kinds = table["stock_code"].to_pylist(), seconds.tolist(), kinds.tolist()
        self.file = folder / "events.parquet"
        columns = {"user_id": self.users, "item_id": self.items, "timestamp": seconds, "event_type": kinds}
        pq.write_table(pa.table(columns), self.file)

    def orders(self) -> Iterator[tidings.Event]:
        """What was done by now, an event for the lines of a user, a time and a type."""
        lines = sorted(zip(self.users, self.seconds, self.kinds, self.items, strict=True))
        for (user, second, kind), group in groupby(lines, lambda line: line[:3]):
            if second <= self.now:
                items = [item for *_, item in group]
                yield tidings.Event(
                    user,
                    kind,
                    items,
                    event_time=datetime.fromtimestamp(second, UTC),
                    event_id=f"{user}-{second}-{kind}",
                )


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Moved:
    """The lines, in a file."""
    return Moved(tmp_path_factory.mktemp("moved"))


def test_features_replayed_at_a_time_are_those_that_the_server_served_then(moved: Moved, tmp_path: Path) -> None:
    """Of the user and of each item together, to 1e-5, for people known and unknown to the release.

    The file that is replayed goes on after that time, the server's log does not: nothing of later is seen.
    """
    fitted = fit(
        moved.file,
        None,
        tmp_path / "model",
        until=moved.cut,
        holdout_days=None,
        settings=Settings(factors=8, iterations=2),
    )
    assert set(fitted.model.spreads) != set()
    model = read_model(tmp_path / "model")
    manifest = build_release(
        items=model.items,
        users=model.users,
        catalogue=None,
        model=model,
        metric="inner_product",
        releases=tmp_path / "releases",
        now=time.time(),
        seed=0,
        threads=1,
        exact=True,
        report=False,
    )
    snapshot = open_release(tmp_path / "releases" / manifest.release_id).snapshot
    (tmp_path / "server.toml").write_text("record_share = 1.0\n")
    options = ("--config", str(tmp_path / "server.toml"))
    people = sorted({user for user, second in zip(moved.users, moved.seconds, strict=True) if second <= moved.now})
    asked = [people[at] for at in np.linspace(0, len(people) - 1, ASKED).astype(int)]
    with start_server(tmp_path / "releases", tmp_path / "state", *options) as running:
        with tidings.Client(running.address, timeout=30.0) as client:
            client.promote_release(manifest.release_id)
            assert client.import_events("orders", moved.orders()).rejected == 0
            for user in asked:
                client.recommend(user, k=10)
        running.stop()
    records = [read_record(entry.record) for entry in read_ledger(tmp_path / "state", "", 1000)]
    assert sorted({record["user_id"] for record in records}) == sorted(set(asked))
    replay = Replay(read_log(moved.file))
    seen = [_compare(record, replay, moved.now, snapshot) for record in records]
    assert sum(seen) > 5 * ASKED
    known = snapshot.users.find_many(asked)
    assert (known >= 0).any()
    assert (known < 0).any()


def _compare(record: dict[str, "object"], replay: Replay, as_of: float, snapshot: Snapshot) -> int:
    """Hold the features of a record against those that are replayed; how many items were compared."""
    user, features = str(record["user_id"]), record["features"]
    assert isinstance(features, dict)
    (person,) = replay.people([user], as_of, snapshot)
    now = float(str(record["time"])) / 1000
    subjects, _ = resolve([Query(user, SERVING, 10, person=person)], SERVING, snapshot, now)
    ranking, _ = retrieve(subjects, SERVING, snapshot)
    np.testing.assert_allclose(ranking.user[0], features["user"], atol=1e-5)
    candidates = record["candidates"]
    assert isinstance(candidates, dict)
    rows = ranking.candidates.rows[0].tolist()
    served = candidates["item_ids"][: len(features["pair"])]
    for row, of_item, of_pair in zip(
        snapshot.items.find_many(served).tolist(), features["item"], features["pair"], strict=True
    ):
        np.testing.assert_allclose(ranking.candidate[0, rows.index(row)], of_pair, atol=1e-5)
        np.testing.assert_allclose(snapshot.item_features[row], of_item, atol=1e-5)
    return len(served)


def test_training_reads_what_a_live_server_exported(moved: Moved, tmp_path: Path) -> None:
    """The same events as in the shop's own file, and the same model learned from them."""
    (tmp_path / "releases").mkdir()
    with start_server(tmp_path / "releases", tmp_path / "state") as running:
        with tidings.Client(running.address, timeout=30.0) as client:
            assert client.import_events("orders", moved.orders()).rejected == 0
        out = tmp_path / "export"
        ran = CliRunner().invoke(command, ["export", "events", "--out", str(out), "--state", str(tmp_path / "state")])
        assert ran.exit_code == 0, ran.output
    exported, own = read_log(out), read_log(moved.file, until=moved.now)
    assert (exported.user_ids, exported.item_ids) == (own.user_ids, own.item_ids)
    # Lines of one order that name an item twice are told once each, as the shop told them.
    np.testing.assert_array_equal(exported.times, own.times)
    np.testing.assert_array_equal(exported.items, own.items)
    settings = Settings(factors=4, iterations=1)
    made = fit(out, None, tmp_path / "model", holdout_days=None, settings=settings).model
    again = fit(moved.file, None, tmp_path / "own", until=moved.now, holdout_days=None, settings=settings).model
    np.testing.assert_allclose(made.item_vectors, again.item_vectors, atol=1e-6)
    assert made.ranker is not None
