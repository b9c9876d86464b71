"""Matrix factorisation of what was liked: ALS, and BPR."""

import numpy as np
from implicit.cpu.bpr import BayesianPersonalizedRanking

from tidings_core.fold_in import recalculated
from tidings_core.model import FoldIn
from tidings_core.tables import Float32, Float64, Int32
from tidings_training.als import factorise
from tidings_training.contenders.contender import Embedded, TrainingSet


def learn_als(training: TrainingSet, *, factors: int, iterations: int, alpha: float, regularization: float) -> Embedded:
    """Implicit alternating least squares (`factorise`); somebody new is folded in as the server does it."""
    users, items = factorise(
        training.matrix,
        factors=factors,
        iterations=iterations,
        alpha=alpha,
        regularization=regularization,
        seed=training.seed,
        threads=training.threads,
        progress=training.progress,
    )
    vectors = items.astype(np.float64)
    constants = FoldIn(vectors.T @ vectors, alpha, regularization)
    return Embedded(users, items, lambda rows, liking: recalculated(vectors[rows], liking, constants))


def learn_bpr(
    training: TrainingSet, *, factors: int, iterations: int, learning_rate: float, regularization: float
) -> Embedded:
    """Bayesian personalised ranking (Rendle et al., UAI 2009), by the library implicit on one thread.

    More threads would overwrite each other's steps, and give another model every time. The library draws what a user
    does not like by popularity, so its scores say how much more than others somebody likes an item; the logarithm of
    the popularity, joined to the bias, makes that how much (the logQ correction: Yi et al., RecSys 2019). Somebody new
    gets the mean of what they liked, as long as a user's vector usually is.
    """
    model = BayesianPersonalizedRanking(
        factors=factors,
        iterations=iterations,
        learning_rate=learning_rate,
        regularization=regularization,
        num_threads=1,
        random_state=training.seed,
    )
    model.fit(
        training.matrix,
        show_progress=False,
        callback=lambda done, *_: training.progress("learning embeddings by BPR", done + 1, iterations),
    )
    # The last column holds the item's bias, and 1 for every user.
    users, items = np.asarray(model.user_factors, np.float32), np.asarray(model.item_factors, np.float32)
    items[:, -1] += np.log(np.maximum(np.diff(training.matrix.tocsc().indptr), 1))
    usual = float(np.median(np.linalg.norm(users[:, :-1], axis=1)))

    def mean(rows: Int32, liking: Float64) -> Float32:
        vector = (liking @ items[rows] / liking.sum()).astype(np.float32)
        length = float(np.linalg.norm(vector[:-1]))
        vector *= usual / length if length > 0 else 1.0
        vector[-1] = 1.0
        return vector

    return Embedded(users, items, mean)
