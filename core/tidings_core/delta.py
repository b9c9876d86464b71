"""The delta: what changed in the catalogue since a release was built, as small arrays beside the release's own.

Immutable: taking changes in makes a new one, at the cost of its size and not of the release's. `patched` makes the
snapshot that answers with it; where nothing changed it reads what the release holds, as it stands there.

An existing item keeps its row, a new one gets the next row after the release's N. The ranks of prices, the rarities of
words and the vectors of new items go by what the release knows: the next release counts anew.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tidings_core import text
from tidings_core.attributes import (
    Attribute,
    Attributes,
    Flag,
    Keyword,
    Kind,
    Number,
    attribute_of,
    blank,
    code_of,
    joined,
    keyword,
    trimmed,
)
from tidings_core.catalogue import Change, Value
from tidings_core.features import ITEM_FEATURES
from tidings_core.index import FaissIndex, normalise
from tidings_core.likeness import like, typical_norm
from tidings_core.model import Postings, Snapshot
from tidings_core.tables import Bool, Float32, IdTable, Int32, Int64, places

STANDARD: Mapping[str, Kind] = {"price": "number", "stock": "number", "available": "flag"}
"""What may change alone. A delta holds it whether the release does or not."""
TWIN_REACH = 100
"""Among so many nearest items the one most like a new one is looked for."""
_LOG_PRICE, _PRICE_RANK = ITEM_FEATURES.index("log_price"), ITEM_FEATURES.index("price_rank")
_POPULARITY = ITEM_FEATURES.index("log_purchases")
_NONE = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Prices:
    """The log prices f32[P] of a release, ascending within each category: category c has starts[c]:starts[c + 1].

    The last category is for items that have none.
    """

    starts: Int64
    logs: Float32

    @classmethod
    def of(cls, base: Snapshot) -> "Prices":
        """Sort the prices of a release."""
        logs = base.item_features[:, _LOG_PRICE]
        category = keyword(base.attributes, "category")
        count = 0 if category is None else len(category.values)
        codes = (
            np.full(len(logs), 0, np.int32) if category is None else np.where(category.codes < 0, count, category.codes)
        )
        priced = np.flatnonzero(logs > 0)
        order = priced[np.lexsort((logs[priced], codes[priced]))]
        starts = np.zeros(count + 2, np.int64)
        np.cumsum(np.bincount(codes[priced], minlength=count + 1), out=starts[1:])
        return cls(starts, np.array(logs[order], np.float32))

    def rank(self, category: int, log_price: float) -> float:
        """Place of a price among those of a category (code, -1 for none), 0 (cheapest) to 1."""
        at = category if 0 <= category < len(self.starts) - 2 else len(self.starts) - 2
        known = self.logs[self.starts[at] : self.starts[at + 1]]
        return min(1.0, float(np.searchsorted(known, np.float32(log_price))) / max(len(known) - 1, 1))


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed since a release.

    `rows` i32[R] ascending are the items that changed, of deleted ones those that had before; over exactly these:
    `attributes` (texts numbered anew), `codes` of the release's keyword attributes (a text that the release lacks has a
    code above all of its own), `payloads`, `features` f32[R, F], `times` i64[R] (Unix microseconds of the newest word),
    `described` bool[R] whether more than price, stock and availability changed.
    `ids` are the M new items, in rows N to N + M - 1, deleted ones among them; `deleted` i32 ascending. `vector_rows`
    i32[V] ascending have `vectors` f32[V, D] in place of the release's, which belong in `lists` i32[V] of its index
    (-1: in none); `twins` i32[M] is the row most like each new item, -1 for none. `word_rows` i32 ascending have the
    texts and categories that `words` and `categories` index.
    Which new item has which row depends on the order of changes: deltas of one release agree on it where `numbering`,
    which whoever starts one gives it, is the same. `worded` counts how often `words` and `categories` changed since.
    """

    rows: Int32 = field(default_factory=lambda: _NONE)
    attributes: Attributes = field(default_factory=dict)
    codes: Mapping[str, Int32] = field(default_factory=dict)
    payloads: tuple[bytes, ...] = ()
    features: Float32 = field(default_factory=lambda: np.empty((0, len(ITEM_FEATURES)), np.float32))
    times: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    described: Bool = field(default_factory=lambda: np.empty(0, np.bool_))
    ids: IdTable = field(default_factory=lambda: IdTable.of([]))
    deleted: Int32 = field(default_factory=lambda: _NONE)
    vector_rows: Int32 = field(default_factory=lambda: _NONE)
    vectors: Float32 = field(default_factory=lambda: np.empty((0, 0), np.float32))
    lists: Int32 = field(default_factory=lambda: _NONE)
    twins: Int32 = field(default_factory=lambda: _NONE)
    word_rows: Int32 = field(default_factory=lambda: _NONE)
    words: Postings | None = None
    categories: Postings | None = None
    prices: Prices | None = None
    norm: float = 0.0
    numbering: int = 0
    worded: int = 0

    @property
    def empty(self) -> bool:
        """Whether nothing changed."""
        return not (len(self.rows) or len(self.deleted) or len(self.ids))

    @property
    def size(self) -> int:
        """Items that are new, have a new vector, or were described anew: what takes room and time."""
        return int(np.count_nonzero(self.described))


