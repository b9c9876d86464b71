"""What is kept of a person as lines of JSON, with ids in place of numbers and nothing packed."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from tidings.v1 import event_pb2, push_service_pb2
from tidings_core import preferences, stated
from tidings_core.profile import Profile
from tidings_core.stored import Entry, StoredEvent, StoredPush, Timer
from tidings_server.application.contacts import KnownContact
from tidings_server.application.decision_record import read_record
from tidings_server.application.documents import UserDocument
from tidings_server.application.export_profile import Kept, KeptDocument

ItemIds = Callable[[Sequence[int]], list[str]]
"""The ids of items by item_no. Raises StorageFailed."""


def lines(user_id: str, now: int, kept: Iterator[Kept], item_ids: ItemIds) -> Iterator[bytes]:
    """The lines of an export at `now` (Unix milliseconds). Raises StorageFailed."""
    counts: dict[str, int] = {}
    yield _line({"kind": "about", "user_id": user_id, "export_time": now, "times": "Unix milliseconds"})
    for one in kept:
        told = _told(one, item_ids)
        counts[told["kind"]] = counts.get(told["kind"], 0) + 1
        yield _line(told)
    yield _line({"kind": "end", "counts": counts})


def _told(one: Kept, item_ids: ItemIds) -> dict[str, Any]:
    match one:
        case KeptDocument(version, document):
            return {"kind": "document", "version": version, **_document(document, item_ids)}
        case KnownContact():
            contact_id = one.contact_id.hex()
            return {"kind": "contact", **asdict(one), "contact_id": contact_id}
        case StoredEvent():
            event = _message(event_pb2.Event.FromString(one.content))
            return {"kind": "event", "number": one.number, "flags": int(one.flags), **event}
        case StoredPush():
            push = _message(push_service_pb2.Push.FromString(one.content))
            return {"kind": "push", "expires": one.expires, **push, "offset": one.offset}
        case Entry():
            record = read_record(one.record) if one.record else None
            return {"kind": "decision", **asdict(one), "record": record}
        case Timer():
            return {"kind": "timer", "key": one.key, "due": one.due, "content": json.loads(one.content)}


def _document(document: UserDocument, item_ids: ItemIds) -> dict[str, Any]:
    return {
        "applied_through": document.applied_through,
        "newest_offset": document.newest_offset,
        "lost_through": document.lost_through,
        "acknowledged": document.acknowledged,
        "devices": document.devices,
        "push_times": document.push_times,
        "fired": document.fired,
        "pushed_items": document.pushed_items,
        "erased_through": document.erased_through,
        "profile": _profile(document.profile, item_ids),
    }


def _profile(known: Profile, item_ids: ItemIds) -> dict[str, Any]:
    recent = {item for event in known.recent for item in event.items}
    leaned = {item for _, item, _ in known.leanings}
    numbers = sorted({*known.bought, *known.seen, *known.blocked_items, *known.ratings, *recent, *leaned})
    name = dict(zip(numbers, item_ids(numbers), strict=True))
    return {
        "first_time": known.first_time,
        "last_time": known.last_time,
        "totals": known.totals,
        "days": [[type, day, count] for (type, day), count in sorted(known.days.items())],
        "weights": [[type, number, weight] for (type, number), weight in sorted(known.weights.items())],
        "recent": [
            {
                "type": event.type,
                "time": event.time,
                "item_ids": [name[item] for item in event.items],
                "category": event.category,
                "query": event.query,
                "value": event.value,
            }
            for event in known.recent
        ],
        "bought": [{"item_id": name[item], **entry._asdict()} for item, entry in known.bought.items()],
        "seen": _named(known.seen, name),
        "leanings": [[time, name[item], weight] for time, item, weight in known.leanings],
        "ratings": _named(known.ratings, name),
        "searches": known.searches,
        "minutes": known.minutes,
        "blocked_items": _named(known.blocked_items, name),
        "blocked_categories": known.blocked_categories,
        "spent": known.spent / 100,
        "stated": stated.to_json(known.stated),
        "preferences": preferences.to_json(known.preferences),
    }


def _named(by_item: Mapping[int, Any], name: Mapping[int, str]) -> dict[str, Any]:
    return {name[item]: value for item, value in by_item.items()}


def _message(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return told


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
