import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.training.shop import END, group, make_events, write_catalogue, write_events
from tidings_core.model import SERVING_CONFIGS, Query
from tidings_core.recommend import recommend
from tidings_core.release import open_release
from tidings_index_builder.build import build_release
from tidings_index_builder.catalogue import read_catalogue
from tidings_index_builder.model_dir import Model, read_model
from tidings_training.cli import app


def run(*arguments: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["fit", *map(str, arguments)])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An events file and a catalogue with planted taste."""
    folder = tmp_path_factory.mktemp("files")
    events = make_events(users=120)
    return write_events(folder / "events.parquet", events), write_catalogue(folder / "catalogue.parquet")


@pytest.fixture(scope="module")
def fitted(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A model directory, and what the command that made it said."""
    out = tmp_path_factory.mktemp("fitted") / "model"
    return out, run("--events", files[0], "--catalogue", files[1], "--out", out, "--factors", 16, "--json")


def test_it_prints_one_json_object_and_tells_progress_elsewhere(fitted: tuple[Path, Result]) -> None:
    """Standard output is one JSON object with what was done; the steps go to standard error."""
    out, result = fitted
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["model"] == str(out)
    assert (said["as_of"], said["settings"]["factors"], said["events"]["users"]) == (END, 16, 120)
    assert said["ranker"]["windows"] == 3
    for step in ("learning embeddings as of", "making examples", "training the ranker", "asking popularity"):
        assert step in result.stderr


def test_the_evaluation_lies_in_the_model_directory(fitted: tuple[Path, Result]) -> None:
    """evaluation.json holds what was printed, and the model's lineage carries it on into the release."""
    out, result = fitted
    evaluation = json.loads((out / "evaluation.json").read_text())
    assert evaluation == json.loads(result.stdout)["evaluation"] == read_model(out).lineage["evaluation"]
    assert evaluation["means"]["for-you"]["recall"] > evaluation["means"]["popularity"]["recall"]


def test_the_model_becomes_a_release_that_recommends_the_planted_taste(
    fitted: tuple[Path, Result], files: tuple[Path, Path], tmp_path: Path
) -> None:
    """The builder makes a ranked release of it, with every source, in which people are shown their group's items."""
    model = read_model(fitted[0])
    manifest = build_release(
        items=model.items,
        users=model.users,
        catalogue=read_catalogue(files[1]),
        model=model,
        metric="inner_product",
        releases=tmp_path,
        now=END,
        report=False,
    )
    assert manifest.ranked
    assert manifest.sources == ("search", "recent", "similar", "tagged", "ann", "trending")
    assert manifest.fold_in == model.fold_in
    assert manifest.trained_until == model.as_of == END
    snapshot = open_release(tmp_path / manifest.release_id).snapshot
    queries = [Query(user, SERVING_CONFIGS["for-you"], k=4) for user in model.user_ids]
    found = [
        group(snapshot.items[item.row]) == group(query.user_id)
        for query, answer in zip(queries, recommend(queries, snapshot, END), strict=True)
        for item in answer.items
    ]
    assert np.mean(found) > 0.7


def same(mine: Model, theirs: Model) -> bool:
    """Whether two models are equal in all that was learned."""
    return (
        mine.item_ids == theirs.item_ids
        and np.array_equal(mine.item_vectors, theirs.item_vectors)
        and np.array_equal(mine.user_vectors, theirs.user_vectors)
        and np.array_equal(mine.neighbours.rows, theirs.neighbours.rows)
        and np.array_equal(mine.histories.rows, theirs.histories.rows)
        and mine.ranker == theirs.ranker
    )


