"""The full record of a decision: all that it was made from, and what came of it, in a few kilobytes.

Two zlib streams of JSON, one after the other. The first holds what is known before the transaction (candidates among
it), so that no other write waits while it is packed; the second what the transaction found.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from tidings_core.errors import StorageFailed
from tidings_core.events import Event
from tidings_core.features import SCHEMA_HASH
from tidings_core.model import Answer, Considered, Query, Snapshot
from tidings_core.ranked import RankedItem
from tidings_core.tables import Float32
from tidings_server.application.filter_record import pack_filter
from tidings_server.application.write_push import Draft

FORMAT = 1
LEVEL = 1
"""Of zlib. Most of a record is float32 noise, which no level makes smaller."""
MAX_MOVED = 10
"""So many items that a rule moved are kept."""
MAX_EXCLUDED = 1000
"""So many of the items that a question excludes are kept."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a decision is made from. `time` is Unix milliseconds; `question`, `answer`, `snapshot` None: none was asked.

    `k` is the number of items that were wanted; a question may ask for some more.
    """

    decision_id: str
    time: int
    user_id: str
    cause: str
    event: Event | None = None
    serving_config: str = ""
    release_id: str = ""
    profile_version: int = 0
    k: int = 0
    question: Query | None = None
    answer: Answer | None = None
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a decision: `offset` of the push that was sent, or the `reason` why none was.

    `draft` is that push or, when it was in words already, the one that was held back. `limit` and `used` are the cap of
    a day and what was used of it before; `latency` maps a stage to milliseconds.
    """

    reason: str
    limit: int
    used: int
    draft: Draft | None = None
    offset: int = 0
    detail: str = ""
    latency: Mapping[str, float] = field(default_factory=dict)


def pack_basis(basis: Basis) -> bytes:
    """The first part of a record."""
    answer, snapshot = basis.answer, basis.snapshot
    fields: dict[str, Any] = {
        "format": FORMAT,
        "decision_id": basis.decision_id,
        "time": basis.time,
        "user_id": basis.user_id,
        "cause": basis.cause,
        "event": None if basis.event is None else asdict(basis.event),
        "serving_config": basis.serving_config,
        "release_id": basis.release_id,
        "profile_version": basis.profile_version,
        "k": basis.k,
        "degraded": [] if answer is None else [asdict(one) for one in answer.degraded],
    }
    if basis.question is not None:
        fields["question"] = _question(basis.question)
    if answer is not None and answer.considered is not None and snapshot is not None:
        fields["candidates"] = _candidates(answer.considered, snapshot)
        fields["features"] = _features(answer.considered, len(answer.items), snapshot)
        fields["moves"] = _moves(answer.considered, len(answer.items), snapshot)
    return _pack(fields)


def pack_record(basis: bytes, outcome: Outcome, snapshot: Snapshot | None) -> bytes:
    """The whole record, from its packed first part."""
    draft = outcome.draft
    fields = {
        "outcome": "suppressed" if outcome.reason else "sent",
        "reason": outcome.reason,
        "detail": outcome.detail,
        "cap": {"limit": outcome.limit, "used": outcome.used},
        "chosen": [] if draft is None else _chosen(draft.item_ids, draft.items, snapshot),
        "push_id": "" if draft is None or outcome.reason else draft.push_id,
        "offset": outcome.offset,
        "title": "" if draft is None else draft.title,
        "body": "" if draft is None else draft.body,
        "url": "" if draft is None else draft.url,
        "latency_ms": {stage: round(milliseconds, 3) for stage, milliseconds in outcome.latency.items()},
    }
    return basis + _pack(fields)


def pack_answer(basis: Basis) -> bytes:
    """The whole record of an answer that was given to who asked for it, and nothing sent."""
    items = () if basis.answer is None else basis.answer.items
    ids = [] if basis.snapshot is None else _item_ids([item.row for item in items], basis.snapshot)
    fields = {"outcome": "answered", "reason": "", "detail": "", "chosen": _chosen(ids, items, basis.snapshot)}
    return pack_basis(basis) + _pack(fields)


def read_record(content: bytes) -> dict[str, Any]:
    """A record as plain values that fit JSON. Raises StorageFailed when it is damaged.

    `candidates`, when items were recommended, holds `item_ids` in the order of the answer, which goes on after the
    items that were asked for, `scores` (those that the rules began from; `ranked` says whether they are the ranker's),
    the `rules` by name, and for each source, in `sources` what it said of each candidate and in `places` at which place
    from 1, None where it did not propose it. `features`, of the first of them: `schema` (the feature schema's
    hash), `user`, and for each item a row of `item` and of `pair`. `moves` holds for each rule that worked on the order
    its `rule`, a name, and `items`: of those it moved furthest the places from 1 before and after. `question` holds
    what was asked. `chosen` holds for each item its `item_id`, `score`, `sources` (name to score) and `reasons`
    (`code`, `item_id`, `text`). `latency_ms`
    tells how long it `waited` since it was called for, and how long it took to `recommend` and to `compose`; `outcome`
    is "sent", "suppressed" or, for an answer to Recommend, "answered". Of a push that was held back when it was in
    words already, `chosen`, `title`, `body` and `url` are what it would have said.
    """
    try:
        first = zlib.decompressobj()
        fields: dict[str, Any] = json.loads(first.decompress(content))
        if fields.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        fields.update(json.loads(zlib.decompress(first.unused_data)))
        candidates = fields.get("candidates")
        if candidates is not None:
            candidates["scores"] = _unpack_floats(candidates["scores"])
            count = len(candidates["scores"])
            packed = candidates["sources"]
            candidates["sources"] = {
                name: _spread(present, _unpack_floats(said), count) for name, (present, said, _) in packed.items()
            }
            candidates["places"] = {
                name: _spread(present, (np.frombuffer(base64.b64decode(ranks), "<u4") + 1).tolist(), count)
                for name, (present, _, ranks) in packed.items()
            }
            features = fields["features"]
            features["user"] = _unpack_floats(features["user"])
            for block in ("item", "pair"):
                features[block] = [_unpack_floats(row) for row in features[block]]
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageFailed(f"the record of a decision is damaged: {error}") from error
    return fields


