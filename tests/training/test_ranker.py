import numpy as np
import pytest

from tidings_core.features import CANDIDATE_FEATURES, ITEM_FEATURES, USER_FEATURES
from tidings_core.ranker import OnnxRanker
from tidings_training.examples import Examples, join
from tidings_training.ranker import Network, export, train

F, U, C = len(ITEM_FEATURES), len(USER_FEATURES), len(CANDIDATE_FEATURES)


def make_examples(users: int = 200, width: int = 30, seed: int = 0) -> Examples:
    """Lists in which people buy what is near in vector and high in one item feature; the rest is noise."""
    rng = np.random.default_rng(seed)
    item = rng.normal(3, 2, (users, width, F)).astype(np.float32)
    user = rng.normal(size=(users, U)).astype(np.float32)
    candidate = rng.normal(size=(users, width, C)).astype(np.float32)
    there = np.arange(width) < rng.integers(width // 2, width + 1, users)[:, None]
    worth = 2 * candidate[..., 0] + item[..., 0] + rng.gumbel(size=there.shape)
    worth[~there] = -np.inf
    bought = worth >= np.sort(worth, axis=1)[:, -3:-2]
    return Examples(item, user, candidate, there, bought)


EXAMPLES = make_examples()
NETWORK = train(EXAMPLES, seed=1, steps=70)


def hits(network: Network, examples: Examples) -> float:
    """Share of users whose best candidate was bought."""
    scores = np.where(examples.there, network.score(examples.item, examples.user, examples.candidate), -np.inf)
    return float(np.take_along_axis(examples.bought, scores.argmax(axis=1)[:, None], 1).mean())


def test_it_learns_what_was_planted() -> None:
    """On lists it never saw, the best candidate was bought far more often than by chance; on shuffled labels, not."""
    fresh = make_examples(seed=9)
    chance = float((fresh.bought.sum(1) / fresh.there.sum(1)).mean())
    assert hits(NETWORK, fresh) > 5 * chance
    rng = np.random.default_rng(0)
    mixed = np.zeros_like(EXAMPLES.bought)
    for mine, there in zip(mixed, EXAMPLES.there, strict=True):
        mine[rng.choice(np.flatnonzero(there), 3, replace=False)] = True
    lost = train(Examples(EXAMPLES.item, EXAMPLES.user, EXAMPLES.candidate, EXAMPLES.there, mixed), steps=70)
    assert hits(lost, fresh) < 3 * chance


@pytest.mark.parametrize("hidden", [(), (8,), (32, 16)])
def test_onnx_gives_the_scores_of_the_network(hidden: tuple[int, ...]) -> None:
    """The exported model scores as the network does, to 1e-5, at any depth and far outside of what it learned from."""
    network = train(EXAMPLES, hidden=hidden, steps=14)
    rng = np.random.default_rng(5)
    for scale in (1.0, 1000.0):
        features = (rng.normal(3, 2, (40, F)) * scale).astype(np.float32)
        rows = rng.integers(0, 40, (7, 23))
        user = (rng.normal(size=(7, U)) * scale).astype(np.float32)
        candidate = (rng.normal(size=(7, 23, C)) * scale).astype(np.float32)
        served = OnnxRanker(export(network), features).score(rows, user, candidate)
        np.testing.assert_allclose(served, network.score(features[rows], user, candidate), rtol=0, atol=1e-5)


def test_the_same_seed_gives_the_same_bytes() -> None:
    """Training twice gives the same ONNX file, byte for byte; another seed gives another."""
    assert export(train(EXAMPLES, seed=1, steps=70)) == export(NETWORK)
    assert export(train(EXAMPLES, seed=2, steps=70)) != export(NETWORK)


def test_padding_teaches_nothing() -> None:
    """What stands in the padding changes no weight."""
    other = make_examples()
    other.item[~other.there] = 1e6
    other.candidate[~other.there] = -1e6
    assert export(train(other, seed=1, steps=70)) == export(NETWORK)


def test_a_feature_that_never_varied_has_no_say() -> None:
    """A constant column, here one feature of the user, changes no score whatever it is in training."""
    same = make_examples()
    same.user[:, 0] = 7.0
    network = train(same, steps=14)
    assert np.isfinite(network.std).all()
    assert network.std[F] == 1.0
    assert network.mean[F] == 7.0


def test_joined_examples_keep_every_list() -> None:
    """Parts of different width join to one, each list as it was, the padding marked."""
    narrow, wide = make_examples(3, 10), make_examples(2, 15, seed=1)
    both = join([narrow, wide])
    assert both.there.shape == (5, 15)
    assert not both.there[:3, 10:].any()
    assert not both.bought[~both.there].any()
    np.testing.assert_array_equal(both.candidate[3:], wide.candidate)
    np.testing.assert_array_equal(both.item[:3, :10], narrow.item)
