"""The command tells people and machines what it did, and every fault in one line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.index_builder.rankers import plain_mlp
from tests.index_builder.shop import embeddings, make_model, write_embeddings, write_table
from tidings_core.release import open_release
from tidings_index_builder.cli import app
from tidings_index_builder.model_dir import write_model
from tidings_index_builder.ranker_wrap import WIDTH

ITEMS, USERS = embeddings(200, 40, 8)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The files of a small shop, as options take them."""
    (tmp_path / "ranker.onnx").write_bytes(plain_mlp(WIDTH))
    write_model(tmp_path / "model", make_model(ITEMS, USERS))
    catalogue = write_table(tmp_path / "c.parquet", id=["item-1", "gone"], price=[1.0, 2.0], colour=["red", "blue"])
    return {
        "--items": str(write_embeddings(tmp_path / "items.parquet", ITEMS)),
        "--users": str(write_embeddings(tmp_path / "users.parquet", USERS)),
        "--catalogue": str(catalogue),
        "--ranker": str(tmp_path / "ranker.onnx"),
        "--model": str(tmp_path / "model"),
        "--out": str(tmp_path / "releases"),
    }


def run(*arguments: str, **options: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, [*arguments, *(word for pair in options.items() for word in pair)])


def call(command: str, options: dict[str, str], *more: str) -> Result:
    """Run a command with options from a dictionary."""
    return run(command, *(word for pair in options.items() for word in pair), *more)


def test_a_build_with_everything_prints_one_json_object(files: dict[str, str]) -> None:
    """Standard output holds one JSON object; progress went to standard error; the release it names opens."""
    result = call("build", files, "--attribute", "colour", "--json", "--k", "10")
    assert result.exit_code == 0, result.stderr
    told: dict[str, Any] = json.loads(result.stdout)
    release = open_release(Path(told["path"]))
    assert told["release_id"] == release.manifest.release_id
    assert release.manifest.sources == ("recent", "complement", "similar", "ann", "trending")
    assert release.manifest.ranked
    assert release.manifest.attributes["colour"] == "keyword"
    assert set(release.manifest.lineage["inputs"]) == {"items", "users", "catalogue", "ranker"}
    assert told["not_offered"].keys() == {
        "search",
        "tagged",
        "fold-in",
        "attribute category",
        "attribute brand",
    }
    assert "trying SQfp16" in result.stderr
    assert (release.path / "report.html").stat().st_size > 5000


def test_a_build_for_people_tells_what_was_left_out(files: dict[str, str]) -> None:
    """Recall, what does not meet between catalogue and items, and what is not offered stand in the summary."""
    del files["--model"], files["--ranker"]
    result = call("build", files)
    assert result.exit_code == 0, result.stderr
    words = " ".join(result.stdout.split())
    assert "1 without an embedding, not served; 199 items without a row" in words
    assert "columns left out: colour" in words
    assert "similar the release has no item neighbours" in words


