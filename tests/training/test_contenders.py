import dataclasses
from functools import cache

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.training.shop import GROUPS
from tests.training.world import NOISE, Oracle, rated_world, taste_world
from tidings_core.errors import InvalidInput
from tidings_core.features import DAY
from tidings_core.tables import Float64, Int32
from tidings_index_builder.progress import silent
from tidings_training.contenders.contender import Contender, Embedded, TrainingSet
from tidings_training.contenders.registry import LEARNERS, learn
from tidings_training.contenders.svd import Rated
from tidings_training.proof import metrics
from tidings_training.proof.bootstrap import bootstrap
from tidings_training.proof.compare import best_of, differences, rank, try_model, value_error
from tidings_training.proof.splits import Cut, Split, split

PERSONAL = ("user-knn", "item-knn", "ease", "als", "bpr")
OPTIONS = {"als": {"factors": 16}, "bpr": {"factors": 16}}
K = 10


@cache
def world(shuffled: bool) -> tuple[Split, TrainingSet]:
    """The generated shop, split by chance."""
    found = split(taste_world(shuffled), Cut(protocol="random"))
    return found, TrainingSet(found.train, found.as_of, aged=False)


@cache
def learned(name: str, shuffled: bool = False) -> Contender:
    """A model of it."""
    return learn(name, world(shuffled)[1], OPTIONS.get(name))


def each(count: int) -> Int32:
    """As many people, each with one question."""
    return np.arange(count, dtype=np.int32)


def ndcg(contender: Contender, shuffled: bool = False) -> Float64:
    """NDCG@10 of each question."""
    found, training = world(shuffled)
    lists = rank(contender, training, found.questions, K, silent)
    wanted = np.diff(found.questions.wanted.indptr).astype(np.float64)
    return metrics.measure(metrics.hits(lists, found.questions.wanted), wanted, K)[:, 3]


@pytest.mark.parametrize("name", PERSONAL)
def test_each_model_finds_the_planted_taste(name: str) -> None:
    """Who knows the groups reaches some NDCG@10; every model reaches nine tenths of it, popularity not a third."""
    best = ndcg(Oracle(world(False)[0].train, GROUPS)).mean()
    assert ndcg(learned(name)).mean() > 0.9 * best
    assert ndcg(learned("popularity")).mean() < best / 3


@pytest.mark.parametrize("name", PERSONAL)
def test_where_there_is_no_taste_no_model_finds_any(name: str) -> None:
    """With the same purchases dealt out anew, none is better than popularity beyond chance."""
    gains = (ndcg(learned(name, True), True) - ndcg(learned("popularity", True), True))[:, None]
    low, _ = bootstrap(gains, each(len(gains)), seed=0)
    assert low[0] < 0.005


def test_svd_predicts_values_down_to_their_noise_and_within_the_scale() -> None:
    """On stars made of biases, factors and noise the error is near that of the noise; on shuffled ones it stays."""
    errors = {}
    for shuffled in (False, True):
        found = split(rated_world(shuffled=shuffled), Cut(protocol="random"))
        model = learn("svd", TrainingSet(found.train, found.as_of, aged=False))
        assert isinstance(model, Rated)
        errors[shuffled] = value_error(model, found)
        predicted = model.predict(found.test.users, found.test.items)
        assert predicted.min() >= found.train.values.min()
        assert predicted.max() <= found.train.values.max()
        spread = float(found.test.values.std())
    planted, none = errors[False], errors[True]
    assert planted is not None
    assert none is not None
    assert NOISE * 0.9 < planted["rmse"] < NOISE * 1.5
    assert planted["mae"] < planted["rmse"]
    assert none["rmse"] > 0.97 * spread


def test_svd_without_values_is_refused() -> None:
    """A log without a value says so, and what to do."""
    with pytest.raises(InvalidInput, match="leave it out"):
        learn("svd", world(False)[1])


