"""What stands of an item does not depend on the order in which a shop's words arrive."""

from hypothesis import given
from hypothesis import strategies as st

from tidings_core.catalogue import PARTS, ItemState, Word

times = st.integers(1, 6)
words = st.one_of(
    st.builds(lambda time, text: Word("i", time, described=text), times, st.binary(min_size=1, max_size=2)),
    st.builds(
        lambda time, text, vector: Word("i", time, described=text, vector=vector, space="s"),
        times,
        st.binary(min_size=1, max_size=2),
        st.binary(min_size=4, max_size=4),
    ),
    st.builds(lambda time: Word("i", time), times),
    st.builds(
        lambda time, parts: Word("i", time, parts=parts),
        times,
        st.dictionaries(st.sampled_from(PARTS), st.sampled_from([0.0, 1.0, 2.5]), min_size=1),
    ),
)


def after(said: list[Word]) -> ItemState:
    """What stands after words in an order."""
    state = ItemState()
    for word in said:
        state = state.after(word)
    return state


@given(st.lists(words, max_size=8).flatmap(lambda said: st.tuples(st.just(said), st.permutations(said))))
def test_the_order_of_arrival_does_not_matter(orders: tuple[list[Word], list[Word]]) -> None:
    """Late, early, with equal times: the same words leave the same state."""
    first, second = orders
    assert after(first) == after(second)


@given(st.lists(words, min_size=1, max_size=8), st.data())
def test_saying_something_again_changes_nothing(said: list[Word], data: st.DataObject) -> None:
    """A word that was taken in is known, and what is known is stored and read unchanged."""
    state = after(said)
    again = data.draw(st.sampled_from(said))
    assert state.after(again) == state
    assert ItemState.decode(state.encode()) == state


@given(st.lists(words, max_size=8))
def test_the_newest_word_of_each_part_stands(said: list[Word]) -> None:
    """Against the plain rule: the newest description or deletion, and of each part the newest said after it."""
    state = after(said)
    whole = [word for word in said if not word.parts]
    time = max((word.time for word in whole), default=0)
    assert state.time == time
    assert state.deleted == any(word.deletes and word.time == time for word in whole)
    for name in PARTS:
        later = [(word.time, word.parts[name]) for word in said if name in word.parts and word.time > time]
        assert state.parts.get(name) == max(later, default=None)
    vectors = [(word.time, word.vector) for word in said if word.vector]
    assert (state.vector_time, state.vector) == max(vectors, default=(0, b""))


def test_an_older_word_never_wins() -> None:
    """Neither over a newer description, nor over a deletion, nor over a newer price."""
    state = after([Word("i", 5, described=b"new"), Word("i", 7, parts={"price": 3.0})])
    for older in (Word("i", 4, described=b"old"), Word("i", 4), Word("i", 6, parts={"price": 9.0})):
        assert state.after(older) == state
        assert not state.holds(older)
    assert state.holds(Word("i", 5, described=b"new"))
    assert state.after(Word("i", 8)).deleted
