"""One recommendation, from queries to ranked answers: synchronous, on arrays, many users at once.

The one entry for the server, its batches, and the offline evaluation, so that they cannot differ.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tidings_core import sources
from tidings_core.candidates import PINNED, Candidates, Proposals, merge
from tidings_core.controls import active, pinned_rows
from tidings_core.errors import DependencyFailed
from tidings_core.exploration import draw, propensities, uniform
from tidings_core.features import SOURCE_FEATURES, candidate_features, prices_paid, user_features
from tidings_core.model import (
    Answer,
    Cause,
    Considered,
    Degradation,
    Exploration,
    Query,
    ServingConfig,
    Snapshot,
)
from tidings_core.ordering import LAST, Contest, Step, may_lead, order
from tidings_core.ranked import Items, Ranked
from tidings_core.selection import filter_faults
from tidings_core.subjects import Subjects, resolve
from tidings_core.tables import Bool, Float32, Float64, Int32, Int64, best_first, picked, taken

FUSION_CONSTANT = 60.0
"""k of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009), the value of the paper."""
RETRIEVE_RESERVE = 0.001
RANK_RESERVE = 0.003
"""Seconds that must be left before the deadline for a source to be asked, and for the ranker to be run."""

UNKNOWN_USER = Degradation("unknown_user", "user", "nothing is known of this user: nothing personal was used")
UNSCORED = Degradation("failed", "ranker", "ordered by the sources: the ranker gave a score that is no number")

TimeLeft = Callable[[], float]


def unhurried() -> float:
    """No deadline: infinitely many seconds left."""
    return math.inf


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates of B users with what a ranker sees of them.

    user f32[B, U], candidate f32[B, K, C].
    `texts` maps a source that goes by words to what it rests each user's rows on; `seeds` one that starts from items to
    those, i32[B, k], by the place of an item in that source.
    """

    candidates: Candidates
    user: Float32
    candidate: Float32
    texts: Mapping[str, Sequence[Mapping[int, str]]]
    seeds: Mapping[str, Int32]


def recommend(
    batch: Sequence[Query],
    snapshot: Snapshot,
    now: float,
    time_left: TimeLeft = unhurried,
    keep: bool | Sequence[bool] = False,
) -> list[Answer]:
    """Answer queries, in order. None may have `subjects.faults`.

    `now` is Unix seconds; `time_left()` gives the seconds until the nearest deadline of the batch. When they run out,
    or a part fails, the answer is made without that part and says so: ranker, then sources, then nothing. With `keep`
    an answer carries all that was considered.
    """
    answers: dict[int, Answer] = {}
    for serving in dict.fromkeys(query.serving for query in batch):
        places = [place for place, query in enumerate(batch) if query.serving == serving]
        kept = [keep if isinstance(keep, bool) else keep[place] for place in places]
        group = _recommend([batch[place] for place in places], serving, snapshot, now, time_left, kept)
        answers.update(zip(places, group, strict=True))
    return [answers[place] for place in range(len(batch))]


