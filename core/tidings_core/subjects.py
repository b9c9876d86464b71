"""Who answers are for: a batch of queries as arrays, with what time has made of what is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tidings_core.examples import example_vector
from tidings_core.exclusions import Exclusions
from tidings_core.faults import Fault
from tidings_core.features import DAY, HistoryBlock, history_block
from tidings_core.model import EMPTY_HISTORY, Degradation, History, Person, Query, ServingConfig, Snapshot
from tidings_core.tables import Bool, Float32, Int32, Int64
from tidings_core.text import category_items

SEEDS = 10
"""`similar` starts from the context, or from the 10 items liked or bought last."""
RECENT_DAYS, CATEGORY_DAYS, SEARCH_DAYS = 30.0, 7.0, 1.0
"""What was looked at, the categories that were, and searches are forgotten after so many days."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """Who an answer is for: B users as arrays.

    vectors f32[B, D] and has_vector bool[B]; known bool[B] whether anything is known of the user, or given in place of
    it; interests i32[B, S] the item rows liked or bought last, newest first (-1:
    padding); context i32[B, L] item rows the answer is about (-1: padding); wanted i64[B] the number of items asked
    for. One entry per user: `viewed` are those interests that were not bought, `unbought` i32 rows newest first,
    `searches` and `categories` texts, what matters most first; `within` i32 rows, the only ones that may be in the
    answer, None: all may.
    """

    vectors: Float32
    has_vector: Bool
    known: Bool
    history: HistoryBlock
    interests: Int32
    viewed: Sequence[frozenset[int]]
    context: Int32
    excluded: Exclusions
    wanted: Int64
    unbought: Sequence[Int32]
    searches: Sequence[Sequence[str]]
    categories: Sequence[Sequence[str]]
    within: Sequence[Int32 | None]

    @property
    def personal(self) -> Bool:
        """Of whom something is known, a vector or a history: bool[B]."""
        return self.has_vector | self.history.known[:, 0]

    @property
    def by_context(self) -> Bool:
        """Who has a context item that is known: bool[B]."""
        return np.asarray((self.context >= 0).any(axis=1), np.bool_)


def faults(query: Query, snapshot: Snapshot) -> list[Fault]:
    """What of a query does not fit this snapshot: it cannot be answered from it."""
    dims = snapshot.item_vectors.shape[1]
    if query.vector is not None and len(query.vector) != dims:
        return [("vector", f"has {len(query.vector)} numbers, must have {dims}: as many as the release's embeddings")]
    return []


def resolve(
    batch: Sequence[Query], serving: ServingConfig, snapshot: Snapshot, now: float
) -> tuple[Subjects, list[list[Degradation]]]:
    """Look the ids of a batch without faults up: the subjects, and for each query what could not be found."""
    users = snapshot.users.find_many([query.user_id for query in batch])
    people = [query.person for query in batch]
    histories = [history_of(person, int(user), snapshot) for person, user in zip(people, users, strict=True)]
    contexts = [snapshot.items.find_many(query.context_item_ids) for query in batch]
    interests = [
        (history.rows if person is None else person.interests)[:SEEDS]
        for person, history in zip(people, histories, strict=True)
    ]
    examples = [
        (snapshot.items.find_many(query.liked_item_ids), snapshot.items.find_many(query.disliked_item_ids))
        for query in batch
    ]
    vectors, has_vector = _vectors(people, users, snapshot)
    given = _take_given(batch, examples, vectors, has_vector, snapshot)
    subjects = Subjects(
        vectors,
        has_vector,
        np.array([one or (person is not None and person.known) for one, person in zip(given, people, strict=True)])
        | (users >= 0),
        history_block(histories, now),
        _padded(interests),
        [_viewed(person, rows) for person, rows in zip(people, interests, strict=True)],
        _padded([rows[rows >= 0] for rows in contexts]),
        Exclusions.of(
            [
                np.concatenate(
                    [r for _, r in excluded(query, context, np.concatenate(shown), history, serving, snapshot)]
                )
                for query, context, shown, history in zip(batch, contexts, examples, histories, strict=True)
            ],
            len(snapshot.items),
        ),
        np.array([query.k for query in batch], np.int64),
        [_unbought(person, now) for person in people],
        [_searches(query, now) for query in batch],
        [_categories(query, now) for query in batch],
        [_within(query, serving, snapshot) for query in batch],
    )
    return subjects, [_missing(*one) for one in zip(contexts, examples, strict=True)]


def _padded(rows_of_users: Sequence[Int32]) -> Int32:
    """Rows i32[B, L], -1 where a user has no more; L is at least 1."""
    padded = np.full((len(rows_of_users), max([1, *(len(rows) for rows in rows_of_users)])), -1, np.int32)
    for at, rows in enumerate(rows_of_users):
        padded[at, : len(rows)] = rows
    return padded


def _vectors(people: Sequence[Person | None], users: Int32, snapshot: Snapshot) -> tuple[Float32, Bool]:
    """The vectors f32[B, D], and who has one bool[B]: the person's own, or else the release's."""
    vectors = np.array(snapshot.user_vectors[np.maximum(users, 0)], np.float32)
    vectors[users < 0] = 0.0
    has_vector = users >= 0
    for at, person in enumerate(people):
        if person is not None and person.vector is not None:
            vectors[at], has_vector[at] = person.vector, True
    return vectors, has_vector


def _take_given(
    batch: Sequence[Query],
    examples: Sequence[tuple[Int32, Int32]],
    vectors: Float32,
    has_vector: Bool,
    snapshot: Snapshot,
) -> list[bool]:
    """Put the vectors that queries give, or that come of their examples, in place; say for which queries there is one.

    `examples` are the item rows liked and disliked, -1 for one that is not known.
    """
    given = []
    for at, (query, (liked, disliked)) in enumerate(zip(batch, examples, strict=True)):
        good, bad = (snapshot.item_vectors[rows[rows >= 0]] for rows in (liked, disliked))
        own = None
        if query.vector is not None:
            own = query.vector[None]
        elif len(bad) and not len(good) and has_vector[at]:
            own = vectors[at : at + 1]
        if len(good) or len(bad) or snapshot.metric == "cosine":
            near = good if own is None else np.concatenate([good, own])
            found = example_vector(near, bad, snapshot.metric, snapshot.user_norm)
        else:
            found = None if own is None else own[0]
        if found is not None:
            vectors[at], has_vector[at] = found, True
        given.append(found is not None)
    return given


def _missing(context: Int32, examples: tuple[Int32, Int32]) -> list[Degradation]:
    """What a query is about and could not be found: none of its context, or of its examples."""
    found = []
    if len(context) and (context < 0).all():
        found.append(Degradation("unknown_context", "similar", "none of the context items is in the release"))
    shown = np.concatenate(examples)
    if len(shown) and (shown < 0).all():
        found.append(Degradation("unknown_context", "examples", "none of the examples is in the release"))
    return found


_NOBODY = Person()


def history_of(person: Person | None, user: int, snapshot: Snapshot) -> History:
    """What was bought by a person or, of whom nothing is recorded, by the release's user of that row (-1: none)."""
    if person is not None:
        return person.history
    return EMPTY_HISTORY if snapshot.histories is None or user < 0 else snapshot.histories[user]


