"""For whom items are best: held against brute force over every user, with newer profiles and without."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import make_world
from tidings_core import audience as module
from tidings_core.audience import Audience, Known, find_audience
from tidings_core.model import History, Metric, Person, Snapshot

METRICS: tuple[Metric, ...] = ("inner_product", "cosine", "l2")
USERS, ITEMS, DIM = 90, 60, 8
WORLDS = {
    metric: make_world(items=ITEMS, users=USERS, dim=DIM, groups=4, metric=metric).snapshot() for metric in METRICS
}

some_rows = st.lists(st.integers(0, ITEMS - 1), max_size=8)


def _person(bought: list[int], returned: list[int], blocked: list[int], vector: int | None) -> Person:
    rows = np.array(sorted(set(bought)), np.int32)
    return Person(
        history=History(rows, np.zeros(len(rows), np.int64), np.ones(len(rows), np.float32)),
        returned=np.array(returned, np.int32),
        blocked=np.array(blocked, np.int32),
        vector=None if vector is None else np.random.default_rng(vector).normal(size=DIM).astype(np.float32),
    )


people = st.builds(_person, some_rows, some_rows, some_rows, st.none() | st.integers(0, 9))
in_release = st.dictionaries(st.integers(0, USERS - 1), people, max_size=8)
elsewhere = st.dictionaries(st.text("abc", min_size=1, max_size=2), people, max_size=4)


def known_of(users: dict[int, Person], strangers: dict[str, Person]) -> list[Known]:
    """People whose profiles are at hand."""
    found = [Known(f"user-{row}", row, person) for row, person in users.items()]
    return found + [Known(name, -1, person) for name, person in strangers.items()]


def brute_force(
    items: list[int], known: list[Known], snapshot: Snapshot, leave_out: bool
) -> list[tuple[float, str, set[int]]]:
    """Everybody's value, id, and the items that give it, best first."""
    assert snapshot.histories is not None
    by_id = {one.user_id: one.person for one in known}
    order = [f"user-{row}" for row in range(USERS)] + sorted(one.user_id for one in known if one.row < 0)
    found = []
    for user_id in order:
        row, person = snapshot.users.find(user_id), by_id.get(user_id)
        vector = snapshot.user_vectors[row] if row >= 0 else None
        refused: set[int] = set() if row < 0 else set(snapshot.histories[row].rows.tolist())
        if person is not None:
            vector = vector if person.vector is None else person.vector
            refused = {*person.history.rows.tolist(), *person.returned.tolist(), *person.blocked.tolist()}
        if vector is None:
            continue
        scores = {}
        for item in items:
            if not (leave_out and item in refused):
                apart = snapshot.item_vectors[item] - vector
                near = snapshot.item_vectors[item] @ vector
                scores[item] = float(-(apart @ apart) if snapshot.metric == "l2" else near)
        if scores:
            best = max(scores.values())
            found.append((best, user_id, {item for item, score in scores.items() if score >= best - 1e-5}))
    return sorted(found, key=lambda one: -one[0])


def told(
    audience: Audience, snapshot: Snapshot, least: float = -math.inf, limit: int = 10**6
) -> list[tuple[str, float]]:
    """Ids and values in order."""
    found = []
    for place in audience.in_order(least, None, limit).tolist():
        user_id = snapshot.users[place] if place < audience.users else audience.strangers[place - audience.users]
        found.append((user_id, float(audience.values[place])))
    return found


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=6, unique=True),
    in_release,
    elsewhere,
    st.booleans(),
    st.sampled_from(METRICS),
)
def test_an_audience_is_what_brute_force_finds(
    items: list[int], users: dict[int, Person], strangers: dict[str, Person], leave_out: bool, metric: Metric
) -> None:
    """Everybody with a vector once, by the best item they do not refuse; newer vectors win; strangers with one come."""
    snapshot = WORLDS[metric]
    known = known_of(users, strangers)
    audience = find_audience(items, known, snapshot, leave_out)
    true = brute_force(items, known, snapshot, leave_out)
    found = told(audience, snapshot)
    assert {user_id for user_id, _ in found} == {user_id for _, user_id, _ in true}
    assert [value for _, value in found] == pytest.approx([value for value, _, _ in true], abs=1e-5)
    values = {user_id: value for value, user_id, _ in true}
    best = {user_id: rows for _, user_id, rows in true}
    for place in audience.in_order(-math.inf, None, 10**6).tolist():
        user_id = snapshot.users[place] if place < audience.users else audience.strangers[place - audience.users]
        assert float(audience.values[place]) == pytest.approx(values[user_id], abs=1e-5)
        assert items[audience.best[place]] in best[user_id]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 0.5, 2.0]), min_size=1, max_size=60),
    st.integers(1, 9),
    st.sampled_from([-math.inf, -1.0, 0.25]),
)
def test_pieces_in_order_are_the_whole_in_order_once_each(values: list[float], size: int, least: float) -> None:
    """However small the pieces, with many equal values: by value, then by place, nobody twice, nobody missed."""
    given_values = np.array(values, np.float32)
    audience = Audience(given_values, np.zeros(len(values), np.int32), (), len(values))
    after, found = None, []
    while True:
        piece = audience.in_order(least, after, size).tolist()
        found += piece
        if len(piece) < size:
            break
        after = (float(given_values[piece[-1]]), piece[-1])
    there = [place for place, value in enumerate(values) if math.isfinite(value) and value >= least]
    assert found == sorted(there, key=lambda place: (-values[place], place))


def test_chunks_and_purchases_meet_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users are compared a few at a time; who is left out is the same."""
    snapshot = WORLDS["inner_product"]
    whole = find_audience([1, 2, 3], [], snapshot)
    monkeypatch.setattr(module, "CHUNK", 7)
    parts = find_audience([1, 2, 3], [], snapshot)
    np.testing.assert_array_equal(whole.values, parts.values)
    np.testing.assert_array_equal(whole.best, parts.best)


def test_a_place_is_found_again_also_that_of_a_stranger_who_is_gone() -> None:
    """Of one in the release by row; of a stranger by id, or just before where it would stand."""
    audience = Audience(np.zeros(5, np.float32), np.zeros(5, np.int32), ("ann", "eve"), 3)
    assert audience.place("user-1", 1) == 1
    assert [audience.place(name, -1) for name in ("aaa", "ann", "bob", "eve", "zoe")] == [2, 3, 3, 4, 4]


def test_a_release_without_histories_leaves_out_nobody() -> None:
    """There is nothing to go by but profiles."""
    snapshot = dataclasses.replace(WORLDS["cosine"], histories=None)
    assert len(told(find_audience([1], [], snapshot), snapshot)) == USERS
    known = [Known("user-3", 3, _person([1], [], [], None))]
    assert "user-3" not in dict(told(find_audience([1], known, snapshot), snapshot))
