"""What a call does on the wire: with the blocking and the asyncio client, against a real server."""

import asyncio
import socket
from datetime import UTC, date, datetime, timedelta, timezone

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

import tidings
from tests.client.conftest import Connect
from tests.client.service import BUILT, SmallServer, bad_request, refuse, small_server, violation
from tidings.v1 import event_pb2
from tidings_core.errors import StorageFull as ServersStorageFull

# gRPC sends a deadline rounded up, to three digits at most.
ROUNDING = 0.02
UNAVAILABLE = refuse(grpc.StatusCode.UNAVAILABLE, "the server is starting")


async def test_recommend_sends_what_it_was_given_and_returns_the_answer(connect: Connect, server: SmallServer) -> None:
    """Every argument reaches the server, and the answer comes back whole."""
    answer = await connect(server.address).call(
        "recommend",
        "u1",
        k=2,
        serving_config="cart",
        context_item_ids=["85123A"],
        exclude_item_ids=("x", "y"),
        request_id="r-7",
        query="lantern",
        category="home",
        examples=tidings.RecommendExamples(["84879"], ["22423"]),
        vector=[0.5, -1.0],
        consistency_token="t-1",
    )

    request = server.calls[0].request
    assert (request.user_id, request.k, request.serving_config, request.request_id) == ("u1", 2, "cart", "r-7")
    assert (list(request.context_item_ids), list(request.exclude_item_ids)) == (["85123A"], ["x", "y"])
    assert (request.query, request.category, request.consistency_token) == ("lantern", "home", "t-1")
    assert list(request.examples.liked_item_ids) == ["84879"]
    assert list(request.examples.disliked_item_ids) == ["22423"]
    assert list(request.vector) == [0.5, -1.0]
    assert [item.item.item_id for item in answer.items] == ["71053", "plain"]
    assert answer.items[0].item.categories == ("home", "light")
    assert answer.items[0].sources == (tidings.SourceScore("ann", 0.5),)
    assert answer.items[0].reasons[0] == tidings.Reason(tidings.ReasonCode.SIMILAR_TO_BOUGHT, "22423")
    assert (answer.release_id, answer.request_id, answer.serving_config) == ("second", "r-7", "cart")
    assert (answer.release_age_seconds, answer.index_age_seconds, answer.degraded) == (7200.0, 30.0, ())


async def test_without_k_the_server_chooses(connect: Connect, server: SmallServer) -> None:
    """`k` left out is left out on the wire; zero is sent, for the server to judge."""
    client = connect(server.address)
    assert len((await client.call("recommend", "u1")).items) == 20
    await client.call("recommend", "u1", k=0)
    assert [call.request.HasField("k") for call in server.calls] == [False, True]


async def test_a_batch_is_answered_in_order(connect: Connect, server: SmallServer) -> None:
    """Each query of a batch gets its own answer at its own place."""
    queries = [tidings.RecommendQuery("stranger", k=1, request_id="a"), tidings.RecommendQuery("u2", request_id="b")]
    answers = await connect(server.address).call("batch_recommend", queries)
    assert [(answer.request_id, len(answer.items)) for answer in answers] == [("a", 1), ("b", 20)]
    assert [degradation.cause for degradation in answers[0].degraded] == [tidings.DegradationCause.UNKNOWN_USER]


async def test_an_answer_above_grpcs_own_limit_of_4_mib_arrives(connect: Connect, server: SmallServer) -> None:
    """A full batch of long answers fits the channel."""
    answers = await connect(server.address).call("batch_recommend", [tidings.RecommendQuery("u1", k=500)] * 10)
    assert sum(len(item.item.description) for answer in answers for item in answer.items) > 4 << 20


async def test_releases_are_listed_promoted_and_rolled_back(connect: Connect, server: SmallServer) -> None:
    """The three release calls do what they say and return typed releases."""
    client = connect(server.address)
    torn, second, first = await client.call("list_releases")
    assert (torn.state, torn.problem, torn.create_time) == ("broken", "index.faiss:\nchecksum differs", None)
    assert (second.state, second.create_time, second.recall) == (tidings.ReleaseState.SERVING, BUILT, 0.9625)
    assert (first.release_id, first.promote_time, first.sources) == ("first", None, ("ann", "trending"))

    promoted = await client.call("promote_release", "first")
    assert (promoted.release.release_id, promoted.previous_release_id) == ("first", "second")
    rolled_back = await client.call("rollback_release", from_release_id="first")
    assert (rolled_back.previous_release_id, server.calls[-1].request.from_release_id) == ("first", "first")


