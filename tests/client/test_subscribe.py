"""Subscriptions on the wire: with the blocking and the asyncio client, against a real server that follows scripts."""

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

import tidings
from tests.client.conftest import Connect, Hasty
from tests.client.service import (
    BUILT,
    ITEMS,
    SmallServer,
    Step,
    bad_request,
    push,
    refuse,
    small_server,
    subscribed,
    violation,
)
from tidings.v1 import push_service_pb2, recommendation_service_pb2

NOT_OPEN = refuse(grpc.StatusCode.NOT_FOUND, "the subscription is not open", reason="NOT_FOUND")


def go_away(reason: push_service_pb2.GoAwayReason, *, resumable: bool = False) -> push_service_pb2.SubscribeResponse:
    """A stream that ends."""
    return push_service_pb2.SubscribeResponse(go_away=push_service_pb2.GoAway(reason=reason, resumable=resumable))


async def acknowledged(server: SmallServer, count: int) -> list[int]:
    """The offsets acknowledged, once there are so many."""
    return [request.offset for request in await asyncio.to_thread(server.wait_for, "Acknowledge", count)]


async def test_pushes_arrive_whole_and_in_order(connect: Connect, server: SmallServer) -> None:
    """The request says for whom and how many; each push comes with all its fields."""
    stamp = Timestamp()
    stamp.FromDatetime(BUILT)
    reason = recommendation_service_pb2.Reason(code=recommendation_service_pb2.REASON_CODE_SEARCHED, text="lantern")
    full = push(
        5,
        0,
        create_time=stamp,
        collapse_key="k",
        title="Title",
        body="Body",
        items=[recommendation_service_pb2.RecommendedItem(item=ITEMS[0], score=0.5, reasons=[reason])],
        url="https://shop/x",
        data={"a": "b"},
        trigger="bought",
        event_id="e7",
        release_id="r1",
        serving_config="cart",
    )
    server.scripts.append((subscribed(), full, push(9, 5), server.stay))
    pushes = connect(server.address).subscribe("u1", device_id="phone", max_unacked=7)
    got = await pushes.next()
    assert got is not None
    item = got.items[0]
    assert (got.push_id, got.offset, got.prev_offset, got.collapse_key) == ("p5", 5, 0, "k")
    assert (got.create_time, got.expire_time) == (datetime(2011, 12, 1, 8, 30, tzinfo=UTC), None)
    assert (got.title, got.body, got.url, got.data) == ("Title", "Body", "https://shop/x", {"a": "b"})
    assert (got.trigger, got.event_id, got.release_id, got.serving_config) == ("bought", "e7", "r1", "cart")
    assert (item.item.item_id, item.reasons) == (
        "85123A",
        (tidings.Reason(tidings.ReasonCode.SEARCHED, "", "lantern"),),
    )
    assert await pushes.names(1) == ["p9"]
    (request,) = server.requests("Subscribe")
    assert (request.user_id, request.device_id, request.max_unacked, request.HasField("resume")) == (
        "u1",
        "phone",
        7,
        False,
    )


async def test_asking_for_the_next_push_acknowledges_the_one_before(connect: Connect, server: SmallServer) -> None:
    """Without waiting: the next push is here already; closing acknowledges nothing that is still in hand."""
    server.scripts.append((subscribed(), push(1), push(2), server.stay))
    pushes = connect(server.address).subscribe("u1")
    assert await pushes.names(1) == ["p1"]
    assert server.requests("Acknowledge") == []
    assert await pushes.names(1) == ["p2"]
    assert await acknowledged(server, 1) == [1]
    await pushes.close()
    assert await acknowledged(server, 1) == [1]
    assert await pushes.next() is None


async def test_acknowledge_finishes_the_push_in_hand(connect: Connect, server: SmallServer) -> None:
    """Before a break it says that the last push is done; closing waits until that has arrived."""
    server.scripts.append((subscribed(), push(1), push(2), server.stay))
    pushes = connect(server.address).subscribe("u1")
    await pushes.names(2)
    pushes.subscription.acknowledge()
    await pushes.close()
    assert server.requests("Acknowledge")[-1].offset == 2
    await asyncio.to_thread(server.wait_for, "left", 1)
    assert [call.method for call in server.calls][-1] == "left"


