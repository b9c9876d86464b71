"""Answers to bytes: each item's encoded Item is spliced in as the release holds it, the per-user part written by hand.

Protobuf allows it: fields may come in any order, and a message is the concatenation of its fields.
"""

import struct
from collections.abc import Mapping, Sequence

from tidings.v1 import recommendation_service_pb2 as pb
from tidings_core.candidates import PINNED
from tidings_core.model import Answer, Cause, Reason, ReasonCode, Snapshot
from tidings_core.sources import SOURCES

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
_RESPONSES = b"\x0a"  # BatchRecommendResponse.responses
_FLOAT = struct.Struct("<f").pack


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


def _source_head(name: str) -> bytes:
    """All of a `sources` entry but the four bytes of its score."""
    named = _delimited(_SOURCE, name.encode()) + _SOURCE_SCORE
    return _SOURCES + varint(len(named) + 4) + named


_SOURCE_HEADS = {name: _source_head(name) for name in (*SOURCES, PINNED)}
_BARE_REASONS = {code: _delimited(_REASONS, _CODE + varint(number)) for code, number in REASONS.items()}


def encode_answer(answer: Answer, snapshot: Snapshot | None, head: "pb.RecommendResponse") -> bytes:
    """The bytes of a RecommendResponse: `head` has all but items and degraded, which come from the answer."""
    for degraded in answer.degraded:
        head.degraded.add(cause=CAUSES[degraded.cause], stage=degraded.stage, detail=degraded.detail)
    rest = head.SerializeToString()
    if snapshot is None or not answer.items:
        return rest
    parts: list[bytes | memoryview] = []
    for item, payload in zip(answer.items, snapshot.payloads.views([item.row for item in answer.items]), strict=True):
        per_user = _SCORE + _FLOAT(item.score)
        for name, score in item.sources:
            per_user += _SOURCE_HEADS[name] + _FLOAT(score)
        for reason in item.reasons:
            bare = reason.item_row < 0 and not reason.text
            per_user += _BARE_REASONS[reason.code] if bare else _reason(reason, snapshot)
        size = varint(len(payload))
        parts += (_ITEMS, varint(1 + len(size) + len(payload) + len(per_user)), _ITEM, size, payload, per_user)
    parts.append(rest)
    return b"".join(parts)


def encode_batch(responses: Sequence[bytes]) -> bytes:
    """The bytes of a BatchRecommendResponse from those of its responses."""
    return b"".join(part for body in responses for part in (_RESPONSES, varint(len(body)), body))


def _reason(reason: Reason, snapshot: Snapshot) -> bytes:
    """A `reasons` entry that rests on an item or on words."""
    content = _CODE + varint(REASONS[reason.code])
    if reason.item_row >= 0:
        content += _delimited(_REASON_ITEM, snapshot.items[reason.item_row].encode())
    if reason.text:
        content += _delimited(_REASON_TEXT, reason.text.encode())
    return _delimited(_REASONS, content)