async def test_events_are_recorded_whole(connect: Connect, server: SmallServer) -> None:
    """Every field reaches the server, and each event gets its own verdict."""
    event_time = datetime(2024, 5, 1, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    events = [
        tidings.Event(
            "u1",
            tidings.EventType.PURCHASE,
            ["a", tidings.EventItem("b", quantity=3, price=0.0)],
            value=9.5,
            event_time=event_time,
            push_id="p7",
            event_id="order-1",
        ),
        tidings.Event("u2", "search", query="lantern"),
        tidings.Event("u3", "see_less", category="garden"),
        tidings.Event("", "view", ["a"]),
        tidings.Event("u1", "purchase", ["a"], event_id="order-1"),
    ]
    recorded = await connect(server.address).call("record", iter(events))

    first, second, third, *_ = server.calls[0].request.events
    assert (first.user_id, first.type, first.event_id, first.push_id) == (
        "u1",
        event_pb2.EVENT_TYPE_PURCHASE,
        "order-1",
        "p7",
    )
    assert (first.value, first.event_time.ToDatetime(UTC)) == (9.5, event_time)
    plain, full = first.items
    assert (plain.item_id, plain.HasField("quantity"), plain.HasField("price")) == ("a", False, False)
    assert (full.item_id, full.quantity, full.price, full.HasField("price")) == ("b", 3, 0.0, True)
    assert (second.query, second.HasField("value"), second.HasField("event_time")) == ("lantern", False, False)
    assert (third.type, third.category) == (event_pb2.EVENT_TYPE_SEE_LESS, "garden")
    assert [verdict.status for verdict in recorded.verdicts] == [
        "accepted",
        "accepted",
        "accepted",
        "rejected",
        "duplicate",
    ]
    fault = tidings.EventFault("user_id", "has 0 bytes, must have 1 to 256")
    assert recorded.rejected == ((3, tidings.EventVerdict(tidings.EventStatus.REJECTED, (fault,))),)
    assert recorded.consistency_token == "token-1"


async def test_events_that_cannot_be_sent_are_rejected_and_the_others_recorded(
    connect: Connect, server: SmallServer
) -> None:
    """One faulty event costs no other its verdict: those of this client and the server's stand in the events' order."""
    events = [
        tidings.Event("u1", "look", ["a"]),
        tidings.Event("u1", "view", ["a"]),
        tidings.Event("", "view", ["a"]),
        tidings.Event("u1", "view", ["a"], event_time=datetime(2024, 5, 1)),
        tidings.Event("u2", "view", ["b"]),
        tidings.Event("u1", "purchase", ["a"], value="9.5"),  # type: ignore[arg-type]
    ]
    recorded = await connect(server.address).call("record", events)
    assert [event.user_id for event in server.calls[0].request.events] == ["u1", "", "u2"]
    assert [(verdict.status, [fault.field for fault in verdict.faults]) for verdict in recorded.verdicts] == [
        ("rejected", ["type"]),
        ("accepted", []),
        ("rejected", ["user_id"]),
        ("rejected", ["event_time"]),
        ("accepted", []),
        ("rejected", ["value"]),
    ]
    assert [place for place, _ in recorded.rejected] == [0, 2, 3, 5]
    assert recorded.consistency_token == "token-1"


async def test_without_an_event_that_can_be_sent_no_call_is_made(connect: Connect, server: SmallServer) -> None:
    """One faulty event, or several, are rejected without a server, and there is no consistency token."""
    client = connect("127.0.0.1:1")
    event = tidings.Event("u1", "view", ["a"], event_time=datetime(2024, 5, 1))
    for events in (event, [event], [event] * 3):
        recorded = await client.call("record", events)
        assert {verdict.status for verdict in recorded.verdicts} == {tidings.EventStatus.REJECTED}
        assert len(recorded.verdicts) == (len(events) if isinstance(events, list) else 1)
        assert recorded.consistency_token == ""


async def test_the_server_judges_an_empty_list(connect: Connect, server: SmallServer) -> None:
    """No events at all are the server's to refuse."""
    server.steps.append(bad_request(violation("events", "has 0 entries, must have 1 to 1000")))
    with pytest.raises(tidings.InvalidArgument) as caught:
        await connect(server.address).call("record", [])
    assert caught.value.fields == [("events", "has 0 entries, must have 1 to 1000")]


async def test_recording_the_same_event_again_is_a_duplicate(connect: Connect, server: SmallServer) -> None:
    """An event without an id of the shop's gets one when it is made, not when it is sent."""
    client = connect(server.address)
    event = tidings.Event("u1", "view", ["a"])
    twin = tidings.Event("u1", "view", ["a"])
    statuses = [(await client.call("record", one)).verdicts[0].status for one in (event, event, twin)]
    assert statuses == ["accepted", "duplicate", "accepted"]


async def test_more_events_than_a_call_takes_are_refused_here(connect: Connect, server: SmallServer) -> None:
    """The limit is named, and nothing is sent; 1000 are fine."""
    client = connect(server.address)
    event = tidings.Event("u1", "view", ["a"])
    with pytest.raises(
        tidings.InvalidArgument, match="has 1001 entries, may have 1000 at most: record them in several"
    ):
        await client.call("record", [event] * 1001)
    assert server.calls == []
    assert len((await client.call("record", [event] * 1000)).verdicts) == 1000


async def test_a_profile_comes_back_whole(connect: Connect, server: SmallServer) -> None:
    """Typed values, times in UTC, unset ones None; the token goes along."""
    profile = await connect(server.address).call("get_profile", "u1", consistency_token="t-1")
    assert (server.calls[0].request.user_id, server.calls[0].request.consistency_token) == ("u1", "t-1")
    assert (profile.user_id, profile.version, profile.spent, profile.known_to_release) == ("u1", 7, 1234.5, True)
    assert (profile.first_event_time, profile.last_event_time) == (BUILT, BUILT)
    assert profile.counts == (tidings.EventCount(tidings.EventType.VIEW, 1234, 1, 20, 300, 123.5),)
    assert profile.recent_events == (
        tidings.RecentEvent(tidings.EventType.SEARCH, BUILT, (), "", "lantern", None),
        tidings.RecentEvent(tidings.EventType.PURCHASE, None, ("a", "b"), "", "", 9.5),
    )
    assert profile.bought_items == (tidings.BoughtItem("a", BUILT, 2, 1),)
    assert (profile.bought_item_count, profile.blocked_item_ids, profile.blocked_categories) == (1, ("z",), ("garden",))
    assert profile.ratings == (tidings.Rating("b", BUILT, 4.5),)
    assert profile.searches == (tidings.Search("lantern", BUILT),)
    assert profile.visits == (tidings.Visit(BUILT, BUILT, 3),)
    assert profile.prices == tidings.PriceAffinity(1.0, 2.0, 1234.5)
    assert (profile.categories, profile.brands) == ((tidings.Affinity("home", 0.75),), ())


async def test_what_is_said_of_a_user_goes_and_comes_typed(connect: Connect, server: SmallServer) -> None:
    """Each value as its kind, a day as its text, a removal by name; an id is made for the call and its retries."""
    client = connect(server.address)
    profile = await client.call("get_profile", "u1")
    assert profile.attributes == (
        tidings.ProfileAttribute("age", 25.0, "crm", BUILT),
        tidings.ProfileAttribute("interests", ("art", "tea"), "", None),
    )
    assert profile.tags == (tidings.ProfileTag("vip", 2.0, "crm", None, BUILT),)
    done = await client.call(
        "update_profile",
        "u1",
        {
            "born": date(2001, 5, 3),
            "age": 25,
            "city": "Beijing",
            "member": True,
            "seen": BUILT,
            "likes": ["a"],
            "x": None,
        },
        tags=["vip", tidings.TagSetting("gold", 3, BUILT)],
        remove_tags=["new"],
        source="crm",
        event_time=BUILT,
    )
    assert done == tidings.Updated(False, "token-2")
    request = server.calls[1].request
    assert len(request.event_id) == 32
    assert request.attributes["born"].text == "2001-05-03"
    assert request.attributes["age"].number == 25
    assert request.attributes["seen"].time.ToDatetime(UTC) == BUILT
    assert (request.attributes["member"].flag, list(request.attributes["likes"].texts.values)) == (True, ["a"])
    assert (list(request.remove_attributes), list(request.remove_tags)) == (["x"], ["new"])
    assert [(tag.tag, tag.weight, tag.HasField("expire_time")) for tag in request.tags] == [
        ("vip", 1.0, False),
        ("gold", 3.0, True),
    ]
    with pytest.raises(tidings.InvalidArgument, match="tags"):
        await client.call("update_profile", "u1", tags="vip")


async def test_two_ids_are_made_one_person(connect: Connect, server: SmallServer) -> None:
    """Both ids go out; what comes back says under which all is known, and whether it was so before."""
    client = connect(server.address)
    assert await client.call("merge_profiles", "visitor-1", "u1") == tidings.Merged("u1", False, "token-3")
    assert (await client.call("merge_profiles", "known", "u1")).already
    request = server.calls[0].request
    assert (request.visitor_id, request.user_id) == ("visitor-1", "u1")


async def test_a_user_without_events_is_not_found(connect: Connect, server: SmallServer) -> None:
    """There is no empty profile."""
    with pytest.raises(tidings.NotFound, match="'stranger'"):
        await connect(server.address).call("get_profile", "stranger")


@pytest.mark.parametrize("ttl", [90, 90.0, timedelta(minutes=1.5)])
async def test_a_push_is_sent_whole(connect: Connect, server: SmallServer, ttl: float | timedelta) -> None:
    """Every argument reaches the server; a time to live is seconds or a timedelta."""
    sent = await connect(server.address).call(
        "send_push",
        "u1",
        "Title",
        body="Body",
        item_ids=["a", "b"],
        url="https://shop/x",
        data={"k": "v"},
        ttl=ttl,
        collapse_key="c",
        request_id="r-1",
    )
    request = server.calls[0].request
    assert (request.user_id, request.title, request.body, request.url) == ("u1", "Title", "Body", "https://shop/x")
    assert (list(request.item_ids), dict(request.data)) == (["a", "b"], {"k": "v"})
    assert (request.ttl.ToSeconds(), request.collapse_key, request.request_id) == (90, "c", "r-1")
    assert sent == tidings.SentPush(tidings.PushDecision.SENT, tidings.SuppressReason.UNSPECIFIED, "p7", 7)


async def test_a_push_without_a_request_id_gets_a_new_one(connect: Connect, server: SmallServer) -> None:
    """Each call has its own; what was not sent tells why."""
    client = connect(server.address)
    for _ in range(2):
        done = await client.call("send_push", "full", "Title")
        assert done == tidings.SentPush(tidings.PushDecision.SUPPRESSED, tidings.SuppressReason.CAP_DAY, "", 0)
    first, second = (call.request for call in server.calls)
    assert first.request_id != second.request_id
    assert len(first.request_id) == 32
    assert not first.HasField("ttl")


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("recommend", ("u1",)),
        ("batch_recommend", ([tidings.RecommendQuery("u1")],)),
        ("list_releases", ()),
        ("promote_release", ("first",)),
        ("record", (tidings.Event("u1", "view", ["a"]),)),
        ("get_profile", ("u1",)),
        ("send_push", ("u1", "Title")),
    ],
)
async def test_a_call_is_tried_again_while_the_server_is_unavailable(
    connect: Connect, server: SmallServer, method: str, arguments: tuple[object, ...]
) -> None:
    """Three refusals with UNAVAILABLE and then an answer make one successful call of four attempts."""
    server.steps.extend([UNAVAILABLE] * 3)
    await connect(server.address).call(method, *arguments)
    assert len(server.calls) == 4
    assert all(call.request == server.calls[0].request for call in server.calls)


