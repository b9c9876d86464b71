import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings_core.errors import InvalidInput
from tidings_core.events import EVENT_TYPES
from tidings_training.log import Log, core
from tidings_training.proof.splits import PROTOCOLS, Cut, by_session, split

DAY = 86_400.0
PURCHASE, VIEW = EVENT_TYPES.index("purchase"), EVENT_TYPES.index("view")


def make_log(rows: list[tuple[int, int, float]], sessions: list[int] | None = None, kind: int = PURCHASE) -> Log:
    """A log of (user, item, day), put in order of time."""
    users, items, days = (np.array(column) for column in zip(*rows, strict=True))
    order = np.argsort(days, kind="stable")
    count = len(rows)
    named = np.full(count, -1) if sessions is None else np.array(sessions)
    return Log(
        [f"u{number}" for number in range(int(users.max()) + 1)],
        [f"i{number}" for number in range(int(items.max()) + 1)],
        users[order].astype(np.int32),
        items[order].astype(np.int32),
        days[order] * DAY,
        np.full(count, kind, np.int8),
        np.full(count, np.nan),
        named[order].astype(np.int32),
    )


def wanted(found: Log, log: Log) -> set[tuple[int, int]]:
    """User and item of each event."""
    return set(zip(found.users.tolist(), found.items.tolist(), strict=True))


def asked_for(log: Log, cut: Cut) -> dict[int, set[int]]:
    """What each question of a split wants, by person."""
    questions = split(log, cut).questions
    return {int(person): set(questions.wanted[place].indices.tolist()) for place, person in enumerate(questions.people)}


def test_by_time_learns_of_what_was_before_and_asks_for_what_is_new() -> None:
    """Events up to the cut are learned from; what a user had before is no question, and counts only with repeats."""
    log = make_log([(0, 0, 0), (1, 1, 1), (0, 1, 2), (0, 0, 90), (0, 2, 95), (1, 1, 96), (2, 0, 97)])
    cut = Cut(holdout_days=10)
    found = split(log, cut)
    assert found.train.times.max() <= found.as_of < found.test.times.min()
    assert found.as_of == 87 * DAY
    assert asked_for(log, cut) == {0: {2}, 2: {0}}
    assert asked_for(log, Cut(holdout_days=10, repeats=True)) == {0: {0, 2}, 1: {1}, 2: {0}}


def test_what_was_had_is_hidden_unless_repeats_count() -> None:
    """Nobody is shown what they had, and nobody is kept from it when it counts."""
    log = make_log([(0, 0, 0), (1, 1, 1), (0, 2, 95), (1, 0, 96)])
    assert split(log, Cut(holdout_days=10)).questions.hidden.toarray().tolist() == [[1, 0, 0], [0, 1, 0]]
    assert split(log, Cut(holdout_days=10, repeats=True)).questions.hidden.nnz == 0


def test_the_holdout_follows_the_length_of_the_log() -> None:
    """28 days of a long log are held out, and the last fifth of one that is shorter than 56."""
    assert split(make_log([(0, 0, 0), (1, 1, 0), (0, 1, 100), (1, 0, 100)]), Cut()).as_of == 72 * DAY
    assert split(make_log([(0, 0, 0), (1, 1, 0), (0, 1, 10), (1, 0, 10)]), Cut()).as_of == 8 * DAY


def test_leave_last_out_holds_out_the_newest_item_with_all_its_events() -> None:
    """Each user with two items loses the one they came to last; a user with one keeps it and is not asked."""
    log = make_log([(0, 0, 0), (0, 1, 1), (0, 1, 2), (0, 0, 3), (1, 2, 0), (2, 0, 0), (2, 2, 4)])
    found = split(log, Cut(protocol="leave-last-out"))
    assert wanted(found.test, log) == {(0, 1), (2, 2)}
    assert asked_for(log, Cut(protocol="leave-last-out")) == {0: {1}, 2: {2}}


@given(st.integers(0, 1000))
def test_of_one_time_the_last_is_drawn_by_chance(seed: int) -> None:
    """The id does not say which of several items of one time is held out, and the same seed draws the same."""
    log = make_log([(user, item, 1.0) for user in range(60) for item in range(3)])
    last = [items.pop() for items in asked_for(log, Cut(protocol="leave-last-out", seed=seed)).values()]
    assert last == [items.pop() for items in asked_for(log, Cut(protocol="leave-last-out", seed=seed)).values()]
    assert set(last) == {0, 1, 2}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7), st.integers(0, 30)), min_size=8, max_size=60))
