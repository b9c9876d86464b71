"""Who answers are for: a batch of queries as arrays, with what time has made of what is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidings_core.exclusions import Exclusions
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

    vectors f32[B, D] and has_vector bool[B]; interests i32[B, S] the item rows liked or bought last, newest first (-1:
    padding); context i32[B, L] item rows the answer is about (-1: padding); wanted i64[B] the number of items asked
    for. One entry per user: `viewed` are those interests that were not bought, `unbought` i32 rows newest first,
    `searches` and `categories` texts, what matters most first; `within` i32 rows, the only ones that may be in the
    answer, None: all may.
    """

    vectors: Float32
    has_vector: Bool
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


def resolve(
    batch: Sequence[Query], serving: ServingConfig, snapshot: Snapshot, now: float
) -> tuple[Subjects, list[list[Degradation]]]:
    """Look the ids of a batch up: the subjects, and for each query what could not be found."""
    users = snapshot.users.find_many([query.user_id for query in batch])
    people = [query.person for query in batch]
    histories = [_history(person, int(user), snapshot) for person, user in zip(people, users, strict=True)]
    contexts = [snapshot.items.find_many(query.context_item_ids) for query in batch]
    interests = [
        (history.rows if person is None else person.interests)[:SEEDS]
        for person, history in zip(people, histories, strict=True)
    ]
    vectors, has_vector = _vectors(people, users, snapshot)
    subjects = Subjects(
        vectors,
        has_vector,
        history_block(histories, now),
        _padded(interests),
        [_viewed(person, rows) for person, rows in zip(people, interests, strict=True)],
        _padded([rows[rows >= 0] for rows in contexts]),
        Exclusions.of(
            [
                np.concatenate([context, *_excluded(query, history, serving, snapshot)])
                for query, context, history in zip(batch, contexts, histories, strict=True)
            ],
            len(snapshot.items),
        ),
        np.array([query.k for query in batch], np.int64),
        [_unbought(person, now) for person in people],
        [_searches(query, now) for query in batch],
        [_categories(query, now) for query in batch],
        [_within(query, serving, snapshot) for query in batch],
    )
    missing = [
        _missing(query, serving, user >= 0, has_context)
        for query, user, has_context in zip(batch, users.tolist(), subjects.by_context.tolist(), strict=True)
    ]
    return subjects, missing


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


def _missing(query: Query, serving: ServingConfig, in_release: bool, has_context: bool) -> list[Degradation]:
    """What could not be found for a query."""
    found = []
    known = in_release or (query.person is not None and query.person.known)
    if not known and _needs_user(query, serving, has_context):
        found.append(Degradation("unknown_user", "user", "nothing is known of this user: nothing personal was used"))
    if len(query.context_item_ids) and not has_context:
        found.append(Degradation("unknown_context", "similar", "none of the context items is in the release"))
    return found


_NOBODY = Person()


def _history(person: Person | None, user: int, snapshot: Snapshot) -> History:
    if person is not None:
        return person.history
    return EMPTY_HISTORY if snapshot.histories is None or user < 0 else snapshot.histories[user]


def _excluded(query: Query, history: History, serving: ServingConfig, snapshot: Snapshot) -> list[Int32]:
    """What must not be in the answer, context aside."""
    person = query.person or _NOBODY
    found = [snapshot.items.find_many(query.exclude_item_ids), person.blocked]
    if serving.exclude_bought:
        found += [history.rows, person.returned]
    return [*found, person.seen] if serving.exclude_seen else found


def _within(query: Query, serving: ServingConfig, snapshot: Snapshot) -> Int32 | None:
    if not (serving.within_category and query.category):
        return None
    if snapshot.categories is None:
        return np.empty(0, np.int32)
    return category_items(query.category, snapshot.categories, len(snapshot.items))


def _needs_user(query: Query, serving: ServingConfig, has_context: bool) -> bool:
    """Whether a source of the config has nothing to say without knowing the user."""
    given = {"similar": has_context, "trending": True, "search": bool(query.search), "tagged": bool(query.category)}
    return not all(given.get(use.name, False) for use in serving.sources)


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
