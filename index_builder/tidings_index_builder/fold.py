"""Folding back: a release and what changed in its catalogue since, made into a release of their own.

Nothing is learned and nothing is tuned: items keep their vectors, the index is built anew with the key and the
parameters it had, and its recall is measured again on the queries that were kept. The space of the vectors stays the
same, so what was sent for it goes on being of use. This module needs no more than the server does.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from tidings.v1 import item_pb2
from tidings_core.attributes import Attribute, blank, joined
from tidings_core.catalogue import Change
from tidings_core.delta import Delta, taken_in
from tidings_core.errors import InvalidInput
from tidings_core.features import ITEM_FEATURES
from tidings_core.index import FaissIndex, FilterPlan, build_index
from tidings_core.model import FoldIn, Snapshot
from tidings_core.patched import patched
from tidings_core.release import (
    ENCODER_FILE,
    RANKER_FILE,
    ChangesHeld,
    IndexInfo,
    Manifest,
    Parts,
    Release,
    list_releases,
    open_release,
    read_recall_queries,
    write_release,
)
from tidings_core.tables import Float32, Int32, places
from tidings_core.text import category_trends
from tidings_index_builder.candidates import lists_of
from tidings_index_builder.postings import index_payloads
from tidings_index_builder.progress import Progress, silent
from tidings_index_builder.prune import remove
from tidings_index_builder.recall import true_nearest
from tidings_index_builder.remap import remapped_histories, remapped_neighbours, remapped_trending

AT_ONCE = 5_000
"""So many changes are taken in at a time."""
GROWTH = 1.25
"""By so much the number of lists that are probed grows, should recall have fallen below its target."""
TIMED = 64
"""Queries that speed is measured on."""
FOLDED = "folded"
"""The entry of a folded release's lineage."""


def fold(
    folder: Path,
    changes: Iterable[Change],
    held: ChangesHeld,
    releases: Path,
    now: float,
    progress: Progress = silent,
    without: Collection[str] = (),
) -> Manifest:
    """Write a release of what a release in `folder` and changes make together, and return its manifest.

    `held` says which changes of which store these are, all up to a number; `now` is Unix seconds. The users in
    `without` are left out, with their vectors, wherever these stand, and histories. Raises NotFound, ReleaseRefused,
    InvalidInput (nothing is left, or recall cannot be kept), or OSError when the disk is full; then nothing is left
    behind.
    """
    progress("opening the release")
    release = open_release(folder)
    base, manifest = release.snapshot, release.manifest
    progress("taking the changes in")
    delta, times = Delta(), {}
    for part in _parts(changes):
        times.update({change.item_id: change.time for change in part})
        delta = taken_in(base, delta, part, manifest.vector_space)
    snapshot = patched(base, delta)
    kept = np.setdiff1d(np.arange(len(snapshot.items), dtype=np.int32), delta.deleted).astype(np.int32)
    if not len(kept):
        raise InvalidInput(("changes", "leave no item"))
    progress("building the index")
    vectors = np.array(snapshot.item_vectors[kept], np.float32)
    left_out = base.users.find_many(sorted(without))
    users = np.setdiff1d(np.arange(len(base.users), dtype=np.int32), left_out).astype(np.int32)
    queries = _without(read_recall_queries(folder, manifest), base.user_vectors[left_out[left_out >= 0]])
    index, info = _index(vectors, queries, manifest, now)
    parts = _parts_of(release, snapshot, kept, users, queries, times, vectors, index, info, progress)
    facts = {
        "from": manifest.release_id,
        "described": delta.size,
        "changed": len(delta.rows),
        "deleted": len(delta.deleted),
        "users_left_out": len(base.users) - len(users),
        "recall_before": manifest.index.recall,
    }
    progress("writing and validating the release")
    lineage = {**manifest.lineage, FOLDED: facts}
    return write_release(releases, replace(parts, changes_held=held, lineage=lineage), now)


def remove_folded(releases: Path, keep: int, needed: set[str]) -> tuple[tuple[str, ...], str | None]:
    """Remove all folded releases but the newest `keep` and those `needed`; no other release is touched.

    Gives the ids of what was removed, and what went wrong, None when nothing did.
    """
    found = [one for one in list_releases(releases) if isinstance(one, Manifest) and FOLDED in one.lineage]
    return remove(releases, [one.release_id for one in found[keep:] if one.release_id not in needed])


def _parts(changes: Iterable[Change]) -> Iterable[list[Change]]:
    part: list[Change] = []
    for change in changes:
        part.append(change)
        if len(part) == AT_ONCE:
            yield part
            part = []
    if part:
        yield part


