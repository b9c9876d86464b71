"""Who answers are for: a batch of queries as arrays, with what time has made of what is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tidings_core.controls import narrowed
from tidings_core.delta import have_vectors
from tidings_core.encoder import encoded
from tidings_core.errors import EncoderFailed
from tidings_core.examples import example_vector
from tidings_core.exclusions import MANY, Exclusions, prepared
from tidings_core.faults import Fault
from tidings_core.features import DAY, HistoryBlock, history_block
from tidings_core.filters import Filter
from tidings_core.index import normalise
from tidings_core.model import EMPTY_HISTORY, Degradation, History, Person, Query, ServingConfig, Snapshot
from tidings_core.rows import Passing
from tidings_core.selection import filter_faults, select
from tidings_core.tables import Bool, Float32, Int32, Int64

SEEDS = 10
"""`similar` starts from the context, or from the 10 items liked or bought last."""
RECENT_DAYS, CATEGORY_DAYS, SEARCH_DAYS = 30.0, 7.0, 1.0
"""What was looked at, the categories that were, and searches are forgotten after so many days."""
UNENCODED = Degradation(
    "failed", "encoder", "asked with the vector of the release: the encoder gave one that is no finite numbers"
)


@dataclass(frozen=True, slots=True)
class Subjects:
    """Who an answer is for: B users as arrays.

    vectors f32[B, D] and has_vector bool[B]; known bool[B] whether anything is known of the user, or given in place of
    it; interests i32[B, S] the item rows liked or bought last, newest first (-1: padding), viewed bool[B, S] which of
    them were not bought; context i32[B, L] item rows the answer is about (-1: padding); wanted i64[B] the number of
    items asked for. One entry per user: `unbought` i32 rows newest first, `searches` and `categories` texts, what
    matters most first; `selected` the items that filters and the catalogue let into the answer, None: all. `stated`
    f32[B, A] are the columns of users' attributes that the ranker asks for.
    """

    vectors: Float32
    has_vector: Bool
    known: Bool
    history: HistoryBlock
    interests: Int32
    viewed: Bool
    context: Int32
    excluded: Exclusions
    wanted: Int64
    unbought: Sequence[Int32]
    searches: Sequence[Sequence[str]]
    categories: Sequence[Sequence[str]]
    selected: Sequence[Passing | None]
    stated: Float32

    @property
    def personal(self) -> Bool:
        """Of whom something is known, a vector or a history: bool[B]."""
        return self.has_vector | self.history.known[:, 0]

    @property
    def by_context(self) -> Bool:
        """Who has a context item that is known: bool[B]."""
        return np.asarray((self.context >= 0).any(axis=1), np.bool_)

    def may_have(self, rows: Int64) -> Bool:
        """Which of rows i64[B, W] may be in the answer of their user, bool[B, W]; padding (-1) may not."""
        allowed = (rows >= 0) & ~self.excluded.contains(rows)
        for users, selected in alike(self.selected):
            if selected is not None:
                allowed[users] &= selected.rows.contains(rows[users])
        return allowed

    def may(self, users: Int64, rows: Int64) -> Bool:
        """Which of rows i64[n], not negative, may be in the answer of the user i64[n] beside them, bool[n]."""
        allowed = ~self.excluded.hold(users, rows)
        for group, selected in alike(self.selected):
            if selected is not None:
                mine = np.flatnonzero(np.isin(users, group))
                allowed[mine] &= selected.rows.contains(rows[mine])
        return allowed

    def may_one_have(self, user: int, rows: Int64) -> Bool:
        """Which of rows i64[W] may be in the answer of one user, bool[W]."""
        selected = self.selected[user]
        allowed = ~self.excluded.excludes(user, rows)
        return allowed if selected is None else allowed & selected.rows.contains(rows)


def faults(query: Query, snapshot: Snapshot) -> list[Fault]:
    """What of a query does not fit this snapshot: it cannot be answered from it."""
    found: list[Fault] = []
    dims = snapshot.item_vectors.shape[1]
    if query.vector is not None and len(query.vector) != dims:
        found.append(
            ("vector", f"has {len(query.vector)} numbers, must have {dims}: as many as the release's embeddings")
        )
    if query.filter is not None:
        wrong = filter_faults(query.filter, snapshot)
        found += [(f"filter.{place}" if place else "filter", problem) for place, problem in wrong]
    return found


def resolve(
    batch: Sequence[Query], serving: ServingConfig, snapshot: Snapshot, now: float
) -> tuple[Subjects, list[list[Degradation]]]:
    """Look the ids of a batch without faults up: the subjects, and for each query what could not be found.

    The filter of the serving config must fit the snapshot too.
    """
    if snapshot.controls:
        batch = [narrowed(query, snapshot.controls, now) for query in batch]
    users = snapshot.users.find_many([query.user_id for query in batch])
    people = [query.person for query in batch]
    histories = [history_of(person, user, snapshot) for person, user in zip(people, users.tolist(), strict=True)]
    contexts = [_rows_of(query.context_item_ids, snapshot) for query in batch]
    interests = [
        (history.rows if person is None else person.interests)[:SEEDS]
        for person, history in zip(people, histories, strict=True)
    ]
    examples = [
        (_rows_of(query.liked_item_ids, snapshot), _rows_of(query.disliked_item_ids, snapshot)) for query in batch
    ]
    vectors, has_vector = _vectors(people, users, snapshot)
    trouble = _encode(people, vectors, has_vector, snapshot, now)
    given = _take_given(batch, examples, vectors, has_vector, snapshot)
    subjects = Subjects(
        vectors,
        has_vector,
        np.array([one or (person is not None and person.known) for one, person in zip(given, people, strict=True)])
        | (users >= 0),
        history_block(histories, now),
        _padded(interests),
        _viewed(people, interests),
        _padded([rows[rows >= 0] if len(rows) else rows for rows in contexts]),
        _exclusions(
            [
                excluded(query, context, _joined(shown), history, serving, snapshot)
                for query, context, shown, history in zip(batch, contexts, examples, histories, strict=True)
            ],
            people,
            snapshot,
        ),
        np.array([query.k for query in batch], np.int64),
        [_unbought(person, now) for person in people],
        [_searches(query, now) for query in batch],
        [_categories(query, now) for query in batch],
        _selected(batch, serving, snapshot, now),
        _stated(people, len(snapshot.user_attributes)),
    )
    missing = zip(contexts, examples, strict=True)
    return subjects, [_missing(*one) + trouble.get(at, []) for at, one in enumerate(missing)]


_NO_ROWS = np.empty(0, np.int32)


def _stated(people: Sequence[Person | None], columns: int) -> Float32:
    """The columns f32[B, A] of users' attributes; 0 for those of whom nothing is known."""
    found = np.zeros((len(people), columns), np.float32)
    for at, person in enumerate(people if columns else ()):
        if person is not None and person.attributes is not None:
            found[at] = person.attributes
    return found


