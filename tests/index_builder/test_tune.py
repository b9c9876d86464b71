"""The index is chosen by measuring, keeps its recall target, and its recall can be computed again by anyone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.index_builder.shop import clustered
from tidings_core.index import build_index, normalise
from tidings_core.model import METRICS, Metric
from tidings_core.tables import Float32, Int64
from tidings_index_builder import tune as tuning
from tidings_index_builder.recall import TIE, true_nearest
from tidings_index_builder.tune import list_counts, sample_users, tune


@pytest.fixture
def small_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let IVF compete in shops small enough for a test."""
    monkeypatch.setattr(tuning, "IVF_FROM", 1000)


def plain_recall(vectors: Float32, queries: Float32, found: Int64, k: int, metric: Metric) -> float:
    """Recall@k in plain NumPy, by the definition `recall.py` states."""
    wide, asked = vectors.astype(np.float64), queries.astype(np.float64)
    scores: NDArray[np.float64] = asked @ wide.T
    if metric == "l2":
        scores = np.stack([-((wide - query) ** 2).sum(axis=1) for query in asked])
    k = min(k, len(vectors))
    ordered = np.sort(scores, axis=1)
    least = ordered[:, -k] - TIE * np.maximum(np.abs(ordered[:, -1]), np.abs(ordered[:, -k]))
    hits = [
        sum(row >= 0 and scores[query, row] >= least[query] for row in rows) for query, rows in enumerate(found[:, :k])
    ]
    return float(np.mean(hits)) / k