@pytest.mark.parametrize(("max_attempts", "seen"), [(1, 1), (2, 2), (4, 4), (5, 5)])
async def test_attempts_end_at_max_attempts(
    connect: Connect, server: SmallServer, max_attempts: int, seen: int
) -> None:
    """A server that stays unavailable is asked `max_attempts` times; then the caller hears of it in its own words."""
    server.steps.extend([UNAVAILABLE] * 9)
    with pytest.raises(tidings.Unavailable, match=r"^the server is starting$") as caught:
        await connect(server.address, max_attempts=max_attempts).call("recommend", "u1")
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "TEST_REASON")
    assert len(server.calls) == seen


async def test_a_rollback_is_never_repeated(connect: Connect, server: SmallServer) -> None:
    """One call of rollback_release is at most one rollback, whatever becomes of the answer."""
    server.steps.extend([UNAVAILABLE] * 2)
    client = connect(server.address)
    for named in ("", "second"):
        with pytest.raises(tidings.Unavailable):
            await client.call("rollback_release", named)
    assert len(server.calls) == 2
    assert server.serving == "second"


async def test_a_bad_request_is_not_repeated_and_names_its_fields(connect: Connect, server: SmallServer) -> None:
    """INVALID_ARGUMENT costs one attempt and carries every field with its reason."""
    server.steps.append(bad_request(violation("k", "must be 1 to 500, not 0"), violation("user_id", "is empty")))
    with pytest.raises(tidings.InvalidArgument) as caught:
        await connect(server.address).call("recommend", "", k=0)
    assert caught.value.fields == [("k", "must be 1 to 500, not 0"), ("user_id", "is empty")]
    assert (caught.value.message, caught.value.reason) == ("2 fields are refused", "INVALID_REQUEST")
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.NOT_FOUND, tidings.NotFound),
        (grpc.StatusCode.FAILED_PRECONDITION, tidings.FailedPrecondition),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, tidings.Overloaded),
        (grpc.StatusCode.UNIMPLEMENTED, tidings.Unimplemented),
        (grpc.StatusCode.DEADLINE_EXCEEDED, tidings.DeadlineExceeded),
        (grpc.StatusCode.INTERNAL, tidings.InternalError),
        (grpc.StatusCode.UNKNOWN, tidings.InternalError),
        (grpc.StatusCode.PERMISSION_DENIED, tidings.TidingsError),
    ],
)
async def test_each_status_code_is_its_own_error(
    connect: Connect, server: SmallServer, code: grpc.StatusCode, expected: type[tidings.TidingsError]
) -> None:
    """The error tells kind, code, reason and message, and none of these codes is tried again."""
    server.steps.append(refuse(code, "the reason why", reason="SOME_REASON"))
    with pytest.raises(tidings.TidingsError) as caught:
        await connect(server.address).call("promote_release", "first")
    error = caught.value
    assert type(error) is expected
    assert (error.code, error.reason, error.message, str(error)) == (
        code,
        "SOME_REASON",
        "the reason why",
        error.message,
    )
    assert len(server.calls) == 1


