"""Spliced pushes parse to exactly the message that is built the plain way."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import make_world
from tidings.v1 import item_pb2
from tidings.v1 import push_service_pb2 as pb
from tidings.v1 import recommendation_service_pb2 as recommendation_pb
from tidings_core import sources
from tidings_core.model import Snapshot
from tidings_core.ranked import RankedItem, Reason
from tidings_core.tables import BytesTable
from tidings_server.application.compose import ShownItem
from tidings_server.application.write_push import Draft
from tidings_server.transport import push_encoding
from tidings_server.transport.encoding import REASONS
from tidings_server.transport.push_encoding import encode_push, show_item, timestamp

SNAPSHOT = make_world(items=300).snapshot()
FLOATS = st.floats(width=32, allow_nan=False)
ROWS = st.integers(0, 299)
REASON = st.builds(Reason, st.sampled_from(list(REASONS)), st.one_of(st.just(-1), ROWS), st.text(max_size=300))
SOURCES = st.lists(st.tuples(st.sampled_from(list(sources.SOURCES)), FLOATS), max_size=3).map(tuple)
RANKED = st.builds(RankedItem, ROWS, FLOATS, SOURCES, st.lists(REASON, max_size=3).map(tuple))
TIMES = st.integers(0, 2**42)


def draft(items: Sequence[RankedItem | int], **other: object) -> Draft:
    """A draft about these items; those without a row are called stranger-0 and so on."""
    rows = [item.row if isinstance(item, RankedItem) else item for item in items]
    ids = tuple(f"item-{row}" if row >= 0 else f"stranger-{at}" for at, row in enumerate(rows))
    fields = {
        "push_id": "p", "created": 1_700_000_000_123, "expires": 0, "title": "Title", "body": "", "url": "", **other,
    }  # fmt: skip
    return Draft(items=items, item_ids=ids, **fields)  # type: ignore[arg-type]


def plainly(made: Draft, snapshot: Snapshot | None) -> pb.Push:
    """The push built field by field."""
    push = pb.Push(
        push_id=made.push_id, create_time=timestamp(made.created), collapse_key=made.collapse_key, title=made.title,
        body=made.body, url=made.url, data=made.data, trigger=made.trigger, event_id=made.event_id,
        release_id=made.release_id, serving_config=made.serving_config,
    )  # fmt: skip
    if made.expires:
        push.expire_time.CopyFrom(timestamp(made.expires))
    for item_id, item in zip(made.item_ids, made.items, strict=True):
        row = item.row if isinstance(item, RankedItem) else item
        found = snapshot is not None and row >= 0
        shown = item_pb2.Item.FromString(SNAPSHOT.payloads[row]) if found else item_pb2.Item(item_id=item_id)
        entry = push.items.add(item=shown)
        if isinstance(item, RankedItem):
            entry.score = item.score
            for name, score in item.sources:
                entry.sources.add(source=name, score=score)
            for reason in item.reasons:
                item_id = SNAPSHOT.items[reason.item_row] if reason.item_row >= 0 else ""
                entry.reasons.add(code=REASONS[reason.code], item_id=item_id, text=reason.text)
    return push


@settings(max_examples=50)
@given(
    st.lists(st.one_of(RANKED, st.integers(-1, 299)), max_size=20),
    st.builds(dict, expires=st.one_of(st.just(0), TIMES), created=TIMES, title=st.text(max_size=256),
              body=st.text(max_size=500), data=st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=3),
              trigger=st.text(max_size=20), event_id=st.text(max_size=20), collapse_key=st.text(max_size=20)),
)  # fmt: skip
def test_a_spliced_push_is_the_message(items: list[RankedItem | int], other: dict[str, object]) -> None:
    """Items of an answer with their reasons, items the sender chose, and items no release shows."""
    made = draft(items, **other)
    assert pb.Push.FromString(encode_push(made, SNAPSHOT)) == plainly(made, SNAPSHOT)


def test_offsets_can_be_appended_to_the_bytes() -> None:
    """The same bytes serve every device: what differs comes behind."""
    made = draft([3], release_id="r")
    place = pb.Push(offset=7, prev_offset=5).SerializeToString()
    push = pb.Push.FromString(encode_push(made, SNAPSHOT) + place)
    assert (push.offset, push.prev_offset, push.title, push.items[0].item.item_id) == (7, 5, "Title", "item-3")


def test_without_a_release_items_are_shown_by_id() -> None:
    """A push can be sent before any release is there."""
    made = draft([-1, -1])
    push = pb.Push.FromString(encode_push(made, None))
    assert [item.item for item in push.items] == [item_pb2.Item(item_id=f"stranger-{at}") for at in range(2)]
    assert recommendation_pb.RecommendedItem(item=push.items[0].item) == push.items[0]


def test_a_template_sees_what_the_catalogue_shows() -> None:
    """Every display field of the item; a price that is not there is none, not 0."""
    full = item_pb2.Item(
        item_id="item-0", title="标题", description="d", categories=["a", "b"], brand="x", price=0.0, currency="EUR",
        image_url="i", url="u", attributes={"colour": "red"},
    )  # fmt: skip
    payloads = BytesTable.of([full.SerializeToString(), item_pb2.Item().SerializeToString()])
    snapshot = Snapshot(
        SNAPSHOT.items, SNAPSHOT.users, SNAPSHOT.item_vectors, SNAPSHOT.user_vectors, SNAPSHOT.metric, SNAPSHOT.index,
        SNAPSHOT.item_features, payloads, {},
    )  # fmt: skip
    assert show_item(snapshot, 0) == ShownItem(
        "item-0", "标题", "d", ("a", "b"), "x", 0.0, "EUR", "i", "u", {"colour": "red"}
    )
    assert show_item(snapshot, 1) == ShownItem("item-1")


def test_one_text_for_many_people_is_encoded_once() -> None:
    """What differs from one person to the next is not what takes the time."""
    push_encoding._encode_text.cache_clear()
    pushes = [pb.Push.FromString(encode_push(draft([1], push_id=f"p{n}", data={"a": "b"}), SNAPSHOT)) for n in range(9)]
    assert [push.push_id for push in pushes] == [f"p{n}" for n in range(9)]
    assert {(push.title, push.data["a"], push.items[0].item.item_id) for push in pushes} == {("Title", "b", "item-1")}
    assert push_encoding._encode_text.cache_info().misses == 1