@pytest.mark.usefixtures("small_lists")
@pytest.mark.parametrize("metric", METRICS)
def test_the_winner_keeps_the_target_and_its_recall_is_what_numpy_computes(metric: Metric) -> None:
    """On users that no setting was tuned on the chosen index reaches the target, measured just as it is reported."""
    items, users = (normalise(vectors, metric) for vectors in clustered(1500, 400))
    tuned = tune(items, users, metric, target=0.9, k=20)
    assert tuned.winner.meets
    assert tuned.winner.verify_recall >= 0.9
    found = tuned.index.search(tuned.verify_queries, 20)[0]
    assert tuned.winner.verify_recall == pytest.approx(
        plain_recall(items, tuned.verify_queries, found, 20, metric), abs=1e-12
    )
    met = [trial for trial in tuned.trials if trial.meets]
    assert tuned.winner.microseconds == min(trial.microseconds for trial in met)
    assert {trial.key.split(",")[-1] for trial in tuned.trials} >= {"Flat", "SQfp16", "SQ8", "HNSW32"}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 60),
    k=st.integers(1, 12),
    repeats=st.booleans(),
    metric=st.sampled_from(METRICS),
    key=st.sampled_from(["Flat", "SQfp16", "SQ8"]),
)
def test_recall_is_the_same_in_plain_numpy(
    seed: int, count: int, k: int, repeats: bool, metric: Metric, key: str
) -> None:
    """For any vectors, with repeated ones and thus equal scores too, recall is what its definition says."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 4)).astype(np.float32)
    if repeats:
        vectors = vectors[rng.integers(0, max(1, count // 4), count)]
    vectors, queries = normalise(vectors, metric), normalise(rng.normal(size=(5, 4)).astype(np.float32), metric)
    truth = true_nearest(vectors, queries, k, metric)
    found = build_index(key, vectors, metric, {}).search(queries, min(k, count))[0]
    assert truth.recall(found) == pytest.approx(plain_recall(vectors, queries, found, k, metric), abs=1e-12)
    if key == "Flat":
        assert truth.recall(found) == 1.0


def test_an_item_that_was_not_found_costs_recall() -> None:
    """Recall falls by exactly what is wrong or missing in the answer."""
    vectors = np.eye(4, dtype=np.float32) * np.array([[4.0], [3.0], [2.0], [1.0]], np.float32)
    truth = true_nearest(vectors, np.ones((1, 4), np.float32), 2, "inner_product")
    assert truth.recall(np.array([[0, 1]])) == 1.0
    assert truth.recall(np.array([[1, 2]])) == 0.5
    assert truth.recall(np.array([[0, -1]])) == 0.5
    assert truth.recall(np.array([[3, 2]])) == 0.0


def test_equal_items_are_equally_right() -> None:
    """Which of a hundred copies an index finds is no matter of recall."""
    vectors = np.ones((100, 3), np.float32)
    truth = true_nearest(vectors, np.ones((1, 3), np.float32), 5, "inner_product")
    assert truth.recall(np.array([[90, 91, 92, 93, 94]])) == 1.0


@pytest.mark.usefixtures("small_lists")
def test_a_target_no_approximation_reaches_is_met_by_exact_search() -> None:
    """A target of 1 is never missed in silence: exact search stands ready."""
    rng = np.random.default_rng(0)
    items, users = rng.normal(size=(1500, 32)).astype(np.float32), rng.normal(size=(60, 32)).astype(np.float32)
    tuned = tune(items * 1e-6, users, "inner_product", target=1.0, k=50)
    assert tuned.winner.verify_recall == 1.0
    short = [trial for trial in tuned.trials if not trial.meets]
    # Products this small vanish in half precision.
    assert "SQfp16" in {trial.key for trial in short}


def test_k_is_cut_to_the_number_of_items() -> None:
    """A shop of seven items can be asked for seven at most."""
    items, users = clustered(7, 5, 4)
    tuned = tune(items, users, "cosine", target=0.95, k=100)
    assert tuned.k == 7
    assert tuned.winner.verify_recall >= 0.95


@pytest.mark.parametrize("users", [1, 2, 3])
def test_a_handful_of_users_is_enough(users: int) -> None:
    """One user both chooses and verifies; from two on they share the work."""
    items, queries = clustered(50, users, 4)
    tuned = tune(items, queries, "inner_product", target=0.95, k=10)
    assert len(tuned.verify_queries) >= 1
    assert tuned.winner.meets


@given(count=st.integers(2, 5000), seed=st.integers(0, 2**31 - 1))
def test_tune_and_verify_users_are_disjoint_and_repeatable(count: int, seed: int) -> None:
    """No user both chooses and verifies, and a seed always draws the same ones."""
    first, second = sample_users(count, seed)
    assert not set(first) & set(second)
    assert 1 <= len(first) <= 1000
    assert 1 <= len(second) <= 1000
    assert {*first, *second} <= set(range(count))
    again = sample_users(count, seed)
    assert first.tolist() == again[0].tolist()
    assert second.tolist() == again[1].tolist()


@pytest.mark.usefixtures("small_lists")
def test_the_same_seed_measures_the_same_recall() -> None:
    """Samples, lists and settings repeat; only the speed is measured anew."""
    items, users = clustered(1500, 200)
    runs = [tune(items, users, "inner_product", target=0.9, k=10, seed=7) for _ in range(2)]
    facts = [
        [
            (trial.key, trial.parameters, trial.tune_recall, trial.verify_recall)
            for trial in run.trials
            if "SQ8" not in trial.key and ",Flat" not in trial.key
        ]
        for run in runs
    ]
    assert facts[0] == facts[1]
    np.testing.assert_array_equal(runs[0].verify_queries, runs[1].verify_queries)


@pytest.mark.usefixtures("small_lists")
def test_the_smallest_setting_that_reaches_the_target_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tried setting below the chosen one reached the goal, and the chosen one did."""
    items, users = clustered(2000, 300, seed=2)
    monkeypatch.setattr(tuning, "HNSW_UP_TO", 0)
    for trial in tune(items, users, "l2", target=0.8, k=20).trials:
        if trial.key.startswith("IVF") and trial.meets:
            chosen = trial.parameters["nprobe"]
            goal = 0.8 + 0.005
            assert trial.tune_recall >= goal
            assert all(step.recall < goal for step in trial.steps if step.parameters["nprobe"] < chosen)


def test_a_graph_is_never_searched_with_less_effort_than_k() -> None:
    """Below k, efSearch changes nothing, so the search for a setting starts at k."""
    items, users = clustered(2000, 50)
    truth = true_nearest(items, users, 120, "inner_product")
    index = build_index("HNSW32", items, "inner_product", {})
    low, least = (
        truth.recall(index.with_parameters({"efSearch": effort}).search(users, 120)[0]) for effort in (16, 120)
    )
    assert low == least
    hnsw = next(t for t in tune(items, users, "inner_product", target=0.5, k=120).trials if t.key == "HNSW32")
    assert hnsw.parameters == {"efSearch": 120}


def test_speed_is_the_median_of_turns_on_the_given_clock() -> None:
    """With a clock that counts calls, every candidate costs the same: one tick a query."""
    ticks = iter(range(10**9))
    items, users = clustered(100, 10, 4)
    tuned = tune(items, users, "inner_product", target=0.9, k=5, clock=lambda: next(ticks) * 1e-4)
    assert {round(trial.microseconds) for trial in tuned.trials} == {100}


def test_list_counts_grow_with_the_square_root_of_the_items() -> None:
    """A hundred times the items get ten times the lists."""
    assert list_counts(10_000) == [200, 400, 800]
    assert list_counts(1_000_000) == [2000, 4000, 8000]
