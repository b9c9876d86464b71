"""What a profile says in the terms of a release."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import NOW, make_world
from tidings_core.events import Event, EventItem, EventType
from tidings_core.filters import AnyOf, Filter
from tidings_core.model import EMPTY_HISTORY, SERVING_CONFIGS, History, Person, Query, ServingConfig, Snapshot
from tidings_core.person import CATEGORIES, INTERESTS, view
from tidings_core.profile import EMPTY, Profile, fold
from tidings_core.recommend import recommend
from tidings_core.subjects import excluded
from tidings_core.tables import Float32, Int32, Int64

WORLD = make_world()
SNAPSHOT = WORLD.snapshot()
ROWS = np.arange(300, dtype=np.int32)
USER = 7
NEVER = 290
"""An item that user 7 has not bought."""


def event(
    ago: float,
    type: EventType = "view",
    items: tuple[int, ...] = (),
    category: str = "",
    query: str = "",
    value: float | None = None,
) -> tuple[Event, list[int]]:
    """An event some seconds before NOW; an item's number is its item_no."""
    name = f"{type}-{ago}-{items}-{category}-{query}"
    things = tuple(EventItem(str(item)) for item in items)
    return Event(name, type, "u", round((NOW - ago) * 1000), things, category, query, value), list(items)


def seen(*events: tuple[Event, list[int]], rows: Int32 = ROWS, snapshot: Snapshot = SNAPSHOT, user: int = -1) -> Person:
    """The person that events make."""
    return view(fold(EMPTY, events), rows, snapshot, user)


def past(user: int = USER) -> History:
    """What the release says a user bought."""
    assert SNAPSHOT.histories is not None
    return SNAPSHOT.histories[user]


def test_somebody_without_a_profile_is_what_the_release_says() -> None:
    """The history and interests are the release's, in its order; the rest is empty; nothing is folded in."""
    person = seen(user=USER)
    np.testing.assert_array_equal(person.history.rows, past().rows)
    np.testing.assert_array_equal(person.interests, past().rows)
    assert person.vector is None
    assert person.known
    nobody = seen()
    assert not nobody.known
    for name in ("interests", "unbought", "returned", "seen", "blocked", "searches", "categories"):
        assert len(getattr(nobody, name)) == 0
    assert nobody.vector is None


def test_what_the_log_and_the_release_say_was_bought_is_joined() -> None:
    """One entry per item, the later time; purchases after the training come on top of those it counted."""
    snapshot = replace(SNAPSHOT, trained_until=NOW - 1000.0)
    first, second = past().rows[:2].tolist()
    person = seen(
        event(10, "purchase", (first,)),
        event(5000, "purchase", (second,)),
        event(4000, "purchase", (second,)),
        event(20, "purchase", (NEVER,)),
        snapshot=snapshot,
        user=USER,
    )
    rows, times, counts = (column.tolist() for column in history(person))
    found = {row: (time, count) for row, time, count in zip(rows, times, counts, strict=True)}
    assert found[first] == (int(NOW - 10), 2.0)
    assert found[second] == (int(NOW - 4000), 2.0)
    assert found[NEVER] == (int(NOW - 20), 1.0)
    assert set(found) == {*past().rows.tolist(), NEVER}
    assert person.history.rows[:3].tolist() == [first, NEVER, second]
    assert person.history.counts.dtype == np.float32


def test_who_bought_three_and_gave_one_back_still_has_it() -> None:
    """It counts as bought as long as one is kept."""
    three = Event("a", "purchase", "u", round((NOW - 50) * 1000), (EventItem("x", 3),))
    one, rest = (
        Event(name, "return", "u", round((NOW - ago) * 1000), (EventItem("x", quantity),))
        for name, ago, quantity in (("b", 40, 1), ("c", 30, 2))
    )
    kept = seen((three, [NEVER]), (one, [NEVER]))
    assert (kept.history.rows.tolist(), kept.returned.tolist()) == ([NEVER], [])
    gone = seen((three, [NEVER]), (one, [NEVER]), (rest, [NEVER]))
    assert (gone.history.rows.tolist(), gone.returned.tolist()) == ([], [NEVER])


def history(person: Person) -> tuple[Int32, Int64, Float32]:
    """Rows, times and counts of a person's history."""
    return person.history.rows, person.history.times, person.history.counts