def taken_in(base: Snapshot, delta: Delta, changes: Iterable[Change], space: str) -> Delta:
    """A delta after changes, each of another item, the newest that stands of it.

    `base` is the snapshot of the release alone; `space` names the space of its vectors. What a change says of an item
    that is neither there nor described is passed over.
    """
    changes = list(changes)
    ids, rows, changes = _located(base, delta, changes)
    gone = np.array([change.deleted for change in changes], np.bool_)
    order = np.argsort(rows[~gone], kind="stable")
    kept = [change for change, out in zip(changes, gone.tolist(), strict=True) if not out]
    there, kept = rows[~gone][order], [kept[at] for at in order.tolist()]
    out = np.sort(rows[gone])
    fresh = _fresh(base, delta, there, kept)
    delta = replace(
        delta,
        ids=ids,
        deleted=np.union1d(np.setdiff1d(delta.deleted, there), out).astype(np.int32),
        norm=delta.norm or typical_norm(base),
        prices=fresh.prices,
    )
    delta = _with_rows(base, delta, there, kept, fresh)
    delta = _with_vectors(base, delta, there, kept, space)
    return _with_words(base, delta, there, kept, out)


def _located(base: Snapshot, delta: Delta, changes: Sequence[Change]) -> tuple[IdTable, Int32, list[Change]]:
    """The new items after changes; and the rows of those changes that are of an item, with them."""
    count = len(base.items)
    names = [change.item_id for change in changes]
    rows = base.items.find_many(names)
    later = delta.ids.find_many(names)
    rows = np.where((rows < 0) & (later >= 0), later + np.int32(count), rows)
    new = [
        at
        for at in np.flatnonzero(rows < 0).tolist()
        if changes[at].description is not None and not changes[at].deleted
    ]
    rows[new] = count + len(delta.ids) + np.arange(len(new), dtype=np.int32)
    ids = delta.ids.extended([names[at] for at in new]) if new else delta.ids
    known = np.flatnonzero(rows >= 0)
    return ids, rows[known], [changes[at] for at in known.tolist()]


@dataclass(frozen=True, slots=True)
class _Fresh:
    """The attributes and features f32[U, F] of the items that changes are of."""

    attributes: dict[str, Attribute]
    features: Float32
    prices: Prices | None


