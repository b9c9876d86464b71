"""A vector to search with made from examples: items that are liked, and items that are not."""

import numpy as np

from tidings_core.model import Metric
from tidings_core.tables import Float32, Float64


def example_vector(liked: Float32, disliked: Float32, metric: Metric, length: float) -> Float32 | None:
    """The vector f32[D] that is near what is liked (f32[n, D]) and away from what is not (f32[m, D]); None without n.

    The mean of the liked plus its difference from the mean of the disliked, as Qdrant's strategy "average vector".
    But for L2, where places count and not directions, each vector counts by its direction alone, and the result is as
    long as `length` for the inner product, 1 for the cosine. None also when liked and disliked cancel out.
    """
    if len(liked) == 0:
        return None
    if metric == "l2":
        mean: Float64 = liked.mean(axis=0, dtype=np.float64)
        return (2.0 * mean - disliked.mean(axis=0) if len(disliked) else mean).astype(np.float32)
    found = _direction(liked)
    if len(disliked):
        found = 2.0 * found - _direction(disliked)
    size = float(np.linalg.norm(found))
    if size < 1e-9:
        return None
    return (found * ((1.0 if metric == "cosine" else length) / size)).astype(np.float32)


def _direction(vectors: Float32) -> Float64:
    """The direction of the mean of the directions of vectors f32[n, D], f64[D]; zero when they cancel out."""
    return _unit(_unit(vectors.astype(np.float64)).mean(axis=0))


def _unit(vectors: Float64) -> Float64:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-12)
