"""What may be found: filters and what always holds, honoured by every source, which still gives all it can."""

import dataclasses
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import NOW, make_world
from tidings_core import sources
from tidings_core import subjects as subjects_module
from tidings_core.attributes import Attribute, Flag, Number, Time
from tidings_core.filters import AnyOf, Filter, Is, Range, passing
from tidings_core.index import FilterPlan, build_index
from tidings_core.kept import Kept
from tidings_core.model import SERVING_CONFIGS, Person, Query, ServingConfig, Snapshot, SourceUse
from tidings_core.recommend import recommend
from tidings_core.selection import MINUTE, filter_faults, select, standing
from tidings_core.subjects import resolve

ITEMS = 300
WORLD = make_world(items=ITEMS)
CHANCE = np.random.default_rng(7)
STOCK = CHANCE.integers(0, 6, ITEMS).astype(np.float64)


def shop(**attributes: object) -> Snapshot:
    """The world with further attributes, found by inverted lists all of which are searched."""
    base = WORLD.snapshot()
    index = build_index("IVF8,Flat", base.item_vectors, base.metric, {"nprobe": 8}).with_plan(FilterPlan(40))
    return dataclasses.replace(base, index=index, attributes={**base.attributes, **attributes})  # type: ignore[dict-item]


CHOSEN = Flag((np.arange(ITEMS) % 50 == 0).astype(np.int8))
SHOP = shop(stock=Number(np.where(STOCK == 0, np.nan, STOCK)), chosen=CHOSEN)
IDS = [f"item-{row}" for row in range(ITEMS)]
EVERYTHING = ServingConfig("all", tuple(SourceUse(name, 20) for name in sources.SOURCES))
PERSON = Person(
    interests=np.arange(10, dtype=np.int32),
    interest_times=np.full(10, NOW),
    unbought=np.arange(40, 60, dtype=np.int32),
    unbought_times=np.full(20, NOW - 100.0),
    searches=(("group thing", NOW - 10.0),),
    categories=(("group-2", NOW - 10.0), ("group-3", NOW - 20.0)),
    vector=WORLD.parts.user_vectors[4],
)
wanted = st.one_of(
    st.none(),
    st.builds(lambda low: Filter(must=(Range("price", gte=low),)), st.sampled_from([5.0, 50.0, 90.0, 99.0])),
    st.builds(lambda group: Filter(must=(AnyOf("category", (f"group-{group}",)),)), st.integers(0, 5)),
    st.just(Filter(must=(Is("chosen", True),))),
    st.just(Filter(must=(Range("stock", gt=3.0),), must_not=(AnyOf("categories", ("group-1",)),))),
    st.just(Filter(must=(Range("price", gt=1000.0),))),
)
excluded = st.one_of(st.just(0), st.integers(0, 40), st.integers(100, 290))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(wanted, excluded), min_size=1, max_size=3), st.integers(1, 40), st.sampled_from([0, 256]))
def test_every_source_gives_the_best_that_a_user_may_have(
    asked: list[tuple[Filter | None, int]], k: int, many: int
) -> None:
    """As if all that a source knows were asked for and what may not be had left out: the same items, as many as k."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subjects_module, "MANY", many)
        queries = [
            Query(
                "user-4",
                EVERYTHING,
                k,
                exclude_item_ids=IDS[:out],
                filter=one,
                person=PERSON,
            )
            for one, out in asked
        ]
        subjects, _ = resolve(queries, EVERYTHING, SHOP, NOW)
        free, _ = resolve([Query("user-4", EVERYTHING, k, person=PERSON)], EVERYTHING, SHOP, NOW)
        for name in sources.offered(SHOP):
            every = sources.propose(name, free, SHOP, ITEMS).rows[0].tolist()
            found = sources.propose(name, subjects, SHOP, k).rows
            for user, (one, out) in enumerate(asked):
                mask = np.ones(ITEMS, np.bool_) if one is None else passing(one, SHOP.attributes, ITEMS)
                mask[:out] = False
                best = [row for row in every if row >= 0 and mask[row]][:k]
                assert [row for row in found[user].tolist() if row >= 0] == best, name


@given(st.floats(-200, 200))
@settings(max_examples=100, deadline=None)
def test_what_cannot_be_bought_now_is_never_found(offset: float) -> None:
    """Unavailable, stock 0, unpublished and expired items stay out; an expired one leaves as its minute begins."""
    times = NOW + np.array([-120.0, -60.0, -1.0, 0.0, 1.0, 60.0, 119.0, np.nan])
    columns = np.meshgrid(np.arange(8), np.arange(8), [1, 0, -1], [0.0, 2.0, np.nan], indexing="ij")
    published, expires, available, stock = (column.ravel()[:ITEMS] for column in columns)
    snapshot = shop(
        publish_time=Time(times[published.astype(int)]),
        expire_time=Time(times[expires.astype(int)]),
        available=Flag(available.astype(np.int8)),
        stock=Number(stock),
    )
    now = NOW + offset
    minute = math.floor(now / MINUTE) * MINUTE
    selected = select((), None, snapshot, now)
    assert selected is not None
    for row in range(ITEMS):
        start, end = times[int(published[row])], times[int(expires[row])]
        here = available[row] != 0 and stock[row] != 0.0 and not start > minute and not end < minute + MINUTE
        assert selected.rows.contains(np.array([row]))[0] == here
        if here:
            assert not start > now
            assert not end <= now


def test_when_everything_may_be_found_nothing_is_selected() -> None:
    """A catalogue without stock, availability and times costs nothing."""
    assert select((), None, WORLD.snapshot(), NOW) is None
    assert select((Filter(must=(Range("price", gt=0.0),)),), None, WORLD.snapshot(), NOW) is None


def test_what_was_selected_is_remembered_until_time_changes_it() -> None:
    """The same filter gives the same selection, made once, until an item is published or expires."""
    snapshot = shop(publish_time=Time(np.where(np.arange(ITEMS) == 5, NOW + 3600.0, np.nan)))
    cheap = Filter(must=(Range("price", lt=50.0),))
    first = select((cheap,), None, snapshot, NOW)
    assert select((Filter(must=(Range("price", lt=50.0),)),), None, snapshot, NOW + 1800.0) is first
    later = select((cheap,), None, snapshot, NOW + 3661.0)
    assert first is not None
    assert later is not None
    assert (later.rows - first.rows).rows().tolist() in ([5], [])
    assert later is not first
    assert dataclasses.replace(snapshot).selections is not snapshot.selections


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 50)), max_size=40))
def test_memory_is_bounded_and_what_was_used_last_stays(asked: list[tuple[int, int]]) -> None:
    """However much is asked for, no more bytes are kept than may be; the newest that fits is kept."""
    kept = Kept[int](100)
    sizes: dict[int, int] = {}
    for key, size in asked:
        sizes.setdefault(key, size)
        assert kept.get(key, lambda: sizes[key], lambda value: value) == sizes[key]  # noqa: B023 - called at once
        assert kept.nbytes <= 100
        assert kept.get(key, lambda: -1, lambda _: 0) == sizes[key]


def test_a_category_that_is_browsed_is_searched_like_a_filter() -> None:
    """`within_category` leads the vectors to the category's items: the answer is full of good ones."""
    answer = recommend([Query("user-4", SERVING_CONFIGS["browse"], 30, category="GROUP-2")], SHOP, NOW)[0]
    assert {WORLD.group_of_item[item.row] for item in answer.items} == {2}
    by_vector = [item for item in answer.items if "ann" in dict(item.sources)]
    assert len(by_vector) >= 20
    assert recommend([Query("user-4", SERVING_CONFIGS["browse"], 5, category="none")], SHOP, NOW)[0].items == ()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_when_fewer_pass_than_are_wanted_exactly_those_come(count: int) -> None:
    """The filter passes three items: three are the answer."""
    dear = np.sort(WORLD.prices)[::-1].astype(np.float64)
    only = Filter(must=(Range("price", gt=float(dear[count])),))
    answer = recommend([Query("user-4", SERVING_CONFIGS["for-you"], 20, filter=only)], SHOP, NOW)[0]
    bought = SHOP.histories[4].rows.tolist() if SHOP.histories is not None else []
    wanted_rows = {row for row in range(ITEMS) if WORLD.prices[row] > dear[count] and row not in bought}
    assert {item.row for item in answer.items} == wanted_rows