def test_the_same_seed_gives_the_same_model_and_figures(
    fitted: tuple[Path, Result], files: tuple[Path, Path], tmp_path: Path
) -> None:
    """Fitting again, on other threads, gives the same model, ranker and evaluation; another seed does not."""
    options = ("--events", files[0], "--catalogue", files[1], "--factors", 16)
    again = run(*options, "--out", tmp_path / "again", "--threads", 1, "--json")
    other = run(*options, "--out", tmp_path / "other", "--seed", 1, "--json", "--no-evaluate")
    first = read_model(fitted[0])
    assert same(first, read_model(tmp_path / "again"))
    assert json.loads(again.stdout)["evaluation"] == json.loads(fitted[1].stdout)["evaluation"]
    assert not same(first, read_model(tmp_path / "other"))
    assert json.loads(other.stdout)["evaluation"] is None
    assert not (tmp_path / "other" / "evaluation.json").exists()


def test_a_table_is_printed_for_people(tmp_path: Path) -> None:
    """Without --json a table compares the contenders and a sentence says what was learned."""
    events = write_events(tmp_path / "events.parquet", make_events(users=60, items=60))
    result = run("--events", events, "--out", tmp_path / "model", "--factors", 8, "--iterations", 3)
    assert result.exit_code == 0, result.output
    for word in ("for-you", "retrieval", "trending", "popularity", "recall", "60 users"):
        assert word in result.stdout
    assert re.search(r"a ranker from \d+ lists of candidates", result.stdout)


def test_events_until_a_time_are_those_of_a_file_that_ends_there(tmp_path: Path) -> None:
    """--until gives the same model as a file without the later events."""
    cut = END - 60 * 86_400
    events = make_events(users=60, items=60)
    long = write_events(tmp_path / "long.parquet", events)
    short = write_events(tmp_path / "short.parquet", events.between(-np.inf, cut))
    run("--events", long, "--out", tmp_path / "a", "--until", f"{cut:.0f}", "--no-evaluate", "--factors", 8)
    run("--events", short, "--out", tmp_path / "b", "--until", f"{cut:.0f}", "--no-evaluate", "--factors", 8)
    first, second = read_model(tmp_path / "a"), read_model(tmp_path / "b")
    assert first.as_of == second.as_of == cut
    assert same(first, second)


def lines(result: Result) -> Sequence[str]:
    """The error lines of the command."""
    return [line for line in result.stderr.splitlines() if line.startswith("tidings-train: ")]


def test_user_errors_are_one_line_each_and_leave_nothing(tmp_path: Path) -> None:
    """A bad file, option or directory gives exit status 1 and lines that name it, no traceback, and no model."""
    events = write_events(tmp_path / "events.parquet", make_events(users=12))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("mine")
    cases: dict[str, tuple[object, ...]] = {
        "is not there": ("--events", tmp_path / "gone.csv", "--out", tmp_path / "m"),
        "has no column customer": ("--events", events, "--out", tmp_path / "m", "--columns", "user_id=customer"),
        "holdout_days": ("--events", events, "--out", tmp_path / "m", "--holdout-days", "-1"),
        "until: 'soon' is no time": ("--events", events, "--out", tmp_path / "m", "--until", "soon"),
        "hold fewer out with --holdout-days, or train without measuring with --no-evaluate": (
            "--events",
            events,
            "--out",
            tmp_path / "m",
            "--holdout-days",
            "1000",
        ),
        "no model directory": ("--events", events, "--out", tmp_path / "taken", "--no-evaluate", "--iterations", "1"),
    }
    for words, arguments in cases.items():
        result = run(*arguments)
        assert result.exit_code == 1, words
        assert any(words in line for line in lines(result)), result.stderr
        assert "Traceback" not in result.output
        assert not (tmp_path / "m").exists()
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["letter.txt"]


def test_a_missing_library_is_one_line_that_says_what_to_install() -> None:
    """Where a library is missing the command says which extra to install and exits with 1."""
    program = "import sys; sys.modules['implicit'] = None; from tidings_training.__main__ import main; main()"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert (
        found.stderr
        == 'tidings-train needs more than the base install: pip install "tidings[train]" (missing: implicit)\n'
    )
