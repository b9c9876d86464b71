"""SendPush: what a shop writes itself, from the bytes of a request to the stream, the ledger and the answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.server.conftest import Clock, Shop
from tests.server.deciding.house import PATIENCE, House, Setting, open_house
from tidings.v1 import push_service_pb2 as pb
from tidings_core.errors import Conflict, InvalidInput, StorageFailed, TidingsError
from tidings_server.adapters.release_directory import ReleaseDirectory
from tidings_server.application.send_push import PushRequest
from tidings_server.application.serving import Serving
from tidings_server.application.write_push import push_id_of
from tidings_server.transport.calls import Call
from tidings_server.transport.send_push import SendPushHandler

TTL = 3600.0


@pytest.fixture
def house(tmp_path: Path, serving: Serving, directory: ReleaseDirectory, shop: Shop, clock: Clock) -> Iterator[House]:
    """A store, a release that answers, and a cap of 3."""
    serving.swap(directory.open(shop.a), serving.record.promoted(shop.a, 1.0))
    (tmp_path / "store").mkdir()
    with open_house(tmp_path / "store", serving, clock, Setting(max_per_day=3)) as house:
        yield house


def request(request_id: str = "r1", user_id: str = "ann", title: str = "Title", **other: object) -> pb.SendPushRequest:
    """A request that is fine."""
    return pb.SendPushRequest(request_id=request_id, user_id=user_id, title=title, **other)  # type: ignore[arg-type]


def answers(house: House, *requests: pb.SendPushRequest) -> list[pb.SendPushResponse | TidingsError]:
    """Send requests together."""
    handler = SendPushHandler(house.send, TTL)
    given = handler.send_push([Call(one.SerializeToString(), PATIENCE) for one in requests])
    return [one if isinstance(one, TidingsError) else pb.SendPushResponse.FromString(one) for one in given]


def sent(house: House, given: pb.SendPushRequest) -> pb.SendPushResponse:
    """Send one, which must not be refused."""
    (answer,) = answers(house, given)
    assert isinstance(answer, pb.SendPushResponse), answer
    return answer


def test_a_push_is_on_disk_when_it_is_answered(house: House) -> None:
    """In the user's stream and the ledger, all of it as it was given; subscribers are told."""
    given = request(
        body="Two\nlines", item_ids=["item-8", "unheard-of"], url="https://shop.example/", data={"a": "b"},
        ttl=Duration(seconds=60), collapse_key="order",
    )  # fmt: skip
    answer = sent(house, given)
    (push,) = house.pushes("ann")
    assert answer == pb.SendPushResponse(decision=pb.PUSH_DECISION_SENT, push_id=push.push_id, offset=1)
    assert push.push_id == push_id_of("api/r1")
    assert (push.title, push.body, push.url, dict(push.data), push.collapse_key) == (
        "Title", "Two\nlines", "https://shop.example/", {"a": "b"}, "order",
    )  # fmt: skip
    assert push.create_time.ToMilliseconds() == house.now
    assert push.expire_time.ToMilliseconds() == house.now + 60_000
    assert (push.trigger, push.event_id, push.release_id, push.serving_config) == ("", "", "", "")
    assert push.items[0].item.title == "Group 2 thing 8"
    assert push.items[1].item == pb.Push(items=[{"item": {"item_id": "unheard-of"}}]).items[0].item
    (entry,) = house.entries("ann")
    assert (entry.decision_id, entry.cause, entry.state, entry.offset) == ("api/r1", "api", "sent", 1)
    record = house.record(entry)
    assert (record["title"], record["cause"], record["cap"]) == ("Title", "api", {"limit": 3, "used": 0})
    assert [item["item_id"] for item in record["chosen"]] == ["item-8", "unheard-of"]
    assert house.published == [("ann", *house.store.pushes("ann", 0, 9), ())]
    assert house.document("ann").pushed_items == ("item-8", "unheard-of")
    assert house.counted.decisions == {("api", "sent"): 1}


def test_a_sender_that_does_not_say_gets_the_servers_time_to_live(house: House) -> None:
    """Unset means the setting."""
    sent(house, request())
    assert house.pushes("ann")[0].expire_time.ToMilliseconds() == house.now + int(TTL * 1000)


