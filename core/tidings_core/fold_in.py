"""The vector of a user from what they like: for somebody the release does not know, or knows from long ago.

It knows no clock: liking is aged relative to the newest thing that is liked.
"""

import numpy as np

from tidings_core.model import FoldIn, Snapshot
from tidings_core.tables import Float32, Float64, Int32

HALF_LIFE_DAYS = 60.0
"""A thing done counts half of one that is so much newer; training uses the same."""
_HALF_LIFE_SECONDS = HALF_LIFE_DAYS * 86_400.0


def likings(rows: Int32, times: Float64, weights: Float32) -> tuple[Int32, Float64]:
    """How much each item is liked, from E things done: distinct item rows i32[n] ascending, liking f64[n].

    rows i32[E] items; times f64[E] Unix seconds; weights f32[E] how much each says. Liking is log(1 + the sum of an
    item's weights, halved with age relative to the newest), as training computes it.
    """
    items, places = np.unique(rows, return_inverse=True)
    if len(items) == 0:
        return items, np.empty(0)
    aged = weights * np.exp2((times - times.max()) / _HALF_LIFE_SECONDS)
    return items, np.log1p(np.bincount(places, aged))


def folded(rows: Int32, liking: Float64, snapshot: Snapshot) -> Float32 | None:
    """The vector f32[D] of somebody who likes item rows i32[n] so much (f64[n], above 0); None when nothing is liked.

    With the constants of the release's embeddings, implicit's own; else the mean of the items' vectors, weighted with
    the liking and as long as the release's user vectors usually are.
    """
    if len(rows) == 0:
        return None
    vectors = snapshot.item_vectors[rows].astype(np.float64)
    if snapshot.fold_in is not None:
        return recalculated(vectors, liking, snapshot.fold_in)
    mean = liking @ vectors / liking.sum()
    length = float(np.linalg.norm(mean))
    if snapshot.metric != "l2" and length > 0.0:
        mean *= (1.0 if snapshot.metric == "cosine" else snapshot.user_norm) / length
    return mean.astype(np.float32)


def recalculated(vectors: Float64, liking: Float64, constants: FoldIn) -> Float32:
    """One user's step of alternating least squares (Hu, Koren and Volinsky, ICDM 2008), as implicit's recalculate_user.

    vectors f64[n, D] of the items liked, liking f64[n].
    """
    confidence = constants.alpha * liking
    system = constants.gram + (vectors.T * (confidence - 1.0)) @ vectors
    system.flat[:: len(system) + 1] += constants.regularization
    return np.linalg.solve(system, confidence @ vectors).astype(np.float32)
