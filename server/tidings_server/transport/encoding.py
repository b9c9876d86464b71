"""Answers to bytes: each item's encoded Item is spliced in as the release holds it, the per-user part written by hand.

Protobuf allows it: fields may come in any order, and a message is the concatenation of its fields. What is written by
hand is written for all items of a batch at once: as a table of bytes with a row for each item, of which each row uses
some columns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tidings.v1 import recommendation_service_pb2 as pb
from tidings_core.model import Cause, Degradation, Snapshot
from tidings_core.ranked import REASON_CODES, Items, Ranked, ReasonCode
from tidings_core.tables import BytesTable, Float32, Int64, UInt8

REASONS: Mapping[ReasonCode, int] = {
    "matches_taste": pb.REASON_CODE_MATCHES_TASTE,
    "similar_to_bought": pb.REASON_CODE_SIMILAR_TO_BOUGHT,
    "similar_to_viewed": pb.REASON_CODE_SIMILAR_TO_VIEWED,
    "similar_to_context": pb.REASON_CODE_SIMILAR_TO_CONTEXT,
    "trending": pb.REASON_CODE_TRENDING,
    "searched": pb.REASON_CODE_SEARCHED,
    "in_category": pb.REASON_CODE_IN_CATEGORY,
    "recently_viewed": pb.REASON_CODE_RECENTLY_VIEWED,
    "bought_together": pb.REASON_CODE_BOUGHT_TOGETHER,
}
CAUSES: Mapping[Cause, "pb.DegradationCause"] = {
    "no_release": pb.DEGRADATION_CAUSE_NO_RELEASE,
    "unknown_user": pb.DEGRADATION_CAUSE_UNKNOWN_USER,
    "unknown_context": pb.DEGRADATION_CAUSE_UNKNOWN_CONTEXT,
    "no_consent": pb.DEGRADATION_CAUSE_NO_CONSENT,
    "erased": pb.DEGRADATION_CAUSE_ERASED,
    "deadline": pb.DEGRADATION_CAUSE_DEADLINE,
    "failed": pb.DEGRADATION_CAUSE_FAILED,
}

# Tag bytes: field number and wire type, as recommendation_service.proto has them; tests compare with protobuf's own.
_ITEMS = b"\x0a"  # RecommendResponse.items
_ITEM = b"\x0a"  # RecommendedItem.item
_SCORE = b"\x15"  # RecommendedItem.score
_SOURCES = b"\x1a"  # RecommendedItem.sources
_REASONS = b"\x22"  # RecommendedItem.reasons
_SOURCE = b"\x0a"  # SourceScore.source
_SOURCE_SCORE = b"\x15"  # SourceScore.score
_CODE = b"\x08"  # Reason.code
_REASON_ITEM = b"\x12"  # Reason.item_id
_REASON_TEXT = b"\x1a"  # Reason.text
DECISION_TOKEN = b"\x72"  # RecommendResponse.decision_token
_RESPONSES = b"\x0a"  # BatchRecommendResponse.responses


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL = [_encode_varint(value) for value in range(4096)]


def varint(value: int) -> bytes:
    """A length or number that is not negative, as protobuf writes it."""
    return _SMALL[value] if value < 4096 else _encode_varint(value)


def _delimited(tag: bytes, content: bytes) -> bytes:
    return tag + varint(len(content)) + content


_CODES = np.array([0, *(REASONS[code] for code in REASON_CODES)], np.uint8)


class _Table:
    """A row of bytes for each of n items, in columns of which a row may use some, written from left to right."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._columns: list[tuple[Any, Any]] = []

    def put(self, content: Any, used: Any = True) -> None:
        """Columns u8[n, W], or the same bytes for all, in the rows (bool[n, 1], or bool[n, W]) that use them."""
        if isinstance(content, bytes):
            content = np.frombuffer(content, np.uint8)
        self._columns.append((content, used))

    def varint(self, numbers: Int64, used: Any = True) -> None:
        """Numbers i64[n] that are not negative, as protobuf writes them."""
        size = len(varint(int(numbers.max(initial=0))))
        shifted = numbers[:, None] >> (7 * np.arange(size))
        more = np.zeros(shifted.shape, np.bool_)
        np.greater(shifted[:, 1:], 0, out=more[:, :-1])
        there = np.ones(shifted.shape, np.bool_)
        there[:, 1:] = more[:, :-1]
        self.put((shifted & 127 | more * 128).astype(np.uint8), there & used)

    def floats(self, numbers: Float32, used: Any = True) -> None:
        """Numbers f32[n], four bytes each."""
        self.put(np.ascontiguousarray(numbers, "<f4").view(np.uint8).reshape(-1, 4), used)

    def cells(self) -> tuple[UInt8, Any]:
        """All columns u8[n, W], and which of them each row uses, bool[n, W]."""
        widths = [content.shape[-1] for content, _ in self._columns]
        cells, there = np.empty((self._count, sum(widths)), np.uint8), np.empty((self._count, sum(widths)), np.bool_)
        at = 0
        for width, (content, used) in zip(widths, self._columns, strict=True):
            cells[:, at : at + width], there[:, at : at + width] = content, used
            at += width
        return cells, there


def _sizes(numbers: Int64) -> Int64:
    """How many bytes protobuf writes for numbers i64[n] that are not negative."""
    return np.searchsorted(_LARGER, numbers, side="right") + 1