def test_every_event_is_on_one_side_and_no_pair_on_both(rows: list[tuple[int, int, int]]) -> None:
    """A random share and leave-last-out hold pairs out whole; every user keeps an item; nothing is lost."""
    log = make_log([(0, 0, 0.0), (0, 1, 1.0), (0, 2, 2.0), (1, 1, 2.0), *rows])
    for protocol in ("random", "leave-last-out"):
        found = split(log, Cut(protocol=protocol, share=0.5))
        assert len(found.train) + len(found.test) == len(log)
        assert not wanted(found.train, log) & wanted(found.test, log)
        assert set(found.train.users) == set(log.users)


def test_a_session_asks_after_each_event_what_comes_next() -> None:
    """The sessions that begin in the holdout ask for each next item, knowing only what came before it."""
    log = make_log(
        [(0, 0, 0), (0, 1, 0.001), (1, 1, 1), (1, 0, 1.001), (0, 0, 9), (0, 1, 9.001), (0, 1, 9.002), (0, 2, 9.003)]
    )
    questions = split(log, Cut(protocol="sessions", holdout_days=5)).questions
    assert questions.wanted.indices.tolist() == [1, 2]
    assert [questions.items[a:b].tolist() for a, b in zip(questions.starts, questions.starts[1:], strict=False)] == [
        [0],
        [0, 1],
    ]
    assert [set(row.indices.tolist()) for row in questions.past] == [{0}, {0, 1}]
    assert set(questions.users) == {-1}


def test_sessions_are_those_of_the_file_or_end_with_a_pause() -> None:
    """A session's number belongs to its user; without one a pause of 30 minutes ends a session."""
    minutes = 1 / 1440
    rows = [(0, 0, 0.0), (0, 1, 20 * minutes), (0, 2, 51 * minutes), (1, 0, 0.0), (1, 1, 10 * minutes)]
    log = make_log(rows)
    assert by_session(log, 30).users[np.argsort(log.users, kind="stable")].tolist() == [0, 0, 1, 2, 2]
    named = make_log(rows, sessions=[7, 7, 7, 7, -1])
    found = by_session(named, 30).users
    assert len(set(found[named.users == 0].tolist())) == 1
    assert len(set(found.tolist())) == 3


def test_a_core_leaves_only_those_with_enough() -> None:
    """In a 2-core every user and every item has two partners or more, and repeats count once."""
    log = make_log([(0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 3), (2, 1, 4), (2, 2, 5), (3, 0, 6), (3, 0, 7)])
    found = core(log, 2)
    assert wanted(found, log) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert len(core(log, 3)) == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_log_that_cannot_be_split_is_refused_with_the_way_out(protocol: str) -> None:
    """One user, no event, nothing good, and one time for all are told at once, each with what to do."""
    cut = Cut(protocol=protocol, holdout_days=-1, share=2.0, gap_minutes=0)  # type: ignore[arg-type]
    log = make_log([(0, 0, 5), (0, 0, 5)], kind=EVENT_TYPES.index("dismiss"))
    with pytest.raises(InvalidInput) as refused:
        split(log, cut)
    text = str(refused.value)
    for words in ("holdout_days", "share", "gap_minutes", "one user", "one item", "none is a purchase"):
        assert words in text
    assert ("use random instead" in text) == (protocol in ("temporal", "sessions"))
    with pytest.raises(InvalidInput, match="there are none"):
        split(log.where(np.zeros(2, np.bool_)), Cut(protocol=protocol))  # type: ignore[arg-type]


def test_a_side_that_would_be_empty_is_refused() -> None:
    """A holdout longer than the log, and one in which nobody is new to anything, are refused with the option."""
    log = make_log([(0, 0, 0), (1, 1, 1), (0, 0, 9), (1, 1, 9)])
    with pytest.raises(InvalidInput, match="--holdout-days"):
        split(log, Cut(holdout_days=100))
    with pytest.raises(InvalidInput, match="nobody wants anything new"):
        split(log, Cut(holdout_days=5))


def test_views_are_learned_from_but_not_wanted_where_people_buy() -> None:
    """With purchases in the log only they are asked for; in a log of views the views are."""
    log = make_log([(0, 0, 0), (1, 1, 1), (0, 1, 9), (1, 0, 9)])
    views = make_log([(0, 0, 0), (1, 1, 1), (0, 1, 9), (1, 0, 9)], kind=VIEW)
    assert asked_for(views, Cut(holdout_days=5)) == {0: {1}, 1: {0}}
    kinds = log.kinds.copy()
    kinds[-1] = VIEW
    mixed = Log(log.user_ids, log.item_ids, log.users, log.items, log.times, kinds, log.values, log.sessions)
    assert asked_for(mixed, Cut(holdout_days=5)) == {0: {1}}
