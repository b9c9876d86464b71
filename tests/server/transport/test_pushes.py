"""PushService's bytes: what a subscription says and is asked, and how what is asked wrongly is refused."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from tests.server.conftest import Clock
from tests.server.listening import House, opened
from tidings.v1 import push_service_pb2 as pb
from tidings_core.errors import InvalidInput, NotFound
from tidings_core.stored import StoredPush
from tidings_server.application.subscription import GoAway, Heartbeat, Message, Push, Subscribed, Withdraw
from tidings_server.transport.calls import Call
from tidings_server.transport.pushes import PushHandlers, encode_message

HALF = Duration(nanos=500_000_000)


@pytest.fixture
async def house(tmp_path: Path, clock: Clock) -> AsyncIterator[House]:
    """An empty store with nobody listening."""
    async with opened(tmp_path / "state", clock) as house:
        yield house


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            Subscribed("name", "epoch", 7, True, 0.5),
            pb.SubscribeResponse(
                subscribed=pb.Subscribed(
                    subscription_id="name", epoch="epoch", offset=7, recovered=True, heartbeat_interval=HALF
                )
            ),
        ),
        (
            Withdraw("name"),
            pb.SubscribeResponse(withdraw=pb.Withdraw(push_id="name", cause=pb.WITHDRAW_CAUSE_COLLAPSED)),
        ),
        (
            Heartbeat(1_500, 7),
            pb.SubscribeResponse(
                heartbeat=pb.Heartbeat(server_time=Timestamp(seconds=1, nanos=500_000_000), newest_offset=7)
            ),
        ),
        *(
            (
                GoAway(reason, 0.5, resumable=resumable),  # type: ignore[arg-type]
                pb.SubscribeResponse(go_away=pb.GoAway(reason=number, reconnect_delay=HALF, resumable=resumable)),
            )
            for reason, number, resumable in (
                ("stopping", pb.GO_AWAY_REASON_STOPPING, True),
                ("replaced", pb.GO_AWAY_REASON_REPLACED, False),
                ("failed", pb.GO_AWAY_REASON_FAILED, True),
            )
        ),
    ],
)
def test_every_message_is_said_as_the_contract_has_it(message: Message, said: pb.SubscribeResponse) -> None:
    """Each kind of message has its own field, and nothing of it is left out."""
    assert pb.SubscribeResponse.FromString(encode_message(message)) == said


@given(st.integers(1, 2**63 - 1), st.integers(0, 2**63 - 1), st.text(max_size=300))
def test_a_push_is_its_stored_bytes_and_its_place(offset: int, prev_offset: int, title: str) -> None:
    """Spliced bytes say the same as protobuf's own, however large the offsets and the text."""
    content = pb.Push(push_id="name", title=title)
    said = pb.Push(push_id="name", title=title, offset=offset, prev_offset=prev_offset)
    stored = StoredPush(offset, "name", 0, "", content.SerializeToString())
    response = pb.SubscribeResponse.FromString(encode_message(Push(stored, prev_offset)))
    assert response == pb.SubscribeResponse(push=said)


GOOD: dict[str, Any] = {"user_id": "ann", "device_id": "phone", "max_unacked": 5}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user_id": ""}, "user_id"),
        ({"user_id": "x" * 257}, "user_id"),
        ({"user_id": "a\nb"}, "user_id"),
        ({"device_id": "x" * 257}, "device_id"),
        ({"max_unacked": 0}, "max_unacked"),
        ({"max_unacked": -1}, "max_unacked"),
        ({"max_unacked": 1001}, "max_unacked"),
        ({"resume": pb.Resume(epoch="e", offset=-1)}, "resume.offset"),
        ({"resume": pb.Resume(epoch="e" * 300)}, "resume.epoch"),
    ],
)
async def test_a_bad_subscription_is_refused_by_field(house: House, change: dict[str, Any], field: str) -> None:
    """The field and its limit are named, and no subscription is opened."""
    handlers = PushHandlers(house.subscriptions, house.acknowledge)
    request = pb.SubscribeRequest(**(GOOD | change))
    with pytest.raises(InvalidInput) as refused:
        await anext(handlers.subscribe(request.SerializeToString()))
    assert [name for name, _ in refused.value.violations] == [field]
    assert house.subscriptions.count == 0