def _parts_of(
    release: Release,
    snapshot: Snapshot,
    kept: Int32,
    users: Int32,
    queries: Float32,
    times: Mapping[str, int],
    vectors: Float32,
    index: FaissIndex,
    info: IndexInfo,
    progress: Progress,
) -> Parts:
    """What the new release holds: the rows `kept` of a snapshot, in order, with their vectors and index.

    Of its users those of the rows `users`; `queries` f32[Q, D] are what recall is measured on.
    """
    base, manifest, count = release.snapshot, release.manifest, len(release.snapshot.items)
    item_to = np.full(len(snapshot.items), -1, np.int32)
    item_to[kept] = np.arange(len(kept), dtype=np.int32)
    payloads = _payloads(snapshot, kept)
    features = np.array(snapshot.item_features[kept], np.float32)
    ids = [snapshot.items[row] for row in kept.tolist()]
    words, categories = None, None
    if base.words is not None or base.categories is not None:
        words, categories = index_payloads(payloads, features[:, ITEM_FEATURES.index("log_purchases")], progress)
    trending = None if base.trending is None else remapped_trending(base.trending, item_to)
    item_times = np.where(kept < count, base.item_times[np.minimum(kept, count - 1)], 0)
    described = [max(times.get(name, 0), time) for name, time in zip(ids, item_times.tolist(), strict=True)]
    return Parts(
        item_ids=ids,
        user_ids=[base.users[row] for row in users.tolist()],
        item_vectors=vectors,
        user_vectors=np.array(base.user_vectors[users], np.float32),
        metric=base.metric,
        index=index,
        index_info=info,
        item_features=features,
        payloads=payloads,
        recall_queries=queries,
        attributes=_attributes(snapshot, kept, count),
        neighbours=None if snapshot.neighbours is None else remapped_neighbours(snapshot.neighbours, kept, item_to),
        complements=None
        if base.complements is None
        else remapped_neighbours(base.complements, np.where(kept < count, kept, -1), item_to),
        trending=trending,
        category_trends=category_trends(trending, categories, len(kept)),
        histories=None if base.histories is None else remapped_histories(base.histories, users, item_to),
        words=words,
        categories=categories,
        fold_in=_fold_in(base, vectors),
        trained_until=base.trained_until,
        item_times=np.array(described, np.int64),
        vector_space=manifest.vector_space,
        ranker=(release.path / RANKER_FILE).read_bytes() if manifest.ranked else None,
        spreads=manifest.spreads,
        encoder=(release.path / ENCODER_FILE).read_bytes() if manifest.encoded else None,
    )


def _without(queries: Float32, vectors: Float32) -> Float32:
    """The queries f32[Q, D] that are none of some vectors f32[n, D]."""
    gone = {vector.tobytes() for vector in vectors}
    return queries[[query.tobytes() not in gone for query in queries]] if gone else queries


def _payloads(snapshot: Snapshot, kept: Int32) -> list[bytes]:
    """What is shown of rows; of those that changed without what was overwritten."""
    payloads = [bytes(view) for view in snapshot.payloads.views(kept.tolist())]
    if snapshot.delta is not None and len(snapshot.delta.rows):
        for at in np.flatnonzero(places(snapshot.delta.rows, kept)[1]).tolist():
            payloads[at] = item_pb2.Item.FromString(payloads[at]).SerializeToString()
    return payloads


def _attributes(snapshot: Snapshot, kept: Int32, count: int) -> dict[str, Attribute]:
    """The attributes of rows of a snapshot, those that came with the changes too."""
    delta = snapshot.delta
    if delta is None:
        return {name: attribute.take(kept) for name, attribute in snapshot.attributes.items()}
    found = {}
    for name, attribute in snapshot.attributes.items():
        changed = delta.attributes.get(name) or blank(attribute.kind, len(delta.rows))
        at = kept.copy()
        if len(delta.rows):
            place, there = places(delta.rows, kept)
            at = np.where(there, count + place, kept).astype(np.int32)
        # One that nobody has is not kept for having been looked for.
        whole = joined(attribute, changed).take(at)
        if name in (snapshot.base or snapshot).attributes or any(
            whole.at(row) not in (None, ()) for row in _few(at, count)
        ):
            found[name] = whole
    return found


def _few(at: Int32, count: int) -> list[int]:
    """The places of changed rows."""
    return np.flatnonzero(at >= count).tolist()


def _fold_in(base: Snapshot, vectors: Float32) -> FoldIn | None:
    if base.fold_in is None:
        return None
    wide = vectors.astype(np.float64)
    return FoldIn(wide.T @ wide, base.fold_in.alpha, base.fold_in.regularization)


def _index(vectors: Float32, queries: Float32, manifest: Manifest, now: float) -> tuple[FaissIndex, IndexInfo]:
    """The release's index over other vectors, and what it reaches. Raises InvalidInput when that falls too low."""
    info = manifest.index
    key = info.key if lists_of(info.key) * 10 <= len(vectors) else "Flat"
    index = build_index(key, vectors, manifest.metric, info.parameters if key == info.key else {})
    k = min(info.recall_k, len(vectors))
    truth = true_nearest(vectors, queries, k, manifest.metric)
    recall = truth.recall(index.search(queries, k)[0]) if len(queries) else 1.0
    while recall < info.recall_target and (probe := index.parameters.get("nprobe", 0)) and probe < lists_of(key):
        index = index.with_parameters({**index.parameters, "nprobe": min(lists_of(key), int(probe * GROWTH) + 1)})
        recall = truth.recall(index.search(queries, k)[0])
    if recall < info.recall_target and key != "Flat":
        raise InvalidInput(
            (
                "recall",
                f"falls to {recall:.3f} and must be {info.recall_target}: build a release, which tunes the index",
            )
        )
    return index, replace(
        info,
        key=key,
        parameters=dict(index.parameters),
        filter_plan=info.filter_plan if key == info.key else FilterPlan(),
        recall=recall,
        recall_k=k,
        recall_queries=len(queries),
        microseconds_per_query=_microseconds(index, queries, k),
        built_at=now,
    )


def _microseconds(index: FaissIndex, queries: Float32, k: int) -> float:
    """Median microseconds of one query per call."""
    taken = []
    for at in range(min(TIMED, len(queries))):
        start = time.perf_counter()
        index.search(queries[at : at + 1], k)
        taken.append((time.perf_counter() - start) * 1e6)
    return float(np.median(taken)) if taken else 0.0
