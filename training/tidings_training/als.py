"""Embeddings: user and item vectors whose inner product says how much a user likes an item."""

from typing import TYPE_CHECKING

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from tidings_core.tables import Float32
from tidings_index_builder.progress import Progress, silent

if TYPE_CHECKING:
    import scipy.sparse

FACTORS = 64
ITERATIONS = 10
ALPHA = 4.0
"""How much more an interaction weighs than the absence of one, per unit of liking."""
REGULARIZATION = 1.0


def factorise(
    matrix: "scipy.sparse.csr_matrix",
    *,
    factors: int = FACTORS,
    iterations: int = ITERATIONS,
    alpha: float = ALPHA,
    regularization: float = REGULARIZATION,
    seed: int = 0,
    threads: int = 1,
    progress: Progress = silent,
) -> tuple[Float32, Float32]:
    """User vectors f32[U, D] and item vectors f32[I, D] of liking f32[U, I], for the inner product.

    Implicit alternating least squares (Hu, Koren and Volinsky, ICDM 2008) with the conjugate gradient solver of the
    library implicit. Deterministic given the seed, whatever the threads.
    """
    # implicit runs its own threads; BLAS threads under them make it ten times slower. The limit also silences its
    # warning, which asks for just this.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=factors,
            iterations=iterations,
            alpha=alpha,
            regularization=regularization,
            random_state=seed,
            num_threads=threads,
        )
        model.fit(
            matrix, show_progress=False, callback=lambda done, *_: progress("learning embeddings", done + 1, iterations)
        )
    return np.asarray(model.user_factors, np.float32), np.asarray(model.item_factors, np.float32)
