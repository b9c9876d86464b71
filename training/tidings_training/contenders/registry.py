"""The models by name, with settings that are sane for the size of the data."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from tidings_training.als import ALPHA, FACTORS, ITERATIONS, REGULARIZATION
from tidings_training.contenders.contender import Contender, Learner, TrainingSet
from tidings_training.contenders.ease import learn_ease
from tidings_training.contenders.factors import learn_als, learn_bpr
from tidings_training.contenders.gru import learn_gru
from tidings_training.contenders.knn import learn_item_neighbours, learn_user_neighbours
from tidings_training.contenders.popular import learn_popularity
from tidings_training.contenders.svd import learn_svd
from tidings_training.neighbours import NEIGHBOURS
from tidings_training.popularity import TRENDING_HALF_LIFE_DAYS

STEPS = 2e7
"""BPR takes about so many steps, a few dozen seconds, but between 20 and 200 passes over the data."""

SEQUENCE_STEPS = 2e6
"""The recurrent network reads about so many events, within 2 to 30 passes over the data."""

_HALF_LIVES = (3.0, 7.0, 14.0, 30.0, 90.0)


def _als(_: TrainingSet) -> dict[str, Any]:
    return {"factors": FACTORS, "iterations": ITERATIONS, "alpha": ALPHA, "regularization": REGULARIZATION}


def _bpr(training: TrainingSet) -> dict[str, Any]:
    passes = int(np.clip(STEPS / max(training.matrix.nnz, 1), 20, 200))
    return {"factors": FACTORS, "iterations": passes, "learning_rate": 0.02, "regularization": 0.02}


def _gru(training: TrainingSet) -> dict[str, Any]:
    passes = int(np.clip(SEQUENCE_STEPS / max(len(training.log), 1), 2, 30))
    return {"factors": FACTORS, "hidden": FACTORS, "passes": passes, "learning_rate": 0.003}


def _svd(training: TrainingSet) -> dict[str, Any]:
    """Fewer factors for small data: there is nothing to fill more with."""
    factors = int(np.clip(8 * round(np.sqrt(len(training.log)) / 80), 8, 32))
    return {"factors": factors, "iterations": 12, "regularization": 0.1}


def _ease(training: TrainingSet) -> dict[str, Any]:
    """The penalty grows with how often an item is liked: it stands beside such counts on the diagonal."""
    often = training.matrix.nnz / max(int(training.known.sum()), 1)
    return {"regularization": float(np.clip(round(2.0 * often), 10, 500)), "binary": True}


LEARNERS: Mapping[str, Learner] = MappingProxyType(
    {
        "popularity": Learner(learn_popularity, lambda _: {"half_life_days": float("inf")}, {}),
        "trending": Learner(
            learn_popularity, lambda _: {"half_life_days": TRENDING_HALF_LIFE_DAYS}, {"half_life_days": _HALF_LIVES}
        ),
        "user-knn": Learner(
            learn_user_neighbours, lambda _: {"neighbours": 100}, {"neighbours": (20, 50, 100, 200, 400)}
        ),
        "item-knn": Learner(
            learn_item_neighbours, lambda _: {"neighbours": NEIGHBOURS}, {"neighbours": (20, 50, 100, 200, 400)}
        ),
        "ease": Learner(
            learn_ease, _ease, {"regularization": (10.0, 30.0, 100.0, 300.0, 1000.0), "binary": (True, False)}
        ),
        "als": Learner(
            learn_als,
            _als,
            {"factors": (32, 64, 128), "alpha": (1.0, 4.0, 16.0), "regularization": (0.1, 1.0, 10.0)},
        ),
        "bpr": Learner(
            learn_bpr,
            _bpr,
            {"factors": (32, 64, 128), "learning_rate": (0.02, 0.05, 0.1), "regularization": (0.01, 0.02, 0.04)},
        ),
        "gru": Learner(
            learn_gru,
            _gru,
            {"factors": (32, 64), "hidden": (64, 128), "learning_rate": (0.001, 0.003, 0.01)},
        ),
        "svd": Learner(
            learn_svd,
            _svd,
            {"factors": (8, 16, 32, 64), "regularization": (0.05, 0.1, 0.2)},
            rates=True,
        ),
    }
)
"""In the order in which they are shown, from the simplest on."""


def learn(name: str, training: TrainingSet, options: Mapping[str, Any] | None = None) -> Contender:
    """Learn the model called `name`, with the defaults for this training set but for `options`."""
    learner = LEARNERS[name]
    training.progress(f"learning {name}")
    return learner.learn(training, **{**learner.defaults(training), **(options or {})})
