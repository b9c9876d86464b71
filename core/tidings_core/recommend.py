"""One recommendation, from queries to ranked answers: synchronous, on arrays, many users at once.

The one entry for the server, its batches, and the offline evaluation, so that they cannot differ.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidings_core import policy, sources
from tidings_core.errors import DependencyFailed
from tidings_core.exclusions import Exclusions
from tidings_core.features import candidate_features, history_block, user_features
from tidings_core.model import (
    EMPTY_HISTORY,
    Answer,
    Cause,
    Degradation,
    Query,
    RankedItem,
    Reason,
    ServingConfig,
    Snapshot,
)
from tidings_core.sources import Candidates, Subjects
from tidings_core.tables import Bool, Float32, Int32, Int64

FUSION_CONSTANT = 60.0
"""k of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009), the value of the paper."""
RETRIEVE_RESERVE = 0.001
RANK_RESERVE = 0.003
"""Seconds that must be left before the deadline for a source to be asked, and for the ranker to be run."""

UNSCORED = Degradation("failed", "ranker", "ordered by the sources: the ranker gave a score that is no number")

TimeLeft = Callable[[], float]


def unhurried() -> float:
    """No deadline: infinitely many seconds left."""
    return math.inf


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates of B users with what a ranker sees of them.

    user f32[B, U], candidate f32[B, K, C]; `fused` f32[B, K] is the order without a ranker (-inf in the padding).
    """

    candidates: Candidates
    user: Float32
    candidate: Float32
    fused: Float32


def recommend(batch: Sequence[Query], snapshot: Snapshot, now: float, time_left: TimeLeft = unhurried) -> list[Answer]:
    """Answer queries, in order.

    `now` is Unix seconds; `time_left()` gives the seconds until the nearest deadline of the batch. When they run out,
    or a part fails, the answer is made without that part and says so: ranker, then sources, then nothing.
    """
    answers: dict[int, Answer] = {}
    for serving in dict.fromkeys(query.serving for query in batch):
        places = [place for place, query in enumerate(batch) if query.serving == serving]
        group = _recommend([batch[place] for place in places], serving, snapshot, now, time_left)
        answers.update(zip(places, group, strict=True))
    return [answers[place] for place in range(len(batch))]


def _recommend(
    batch: Sequence[Query], serving: ServingConfig, snapshot: Snapshot, now: float, time_left: TimeLeft
) -> list[Answer]:
    subjects, degraded = resolve(batch, serving, snapshot, now)
    ranking, trouble = retrieve(subjects, serving, snapshot, time_left)
    scores = ranking.fused
    if serving.rerank and snapshot.ranker is not None:
        if time_left() < RANK_RESERVE:
            trouble.append(Degradation("deadline", "ranker", "ordered by the sources: the deadline was near"))
        else:
            try:
                scores, unscored = _score(ranking, subjects.personal, snapshot)
            except DependencyFailed as error:
                trouble.append(Degradation("failed", "ranker", f"ordered by the sources: {error}"))
            else:
                for user in unscored:
                    degraded[user].append(UNSCORED)
    order = _order(ranking.candidates.rows, scores, serving, snapshot, max(query.k for query in batch))
    found = _items(order, ranking.candidates, scores, subjects, snapshot)
    return [
        Answer(tuple(items[: query.k]), (*missing, *trouble))
        for query, items, missing in zip(batch, found, degraded, strict=True)
    ]