def _recommend(
    batch: Sequence[Query],
    serving: ServingConfig,
    snapshot: Snapshot,
    now: float,
    time_left: TimeLeft,
    keep: Sequence[bool],
) -> list[Answer]:
    if serving.filter is not None and (wrong := filter_faults(serving.filter, snapshot)):
        # Without it, what must not be seen might be.
        told = "; ".join(f"{place}: {problem}" if place else problem for place, problem in wrong)
        lacking = unanswered("failed", "filter", f"the filter of {serving.name} does not fit this release: {told}")
        return [lacking] * len(batch)
    subjects, degraded = resolve(batch, serving, snapshot, now)
    rules = active(snapshot.controls, serving.name, [(query.category, query.tags) for query in batch], now)
    for user in np.flatnonzero(_missed(subjects, serving)).tolist():
        degraded[user].insert(0, UNKNOWN_USER)
    pinned = pinned_rows(rules, snapshot, len(batch))
    ranking, trouble = retrieve(subjects, serving, snapshot, time_left, pinned)
    scores, ranked = None, np.zeros(len(batch), np.bool_)
    if serving.rerank and snapshot.ranker is not None:
        if time_left() < RANK_RESERVE:
            trouble.append(Degradation("deadline", "ranker", "ordered by the sources: the deadline was near"))
        else:
            try:
                scores, unscored = _score(ranking, subjects.personal, serving, snapshot)
            except DependencyFailed as error:
                trouble.append(Degradation("failed", "ranker", f"ordered by the sources: {error}"))
            else:
                ranked = subjects.personal
                ranked[unscored] = False
                for user in unscored:
                    degraded[user].append(UNSCORED)
    if scores is None:
        scores = fuse(ranking.candidates, serving)
    most = max(query.k for query in batch)
    rows, lead = ranking.candidates.rows, None
    if serving.complements:
        lead = may_lead(_beside(ranking.candidates), rows, subjects.context, snapshot)
    contest = Contest(rows, _pinned_last(scores, ranking.candidates), lead)
    steps = order(contest, serving.diversity, rules, snapshot)
    chances = None
    if serving.exploration is not None and rows.shape[1]:
        step, chances = _explore(batch, steps[-1].order, serving.exploration, rows, pinned)
        steps.append(step)
    found = _items(steps[-1].order[:, :most], ranking, scores, subjects)
    if chances is not None:
        found = replace(found, propensities=chances[:, :most])
    counts = np.count_nonzero(found.rows >= 0, axis=1).tolist()
    kept = [_considered(ranking, scores, ranked, steps, user) if keep[user] else None for user in range(len(batch))]
    return [
        Answer(Items(found, user, min(query.k, count)), (*missing, *trouble), considered)
        for user, (query, count, missing, considered) in enumerate(zip(batch, counts, degraded, kept, strict=True))
    ]


def _explore(
    batch: Sequence[Query], made: Int64, rule: Exploration, rows: Int32, pinned: Int64
) -> tuple[Step, Float64]:
    """What a draw makes of the order i64[B, K] of candidates, and the propensities f64[B, K] of what is at its places.

    For queries without a seed the order stays. rows i32[B, K] are the candidates', -1: padding; those of pinned
    i64[B, P] stay where they are.
    """
    users = np.array([query.seed is not None for query in batch], np.bool_)
    wanted = np.array([query.k for query in batch], np.int64)
    stays = (picked(rows, np.maximum(made, 0))[:, :, None] == pinned[:, None, :]).any(axis=2)
    counts = np.count_nonzero(rows >= 0, axis=1)
    chances = propensities(rule, stays | ~users[:, None], counts, wanted)
    places = draw(chances, uniform([query.seed or 0 for query in batch]), wanted)
    return Step("exploration", picked(made, places), users), picked(chances, places)


def _missed(subjects: Subjects, serving: ServingConfig) -> Bool:
    """Of whom nothing is known where a source of the config needed it: bool[B]."""
    if subjects.known.all():
        return np.zeros(len(subjects.known), np.bool_)
    speaks = [sources.SOURCES[use.name].speaks(subjects) for use in serving.sources]
    return ~subjects.known & ~np.all(speaks, axis=0)


def _considered(ranking: Ranking, scores: Float32, ranked: Bool, steps: Sequence[Step], user: int) -> Considered:
    candidates = ranking.candidates
    # What is there stands before the padding, so positions stay as they are. Copies: the batch is let go of.
    own = user, slice(int((candidates.rows[user] >= 0).sum()))
    return Considered(
        candidates.rows[own].copy(),
        scores[own].copy(),
        candidates.sources,
        candidates.present[own].copy(),
        candidates.scores[own].copy(),
        candidates.ranks[own].copy(),
        ranking.user[user].copy(),
        ranking.candidate[own].copy(),
        tuple((step.rule, step.order[own].copy()) for step in steps if step.users[user]),
        bool(ranked[user]),
    )


