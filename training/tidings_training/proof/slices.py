"""Slices: how the models do for some of the people, and with some of the items."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from tidings_core.attributes import Keyword
from tidings_core.tables import Bool
from tidings_index_builder.catalogue import Catalogue
from tidings_index_builder.ids import rows_of
from tidings_training.contenders.contender import TrainingSet
from tidings_training.proof import metrics
from tidings_training.proof.compare import Measured
from tidings_training.questions import Questions

RARE = 5
"""An item that fewer users liked is rare."""
CATEGORIES = 8
"""So many categories are shown, those of which the most is wanted."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What `means` say is of so many questions; it maps a model to METRICS at k. `about` says what the slice holds."""

    name: str
    about: str
    questions: int
    k: int
    means: Mapping[str, Mapping[str, float]]


def slices(
    found: Mapping[str, Measured], asked: Questions, training: TrainingSet, catalogue: Catalogue | None, k: int
) -> list[Slice]:
    """People new and returning, by activity, then wanted items by how well known they are and by category.

    Of people's slices all that is wanted counts; of items' slices only the items in them, of people with a past. Empty
    ones are left out.
    """
    every = np.ones(len(training.known), np.bool_)
    told = [_slice(name, about, found, asked, people, every, k) for name, about, people in _people(asked)]
    for name, about, items in _items(asked, training, catalogue):
        told.append(_slice(name, about, found, asked, asked.known, items, k))
    return [one for one in told if one.questions]


def _people(asked: Questions) -> list[tuple[str, str, Bool]]:
    past = np.diff(asked.past.indptr)
    known = asked.known
    named = [("new people", "without any past", ~known), ("returning people", "with a past", known)]
    if known.sum() < 3:
        return named
    low, high = np.quantile(past[known], [1 / 3, 2 / 3]).astype(int)
    return [
        *named,
        ("little past", f"1 to {low} items", known & (past <= low)),
        ("some past", f"{low + 1} to {high} items", (past > low) & (past <= high)),
        ("much past", f"over {high} items", past > high),
    ]


def _items(asked: Questions, training: TrainingSet, catalogue: Catalogue | None) -> list[tuple[str, str, Bool]]:
    liked_by = np.diff(training.matrix.tocsc().indptr)
    named: list[tuple[str, str, Bool]] = [
        ("unknown items", "nobody liked them before", liked_by == 0),
        ("rare items", f"liked by 1 to {RARE - 1} before", (liked_by > 0) & (liked_by < RARE)),
    ]
    category = None if catalogue is None else catalogue.attributes.get("category")
    if catalogue is None or not isinstance(category, Keyword):
        return named
    rows = rows_of(training.log.item_ids, catalogue.ids)
    codes = np.where(rows >= 0, category.codes[np.maximum(rows, 0)], -1)
    often = np.bincount(codes[asked.wanted.indices] + 1, minlength=len(category.values) + 1)[1:]
    most = [int(code) for code in np.argsort(-often, kind="stable")[:CATEGORIES] if often[code]]
    named += [(f"category {category.values[code].decode()}", f"{often[code]:,} wanted", codes == code) for code in most]
    return named


def _slice(
    name: str, about: str, found: Mapping[str, Measured], asked: Questions, people: Bool, items: Bool, k: int
) -> Slice:
    kept = scipy.sparse.csr_matrix(asked.wanted @ scipy.sparse.diags_array(items.astype(np.float32)))
    kept.eliminate_zeros()
    counts = np.diff(kept.indptr)
    chosen = people & (counts > 0)
    means: dict[str, dict[str, float]] = {}
    for model, one in found.items():
        if chosen.any():
            there = one.hits[chosen] & items[np.maximum(one.lists[chosen], 0)]
            means[model] = metrics.means(metrics.measure(there, counts[chosen].astype(np.float64), k))
    return Slice(name, about, int(chosen.sum()), k, means)
