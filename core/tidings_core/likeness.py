"""A vector for an item that nobody has learned one of: the mean of the items most like it by title, category and brand.

It stands in until a release carries a content encoder, or one whose training knew the item.
"""

import numpy as np

from tidings_core import text
from tidings_core.attributes import code_of, keyword
from tidings_core.catalogue import Description
from tidings_core.index import normalise
from tidings_core.model import Snapshot
from tidings_core.tables import Float32, Int32

LIKE = 20
"""So many items make a vector."""
NEAR = 64
"""Of each word, and of the category, so many items are looked at: those it says most about."""
SAME_CATEGORY, SAME_BRAND = 2.0, 1.5
"""An item of the same category, or of the same brand, counts so many times as much."""
ALONE = 0.1
"""How much an item counts that shares the category and no word, against one that has the best word in its title."""
SAMPLE = 10_000


def typical_norm(base: Snapshot) -> float:
    """The median length of a release's item vectors, from SAMPLE of them spread over all."""
    count = len(base.items)
    rows = np.linspace(0, count - 1, min(count, SAMPLE)).astype(np.int64)
    return float(np.median(np.linalg.norm(base.item_vectors[rows], axis=1)))


def like(base: Snapshot, description: Description, norm: float) -> Float32 | None:
    """The vector f32[D] of a new item by what is said of it, `norm` long; None when no item is like it.

    `base` is the snapshot of a release alone.
    """
    rows, weights = _like(base, description)
    if not len(rows):
        return None
    near = base.item_vectors[rows].astype(np.float64)
    mean = weights @ near / weights.sum()
    length = float(np.linalg.norm(mean))
    if length == 0.0:
        return None
    if base.metric != "l2":
        mean *= norm / length
    return normalise(mean.astype(np.float32)[None, :], base.metric)[0]


def _like(base: Snapshot, description: Description) -> tuple[Int32, Float32]:
    """The rows i32[<= LIKE] of the items most like a description, and how much each counts, f32 above 0."""
    parts: list[tuple[Int32, Float32]] = []
    if base.words is not None:
        words = list(dict.fromkeys(text.tokens(description.title)))[: text.QUERY_WORDS]
        parts = [text.entries(word, base.words, NEAR) for word in words]
    best = max((float(weights.max()) for _, weights in parts if len(weights)), default=1.0)
    if base.categories is not None and description.categories:
        same, _ = text.entries(text.fold(description.categories[-1]), base.categories, NEAR)
        parts.append((same, np.full(len(same), ALONE * best, np.float32)))
    if not any(len(rows) for rows, _ in parts):
        return np.empty(0, np.int32), np.empty(0, np.float32)
    rows, place = np.unique(np.concatenate([rows for rows, _ in parts]), return_inverse=True)
    weights = np.bincount(place, np.concatenate([weights for _, weights in parts]))
    for name, times in (("category", SAME_CATEGORY), ("brand", SAME_BRAND)):
        attribute, value = keyword(base.attributes, name), description.values.get(name)
        if attribute is not None and isinstance(value, str):
            weights *= np.where(attribute.codes[rows] == code_of(attribute.values, value), times, 1.0)
    order = np.lexsort((rows, -weights))[:LIKE]
    return rows[order], weights[order].astype(np.float32)
