"""What the benchmarks stand on: generated vectors repeat, and competitors are timed on the same users."""

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    FIGURES,
    IMAGES,
    PAGE,
    ROOT,
    Kept,
    bounds_text,
    machine,
    part_text,
    put,
    read_kept,
    tables,
    write_page,
)
from bounds import BOUNDS, Bound, over, verdicts, worst
from parts import PARTS
from plots import PLOTS, save
from turns import BLOCK, Row, by_turns, shown, tell
from vectors import KINDS, Kind, generate


@pytest.mark.parametrize("kind", KINDS)
def test_generated_vectors_repeat_and_are_what_they_say(kind: Kind) -> None:
    """The same seed makes the same shop; clusters are skewed, the first the largest, and lengths vary."""
    made, again, other = (generate(kind, 5000, 32, 300, seed) for seed in (1, 1, 2))
    assert made.items.shape == (5000, 32)
    assert made.users.shape == (300, 32)
    assert {made.items.dtype, made.users.dtype} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(made.items, again.items)
    np.testing.assert_array_equal(made.users, again.users)
    assert not np.array_equal(made.items, other.items)
    sizes = np.bincount(made.clusters)
    assert sizes[0] == sizes.max() > 3 * sizes.mean()
    lengths = np.linalg.norm(made.items, axis=1)
    assert lengths.std() > 0.1 * lengths.mean()


def test_competitors_take_turns_on_the_same_random_users() -> None:
    """In every round each is asked for the same users, and not always in the same order."""
    asked: dict[str, list[int]] = {"a": [], "b": []}
    order: list[str] = []

    def ask(name: str, row: int) -> None:
        asked[name].append(row)
        order.append(name)

    calls = {name: functools.partial(ask, name) for name in asked}
    medians = by_turns(calls, 1000, 0.0, seed=3)
    assert asked["a"] == asked["b"]
    assert len(set(asked["a"])) > BLOCK
    assert {order[0], order[2 * BLOCK]} == {"a", "b"}
    assert set(medians) == {"a", "b"}
    assert all(micros > 0 for micros in medians.values())


def test_figures_come_as_a_table_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """People get columns with three digits that count, machines every digit."""
    rows = [{"what": "one", "items": 1_000_000, "ratio": 0.12345, "us": 1234.5, "met": True}]
    tell(rows, None)
    assert capsys.readouterr().out.split() == ["what", "items", "ratio", "us", "met", "one", "1,000,000", "0.123",
                                               "1,234", "yes"]  # fmt: skip
    tell(rows, str(tmp_path / "rows.json"))
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
    tell(rows, "-")
    assert json.loads(capsys.readouterr().out) == rows
    assert shown(123.4) == "123"


def test_the_page_takes_the_tables_between_its_markers() -> None:
    """Every part has its place in docs/benchmarks.md, and writing twice is writing once."""
    page = PAGE.read_text()
    made = {"measured": machine(), "commands": ["x.py"], "rows": [{"a": 1}]}
    parts = {part.marker: part_text(part, made) for part in PARTS}
    written = put(page, parts)
    assert put(written, parts) == written
    for text in parts.values():
        assert text in written
    assert written.startswith(page.split("<!-- serving -->")[0])
    for part in PARTS:
        assert f"## {part.heading}\n" in page
    with pytest.raises(KeyError, match="no markers <!-- other -->"):
        put(page, {"other": "text"})


def test_rows_with_the_same_names_stand_in_one_table() -> None:
    """A script may print rows of several kinds."""
    first, second = tables([{"pass_rate": 0.5, "us": 120.4}, {"excluded": 50_000}, {"pass_rate": 0.1, "us": 80.0}])
    assert first.splitlines() == ["| pass rate | us |", "| --- | --- |", "| 0.5 | 120 |", "| 0.1 | 80 |"]
    assert second.splitlines() == ["| excluded |", "| --- |", "| 50,000 |"]


def test_a_run_of_the_retrieval_benchmark_tells_all_it_promises(tmp_path: Path) -> None:
    """On a small shop, as a process of its own, with the figures the page shows."""
    script = PAGE.parents[1] / "loadtest" / "retrieval.py"
    words = [
        "--items",
        "1500",
        "--dim",
        "16",
        "--users",
        "300",
        "--seconds",
        "0",
        "--json",
        str(tmp_path / "rows.json"),
    ]
    subprocess.run(
        [sys.executable, str(script), *words, "--json", str(tmp_path / "rows.json")],
        check=True,
        capture_output=True,
        timeout=120,
    )
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["recall_at_100"] >= 0.93
    assert row["promised"] >= 0.95
    assert row["ratio"] > 0
    assert {"build_ratio", "peak_mib", "index", "flat_us"} <= row.keys()


