"""Generated shops for the builder's tests: vectors in clusters, the files a trainer would write, and a model."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tidings_core.features import DAY, ItemStatistics
from tidings_core.model import Histories, Neighbours, Trending
from tidings_core.tables import Float32
from tidings_index_builder.embeddings import Embeddings
from tidings_index_builder.model_dir import Model

NOW = 1_700_000_000.0


def clustered(items: int, users: int, dim: int = 16, seed: int = 0, clusters: int = 20) -> tuple[Float32, Float32]:
    """Item vectors f32[N, D] in clusters of different norms, and user vectors f32[U, D] that each mix a few items."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dim))
    found = centres[rng.integers(0, clusters, items)] + rng.normal(0, 0.5, (items, dim))
    found *= rng.lognormal(0, 0.2, (items, 1))
    mixed = np.einsum("uk,ukd->ud", rng.dirichlet(np.ones(3), users), found[rng.integers(0, items, (users, 3))])
    return found.astype(np.float32), (mixed + rng.normal(0, 0.1, mixed.shape)).astype(np.float32)


def embeddings(items: int = 300, users: int = 80, dim: int = 16, seed: int = 0) -> tuple[Embeddings, Embeddings]:
    """Items "item-0", ... and users "user-0", ... with clustered vectors."""
    item_vectors, user_vectors = clustered(items, users, dim, seed)
    return (
        Embeddings([f"item-{row}" for row in range(items)], item_vectors),
        Embeddings([f"user-{row}" for row in range(users)], user_vectors),
    )


def write_embeddings(path: Path, given: Embeddings) -> Path:
    """Write a Parquet file as a trainer would."""
    return write_table(path, id=given.ids, embedding=list(given.vectors))


def write_table(path: Path, **columns: Any) -> Path:
    """Write a Parquet file from columns."""
    pa.parquet.write_table(pa.table(columns), path)
    return path


def make_model(items: Embeddings, users: Embeddings, seed: int = 0, ranker: bytes | None = None) -> Model:
    """A model with four neighbours, popularity and short histories for every row."""
    rng = np.random.default_rng(seed)
    count, people = len(items.ids), len(users.ids)
    near = np.stack([(np.arange(count) + step) % count for step in (1, 2, 3, 4)], axis=1).astype(np.int32)
    near[::5, 2:] = -1
    lengths = rng.integers(0, 4, people)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    times = np.concatenate([np.sort(rng.integers(0, 10**9, length))[::-1] for length in lengths])
    purchases = rng.integers(0, 50, count).astype(np.float64)
    best = np.argsort(-purchases, kind="stable")[:20].astype(np.int32)
    return Model(
        item_ids=items.ids,
        item_vectors=items.vectors,
        user_ids=users.ids,
        user_vectors=users.vectors,
        neighbours=Neighbours(near, np.where(near >= 0, [0.9, 0.8, 0.7, 0.6], 0.0).astype(np.float32)),
        complements=Neighbours(near[:, :3], np.where(near[:, :3] >= 0, [9.0, 8.0, 7.0], 0.0).astype(np.float32)),
        statistics=ItemStatistics(
            purchases, purchases / 8, purchases / 4, purchases / 2, purchases / 3, rng.uniform(1, 300, count).round()
        ),
        trending=Trending(best, np.linspace(2.0, 1.0, len(best)).astype(np.float32)),
        histories=Histories(
            offsets,
            rng.integers(0, count, int(offsets[-1])).astype(np.int32),
            times.astype(np.int64),
            np.ones(int(offsets[-1]), np.float32),
        ),
        as_of=NOW - DAY,
        ranker=ranker,
        lineage={"trainer": "test"},
    )