_LARGER = 1 << (7 * np.arange(1, 9, dtype=np.int64))


def _encode(answers: Sequence[Items], snapshot: Snapshot) -> list[bytes]:
    """The `items` of RecommendResponses, one for each of some answers of one batch."""
    ranked, counts = answers[0].ranked, [items.size for items in answers]
    width = ranked.rows.shape[1]
    at = np.flatnonzero(np.arange(width) < np.array(counts)[:, None])
    at += ((np.array([items.user for items in answers]) - np.arange(len(answers))) * width).take(at // max(width, 1))
    payloads = snapshot.payloads.views(ranked.rows.reshape(-1).take(at).tolist())
    inner = np.fromiter(map(len, payloads), np.int64, len(payloads))
    cells, there = _per_user(ranked, at, snapshot)
    outer = 1 + _sizes(inner) + inner + np.count_nonzero(there, axis=1)
    head = _Table(len(at))
    head.put(_ITEMS)
    head.varint(outer)
    head.put(_ITEM)
    head.varint(inner)
    head_cells, head_there = head.cells()
    written = np.concatenate([head_cells, cells], axis=1)[np.concatenate([head_there, there], axis=1)].data
    # Row by row: the head of an item, its Item, then what is written of it and at once the head of the next.
    ends = np.cumsum(outer + 1 + _sizes(outer) - inner)
    cuts = (ends - (outer - 1 - _sizes(inner) - inner)).tolist()
    ends = ends.tolist()
    bodies, first = [], 0
    for count in counts:
        last = first + count
        starts = [ends[first - 1] if first else 0, *cuts[first : last - 1]]
        parts = list(map(written.__getitem__, map(slice, starts, cuts[first:last]))) if count else []
        joined: list[Any] = [None] * (2 * count)
        joined[::2], joined[1::2] = parts, payloads[first:last]
        if count:
            joined.append(written[cuts[last - 1] : ends[last - 1]])
        bodies.append(b"".join(joined))
        first = last
    return bodies


def _per_user(ranked: Ranked, at: Int64, snapshot: Snapshot) -> tuple[UInt8, Any]:
    """RecommendedItems but for their `item`, at places i64[n]: bytes u8[n, W], and which of them each uses."""
    made = _Table(len(at))
    made.put(_SCORE)
    made.floats(ranked.scores.reshape(-1).take(at))
    user, place = divmod(at, ranked.rows.shape[1])
    present, said = ranked.present[user, place], ranked.said[user, place]
    for column, name in enumerate(ranked.sources):
        given = present[:, column, None]
        named = _delimited(_SOURCE, name.encode()) + _SOURCE_SCORE
        made.put(_SOURCES + varint(len(named) + 4) + named, given)
        made.floats(said[:, column], given)
    for number in range(ranked.reasons.shape[2]):
        _put_reason(made, ranked, number, at, snapshot)
    return made.cells()


def _put_reason(made: _Table, ranked: Ranked, number: int, at: Int64, snapshot: Snapshot) -> None:
    """Write one of the `reasons` of each item: those that have it."""
    codes = _CODES[ranked.reasons[:, :, number].reshape(-1).take(at)][:, None]
    given = codes > 0
    seeds = ranked.seeds[:, :, number].reshape(-1).take(at)
    texts = {place: text for place, text in ranked.texts.items() if place[2] == number}
    parts = []
    if (seeds >= 0).any():
        cells, lengths = snapshot.items.encoded(np.maximum(seeds, 0))
        parts.append((_REASON_ITEM, cells, lengths, given & (seeds >= 0)[:, None]))
    if texts:
        width = ranked.rows.shape[1]
        words = [texts.get((user, place, number), "").encode() for user, place in zip(*divmod(at, width), strict=True)]
        cells, lengths = BytesTable.of(words).padded(np.arange(len(words)))
        parts.append((_REASON_TEXT, cells, lengths, given & (lengths > 0)[:, None]))
    made.put(_REASONS, given)
    if parts:
        size = np.full(len(at), 2)
        for _, _, lengths, used in parts:
            size += np.where(used[:, 0], 1 + _sizes(lengths) + lengths, 0)
        made.varint(size, given)
    else:
        made.put(b"\x02", given)
    made.put(_CODE, given)
    made.put(codes, given)
    for tag, cells, lengths, used in parts:
        made.put(tag, used)
        made.varint(lengths, used)
        made.put(cells, used & (np.arange(cells.shape[1]) < lengths[:, None]))


def encode_answers(answers: Sequence[Items], snapshot: Snapshot) -> list[bytes]:
    """The `items` of RecommendResponses, one for each answer."""
    bodies = [b""] * len(answers)
    batches: dict[int, list[int]] = {}
    for place, items in enumerate(answers):
        if items:
            batches.setdefault(id(items.ranked), []).append(place)
    for places in batches.values():
        for place, body in zip(places, _encode([answers[place] for place in places], snapshot), strict=True):
            bodies[place] = body
    return bodies


def add_degraded(head: "pb.RecommendResponse", degraded: Sequence[Degradation]) -> None:
    """Write down what an answer had to do without."""
    for one in degraded:
        head.degraded.add(cause=CAUSES[one.cause], stage=one.stage, detail=one.detail)


def encode_batch(responses: Sequence[bytes]) -> bytes:
    """The bytes of a BatchRecommendResponse from those of its responses."""
    return b"".join(part for body in responses for part in (_RESPONSES, varint(len(body)), body))
