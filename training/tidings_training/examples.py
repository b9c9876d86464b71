"""Training examples of the ranker: the candidates that serving would have shown, with what was bought afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidings_core.exclusions import Exclusions
from tidings_core.model import MAX_BATCH, Query, ServingConfig, Snapshot
from tidings_core.recommend import retrieve
from tidings_core.subjects import resolve
from tidings_core.tables import Bool, Float32, Int32
from tidings_index_builder.progress import Progress, silent
from tidings_training.events import Events
from tidings_training.replay import Replay


@dataclass(frozen=True, slots=True)
class Examples:
    """B lists of candidates, each of one user at one time, as a ranker sees them.

    item f32[B, K, F], user f32[B, U], candidate f32[B, K, C]; there bool[B, K] False in the padding; bought bool[B, K]
    whether the user bought it later, which is so for at least one of every list.
    """

    item: Float32
    user: Float32
    candidate: Float32
    there: Bool
    bought: Bool

    def __len__(self) -> int:
        return len(self.user)


def purchases_later(snapshot: Snapshot, later: Events, serving: ServingConfig) -> dict[str, Int32]:
    """User id -> distinct item rows bought in `later`, -1 for an item the snapshot does not know.

    What was bought before is left out when serving leaves it out. Users the snapshot does not know, and users of whom
    nothing is left, are left out.
    """
    assert snapshot.histories is not None
    rows = snapshot.items.find_many(later.item_ids)
    users = snapshot.users.find_many(later.user_ids)
    count = len(later.item_ids)
    pairs = np.unique(later.users[later.purchases].astype(np.int64) * count + later.items[later.purchases])
    who, starts = np.unique(pairs // count, return_index=True)
    found: dict[str, Int32] = {}
    for user, items in zip(who, np.split(pairs % count, starts[1:]), strict=True):
        if users[user] < 0:
            continue
        bought = rows[items]
        if serving.exclude_bought:
            bought = bought[~np.isin(bought, snapshot.histories[int(users[user])].rows)]
        if len(bought):
            found[later.user_ids[user]] = bought
    return found


def make_examples(
    snapshot: Snapshot,
    later: Events,
    serving: ServingConfig,
    now: float,
    *,
    limit: int,
    seed: int = 0,
    progress: Progress = silent,
    replay: Replay | None = None,
) -> list[Examples]:
    """Examples, in parts, from a snapshot of time `now` (Unix seconds) and what was bought later.

    With `replay` people are known as the server knew them at that time; without it by the snapshot's histories alone.

    Of more than `limit` users a random choice is taken. Users none of whose candidates was bought teach nothing and
    are left out.
    """
    labels = purchases_later(snapshot, later, serving)
    users = sorted(labels)
    if len(users) > limit:
        users = sorted(np.random.default_rng(seed).choice(users, limit, replace=False).tolist())
    parts = []
    for start in range(0, len(users), MAX_BATCH):
        batch = users[start : start + MAX_BATCH]
        people = [None] * len(batch) if replay is None else replay.people(batch, now, snapshot)
        queries = [Query(user, serving, person=person) for user, person in zip(batch, people, strict=True)]
        parts.append(_batch(queries, [labels[user] for user in batch], snapshot, serving, now))
        progress("making examples", start + len(batch), len(users))
    return [part for part in parts if len(part)]


def _batch(
    queries: list[Query], labels: list[Int32], snapshot: Snapshot, serving: ServingConfig, now: float
) -> Examples:
    subjects, _ = resolve(queries, serving, snapshot, now)
    ranking, _ = retrieve(subjects, serving, snapshot)
    rows = ranking.candidates.rows
    bought = Exclusions.of(labels, [()] * len(queries), len(snapshot.items)).contains(rows)
    useful = bought.any(axis=1)
    return Examples(
        snapshot.item_features[np.maximum(rows, 0)][useful],
        ranking.user[useful],
        ranking.candidate[useful],
        (rows >= 0)[useful],
        bought[useful],
    )


def join(parts: Sequence[Examples]) -> Examples:
    """Examples one after the other, padded to the widest. `parts` must not be empty."""
    width = max(part.there.shape[1] for part in parts)

    def wide(blocks: list[NDArray[Any]], fill: float | bool) -> NDArray[Any]:
        short = [[(0, 0), (0, width - block.shape[1]), (0, 0)][: block.ndim] for block in blocks]
        return np.concatenate([np.pad(b, pad, constant_values=fill) for b, pad in zip(blocks, short, strict=True)])

    return Examples(
        item=wide([part.item for part in parts], 0.0),
        user=np.concatenate([part.user for part in parts]),
        candidate=wide([part.candidate for part in parts], 0.0),
        there=wide([part.there for part in parts], False),
        bought=wide([part.bought for part in parts], False),
    )
