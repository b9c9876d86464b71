"""Biased matrix factorisation of explicit values, such as stars."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from threadpoolctl import threadpool_limits

from tidings_core.errors import InvalidInput
from tidings_core.tables import Float32, Float64, Int32
from tidings_training.contenders.contender import TrainingSet
from tidings_training.log import Log
from tidings_training.questions import Questions

DAMPING = 5.0
"""So many values of the mean are joined to those of each user and item before a bias is taken."""


@dataclass(frozen=True, slots=True)
class Rated:
    """mean + user_bias f32[U] + item_bias f32[I] + users f32[U, D] times items f32[I, D], cut to the scale.

    `scale` is the least and the largest value there was. For users and items without values bias and vector are 0.
    """

    mean: float
    user_bias: Float32
    item_bias: Float32
    users: Float32
    items: Float32
    scale: tuple[float, float]

    def scores(self, asked: Questions) -> Float32:
        """What is predicted of each item without the user's own bias, which changes no order, f32[C, I]."""
        known = (asked.users >= 0)[:, None]
        return np.asarray(np.where(known, self.users[asked.users], 0.0) @ self.items.T + self.item_bias, np.float32)

    def predict(self, users: Int32, items: Int32) -> Float64:
        """The values f64[n] of users i32[n] and items i32[n], within the scale."""
        values = self.mean + self.user_bias[users] + self.item_bias[items]
        values = values + (self.users[users] * self.items[items]).sum(axis=1)
        return np.clip(values.astype(np.float64), *self.scale)


def learn_svd(training: TrainingSet, *, factors: int, iterations: int, regularization: float) -> Rated:
    """Biases first, then alternating least squares on what they leave, with a penalty for each value.

    The model of Koren, Bell and Volinsky (Computer 2009), with the weighted penalty of Zhou et al. (AAIM 2008). Of
    several values of a pair the newest counts. Raises InvalidInput without values.
    """
    log = newest_values(training.log)
    if not len(log):
        raise InvalidInput(("models", "svd learns from values, and no event has one: leave it out"))
    values = log.values
    mean = float(values.mean())
    users, items = len(log.user_ids), len(log.item_ids)
    item_bias = _bias(log.items, values - mean, items)
    user_bias = _bias(log.users, values - mean - item_bias[log.items], users)
    left = (values - mean - item_bias[log.items] - user_bias[log.users]).astype(np.float32)
    matrix = scipy.sparse.csr_matrix((left, (log.users, log.items)), shape=(users, items))
    turned = matrix.T.tocsr()
    rng = np.random.default_rng(training.seed)
    of_items = rng.normal(0.0, 0.1, (items, factors)).astype(np.float32)
    of_items[np.diff(turned.indptr) == 0] = 0.0
    of_users = np.zeros((users, factors), np.float32)
    # The systems are small: more threads wait for each other longer than they work.
    with threadpool_limits(1, "blas"):
        for step in range(iterations):
            _solve(matrix, of_items, regularization, of_users)
            _solve(turned, of_users, regularization, of_items)
            training.progress("learning from values", step + 1, iterations)
        _solve(matrix, of_items, regularization, of_users)
    return Rated(
        mean,
        user_bias.astype(np.float32),
        item_bias.astype(np.float32),
        of_users,
        of_items,
        (float(values.min()), float(values.max())),
    )


def newest_values(log: Log) -> Log:
    """The events with a value, of each user and item the newest only."""
    valued = log.where(~np.isnan(log.values))
    keys = valued.users.astype(np.int64) * len(log.item_ids) + valued.items
    # The last of equal keys, since a log is in time order.
    _, places = np.unique(keys[::-1], return_index=True)
    return valued.where(np.sort(len(valued) - 1 - places))


def _bias(rows: Int32, left: Float64, count: int) -> Float64:
    return np.bincount(rows, left, minlength=count) / (np.bincount(rows, minlength=count) + DAMPING)


def _solve(matrix: "scipy.sparse.csr_matrix", fixed: Float32, regularization: float, out: Float32) -> None:
    """The best rows f32[R, D] for fixed f32[C, D] and values [R, C], into `out`."""
    penalty = regularization * np.eye(fixed.shape[1], dtype=np.float32)
    starts = matrix.indptr
    for row in np.flatnonzero(np.diff(starts)):
        span = slice(starts[row], starts[row + 1])
        there = fixed[matrix.indices[span]]
        system = there.T @ there + len(there) * penalty
        out[row] = np.linalg.solve(system, there.T @ matrix.data[span])