def test_filters_of_config_and_query_and_what_is_excluded_combine() -> None:
    """All of them hold at once, and the answer is as full as they leave it."""
    config = dataclasses.replace(SERVING_CONFIGS["for-you"], filter=Filter(must=(Range("stock", gte=2.0),)))
    others = Filter(must_not=(AnyOf("category", ("group-1",)),))
    query = Query("user-4", config, 25, exclude_item_ids=IDS[::2], filter=others)
    answer = recommend([query], SHOP, NOW)[0]
    assert len(answer.items) == 25
    for item in answer.items:
        assert STOCK[item.row] >= 2
        assert item.row % 2 == 1
        assert WORLD.group_of_item[item.row] != 1


def test_a_config_whose_filter_does_not_fit_the_release_answers_nothing_and_says_why() -> None:
    """What the shop wanted kept back is not shown because a release forgot an attribute."""
    config = dataclasses.replace(SERVING_CONFIGS["for-you"], filter=Filter(must=(Is("organic", True),)))
    answer = recommend([Query("user-4", config, 5)], SHOP, NOW)[0]
    assert answer.items == ()
    (told,) = answer.degraded
    assert (told.cause, told.stage) == ("failed", "filter")
    assert "the filter of for-you does not fit this release: must[0].attribute: is 'organic'" in told.detail


def test_a_filter_that_does_not_fit_is_a_fault_of_its_query() -> None:
    """It is named with its place, as is all else that is wrong."""
    bad = Query("u", EVERYTHING, filter=Filter(must=(Is("organic", True), Range("category", lt=1.0))))
    assert [field for field, _ in subjects_module.faults(bad, SHOP)] == [
        "filter.must[0].attribute",
        "filter.must[1].number",
    ]
    assert subjects_module.faults(Query("u", EVERYTHING, filter=Filter()), SHOP)[0][0] == "filter"


def test_what_always_holds_is_a_filter_without_faults() -> None:
    """It asks nothing of items that lack what it looks at."""
    nothing: dict[str, Attribute] = {
        "available": Flag.of([None]),
        "stock": Number.of([None]),
        "publish_time": Time.of([None]),
    }
    nothing["publish_time"] = nothing["expire_time"] = Time.of([None])
    assert passing(standing(NOW), nothing, 1).tolist() == [True]


def test_what_is_remembered_is_counted_with_the_filters_themselves() -> None:
    """A bound in bytes holds when every request brings texts of its own: those are kept too, in keys and in faults."""
    snapshot = shop()
    texts = [tuple(f"request {number} text {at}" for at in range(1000)) for number in range(3)]
    filters = [Filter(must=(Filter(should=(AnyOf("category", own),)),)) for own in texts]
    size = sum(map(sys.getsizeof, texts[0]))
    for number, wanted in enumerate(filters, start=1):
        select([wanted], None, snapshot, NOW)
        assert snapshot.selections.nbytes >= number * size
    before = snapshot.selections.nbytes
    filter_faults(filters[0], snapshot)
    assert snapshot.selections.nbytes >= before + size
