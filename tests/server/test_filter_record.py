"""Filters in records come back as they went in."""

import json

from hypothesis import given
from hypothesis import strategies as st

from tidings_core.filters import AllOf, AnyOf, Condition, Filter, Is, Range
from tidings_server.application.filter_record import pack_filter, read_filter

texts = st.lists(st.text(max_size=5), max_size=3).map(tuple)
bounds = st.none() | st.floats(allow_nan=False, allow_infinity=False)
simple = st.one_of(
    st.builds(AnyOf, st.text(max_size=5), texts),
    st.builds(AllOf, st.text(max_size=5), texts),
    st.builds(Range, st.text(max_size=5), st.sampled_from(["number", "time"]), bounds, bounds, bounds, bounds),
    st.builds(Is, st.text(max_size=5), st.booleans()),
)


def _filters(conditions: st.SearchStrategy[Condition]) -> st.SearchStrategy[Filter]:
    some = st.lists(conditions, max_size=3).map(tuple)
    return st.builds(Filter, some, st.none() | some, some)


@given(st.none() | _filters(st.recursive(simple, _filters, max_leaves=5)))
def test_a_filter_comes_back_as_it_went_in(wanted: Filter | None) -> None:
    """Through JSON, however it is nested."""
    assert read_filter(json.loads(json.dumps(pack_filter(wanted)))) == wanted