def test_what_was_given_back_is_no_longer_in_the_history_but_is_known() -> None:
    """It neither seeds what goes with it nor describes the user; bought again, it is bought."""
    first = int(past().rows[0])
    events = [event(50, "purchase", (NEVER,)), event(40, "return", (NEVER,)), event(30, "return", (first,))]
    person = seen(*events, user=USER)
    assert sorted(person.returned.tolist()) == sorted([NEVER, first])
    assert not {NEVER, first} & {*person.history.rows.tolist(), *person.interests.tolist()}
    again = seen(*events, event(10, "purchase", (NEVER,)), user=USER)
    assert again.returned.tolist() == [first]
    assert int(again.history.rows[0]) == int(again.interests[0]) == NEVER


def test_who_bought_nearly_everything_still_gets_the_rest() -> None:
    """What was bought is prepared once, with the person, and no answer holds it; all else is as with few purchases."""
    kept = {2, 77, 140, 201, 299}
    bought = tuple(row for row in range(300) if row not in kept)
    person = seen(event(10, "purchase", bought), user=USER)
    assert set(person.many) == {"bought"}
    assert person.many["bought"].rows.rows().tolist() == sorted({*bought, *past().rows.tolist()})
    assert seen(event(10, "purchase", (1, 2, 3)), user=USER).many == {}
    query = Query(f"user-{USER}", SERVING_CONFIGS["for-you"], 20, person=person)
    answer = recommend([query], SNAPSHOT, NOW)[0]
    assert {item.row for item in answer.items} == kept - set(past().rows.tolist())
    query = replace(query, filter=Filter(must_not=(AnyOf("category", ("group-5",)),)), exclude_item_ids=["item-2"])
    answer = recommend([query], SNAPSHOT, NOW)[0]
    assert {item.row for item in answer.items} == {row for row in kept - {2} if WORLD.group_of_item[row] != 5}


def test_interests_are_what_was_liked_or_bought_newest_first_and_once() -> None:
    """Good events of every kind, purchases of release and log; not what says nothing of an item."""
    person = seen(
        event(60, "view", (1, 2)),
        event(50, "click", (3,)),
        event(40, "add_to_cart", (4,)),
        event(30, "rating", (5,), value=4.0),
        event(20, "view", (1,)),
        event(15, "impression", (6,)),
        event(12, "rating", (8,), value=1.0),
        event(11, "remove_from_cart", (9,)),
        event(10, "purchase", (NEVER,)),
        user=USER,
    )
    assert person.interests.tolist()[:6] == [NEVER, 1, 5, 4, 3, 2]
    assert person.interests.tolist()[6:] == past().rows.tolist()
    assert person.interest_times[0] == NOW - 10
    assert (np.diff(person.interest_times) <= 0).all()


@pytest.mark.parametrize("bad", ["dismiss", "see_less", "return", "rating"])
def test_a_bad_word_ends_an_interest_until_there_is_a_good_one_again(bad: EventType) -> None:
    """What was waved away, given back or badly rated is no interest; what is looked at again is, unless blocked."""
    ended = [event(30, "view", (1,)), event(20, bad, (1,), value=2.5 if bad == "rating" else None)]
    assert seen(*ended).interests.tolist() == []
    assert seen(*ended).unbought.tolist() == []
    again = seen(*ended, event(10, "view", (1,)))
    # Somebody who asked to see less of it, or gave it back, is not brought back to it by a look.
    expected = [1] if bad in ("dismiss", "rating") else []
    assert again.interests.tolist() == again.unbought.tolist() == expected


def test_what_was_looked_at_is_unbought_until_bought_or_taken_out_of_the_cart() -> None:
    """Newest first; whichever came last decides."""
    person = seen(
        event(90, "view", (1, 2, 3, 4, 5)),
        event(80, "purchase", (1,)),
        event(70, "add_to_cart", (2, 3)),
        event(60, "remove_from_cart", (2,)),
        event(50, "click", (4,)),
        event(40, "purchase", (6,)),
        event(30, "view", (6,)),
        event(20, "impression", (7,)),
    )
    assert person.unbought.tolist() == [6, 4, 3, 5]
    assert person.unbought_times.tolist() == [NOW - 30, NOW - 50, NOW - 70, NOW - 90]