def test_a_model_alone_is_enough(files: dict[str, str]) -> None:
    """The model's own embeddings are served when no others are given."""
    result = call("build", {name: files[name] for name in ("--model", "--out")}, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["item_count"] == 200


def test_plain_arrays_are_enough(tmp_path: Path) -> None:
    """`.npy` files with and without ids build a release."""
    np.save(tmp_path / "items.npy", ITEMS.vectors.astype(np.float64))
    np.savez(tmp_path / "users.npz", embeddings=USERS.vectors)
    (tmp_path / "ids.txt").write_text("\n".join(ITEMS.ids) + "\n")
    result = run(
        "build", "--items", str(tmp_path / "items.npy"), "--item-ids", str(tmp_path / "ids.txt"),
        "--users", str(tmp_path / "users.npz"), "--metric", "cosine", "--out", str(tmp_path / "out"), "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    snapshot = open_release(Path(json.loads(result.stdout)["path"])).snapshot
    assert (snapshot.items[3], snapshot.users[3]) == ("item-3", "3")


def test_every_fault_is_one_line_and_nothing_is_written(files: dict[str, str], tmp_path: Path) -> None:
    """Faults of several files and settings come together, each on a line with its name; exit status 1."""
    write_table(tmp_path / "items.parquet", id=["a", "a"], embedding=[[1.0], [2.0]])
    write_table(tmp_path / "c.parquet", id=["a"], price=[-1.0])
    (tmp_path / "ranker.onnx").write_bytes(plain_mlp(3))
    result = call("build", files)
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("tidings-build-index:")]
    assert [line.split(":")[1].strip() for line in lines] == ["items", "catalogue", "ranker"]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "releases").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["build", "--out", "r"], 1, "settings: items and users must be given, unless a model is"),
        (["build", "--out", "r", "--model", "m", "--metric", "x", "--k", "0"], 1, "metric: is 'x', should be"),
        (["build", "--model", "m"], 2, "Missing option '--out'"),
        (["build", "--out", "r", "--k", "many"], 2, "Invalid value for '--k'"),
        (["fly"], 2, "No such command 'fly'"),
        (["inspect", "nowhere/release"], 1, "there is no release release in"),
        (["evaluate", "nowhere", "--queries", "q.parquet"], 1, "queries: q.parquet is not there"),
    ],
)
def test_wrong_use_is_told_with_its_status(arguments: list[str], status: int, expected: str) -> None:
    """A setting out of its limits is 1, a command line that cannot be understood is 2."""
    result = run(*arguments)
    assert result.exit_code == status
    assert expected in result.stderr
    assert "Traceback" not in result.stderr


def test_a_release_is_inspected_and_evaluated(files: dict[str, str]) -> None:
    """Both commands take the path that `build` printed, for people and for machines."""
    path = json.loads(call("build", files, "--json").stdout)["path"]
    assert json.loads(run("inspect", path, "--json").stdout)["broken"] is False
    shown = run("inspect", path)
    assert "whole: the server would take it" in shown.stdout
    assert "index.faiss" in shown.stdout
    measured = json.loads(run("evaluate", path, "--queries", files["--users"], "--k", "10", "--json").stdout)
    assert measured["recall"] >= 0.95
    assert "recall@10" in run("evaluate", path, "--queries", files["--users"], "--k", "10").stdout
    (Path(path) / "item_features.npy").unlink()
    broken = run("inspect", path, "--json")
    assert broken.exit_code == 1
    assert json.loads(broken.stdout)["problem"] == "item_features.npy is missing"


def test_the_installed_command_runs_as_a_program(files: dict[str, str]) -> None:
    """As a process of its own it keeps standard output clean for the machine that reads it."""
    words = [word for name in ("--items", "--users", "--out") for word in (name, files[name])]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tidings_index_builder", "build", *words, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["user_count"] == 40


def test_a_missing_library_names_the_extra_to_install() -> None:
    """On the base install the command says what to install instead of showing a traceback."""
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from tidings_index_builder.__main__ import main\nsys.argv = ['x', '--help']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip() == (
        'tidings-build-index needs more than the base install: pip install "tidings[builder]" (missing: pyarrow)'
    )


def test_budgets_bind_and_stand_in_the_manifest(files: dict[str, str]) -> None:
    """What is chosen fits; a target out of reach is one line that says what it would take, and nothing is written."""
    out = Path(files["--out"])
    refused = call("build", files, "--k", "10", "--max-bytes-per-item", "3")
    assert refused.exit_code == 1
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("tidings-build-index")]
    assert "recall_target: 0.95 is not reached within 3 bytes per item: no index is that small; it takes" in line
    assert not out.exists() or list(out.iterdir()) == []
    bound = call("build", files, "--k", "10", "--max-bytes-per-item", "20", "--max-build-seconds", "3600", "--json")
    assert bound.exit_code == 0, bound.stderr
    told: dict[str, Any] = json.loads(bound.stdout)
    assert told["index"]["bytes_per_item"] <= 20
    tuning = told["lineage"]["build"]["tuning"]
    assert tuning["budgets"] == {"bytes_per_item": 20.0, "build_seconds": 3600.0}
    assert {trial["fate"] for trial in tuning["trials"]} >= {"chosen"}
    assert tuning["memory"]["peak_bytes"] > 0
