"""A vector that is folded in online is the one that the library which trained the others would compute."""

from dataclasses import replace

import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from tests.support.world import make_world
from tests.training.shop import END, make_events
from tidings_core.events import Event, EventItem
from tidings_core.fold_in import folded, likings
from tidings_core.model import FoldIn, Snapshot
from tidings_core.person import view
from tidings_core.profile import EMPTY, Profile, fold
from tidings_training.als import factorise
from tidings_training.events import Events
from tidings_training.interactions import interactions


def with_vectors(vectors: np.ndarray, alpha: float, regularization: float) -> Snapshot:
    """A snapshot whose items have these vectors, as ALS with these constants learned them."""
    wide = vectors.astype(np.float64)
    return replace(BARE, item_vectors=vectors, fold_in=FoldIn(wide.T @ wide, alpha, regularization))


BARE = make_world(items=144, bare=True).snapshot()


@pytest.mark.parametrize(("alpha", "regularization", "factors"), [(4.0, 1.0, 16), (1.0, 0.01, 8), (40.0, 0.1, 64)])
def test_a_folded_vector_is_implicits_recalculation(alpha: float, regularization: float, factors: int) -> None:
    """User by user, from the same liking, with the same item factors and constants, to float tolerance."""
    events = make_events()
    matrix = interactions(events, END)
    assert matrix[:40].getnnz(axis=1).min() > 3
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=factors, alpha=alpha, regularization=regularization, iterations=5, random_state=0, num_threads=1
        )
        model.fit(matrix, show_progress=False)
        expected = model.recalculate_user(np.arange(40), matrix[:40])
    snapshot = with_vectors(np.asarray(model.item_factors), alpha, regularization)
    for user in range(40):
        row = matrix[user]
        found = folded(row.indices.astype(np.int32), row.data.astype(np.float64), snapshot)
        assert found is not None
        np.testing.assert_allclose(found, expected[user], rtol=1e-4, atol=1e-5)


def test_liking_online_is_liking_in_training() -> None:
    """The same events weigh the same in both, relative to the newest one."""
    events = make_events(users=30)
    for user in range(30):
        mine = events.users == user
        newest = float(events.times[mine].max())
        row = interactions(events, newest)[user]
        items, liking = likings(events.items[mine], events.times[mine], events.weights[mine])
        assert items.tolist() == row.indices.tolist()
        np.testing.assert_allclose(liking, row.data, rtol=1e-5)


def profile_of(events: Events, user: int) -> Profile:
    """The profile of one user's events, item numbers as training has them."""
    mine = np.flatnonzero(events.users == user)
    return fold(
        EMPTY,
        [
            (Event(f"e{at}", "purchase", "u", int(events.times[at] * 1000), (EventItem("x"),)), [int(events.items[at])])
            for at in mine
        ],
    )


def test_a_newcomer_is_recommended_what_those_like_them_buy() -> None:
    """Somebody whom training never saw gets a vector from their log that is near what training would have learned."""
    events = make_events()
    kept = events.where(events.users >= 40)
    assert kept.item_ids == events.item_ids
    user_vectors, item_vectors = factorise(interactions(kept, END), factors=16)
    snapshot = with_vectors(item_vectors, 4.0, 1.0)
    rows = np.arange(len(events.item_ids), dtype=np.int32)
    right, newcomers = [], []
    for user in range(40):
        person = view(profile_of(events, user), rows, snapshot, -1)
        assert person.vector is not None
        newcomers.append(float(np.linalg.norm(person.vector)))
        bought = set(events.items[events.users == user].tolist())
        best = [row for row in np.argsort(-(item_vectors @ person.vector)).tolist() if row not in bought][:5]
        right += [int(events.item_ids[row][1:]) % 6 == user % 6 for row in best]
    assert np.mean(right) > 0.8
    # As long as those who were trained, so that a ranker sees what it learned from.
    lengths = np.linalg.norm(user_vectors, axis=1)
    assert 0.5 * np.median(lengths) < np.median(newcomers) < 2.0 * np.median(lengths)