async def test_acknowledgements_gather_while_one_is_under_way(connect: Connect, server: SmallServer) -> None:
    """The caller never waits for a round trip, and what it finished meanwhile goes in one."""
    server.scripts.append((subscribed(), *(push(n) for n in range(1, 7)), server.stay))
    answered = threading.Event()

    def wait(_: grpc.ServicerContext) -> None:
        assert answered.wait(30)

    server.steps.append(wait)
    pushes = connect(server.address).subscribe("u1")
    assert await pushes.names(6) == ["p1", "p2", "p3", "p4", "p5", "p6"]
    answered.set()
    assert await acknowledged(server, 2) == [1, 5]


async def test_outcomes_go_with_the_next_acknowledgement(connect: Connect, server: SmallServer) -> None:
    """What became of a push goes with its acknowledgement; of an earlier one at once; the rest on closing."""
    server.scripts.append((subscribed(), push(1), push(2), server.stay))
    pushes = connect(server.address).subscribe("u1")
    first = await pushes.next()
    assert first is not None
    pushes.subscription.report(first, tidings.Disposition.DISPLAYED)
    second = await pushes.next()
    assert second is not None
    await acknowledged(server, 1)
    pushes.subscription.report(second, tidings.Disposition.DISMISSED)
    await pushes.close()
    sent = [
        (request.offset, [(outcome.push_id, outcome.disposition) for outcome in request.outcomes])
        for request in server.requests("Acknowledge")
    ]
    assert sent == [
        (1, [("p1", push_service_pb2.DISPOSITION_DISPLAYED)]),
        (1, [("p2", push_service_pb2.DISPOSITION_DISMISSED)]),
    ]


async def test_an_outcome_reported_while_waiting_goes_at_once(connect: Connect, server: SmallServer) -> None:
    """A click on an old push doesn't wait for a new one."""
    server.scripts.append((subscribed(), push(1), server.stay))
    pushes = connect(server.address).subscribe("u1")
    first = await pushes.next()
    assert first is not None
    waiting = asyncio.ensure_future(pushes.next())
    assert await acknowledged(server, 1) == [1]
    pushes.subscription.report(first, tidings.Disposition.CLICKED)
    assert await acknowledged(server, 2) == [1, 1]
    assert server.requests("Acknowledge")[1].outcomes[0].push_id == "p1"
    await pushes.close()
    assert await waiting is None


@pytest.mark.parametrize(
    "end",
    [
        refuse(grpc.StatusCode.UNAVAILABLE, "the server stops"),
        refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many subscriptions"),
        refuse(grpc.StatusCode.INTERNAL, "RST_STREAM"),
        lambda _: None,
        go_away(push_service_pb2.GO_AWAY_REASON_STOPPING, resumable=True),
        push_service_pb2.SubscribeResponse(push=push_service_pb2.Push(push_id="late", offset=9, prev_offset=8)),
    ],
    ids=["unavailable", "overloaded", "broken", "ended", "go_away", "gap"],
)
async def test_it_goes_on_where_it_was_after_a_lost_stream(
    connect: Connect, server: SmallServer, end: push_service_pb2.SubscribeResponse | Step
) -> None:
    """However a stream ends, the next one resumes after what was finished; repeats are dropped."""
    server.scripts.append((subscribed(), push(1), push(2), server.until("Acknowledge", 1), end))
    server.scripts.append((subscribed(1, name="s2"), push(2), push(3), server.stay))
    pushes = connect(server.address).subscribe("u1")
    assert await pushes.names(2) == ["p1", "p2"]
    first, second = await asyncio.to_thread(server.wait_for, "Subscribe", 2)
    assert (second.resume.epoch, second.resume.offset) == ("e1", 1)
    assert not first.HasField("resume")
    assert await pushes.names(1) == ["p3"]
    await asyncio.to_thread(server.wait_for, "Acknowledge", 2)
    last = server.requests("Acknowledge")[-1]
    assert (last.subscription_id, last.offset) == ("s2", 2)
    assert pushes.subscription.gaps == 0


