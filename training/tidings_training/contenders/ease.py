"""EASE^R: what goes with what, all items at once, in closed form."""

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from tidings_core.errors import InvalidInput
from tidings_core.tables import Float32, Int32
from tidings_training.contenders.contender import TrainingSet
from tidings_training.questions import Questions

MAX_ITEMS = 20_000
"""Three matrices of as many rows and columns, in doubles, are held at once: 9.6 GB for 20,000."""


@dataclass(frozen=True, slots=True)
class Ease:
    """weights f32[K, K] between the K items `rows` i32[K] of all `count`."""

    weights: Float32
    rows: Int32
    count: int
    binary: bool

    def scores(self, asked: Questions) -> Float32:
        """The sum over what was liked of its weights, f32[C, I]."""
        past = asked.past[:, self.rows].astype(np.float32)
        if self.binary:
            past.data[:] = 1.0
        scores = np.zeros((len(asked), self.count), np.float32)
        scores[:, self.rows] = past @ self.weights
        return scores


def learn_ease(training: TrainingSet, *, regularization: float, binary: bool) -> Ease:
    """Linear regression of each item on all others, with its own weight held at zero (Steck, WWW 2019).

    `binary` takes every liked item as one, else the liking counts. Raises InvalidInput above 20,000 items.
    """
    rows = np.flatnonzero(training.known).astype(np.int32)
    if len(rows) > MAX_ITEMS:
        raise InvalidInput(
            (
                "models",
                f"ease takes {len(rows):,} x {len(rows):,} weights, and is for {MAX_ITEMS:,} items at most: leave "
                "it out, or leave rare items out with --core",
            )
        )
    matrix = training.matrix[:, rows].astype(np.float64)
    if binary:
        matrix.data[:] = 1.0
    gram = np.asarray((matrix.T @ matrix).todense())
    gram.flat[:: len(gram) + 1] += regularization
    with threadpool_limits(training.threads, "blas"):
        inverse = np.linalg.inv(gram)
    weights = inverse / -np.diag(inverse)
    weights.flat[:: len(weights) + 1] = 0.0
    return Ease(weights.astype(np.float32), rows, len(training.known), binary)