def _fresh(base: Snapshot, delta: Delta, rows: Int32, changes: Sequence[Change]) -> _Fresh:
    """What changes of items in rows i32[U] ascending make of their attributes and features."""
    described = np.array([change.description is not None for change in changes], np.bool_)
    order = np.argsort(np.r_[np.flatnonzero(~described), np.flatnonzero(described)], kind="stable").astype(np.int32)
    said = [change.description for change in changes if change.description is not None]
    # What only has other parts is as the release has it.
    from_base = rows[~described]
    # An attribute is of the kind that was there first.
    kinds: dict[str, Kind] = {name: held.kind for name, held in base.attributes.items()}
    for name, kind in (*((name, held.kind) for name, held in delta.attributes.items()), *STANDARD.items()):
        kinds.setdefault(name, kind)
    for one in said:
        for name, kind in one.kinds.items():
            kinds.setdefault(name, kind)
    attributes: dict[str, Attribute] = {}
    for name, kind in kinds.items():
        there = base.attributes.get(name)
        first = blank(kind, len(from_base)) if there is None else trimmed(there.take(from_base))
        second = attribute_of(kind, [one.values.get(name) if one.kinds.get(name) == kind else None for one in said])
        whole = joined(first, second).take(order)
        attributes[name] = _with_parts(name, whole, changes) if name in STANDARD else whole
    return _Fresh(attributes, *_features(base, delta, rows, attributes))


def _with_parts(name: str, attribute: Attribute, changes: Sequence[Change]) -> Attribute:
    """An attribute with what changes say of the part of its name."""
    parts: list[Mapping[Any, float]] = [change.parts for change in changes]
    told = [at for at, of_item in enumerate(parts) if name in of_item]
    values = [parts[at][name] for at in told]
    match attribute:
        case Number(numbers):
            changed = numbers.copy()
            changed[told] = values
            return Number(changed)
        case Flag(flags):
            changed_flags = flags.copy()
            changed_flags[told] = np.array(values, np.int8)
            return Flag(changed_flags)
    return attribute


def _features(base: Snapshot, delta: Delta, rows: Int32, attributes: Attributes) -> tuple[Float32, Prices | None]:
    """The features f32[U, F] of items in rows: a new one is one that nobody bought yet."""
    count = len(base.items)
    features = np.array(base.item_features[np.minimum(rows, count - 1)], np.float32)
    features[rows >= count] = 0.0
    price = attributes["price"]
    if not isinstance(price, Number) or not len(rows):
        return features, delta.prices
    logs = np.log1p(np.nan_to_num(np.maximum(price.numbers, 0.0))).astype(np.float32)
    category, known = keyword(attributes, "category"), keyword(base.attributes, "category")
    codes = _shared(category, known) if category is not None and known is not None else np.full(len(rows), -1)
    prices = delta.prices or Prices.of(base)
    for at in np.flatnonzero(np.abs(logs - features[:, _LOG_PRICE]) > 1e-6).tolist():
        features[at, _PRICE_RANK] = prices.rank(int(codes[at]), float(logs[at])) if logs[at] > 0 else 0.0
    features[:, _LOG_PRICE] = logs
    return features, prices


def _shared(own: Keyword, known: Keyword) -> Int32:
    """Codes of an attribute in those of another, and above them where that one lacks the text."""
    mapped = [code_of(known.values, own.values[code].decode()) for code in range(len(own.values))]
    table = np.array([*mapped, -1], np.int32)
    table[:-1] = np.where(table[:-1] < 0, len(known.values) + np.arange(len(own.values)), table[:-1])
    # Code -1 looks at the last place.
    return table[own.codes]