def test_the_same_request_again_sends_nothing(house: House) -> None:
    """It is answered as the first was, also with other words, also in the same batch, also when it was delivered."""
    first, again = answers(house, request(), request(title="Other words"))
    assert first == again
    house.write(lambda tx: tx.ledger.advance("ann", 0, 1, "delivered", house.now))
    assert sent(house, request(title="Later")) == first
    assert [push.title for push in house.pushes("ann")] == ["Title"]
    assert len(house.entries()) == len(house.published) == 1
    assert house.counted.decisions == {("api", "sent"): 1}


def test_a_suppressed_request_stays_suppressed(house: House, clock: Clock) -> None:
    """Its repetition on the next day is no new push."""
    for number in range(3):
        sent(house, request(f"r{number}"))
    suppressed = sent(house, request("late"))
    assert suppressed == pb.SendPushResponse(decision=pb.PUSH_DECISION_SUPPRESSED, reason=pb.SUPPRESS_REASON_CAP_DAY)
    clock.now += 86_400.0
    assert sent(house, request("late")) == suppressed
    assert len(house.pushes("ann")) == 3
    assert sent(house, request("new")).decision == pb.PUSH_DECISION_SENT


def test_the_record_of_a_suppressed_request_holds_its_message(house: House) -> None:
    """What would have been said, of which items; but no push id, as there is no such push."""
    for number in range(3):
        sent(house, request(f"r{number}"))
    sent(house, request("late", body="World", url="https://shop.example/", item_ids=["item-8", "unheard-of"]))
    record = house.record(house.entries("ann")[-1])
    assert (record["outcome"], record["reason"], record["push_id"], record["offset"]) == (
        "suppressed", "CAP_DAY", "", 0,
    )  # fmt: skip
    assert (record["title"], record["body"], record["url"]) == ("Title", "World", "https://shop.example/")
    assert record["chosen"] == [{"item_id": "item-8"}, {"item_id": "unheard-of"}]


def test_the_cap_counts_pushes_of_triggers_and_of_senders_together(house: House) -> None:
    """One user, one cap; another user has an own one."""
    house.act("ann", "purchase", "item-8")
    house.decide()
    made = answers(house, *(request(f"r{number}") for number in range(5)), request("other", "bob"))
    decisions = [one.decision for one in made if isinstance(one, pb.SendPushResponse)]
    assert decisions == [pb.PUSH_DECISION_SENT] * 2 + [pb.PUSH_DECISION_SUPPRESSED] * 3 + [pb.PUSH_DECISION_SENT]


def test_a_request_id_of_another_user_is_a_conflict(house: House) -> None:
    """It says so, and the other requests of the batch are answered."""
    sent(house, request())
    conflict, fine = answers(house, request(user_id="bob"), request("r2", "bob"))
    assert isinstance(conflict, Conflict)
    assert "'r1' was used for another user" in str(conflict)
    assert isinstance(fine, pb.SendPushResponse)
    assert len(house.pushes("bob")) == 1


def test_a_push_takes_the_place_of_an_older_one(house: House) -> None:
    """With the same key and not acknowledged."""
    first = sent(house, request(collapse_key="order"))
    sent(house, request("r2", title="Newer", collapse_key="order"))
    assert [push.title for push in house.pushes("ann")] == ["Newer"]
    assert house.published[-1][2] == (first.push_id,)
    assert house.outcomes() == ["collapsed", "sent"]


def test_pushes_can_be_sent_without_a_release(tmp_path: Path, serving: Serving, clock: Clock) -> None:
    """Items are shown by their ids then."""
    with open_house(tmp_path, serving, clock, Setting()) as house:
        sent(house, request(item_ids=["item-8"]))
        assert [item.item.item_id for item in house.pushes("ann")[0].items] == ["item-8"]
        assert house.pushes("ann")[0].items[0].item.title == ""


def test_a_damaged_document_fails_its_own_request_only(house: House) -> None:
    """With an error, and nothing half-written."""
    house.write(lambda tx: tx.users.put("ann", b"not a document", 0))
    failed, fine = answers(house, request(), request("r2", "bob"))
    assert isinstance(failed, StorageFailed)
    assert isinstance(fine, pb.SendPushResponse)
    assert house.store.pushes("ann", 0, 9) == []
    assert house.outcomes() == ["sent"]