def _item_ids(rows: Sequence[int], snapshot: Snapshot) -> list[str]:
    return [snapshot.items[row] for row in rows]


def _question(query: Query) -> dict[str, Any]:
    excluded = list(query.exclude_item_ids)
    return {
        "k": query.k,
        "context_item_ids": list(query.context_item_ids),
        "exclude_item_ids": excluded[:MAX_EXCLUDED],
        "excluded": len(excluded),
        "query": query.search,
        "category": query.category,
        "tags": sorted(query.tags),
        "filter": pack_filter(query.filter),
        "liked_item_ids": list(query.liked_item_ids),
        "disliked_item_ids": list(query.disliked_item_ids),
        "vector": None if query.vector is None else query.vector.tolist(),
    }


def _features(considered: Considered, count: int, snapshot: Snapshot) -> dict[str, Any]:
    """What a ranker sees of the user, and of the first `count` items."""
    places = considered.order[:count]
    return {
        "schema": SCHEMA_HASH,
        "user_attributes": list(snapshot.user_attributes),
        "user": _floats(considered.user),
        "item": [_floats(row) for row in snapshot.item_features[considered.rows[places]]],
        "pair": [_floats(row) for row in considered.pair[places]],
    }


def _moves(considered: Considered, count: int, snapshot: Snapshot) -> list[dict[str, Any]]:
    """The rules that worked on the scores' order, in turn, each with the items of the answer that it moved furthest."""
    found = []
    for (_, before), (rule, after) in pairwise(considered.steps):
        was, now = np.argsort(before), np.argsort(after)
        moved = np.flatnonzero((was != now) & (np.minimum(was, now) < count))
        furthest = moved[np.argsort(-np.abs(was - now)[moved], kind="stable")][:MAX_MOVED]
        names = _item_ids(considered.rows[furthest].tolist(), snapshot)
        places = zip((was[furthest] + 1).tolist(), (now[furthest] + 1).tolist(), strict=True)
        found.append({"rule": rule, "items": dict(zip(names, places, strict=True))})
    return found


def _candidates(considered: Considered, snapshot: Snapshot) -> dict[str, Any]:
    order = considered.order
    present, said, ranks = considered.present[order], considered.said[order], considered.ranks[order]
    return {
        "item_ids": _item_ids(considered.rows[order].tolist(), snapshot),
        "scores": _floats(considered.scores[order]),
        # For each source a bit for each candidate, whether it proposed it, and scores and places of those it did.
        "sources": {
            name: (
                base64.b64encode(np.packbits(present[:, at]).tobytes()).decode(),
                _floats(said[present[:, at], at]),
                base64.b64encode(ranks[present[:, at], at].astype("<u4").tobytes()).decode(),
            )
            for at, name in enumerate(considered.sources)
        },
        "rules": [rule for rule, _ in considered.steps[1:]],
        "ranked": considered.ranked,
    }


def _chosen(
    item_ids: Sequence[str], items: Sequence[RankedItem | int], snapshot: Snapshot | None
) -> list[dict[str, Any]]:
    return [
        {
            "item_id": item_id,
            "score": item.score,
            "sources": dict(item.sources),
            "reasons": [
                {
                    "code": reason.code,
                    "item_id": "" if reason.item_row < 0 or snapshot is None else snapshot.items[reason.item_row],
                    "text": reason.text,
                }
                for reason in item.reasons
            ],
        }
        if isinstance(item, RankedItem)
        else {"item_id": item_id}
        for item_id, item in zip(item_ids, items, strict=True)
    ]


def _pack(fields: Mapping[str, Any]) -> bytes:
    return zlib.compress(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode(), LEVEL)


def _floats(values: Float32) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _unpack_floats(packed: str) -> list[float]:
    values: list[float] = np.frombuffer(base64.b64decode(packed), "<f4").tolist()
    return values


def _spread(present: str, given: Sequence[float], count: int) -> list[float | None]:
    """The values of those that a source proposed, None for the others."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(present), np.uint8), count=count)
    values = iter(given)
    return [next(values) if bit else None for bit in bits.tolist()]
