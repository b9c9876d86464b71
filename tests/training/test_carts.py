"""Held-out orders: what is named of the rest of a cart."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.training.shop import DAYS, END, START, as_events, write_catalogue, write_events
from tidings_core.errors import InvalidInput
from tidings_core.features import DAY
from tidings_training.carts import CartEvaluation, evaluate_carts
from tidings_training.cli import app
from tidings_training.complements import orders_of
from tidings_training.events import Events
from tidings_training.trainer import Settings, Trainer

SETS, SIZE = 24, 4


def shop(orders: int = 900, shuffled: bool = False) -> Events:
    """Orders of three of the four items of a set, each customer ordering of any set at any time."""
    rng = np.random.default_rng(0)
    times = np.sort(np.round(START + rng.random(orders) * DAYS * DAY))
    times[-1] = END
    items = rng.integers(0, SETS, orders)[:, None] * SIZE + rng.random((orders, SIZE)).argsort(axis=1)[:, :3]
    if shuffled:
        items = rng.permutation(items.ravel()).reshape(items.shape)
    users = rng.integers(0, 200, orders)
    return as_events(np.repeat(users, 3), items.ravel(), np.repeat(times, 3))


def measured(events: Events, folder: Path) -> CartEvaluation:
    """What is measured on the last 28 days."""
    return evaluate_carts(Trainer(events, None, folder, Settings(factors=8)), END, 28.0)


def test_what_is_bought_together_is_named_before_what_is_popular(tmp_path: Path) -> None:
    """Where orders hold sets, a cart of one item of a set names the others."""
    found = measured(shop(), tmp_path)
    assert found.means["complement"]["recall"] > 0.95
    assert found.means["complement"]["ndcg"] > found.means["similar"]["ndcg"]
    assert found.means["cart"]["recall"] >= found.means["complement"]["recall"]
    assert found.means["popularity"]["recall"] < 0.5
    assert found.evaluated == found.orders
    # Three items each, of which half, one, is shown.
    assert found.to_find == 2 * found.evaluated
    gain = next(d for d in found.differences if (d.of, d.to, d.metric) == ("cart", "popularity", "recall"))
    assert gain.low > 0.3


def test_without_structure_nothing_is_claimed(tmp_path: Path) -> None:
    """Orders dealt at random: no contender is far from popularity."""
    found = measured(shop(shuffled=True), tmp_path)
    assert abs(found.means["cart"]["recall"] - found.means["popularity"]["recall"]) < 0.1


def test_nothing_to_compare_on_is_refused(tmp_path: Path) -> None:
    """Orders of single items only: told with the way out."""
    events = as_events(np.arange(50) % 7, np.arange(50) % 9, START + np.arange(50.0) * DAY)
    with pytest.raises(InvalidInput, match="no order of two known items"):
        evaluate_carts(Trainer(events, None, tmp_path, Settings(factors=8)), START + 49 * DAY, 10.0)


def test_an_order_is_what_one_user_bought_at_one_time() -> None:
    """Two users at one time are two orders, one user at two times too; an item stands in an order once."""
    events = as_events(np.array([0, 0, 1, 0, 0]), np.array([5, 6, 5, 6, 6]), np.array([1.0, 1.0, 1.0, 2.0, 2.0]))
    starts, items = orders_of(events)
    assert [part.tolist() for part in np.split(items, starts[1:])] == [[0, 1], [1], [0]]


def test_the_command_prints_a_table_or_one_json_object(tmp_path: Path) -> None:
    """For people and for machines, and it writes nothing."""
    events = write_events(tmp_path / "events.parquet", shop(400))
    words = ["carts", "--events", str(events), "--threads", "1"]
    ran = CliRunner().invoke(app, [*words, "--json"])
    assert ran.exit_code == 0, ran.output
    assert set(json.loads(ran.stdout)["means"]) >= {"cart", "complement", "similar", "popularity"}
    catalogue = write_catalogue(tmp_path / "catalogue.parquet", SETS * SIZE)
    table = CliRunner().invoke(app, [*words, "--catalogue", str(catalogue)])
    assert "orders evaluated" in " ".join(table.stdout.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalogue.parquet", "events.parquet"]
    bad = CliRunner().invoke(app, [*words, "--holdout-days", "0"])
    assert bad.exit_code != 0
