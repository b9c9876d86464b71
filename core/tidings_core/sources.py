"""Candidate sources: functions that propose items for many users at once, and what else there is to know of each.

A new source is a function here and its entry in `SOURCES`; then its reason gets a number on the wire, and serving
configs use it by name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace

import numpy as np

from tidings_core import text
from tidings_core.candidates import Proposals
from tidings_core.model import Neighbours, Snapshot
from tidings_core.ranked import REASON_NUMBERS, ReasonCode
from tidings_core.rows import Passing
from tidings_core.subjects import SEEDS, Subjects, alike
from tidings_core.tables import Bool, Float32, Int32, Int64, UInt8, ascending, begins, ranked_bits, taken, widened

SEED_DECAY = np.float32(0.9)
"""Each older item counts this much of the one after it."""
SEARCH_DECAY = 0.5
"""Each older search counts this much of the one after it."""
FURTHER = 8
"""Where too few of what was found may be had, so many times as many are looked for."""
_NO_ROWS, _NO_SCORES = np.empty(0, np.int64), np.empty(0, np.float32)


def ann(subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:
    """Items nearest to the user's vector, of those the user may have, `wanted` of each user. Raises IndexFailed."""
    # Few exclusions are found on top and dropped.
    numbers = np.minimum(subjects.wanted, k) + subjects.excluded.sizes
    rows = np.full((len(subjects.vectors), int(numbers.max())), -1, np.int64)
    scores = np.zeros(rows.shape, np.float32)
    for users, passing in _together(subjects, snapshot):
        # How far a search among some items looks depends on how many are wanted: that must be each user's own affair.
        # Of what is found among all of a release, the first are the same however many are wanted.
        any_number = passing is None and snapshot.delta is None
        apart = [numbers[users].max()] if any_number else np.unique(numbers[users])
        for more in apart:
            some = users if len(apart) == 1 else users[numbers[users] == more]
            rows[some, :more], scores[some, :more] = snapshot.index.search(subjects.vectors[some], int(more), passing)
    return _drop(rows, scores, subjects, k)


def _together(subjects: Subjects, snapshot: Snapshot) -> Iterator[tuple[Int64, Passing | None]]:
    """The users with a vector who are searched for together, i64, and what may be found for them, None: everything."""
    lone = np.array([len(sets) > 0 for sets in subjects.excluded.many], np.bool_)
    for group, selected in alike(subjects.selected):
        users = group[subjects.has_vector[group]]
        if not lone[users].all():
            yield users[~lone[users]], selected
        for user in users[lone[users]].tolist():
            passing = selected
            for excluded in subjects.excluded.many[user]:
                passing = snapshot.index.without(passing, excluded)
            yield np.array([user], np.int64), passing