def _rows_of(item_ids: Sequence[str], snapshot: Snapshot) -> Int32:
    return snapshot.items.find_many(item_ids) if item_ids else _NO_ROWS


def _joined(parts: Sequence[Int32]) -> Int32:
    """Rows one after the other. Most often there are none, or of one kind."""
    filled = [part for part in parts if len(part)]
    if len(filled) > 1:
        return np.concatenate(filled)
    return filled[0] if filled else _NO_ROWS


def _padded(rows_of_users: Sequence[Int32]) -> Int32:
    """Rows i32[B, L], -1 where a user has no more; L is at least 1."""
    sizes = np.array([len(rows) for rows in rows_of_users])
    known = np.arange(max(1, int(sizes.max(initial=0)))) < sizes[:, None]
    padded = np.full(known.shape, -1, np.int32)
    if sizes.any():
        padded[known] = np.concatenate(rows_of_users)
    return padded


def _vectors(people: Sequence[Person | None], users: Int32, snapshot: Snapshot) -> tuple[Float32, Bool]:
    """The vectors f32[B, D], and who has one bool[B]: the person's own, or else the release's."""
    vectors = snapshot.user_vectors.take(np.maximum(users, 0), axis=0)
    has_vector = users >= 0
    if not has_vector.all():
        vectors[~has_vector] = 0.0
    for at, person in enumerate(people):
        if person is not None and person.vector is not None:
            vectors[at], has_vector[at] = person.vector, True
    return vectors, has_vector


def _encode(
    people: Sequence[Person | None], vectors: Float32, has_vector: Bool, snapshot: Snapshot, now: float
) -> dict[int, list[Degradation]]:
    """Put the vectors that the encoder makes of what people did last in place; for whom it failed, by place."""
    if snapshot.encoder is None:
        return {}
    read = [(at, person) for at, person in enumerate(people) if person is not None and len(person.steps)]
    if not read:
        return {}
    places = np.array([at for at, _ in read])
    try:
        made = encoded([person.steps for _, person in read], [person.step_times for _, person in read], now, snapshot)
    except EncoderFailed as error:
        failed = Degradation("failed", "encoder", f"asked with the vectors of the release: {error}")
        return {at: [failed] for at in places.tolist()}
    whole = np.isfinite(made[:, 0])
    vectors[places[whole]], has_vector[places[whole]] = normalise(made[whole], snapshot.metric), True
    return {at: [UNENCODED] for at in places[~whole].tolist()}


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
        if query.vector is None and not len(liked) and not len(disliked):
            given.append(False)
            continue
        good, bad = (_example_vectors(rows, snapshot) for rows in (liked, disliked))
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