def test_what_the_release_knows_to_be_bought_later_is_not_unbought() -> None:
    """The log may lack the purchase."""
    first = int(past().rows[0])
    before, after = (NOW - float(past().times[0]) + seconds for seconds in (60.0, -60.0))
    assert seen(event(before, "view", (first,)), user=USER).unbought.tolist() == []
    assert seen(event(after, "view", (first,)), user=USER).unbought.tolist() == [first]


def test_blocked_are_the_items_and_all_items_of_the_categories() -> None:
    """However the category is written; what is blocked is neither interest nor unbought, nor its category looked at."""
    person = seen(
        event(30, "view", (2, 3)),
        event(20, "see_less", (3,)),
        event(10, "see_less", category="GROUP-2"),
    )
    assert person.blocked.tolist() == sorted([3, *np.flatnonzero(WORLD.group_of_item == 2).tolist()])
    assert person.interests.tolist() == person.unbought.tolist() == []
    assert [name for name, _ in person.categories] == ["group-3"]
    assert person.vector is None


def test_searches_are_the_newest_each_once() -> None:
    """However they were written; what holds no word is none."""
    person = seen(
        event(50, "search", query="lamp"),
        event(40, "search", query="red mugs"),
        event(30, "search", query="Red Mug"),
        event(20, "search", query="手机"),
        event(15, "search", query="?!"),
        event(10, "search", query="clock"),
    )
    assert person.searches == (("clock", NOW - 10), ("手机", NOW - 20), ("Red Mug", NOW - 30))
    assert person.known


def test_categories_are_those_most_looked_at_lately() -> None:
    """By themselves or by their items; what is newer counts more, what the catalogue lacks nothing."""
    day = 86_400.0
    person = seen(
        event(3 * day, "view", (1,)),
        event(3 * day + 1, "view", (7,)),
        event(3 * day + 2, "view", (13,)),
        event(100, "view", category="Group-2"),
        event(50, "view", (2,)),
        event(40, "view", category="group-4"),
        event(20, "view", category="no such category"),
        event(10, "impression", (5,)),
    )
    # Two fresh looks, then one, then three of three days ago.
    assert person.categories == (("group-2", NOW - 50), ("group-4", NOW - 40), ("group-1", NOW - 3 * day))
    assert len(seen(*(event(at, "view", (at,)) for at in range(6))).categories) == CATEGORIES


def test_one_event_counts_once_for_a_category() -> None:
    """A view of four items of a group says no more than one of one."""
    person = seen(event(30, "view", (1, 7, 13, 19)), event(20, "view", (2,)), event(10, "view", (8,)))
    assert [name for name, _ in person.categories] == ["group-2", "group-1"]


def test_a_stranger_gets_a_vector_towards_what_they_like() -> None:
    """Its nearest items are of the group that was looked at."""
    person = seen(event(20, "view", (4,)), event(10, "add_to_cart", (10,)))
    assert person.vector is not None
    best = np.argsort(-(SNAPSHOT.item_vectors @ person.vector))[:20]
    assert set(WORLD.group_of_item[best]) == {4}


def test_a_known_user_is_folded_in_only_when_something_was_liked_since_the_training() -> None:
    """Else the release's vector stands, and with vectors of another trainer always."""
    old, new = replace(SNAPSHOT, trained_until=NOW), replace(SNAPSHOT, trained_until=NOW - 100.0)
    liked = event(50, "view", (1,))
    assert seen(liked, snapshot=old, user=USER).vector is None
    assert seen(event(50, "search", query="mug"), snapshot=new, user=USER).vector is None
    assert seen(liked, snapshot=replace(new, fold_in=None), user=USER).vector is None
    assert seen(liked, snapshot=replace(new, fold_in=None)).vector is not None
    vector = seen(liked, snapshot=new, user=USER).vector
    assert vector is not None
    alone = seen(liked, snapshot=new).vector
    assert alone is not None
    # What was bought before counts too.
    own = WORLD.group_of_item == WORLD.group_of_user[USER]
    assert (SNAPSHOT.item_vectors[own] @ vector).mean() > (SNAPSHOT.item_vectors[own] @ alone).mean() + 0.1


