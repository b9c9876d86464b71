"""The feature schema, once: what a ranker sees of an item, of a user, and of the two together.

The builder computes the item block for a release; training and serving compute the other two with the functions here,
so that offline and online agree. Every feature is finite: what is not known is 0.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tidings_core.attributes import keyword
from tidings_core.changes import AttributeValue
from tidings_core.model import History, Snapshot
from tidings_core.tables import Bool, Float32, Int32, taken, taken_column

ITEM_FEATURES = (
    "log_purchases",  # log(1 + purchases ever)
    "log_purchases_7d",
    "log_purchases_30d",
    "log_purchases_90d",
    "trend_30d",  # log of purchases in 30 days over a third of those in 90, one added to both
    "log_buyers",  # log(1 + distinct users who bought)
    "log_price",  # log(1 + price)
    "price_rank",  # 0 to 1: place of the price within the item's category
    "log_age_days",  # log(1 + days since the item was first bought)
)
USER_FEATURES = (
    "log_items",  # log(1 + distinct items bought)
    "log_purchases",
    "log_days_since_last",  # log(1 + days since the last purchase), days at most RECENCY_LIMIT_DAYS
    "mean_log_purchases",  # over the items of the history: how popular they are
    "mean_log_price",  # over its items that have a price
    "spread_log_price",  # standard deviation
    "category_spread",  # 0 to 1: 1 less the share of the most bought category
)
CANDIDATE_FEATURES = (
    "vector_score",  # similarity of user and item vector under the release's metric
    "similar_score",
    "trending_score",
    "from_ann",
    "from_similar",
    "from_trending",
    "category_affinity",  # share of the history in the item's category
    "brand_affinity",
    "price_distance",  # |log price of the item - mean log price of the history|, 0 when either is not known
    "log_times_bought",  # log(1 + purchases of this very item by this user)
    "log_days_since_bought",  # log(1 + days since then), 0 when never
)
MAX_USER_ATTRIBUTES = 256
"""So many columns of what is stated of users a ranker may ask for."""
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]{0,63}(=.{1,256})?", re.DOTALL)
SOURCE_FEATURES = ("ann", "similar", "trending")

HISTORY_LIMIT = 64
"""User and candidate features look at the newest 64 items of a history; counts of all of it are kept in `log_items`."""
RECENCY_LIMIT_DAYS = 730.0
MAX_COUNTED = 1 << 18
"""Of an attribute with so many values for each user of a batch, they are counted; of more, compared one by one."""
DAY = 86_400.0

_SCHEMA = {
    "version": 1,
    "item": ITEM_FEATURES,
    "user": USER_FEATURES,
    "candidate": CANDIDATE_FEATURES,
    "history_limit": HISTORY_LIMIT,
    "recency_limit_days": RECENCY_LIMIT_DAYS,
}
SCHEMA_HASH = hashlib.sha256(json.dumps(_SCHEMA, sort_keys=True).encode()).hexdigest()[:16]
"""Names the schema: a release made with another one is refused."""


@dataclass(frozen=True, slots=True)
class ItemStatistics:
    """What is known of N items when a release is built; every array is f64[N], NaN or 0 where nothing is known."""

    purchases: NDArray[np.float64]
    purchases_7d: NDArray[np.float64]
    purchases_30d: NDArray[np.float64]
    purchases_90d: NDArray[np.float64]
    buyers: NDArray[np.float64]
    age_days: NDArray[np.float64]

    @classmethod
    def unknown(cls, count: int) -> "ItemStatistics":
        """Statistics of items of which nothing is known."""
        return cls(*(np.zeros(count) for _ in range(6)))


def item_features(statistics: ItemStatistics, prices: Float32, categories: Int32) -> Float32:
    """The item block f32[N, F] from statistics, prices f32[N] (NaN: none) and category codes i32[N] (-1: none)."""
    columns = {
        "log_purchases": np.log1p(statistics.purchases),
        "log_purchases_7d": np.log1p(statistics.purchases_7d),
        "log_purchases_30d": np.log1p(statistics.purchases_30d),
        "log_purchases_90d": np.log1p(statistics.purchases_90d),
        "trend_30d": np.log1p(statistics.purchases_30d) - np.log1p(statistics.purchases_90d / 3.0),
        "log_buyers": np.log1p(statistics.buyers),
        "log_price": np.log1p(np.maximum(prices, 0.0)),
        "price_rank": _price_rank(prices, categories),
        "log_age_days": np.log1p(np.maximum(statistics.age_days, 0.0)),
    }
    block = np.stack([columns[name] for name in ITEM_FEATURES], axis=1)
    return np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)


def _price_rank(prices: Float32, categories: Int32) -> NDArray[np.float64]:
    """Place of each price among the prices of its category, 0 (cheapest) to 1; 0 where there is no price."""
    order = np.lexsort((prices, categories))
    order = order[np.isfinite(prices[order])]
    rank = np.zeros(len(prices))
    starts = np.flatnonzero(np.r_[True, np.diff(categories[order]) != 0]) if len(order) else np.empty(0, np.int64)
    sizes = np.diff(np.r_[starts, len(order)])
    place = np.arange(len(order)) - np.repeat(starts, sizes)
    rank[order] = place / np.maximum(np.repeat(sizes, sizes) - 1, 1)
    return rank


@dataclass(frozen=True, slots=True)
class HistoryBlock:
    """The histories of B users, padded to one length H, newest first.

    rows i32[B, H] (-1: padding), counts f32[B, H], days f32[B, H] days since the last purchase (0 in the padding),
    total_items f32[B], total_purchases f32[B] over the whole history, last_days f32[B] days since the newest entry.
    """

    rows: Int32
    counts: Float32
    days: Float32
    total_items: Float32
    total_purchases: Float32
    last_days: Float32

    @property
    def known(self) -> Bool:
        """Where there is an entry: bool[B, H]."""
        return self.rows >= 0


def history_block(histories: list[History], now: float) -> HistoryBlock:
    """Pad B histories to their longest, at most HISTORY_LIMIT entries each, as of `now` (Unix seconds)."""
    sizes = np.array([min(len(history.rows), HISTORY_LIMIT) for history in histories])
    width = max(1, int(sizes.max(initial=0)))
    known = np.arange(width) < sizes[:, None]
    rows = np.full(known.shape, -1, np.int32)
    counts, days = np.zeros((2, *known.shape), np.float32)
    filled = [history for history in histories if len(history.rows)]
    if filled:
        rows[known] = np.concatenate([history.rows[:HISTORY_LIMIT] for history in filled])
        counts[known] = np.concatenate([history.counts[:HISTORY_LIMIT] for history in filled])
        times = np.concatenate([history.times[:HISTORY_LIMIT] for history in filled])
        days[known] = np.clip((now - times) / DAY, 0.0, RECENCY_LIMIT_DAYS)
    total_items = np.array([len(history.rows) for history in histories], np.float32)
    total_purchases = counts.sum(axis=1)
    for at, history in enumerate(histories):
        if len(history.rows) > HISTORY_LIMIT:
            total_purchases[at] = history.counts.sum()
    return HistoryBlock(rows, counts, days, total_items, total_purchases, days[:, 0].copy())


class Paid(NamedTuple):
    """What the items of B histories cost: log prices f32[B, H], which have one bool[B, H], and their mean f32[B]."""

    prices: Float32
    priced: Bool
    mean: Float32


def prices_paid(block: HistoryBlock, snapshot: Snapshot) -> Paid:
    """What the items of histories cost, 0 where they have no price."""
    prices = np.where(block.known, _log_price(snapshot, np.maximum(block.rows, 0)), np.float32(0.0))
    priced = prices > 0
    mean = (prices.sum(axis=1) / np.maximum(np.count_nonzero(priced, axis=1), 1)).astype(np.float32)
    return Paid(prices, priced, mean)


def user_features(block: HistoryBlock, snapshot: Snapshot, paid: Paid | None = None) -> Float32:
    """The user block f32[B, U]. All zero for a user without history. `paid` is `prices_paid` of the same."""
    known = block.known
    size = np.maximum(np.count_nonzero(known, axis=1), 1)
    bought = taken_column(snapshot.item_features, np.where(known, block.rows, 0), ITEM_FEATURES.index("log_purchases"))
    prices, priced, mean_price = paid or prices_paid(block, snapshot)
    apart = np.where(priced, prices - mean_price[:, None], 0.0)
    spread = np.sqrt((apart**2).sum(axis=1) / np.maximum(np.count_nonzero(priced, axis=1), 1))
    columns = {
        "log_items": np.log1p(block.total_items),
        "log_purchases": np.log1p(block.total_purchases),
        "log_days_since_last": np.log1p(block.last_days),
        "mean_log_purchases": np.where(known, bought, 0.0).sum(axis=1) / size,
        "mean_log_price": mean_price,
        "spread_log_price": spread,
    }
    codes = attribute_codes(snapshot, "category", block.rows)
    if codes is not None:
        columns["category_spread"] = _spread(codes)
    out = np.zeros((len(block.rows), len(USER_FEATURES)), np.float32)
    for at, name in enumerate(USER_FEATURES):
        if name in columns:
            out[:, at] = columns[name]
    return out


def attribute_columns_fault(names: Sequence[str]) -> str:
    """What is wrong with the names of columns of what is stated of users, "" for nothing."""
    if len(names) > MAX_USER_ATTRIBUTES or len(set(names)) < len(names):
        return f"names {len(names)} columns of users' attributes, must name each once and {MAX_USER_ATTRIBUTES} at most"
    odd = next((name for name in names if not _ATTRIBUTE.fullmatch(name)), None)
    return "" if odd is None else f"names the column {odd!r:.80}; write age, or gender=female for one of its texts"


def attribute_features(names: Sequence[str], stated: Mapping[str, AttributeValue]) -> Float32:
    """The columns f32[A] that a ranker asks for of what is stated of a user, 0 for what is not.

    "age" is a number, or a flag as 1 or 0; "gender=female" is 1 where that is the text, or one of the texts.
    """
    found = np.zeros(len(names), np.float32)
    for at, name in enumerate(names):
        attribute, equals, text = name.partition("=")
        value = stated.get(attribute)
        if equals:
            found[at] = value == text or (isinstance(value, tuple) and text in value)
        elif isinstance(value, bool | int | float):
            found[at] = value
    return np.nan_to_num(found, posinf=0.0, neginf=0.0)


def candidate_features(
    block: HistoryBlock,
    rows: Int32,
    vector_scores: Float32,
    present: Bool,
    source_scores: Float32,
    sources: tuple[str, ...],
    snapshot: Snapshot,
    paid: Paid | None = None,
) -> Float32:
    """The pair block f32[B, K, C] of candidate rows i32[B, K] (-1: padding, its features mean nothing).

    vector_scores f32[B, K]; present bool[B, K, S] and source_scores f32[B, K, S] say what each of the S `sources`
    proposed, and with what score. `paid` is `prices_paid` of the same histories.
    """
    _, priced, mean_price = paid or prices_paid(block, snapshot)
    log_price = _log_price(snapshot, np.maximum(rows, 0))
    comparable = (log_price > 0) & np.any(priced, axis=1, keepdims=True)
    columns = {
        "vector_score": vector_scores,
        "category_affinity": _affinity(snapshot, "category", block.rows, rows),
        "brand_affinity": _affinity(snapshot, "brand", block.rows, rows),
        "price_distance": np.where(comparable, np.abs(log_price - mean_price[:, None]), 0.0),
    }
    bought = rows[:, :, None] == np.where(block.known, block.rows, np.int32(-2))[:, None, :]
    if bought.any():
        columns["log_times_bought"] = np.log1p(np.einsum("bkh,bh->bk", bought, block.counts))
        columns["log_days_since_bought"] = np.log1p(np.einsum("bkh,bh->bk", bought, block.days))
    for name in SOURCE_FEATURES:
        if name in sources:
            at = sources.index(name)
            columns[f"from_{name}"] = present[:, :, at]
            columns[f"{name}_score"] = source_scores[:, :, at]
    out = np.zeros((*rows.shape, len(CANDIDATE_FEATURES)), np.float32)
    for at, name in enumerate(CANDIDATE_FEATURES):
        if name in columns:
            out[:, :, at] = columns[name]
    return out


def _log_price(snapshot: Snapshot, rows: Int32) -> Float32:
    """Log prices of rows that are not negative, same shape; 0 where an item has none."""
    prices: Float32 = taken_column(snapshot.item_features, rows, ITEM_FEATURES.index("log_price"))
    return prices


def attribute_codes(snapshot: Snapshot, attribute: str, rows: Int32) -> Int32 | None:
    """Codes of a keyword attribute, same shape as rows, -1 for padding or where an item has none; None without it."""
    found = keyword(snapshot.attributes, attribute)
    if found is None:
        return None
    codes = snapshot.codes.get(attribute, found.codes)
    return np.where(rows >= 0, taken(codes, np.maximum(rows, 0)), np.int32(-1))


def attribute_text(snapshot: Snapshot, attribute: str, row: int) -> str | None:
    """The text of an item's keyword attribute; None where it has none, or without it."""
    found = keyword(snapshot.attributes, attribute)
    if found is None or row < 0:
        return None
    if snapshot.delta is not None:
        at = int(np.searchsorted(snapshot.delta.rows, row))
        if at < len(snapshot.delta.rows) and snapshot.delta.rows[at] == row:
            own = keyword(snapshot.delta.attributes, attribute)
            return None if own is None else own.at(at)
    return found.at(row)