def _example_vectors(rows: Int32, snapshot: Snapshot) -> Float32:
    """The vectors f32[n, D] of those of item rows (-1: not known) that have one."""
    found: Float32 = snapshot.item_vectors[rows[(rows >= 0) & have_vectors(rows, snapshot)]]
    return found


def _missing(context: Int32, examples: tuple[Int32, Int32]) -> list[Degradation]:
    """What a query is about and could not be found: none of its context, or of its examples."""
    found: list[Degradation] = []
    if not len(context) and not len(examples[0]) and not len(examples[1]):
        return found
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


Exclusion = Literal["context", "example", "request", "blocked", "disliked", "bought", "returned", "seen"]
"""Why an item must not be in an answer: it is what the answer is about, it is an example, the request excludes it, the
person asked to see less of it, rated it low, bought it, gave it back, or has seen it.
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
        ("request", _rows_of(query.exclude_item_ids, snapshot)),
        ("blocked", person.blocked),
        ("disliked", person.disliked),
    ]
    if serving.exclude_bought:
        found += [("bought", history.rows), ("returned", person.returned)]
    if serving.exclude_seen:
        found.append(("seen", person.seen))
    return found


def _exclusions(
    of_users: Sequence[Sequence[tuple[Exclusion, Int32]]], people: Sequence[Person | None], snapshot: Snapshot
) -> Exclusions:
    """What is excluded for B users: what is much is taken as it was prepared with the person, where it was."""
    few, many = [], []
    for of_user, person in zip(of_users, people, strict=True):
        kept = (person or _NOBODY).many
        few.append(_joined([rows for _, rows in of_user if len(rows) <= MANY]))
        many.append([kept.get(why) or prepared(rows, snapshot) for why, rows in of_user if len(rows) > MANY])
    return Exclusions.of(few, many, len(snapshot.items))


def _selected(batch: Sequence[Query], serving: ServingConfig, snapshot: Snapshot, now: float) -> list[Passing | None]:
    """What may be found for each query; those that ask for the same look once."""
    found: dict[tuple[Filter | None, str | None], Passing | None] = {}
    keys = [(query.filter, query.category if serving.within_category and query.category else None) for query in batch]
    for key in keys:
        if key not in found:
            wanted, category = key
            filters = [one for one in (serving.filter, wanted) if one is not None]
            found[key] = select(filters, category, snapshot, now)
    return [found[key] for key in keys]


def alike(selected: Sequence[Passing | None]) -> list[tuple[Int64, Passing | None]]:
    """The users who may have the same items: their places in the batch, i64, and those items."""
    groups: dict[int, tuple[list[int], Passing | None]] = {}
    for user, items in enumerate(selected):
        groups.setdefault(id(items), ([], items))[0].append(user)
    return [(np.array(users, np.int64), items) for users, items in groups.values()]


def _viewed(people: Sequence[Person | None], interests: Sequence[Int32]) -> Bool:
    """Which interests were not bought, bool[B, L] as the rows are padded. What was given back is no interest."""
    viewed = np.zeros((len(people), max([1, *map(len, interests)])), np.bool_)
    for at, (person, rows) in enumerate(zip(people, interests, strict=True)):
        if person is not None and len(rows):
            bought = person.many.get("bought")
            viewed[at, : len(rows)] = ~(
                np.isin(rows, person.history.rows) if bought is None else bought.rows.contains(rows)
            )
    return viewed


def _unbought(person: Person | None, now: float) -> Int32:
    if person is None or not len(person.unbought):
        return _NO_ROWS
    return person.unbought[person.unbought_times > now - RECENT_DAYS * DAY]


def _searches(query: Query, now: float) -> Sequence[str]:
    if query.search or query.person is None:
        return (query.search,) if query.search else ()
    return [words for words, time in query.person.searches if time > now - SEARCH_DAYS * DAY]


def _categories(query: Query, now: float) -> Sequence[str]:
    if query.category or query.person is None:
        return (query.category,) if query.category else ()
    return [name for name, time in query.person.categories if time > now - CATEGORY_DAYS * DAY]
