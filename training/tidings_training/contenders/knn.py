"""Nearest neighbours: what goes with what they liked, and what people like them liked."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from implicit.nearest_neighbours import bm25_weight

from tidings_core.tables import Float32
from tidings_training.contenders.contender import TrainingSet
from tidings_training.neighbours import K1, B, find_neighbours
from tidings_training.questions import Questions


@dataclass(frozen=True, slots=True)
class ItemNeighbours:
    """similar f32[I, I] (CSR): row i holds the neighbours of item i and how near they are."""

    similar: "scipy.sparse.csr_matrix"

    def scores(self, asked: Questions) -> Float32:
        """The sum over what was liked of liking times nearness, f32[C, I]."""
        return np.asarray((asked.past @ self.similar).todense(), np.float32)


def learn_item_neighbours(training: TrainingSet, *, neighbours: int) -> ItemNeighbours:
    """The neighbours that a release's source `similar` goes by (`find_neighbours`)."""
    found = find_neighbours(training.matrix, neighbours, training.threads)
    items, places = np.nonzero(found.rows >= 0)
    count = len(found.rows)
    return ItemNeighbours(
        scipy.sparse.csr_matrix(
            (found.scores[items, places], (items, found.rows[items, places])), shape=(count, count), dtype=np.float32
        )
    )


@dataclass(frozen=True, slots=True)
class UserNeighbours:
    """weighted f32[U, I] (CSR) unit rows that likeness is measured on; liked f32[U, I] (CSR) what is passed on."""

    weighted: "scipy.sparse.csr_matrix"
    liked: "scipy.sparse.csr_matrix"
    neighbours: int

    def scores(self, asked: Questions) -> Float32:
        """The sum over the most alike users of their likeness times their liking, f32[C, I]."""
        # What is asked with is weighted by nothing: a scale of the whole row changes no order, and BM25's discount of
        # what everybody has is in the other factor.
        alike = np.asarray((asked.past @ self.weighted.T).todense(), np.float32)
        own = np.flatnonzero(asked.users >= 0)
        alike[own, asked.users[own]] = 0.0
        count = min(self.neighbours, alike.shape[1])
        nearest = np.argpartition(-alike, count - 1, axis=1)[:, :count]
        rows = np.repeat(np.arange(len(alike)), count)
        near = scipy.sparse.csr_matrix(
            (np.take_along_axis(alike, nearest, 1).ravel(), (rows, nearest.ravel())), shape=alike.shape
        )
        return np.asarray((near @ self.liked).todense(), np.float32)


def learn_user_neighbours(training: TrainingSet, *, neighbours: int) -> UserNeighbours:
    """Users by what they liked, discounted by BM25 (Robertson and Zaragoza, 2009) and cut to unit length."""
    weighted = bm25_weight(training.matrix.T, K1, B).T.tocsr().astype(np.float32)
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    weighted = scipy.sparse.diags_array(1.0 / np.maximum(lengths, 1e-12)) @ weighted
    return UserNeighbours(scipy.sparse.csr_matrix(weighted, dtype=np.float32), training.matrix, neighbours)