LONG = "x" * 257


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        (request(request_id=""), "request_id", "has 0 bytes, must have 1 to 256"),
        (request(request_id=LONG), "request_id", "has 257 bytes"),
        (request(request_id="a\nb"), "request_id", "control character"),
        (request(user_id=""), "user_id", "must have 1 to 256"),
        (request(user_id="é" * 129), "user_id", "has 258 bytes"),
        (request(user_id="a\x7fb"), "user_id", "control character"),
        (request(title=""), "title", "must have 1 to 256"),
        (request(title=LONG), "title", "has 257 bytes"),
        (request(title="two\nlines"), "title", "control character"),
        (request(body="x" * 2049), "body", "has 2049 bytes, may have 2048"),
        (request(body="a\x00b"), "body", "control character"),
        (request(url="x" * 2049), "url", "has 2049 bytes, may have 2048"),
        (request(url="https://a\r\n"), "url", "control character"),
        (request(collapse_key=LONG), "collapse_key", "has 257 bytes"),
        (request(item_ids=["i"] * 21), "item_ids", "has 21 entries, may have 20"),
        (request(item_ids=["fine", ""]), "item_ids[1]", "must have 1 to 256"),
        (request(item_ids=["a\tb"]), "item_ids[0]", "control character"),
        (request(data={str(at): "" for at in range(33)}), "data", "has 33 entries, may have 32"),
        (request(data={"k": "x" * 4096}), "data", "has 4097 bytes, may have 4096"),
        (request(ttl=Duration()), "ttl", "is 0 s, must be 1 second to 30 days"),
        (request(ttl=Duration(seconds=-5)), "ttl", "is -5 s"),
        (request(ttl=Duration(seconds=30 * 86_400, nanos=1000)), "ttl", "30 days"),
    ],
)
def test_a_bad_request_is_refused_with_the_field_and_the_limit(
    house: House, given: pb.SendPushRequest, field: str, said: str
) -> None:
    """And changes nothing; the requests beside it are answered."""
    refused, fine = answers(house, given, request("fine", "bob"))
    assert isinstance(refused, InvalidInput)
    ((where, problem),) = refused.violations
    assert where == field
    assert said in problem
    assert isinstance(fine, pb.SendPushResponse)
    assert [entry.decision_id for entry in house.entries()] == ["api/fine"]


def test_everything_wrong_with_a_request_is_named_at_once(house: House) -> None:
    """Up to eight faults, and how many more there are."""
    (refused,) = answers(house, pb.SendPushRequest(item_ids=[""] * 20))
    assert isinstance(refused, InvalidInput)
    assert len(refused.violations) == 8
    assert [field for field, _ in refused.violations][:4] == ["request_id", "user_id", "title", "item_ids[0]"]
    assert "(and 15 more faults)" in refused.violations[-1][1]


def test_the_largest_request_that_is_allowed_is_sent(house: House) -> None:
    """Every limit itself is within the limit."""
    given = request(
        request_id="x" * 256, user_id="u" * 256, title="t" * 256, body="b" * 2048, url="u" * 2048,
        item_ids=["i" * 256] * 20, data={f"{at:02}": "d" * 126 for at in range(32)}, collapse_key="c" * 256,
        ttl=Duration(seconds=30 * 86_400),
    )  # fmt: skip
    assert sent(house, given).decision == pb.PUSH_DECISION_SENT
    assert len(house.pushes("u" * 256)[0].items) == 20


def test_bytes_that_are_no_request_are_refused(house: House) -> None:
    """Damaged bytes, or a text that is not UTF-8."""
    for body in (b"\xff", b"\x0a\x01\xff"):
        (refused,) = SendPushHandler(house.send, TTL).send_push([Call(body, PATIENCE)])
        assert isinstance(refused, InvalidInput)
        assert refused.violations[0][0] == "request"


def test_a_failure_of_ours_is_an_error_of_its_own_call(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others of the batch are answered."""
    real = house.send._encode

    def broken(draft: object, snapshot: object) -> bytes:
        if draft.title == "poison":  # type: ignore[attr-defined]
            raise ZeroDivisionError("of all things")
        return real(draft, snapshot)  # type: ignore[arg-type]

    monkeypatch.setattr(house.send, "_encode", broken)
    failed, fine = answers(house, request(title="poison"), request("r2"))
    assert type(failed) is TidingsError
    assert isinstance(fine, pb.SendPushResponse)


def test_what_is_answered_later_is_done_when_it_is_on_disk(house: House) -> None:
    """The Future of the verb holds the entry that the ledger has."""
    entry = house.send(PushRequest("r1", "ann", "Title", 60.0)).result(PATIENCE)
    assert [entry] == house.entries("ann")