async def test_a_silent_connection_is_given_up(connect: Connect, server: SmallServer) -> None:
    """Nothing for 2.5 heartbeats, and another stream is opened; the old one is ended."""
    server.scripts.append((subscribed(heartbeat=0.01), server.stay))
    server.scripts.append((subscribed(name="s2"), push(1), server.stay))
    assert await connect(server.address).subscribe("u1").names(1) == ["p1"]
    await asyncio.to_thread(server.wait_for, "left", 1)


async def test_heartbeats_keep_a_connection_alive(connect: Connect, server: SmallServer) -> None:
    """A stream with nothing but heartbeats stays the same stream, also while the caller is busy."""
    beat = push_service_pb2.SubscribeResponse(heartbeat=push_service_pb2.Heartbeat())
    server.scripts.append((subscribed(), push(1), *[beat] * 500, push(2), server.stay))
    assert await connect(server.address).subscribe("u1").names(2) == ["p1", "p2"]
    assert len(server.requests("Subscribe")) == 1


async def test_a_withdrawn_push_is_not_yielded(connect: Connect, server: SmallServer) -> None:
    """Taken back while the caller was busy with another, it never shows, not even before the next stream is open."""
    taken_back = push_service_pb2.SubscribeResponse(withdraw=push_service_pb2.Withdraw(push_id="p2"))
    server.scripts.append((subscribed(), push(1), push(2), taken_back, push(3)))
    server.scripts.append((server.until("RecordEvents", 1), subscribed(name="s2"), server.stay))
    client = connect(server.address)
    pushes = client.subscribe("u1")
    assert await pushes.names(1) == ["p1"]
    # The second stream shows that the first one was read to its end.
    await asyncio.to_thread(server.wait_for, "Subscribe", 2)
    assert await pushes.names(1) == ["p3"]
    await client.call("record", tidings.Event("u1", "view", ["a"]))


async def test_lost_history_is_counted(connect: Connect, server: SmallServer) -> None:
    """A server that cannot go on where it was says so; the pushes go on, and `gaps` tells."""
    server.scripts.append((subscribed(), push(1), server.until("Acknowledge", 1)))
    server.scripts.append((subscribed(name="s2", epoch="e2", recovered=False), push(10, 0), server.stay))
    pushes = connect(server.address).subscribe("u1")
    assert await pushes.names(1) == ["p1"]
    assert pushes.subscription.gaps == 0
    assert await pushes.names(1) == ["p10"]
    assert pushes.subscription.gaps == 1


async def test_a_server_that_forgot_the_subscription_is_subscribed_to_again(
    connect: Connect, server: SmallServer
) -> None:
    """NOT_FOUND on an acknowledgement, as after a restart behind a proxy, is healed without the caller."""
    server.scripts.append((subscribed(), push(1), push(2), server.stay))
    server.scripts.append((subscribed(1, name="s2"), push(2), push(3), server.stay))
    server.steps.append(NOT_OPEN)
    pushes = connect(server.address).subscribe("u1")
    assert await pushes.names(3) == ["p1", "p2", "p3"]
    resumed = server.requests("Subscribe")[1].resume
    assert resumed.offset in (1, 2)