@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "svd"])
def test_a_model_depends_on_the_seed_alone_and_nobody_sees_what_they_had(name: str) -> None:
    """Learned twice, a model names the same items; what is hidden is never among them, nor an item twice."""
    found, training = world(False)
    once = rank(learned(name), training, found.questions, K, silent)
    again = rank(learn(name, training, OPTIONS.get(name)), training, found.questions, K, silent)
    np.testing.assert_array_equal(once, again)
    assert not metrics.hits(once, found.questions.hidden).any()
    assert all(len(set(row)) == K for row in once.tolist())


@pytest.mark.parametrize("name", PERSONAL)
def test_somebody_new_with_a_past_is_served_by_it(name: str) -> None:
    """Asked as strangers with their past, people get what their group likes from every model."""
    found, training = world(False)
    asked = found.questions
    strangers = dataclasses.replace(asked, users=np.full(len(asked), -1, np.int32))
    lists = rank(learned(name), training, strangers, K, silent)
    people = np.array([int(found.train.user_ids[person][1:]) for person in asked.people])
    items = np.array([int(item[1:]) for item in found.train.item_ids])
    assert (items[lists] % GROUPS == (people % GROUPS)[:, None]).mean() > 0.8


def test_als_folds_a_stranger_in_as_it_learned_the_user() -> None:
    """The vector from somebody's past is near the one that was learned of them."""
    found, _ = world(False)
    model = learned("als")
    assert isinstance(model, Embedded)
    asked = found.questions
    span = slice(asked.past.indptr[0], asked.past.indptr[1])
    folded = model.fold(asked.past.indices[span], asked.past.data[span].astype(np.float64))
    own = model.users[asked.users[0]]
    assert folded @ own / np.linalg.norm(folded) / np.linalg.norm(own) > 0.97


def brute(lists: list[int], wanted: set[int], k: int) -> list[float]:
    """Recall, precision, hit rate, NDCG and MRR as they are defined, one by one."""
    shown = lists[:k]
    found = [place for place, item in enumerate(shown) if item in wanted]
    ideal = sum(1 / np.log2(place + 2) for place in range(min(k, len(wanted))))
    return [
        len(found) / len(wanted),
        len(found) / k,
        float(bool(found)),
        sum(1 / np.log2(place + 2) for place in found) / ideal,
        1 / (found[0] + 1) if found else 0.0,
    ]


@given(st.data())
def test_metrics_are_those_of_their_definitions(data: st.DataObject) -> None:
    """For any lists and any wants each metric is what its definition gives, at every k; padding is no hit."""
    items, k = 12, data.draw(st.integers(1, 8))
    lists: Int32 = np.array(
        [(data.draw(st.permutations(range(items)))[: data.draw(st.integers(0, 8))] + [-1] * 8)[:8] for _ in range(3)],
        np.int32,
    )
    wants = [data.draw(st.sets(st.integers(0, items - 1), min_size=1)) for _ in range(3)]
    matrix = scipy.sparse.csr_matrix(np.array([[float(item in want) for item in range(items)] for want in wants]))
    found = metrics.measure(metrics.hits(lists, matrix), np.array([len(want) for want in wants], np.float64), k)
    expected = [brute(row, want, k) for row, want in zip(lists.tolist(), wants, strict=True)]
    np.testing.assert_allclose(found, expected)


@given(arrays.arrays(np.float32, (6, 5), elements=st.sampled_from([0.0, 1.0])))
def test_diversity_is_one_less_the_mean_cosine_of_all_pairs(had: np.ndarray) -> None:
    """Against every pair of items counted by hand."""
    lists = np.array([[0, 1, 2], [3, 4, -1], [2, -1, -1]], np.int32)

    def cosine(a: int, b: int) -> float:
        lengths = np.linalg.norm(had[:, a]) * np.linalg.norm(had[:, b])
        return float(had[:, a] @ had[:, b] / lengths) if lengths else 0.0

    of_three = 1 - (cosine(0, 1) + cosine(0, 2) + cosine(1, 2)) / 3
    expected = (of_three + 1 - cosine(3, 4)) / 2
    assert metrics.diversity(lists, scipy.sparse.csr_matrix(had)) == pytest.approx(expected, abs=1e-6)


