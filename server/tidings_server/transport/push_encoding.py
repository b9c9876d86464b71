"""Pushes to bytes, and the catalogue's items to what a template sees.

A push is put together from what is encoded already, for protobuf allows fields in any order: a text for many people is
encoded once, each item's Item is as the release holds it, and `offset` and `prev_offset` are appended by whoever sends.
"""

from functools import lru_cache

from google.protobuf.timestamp_pb2 import Timestamp

from tidings.v1 import item_pb2
from tidings.v1 import push_service_pb2 as pb
from tidings.v1 import recommendation_service_pb2 as recommendation_pb
from tidings_core.model import Snapshot
from tidings_core.ranked import RankedItem
from tidings_server.application.compose import ShownItem
from tidings_server.application.write_push import Draft
from tidings_server.transport.encoding import REASONS, varint

TEXTS = 256
"""So many texts are kept encoded, those used last: some 10 kB each at most."""

# Tag bytes: field number and wire type; tests compare with protobuf's own.
_ITEMS = b"\x4a"  # Push.items
_ITEM = b"\x0a"  # RecommendedItem.item


def encode_push(draft: Draft, snapshot: Snapshot | None) -> bytes:
    """The bytes of a Push without its offsets. The rows of the draft's items are the snapshot's."""
    head = pb.Push(
        push_id=draft.push_id,
        create_time=timestamp(draft.created),
        expire_time=timestamp(draft.expires) if draft.expires else None,
        event_id=draft.event_id,
    )
    text = _encode_text(
        draft.collapse_key,
        draft.title,
        draft.body,
        draft.url,
        tuple(draft.data.items()),
        draft.trigger,
        draft.release_id,
        draft.serving_config,
    )
    parts = [head.SerializeToString(), text]
    for item_id, item in zip(draft.item_ids, draft.items, strict=True):
        row = item.row if isinstance(item, RankedItem) else item
        if snapshot is not None and row >= 0:
            shown = snapshot.payloads[row]
        else:
            shown = item_pb2.Item(item_id=item_id).SerializeToString()
        why = _why(item, snapshot) if isinstance(item, RankedItem) else b""
        size = varint(len(shown))
        parts += (_ITEMS, varint(len(_ITEM) + len(size) + len(shown) + len(why)), _ITEM, size, shown, why)
    return b"".join(parts)


@lru_cache(TEXTS)
def _encode_text(
    collapse_key: str,
    title: str,
    body: str,
    url: str,
    data: tuple[tuple[str, str], ...],
    trigger: str,
    release_id: str,
    serving_config: str,
) -> bytes:
    """What is the same in a Push to one person and to another."""
    return pb.Push(
        collapse_key=collapse_key,
        title=title,
        body=body,
        url=url,
        data=dict(data),
        trigger=trigger,
        release_id=release_id,
        serving_config=serving_config,
    ).SerializeToString()


def show_item(snapshot: Snapshot, row: int) -> ShownItem:
    """What the catalogue shows of the item of a row."""
    item = item_pb2.Item.FromString(snapshot.payloads[row])
    return ShownItem(
        item_id=item.item_id or snapshot.items[row],
        title=item.title,
        description=item.description,
        categories=tuple(item.categories),
        brand=item.brand,
        price=item.price if item.HasField("price") else None,
        currency=item.currency,
        image_url=item.image_url,
        url=item.url,
        attributes=dict(item.attributes),
    )


def timestamp(milliseconds: int) -> Timestamp:
    """The time of Unix milliseconds."""
    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def _why(item: RankedItem, snapshot: Snapshot | None) -> bytes:
    """A RecommendedItem without its item."""
    return recommendation_pb.RecommendedItem(
        score=item.score,
        sources=[recommendation_pb.SourceScore(source=name, score=score) for name, score in item.sources],
        reasons=[
            recommendation_pb.Reason(
                code=REASONS[reason.code],  # type: ignore[arg-type]
                item_id="" if reason.item_row < 0 or snapshot is None else snapshot.items[reason.item_row],
                text=reason.text,
            )
            for reason in item.reasons
        ],
    ).SerializeToString()
