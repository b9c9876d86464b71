"""Catalogue and model, whose rows count along their own ids, brought onto the rows of the items and users served."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidings.v1 import item_pb2
from tidings_core.attributes import Attribute
from tidings_core.features import ItemStatistics
from tidings_core.model import Histories, Neighbours, Trending
from tidings_core.tables import Float32, Int32, Int64
from tidings_index_builder.catalogue import Catalogue
from tidings_index_builder.ids import rows_of
from tidings_index_builder.model_dir import Model
from tidings_index_builder.remap import remapped_histories, remapped_neighbours, remapped_trending


@dataclass(frozen=True, slots=True)
class Shown:
    """A catalogue along N items: payloads, prices f32[N] (NaN: none), attributes, and how the two sets of ids met.

    times i64[N] are when the shop last changed the items, in Unix microseconds, 0 where that is not known.

    `without_row` counts items the catalogue lacks, `without_embedding` catalogue rows that are not served.
    """

    payloads: list[bytes]
    prices: Float32
    times: Int64
    attributes: Mapping[str, Attribute]
    without_row: int
    without_embedding: int


@dataclass(frozen=True, slots=True)
class Learned:
    """A model along N items and U users, and how many of them it knows. A part is None when nothing of it is left."""

    statistics: ItemStatistics
    neighbours: Neighbours | None
    complements: Neighbours | None
    trending: Trending | None
    histories: Histories | None
    items_known: int
    users_known: int


def align_catalogue(catalogue: Catalogue | None, items: Sequence[str]) -> Shown:
    """Find each item's catalogue row; an item without one shows its id only."""
    if catalogue is None:
        bare = [item_pb2.Item(item_id=name).SerializeToString() for name in items]
        return Shown(bare, np.full(len(items), np.nan, np.float32), np.zeros(len(items), np.int64), {}, 0, 0)
    rows = rows_of(items, catalogue.ids)
    known = rows >= 0
    safe = np.maximum(rows, 0)
    payloads = [
        catalogue.payloads[row] if row >= 0 else item_pb2.Item(item_id=name).SerializeToString()
        for name, row in zip(items, rows.tolist(), strict=True)
    ]
    return Shown(
        payloads,
        np.where(known, catalogue.prices[safe], np.float32(np.nan)),
        np.where(known, catalogue.times[safe], 0),
        {name: attribute.take(rows) for name, attribute in catalogue.attributes.items()},
        int((~known).sum()),
        len(catalogue.ids) - int(known.sum()),
    )


def align_model(model: Model | None, items: Sequence[str], users: Sequence[str]) -> Learned:
    """Find each item and user of the model; what it says of others is left out."""
    if model is None:
        return Learned(ItemStatistics.unknown(len(items)), None, None, None, None, 0, 0)
    # Where each of our rows stands in the model, and the other way round.
    item_from, item_to = rows_of(items, model.item_ids), rows_of(model.item_ids, items)
    user_from = rows_of(users, model.user_ids)
    neighbours = remapped_neighbours(model.neighbours, item_from, item_to)
    complements = remapped_neighbours(model.complements, item_from, item_to)
    trending = remapped_trending(model.trending, item_to)
    histories = remapped_histories(model.histories, user_from, item_to)
    return Learned(
        _statistics(model.statistics, item_from),
        neighbours if (neighbours.rows >= 0).any() else None,
        complements if (complements.rows >= 0).any() else None,
        trending if len(trending.rows) else None,
        histories if len(histories.rows) else None,
        int((item_from >= 0).sum()),
        int((user_from >= 0).sum()),
    )


def _statistics(statistics: ItemStatistics, item_from: Int32) -> ItemStatistics:
    safe, known = np.maximum(item_from, 0), item_from >= 0
    names = ("purchases", "purchases_7d", "purchases_30d", "purchases_90d", "buyers", "age_days")
    return ItemStatistics(*(np.where(known, getattr(statistics, name)[safe], 0.0) for name in names))