def _with_rows(base: Snapshot, delta: Delta, rows: Int32, changes: Sequence[Change], fresh: _Fresh) -> Delta:
    """Put what is fresh in the place of what was known of the same rows."""
    if not len(rows):
        return delta
    old = np.flatnonzero(~np.isin(delta.rows, rows)).astype(np.int32)
    both = np.concatenate([delta.rows[old], rows])
    order = np.argsort(both, kind="stable").astype(np.int32)
    attributes = {
        name: trimmed(joined(_held(delta, name, attribute.kind).take(old), attribute).take(order))
        for name, attribute in fresh.attributes.items()
    }
    payloads = [delta.payloads[at] for at in old.tolist()]
    payloads += [change.payload if change.description is None else change.description.payload for change in changes]
    described = np.array(
        [
            change.description is not None
            and (row >= len(base.items) or bool(change.vector) or change.description.payload != base.payloads[row])
            for row, change in zip(rows.tolist(), changes, strict=True)
        ],
        np.bool_,
    )
    newest = np.array([change.newest for change in changes], np.int64)
    return replace(
        delta,
        rows=both[order].astype(np.int32),
        attributes=attributes,
        codes=_codes(base, attributes),
        payloads=tuple(payloads[at] for at in order.tolist()),
        features=np.concatenate([delta.features[old], fresh.features])[order],
        times=np.concatenate([delta.times[old], newest])[order],
        described=np.concatenate([delta.described[old], described])[order],
    )


def _held(delta: Delta, name: str, kind: Kind) -> Attribute:
    return delta.attributes.get(name) or blank(kind, len(delta.rows))


def _codes(base: Snapshot, attributes: Attributes) -> dict[str, Int32]:
    codes = {}
    for name, own in attributes.items():
        if isinstance(own, Keyword):
            known = keyword(base.attributes, name)
            codes[name] = own.codes if known is None else _shared(own, known)
    return codes


def _with_vectors(base: Snapshot, delta: Delta, rows: Int32, changes: Sequence[Change], space: str) -> Delta:
    """Vectors of described items: the shop's own, where it is of this space; else a new item's is that of its like."""
    count, dim = base.item_vectors.shape
    if all(change.description is None for change in changes):
        return delta
    vectors = {} if not len(delta.vectors) else dict(zip(delta.vector_rows.tolist(), delta.vectors, strict=True))
    for row, change in zip(rows.tolist(), changes, strict=True):
        if change.description is None:
            continue
        own = np.frombuffer(change.vector, np.float32) if change.space == space else np.empty(0, np.float32)
        if len(own) == dim:
            vector = normalise(own[None, :], base.metric)[0]
            if row >= count or not np.array_equal(vector, base.item_vectors[row]):
                vectors[row] = vector
            else:
                vectors.pop(row, None)
        elif row >= count:
            found = like(base, change.description, delta.norm)
            vectors.pop(row, None)
            if found is not None:
                vectors[row] = found
        else:
            vectors.pop(row, None)
    ordered = sorted(vectors)
    table = np.array([vectors[row] for row in ordered], np.float32).reshape(len(ordered), dim)
    at = np.array(ordered, np.int32)
    return replace(
        delta,
        vector_rows=at,
        vectors=table,
        lists=_lists(base, delta, rows, at, table),
        twins=_twins(base, delta, rows, at, table),
    )


def _lists(base: Snapshot, delta: Delta, changed: Int32, vector_rows: Int32, vectors: Float32) -> Int32:
    """The list of the release's index that each vector belongs in, -1: none. Looked up for those that changed."""
    lists = np.full(len(vector_rows), -1, np.int32)
    known = np.isin(vector_rows, delta.vector_rows) & ~np.isin(vector_rows, changed)
    lists[known] = delta.lists[np.searchsorted(delta.vector_rows, vector_rows[known])]
    if isinstance(base.index, FaissIndex):
        lists[~known] = base.index.places(vectors[~known])
    return lists


def _twins(base: Snapshot, delta: Delta, changed: Int32, vector_rows: Int32, vectors: Float32) -> Int32:
    """The release's row nearest to each new item by vectors, -1 for one without a vector. Raises IndexFailed."""
    count = len(base.items)
    twins = np.full(len(delta.ids), -1, np.int32)
    twins[: len(delta.twins)] = delta.twins
    new = changed[changed >= count]
    twins[new - count] = -1
    if base.neighbours is None or not len(new) or not len(vector_rows):
        return twins
    at, has = places(vector_rows, new)
    if has.any():
        twins[new[has] - count] = _nearest(base, vectors[at[has]])
    return twins