def test_coverage_and_novelty_count_what_is_shown() -> None:
    """Two of four known items are shown; an item that half the users had brings one bit, one in eight three."""
    lists = np.array([[0, 1], [1, -1]], np.int32)
    assert metrics.coverage(lists, np.array([True, True, True, True, False])) == 0.5
    assert metrics.novelty(lists, np.array([4.0, 1.0, 0.0, 0.0, 0.0]), 8) == pytest.approx((1 + 3 + 3) / 3)


def test_of_equal_scores_the_popular_item_comes_first() -> None:
    """A model that says nothing gives what popularity gives."""
    found, training = world(False)

    class Silent:
        def scores(self, asked: object) -> np.ndarray:
            return np.zeros((len(asked), len(training.known)), np.float32)  # type: ignore[arg-type]

    quiet = rank(Silent(), training, found.questions, K, silent)
    buyers = np.diff(training.matrix.tocsc().indptr)
    assert (np.diff(buyers[quiet], axis=1) <= 0).all()


def test_the_bootstrap_is_the_one_worked_out_by_hand() -> None:
    """Of two users with gains 0 and 1 the mean is 0, 1/2, 1 with chances 1/4, 1/2, 1/4: the 95 % interval is 0 to 1.

    Of 400 users, half with gain 1, the mean has deviation 0.025: the interval is 0.5 give or take 0.049. Users with one
    gain leave no doubt.
    """
    low, high = bootstrap(np.array([[0.0], [1.0]]), each(2), seed=0)
    assert (low[0], high[0]) == (0.0, 1.0)
    low, high = bootstrap(np.repeat([[0.0], [1.0]], 200, axis=0), each(400), seed=0)
    assert low[0] == pytest.approx(0.451, abs=0.005)
    assert high[0] == pytest.approx(0.549, abs=0.005)
    low, high = bootstrap(np.full((10, 2), 0.25), each(10), seed=0)
    assert low.tolist() == high.tolist() == [0.25, 0.25]


def test_the_bootstrap_is_paired_and_repeats() -> None:
    """All metrics of a user are drawn together, and a seed gives the same interval again."""
    rng = np.random.default_rng(1)
    gains = rng.normal(size=(50, 1))
    low, high = bootstrap(np.hstack([gains, 2 * gains]), each(50), seed=4)
    assert (low[1], high[1]) == pytest.approx((2 * low[0], 2 * high[0]))
    again = bootstrap(np.hstack([gains, 2 * gains]), each(50), seed=4)
    assert np.array_equal(again, (low, high))


def test_the_bootstrap_draws_people_and_not_their_questions() -> None:
    """Ten questions of each of 30 people are 30 witnesses: the interval is as wide as with one question of each."""
    rng = np.random.default_rng(0)
    one = rng.normal(0.1, 1.0, (30, 1))
    low, high = bootstrap(one, each(30), seed=1)
    many_low, many_high = bootstrap(np.repeat(one, 10, axis=0), np.repeat(each(30), 10), seed=1)
    np.testing.assert_allclose([low, high], [many_low, many_high])
    assert low < one.mean() < high


def test_a_comparison_tells_who_is_better_and_how_surely() -> None:
    """On planted taste the interval over popularity lies above 0."""
    found, training = world(False)
    told = {name: try_model(name, OPTIONS.get(name, {}), training, found, (5, K))[0] for name in ("popularity", "ease")}
    people = found.questions.people[found.questions.known]
    gain = next(d for d in differences(told, people, K, "popularity", "ease", 0) if d.metric == "ndcg")
    assert (gain.of, gain.to) == ("ease", "popularity")
    assert 0 < gain.low < gain.mean < gain.high
    assert set(told["ease"].at) == {5, K}
    assert best_of(told, K) == "ease"


def test_the_past_is_aged_only_where_time_is_respected() -> None:
    """Trending follows the newest purchases; learned without ages, liking is the same whatever its time."""
    found = split(taste_world(), Cut(holdout_days=28))
    aged, ageless = (TrainingSet(found.train, found.as_of, aged=flag).matrix for flag in (True, False))
    assert aged.nnz == ageless.nnz
    assert (aged.data <= ageless.data + 1e-6).all()
    assert aged.data.min() < 0.2 * ageless.data.min()
    assert found.as_of == found.train.times.max() or found.test.times.max() - found.as_of == 28 * DAY
