"""How much of what it should have found an index found: measured as brute force would."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import NOW, make_world
from tidings_core.exact import CHUNK, measure, near
from tidings_core.index import build_index
from tidings_core.model import SERVING_CONFIGS, Metric, Query, ServingConfig, Snapshot, SourceUse
from tidings_core.recommend import retrieve
from tidings_core.subjects import resolve

METRICS: tuple[Metric, ...] = ("inner_product", "cosine", "l2")
WORLDS = {metric: make_world(items=240, users=30, metric=metric).snapshot() for metric in METRICS}
ANN = ServingConfig("ann", (SourceUse("ann", 20),), rerank=False, within_category=True)


def with_index(snapshot: Snapshot, key: str, nprobe: int) -> Snapshot:
    """The same shop, searched by another index."""
    index = build_index(key, snapshot.item_vectors, snapshot.metric, {"nprobe": nprobe})
    return dataclasses.replace(snapshot, index=index)


POOR = {metric: with_index(snapshot, "IVF24,Flat", 1) for metric, snapshot in WORLDS.items()}


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 29),
    st.integers(1, 60),
    st.lists(st.integers(0, 239), max_size=60),
    st.sampled_from(["", "group-2"]),
    st.integers(1, 60),
    st.sampled_from(METRICS),
)
def test_recall_is_the_share_that_brute_force_finds(
    user: int, k: int, excluded: list[int], category: str, most: int, metric: Metric
) -> None:
    """With exclusions and in a category too: of the nearest that may be found, how many did the source propose."""
    snapshot = POOR[metric]
    query = Query(f"user-{user}", ANN, k, exclude_item_ids=[f"item-{row}" for row in excluded], category=category)
    found = measure(query, snapshot, NOW, most)
    assert snapshot.histories is not None
    allowed = [row for row in range(240) if not category or row % 6 == 2]
    left_out = {*excluded, *snapshot.histories[user].rows.tolist()}
    may = [row for row in allowed if row not in left_out]
    wanted = min(most, max(20, k), len(may))
    assert found is not None
    assert (found.wanted, found.pass_rate) == (wanted, len(allowed) / 240)
    vector, vectors = snapshot.user_vectors[user], snapshot.item_vectors
    scores = -((vectors - vector) ** 2).sum(1) if metric == "l2" else vectors @ vector
    true = sorted(may, key=lambda row: -scores[row])[:wanted]
    subjects, _ = resolve([query], ANN, snapshot, NOW)
    candidates = retrieve(subjects, ANN, snapshot)[0].candidates
    best = candidates.rows[0][(candidates.rows[0] >= 0) & (candidates.ranks[0, :, 0] < wanted)].tolist()
    assert found.recall == pytest.approx(len(set(true) & set(best)) / wanted)


def test_an_exact_index_has_all_of_it() -> None:
    """Ties count as found, whichever of the equal ones came."""
    for snapshot in WORLDS.values():
        doubled = dataclasses.replace(
            with_index(dataclasses.replace(snapshot, item_vectors=snapshot.item_vectors // 0.5), "Flat", 1)
        )
        for user in range(30):
            found = measure(Query(f"user-{user}", ANN, 5), doubled, NOW, 9)
            assert found is not None
            assert found.recall == 1.0


def test_there_is_nothing_to_measure_without_a_vector_or_without_the_index() -> None:
    """A stranger, and a serving config that does not ask the index."""
    snapshot = WORLDS["inner_product"]
    assert measure(Query("nobody", ANN, 5), snapshot, NOW, 9) is None
    assert measure(Query("user-1", SERVING_CONFIGS["trending"], 5), snapshot, NOW, 9) is None
    everything = [f"item-{row}" for row in range(240)]
    assert measure(Query("user-1", ANN, 5, exclude_item_ids=everything), snapshot, NOW, 9) is None


@pytest.mark.parametrize("metric", METRICS)
def test_more_items_than_one_chunk_are_compared_as_one(metric: Metric) -> None:
    """Nothing is lost or doubled where chunks meet."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(2 * CHUNK + 3, 4)).astype(np.float32)
    queries = rng.normal(size=(4, 3)).astype(np.float32)
    snapshot = dataclasses.replace(WORLDS[metric], item_vectors=vectors)
    scores = near(vectors, queries, snapshot)
    true = vectors @ queries
    if metric == "l2":
        true = -((vectors[:, None, :] - queries.T[None]) ** 2).sum(2)
    np.testing.assert_allclose(scores, true, rtol=1e-4, atol=1e-4)