def _nearest(base: Snapshot, vectors: Float32) -> Int32:
    """The row most like each item vector f32[B, D]: of the nearest, the one that points most the same way."""
    found, _ = base.index.search(vectors, min(TWIN_REACH, len(base.items)))
    near = base.item_vectors[np.maximum(found, 0)]
    lengths = np.linalg.norm(near, axis=2)
    cosine = np.matmul(near, vectors[:, :, None])[:, :, 0] / np.where(lengths > 0, lengths, np.inf)
    best = np.where(found >= 0, cosine, -np.inf).argmax(axis=1)
    return found[np.arange(len(found)), best].astype(np.int32)


def _with_words(base: Snapshot, delta: Delta, rows: Int32, changes: Sequence[Change], out: Int32) -> Delta:
    """The words and categories of described items, and none of those that are gone."""
    count = len(base.items)
    said: list[tuple[int, Change]] = []
    for row, change in zip(rows.tolist(), changes, strict=True):
        if change.description is None:
            continue
        known = row < count and not _has(delta.word_rows, row)
        if not known or change.description.payload != base.payloads[row]:
            said.append((row, change))
    told = np.array([row for row, _ in said], np.int32)
    dropped = np.union1d(told, out).astype(np.int32)
    if not len(dropped):
        return delta
    descriptions = [change.description for _, change in said if change.description is not None]
    words, categories = delta.words, delta.categories
    if base.words is not None:
        later = text.later_words([one.fields for one in descriptions], told, base.words, count)
        words = later if words is None else text.joined(words, later, dropped)
    if base.categories is not None:
        popularity = delta.features[places(delta.rows, told)[0], _POPULARITY] if len(told) else np.empty(0, np.float32)
        found = text.index_categories([one.categories for one in descriptions], popularity)
        if found is not None:
            found = replace(found, rows=told[found.rows])
            categories = found if categories is None else text.joined(categories, found, dropped)
        elif categories is not None:
            categories = text.joined(categories, text.NO_WORDS, dropped)
    word_rows = np.union1d(np.setdiff1d(delta.word_rows, out), told).astype(np.int32)
    return replace(delta, words=words, categories=categories, word_rows=word_rows, worded=delta.worded + 1)


def _has(rows: Int32, row: int) -> bool:
    at = int(np.searchsorted(rows, row))
    return at < len(rows) and int(rows[at]) == row


def have_vectors(rows: Int32 | Int64, snapshot: Snapshot) -> Bool:
    """Which of item rows [M] have a vector, bool[M]: a new one may have none yet."""
    if snapshot.base is None or snapshot.delta is None:
        return np.ones(len(rows), np.bool_)
    return (rows < len(snapshot.base.items)) | np.isin(rows, snapshot.delta.vector_rows)


def item_values(snapshot: Snapshot, row: int) -> tuple[dict[str, tuple[Kind, Value]], int]:
    """What stands of an item's attributes, each with its kind, those that it has; and when it last changed.

    That is in Unix microseconds, 0 where it is not known.
    """
    delta = snapshot.delta
    attributes: Attributes = snapshot.attributes
    at = row
    time = int(snapshot.item_times[row]) if row < len(snapshot.item_times) else 0
    if delta is not None and _has(delta.rows, row):
        at = int(np.searchsorted(delta.rows, row))
        attributes, time = delta.attributes, int(delta.times[at])
    found = {name: (attribute.kind, attribute.at(at)) for name, attribute in attributes.items()}
    return {name: (kind, value) for name, (kind, value) in found.items() if value is not None and value != ()}, time