async def test_a_replaced_subscription_raises(connect: Connect, server: SmallServer) -> None:
    """Another subscription of the device ends this one with an error that says so, again if asked again."""
    server.scripts.append((subscribed(), go_away(push_service_pb2.GO_AWAY_REASON_REPLACED)))
    pushes = connect(server.address).subscribe("u1", device_id="phone")
    for _ in range(2):
        with pytest.raises(tidings.Replaced, match="another subscription of user 'u1' and device 'phone'") as caught:
            await pushes.next()
    assert caught.value.reason == "SUBSCRIPTION_REPLACED"
    assert len(server.requests("Subscribe")) == 1


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (bad_request(violation("device_id", "has 300 bytes")), tidings.InvalidArgument),
        (refuse(grpc.StatusCode.UNIMPLEMENTED, "an old server"), tidings.Unimplemented),
        (refuse(grpc.StatusCode.UNAUTHENTICATED, "who are you?"), tidings.TidingsError),
        (refuse(grpc.StatusCode.PERMISSION_DENIED, "not yours"), tidings.TidingsError),
    ],
)
async def test_what_would_not_pass_is_raised_at_once(
    connect: Connect, server: SmallServer, step: Step, expected: type[Exception]
) -> None:
    """One attempt, and the server's own words."""
    server.scripts.append((step,))
    pushes = connect(server.address).subscribe("u1")
    with pytest.raises(expected):
        await pushes.next()
    await pushes.close()
    assert len(server.requests("Subscribe")) == 1


async def test_a_refused_acknowledgement_is_raised(connect: Connect, server: SmallServer) -> None:
    """What the server refuses for good reaches the caller, and is not sent again."""
    server.scripts.append((subscribed(), push(1), server.stay))
    server.steps.append(bad_request(violation("offset", "was not sent")))
    pushes = connect(server.address).subscribe("u1")
    assert await pushes.names(1) == ["p1"]
    with pytest.raises(tidings.InvalidArgument) as caught:
        await pushes.next()
    assert caught.value.fields == [("offset", "was not sent")]
    await pushes.close()
    assert len(server.requests("Acknowledge")) == 1


@pytest.mark.parametrize("closing", [False, True])
async def test_a_refused_outcome_is_dropped_and_the_rest_arrives(
    connect: Connect, server: SmallServer, closing: bool
) -> None:
    """The acknowledgement goes out again at once without it, on closing too, and the subscription goes on."""
    server.scripts.append((subscribed(), push(1), push(2), server.stay))
    server.steps.append(bad_request(violation("outcomes[0].push_id", "is no push of this user")))
    pushes = connect(server.address).subscribe("u1")
    first = await pushes.next()
    assert first is not None
    pushes.subscription.report(first, tidings.Disposition.DISPLAYED)
    pushes.subscription.report(first, tidings.Disposition.CLICKED)
    if not closing:
        assert await pushes.names(1) == ["p2"]
        await acknowledged(server, 2)
    await pushes.close()
    requests = server.requests("Acknowledge")
    assert [request.offset for request in requests] == ([0, 0] if closing else [1, 1])
    assert [[outcome.disposition for outcome in request.outcomes] for request in requests] == [
        [push_service_pb2.DISPOSITION_DISPLAYED, push_service_pb2.DISPOSITION_CLICKED],
        [push_service_pb2.DISPOSITION_CLICKED],
    ]


async def test_an_acknowledgement_is_repeated_by_itself(connect: Connect, server: SmallServer) -> None:
    """A server that is unavailable for a moment is asked again; nobody notices."""
    server.scripts.append((subscribed(), push(1), push(2), server.stay))
    server.steps.extend([refuse(grpc.StatusCode.UNAVAILABLE, "one moment")] * 2)
    pushes = connect(server.address).subscribe("u1")
    await pushes.names(2)
    assert await acknowledged(server, 3) == [1, 1, 1]


async def test_closing_ends_a_wait(connect: Connect, server: SmallServer) -> None:
    """Whoever waits for a push comes to an end, the stream too; closing twice does no harm."""
    pushes = connect(server.address).subscribe("u1")
    waiting = asyncio.ensure_future(pushes.next())
    await asyncio.to_thread(server.wait_for, "Subscribe", 1)
    await pushes.close()
    assert await waiting is None
    await pushes.close()
    await asyncio.to_thread(server.wait_for, "left", 1)