def resolve(
    batch: Sequence[Query], serving: ServingConfig, snapshot: Snapshot, now: float
) -> tuple[Subjects, list[list[Degradation]]]:
    """Look the ids of a batch up: the subjects, and for each query what could not be found."""
    degraded: list[list[Degradation]] = [[] for _ in batch]
    users = snapshot.users.find_many([query.user_id for query in batch])
    histories = [
        snapshot.histories[int(user)] if snapshot.histories is not None and user >= 0 else EMPTY_HISTORY
        for user in users
    ]
    contexts = [snapshot.items.find_many(query.context_item_ids) for query in batch]
    excluded = [
        np.concatenate(
            [
                snapshot.items.find_many(query.exclude_item_ids),
                context,
                history.rows if serving.exclude_bought else np.empty(0, np.int32),
            ]
        )
        for query, context, history in zip(batch, contexts, histories, strict=True)
    ]
    context = np.full((len(batch), max(1, *(len(rows) for rows in contexts), 1)), -1, np.int32)
    for at, rows in enumerate(contexts):
        found = rows[rows >= 0]
        context[at, : len(found)] = found
        if users[at] < 0 and _needs_user(serving, bool(len(found))):
            degraded[at].append(
                Degradation("unknown_user", "user", "the release does not know this user: nothing personal was used")
            )
        if len(rows) and not len(found):
            degraded[at].append(
                Degradation("unknown_context", "similar", "none of the context items is in the release")
            )
    vectors = np.array(snapshot.user_vectors[np.maximum(users, 0)], np.float32)
    vectors[users < 0] = 0.0
    return (
        Subjects(
            vectors,
            users >= 0,
            history_block(histories, now),
            context,
            Exclusions.of(excluded, len(snapshot.items)),
            np.array([query.k for query in batch], np.int64),
        ),
        degraded,
    )


def _needs_user(serving: ServingConfig, has_context: bool) -> bool:
    """Whether a source of the config has nothing to say without knowing the user."""
    return any(use.name == "ann" or (use.name == "similar" and not has_context) for use in serving.sources)


def retrieve(
    subjects: Subjects, serving: ServingConfig, snapshot: Snapshot, time_left: TimeLeft = unhurried
) -> tuple[Ranking, list[Degradation]]:
    """Ask the sources of a serving config and describe what they propose, with what went wrong on the way.

    Training uses this too, to see the candidates exactly as the ranker will.
    """
    trouble: list[Degradation] = []
    names: list[str] = []
    proposals: list[sources.Proposals] = []
    offered = snapshot.sources
    for use in serving.sources:
        if use.name not in offered:
            continue
        if time_left() < RETRIEVE_RESERVE and use.name != "trending":
            trouble.append(Degradation("deadline", use.name, "left out: the deadline was near"))
            continue
        try:
            proposals.append(sources.propose(use.name, subjects, snapshot, use.k))
            names.append(use.name)
        except DependencyFailed as error:
            trouble.append(Degradation("failed", use.name, str(error)))
    candidates = sources.merge(names, proposals, len(subjects.vectors))
    weights = {use.name: use.weight for use in serving.sources}
    return (
        Ranking(
            candidates,
            user_features(subjects.history, snapshot),
            candidate_features(
                subjects.history,
                candidates.rows,
                vector_scores(subjects, candidates.rows, snapshot),
                candidates.present,
                candidates.scores,
                candidates.sources,
                snapshot,
            ),
            _fuse(candidates, weights),
        ),
        trouble,
    )


def vector_scores(subjects: Subjects, rows: Int32, snapshot: Snapshot) -> Float32:
    """Similarity f32[B, K] of each user's vector to candidate rows i32[B, K]: larger is nearer; 0 without a vector."""
    items = snapshot.item_vectors[np.maximum(rows, 0)]
    if snapshot.metric == "l2":
        scores = -((items - subjects.vectors[:, None, :]) ** 2).sum(axis=2)
    else:
        scores = np.matmul(items, subjects.vectors[:, :, None])[:, :, 0]
    return np.where(subjects.has_vector[:, None], scores, 0.0).astype(np.float32)


def _fuse(candidates: Candidates, weights: Mapping[str, float]) -> Float32:
    """Weighted reciprocal rank fusion of the sources, f32[B, K]; -inf in the padding."""
    by_source = np.array([weights[name] for name in candidates.sources], np.float32)
    share = np.where(candidates.present, by_source / (FUSION_CONSTANT + candidates.ranks), 0.0)
    return np.where(candidates.rows >= 0, share.sum(axis=2), -np.inf).astype(np.float32)


def _score(ranking: Ranking, personal: Bool, snapshot: Snapshot) -> tuple[Float32, list[int]]:
    """The ranker's scores f32[B, K], -inf in the padding, and the users it gave a score that is no number.

    Those keep the order without a ranker, and nobody else's answer suffers. So do the users of whom nothing is known:
    the ranker learned from people with a past, and for others it is worse than the order of the sources. Raises
    RankerFailed.
    """
    assert snapshot.ranker is not None
    rows = ranking.candidates.rows
    if rows.shape[1] == 0 or not personal.any():
        return ranking.fused, []
    given = snapshot.ranker.score(np.maximum(rows, 0).astype(np.int64), ranking.user, ranking.candidate)
    whole = np.asarray(np.all(np.isfinite(given) | (rows < 0), axis=1))
    scores = np.where(rows >= 0, given, np.float32(-np.inf))
    taken = (whole & personal)[:, None]
    return np.where(taken, scores, ranking.fused), np.flatnonzero(~whole & personal).tolist()