Exclusion = Literal["context", "example", "request", "blocked", "bought", "returned", "seen"]
"""Why an item must not be in an answer: it is what the answer is about, it is an example, the request excludes it, the
person asked to see less of it, bought it, gave it back, or has seen it.
"""


def excluded(
    query: Query, context: Int32, examples: Int32, history: History, serving: ServingConfig, snapshot: Snapshot
) -> list[tuple[Exclusion, Int32]]:
    """What must not be in the answer, by why: item rows i32, -1 for an id that is not known.

    `context` and `examples` are the rows of the query's.
    """
    person = query.person or _NOBODY
    found: list[tuple[Exclusion, Int32]] = [
        ("context", context),
        ("example", examples),
        ("request", snapshot.items.find_many(query.exclude_item_ids)),
        ("blocked", person.blocked),
    ]
    if serving.exclude_bought:
        found += [("bought", history.rows), ("returned", person.returned)]
    if serving.exclude_seen:
        found.append(("seen", person.seen))
    return found


def _within(query: Query, serving: ServingConfig, snapshot: Snapshot) -> Int32 | None:
    if not (serving.within_category and query.category):
        return None
    if snapshot.categories is None:
        return np.empty(0, np.int32)
    return category_items(query.category, snapshot.categories, len(snapshot.items))


def _viewed(person: Person | None, interests: Int32) -> frozenset[int]:
    """Those interests that were not bought."""
    if person is None:
        return frozenset()
    return frozenset(interests[~np.isin(interests, person.history.rows)].tolist())


def _unbought(person: Person | None, now: float) -> Int32:
    person = person or _NOBODY
    return person.unbought[person.unbought_times > now - RECENT_DAYS * DAY]


def _searches(query: Query, now: float) -> Sequence[str]:
    if query.search or query.person is None:
        return (query.search,) if query.search else ()
    return [words for words, time in query.person.searches if time > now - SEARCH_DAYS * DAY]


def _categories(query: Query, now: float) -> Sequence[str]:
    if query.category or query.person is None:
        return (query.category,) if query.category else ()
    return [name for name, time in query.person.categories if time > now - CATEGORY_DAYS * DAY]
