"""Dividing vectors into inverted lists, and choosing what a query is compared with to find the lists it should read.

Vectors are divided by k-means: by L2 distance, or by direction for the cosine. Under the L2 distance and the cosine a
query goes to the lists of the nearest centres. Under the inner product long items win, and the plain mean of a list
says little about its longest; so a query is compared with the mean of the list weighted by a power of the items'
length. That reads about half as many items for the same recall as the centres do. (What represents a list need not be
what divides: T. Vecchiato et al., "A Learning-to-Rank Formulation of Clustering-Based Approximate Nearest Neighbor
Search", SIGIR 2024; the weights here are a formula, nothing is learned.)
"""

from collections.abc import Callable
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from tidings_core.model import Metric
from tidings_core.tables import Float32, Int64

ROUNDS = 10
"""Of k-means. Twice as many gain nothing."""
POINTS_PER_LIST = 128
"""Vectors per list that k-means looks at, at most."""
ENOUGH_POINTS, LEAST_POINTS_PER_LIST = 400_000, 40
"""In all it need not look at more than the first, unless a list would get fewer than the second."""
EMPHASIS = 2.0
"""The power is chosen so that an item whose length is one standard deviation (of the logarithm) larger weighs e^2
times as much."""
MAX_POWER = 16.0
"""Lengths that hardly differ must not be told apart by their noise."""
BLOCK = 65_536

Told = Callable[[int, int], None]
"""Called with how many rows are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Division:
    """Which list each row is in, `of_row` i64[N], and what queries are compared with, `representatives` f32[L, D]."""

    of_row: Int64
    representatives: Float32


def divide(vectors: Float32, lists: int, metric: Metric, seed: int, told: Told | None = None) -> Division:
    """Divide vectors f32[N, D], as `normalise` leaves them, into so many lists, at most N.

    Deterministic given the seed, FAISS's version and the number of threads.
    """
    dim = vectors.shape[1]
    flat = faiss.IndexFlatIP if metric == "cosine" else faiss.IndexFlatL2
    clustering = faiss.Clustering(dim, lists)
    clustering.niter, clustering.seed, clustering.spherical = ROUNDS, seed, metric == "cosine"
    clustering.min_points_per_centroid, clustering.max_points_per_centroid = (
        1,
        training_points(len(vectors), lists) // lists,
    )
    clustering.train(vectors, flat(dim))
    centres: Float32 = faiss.vector_to_array(clustering.centroids).reshape(lists, dim)
    nearest = flat(dim)
    nearest.add(centres)
    of_row = np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), BLOCK):
        of_row[start : start + BLOCK] = nearest.search(vectors[start : start + BLOCK], 1)[1][:, 0]
        if told is not None:
            told(min(start + BLOCK, len(vectors)), len(vectors))
    return Division(of_row, centres if metric != "inner_product" else _long_means(vectors, of_row, centres))


def training_points(items: int, lists: int) -> int:
    """How many of so many vectors k-means looks at to make so many lists."""
    return min(items, POINTS_PER_LIST * lists, max(ENOUGH_POINTS, LEAST_POINTS_PER_LIST * lists))


def _long_means(vectors: Float32, of_row: Int64, centres: Float32) -> Float32:
    """The mean of each list f32[L, D], items weighted by a power of their length; the centre where all are zero."""
    weights = _weights(_lengths(vectors))
    lists = len(centres)
    sums = np.zeros((lists, vectors.shape[1]))
    for start in range(0, len(vectors), BLOCK):
        part, weight = of_row[start : start + BLOCK], weights[start : start + BLOCK]
        for column, values in enumerate(vectors[start : start + BLOCK].T):
            sums[:, column] += np.bincount(part, weight * values, lists)
    total = np.bincount(of_row, weights, lists)[:, None]
    means: Float32 = np.where(total > 0, sums / np.where(total > 0, total, 1.0), centres).astype(np.float32)
    return means


def _lengths(vectors: Float32) -> NDArray[np.float64]:
    """Lengths f64[N], in parts: in one go NumPy would copy all vectors."""
    lengths = np.empty(len(vectors))
    for start in range(0, len(vectors), BLOCK):
        lengths[start : start + BLOCK] = np.linalg.norm(vectors[start : start + BLOCK].astype(np.float64), axis=1)
    return lengths


def _weights(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths f64[N] to a power that suits how much they vary, the longest 1."""
    some = lengths > 0
    if not some.any():
        return np.ones_like(lengths)
    logarithms = np.log(lengths[some])
    power = min(MAX_POWER, EMPHASIS / max(float(logarithms.std()), 1e-9))
    weights = np.zeros_like(lengths)
    weights[some] = np.exp(power * (logarithms - logarithms.max()))
    return weights