def test_the_page_is_what_its_figures_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page comes from benchmarks.json, word for word: nobody wrote by hand what holds."""
    page = tmp_path / "benchmarks.md"
    page.write_text(PAGE.read_text())
    monkeypatch.setattr("benchmarks.PAGE", page)
    shutil.copytree(IMAGES, tmp_path / "img")
    monkeypatch.setattr("benchmarks.IMAGES", tmp_path / "img")
    write_page(read_kept())
    assert page.read_text() == PAGE.read_text()
    for image in IMAGES.glob("*.svg"):
        assert image.stat().st_size < 150_000
        assert f"img/{image.name}" in page.read_text()
    assert set(read_kept()) <= {part.marker for part in PARTS} == PLOTS.keys()
    assert FIGURES.read_text().endswith("\n")


def test_every_command_of_the_benchmarks_is_understood() -> None:
    """Each option that a part gives to a script is one that the script has."""
    scripts = {command.split()[0] for part in PARTS for command in (*part.runs, *part.quick)}
    helps = {
        script: subprocess.run(
            [sys.executable, str(ROOT / "loadtest" / script), "--help"], capture_output=True, text=True, check=True
        ).stdout
        for script in scripts
    }
    for part in PARTS:
        for command in (*part.runs, *part.quick):
            script, *words = command.split()
            for option in ("--json", *(word for word in words if word.startswith("--"))):
                assert option in helps[script], command


def test_a_verdict_is_read_off_the_figures() -> None:
    """The worst row counts, one that is not there is not measured, and what never ended holds nothing."""
    rows: Sequence[Row] = [{"front": "native", "p99": 5.0, "base": 2.0}, {"front": "grpcio", "p99": 9.0, "base": 1.0}]
    assert worst("p99")(rows) == 9.0
    assert worst("p99", least=True)(rows) == 5.0
    assert worst("p99", front="native")(rows) == 5.0
    assert worst("p99", front=("native", "grpcio"))(rows) == 9.0
    assert over("p99", "base", front="native")(rows) == 2.5
    assert worst("p50")(rows) is None
    assert worst("p99")([{"p99": "never"}]) == float("inf")
    assert Bound("serving", "x", worst("p99"), 9.0).holds(9.0)
    assert not Bound("serving", "x", worst("p99"), 9.0, at_least=True).holds(8.9)
    headings = {part.marker: part.heading for part in PARTS}
    serving: dict[str, Sequence[Row]] = {
        "serving": [{"front": "native", "calls_over_f0": 0.5}],
        "overload": [{"recovered_s": "never"}],
    }
    told = {what: (measured, verdict) for what, _, measured, verdict in verdicts(serving, headings)}
    assert len(told) == len(BOUNDS)
    assert told["[calls/s on one core over F0, `native`](#calls-per-second)"] == ("0.5", "**no**")
    assert told["[seconds from its end until all is as before](#too-much-to-do)"] == ("never", "**no**")
    assert told["[recall@100 on users that nobody tuned on](#search-and-tuning)"] == ("–", "not measured")
    kept: Kept = {name: {"rows": rows} for name, rows in serving.items()}
    assert bounds_text(kept).startswith("0 of 2 bounds hold.")


def test_wide_tables_are_turned() -> None:
    """A row with many figures is read downwards."""
    (wide,) = tables([{f"figure_{number}": number for number in range(20)}, {f"figure_{n}": n for n in range(20)}])
    assert wide.splitlines()[0] == "| figure 0 | 0 | 0 |"
    assert len(wide.splitlines()) == 21


FIGURES_OF: dict[str, Sequence[Row]] = {
    "serving": [{"front": "native", "calls_over_f0": 0.7, "calls_over_f1": 0.9, "half_p50_over_f1": 2,
                 "half_p99_over_f1": 9}],
    "hot-path": [{"of": "now", "front": "native", "search_us": 40.0, "outside_python_us": 9.0}],
    "fanout": [{"front": "native", "burst_p99_ms": 90, "cpu_us_per_message": 9, "bytes_per_subscriber": 18000,
                "plain_burst_p99_ms": 400, "plain_cpu_us_per_message": 50, "plain_bytes_per_subscriber": 22000}],
    "push": [{"front": "native", "unloaded_p50": 0.1, "unloaded_p99": 0.2, "half_p50": 0.1, "half_p99": 0.3,
              "floor": 0.01}],
    "items": [{"front": "native", "items": 10, "cost_over_smallest": 1.0},
              {"front": "native", "items": 1000, "cost_over_smallest": 1.5}],
    "people": [{"front": "native", "people": 10, "cost_over_smallest": 1.0}],
    "ingest": [{"front": "grpcio", "single_over_rpc": 0.5, "bytes_per_user": 900}],
    "erasing": [{"seconds_worst": 0.4}],
    "overload": [{"front": "native", "deadline_ms": 50, "answered_over_carried": 0.9, "offered_over_carried": 3.0,
                  "refused_share": 0.7, "half_p99_ms": 3.0, "answered_p99_ms": 6.0, "refused_p99_ms": 1.0}],
}  # fmt: skip


@pytest.mark.parametrize("part", FIGURES_OF)
def test_each_question_has_its_plot(part: str, tmp_path: Path) -> None:
    """Drawn from the figures, small, and the same again."""
    for name in ("one.svg", "two.svg"):
        figure = PLOTS[part](FIGURES_OF[part])
        assert figure is not None
        save(figure, tmp_path / name)
    assert 2_000 < (tmp_path / "one.svg").stat().st_size < 150_000
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
