"""Slices: how the models do for some of the people, and with some of the items."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from tidings_core.attributes import Keyword
from tidings_core.tables import Bool, Float64
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


@dataclass(frozen=True, slots=True)
class Part:
    """What a slice holds: people bool[C], places of the questions, and items bool[I], of which a wanted one counts."""

    name: str
    about: str
    people: Bool
    items: Bool


def slices(
    found: Mapping[str, Measured], asked: Questions, training: TrainingSet, catalogue: Catalogue | None, k: int
) -> list[Slice]:
    """How each model does in each slice; empty ones are left out."""
    told = []
    for part in parts_of(asked, training, catalogue):
        of = {name: values(part, one, asked, k) for name, one in found.items()}
        chosen = int(next(iter(of.values()))[0].sum())
        if chosen:
            means = {name: metrics.means(reached) for name, (_, reached) in of.items()}
            told.append(Slice(part.name, part.about, chosen, k, means))
    return told


def parts_of(asked: Questions, training: TrainingSet, catalogue: Catalogue | None) -> list[Part]:
    """People new and returning, by activity, then wanted items by how well known they are and by category.

    Of people's slices all that is wanted counts; of items' slices only the items in them, of people with a past.
    """
    every = np.ones(len(training.known), np.bool_)
    return [
        *(Part(name, about, people, every) for name, about, people in _people(asked)),
        *(Part(name, about, asked.known, items) for name, about, items in _items(asked, training, catalogue)),
    ]


def values(part: Part, one: Measured, asked: Questions, k: int) -> tuple[Bool, Float64]:
    """The questions of a slice, bool[C], and what a model reached in each of the n: METRICS at k, f64[n, 5]."""
    kept = scipy.sparse.csr_matrix(asked.wanted @ scipy.sparse.diags_array(part.items.astype(np.float32)))
    kept.eliminate_zeros()
    counts = np.diff(kept.indptr)
    chosen = part.people & (counts > 0)
    there = one.hits[chosen] & part.items[np.maximum(one.lists[chosen], 0)]
    return chosen, metrics.measure(there, counts[chosen].astype(np.float64), k)


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
