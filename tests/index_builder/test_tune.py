"""The index is chosen by measuring, keeps its recall target, and its recall can be computed again by anyone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.index_builder.shop import clustered
from tidings_core.errors import InvalidInput
from tidings_core.index import build_index, normalise
from tidings_core.model import METRICS, Metric
from tidings_core.tables import Float32, Int64
from tidings_index_builder import candidates, race
from tidings_index_builder.candidates import (
    CODES,
    FACTORS,
    HNSW,
    best_factor,
    bytes_per_item,
    list_count,
    lists_of,
    next_factor,
)
from tidings_index_builder.race import Budgets
from tidings_index_builder.recall import TIE, true_nearest
from tidings_index_builder.trial import FEW, sure
from tidings_index_builder.tune import Tuned, sample_users, tune


@pytest.fixture
def small_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let IVF compete in shops small enough for a test."""
    monkeypatch.setattr(candidates, "IVF_FROM", 1000)


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch, small_lists: None) -> None:
    """Let a shop small enough for a test be too large to be tried whole."""
    monkeypatch.setattr(race, "SCREEN", 1500)


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


def facts(tuned: Tuned, *keys: str) -> list[object]:
    """What is measured of some indexes besides their speed."""
    return [
        (trial.key, trial.items, trial.parameters, trial.tune_recall, trial.select_recall, trial.bytes_per_item)
        for trial in tuned.trials
        if trial.key in keys
    ]


@pytest.mark.usefixtures("small_lists")
@pytest.mark.parametrize("metric", METRICS)
def test_the_winner_keeps_the_target_and_its_recall_is_what_numpy_computes(metric: Metric) -> None:
    """On users that nothing was tuned or selected on the index reaches the target, measured just as it is reported."""
    items, users = (normalise(vectors, metric) for vectors in clustered(1500, 400))
    tuned = tune(items, users, metric, target=0.9, k=20)
    assert tuned.winner.meets
    assert tuned.winner.fate == "chosen"
    assert tuned.recall >= 0.9
    found = tuned.index.search(tuned.report_queries, 20)[0]
    assert tuned.recall == pytest.approx(plain_recall(items, tuned.report_queries, found, 20, metric), abs=1e-12)
    met = [trial for trial in tuned.trials if trial.meets]
    assert tuned.winner.microseconds <= race.NEAR * min(trial.microseconds for trial in met)
    assert {trial.key.split(",")[-1] for trial in tuned.trials} >= {"Flat", "SQfp16", "SQ8", "HNSW32"}


