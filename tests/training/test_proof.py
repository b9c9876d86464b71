import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from tests.training.shop import END, START, make_events, write_catalogue, write_events
from tests.training.world import rated_world, taste_world
from tidings_core.errors import InvalidInput
from tidings_training.cli import app
from tidings_training.contenders.contender import TrainingSet
from tidings_training.proof.command import read_config
from tidings_training.proof.compare import choose
from tidings_training.proof.prove import Plan, as_json, prove
from tidings_training.proof.search import search
from tidings_training.proof.splits import Cut, split

SMALL = {"als": {"factors": 16}, "bpr": {"factors": 16}}


def run(*arguments: object) -> Result:
    """`tidings-train evaluate` in this process."""
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events and catalogue of the generated shop."""
    folder = tmp_path_factory.mktemp("shop")
    write_events(folder / "events.parquet", make_events())
    write_catalogue(folder / "catalogue.parquet")
    return folder


@pytest.fixture(scope="module")
def found(shop: Path) -> dict[str, Any]:
    """What a whole evaluation of the shop prints, its report beside the events."""
    told = run(
        "--events", shop / "events.parquet", "--catalogue", shop / "catalogue.parquet", "--ablation", "--json",
        "--models", "item-knn,ease,als,bpr,for-you", "--k", "5,10", "--report", shop / "report.html",
    )  # fmt: skip
    assert told.exit_code == 0, told.stderr
    loaded: dict[str, Any] = json.loads(told.stdout)
    return loaded


def ndcg(found: dict[str, Any], name: str, k: int = 10) -> float:
    """NDCG@k of a model."""
    return float(found["models"][name]["at"][str(k)]["ndcg"])


def test_an_evaluation_finds_the_planted_taste_and_is_sure_of_it(found: dict[str, Any]) -> None:
    """Every personal model beats popularity, and the interval of its gain lies above 0."""
    gains = {d["of"]: d for d in found["differences"] if d["to"] == "popularity" and d["metric"] == "ndcg"}
    for name in ("item-knn", "ease", "als", "bpr", "for-you"):
        assert ndcg(found, name) > 2 * ndcg(found, "popularity")
        assert gains[name]["low"] > 0


def test_a_model_of_vectors_is_served_as_it_was_learned(found: dict[str, Any]) -> None:
    """Through a real release and `recommend` the lists are those of the model itself, but for what the index misses."""
    for name in ("als", "bpr"):
        served = found["models"][f"{name} served"]
        assert served["same_lists"] > 0.9
        assert served["index_recall"] >= 0.95
        assert ndcg(found, f"{name} served") == pytest.approx(ndcg(found, name), rel=0.02)


def test_the_pipeline_is_asked_without_each_of_its_parts(found: dict[str, Any]) -> None:
    """Ranker, diversity and every source that the release has are left out in turn."""
    assert {name.removeprefix("for-you, no ") for name in found["models"] if name.startswith("for-you, ")} >= {
        "ranker",
        "diversity",
        "ann",
        "similar",
        "trending",
    }


def test_slices_tell_people_and_items_apart(found: dict[str, Any]) -> None:
    """Returning people are all of the questions; each category stands as a slice of its own."""
    slices = {one["name"]: one for one in found["slices"]}
    assert slices["returning people"]["questions"] == found["questions"]
    assert slices["returning people"]["means"]["ease"]["ndcg"] == pytest.approx(ndcg(found, "ease"))
    assert sum(name.startswith("category group") for name in slices) == 6
    past = [slices[name]["questions"] for name in ("little past", "some past", "much past") if name in slices]
    assert sum(past) == found["questions"]


def test_the_report_carries_what_it_shows_and_loads_nothing(found: dict[str, Any], shop: Path) -> None:
    """One page with two drawings, people with their history and lists by title, and no address of elsewhere."""
    page = (shop / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "Thing i0" in page
    assert 'class="hit"' in page
    assert "got from popularity" in page
    assert "src=" not in page
    assert not [word for word in page.split('"') if word.startswith("http") and "w3.org" not in word]


def test_the_table_of_a_terminal_names_every_model(shop: Path) -> None:
    """Without --json people get a table and what was counted."""
    told = run("--events", shop / "events.parquet", "--models", "ease", "--protocol", "leave-last-out")
    assert told.exit_code == 0, told.stderr
    assert "ease" in told.stdout
    assert "over popularity" in told.stdout
    assert "events learned from" in told.stdout


@pytest.mark.parametrize("protocol", ["leave-last-out", "random", "sessions"])
def test_every_protocol_serves_and_compares(protocol: str, tmp_path: Path) -> None:
    """Under each of them a model of vectors comes out of its release as it went in, and taste is found."""
    log = taste_world()
    if protocol == "sessions":
        # Whoever comes on one day is one session.
        log = type(log)(
            log.user_ids, log.item_ids, log.users, log.items, log.times, log.kinds, log.values,
            (np.floor((log.times - START) / (86_400.0 * 20))).astype(np.int32),
        )  # fmt: skip
    plan = Plan(models=("ease", "als"), ks=(10,), cut=Cut(protocol=protocol), options=SMALL)  # type: ignore[arg-type]
    told = as_json(prove(log, plan, tmp_path))
    assert told["models"]["als served"]["same_lists"] > 0.9
    assert ndcg(told, "ease") > 1.5 * ndcg(told, "popularity")


def test_on_shuffled_purchases_nothing_is_proved(tmp_path: Path) -> None:
    """Where nobody has taste, no interval over popularity lies above 0, the pipeline's neither."""
    plan = Plan(models=("item-knn", "ease", "als", "bpr", "for-you"), ks=(10,), options=SMALL)
    told = as_json(prove(taste_world(shuffled=True), plan, tmp_path))
    gains = [d for d in told["differences"] if d["to"] == "popularity" and d["metric"] == "ndcg"]
    assert len(gains) == 7
    assert max(gain["low"] for gain in gains) < 0.01


