"""What every model is given, and what it must be able to do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.sparse

from tidings_core.tables import Bool, Float32, Float64, Int32
from tidings_index_builder.progress import Progress, silent
from tidings_training.interactions import interactions
from tidings_training.log import Log
from tidings_training.questions import Questions

Options = Mapping[str, Any]
"""A model's own settings, by name."""


@dataclass(frozen=True)
class TrainingSet:
    """What models learn from: the events up to `as_of` (Unix seconds).

    `aged` halves liking with its age; `threads` changes nothing but the time it takes.
    """

    log: Log
    as_of: float
    aged: bool = True
    seed: int = 0
    threads: int = 1
    progress: Progress = field(default=silent, compare=False)

    @cached_property
    def matrix(self) -> "scipy.sparse.csr_matrix":
        """Liking f32[U, I], CSR; empty rows and columns for users and items without any."""
        return interactions(self.log, self.as_of, *(() if self.aged else (np.inf,)))

    @cached_property
    def known(self) -> Bool:
        """Which items somebody liked, bool[I]: no model here can tell anything of the others."""
        return np.diff(self.matrix.tocsc().indptr) > 0


class Contender(Protocol):
    """A model that was learned."""

    def scores(self, asked: Questions) -> Float32:
        """How much each item is recommended to each who asks, f32[C, I]; of equal ones the popular ones come first."""
        ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """A model made of vectors, which a release can serve: users f32[U, D], items f32[I, D], for the inner product.

    `fold` gives the vector f32[D] of somebody without one from their past, item rows i32[n] and liking f64[n].
    """

    users: Float32
    items: Float32
    fold: Callable[[Int32, Float64], Float32]

    def vectors(self, asked: Questions) -> Float32:
        """The vectors f32[C, D] of those who ask."""
        vectors = self.users[np.maximum(asked.users, 0)].copy()
        for place in np.flatnonzero(asked.users < 0):
            span = slice(asked.past.indptr[place], asked.past.indptr[place + 1])
            liking = asked.past.data[span].astype(np.float64)
            vectors[place] = self.fold(asked.past.indices[span], liking) if len(liking) else 0.0
        return vectors

    def scores(self, asked: Questions) -> Float32:
        """How much each item is recommended to each who asks, f32[C, I]."""
        return np.asarray(self.vectors(asked) @ self.items.T, np.float32)


@runtime_checkable
class Sequential(Protocol):
    """A model that makes a person's vector of what they did, in its order: a release can serve it with its encoder."""

    @property
    def item_vectors(self) -> Float32:
        """The vectors of the items, f32[I, D]."""
        ...

    def vectors(self, asked: Questions) -> Float32:
        """The vectors f32[C, D] of those who ask, for the inner product with those of the items."""
        ...

    def encoder(self) -> bytes:
        """What makes them, as an ONNX model with the signature of a release's encoder (`tidings_core.encoder`)."""
        ...


@dataclass(frozen=True, slots=True)
class Learner:
    """A kind of model: how it is learned, and what may be tried when it is searched for good settings.

    `learn` takes the options whose defaults `defaults` makes for a training set. `tried` holds the values worth trying.
    """

    learn: Callable[..., Contender]
    defaults: Callable[[TrainingSet], dict[str, Any]]
    tried: Mapping[str, tuple[Any, ...]]
    rates: bool = False
    """Whether it learns from explicit values, and predicts them."""

    @property
    def options(self) -> tuple[str, ...]:
        """The names of its options."""
        return tuple(name for name in signature(self.learn).parameters if name != "training")
