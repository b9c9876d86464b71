"""The snapshot of a release and a delta: each part of the release's that the delta touches, read with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tidings_core.attributes import Attribute, blank, keyword
from tidings_core.delta import Delta
from tidings_core.extended import Extended
from tidings_core.index import FaissIndex
from tidings_core.model import Index, Metric, Neighbours, Payloads, Postings, Ranker, Snapshot, Trending
from tidings_core.rows import Passing, RowSet
from tidings_core.tables import Bool, Float32, IdTable, Int32, Int64, LongerIds, Patched, marked, places

_NEVER = np.float32(-np.inf)
SPARE = 8
"""So many more than wanted are fetched from the index, and twice as many as are likely to be gone among them."""
MOST_REVERSED = 4
"""So many new items at most are named as neighbours of one item, the newest."""


def patched(base: Snapshot, delta: Delta) -> Snapshot:
    """What answers with a release and a delta; the release's own snapshot when nothing changed."""
    if delta.empty:
        return base
    count = len(base.items)
    vectors = _vectors(base, delta)
    attributes, codes, features = _attributes(base, delta, count), {}, base.item_features
    if len(delta.rows):
        marks = marked(delta.rows, count)
        features = Patched(base.item_features, delta.rows, delta.features, marks)
        for name, changed in delta.codes.items():
            if (known := keyword(attributes, name)) is not None:
                codes[name] = Patched(known.codes, delta.rows, changed, marks)
    gone = delta.deleted
    stale = np.union1d(delta.word_rows, gone).astype(np.int32)
    return replace(
        base,
        base=base,
        delta=delta,
        items=LongerIds(base.items, delta.ids) if len(delta.ids) and isinstance(base.items, IdTable) else base.items,
        item_vectors=vectors,
        index=_index(base, delta),
        item_features=features,
        payloads=PatchedBytes(base.payloads, delta.rows, delta.payloads) if len(delta.rows) else base.payloads,
        attributes=attributes,
        codes=codes,
        neighbours=_neighbours(base, delta),
        trending=_trending(base.trending, gone),
        category_trends=_postings(base.category_trends, gone, None),
        ranker=PatchedRanker(base.ranker, features)
        if base.ranker is not None and isinstance(features, Patched)
        else base.ranker,
        words=_postings(base.words, stale, delta.words),
        categories=_postings(base.categories, stale, delta.categories),
    )


@dataclass(frozen=True, slots=True)
class PatchedBytes:
    """The byte strings of a table, with others in some rows, and with more rows: `values[i]` stands in rows[i]."""

    base: Payloads
    rows: Int32
    values: tuple[bytes, ...]

    def __len__(self) -> int:
        return max(len(self.base), int(self.rows[-1]) + 1)

    def __getitem__(self, row: int) -> bytes:
        at = int(np.searchsorted(self.rows, row))
        if at < len(self.rows) and self.rows[at] == row:
            return self.values[at]
        return self.base[row]

    def views(self, rows: Sequence[int]) -> list[bytes]:
        """The byte strings of rows."""
        return [self[row] for row in rows]


class PatchedRanker:
    """Scores with the features of what changed, in place of those the ranker has bound."""

    def __init__(self, base: Ranker, features: Patched) -> None:
        self._base = base
        self._features = features

    def score(
        self,
        item_rows: Int64,
        user_features: Float32,
        candidate_features: Float32,
        item_features: Float32 | None = None,
    ) -> Float32:
        """Scores f32[B, K], as of every Ranker. Raises RankerFailed."""
        if item_features is None and self._features.touches(item_rows):
            item_features = self._features[item_rows.ravel()]
            item_rows = np.arange(item_rows.size, dtype=np.int64).reshape(item_rows.shape)
        return self._base.score(item_rows, user_features, candidate_features, item_features)