def test_values_are_predicted_and_their_error_told(tmp_path: Path) -> None:
    """A log of ratings is evaluated with svd: RMSE and MAE of what was held out."""
    told = as_json(prove(rated_world(), Plan(models=("svd",), cut=Cut(protocol="random")), tmp_path))
    assert 0.25 < told["models"]["svd"]["rmse"] < 0.45
    assert told["models"]["svd"]["mae"] < told["models"]["svd"]["rmse"]


def test_a_search_tries_until_its_time_is_over_and_never_sees_what_is_held_out() -> None:
    """The defaults are tried even with no time left; with a clock that runs, so many trials as fit; the best first."""
    log, cut = taste_world(), Cut(protocol="random")
    parts = choose(split(log, cut), 0)
    training = TrainingSet(parts.train, parts.as_of, aged=False)
    assert len(search("ease", parts, training, cut, 10, 0.0)) == 1
    ticks = iter(range(1000))
    trials = search("ease", parts, training, cut, 10, 4.0, clock=lambda: float(next(ticks)))
    assert len(trials) == 4
    assert [trial.reached for trial in trials] == sorted((trial.reached for trial in trials), reverse=True)
    assert len({str(trial.options) for trial in trials}) == 4
    assert search("popularity", parts, training, cut, 10, 1.0) == []


def test_a_config_names_columns_and_options_and_the_command_line_wins(tmp_path: Path, shop: Path) -> None:
    """Columns by TOML, one of them again on the command line, and options of a model."""
    table = pq.read_table(shop / "events.parquet").rename_columns(["who", "what", "when"])
    pq.write_table(table, tmp_path / "e.parquet")
    config = tmp_path / "evaluate.toml"
    config.write_text(
        '[columns]\nuser_id = "nobody"\nitem_id = "what"\ntimestamp = "when"\n[options.ease]\nregularization = 7.0\n'
    )
    told = run(
        "--events", tmp_path / "e.parquet", "--config", config, "--columns", "user_id=who", "--models", "ease", "--json"
    )
    assert told.exit_code == 0, told.stderr
    assert json.loads(told.stdout)["models"]["ease"]["options"]["regularization"] == 7.0


def test_a_wrong_config_is_refused_with_every_fault(tmp_path: Path) -> None:
    """Unknown keys and wrong kinds are told at once; what is no TOML is refused by name."""
    path = tmp_path / "c.toml"
    path.write_text('colums = 1\nseparator = 5\nheader = "no"\noptions = { als = 3 }\n')
    with pytest.raises(InvalidInput) as refused:
        read_config(path, None, None, None)
    assert [field for field, _ in refused.value.violations] == [
        "config colums",
        "config separator",
        "config header",
        "config options",
    ]
    path.write_text("= =")
    with pytest.raises(InvalidInput, match="no TOML"):
        read_config(path, None, None, None)


def test_a_wrong_plan_is_refused_with_every_fault_before_anything_is_read(tmp_path: Path) -> None:
    """Unknown models, protocols, options and lengths come in one refusal; the events file is not even looked for."""
    config = tmp_path / "c.toml"
    config.write_text("[options.als]\nfactor = 5\n[options.magic]\na = 1\n")
    told = run(
        "--events", tmp_path / "gone.parquet", "--models", "als,magic", "--protocol", "crystal", "--k", "0",
        "--search-seconds", "-1", "--config", config,
    )  # fmt: skip
    assert told.exit_code == 1
    for words in ("no magic; the models are popularity", "no crystal; the protocols are temporal", "from 1 to 500"):
        assert words in told.stderr
    for words in ("search_seconds: is -1", "there is no factor; there are factors", "there is no model magic"):
        assert words in told.stderr
    assert "gone" not in told.stderr


BAD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "one user": ({"user_id": ["a"] * 4}, ("one user ('a')",)),
    "one user and one item": ({"user_id": ["a"] * 4, "item_id": ["x"] * 4}, ("one user ('a')", "one item ('x')")),
    "one instant": ({"timestamp": [END] * 4}, ("all events are of one time", "use random")),
    "no number among the ratings": ({"value": [1.0, float("nan"), 2.0, 3.0]}, ("value", "no finite number in row 2")),
    "nothing good": ({"event_type": ["dismiss"] * 4}, ("none is a purchase",)),
    "no rows": ({"user_id": [], "item_id": [], "timestamp": []}, ("holds no events",)),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_events_are_refused_with_the_way_out(case: str, tmp_path: Path) -> None:
    """Empty and one-sided data, one instant, ratings that are no numbers: refused, each by name."""
    columns, words = BAD[case]
    given = {
        "user_id": ["a", "b", "a", "b"],
        "item_id": ["x", "y", "y", "x"],
        "timestamp": [START, START, END, END],
        **columns,
    }
    pq.write_table(pa.table(given), tmp_path / "e.parquet")
    told = run("--events", tmp_path / "e.parquet", "--models", "ease")
    assert told.exit_code == 1
    for word in words:
        assert word in told.stderr


def test_a_core_that_nobody_is_in_is_refused(shop: Path) -> None:
    """--core larger than the data says so; the 5-core of the shop is evaluated."""
    assert "name a smaller number" in run("--events", shop / "events.parquet", "--core", 999).stderr
    told = run("--events", shop / "events.parquet", "--core", 5, "--models", "ease", "--json")
    assert told.exit_code == 0, told.stderr