def retrieve(
    subjects: Subjects,
    serving: ServingConfig,
    snapshot: Snapshot,
    time_left: TimeLeft = unhurried,
    pinned: Int64 | None = None,
) -> tuple[Ranking, list[Degradation]]:
    """Ask the sources of a serving config and describe what they propose, with what went wrong on the way.

    `pinned` i64[B, P] are rows (-1: none) that join what they propose, where they may be in the user's answer. Training
    uses this too, to see the candidates exactly as the ranker will.
    """
    trouble: list[Degradation] = []
    names: list[str] = []
    proposals: list[Proposals] = []
    offered = sources.offered(snapshot)
    for use in serving.sources:
        source = sources.SOURCES[use.name]
        if use.name not in offered or not source.speaks(subjects).any():
            continue
        if time_left() < RETRIEVE_RESERVE and not source.instant:
            trouble.append(Degradation("deadline", use.name, "left out: the deadline was near"))
            continue
        try:
            proposals.append(sources.propose(use.name, subjects, snapshot, use.k))
            names.append(use.name)
        except DependencyFailed as error:
            trouble.append(Degradation("failed", use.name, str(error)))
    if pinned is not None and pinned.shape[1]:
        names.append(PINNED)
        proposals.append(sources.pinned(pinned, subjects))
    candidates = merge(names, proposals, len(subjects.vectors))
    paid = prices_paid(subjects.history, snapshot)
    of_users = user_features(subjects.history, snapshot, paid)
    return (
        Ranking(
            candidates,
            of_users if not subjects.stated.shape[1] else np.concatenate([of_users, subjects.stated], axis=1),
            candidate_features(
                subjects.history,
                candidates.rows,
                vector_scores(subjects, candidates.rows, snapshot),
                candidates.present,
                candidates.scores,
                candidates.sources,
                snapshot,
                paid,
            ),
            {name: said.texts for name, said in zip(names, proposals, strict=True) if said.texts},
            {name: said.seeds for name, said in zip(names, proposals, strict=True) if said.seeds is not None},
        ),
        trouble,
    )


def vector_scores(subjects: Subjects, rows: Int32, snapshot: Snapshot) -> Float32:
    """Similarity f32[B, K] of each user's vector to candidate rows i32[B, K]: larger is nearer; 0 without a vector."""
    items = taken(snapshot.item_vectors, np.maximum(rows, 0))
    if snapshot.metric == "l2":
        scores = -((items - subjects.vectors[:, None, :]) ** 2).sum(axis=2)
    else:
        scores = np.matmul(items, subjects.vectors[:, :, None])[:, :, 0]
    return np.where(subjects.has_vector[:, None], scores, 0.0).astype(np.float32)


def fuse(candidates: Candidates, serving: ServingConfig) -> Float32:
    """The scores f32[B, K] without a ranker; -inf in the padding."""
    return _fuse(candidates, {use.name: use.weight for use in serving.sources} | {PINNED: 0.0})


def _fuse(candidates: Candidates, weights: Mapping[str, float]) -> Float32:
    """Weighted reciprocal rank fusion of the sources, f32[B, K]; -inf in the padding."""
    by_source = np.array([weights[name] for name in candidates.sources], np.float32)
    share = np.where(candidates.present, by_source / (FUSION_CONSTANT + candidates.ranks), 0.0)
    return np.where(candidates.rows >= 0, share.sum(axis=2), -np.inf).astype(np.float32)


def _score(ranking: Ranking, personal: Bool, serving: ServingConfig, snapshot: Snapshot) -> tuple[Float32, list[int]]:
    """The scores f32[B, K] with the ranker, -inf in the padding, and the users it gave a score that is no number.

    Those keep the order without a ranker, and nobody else's answer suffers. So do the users of whom nothing is known:
    the ranker learned from people with a past, and for others it is worse than the order of the sources. Raises
    RankerFailed.
    """
    assert snapshot.ranker is not None
    rows = ranking.candidates.rows
    if rows.shape[1] == 0 or not personal.any():
        return fuse(ranking.candidates, serving), []
    given = snapshot.ranker.score(np.maximum(rows, 0).astype(np.int64), ranking.user, ranking.candidate)
    there = rows >= 0
    whole = np.asarray(np.all(np.isfinite(given) | ~there, axis=1))
    scores = _with_unlearned(np.where(there, given, np.float32(-np.inf)), ranking.candidates, serving)
    scored = whole & personal
    if scored.all():
        return scores, []
    others = fuse(ranking.candidates, serving)
    return np.where(scored[:, None], scores, others), np.flatnonzero(~whole & personal).tolist()