class PatchedIndex:
    """Finds items in an index and among new vectors; what is deleted or has a new vector is not found in the index.

    `known` f32[N, D] are the vectors in the index, of `count` items with those after them. gone i32[G] ascending are
    the rows of the index that no longer count; `vectors` f32[V, D] are those of rows i32[V], and belong in `lists`
    i32[V] of the index (-1: in none).
    """

    def __init__(
        self,
        base: Index,
        metric: Metric,
        known: Float32,
        count: int,
        gone: Int32,
        rows: Int32,
        vectors: Float32,
        lists: Int32,
    ) -> None:
        self._base = base
        self._metric: Metric = metric
        self._known = known
        self._count = count
        self._gone = gone
        self._rows = rows
        self._own = _Beside(rows, vectors, metric)
        # The last place is for -1, the padding.
        self._dead = np.zeros(len(known) + 1, np.bool_)
        self._dead[gone] = True
        self._dead[-1] = True
        # Where all of them are asked for, vectors are searched in the lists of the index, but those it has no code for.
        listed, alone = np.flatnonzero(lists >= 0), np.flatnonzero(lists < 0)
        self._extended = base.extended(vectors[listed], lists[listed]) if isinstance(base, FaissIndex) else None
        self._alone = _Beside(rows[alone], vectors[alone], metric)
        self._found = np.arange(len(known) + len(listed) + 1, dtype=np.int32)
        self._found[gone] = -1
        self._found[len(known) : -1] = rows[listed]
        self._found[-1] = -1

    def prepare(self, rows: RowSet, *, gather: bool = True) -> Passing:
        """Make a set of rows ready to be searched for, as every index does."""
        rows = rows.resized(self._count)
        return Passing(rows, within=self._base.prepare(rows, gather=gather), own=self._passing(rows))

    def patch(self, rows: RowSet, within: Passing | None) -> Passing:
        """Make a set of rows ready from what the index prepared of the release alone, for what passes there by itself.

        `within` None: everything passes there. What passes now and not then is searched besides, and what passed then
        and not now dropped, so this costs as much as there are changes.
        """
        size = len(self._known)
        now = rows.resized(size)
        more = np.empty(0, np.int32) if within is None else (now - within.rows).rows()
        # What has a new vector is found by that one.
        more = more[~self._dead[more]]
        lost = ~now if within is None else within.rows - now
        usual = within is None and bool(self._dead[lost.rows()].all())
        return Passing(
            rows,
            within=within,
            lost=lost.count,
            more=more,
            more_vectors=self._known[more],
            own=self._passing(rows),
            usual=usual,
        )

    def without(self, passing: Passing | None, excluded: Passing) -> Passing:
        """The rows of `passing` (None: all) that are not among those excluded."""
        apart = excluded.within or excluded
        if passing is None:
            rows = ~RowSet.of_rows(np.empty(0, np.int32), self._count) - excluded.rows
            return Passing(rows, within=self._base.without(None, apart), own=self._passing(rows))
        rows = passing.rows - excluded.rows
        within = self._base.without(passing.within, apart)
        return replace(passing, rows=rows, within=within, own=self._passing(rows), usual=False)

    def search(self, queries: Float32, k: int, passing: Passing | None = None) -> tuple[Int64, Float32]:
        """Nearest items of queries, as of every Index: rows i64[B, k], scores f32[B, k]. Raises IndexFailed."""
        if self._extended is None or not (passing is None or (passing.usual and passing.own is None)):
            return self._search_beside(queries, k, passing)
        queries = np.ascontiguousarray(queries, np.float32)
        found = []
        for at in range(len(queries)):
            one = queries[at : at + 1]
            in_lists = self._in_lists(self._extended, one, k)
            if in_lists is None:
                rows, scores = self._search_beside(one, k, passing)
                in_lists = rows[0], scores[0]
            found.append(in_lists)
        if len(found) == 1:
            return found[0][0][None], found[0][1][None]
        return np.stack([rows for rows, _ in found]), np.stack([near for _, near in found])

    def _search_beside(self, queries: Float32, k: int, passing: Passing | None) -> tuple[Int64, Float32]:
        """As `search`: the index without what is gone, and beside it the new vectors, looked at one by one."""
        rows, scores, least = self._in_index(queries, k, passing)
        beside = [(self._own.rows, self._own.scores(queries, None if passing is None else passing.own))]
        if passing is not None and passing.more is not None and passing.more_vectors is not None and len(passing.more):
            more = _Beside(passing.more, passing.more_vectors, self._metric)
            # Of these too some may be excluded since.
            beside.append((more.rows, more.scores(queries, passing.rows.contains(more.rows))))
        out_rows, out_scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        for user in range(len(queries)):
            others = [(new, near[user]) for new, near in beside if len(new)]
            out_rows[user], out_scores[user] = _best(rows[user], scores[user], least[user], others, k)
        return out_rows, out_scores

    def _in_lists(self, lists: Extended, query: Float32, k: int) -> tuple[Int64, Float32] | None:
        """The nearest of all to a query f32[1, D], most of them in the lists of the index: rows i64[k], scores f32[k].

        None where fewer than k are found there. Every microsecond here is one of each search.
        """
        reach = min(k + SPARE + 2 * k * len(self._gone) // max(len(self._known), 1), len(self._found) - 1)
        scores, places = lists.search(query, reach)
        rows = self._found[places[0]]
        counts = (rows >= 0).nonzero()[0][:k]
        if len(counts) < k:
            return None
        rows, near = rows[counts], scores[0, counts]
        if len(self._alone.rows):
            alone = self._alone.scores(query, None)[0]
            return _best(rows, near, near[-1], [(self._alone.rows, alone)], k)
        return rows.astype(np.int64), near

    def _in_index(self, queries: Float32, k: int, passing: Passing | None) -> tuple[Int64, Float32, list[np.float32]]:
        """The nearest in the index, k that still count for each query, or all that do.

        Rows, scores (-inf for what does not count), and for each query a score that k of them reach, -inf for none.
        """
        within, lost, size = None, 0, len(self._known)
        if passing is not None and not passing.usual:
            within, lost = passing.within, passing.lost
        there = size if within is None else within.rows.count
        reach = min(k + SPARE + 2 * k * (len(self._gone) + lost) // max(there, 1), size)
        reach = reach if len(self._gone) or lost else min(k, size)
        rows, scores = self._base.search(queries, reach, within)
        dead = self._not_counting(rows, passing)
        if 0 <= dead.shape[1] - k < np.count_nonzero(dead):
            short = ((~dead).sum(axis=1) < k) & (rows[:, -1] >= 0)
            if short.any():
                dropped = RowSet.of_rows(self._gone, size)
                if passing is not None:
                    now = passing.rows.resized(size)
                    dropped = dropped | (~now if within is None else within.rows - now)
                apart = self._base.without(within, self._base.prepare(dropped, gather=False))
                rows[short], scores[short] = self._base.search(queries[short], reach, apart)
                dead = self._not_counting(rows, passing)
        if rows.shape[1] < k:
            # All of the index, and there may be more beside it however far they are.
            scores[dead] = _NEVER
            return rows, scores, [_NEVER] * len(rows)
        # The last that was found, be it dead: as many as there may be are before it.
        least = [score if row >= 0 else _NEVER for row, score in zip(rows[:, -1], scores[:, -1], strict=True)]
        scores[dead] = _NEVER
        return rows, scores, least

    def _not_counting(self, rows: Int64, passing: Passing | None) -> Bool:
        """Which of rows that the index found do not count any more, or do not pass; padding does not."""
        dead: Bool = self._dead[rows]
        return dead if passing is None or passing.usual else dead | ~passing.rows.contains(rows)

    def _passing(self, rows: RowSet) -> Bool | None:
        """Which of the new vectors are of a set of rows, None: all."""
        own = rows.contains(self._rows)
        return None if own.all() else own


def _best(
    rows: Int64 | Int32, scores: Float32, least: np.float32, beside: Sequence[tuple[Int32, Float32]], k: int
) -> tuple[Int64, Float32]:
    """The k best of what an index found (rows i64[W] and scores f32[W], -inf for what does not count) and of others.

    Rows i64[k] padded with -1, scores f32[k]. Others count from the score `least` on. Every microsecond here is one of
    each search.
    """
    all_rows: list[Int64 | Int32] = [rows]
    all_scores = [scores]
    for new, near in beside:
        better = (near >= least).nonzero()[0]
        if len(better):
            all_rows.append(new[better])
            all_scores.append(near[better])
    joined = np.concatenate(all_scores)
    best = (-joined).argsort(kind="stable")[:k]
    score = joined[best]
    row = np.concatenate(all_rows)[best].astype(np.int64, copy=False)
    if len(score) < k or score[-1] == _NEVER:
        found = int(np.count_nonzero(score > _NEVER))
        row = np.concatenate([row[:found], np.full(k - found, -1, np.int64)])
        score = np.concatenate([score[:found], np.zeros(k - found, np.float32)])
    return row, score


class _Beside:
    """Vectors f32[V, D] of rows i32[V] that are looked at one by one."""

    def __init__(self, rows: Int32, vectors: Float32, metric: Metric) -> None:
        self.rows = rows
        self._turned = np.ascontiguousarray(vectors.T)
        self._squares = (vectors**2).sum(axis=1) if metric == "l2" else None

    def scores(self, queries: Float32, passing: Bool | None) -> Float32:
        """Scores f32[B, V] for queries f32[B, D], of what passes (None: all)."""
        if not len(self.rows):
            return np.empty((len(queries), 0), np.float32)
        said = queries @ self._turned
        if self._squares is not None:
            said = 2.0 * said - self._squares - (queries**2).sum(axis=1)[:, None]
        if passing is not None:
            said[:, ~passing] = _NEVER
        return said


def _vectors(base: Snapshot, delta: Delta) -> "Patched | Float32":
    """The vectors by row; those of new items that have none are zero."""
    count, dim = base.item_vectors.shape
    new = np.arange(count, count + len(delta.ids), dtype=np.int32)
    rows = np.union1d(delta.vector_rows, new).astype(np.int32)
    if not len(rows):
        return base.item_vectors
    vectors = np.zeros((len(rows), dim), np.float32)
    if len(delta.vector_rows):
        vectors[places(rows, delta.vector_rows)[0]] = delta.vectors
    return Patched(base.item_vectors, rows, vectors)


def _index(base: Snapshot, delta: Delta) -> Index:
    count = len(base.items)
    alive = ~np.isin(delta.vector_rows, delta.deleted)
    gone = np.union1d(delta.deleted, delta.vector_rows).astype(np.int32)
    return PatchedIndex(
        base.index,
        base.metric,
        base.item_vectors,
        count + len(delta.ids),
        gone[gone < count],
        delta.vector_rows[alive],
        delta.vectors[alive],
        delta.lists[alive],
    )


def _attributes(base: Snapshot, delta: Delta, count: int) -> Mapping[str, Attribute]:
    """The release's attributes, and those that it lacks and the delta holds, which none of its items has."""
    more = {name: blank(held.kind, count) for name, held in delta.attributes.items() if name not in base.attributes}
    return {**base.attributes, **more} if more else base.attributes


def _trending(trending: Trending | None, gone: Int32) -> Trending | None:
    if trending is None or not len(gone):
        return trending
    kept = ~places(gone, trending.rows)[1]
    return Trending(trending.rows[kept], trending.scores[kept])


def _postings(base: Postings | None, stale: Int32, later: Postings | None) -> Postings | None:
    return None if base is None else replace(base, stale=stale, newer=later)


def _neighbours(base: Snapshot, delta: Delta) -> Neighbours | None:
    """The neighbours with those of new items: an item goes with its twin, and with what its twin goes with.

    And the other way round: whoever comes by the twin finds the new item first.
    """
    found = base.neighbours
    if found is None or not len(delta.ids) or not found.rows.shape[1]:
        return found
    count, width = len(base.items), found.rows.shape[1]
    new = np.arange(count, count + len(delta.ids), dtype=np.int32)
    twinned = delta.twins >= 0
    twins = np.maximum(delta.twins, 0)
    rows = np.full((len(new), width), -1, np.int32)
    scores = np.zeros((len(new), width), np.float32)
    rows[twinned, 0], rows[twinned, 1:] = twins[twinned], found.rows[twins[twinned], : width - 1]
    best = found.scores[twins[twinned]].max(axis=1)
    scores[twinned, 0], scores[twinned, 1:] = best, found.scores[twins[twinned], : width - 1]
    alive = twinned & ~np.isin(new, delta.deleted)
    order = np.lexsort((-new[alive], twins[alive]))
    of_twin, named = twins[alive][order], new[alive][order]
    starts = np.flatnonzero(np.r_[True, np.diff(of_twin) != 0]) if len(of_twin) else np.empty(0, np.int64)
    owners = of_twin[starts]
    back_rows, back_scores = np.array(found.rows[owners]), np.array(found.scores[owners])
    for at, (start, end) in enumerate(zip(starts, np.r_[starts, len(named)][1:], strict=True)):
        more = named[start : min(end, start + MOST_REVERSED)][:width]
        back_rows[at] = np.r_[more, back_rows[at]][:width]
        back_scores[at] = np.r_[np.full(len(more), back_scores[at].max()), back_scores[at]][:width]
    all_rows = np.r_[owners, new].astype(np.int32)
    marks = marked(all_rows, count)
    return Neighbours(
        Patched(found.rows, all_rows, np.concatenate([back_rows, rows]), marks),
        Patched(found.scores, all_rows, np.concatenate([back_scores, scores]), marks),
    )