async def test_a_call_that_the_server_cut_off_may_come_again(connect: Connect, server: SmallServer) -> None:
    """A server that has too much to do even to refuse resets calls without a word: as passing as any overload."""
    server.steps.append(lambda context: context.abort(grpc.StatusCode.CANCELLED, ""))
    with pytest.raises(tidings.Unavailable, match="cut the call off") as caught:
        await connect(server.address).call("recommend", "u1")
    assert caught.value.code is grpc.StatusCode.CANCELLED


async def test_the_servers_advice_when_to_come_back_is_kept(connect: Connect, server: SmallServer) -> None:
    """RetryInfo becomes `retry_after` in seconds, and its absence None."""
    advice = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    client = connect(server.address, max_attempts=1)
    for code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE):
        server.steps.extend([refuse(code, "busy", advice), refuse(code, "busy")])
        for expected in (1.5, None):
            with pytest.raises((tidings.Overloaded, tidings.Unavailable)) as caught:
                await client.call("recommend", "u1")
            assert caught.value.retry_after == expected


async def test_a_full_disk_is_an_error_of_its_own_and_not_tried_again(connect: Connect, server: SmallServer) -> None:
    """Waiting mends an overload, not a full disk: the caller can tell them apart, and each costs one attempt."""
    advice = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=5))
    full = refuse(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "the disk is full: make room", advice, reason=ServersStorageFull.reason
    )
    client = connect(server.address)
    calls = [("record", (tidings.Event("u1", "view", ["a"]),)), ("send_push", ("u1", "Title"))]
    for made, (name, arguments) in enumerate(calls, start=1):
        server.steps.append(full)
        with pytest.raises(tidings.StorageFull, match=r"^the disk is full: make room$") as caught:
            await client.call(name, *arguments)
        assert not isinstance(caught.value, tidings.Overloaded)
        assert (caught.value.code, caught.value.reason, caught.value.retry_after) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "STORAGE_FULL",
            5.0,
        )
        assert len(server.calls) == made