def _affinity(snapshot: Snapshot, attribute: str, history_rows: Int32, rows: Int32) -> Float32:
    """Share of the history f32[B, K] that has the candidate's value of an attribute; 0 where it has none."""
    of_history = attribute_codes(snapshot, attribute, history_rows)
    of_candidates = attribute_codes(snapshot, attribute, rows)
    if of_history is None or of_candidates is None:
        return np.zeros(rows.shape, np.float32)
    size = np.maximum(np.count_nonzero(history_rows >= 0, axis=1), 1)
    # Code 0 of this count is for none, the last for those that no history has.
    codes = int(of_history.max(initial=-1)) + 3
    if len(rows) * codes <= MAX_COUNTED:
        first = (np.arange(len(rows)) * codes)[:, None]
        counted = np.bincount((of_history + 1 + first).reshape(-1), minlength=len(rows) * codes)
        counted[first[:, 0]] = 0
        times = counted.take(np.minimum(of_candidates + 1, codes - 1) + first)
    else:
        same = (of_candidates[:, :, None] == of_history[:, None, :]) & (of_candidates[:, :, None] >= 0)
        times = same.sum(axis=2)
    return (times / size[:, None]).astype(np.float32)


def _spread(codes: Int32) -> Float32:
    """1 less the share of the commonest code, f32[B]; 0 where no code is known."""
    known = codes >= 0
    same = (codes[:, :, None] == codes[:, None, :]) & known[:, :, None]
    size = np.maximum(known.sum(axis=1), 1)
    return np.where(np.any(known, axis=1), 1.0 - same.sum(axis=2).max(axis=1) / size, 0.0).astype(np.float32)