@pytest.mark.usefixtures("small_lists")
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1000, 1600),
    dim=st.integers(2, 24),
    target=st.sampled_from([0.5, 0.8, 0.9, 0.97]),
    spread=st.sampled_from([0.0, 0.3, 1.0]),
    zeros=st.integers(0, 100),
    repeats=st.booleans(),
    metric=st.sampled_from(METRICS),
)
def test_the_promise_holds_for_users_nobody_asked(
    seed: int, count: int, dim: int, target: float, spread: float, zeros: int, repeats: bool, metric: Metric
) -> None:
    """Whatever the vectors, with zero and repeated ones: recall on fresh users is the target's, within their error."""
    rng = np.random.default_rng(seed)
    items = rng.normal(size=(count, dim)) * rng.lognormal(0, spread, (count, 1))
    if repeats:
        items = items[rng.integers(0, count // 3, count)]
    items[:zeros] = 0
    users = items[rng.integers(0, count, 400)] + rng.normal(size=(400, dim))
    vectors, known, fresh = (normalise(made.astype(np.float32), metric) for made in (items, users[:200], users[200:]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "HNSW_UP_TO", 0)
        tuned = tune(vectors, known, metric, target=target, k=10, seed=seed)
    assert tuned.recall >= target
    shares = true_nearest(vectors, fresh, 10, metric).shares(tuned.index.search(fresh, 10)[0])
    assert shares.mean() >= target - 4 * max(shares.std(), 0.05) / len(shares) ** 0.5


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


def test_few_users_ask_for_a_wide_margin() -> None:
    """The same mean is sure of many users and not of few; all of one's items found is sure of any."""
    assert sure(np.full(1000, 0.96), 0.95)
    assert not sure(np.full(FEW - 1, 0.96), 0.95)
    assert sure(np.ones(1), 0.95)
    assert not sure(np.full(1000, 0.9499), 0.95)
    uneven = np.repeat([1.0, 0.92], 500)
    assert sure(uneven, 0.956)
    assert not sure(uneven, 0.9585)


@pytest.mark.usefixtures("small_lists")
def test_a_target_no_approximation_reaches_is_met_by_exact_search() -> None:
    """A target of 1 is never missed in silence: exact search stands ready."""
    rng = np.random.default_rng(0)
    items, users = rng.normal(size=(1500, 32)).astype(np.float32), rng.normal(size=(60, 32)).astype(np.float32)
    tuned = tune(items * 1e-6, users, "inner_product", target=1.0, k=50)
    assert tuned.recall == 1.0
    # Products this small vanish in half precision.
    assert "SQfp16" in {trial.key for trial in tuned.trials if trial.fate == "falls short"}


@pytest.mark.parametrize("items", [1, 7, 10])
@pytest.mark.parametrize("metric", METRICS)
def test_a_shop_of_ten_items_is_served(items: int, metric: Metric) -> None:
    """k is cut to the number of items; zero vectors and one user are no obstacle."""
    vectors, users = clustered(items, 5, 4)
    vectors[0] = 0
    tuned = tune(normalise(vectors, metric), normalise(users, metric), metric, target=0.95, k=100)
    assert tuned.k == items
    assert tuned.recall >= 0.95


@pytest.mark.parametrize("users", [1, 2, 3])
def test_a_handful_of_users_is_enough(users: int) -> None:
    """One user tunes, selects and reports; from three on they share the work."""
    items, queries = clustered(50, users, 4)
    tuned = tune(items, queries, "inner_product", target=0.95, k=10)
    assert len(tuned.report_queries) >= 1
    assert tuned.winner.meets


@given(count=st.integers(3, 5000), seed=st.integers(0, 2**31 - 1))
def test_the_three_sets_of_users_are_disjoint_and_repeatable(count: int, seed: int) -> None:
    """No user has two tasks, and a seed always draws the same ones."""
    sets = sample_users(count, seed)
    rows = np.concatenate(sets)
    assert len(set(rows.tolist())) == len(rows)
    assert {len(part) for part in sets} == {min(1000, count // 3)}
    assert set(rows.tolist()) <= set(range(count))
    for part, again in zip(sets, sample_users(count, seed), strict=True):
        np.testing.assert_array_equal(part, again)


@pytest.mark.usefixtures("small_lists")
def test_the_same_seed_measures_the_same_recall() -> None:
    """Samples, lists and settings repeat; only the speed is measured anew, and with it the choice."""
    items, users = clustered(1500, 200)
    first, second = (tune(items, users, "inner_product", target=0.9, k=10, seed=7) for _ in range(2))
    shared = {trial.key for trial in first.trials} & {trial.key for trial in second.trials}
    assert len(shared) >= 5
    assert facts(first, *shared) == facts(second, *shared)
    np.testing.assert_array_equal(first.report_queries, second.report_queries)
    if first.winner.key == second.winner.key:
        assert first.recall == second.recall
        found, again = (run.index.search(users, 10)[0] for run in (first, second))
        np.testing.assert_array_equal(found, again)


@pytest.mark.usefixtures("small_lists")
def test_the_smallest_setting_that_is_sure_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tried setting below the chosen one was sure to reach the target, unless other users asked for more."""
    items, users = clustered(2000, 600, seed=2)
    monkeypatch.setattr(candidates, "HNSW_UP_TO", 0)
    for trial in tune(items, users, "l2", target=0.8, k=20).trials:
        if trial.key.startswith("IVF") and trial.meets:
            assert trial.tune_recall > 0.8
            assert trial.select_recall >= 0.8
            assert trial.parameters["nprobe"] in {step.parameters["nprobe"] for step in trial.steps}
            below = [step for step in trial.steps if step.parameters["nprobe"] < trial.parameters["nprobe"] * 0.9]
            assert all(step.recall < trial.tune_recall for step in below)


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
    """With a clock that counts calls, every candidate costs the same, one tick a query, and the smallest wins."""
    ticks = iter(range(10**9))
    items, users = clustered(100, 10, 4)
    tuned = tune(items, users, "inner_product", target=0.5, k=5, clock=lambda: next(ticks) * 1e-4)
    assert {round(trial.microseconds) for trial in tuned.trials} == {100}
    assert tuned.winner.bytes_per_item == min(trial.bytes_per_item for trial in tuned.trials if trial.meets)
    assert {trial.fate for trial in tuned.trials} <= {"chosen", "as fast, but larger", "falls short"}


# -- many items


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize("metric", METRICS)
def test_of_many_items_a_sample_screens_and_only_finalists_are_built(metric: Metric, tmp_path: Path) -> None:
    """Every candidate is tried on a sample; at most two are built whole, exact search stands beside them, and nothing
    stays behind on the disk.
    """
    items, users = (normalise(vectors, metric) for vectors in clustered(6000, 500))
    told: list[str] = []
    tuned = tune(items, users, metric, target=0.9, k=20, scratch=tmp_path, progress=lambda step, *_: told.append(step))
    screened = [trial for trial in tuned.trials if trial.items == 1500]
    whole = [trial for trial in tuned.trials if trial.items == 6000]
    assert len(screened) >= 5
    assert {trial.key for trial in whole} >= {"Flat"}
    assert len(whole) <= 3
    assert {trial.fate for trial in screened} <= {"went on", "screened out", "falls short"}
    assert sum(trial.fate == "went on" for trial in screened) <= race.FINALISTS
    for trial in whole:
        if lists_of(trial.key):
            assert f"IVF{round(lists_of(trial.key) / 2)},{trial.key.split(',')[1]}" in {t.key for t in screened}
    assert tuned.winner in whole
    assert tuned.index.item_count == 6000
    found = tuned.index.search(tuned.report_queries, 20)[0]
    assert tuned.recall == pytest.approx(plain_recall(items, tuned.report_queries, found, 20, metric), abs=1e-12)
    assert list(tmp_path.iterdir()) == []
    assert any("MiB of memory" in step for step in told)
    assert tuned.expected_bytes > 6000 * 16 * 4
    assert tuned.peak_bytes > 0


# -- budgets


@pytest.mark.usefixtures("small_lists")
@pytest.mark.parametrize("most", [34.0, 26.0, 70.0])
def test_no_index_takes_more_bytes_than_allowed(most: float) -> None:
    """Whatever is chosen fits, and what would not is not even built, as far as that is known beforehand."""
    items, users = clustered(4000, 300)
    tuned = tune(items, users, "inner_product", target=0.7, k=20, budgets=Budgets(bytes_per_item=most))
    assert tuned.winner.bytes_per_item <= most
    assert all(bytes_per_item(trial.key, 16) <= most for trial in tuned.trials)
    assert tuned.budgets.bytes_per_item == most


@pytest.mark.usefixtures("small_lists")
@pytest.mark.parametrize("screen", [1500, 100_000])
def test_an_unreachable_target_names_the_best_and_what_it_would_take(
    screen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within eight bytes per item no code keeps .95; which one would, and at how many bytes, is said."""
    monkeypatch.setattr(race, "SCREEN", screen)
    rng = np.random.default_rng(1)
    items, users = rng.normal(size=(3000, 16)).astype(np.float32), rng.normal(size=(300, 16)).astype(np.float32)
    with pytest.raises(InvalidInput) as refused:
        tune(items, users, "inner_product", target=0.95, k=20, budgets=Budgets(bytes_per_item=8.5))
    ((field, told),) = refused.value.violations
    assert field == "recall_target"
    assert told.startswith("0.95 is not reached within 8.5 bytes per item: the best of 1 tried is SQ4 with 0.")
    assert "it takes 1" in told
    assert "bytes per item (SQ" in told
    assert told.endswith("or a lower target")


def test_too_few_bytes_for_any_index_are_told() -> None:
    """Below the smallest code there is nothing to try."""
    items, users = clustered(100, 30)
    with pytest.raises(InvalidInput, match="no index is that small; it takes"):
        tune(items, users, "l2", target=0.9, k=5, budgets=Budgets(bytes_per_item=2))


@pytest.mark.usefixtures("small_sample")
def test_when_the_time_is_over_exact_search_is_ready() -> None:
    """What there is no time to build is skipped, with the reason, and the target is met all the same."""
    items, users = clustered(6000, 300)
    seconds = iter(np.arange(0, 1e6, 0.5))
    tuned = tune(
        items, users, "inner_product", target=0.9, k=10, budgets=Budgets(build_seconds=60.0),
        clock=lambda: float(next(seconds)),
    )  # fmt: skip
    assert tuned.recall >= 0.9
    assert tuned.skipped
    assert all("left" in reason for _, reason in tuned.skipped)
    assert tuned.winner.items == 6000


def test_enough_time_skips_nothing() -> None:
    """A budget that is not used up changes nothing."""
    items, users = clustered(500, 60)
    tuned = tune(items, users, "cosine", target=0.9, k=10, budgets=Budgets(build_seconds=3600.0))
    assert tuned.skipped == ()


# -- candidates


@pytest.mark.parametrize("key", [*CODES, *(f"IVF8,{code}" for code in CODES), HNSW])
@pytest.mark.parametrize("dim", [3, 16, 65])
def test_what_an_index_takes_is_known_before_it_is_built(key: str, dim: int, tmp_path: Path) -> None:
    """The formula gives what the file has per item, but for the lists' representatives and its head."""
    vectors = np.random.default_rng(0).normal(size=(4000, dim)).astype(np.float32)
    build_index(key, vectors, "l2", {}).write(tmp_path / "index")
    assert (tmp_path / "index").stat().st_size / 4000 == pytest.approx(bytes_per_item(key, dim), abs=2.5)


@given(st.lists(st.floats(1.0, 1e4), min_size=len(FACTORS), max_size=len(FACTORS)))
def test_numbers_of_lists_are_tried_outwards_from_the_best(distances: list[float]) -> None:
    """It ends, tries none twice, and leaves no neighbour of the best untried; more lists must be worth it."""
    costs: list[tuple[int, float]] = []
    while (at := next_factor(costs)) is not None:
        assert at not in [tried for tried, _ in costs]
        costs.append((at, distances[at]))
    best, tried = best_factor(costs), [at for at, _ in costs]
    assert {best - 1, best + 1} & set(range(len(FACTORS))) <= set(tried)
    for at in tried:
        assert distances[best] * candidates.WORTH ** (best - at) <= distances[at]


def test_list_counts_grow_with_the_square_root_of_the_items() -> None:
    """A hundred times the items get ten times the lists, and never more lists than items."""
    assert [list_count(10_000, factor) for factor in FACTORS] == [80, 160, 320, 640]
    assert [list_count(1_000_000, factor) for factor in FACTORS] == [800, 1600, 3200, 6400]
    assert list_count(3, 6.4) == 3
    assert lists_of("IVF640,SQ8") == 640
    assert lists_of("SQ8") == lists_of("HNSW32") == 0
