"""What an export holds: events and recorded decisions as rows of a table, a row for each item."""

from collections.abc import Iterator, Mapping
from typing import Any

from tidings_core.events import Event
from tidings_core.stored import Entry
from tidings_server.application.decision_record import read_record

Row = Mapping[str, Any]


def event_rows(number: int, logged: Event, user_id: str) -> Iterator[Row]:
    """The rows of an event of a user: one for each item, or one without an item.

    `value` is that of the whole event, in each of its rows.
    """
    whole = {
        "number": number,
        "event_id": logged.event_id,
        "user_id": user_id,
        "timestamp": logged.time,
        "event_type": logged.type,
        "value": logged.value,
        "category": logged.category or None,
        "query": logged.query or None,
        "push_id": logged.push_id or None,
    }
    for item in logged.items:
        yield {**whole, "item_id": item.item_id, "quantity": item.quantity, "price": item.price}
    if not logged.items:
        yield {**whole, "item_id": None, "quantity": None, "price": None}


def decision_rows(number: int, entry: Entry, user_id: str) -> Iterator[Row]:
    """The rows of a decision for a user: one for each of its items, with the features as they were served, best first.

    A decision that recommended nothing has none. Raises StorageFailed when its record is damaged.
    """
    record = read_record(entry.record)
    features = record.get("features")
    if features is None:
        return
    found = record["candidates"]
    for place, (of_item, of_pair) in enumerate(zip(features["item"], features["pair"], strict=True)):
        yield {
            "number": number,
            "decision_id": entry.decision_id,
            "user_id": user_id,
            "timestamp": entry.time,
            "cause": entry.cause,
            "state": entry.state,
            "changed": entry.changed,
            "release_id": record["release_id"],
            "serving_config": record["serving_config"],
            "profile_version": record["profile_version"],
            "schema": features["schema"],
            "place": place + 1,
            "item_id": found["item_ids"][place],
            "score": found["scores"][place],
            "user_features": features["user"],
            "item_features": of_item,
            "pair_features": of_pair,
        }