def test_items_without_a_row_are_left_out() -> None:
    """Unknown to the release (-1), or numbered after its table of rows was made."""
    rows = np.array([5, -1, 7], np.int32)
    person = seen(
        event(40, "view", (0, 1, 2, 3)),
        event(30, "purchase", (1, 2, 900)),
        event(20, "see_less", (1, 0, 900)),
        rows=rows,
    )
    assert person.history.rows.tolist() == [7]
    assert person.blocked.tolist() == [5]
    assert person.seen.tolist() == [5, 7]
    assert seen(event(1, "view", (0,)), rows=np.empty(0, np.int32)).interests.tolist() == []


def test_a_release_without_catalogue_or_histories_still_makes_a_person() -> None:
    """What it lacks is left out."""
    bare = make_world(bare=True).snapshot()
    person = seen(
        event(40, "view", (1,)),
        event(30, "search", query="mug"),
        event(20, "view", category="group-1"),
        event(10, "see_less", category="group-2"),
        snapshot=bare,
        user=3,
    )
    assert (person.interests.tolist(), person.categories, len(person.blocked)) == ([1], (), 0)
    assert person.searches


types: st.SearchStrategy[EventType] = st.sampled_from(
    ["view", "click", "add_to_cart", "remove_from_cart", "purchase", "return", "dismiss", "see_less", "rating"]
)
happened = st.lists(
    st.tuples(types, st.lists(st.integers(-1, 310), min_size=1, max_size=3).map(tuple), st.integers(0, 10)), max_size=25
)


@settings(max_examples=100, deadline=None)
@given(happened, st.integers(-1, 59))
def test_whatever_happened_a_person_is_whole(events: list[tuple[EventType, tuple[int, ...], int]], user: int) -> None:
    """Rows are inside the release, distinct, in order of time; what is blocked or given back appears nowhere else."""
    made = [event(at + number / 1000, type, items, value=2.0) for number, (type, items, at) in enumerate(events)]
    profile: Profile = fold(EMPTY, made)
    person = view(profile, ROWS, SNAPSHOT, user)
    for rows in (person.interests, person.unbought, person.history.rows, person.returned, person.blocked, person.seen):
        assert rows.dtype == np.int32
        assert len(set(rows.tolist())) == len(rows)
        assert ((rows >= 0) & (rows < 300)).all()
    gone = {*person.blocked.tolist(), *person.returned.tolist()}
    assert not gone & {*person.interests.tolist(), *person.unbought.tolist()}
    assert not {*person.returned.tolist()} & {*person.history.rows.tolist()}
    assert len(person.interests) <= INTERESTS
    for times in (person.interest_times, person.unbought_times, person.history.times):
        assert (np.diff(times) <= 0).all()
    assert (person.history.counts > 0).all()
    bought = dict(zip(person.history.rows.tolist(), person.history.times.tolist(), strict=True))
    for row, time in zip(person.unbought.tolist(), person.unbought_times.tolist(), strict=True):
        assert time > bought.get(row, 0.0)
    assert person.vector is None or np.isfinite(person.vector).all()


def test_what_was_rated_low_is_left_out_until_it_is_rated_better() -> None:
    """The newest rating counts, in whatever order they came; one that is only middling leaves nothing out."""
    low, better = event(20, "rating", (1,), value=1.5), event(10, "rating", (1,), value=2.0)
    person = seen(event(30, "view", (1,)), low)
    assert (person.disliked.tolist(), person.interests.tolist(), person.unbought.tolist()) == ([1], [], [])
    assert seen(better, low).disliked.tolist() == seen(low, better).disliked.tolist() == []
    query = Query("u", ServingConfig("bare", ()), 5, person=person)
    kept_out = dict(
        excluded(query, np.empty(0, np.int32), np.empty(0, np.int32), EMPTY_HISTORY, query.serving, SNAPSHOT)
    )
    assert kept_out["disliked"].tolist() == [1]


def test_searches_are_remembered_beyond_the_newest_events() -> None:
    """What was searched for is not forgotten because much was looked at since."""
    views = [event(at, "view", (2,)) for at in range(200)]
    assert [query for query, _ in seen(event(500, "search", query="red mug"), *views).searches] == ["red mug"]
