"""The full record of a decision, as it was written and as it is read back."""

from collections.abc import Sequence

import pytest

from tests.server.conftest import Clock
from tests.server.deciding.house import House, Open
from tidings_core.errors import StorageFailed
from tidings_core.features import SCHEMA_HASH
from tidings_core.model import Query
from tidings_server.application.decision_record import Basis, Outcome, pack_basis, pack_record, read_record
from tidings_server.application.plan_push import Ask
from tidings_server.application.recommend import Answers
from tidings_server.application.serving import Serving


def test_the_record_holds_what_was_decided(opened: Open, answering: Serving, clock: Clock) -> None:
    """Every candidate with its final score and what each source said of it; the chosen with their reasons; the cap."""
    kept: list[Answers] = []

    def keeping(ask: Ask) -> Ask:
        def asked(queries: Sequence[Query], deadlines: Sequence[float], *, keep: bool) -> Answers:
            assert keep
            kept.append(ask(queries, deadlines, keep=keep))
            return kept[-1]

        return asked

    with opened(ask_around=keeping) as house:
        event = house.act("user-1", "purchase", "item-8")
        clock.now += 0.5
        house.decide()
        (entry,), (push,) = house.entries("user-1"), house.pushes("user-1")
        record = house.record(entry)
    assert (entry.state, entry.cause, entry.push_id, entry.offset) == ("sent", "trigger:bought", push.push_id, 1)
    assert entry.time == house.now
    (answer,) = kept[0].answers
    assert not isinstance(answer, Exception)
    assert answer.considered is not None
    assert answering.release is not None
    considered, snapshot = answer.considered, answering.release.snapshot
    items, order = snapshot.items, considered.order
    assert record["candidates"]["item_ids"] == [items[row] for row in considered.rows[order].tolist()]
    assert record["candidates"]["item_ids"][: len(answer.items)] == [items[item.row] for item in answer.items]
    assert record["candidates"]["scores"] == considered.scores[order].tolist()
    for at, source in enumerate(considered.sources):
        there, said = considered.present[order, at].tolist(), considered.said[order, at].tolist()
        assert record["candidates"]["sources"][source] == [
            score if proposed else None for score, proposed in zip(said, there, strict=True)
        ]
    assert len(record["candidates"]["item_ids"]) > 20
    assert record["chosen"] == [
        {
            "item_id": items[item.row],
            "score": item.score,
            "sources": dict(item.sources),
            "reasons": [
                {"code": r.code, "item_id": items[r.item_row] if r.item_row >= 0 else "", "text": r.text}
                for r in item.reasons
            ],
        }
        for item in answer.items[:3]
    ]
    first = order[: len(answer.items)]
    assert record["features"] == {
        "schema": SCHEMA_HASH,
        "user": considered.user.tolist(),
        "user_attributes": [],
        "item": snapshot.item_features[considered.rows[first]].tolist(),
        "pair": considered.pair[first].tolist(),
    }
    assert record["question"]["context_item_ids"] == ["item-8"]
    assert record["question"]["exclude_item_ids"] == ["item-8"]
    assert record["event"]["event_id"] == event.event_id
    assert record["event"]["items"] == [{"item_id": "item-8", "quantity": 1, "price": None}]
    assert record["latency_ms"]["waited"] == 500.0
    assert {key: record[key] for key in ("decision_id", "time", "user_id", "cause", "k", "outcome", "reason")} == {
        "decision_id": entry.decision_id, "time": house.now, "user_id": "user-1", "cause": "trigger:bought", "k": 3,
        "outcome": "sent", "reason": "",
    }  # fmt: skip
    assert {key: record[key] for key in ("title", "body", "push_id", "offset", "serving_config", "release_id")} == {
        "title": push.title, "body": push.body, "push_id": push.push_id, "offset": 1, "serving_config": "goes-with",
        "release_id": push.release_id,
    }  # fmt: skip
    assert record["profile_version"] == 1
    assert record["cap"] == {"limit": 5, "used": 0}
    assert record["degraded"] == [
        {"cause": one.cause, "stage": one.stage, "detail": one.detail} for one in answer.degraded
    ]


def test_a_record_of_what_was_not_sent_says_what_there_was(house: House) -> None:
    """The event and the cap as it stood, without candidates when none were asked for."""
    for at in range(6):
        house.act("ann", "purchase", f"item-{8 + at}")
        house.decide()
    entry = house.entries("ann")[-1]
    record = house.record(entry)
    assert (record["outcome"], record["reason"], record["cap"]) == ("suppressed", "CAP_DAY", {"limit": 5, "used": 5})
    assert record["event"]["event_id"] == "event-6"
    assert "candidates" not in record
    assert record["chosen"] == []


def test_a_push_that_was_in_words_when_it_was_held_back_is_in_its_record(opened: Open) -> None:
    """Two decided together have place for one: the record of the other says what it would have been."""
    with opened(max_per_day=1) as house:
        house.act("ann", "purchase", "item-8")
        house.act("ann", "search", query="Group 4")
        house.decide()
        (late,) = (house.record(entry) for entry in house.entries("ann") if entry.reason)
    assert (late["outcome"], late["reason"], late["push_id"]) == ("suppressed", "CAP_DAY", "")
    assert late["title"] in ("For your Group 2 thing 8", "You searched for Group 4")
    assert len(late["chosen"]) == 3


def test_a_damaged_record_is_refused() -> None:
    """Cut short, or not a record at all."""
    whole = pack_record(pack_basis(Basis("d", 1, "u", "api")), Outcome("CAP_DAY", 1, 1), None)
    assert read_record(whole)["reason"] == "CAP_DAY"
    for damaged in (b"", b"x", whole[:10], whole[:-1], whole[: len(whole) // 2]):
        with pytest.raises(StorageFailed, match="damaged"):
            read_record(damaged)