async def test_closing_ends_a_pause(connect: Connect, server: SmallServer) -> None:
    """A subscription that waits an hour before it connects again is closed at once."""
    pause = push_service_pb2.GoAway(reconnect_delay=Duration(seconds=3600), resumable=True)
    server.scripts.append((subscribed(), push_service_pb2.SubscribeResponse(go_away=pause)))
    pushes = connect(server.address).subscribe("u1")
    waiting = asyncio.ensure_future(pushes.next())
    await asyncio.to_thread(server.wait_for, "Subscribe", 1)
    await pushes.close()
    assert await waiting is None


async def test_a_subscription_outlives_its_server(connect: Connect) -> None:
    """Without a server it tries until there is one again, and resumes there."""
    with small_server() as first:
        first.scripts.append((subscribed(), push(1), push(2), first.stay))
        pushes = connect(first.address).subscribe("u1")
        await pushes.names(2)
        await asyncio.to_thread(first.wait_for, "Acknowledge", 1)
    with small_server(int(first.address.rpartition(":")[2])) as second:
        second.scripts.append((subscribed(1, name="s2"), push(2), push(3), second.stay))
        assert await pushes.names(1) == ["p3"]
        assert second.requests("Subscribe")[0].resume.offset in (1, 2)
        await pushes.close()


async def test_closing_the_client_closes_its_subscriptions(server: SmallServer) -> None:
    """The last acknowledgement is sent before the connection goes."""
    server.scripts.extend([(subscribed(), push(1), server.stay)] * 2)
    async with tidings.aio.Client(server.address, timeout=20.0) as client:
        pushes = client.subscribe("u1")
        await anext(pushes)
        pushes.acknowledge()
    assert [request.offset for request in server.requests("Acknowledge")] == [1]
    with pytest.raises(StopAsyncIteration):
        await anext(pushes)

    def blocking() -> None:
        with tidings.Client(server.address, timeout=20.0) as client:
            next(client.subscribe("u1"))

    await asyncio.to_thread(blocking)
    assert len(server.requests("Acknowledge")) == 1


async def test_a_cancelled_wait_loses_no_push(server: SmallServer) -> None:
    """A wait with a time limit may be given up and taken up again."""
    server.scripts.append((subscribed(), server.until("RecordEvents", 1), push(1), server.stay))
    async with (
        tidings.aio.Client(server.address, timeout=20.0) as client,
        client.subscribe("u1", random=Hasty()) as pushes,
    ):
        await asyncio.to_thread(server.wait_for, "Subscribe", 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(pushes), 0.001)
        await client.record(tidings.Event("u1", "view", ["a"]))
        assert (await anext(pushes)).push_id == "p1"


async def test_a_subscription_that_is_never_used_costs_nothing(connect: Connect, server: SmallServer) -> None:
    """The stream opens with the block or the first push asked for; closing before that is fine."""
    pushes = connect(server.address).subscribe("u1")
    await pushes.close()
    assert await pushes.next() is None
    assert server.calls == []


async def test_a_user_id_that_cannot_be_sent_is_refused_at_once(connect: Connect, server: SmallServer) -> None:
    """Before anything is opened."""
    with pytest.raises(tidings.InvalidArgument, match=r"^user_id "):
        connect(server.address).subscribe("\udc80")


class Watched:
    """A stub that notes the threads its calls are made in."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub
        self.threads: list[threading.Thread] = []

    def __getattr__(self, method: str) -> Any:
        self.threads.append(threading.current_thread())
        return getattr(self.stub, method)


def test_the_callers_thread_makes_no_call_while_it_iterates(server: SmallServer) -> None:
    """Ctrl-C is raised in it wherever it is; a call cut off inside gRPC leaves a client that never closes."""
    server.scripts.append((subscribed(), push(1), push(2), server.stay))
    with tidings.Client(server.address) as client, client.subscribe("u1") as pushes:
        watched = Watched(pushes._stub)
        pushes._stub = watched
        assert [next(pushes).push_id for _ in range(2)] == ["p1", "p2"]
        pushes.acknowledge()
        while server.wait_for("Acknowledge", 1)[-1].offset != 2:
            server.wait_for("Acknowledge", 2)
        assert watched.threads
        assert threading.current_thread() not in watched.threads
