"""The index: nearest items under every metric, exclusions kept, files refused when they are not as they should be."""

import threading
from pathlib import Path

import faiss
import numpy as np
import pytest

from tidings_core.errors import IndexFailed, InvalidInput
from tidings_core.index import build_index, exact_search, normalise, open_index, recall
from tidings_core.model import METRICS, Metric

KEYS = {"Flat": {}, "IVF32,SQfp16": {"nprobe": 24}, "IVF32,SQ8": {"nprobe": 24}, "HNSW32": {"efSearch": 200}}


def vectors(count: int, seed: int) -> np.ndarray:
    """Random vectors f32[count, 24]."""
    return np.random.default_rng(seed).normal(size=(count, 24)).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("key", KEYS)
def test_an_index_finds_the_nearest_items_before_and_after_a_file(metric: Metric, key: str, tmp_path: Path) -> None:
    """Recall@20 against plain numpy is high for every index type, scores are larger for nearer, a file keeps it all."""
    items, queries = normalise(vectors(3000, 0), metric), normalise(vectors(50, 1), metric)
    if metric == "l2":
        scores = -((queries[:, None, :] - items[None]) ** 2).sum(axis=2)
    else:
        scores = queries @ items.T
    true = np.argsort(-scores, axis=1)[:, :20]
    index = build_index(key, items, metric, KEYS[key])
    index.write(tmp_path / "index")
    for opened in (index, open_index(tmp_path / "index", metric, key, KEYS[key], items)):
        rows, found = opened.search(queries, 20)
        assert recall(rows, true) >= 0.9
        assert (np.diff(found, axis=1) <= 0).all()
        np.testing.assert_allclose(found, np.take_along_axis(scores, rows, 1), rtol=0.05, atol=0.1)
    assert recall(exact_search(items, queries, 20, metric)[0], true) == 1.0


def test_fewer_items_than_asked_for_are_padded() -> None:
    """Ten items asked of three give three and padding, never a row that is not there."""
    rows, scores = build_index("Flat", vectors(3, 0), "inner_product", {}).search(vectors(1, 1), 10)
    assert sorted(rows[0, :3].tolist()) == [0, 1, 2]
    assert (rows[0, 3:] == -1).all()
    assert (scores[0, 3:] == 0).all()


def test_an_unknown_index_key_is_refused() -> None:
    """A key FAISS does not know is the user's mistake and is named."""
    with pytest.raises(InvalidInput, match="Nonsense"):
        build_index("Nonsense", vectors(10, 0), "l2", {})


def test_a_file_that_is_no_index_or_of_another_metric_is_refused(tmp_path: Path) -> None:
    """Opening says what is wrong instead of serving nonsense."""
    (tmp_path / "bad").write_bytes(b"not an index")
    with pytest.raises(IndexFailed, match="cannot be read"):
        open_index(tmp_path / "bad", "l2", "Flat", {}, vectors(10, 0))
    build_index("Flat", vectors(10, 0), "inner_product", {}).write(tmp_path / "ip")
    with pytest.raises(IndexFailed, match="compares by"):
        open_index(tmp_path / "ip", "l2", "Flat", {}, vectors(10, 0))
    with pytest.raises(IndexFailed, match="holds 10 x 24, not 9 x 24"):
        open_index(tmp_path / "ip", "inner_product", "Flat", {}, vectors(9, 0))


def test_a_query_of_the_wrong_length_fails_as_an_index_failure() -> None:
    """A failing search is one error class, which the answer can do without."""
    with pytest.raises(IndexFailed):
        build_index("Flat", vectors(10, 0), "l2", {}).search(np.zeros((1, 3), np.float32), 1)


def test_normalise_makes_unit_vectors_for_the_cosine_only() -> None:
    """Zero vectors stay zero rather than becoming NaN."""
    given = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(normalise(given, "cosine"), [[0.6, 0.8], [0.0, 0.0]])
    assert normalise(given, "l2") is given


def test_a_search_keeps_to_one_core_in_whatever_thread_it_is_made() -> None:
    """OpenMP counts per thread: also in a thread that did not import FAISS, a search uses one."""
    index = build_index("Flat", vectors(100, 0), "l2", {})
    seen: list[int] = []

    def work() -> None:
        index.search(vectors(4, 1), 3)
        seen.append(faiss.omp_get_max_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [1]


def test_a_graph_looks_at_no_fewer_items_than_it_shall_find() -> None:
    """HNSW with a small effort is still asked for 200 items and finds good ones."""
    items, queries = vectors(3000, 0), vectors(30, 1)
    index = build_index("HNSW32", items, "l2", {"efSearch": 16})
    assert recall(index.search(queries, 200)[0], exact_search(items, queries, 200, "l2")[0]) > 0.85


@pytest.mark.parametrize("metric", METRICS)
def test_the_distances_of_a_search_are_those_to_the_lists_and_to_what_is_in_them(metric: Metric) -> None:
    """What FAISS counts, and one more for each list; all items where there are no lists."""
    rng = np.random.default_rng(0)
    items, queries = (normalise(rng.normal(size=(n, 8)).astype(np.float32), metric) for n in (500, 20))
    index = build_index("IVF16,SQ8", items, metric, {"nprobe": 5})
    counter = faiss.cvar.indexIVF_stats
    counter.reset()
    index.search(queries, 10)
    assert index.distances(queries) == pytest.approx(16 + counter.ndis / 20)
    assert build_index("Flat", items, metric, {}).distances(queries) == 500
