"""Evaluation measures an index against exact search or a truth of the user's own; inspection says what is there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.index_builder.shop import embeddings
from tests.support.world import make_world
from tidings_core.errors import InvalidInput, NotFound, ReleaseRefused
from tidings_core.release import open_release
from tidings_index_builder.embeddings import Embeddings
from tidings_index_builder.evaluate import evaluate
from tidings_index_builder.inspection import inspect_release


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A small release on disk, with everything in it."""
    return tmp_path / make_world().write(tmp_path).release_id


QUERIES = Embeddings([str(row) for row in range(30)], np.random.default_rng(1).normal(size=(30, 16)).astype(np.float32))


def test_an_exact_index_has_full_recall(release: Path) -> None:
    """Against exact search a flat index finds everything, and the speed is a positive number."""
    result = evaluate(release, QUERIES, 10)
    assert (result.recall, result.k, result.queries) == (1.0, 10, 30)
    assert result.microseconds_per_query > 0
    assert evaluate(release, QUERIES, 1000).k == 300


@pytest.mark.parametrize("by_id", [False, True])
def test_recall_against_a_truth_is_the_share_that_was_found(release: Path, tmp_path: Path, by_id: bool) -> None:
    """A truth of which a known part is right, as rows or as ids, gives that part."""
    snapshot = open_release(release).snapshot
    found = snapshot.index.search(QUERIES.vectors, 10)[0]
    truth = found.copy()
    for query in range(30):
        # Four of ten are items that cannot be near.
        truth[query, 6:] = [row for row in range(300) if row not in found[query]][:4]
    written: Any = np.array([[snapshot.items[row] for row in rows] for rows in truth]) if by_id else truth
    np.save(tmp_path / "truth.npy", written)
    assert evaluate(release, QUERIES, 10, tmp_path / "truth.npy").recall == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("truth", "expected"),
    [
        (np.zeros((30, 4), np.int64), r"has shape \[30, 4\], must be \[30, 5 or more\]"),
        (np.zeros((29, 5), np.int64), r"has shape \[29, 5\]"),
        (np.zeros((30, 5)), "holds float64, must be whole numbers"),
        (np.tile(np.array([0, 1, 2, 3, 300]), (30, 1)), "item row 300 for query 0, must be 0 to 299"),
        (np.tile(np.array([0, 1, 2, 3, 3]), (30, 1)), "names an item twice for query 0"),
        (np.full((30, 5), "nobody"), "names 'nobody', 'nobody', 'nobody' and 147 more"),
    ],
)
def test_a_truth_that_does_not_fit_is_refused(release: Path, tmp_path: Path, truth: Any, expected: str) -> None:
    """Wrong shapes, types, rows and ids of a truth are named."""
    np.save(tmp_path / "truth.npy", truth)
    with pytest.raises(InvalidInput, match=expected):
        evaluate(release, QUERIES, 5, tmp_path / "truth.npy")


def test_queries_of_another_length_are_refused(release: Path) -> None:
    """Vectors of another model are found out by their dimensions."""
    with pytest.raises(InvalidInput, match=r"queries: have 8 dimensions, the release .* 16"):
        evaluate(release, embeddings(10, 10, 8)[1], 5)
    with pytest.raises(InvalidInput, match="k: is 0"):
        evaluate(release, QUERIES, 0)


def test_a_whole_release_is_inspected_with_all_it_offers(release: Path) -> None:
    """A complete release lacks only what its catalogue did not have."""
    found = inspect_release(release)
    assert found.problem == ""
    assert found.manifest is not None
    assert found.not_offered == {"attribute brand": "the catalogue had no such column, or there was none"}


def test_a_bare_release_says_what_it_does_not_offer_and_why(tmp_path: Path) -> None:
    """Without model and catalogue every missing source is named with its reason."""
    found = inspect_release(tmp_path / make_world(bare=True).write(tmp_path).release_id)
    assert set(found.not_offered) == {
        "similar",
        "complement",
        "trending",
        "search",
        "tagged",
        "ranker",
        "histories",
        "fold-in",
        "attribute category",
        "attribute brand",
    }
    assert "build it from a model that has" in found.not_offered["similar"]


def test_a_broken_release_is_told_as_broken(release: Path) -> None:
    """A changed file is found, a torn manifest too, and a directory that is not there is not a release."""
    vectors = release / "item_vectors.npy"
    data = bytearray(vectors.read_bytes())
    data[-1] ^= 1
    vectors.write_bytes(data)
    found = inspect_release(release)
    assert "item_vectors.npy has been changed" in found.problem
    assert found.manifest is not None
    with pytest.raises(ReleaseRefused, match="has been changed"):
        evaluate(release, QUERIES, 5)
    (release / "manifest.json").write_text("{")
    assert "is not a JSON object" in inspect_release(release).problem
    with pytest.raises(NotFound):
        inspect_release(release / "nothing")