def similar(subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:
    """Neighbours of the context's items or, without context, of the items liked or bought last; scores add up."""
    assert snapshot.neighbours is not None
    return _beside(_similar_seeds(subjects), snapshot.neighbours, subjects, k)


def complement(subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:
    """What is bought together with the context's items or, without context, with those of the last order.

    Scores add up: what goes with more of a cart comes first.
    """
    assert snapshot.complements is not None
    return _beside(_complement_seeds(subjects), snapshot.complements, subjects, k)


def _beside(seeds: Int32, neighbours: Neighbours, subjects: Subjects, k: int) -> Proposals:
    """Neighbours of seeds i32[B, L], their scores added up: without context older seeds count less."""
    size, width = len(neighbours.rows), seeds.shape[1]
    at = np.flatnonzero((seeds >= 0) & (seeds < size))
    starts = seeds.reshape(-1).take(at)
    near, raw = taken(neighbours.rows, starts), taken(neighbours.scores, starts)
    user = at // width
    decay = (SEED_DECAY ** np.arange(width)).astype(np.float32).take(at - user * width)
    decay[subjects.by_context.take(user)] = 1.0
    weighed = (raw * decay[:, None]).reshape(-1)
    # User and row as one number: equal ones are the same item of the same user.
    pairs = (near + (user << 32)[:, None]).reshape(-1)
    # In order of strength and, of equals, the first seed before others.
    strength = ((ranked_bits(raw).astype(np.int64) << 32) - np.arange(len(starts))[:, None]).reshape(-1)
    if near.min(initial=0) < 0:
        there = np.flatnonzero(near.reshape(-1) >= 0)
        pairs, weighed, strength = pairs.take(there), weighed.take(there), strength.take(there)
    keys, order = ascending(pairs, len(seeds) << 32)
    first = np.flatnonzero(begins(keys))
    if not len(first):
        return _ragged(first, first, _NO_SCORES, len(seeds), k, np.empty(0, np.int32))
    totals = np.add.reduceat(weighed.take(order), first, dtype=np.float64)
    strongest = np.maximum.reduceat(strength.take(order), first)
    distinct = keys.take(first)
    users, rows = distinct >> 32, distinct & 0xFFFFFFFF
    kept = np.flatnonzero(subjects.may(users, rows))
    named = starts.take(-strongest.take(kept) & 0xFFFFFFFF)
    return _ragged(users.take(kept), rows.take(kept), totals.take(kept).astype(np.float32), len(seeds), k, named)


def _ragged(users: Int64, rows: Int64, scores: Float32, batch: int, k: int, seeds: Int32) -> Proposals:
    """The k rows i64[n] of the largest scores f32[n] for each of `batch` users i64[n], of equal scores the first."""
    keys, order = ascending((users << 32) | (~ranked_bits(scores)).view(np.uint32), batch << 32)
    users = keys >> 32
    counts = np.bincount(users, minlength=batch)
    place = np.arange(len(users)) - (np.cumsum(counts) - counts).take(users)
    best = np.flatnonzero(place < k)
    to, order = users.take(best) * k + place.take(best), order.take(best)
    found = Proposals(
        np.full((batch, k), -1, np.int64),
        np.zeros((batch, k), np.float32),
        seeds=np.full((batch, k), -1, np.int32),
    )
    assert found.seeds is not None
    for column, given in ((found.rows, rows), (found.scores, scores), (found.seeds, seeds)):
        column.reshape(-1)[to] = given.take(order)
    return found


def _similar_seeds(subjects: Subjects) -> Int32:
    """The items `similar` starts from, i32[B, L], -1: padding."""
    return _context_or(subjects, subjects.interests)


def _complement_seeds(subjects: Subjects) -> Int32:
    """The items `complement` starts from, i32[B, L], -1: padding."""
    history = subjects.history
    # Days are cut at RECENCY_LIMIT_DAYS: of somebody who was away that long, all that is older counts as one order.
    last = history.known & (history.days == history.last_days[:, None])
    return _context_or(subjects, np.where(last, history.rows, np.int32(-1))[:, :SEEDS])


def _context_or(subjects: Subjects, other: Int32) -> Int32:
    """The context, or where there is none the other items i32[B, L]."""
    width = max(subjects.context.shape[1], other.shape[1])
    by_context = subjects.by_context[:, None]
    return np.where(by_context, widened(subjects.context, width, -1), widened(other, width, -1))


def trending(subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:
    """Items bought by many lately: those of the category that matters most, then those of the whole shop.

    A score counts purchases, older ones for less. Where no category is named, or nothing in it trends, the whole shop's
    come alone.
    """
    shop, trends = snapshot.trending, snapshot.category_trends
    assert shop is not None
    users = len(subjects.vectors)
    reach = min(len(shop.rows), k + int(subjects.excluded.sizes.max(initial=0)))
    rows = np.broadcast_to(shop.rows[:reach].astype(np.int64), (users, reach))
    whole = _drop(rows, np.broadcast_to(shop.scores[:reach], rows.shape), subjects, k)
    rest_on: list[Mapping[int, str]] = [{}] * users
    for user, names in enumerate(subjects.categories):
        name, found, weights = "", _NO_ROWS, _NO_SCORES
        if trends is not None and names:
            name, found, weights = text.first_category(names, trends, len(snapshot.items))
            found, weights = _enough(lambda reach: (found[:reach], weights[:reach]), subjects, user, k)  # noqa: B023
        elif reach == len(shop.rows) or whole.rows[user, -1] >= 0:
            continue
        others, said = _enough(
            lambda reach: (shop.rows[:reach].astype(np.int64), shop.scores[:reach]), subjects, user, k + len(found)
        )
        new = ~np.isin(others, found)
        both, all_scores = np.concatenate([found, others[new]])[:k], np.concatenate([weights, said[new]])[:k]
        whole.rows[user], whole.scores[user] = -1, 0.0
        whole.rows[user, : len(both)], whole.scores[user, : len(both)] = both, all_scores
        rest_on[user] = dict.fromkeys(found.tolist(), name)
    return Proposals(whole.rows, whole.scores, rest_on)


def recent(subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:  # noqa: ARG001 - as every source
    """What was looked at or put into the cart and not bought, newest first; a score is one over the place."""
    width = max(k, *(len(rows) for rows in subjects.unbought))
    rows = np.full((len(subjects.unbought), width), -1, np.int64)
    for user, found in enumerate(subjects.unbought):
        rows[user, : len(found)] = found
    scores = np.where(rows >= 0, 1.0 / np.arange(1.0, width + 1.0), 0.0).astype(np.float32)
    return _drop(rows, scores, subjects, k)


def search(subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:
    """What fits the searches best; a score is relative to the best of its search, older searches counting less."""
    words = snapshot.words
    assert words is not None

    def found(query: str, number: int, most: int) -> tuple[Int64, Float32]:
        rows, scores = text.search(query, words, most)
        return rows, scores / scores[:1] * np.float32(SEARCH_DECAY**number)

    return _by_text(subjects.searches, found, subjects, k)


def tagged(subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:
    """The most popular items of the categories, dealt out in turn: the first gets twice as many as the second.

    A score is one over the place within the category, times one over the place of the category.
    """
    categories = snapshot.categories
    assert categories is not None

    def found(name: str, number: int, most: int) -> tuple[Int64, Float32]:
        rows = text.category_items(name, categories, most)
        return rows.astype(np.int64), np.float32(1.0) / (np.arange(1, len(rows) + 1, dtype=np.float32) * (number + 1))

    return _by_text(subjects.categories, found, subjects, k)


def _by_text(
    texts: Sequence[Sequence[str]],
    found: Callable[[str, int, int], tuple[Int64, Float32]],
    subjects: Subjects,
    k: int,
) -> Proposals:
    """What `found` finds for each text of each user, `found` being told its number and how many items to find.

    An item of several texts takes its best score, and rests on the text that gave it.
    """
    rows = np.full((len(texts), k), -1, np.int64)
    scores = np.zeros(rows.shape, np.float32)
    rest_on: list[Mapping[int, str]] = []
    for user, of_user in enumerate(texts):
        said = [
            _enough(lambda reach: found(one, number, reach), subjects, user, k)  # noqa: B023 - called at once
            for number, one in enumerate(of_user)
        ]
        all_rows = np.concatenate([_NO_ROWS, *(part for part, _ in said)])
        all_scores = np.concatenate([_NO_SCORES, *(part for _, part in said)])
        source = np.repeat(np.arange(len(said)), [len(part) for part, _ in said])
        order = np.argsort(-all_scores, kind="stable")
        _, first = np.unique(all_rows[order], return_index=True)
        best = order[np.sort(first)][:k]
        rows[user, : len(best)], scores[user, : len(best)] = all_rows[best], all_scores[best]
        names = [of_user[number] for number in source[best].tolist()]
        rest_on.append(dict(zip(all_rows[best].tolist(), names, strict=True)))
    return Proposals(rows, scores, rest_on)


def _enough(
    found: Callable[[int], tuple[Int64, Float32]], subjects: Subjects, user: int, k: int
) -> tuple[Int64, Float32]:
    """The first k of what `found` finds that the user may have; it is told how many to find, and asked for more."""
    reach = k + int(subjects.excluded.sizes[user])
    while True:
        rows, scores = found(reach)
        allowed = subjects.may_one_have(user, rows)
        if int(np.count_nonzero(allowed)) >= k or len(rows) < reach:
            return rows[allowed][:k], scores[allowed][:k]
        reach *= FURTHER


@dataclass(frozen=True, slots=True)
class Source:
    """All there is to know of a source.

    `propose` proposes k items, or fewer, to each of B users. `speaks` says to which of them it has something to say,
    bool[B]: where to none it is not asked. `reason` is why what it proposes is in an answer: one reason for all, or a
    function of the seeds i32[B, k] that items rest on, which gives their numbers. `needs` names the parts of a snapshot
    without which it is not offered, and `lacking` says what to do then. `seeds` gives, for a source that starts from
    items, those i32[B, L]. `instant` is one so cheap that it is asked however little time is left; `by_number` one that
    is told how many each user wants, as the subjects' `wanted`, since what it finds depends on it.
    """

    propose: Callable[[Subjects, Snapshot, int], Proposals]
    speaks: Callable[[Subjects], Bool]
    reason: ReasonCode | Callable[[Int32, Subjects], UInt8]
    needs: tuple[str, ...] = ()
    lacking: str = ""
    seeds: Callable[[Subjects], Int32] | None = None
    instant: bool = False
    by_number: bool = False


def _similar_reasons(seeds: Int32, subjects: Subjects) -> UInt8:
    """Whether seeds i32[B, k] are of the context, or were only looked at, or bought: numbers of reasons u8[B, k]."""
    unbought = np.where(subjects.viewed, subjects.interests, np.int32(-2))
    viewed = (seeds[:, :, None] == unbought[:, None, :]).any(axis=2)
    of_interest = np.where(viewed, REASON_NUMBERS["similar_to_viewed"], REASON_NUMBERS["similar_to_bought"])
    return np.where(subjects.by_context[:, None], REASON_NUMBERS["similar_to_context"], of_interest).astype(np.uint8)


def _filled(lists: Sequence[Sized]) -> Bool:
    return np.array([len(of_user) > 0 for of_user in lists], np.bool_)


def _any(there: Bool) -> Bool:
    return np.asarray(there.any(axis=1), np.bool_)


SOURCES: Mapping[str, Source] = {
    "search": Source(
        search,
        lambda subjects: _filled(subjects.searches),
        "searched",
        needs=("words",),
        lacking="the release has no words; build it with a catalogue that has titles",
    ),
    "recent": Source(recent, lambda subjects: _filled(subjects.unbought), "recently_viewed"),
    "complement": Source(
        complement,
        lambda subjects: _any(_complement_seeds(subjects) >= 0),
        "bought_together",
        needs=("complements",),
        lacking="the release has no complements; build it from a model that has",
        seeds=_complement_seeds,
    ),
    "similar": Source(
        similar,
        lambda subjects: _any(_similar_seeds(subjects) >= 0),
        _similar_reasons,
        needs=("neighbours",),
        lacking="the release has no item neighbours; build it from a model that has",
        seeds=_similar_seeds,
    ),
    "tagged": Source(
        tagged,
        lambda subjects: _filled(subjects.categories),
        "in_category",
        needs=("categories",),
        lacking="the release has no categories; build it with a catalogue that has",
    ),
    "ann": Source(ann, lambda subjects: subjects.has_vector, "matches_taste", by_number=True),
    "trending": Source(
        trending,
        lambda subjects: np.ones(len(subjects.vectors), np.bool_),
        "trending",
        needs=("trending",),
        lacking="the release has no popularity; build it from a model that has",
        instant=True,
    ),
}
"""The sources by name, in the order in which their reasons are told: the strongest first."""


def offered(parts: object) -> tuple[str, ...]:
    """Names of the sources that can be served with the parts of a snapshot, or with those a release is written from."""
    return tuple(
        name for name, source in SOURCES.items() if all(getattr(parts, need) is not None for need in source.needs)
    )


def starts_from_items(name: str) -> bool:
    """Whether a source goes by the neighbours of items."""
    return name in SOURCES and SOURCES[name].seeds is not None


def reasons(name: str, seeds: Int32, subjects: Subjects) -> UInt8 | int:
    """The reason for items that a source proposed, and that rest on seeds i32[B, k]: its number, or one for each."""
    reason = SOURCES[name].reason
    return REASON_NUMBERS[reason] if isinstance(reason, str) else reason(seeds, subjects)


def pinned(rows: Int64, subjects: Subjects) -> Proposals:
    """Those of rows i64[B, P] (-1: none) that may be in each user's answer."""
    return _drop(rows, np.where(rows >= 0, np.float32(1.0), np.float32(0.0)), subjects, rows.shape[1])


def propose(name: str, subjects: Subjects, snapshot: Snapshot, k: int) -> Proposals:
    """Ask one source for k items for each user, or for as many as that user's query wants when that is more.

    Each user's proposals are cut to their own number, so that they do not depend on who else is in the batch. Raises
    IndexFailed.
    """
    numbers = np.minimum(np.maximum(k, subjects.wanted), len(snapshot.items))
    most = int(numbers.max())
    source = SOURCES[name]
    asked = replace(subjects, wanted=numbers) if source.by_number else subjects
    found = source.propose(asked, snapshot, most)
    if (numbers == most).all():
        return found
    kept = np.arange(found.rows.shape[1]) < numbers[:, None]
    return replace(found, rows=np.where(kept, found.rows, -1), scores=np.where(kept, found.scores, np.float32(0.0)))


def _drop(rows: Int64, scores: Float32, subjects: Subjects, k: int) -> Proposals:
    """Take out what a user may not have, close the gaps keeping the order, and cut or pad to k columns."""
    kept = subjects.may_have(rows)
    place = np.cumsum(kept, axis=1)
    at = np.flatnonzero(kept & (place <= k))
    to = at // max(rows.shape[1], 1) * k + place.reshape(-1).take(at) - 1
    found = Proposals(np.full((len(rows), k), -1, np.int64), np.zeros((len(rows), k), np.float32))
    found.rows.reshape(-1)[to] = rows.reshape(-1).take(at)
    found.scores.reshape(-1)[to] = scores.reshape(-1).take(at)
    return found