async def test_a_server_that_hangs_ends_at_the_deadline(connect: Connect, server: SmallServer) -> None:
    """The call's timeout reaches the server and ends the call, with the address and the time in the message."""
    server.steps.append(server.hang)
    with pytest.raises(tidings.DeadlineExceeded, match=rf"^no answer from {server.address} within 0\.2 s$"):
        await connect(server.address).call("recommend", "u1", timeout=0.2)
    assert len(server.calls) == 1
    assert server.calls[0].seconds_left < 0.2 + ROUNDING


async def test_the_deadline_is_one_for_all_attempts(connect: Connect, server: SmallServer) -> None:
    """A later attempt has only the time that the earlier ones left, so retries never lengthen a call."""
    server.steps.extend([UNAVAILABLE, server.hang])
    with pytest.raises(tidings.DeadlineExceeded):
        await connect(server.address, timeout=1.0).call("recommend", "u1")
    first, second = (call.seconds_left for call in server.calls)
    assert first > second
    assert first < 1.0 + ROUNDING


async def test_where_no_server_listens_the_error_says_how_to_start_one(connect: Connect) -> None:
    """A refused connection ends at once, not at the deadline, and names the address and the command."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(tidings.Unavailable, match="start one with `tidings-server`") as caught:
            await connect(address).call("recommend", "u1")
    assert address in caught.value.message
    assert (caught.value.reason, caught.value.retry_after) == ("", None)


async def test_a_client_finds_a_server_that_comes_back(connect: Connect) -> None:
    """One client outlives a restart of its server."""
    with small_server() as first:
        client = connect(first.address)
        await client.call("recommend", "u1")
    port = int(first.address.rpartition(":")[2])
    with pytest.raises(tidings.Unavailable):
        await client.call("recommend", "u1")
    with small_server(port):
        for _ in range(100):
            try:
                answer = await client.call("recommend", "u1", k=1)
            except tidings.Unavailable:
                continue
            break
    assert len(answer.items) == 1


async def test_something_else_on_the_port_is_a_clear_error(connect: Connect) -> None:
    """A gRPC server without Tidings is answered with Unimplemented and its address."""
    other = grpc.aio.server()
    address = f"127.0.0.1:{other.add_insecure_port('127.0.0.1:0')}"
    await other.start()
    try:
        with pytest.raises(tidings.Unimplemented, match=address):
            await connect(address).call("recommend", "u1")
    finally:
        await other.stop(None)


async def test_a_request_above_the_servers_limit_is_a_bad_request(connect: Connect, server: SmallServer) -> None:
    """Too large a request is not called overload, since waiting would not mend it."""
    with pytest.raises(tidings.InvalidArgument, match="ask for less at once"):
        await connect(server.address).call("recommend", "u1", exclude_item_ids=["x" * 1000] * 6000)


async def test_tls_is_spoken_when_credentials_are_given(connect: Connect, server: SmallServer) -> None:
    """With credentials a server without TLS is refused, not spoken to in the clear."""
    client = connect(server.address, credentials=grpc.ssl_channel_credentials(), max_attempts=1)
    with pytest.raises(tidings.Unavailable):
        await client.call("recommend", "u1")
    assert server.calls == []


async def test_a_cancelled_task_cancels_its_call(server: SmallServer) -> None:
    """Cancelling ends the wait at once with CancelledError, and the client works on."""
    server.steps.append(server.hang)
    async with tidings.aio.Client(server.address, timeout=20.0) as client:
        task = asyncio.ensure_future(client.recommend("u1"))
        while not server.calls:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len((await client.recommend("u1", k=1)).items) == 1


def test_the_asyncio_client_asks_for_a_running_loop() -> None:
    """Made outside a loop it would hang later; it says so at once."""
    with pytest.raises(RuntimeError, match=r"inside a running event loop, or use tidings\.Client"):
        tidings.aio.Client()


def test_a_client_is_closed_by_its_with_block(server: SmallServer) -> None:
    """After the block the connection is gone; closing twice does no harm."""
    with tidings.Client(server.address, timeout=20.0) as client:
        client.recommend("u1")
    client.close()
    with pytest.raises(ValueError, match="closed channel"):
        client.recommend("u1")