async def test_damaged_bytes_are_refused(house: House) -> None:
    """What is no request is INVALID_ARGUMENT for a stream as for a call."""
    handlers = PushHandlers(house.subscriptions, house.acknowledge)
    with pytest.raises(InvalidInput, match="is not a SubscribeRequest"):
        await anext(handlers.subscribe(b"\xff\xff"))
    (answer,) = handlers.acknowledge([Call(b"\xff\xff", 0.0)])
    assert isinstance(answer, InvalidInput)


@pytest.mark.parametrize("most", [1, 1000])
async def test_a_good_subscription_opens_with_the_credit_it_asks_for(house: House, most: int) -> None:
    """Both ends of the allowed range are good, an empty device has a name too, and 32 is what one gets unasked."""
    handlers = PushHandlers(house.subscriptions, house.acknowledge)
    asked, unasked = (
        handlers.subscribe(pb.SubscribeRequest(user_id=user, max_unacked=credit).SerializeToString())
        for user, credit in (("ann", most), ("bob", None))
    )
    for stream, user, credit in ((asked, "ann", most), (unasked, "bob", 32)):
        subscribed = pb.SubscribeResponse.FromString(await anext(stream)).subscribed
        found = house.subscriptions.find(subscribed.subscription_id, user)
        assert found is not None
        assert (found.max_unacked, found.device_id) == (credit, "")
        await stream.aclose()
    assert house.subscriptions.count == 0


def outcome(push_id: str, disposition: int) -> pb.PushOutcome:
    """What became of a push."""
    return pb.PushOutcome(push_id=push_id, disposition=disposition)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"user_id": ""}, ["user_id"]),
        ({"subscription_id": ""}, ["subscription_id"]),
        ({"offset": -1}, ["offset"]),
        ({"outcomes": [outcome("p", pb.DISPOSITION_CLICKED)] * 1001}, ["outcomes"]),
        ({"outcomes": [outcome("p", 1), outcome("", 1)]}, ["outcomes[1].push_id"]),
        ({"outcomes": [outcome("p", 0), outcome("p", 9)]}, ["outcomes[0].disposition", "outcomes[1].disposition"]),
        ({"outcomes": [outcome("p", 0)] * 20}, [f"outcomes[{at}].disposition" for at in range(8)]),
    ],
)
async def test_a_bad_acknowledgement_is_refused_by_field(
    house: House, change: dict[str, Any], fields: list[str]
) -> None:
    """Each fault is named, the first eight of many, and a good one beside it is not hurt."""
    handlers = PushHandlers(house.subscriptions, house.acknowledge)
    listener = await house.listen("ann")
    good: dict[str, Any] = {"user_id": "ann", "subscription_id": listener.opened.subscription_id, "offset": 0}
    bodies = [pb.AcknowledgeRequest(**(good | given)).SerializeToString() for given in (change, {})]
    bad, fine = handlers.acknowledge([Call(body, 0.0) for body in bodies])
    assert isinstance(bad, InvalidInput)
    assert [name for name, _ in bad.violations] == fields
    assert pb.AcknowledgeResponse.FromString(fine) == pb.AcknowledgeResponse(offset=0)  # type: ignore[arg-type]


async def test_acknowledgements_are_answered_each_in_its_place(house: House) -> None:
    """Answers come in the order of the calls, errors among them."""
    handlers = PushHandlers(house.subscriptions, house.acknowledge)
    for _ in range(2):
        house.push("ann")
    listener = await house.listen("ann")
    await listener.pushes()
    name = listener.opened.subscription_id
    asked = [("ann", name, 1), ("bob", name, 1), ("ann", name, 2)]
    requests = [pb.AcknowledgeRequest(user_id=u, subscription_id=n, offset=o) for u, n, o in asked]
    first, second, third = handlers.acknowledge([Call(request.SerializeToString(), 0.0) for request in requests])
    assert isinstance(second, NotFound)
    offsets = [pb.AcknowledgeResponse.FromString(one).offset for one in (first, third) if isinstance(one, bytes)]
    assert offsets == [1, 2]
