"""What the benchmarks stand on: generated vectors repeat, and competitors are timed on the same users."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import PAGE, SECTIONS, machine, put, section_text, tables
from turns import BLOCK, by_turns, shown, tell
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
    """Every section has its place in docs/benchmarks.md, and writing twice is writing once."""
    page = PAGE.read_text()
    parts = {section.marker: f"{machine()}\n\n{section_text(section, [], False)}" for section in SECTIONS}
    written = put(page, parts)
    assert put(written, parts) == written
    for text in parts.values():
        assert text in written
    assert written.startswith(page.split("<!-- retrieval -->")[0])
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