def _with_unlearned(scores: Float32, candidates: Candidates, serving: ServingConfig) -> Float32:
    """The scores of a ranker f32[B, K], joined with what sources say that it never learned to weigh.

    For users to whom such a source proposes something: weighted reciprocal rank fusion of the ranker's order, which
    has the weight 1 and only what other sources propose too, with theirs. For the others: as they are.
    """
    new = np.array([name not in (*SOURCE_FEATURES, PINNED) for name in candidates.sources], np.bool_)
    if not new.any():
        return scores
    touched = np.asarray(candidates.present[:, :, new].any(axis=(1, 2)), np.bool_)
    if not touched.any():
        return scores
    learned = candidates.present[:, :, ~new].any(axis=2)
    order = best_first(np.where(learned, scores, np.float32(-np.inf)))
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None, :], axis=1)
    weights = {use.name: use.weight if use.name not in SOURCE_FEATURES else 0.0 for use in serving.sources}
    weights[PINNED] = 0.0
    fused = _fuse(candidates, weights) + np.where(learned, 1.0 / (FUSION_CONSTANT + ranks), 0.0)
    return np.where(touched[:, None], fused, scores).astype(np.float32)


def _beside(candidates: Candidates) -> Bool:
    """Which candidates a source proposed that starts from items: bool[B, K]."""
    columns = [at for at, name in enumerate(candidates.sources) if sources.starts_from_items(name)]
    return np.asarray(candidates.present[:, :, columns].any(axis=2), np.bool_)


def _pinned_last(scores: Float32, candidates: Candidates) -> Float32:
    """The scores, but for what no source proposed, only a pin: until it puts them in place they stand last."""
    if PINNED not in candidates.sources:
        return scores
    at = candidates.sources.index(PINNED)
    only = candidates.present[:, :, at] & (candidates.present.sum(axis=2) == 1)
    return np.where(only, LAST, scores)


def _items(order: Int64, ranking: Ranking, scores: Float32, subjects: Subjects) -> Ranked:
    """The items of every user, best first, from positions i64[B, k]."""
    candidates = ranking.candidates
    at = np.maximum(order, 0)
    rows = np.where(order >= 0, picked(candidates.rows, at), np.int32(-1))
    names, said = candidates.sources, picked(candidates.scores, at)
    present = picked(candidates.present, at) & (order >= 0)[:, :, None]
    told = [(names.index(name), name) for name in sources.SOURCES if name in names]
    reasons = np.zeros((*rows.shape, len(told)), np.uint8)
    seeds = np.full(reasons.shape, -1, np.int32)
    texts: dict[tuple[int, int, int], str] = {}
    for number, (column, name) in enumerate(told):
        given = present[:, :, column]
        if name in ranking.seeds:
            place = np.where(given, picked(candidates.ranks[:, :, column], at), 0)
            seeds[:, :, number] = np.where(given, picked(ranking.seeds[name], place), np.int32(-1))
        reasons[:, :, number] = np.where(given, sources.reasons(name, seeds[:, :, number], subjects), 0)
        for user, words in enumerate(ranking.texts.get(name, ())):
            if words:
                own = zip(rows[user].tolist(), given[user].tolist(), strict=True)
                found = {place: words[row] for place, (row, there) in enumerate(own) if there and row in words}
                texts.update(((user, place, number), text) for place, text in found.items())
    return Ranked(rows, picked(scores, at), names, present, said, reasons, seeds, texts)


def unanswered(cause: Cause, stage: str, detail: str) -> Answer:
    """An empty answer that says why."""
    return Answer(degraded=(Degradation(cause, stage, detail),))
