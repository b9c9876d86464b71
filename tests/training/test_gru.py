from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.training.world import LONG, SHORT, order_world
from tidings_core.encoder import STEPS, OnnxEncoder
from tidings_core.tables import Float64
from tidings_index_builder.progress import silent
from tidings_training.contenders import gru
from tidings_training.contenders.contender import TrainingSet
from tidings_training.contenders.gru import Gru, learn_gru
from tidings_training.contenders.registry import learn
from tidings_training.log import Log
from tidings_training.proof import metrics
from tidings_training.proof.compare import rank
from tidings_training.proof.prove import fitting
from tidings_training.questions import Questions, of_sessions

OPTIONS: dict[str, Any] = {"factors": 32, "hidden": 48, "passes": 25, "learning_rate": 0.01}


def asked_of(log: Log) -> tuple[TrainingSet, Questions]:
    """Learn from three quarters of the users; ask the others after each thing they did what comes next."""
    held = log.users % 4 == 0
    train = log.where(~held)
    return TrainingSet(train, float(log.times.max()), aged=False), of_sessions(train, log.where(held), 0)


def mrr(model: object, training: TrainingSet, asked: Questions) -> float:
    """Mean reciprocal place of what came next."""
    lists = rank(model, training, asked, 10, silent)  # type: ignore[arg-type]
    wanted = np.ones(len(asked))
    return float(metrics.measure(metrics.hits(lists, asked.wanted), wanted, 10)[:, 4].mean())


@pytest.fixture(scope="module")
def planted() -> tuple[TrainingSet, Questions, Gru]:
    """A network that learned the planted order."""
    training, asked = asked_of(order_world())
    return training, asked, learn_gru(training, **OPTIONS)


def test_planted_order_and_time_are_found_by_the_network_alone(planted: tuple[TrainingSet, Questions, Gru]) -> None:
    """What comes next follows from the last item and the pause: the network names it first, neighbours cannot."""
    training, asked, model = planted
    assert mrr(model, training, asked) > 0.9
    assert mrr(learn("item-knn", training), training, asked) < 0.6


def test_the_pause_decides_between_two_next_items(planted: tuple[TrainingSet, Questions, Gru]) -> None:
    """The same past asked a minute and a month later gives the one and the other next item."""
    training, asked, model = planted
    last = asked.items[asked.starts[1:] - 1]
    for pause, move in ((SHORT, 1), (LONG, 7)):
        later = replace(asked, times=asked.moments[asked.starts[1:] - 1] + pause)
        first = rank(model, training, later, 1, silent)[:, 0]
        assert (first == (last + move) % 60).mean() > 0.9


def test_the_encoder_of_a_release_is_the_network(planted: tuple[TrainingSet, Questions, Gru]) -> None:
    """ONNX Runtime makes the network's own vectors, to a ten-thousandth, of pasts of all lengths and pauses."""
    _, asked, model = planted
    encoder = OnnxEncoder(model.encoder(), model.item_vectors.shape[1])
    spread = replace(asked, times=asked.times + np.random.default_rng(0).uniform(0, 1e7, len(asked)))
    for chosen in np.array_split(np.arange(200), 5):
        part = spread.where(chosen)
        lengths = np.minimum(np.diff(part.starts), STEPS)
        there = np.arange(lengths.max()) < lengths[:, None]
        vectors = np.zeros((*there.shape, model.item_vectors.shape[1]), np.float32)
        gaps = np.zeros(there.shape, np.float32)
        for row, (end, length) in enumerate(zip(part.starts[1:], lengths, strict=True)):
            done = slice(int(end - length), int(end))
            vectors[row, :length] = model.item_vectors[part.items[done]]
            gaps[row, :length] = np.diff(part.moments[done], prepend=part.moments[done][:1])
        since = (part.times - part.moments[part.starts[1:] - 1]).astype(np.float32)
        np.testing.assert_allclose(
            encoder.encode(vectors, gaps, lengths, since), model.vectors(part), rtol=0, atol=1e-4
        )


def test_where_order_says_nothing_the_network_finds_nothing() -> None:
    """On the same views dealt out anew it is no better than popularity."""
    training, asked = asked_of(order_world(shuffled=True))
    network = learn_gru(training, **{**OPTIONS, "passes": 5})
    assert mrr(network, training, asked) < mrr(learn("popularity", training), training, asked) + 0.02


def test_the_network_is_asked_where_there_is_an_order() -> None:
    """Among the models that fit a log it stands where things were done one by one, and not where they share a time."""
    log = order_world()
    assert "gru" in fitting(log, "sessions")
    assert "gru" not in fitting(replace(log, times=np.floor(log.times / 1e9)), "sessions")


def test_gradients_are_those_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against differences of the loss, in doubles, for every kind of parameter."""
    rng = np.random.default_rng(0)
    counts = np.array([3, 4, 5, 2, 6])
    made = gru._fresh(counts, 4, 3, rng)
    model = Gru(*(part.astype(np.float64) + 0.1 * rng.normal(size=part.shape) for part in made.parameters))  # type: ignore[arg-type]
    items = np.array([0, 1, 2, 3, 4, 1, 0], np.int32)
    moments = np.array([0.0, 5.0, 90.0, 1e4, 0.0, 7.0, 1e5])
    piece = gru._Pieces.of(items, moments, np.array([0, 4]), np.array([4, 7]))
    known = np.ones(5, np.bool_)

    def loss() -> float:
        states, _ = model.run(piece)
        total: list[float] = []
        for row in range(2):
            for step in range(1, int(piece.lengths[row])):
                gap = piece.gaps[row, step]
                made = (states[step][row] @ model.out) * (1 + model.scale[gap]) + model.move[gap]
                logits = made @ model.items.T + model.bias
                total.append(float(np.log(np.exp(logits).sum()) - logits[piece.items[row, step]]))
        return float(np.mean(total))

    found = gru._gradients(model, piece, known, rng)
    for part, gradient in zip(model.parameters, found, strict=True):
        flat: Float64 = part.reshape(-1)  # type: ignore[assignment]
        for at in rng.choice(part.size, min(6, part.size), replace=False):
            kept = flat[at]
            flat[at] = kept + 1e-5
            above = loss()
            flat[at] = kept - 1e-5
            below = loss()
            flat[at] = kept
            assert gradient.reshape(-1)[at] == pytest.approx((above - below) / 2e-5, abs=2e-5)


def test_the_network_depends_on_the_seed_alone_and_reads_the_newest(
    planted: tuple[TrainingSet, Questions, Gru],
) -> None:
    """Learned twice it is the same; of a past longer than it reads only the newest things count."""
    training, asked, model = planted
    short = TrainingSet(training.log, training.as_of, aged=False)
    once, again = (learn_gru(short, **{**OPTIONS, "passes": 1}) for _ in range(2))
    for first, second in zip(once.parameters, again.parameters, strict=True):
        np.testing.assert_array_equal(first, second)
    one = asked.where(np.array([len(asked) - 1]))
    count = STEPS + 30
    items = np.arange(count, dtype=np.int32) % 60
    moments: Float64 = np.arange(float(count)) * SHORT
    long = replace(one, starts=np.array([0, count]), items=items, moments=moments, times=np.array([count * SHORT]))
    newest = replace(long, starts=np.array([0, STEPS]), items=items[30:], moments=moments[30:])
    np.testing.assert_allclose(model.scores(long), model.scores(newest), atol=1e-5)
