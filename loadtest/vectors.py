"""Vectors such as shops have, of any number and seeded: in clusters, and as matrix factorisation leaves them.

Both are made in parts of `_AT_ONCE` rows, so that making them needs little more memory than the vectors themselves.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Kind = Literal["clustered", "mf"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class Vectors:
    """A shop's items f32[N, D] with the cluster i32[N] each belongs to (0 is the largest), and its users f32[U, D]."""

    items: NDArray[np.float32]
    clusters: NDArray[np.int32]
    users: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Shape:
    """How a kind of vectors is spread.

    Cluster c has a share of 1 / (c + 1) ** `skew`. Along dimension d centres vary by (d + 1) ** -`decay`, items around
    their centre by `spread` times that; lengths are lognormal with `sigma`. A user is a Dirichlet mix of `mixed` items,
    plus noise of `noise` times the variation of centres.
    """

    clusters: int
    skew: float
    decay: float
    spread: float
    sigma: float
    mixed: int
    noise: float


_SHAPES: dict[Kind, _Shape] = {
    # Many tight groups of very different sizes: content encoders, two towers.
    "clustered": _Shape(clusters=1000, skew=1.0, decay=0.25, spread=0.5, sigma=0.2, mixed=4, noise=0.2),
    # A few broad groups that run into each other, lengths that follow popularity: ALS, BPR.
    "mf": _Shape(clusters=200, skew=0.5, decay=0.25, spread=1.0, sigma=0.3, mixed=4, noise=0.5),
}


def generate(kind: Kind, items: int, dim: int, users: int, seed: int = 0) -> Vectors:
    """Make a shop. The first items and users of a larger one are not those of a smaller one."""
    shape = _SHAPES[kind]
    rng = np.random.default_rng([KINDS.index(kind), seed])
    scale = (1.0 + np.arange(dim)) ** -shape.decay
    # Unit length on average, so that `spread` and `noise` mean the same for any `dim`.
    scale = (scale / np.linalg.norm(scale)).astype(np.float32)
    centres = rng.standard_normal((shape.clusters, dim), np.float32) * scale
    shares = (1.0 + np.arange(shape.clusters)) ** -shape.skew
    clusters = rng.choice(shape.clusters, items, p=shares / shares.sum()).astype(np.int32)
    found = np.empty((items, dim), np.float32)
    for part in _parts(items):
        near = centres[clusters[part]]
        near += rng.standard_normal(near.shape, np.float32) * (shape.spread * scale)
        near *= rng.lognormal(0.0, shape.sigma, (len(near), 1)).astype(np.float32)
        found[part] = near
    people = np.empty((users, dim), np.float32)
    for part in _parts(users):
        count = part.stop - part.start
        weights = rng.dirichlet(np.ones(shape.mixed), count).astype(np.float32)
        mix = np.einsum("uk,ukd->ud", weights, found[rng.integers(0, items, (count, shape.mixed))])
        people[part] = mix + rng.standard_normal(mix.shape, np.float32) * (shape.noise * scale)
    return Vectors(found, clusters, people)


def _parts(count: int) -> Iterator[slice]:
    for start in range(0, count, _AT_ONCE):
        yield slice(start, min(start + _AT_ONCE, count))