def _order(rows: Int32, scores: Float32, serving: ServingConfig, snapshot: Snapshot, k: int) -> Int64:
    """Positions i64[B, <= K] of the best candidates, best first; -1 where there are no more. Ties go by row."""
    order = np.argsort(-scores, axis=1, kind="stable")
    if serving.diversity is not None and serving.diversity.attribute in snapshot.attributes:
        codes = snapshot.attributes[serving.diversity.attribute].codes
        ordered = np.take_along_axis(rows, order, 1)
        of_items = np.where(ordered >= 0, codes[np.maximum(ordered, 0)], np.int32(-1))
        order = np.take_along_axis(order, policy.diversify(of_items, serving.diversity.max_per_value), 1)
        # Padding has no code, so it is never held back and must not come before what was.
        padding = np.take_along_axis(rows, order, 1) < 0
        order = np.take_along_axis(order, np.argsort(padding, axis=1, kind="stable"), 1)
    order = order[:, :k]
    return np.where(np.take_along_axis(rows, order, 1) >= 0, order, -1)


def _items(
    order: Int64, candidates: Candidates, scores: Float32, subjects: Subjects, snapshot: Snapshot
) -> list[list[RankedItem]]:
    """The items of every user, best first, from positions i64[B, k]."""
    places = np.maximum(order, 0)
    rows = np.take_along_axis(candidates.rows, places, 1)
    because = _because(rows, sources.seeds(subjects), snapshot)
    present = np.take_along_axis(candidates.present, places[:, :, None], 1)
    said = np.take_along_axis(candidates.scores, places[:, :, None], 1)
    names = candidates.sources
    # Python values at once: taking them out of the arrays one by one costs more than all else here.
    columns = (order, rows, np.take_along_axis(scores, places, 1), because, present, said)
    users = zip(*(column.tolist() for column in columns), subjects.by_context.tolist(), strict=True)
    return [
        [
            RankedItem(
                row,
                score,
                tuple((name, value) for name, there, value in zip(names, given, values, strict=True) if there),
                _reasons(names, given, start, by_context),
            )
            for place, row, score, start, given, values in zip(*of_user, strict=True)
            if place >= 0
        ]
        for *of_user, by_context in users
    ]


def _because(rows: Int32, starts: Int32, snapshot: Snapshot) -> Int32:
    """The seed (of starts i32[B, L]) that names an item (of rows i32[B, k]) most strongly as its neighbour.

    Item rows i32[B, k], -1 where no seed does.
    """
    if snapshot.neighbours is None:
        return np.full(rows.shape, -1, np.int32)
    near = snapshot.neighbours.rows[np.maximum(starts, 0)]
    same = (near[:, None] == rows[:, :, None, None]) & (starts >= 0)[:, None, :, None]
    said = np.where(same, snapshot.neighbours.scores[np.maximum(starts, 0)][:, None], -np.inf).max(axis=3)
    best = np.take_along_axis(starts, said.argmax(axis=2), 1)
    return np.where(np.isfinite(said.max(axis=2)), best, np.int32(-1))


_MATCHES_TASTE = Reason("matches_taste")
_TRENDING = Reason("trending")


def _reasons(names: tuple[str, ...], present: list[bool], start: int, by_context: bool) -> tuple[Reason, ...]:
    found = [name for name, there in zip(names, present, strict=True) if there]
    reasons: list[Reason] = []
    if "similar" in found:
        reasons.append(Reason("similar_to_context" if by_context else "similar_to_bought", start))
    if "ann" in found:
        reasons.append(_MATCHES_TASTE)
    if "trending" in found:
        reasons.append(_TRENDING)
    return tuple(reasons)


def unanswered(cause: Cause, stage: str, detail: str) -> Answer:
    """An empty answer that says why."""
    return Answer(degraded=(Degradation(cause, stage, detail),))
