"""The benchmarks of size and of the hot path run on small shops, and tell what they promise."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stacks import STAGES
from tidings_core.profile import EMPTY
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.documents import read_document
from write_profiles import write_profiles

LOADTEST = Path(__file__).parents[2] / "loadtest"
needs_compiler = pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="there is no C compiler")


def run(script: str, *given: str) -> list[dict[str, Any]]:
    """The rows of a benchmark."""
    words = [sys.executable, str(LOADTEST / script), *given, "--json", "-"]
    said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=240)
    assert said.returncode == 0, said.stderr
    rows: list[dict[str, Any]] = json.loads(said.stdout)
    return rows


@pytest.mark.long
@needs_compiler
def test_each_size_is_held_against_the_smallest() -> None:
    """Items and people; every call answered in full."""
    sizes = ["--items", "1500", "6000", "--people", "300", "3000", "--items-of-people", "1500"]
    rows = run("scale.py", "--front", "grpcio", *sizes, "--seconds", "1", "--rounds", "1")
    assert [(row["items"], row.get("people")) for row in rows] == [
        (1500, None), (6000, None), (1500, 300), (1500, 3000)
    ]  # fmt: skip
    assert [row["cost_over_smallest"] for row in rows[::2]] == [1.0, 1.0]
    assert all(row["cost_over_smallest"] > 0 and row["cpu_us"] > 50 for row in rows)
    assert rows[2]["bytes_per_person"] > 500


@pytest.mark.long
@needs_compiler
def test_the_flame_graph_of_a_running_server_tells_its_stages(tmp_path: Path) -> None:
    """What search and ranking take is seen, and the drawing is small."""
    given = ["--front", "grpcio", "--items", "3000", "--users", "300", "--seconds", "3"]
    (row,) = run("flame.py", *given, "--svg", str(tmp_path / "flame.svg"))
    stages = {name: us for name, us in row.items() if name.endswith("_us")}
    assert {f"{stage}_us" for stage, _ in STAGES[:4]} <= stages.keys()
    assert sum(stages.values()) == pytest.approx(row["us_per_call"])
    assert 5_000 < (tmp_path / "flame.svg").stat().st_size < 150_000


def test_people_are_written_as_a_server_would(tmp_path: Path) -> None:
    """Each has a document that can be read, with a profile that is not empty."""
    size = write_profiles(tmp_path, 700, 100)
    assert 300 < size < 5_000
    store = SqliteStore.open(tmp_path, lambda: 0)
    try:
        documents = [read_document(store.user(f"user-{number}")) for number in (0, 499, 500, 699)]
        assert store.user("user-700").version == 0
    finally:
        store.close()
    assert all(document.profile != EMPTY for document in documents)
    assert documents[0].profile == documents[2].profile != documents[1].profile
