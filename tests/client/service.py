"""A small Tidings server for the client's tests: a real gRPC server that answers from three items.

It keeps every call it sees, and before it answers it takes the next step of `steps`, so that a test can let it refuse
or hang first. A subscription plays the next of `scripts`: messages to send and steps to take, in order; without any it
opens and stays.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from tidings.v1 import (
    contact_pb2,
    event_pb2,
    event_service_pb2,
    item_pb2,
    preferences_pb2,
    profile_service_pb2,
    push_service_pb2,
    recommendation_service_pb2,
    release_service_pb2,
)
from tidings.v1.event_service_pb2_grpc import EventServiceServicer, add_EventServiceServicer_to_server
from tidings.v1.profile_service_pb2_grpc import ProfileServiceServicer, add_ProfileServiceServicer_to_server
from tidings.v1.push_service_pb2_grpc import PushServiceServicer, add_PushServiceServicer_to_server
from tidings.v1.recommendation_service_pb2_grpc import (
    RecommendationServiceServicer,
    add_RecommendationServiceServicer_to_server,
)
from tidings.v1.release_service_pb2_grpc import ReleaseServiceServicer, add_ReleaseServiceServicer_to_server

Step = Callable[[grpc.ServicerContext], None]
Script = Sequence["push_service_pb2.SubscribeResponse | Step"]

ITEMS = (
    item_pb2.Item(item_id="85123A", title="White hanging heart", price=2.55, currency="GBP"),
    item_pb2.Item(item_id="71053", title="白色金属灯笼", categories=["home", "light"], description="x" * 4096),
    item_pb2.Item(item_id="plain"),
)
BUILT = datetime(2011, 12, 1, 8, 30, tzinfo=UTC)


@dataclass
class Call:
    """One attempt that reached the server: method, request, and the seconds its deadline left it."""

    method: str
    request: Any
    seconds_left: float


@dataclass
class SmallServer:
    """What a test sees of the running server."""

    address: str = ""
    steps: deque[Step] = field(default_factory=deque)
    scripts: deque[Script] = field(default_factory=deque)
    calls: list[Call] = field(default_factory=list)
    serving: str = "second"
    before: str = "first"
    reached: threading.Event = field(default_factory=threading.Event)  # set when a call hangs
    released: threading.Event = field(default_factory=threading.Event)
    event_ids: set[str] = field(default_factory=set)
    _noted: threading.Condition = field(default_factory=threading.Condition)

    def take(self, method: str, request: Message, context: grpc.ServicerContext) -> None:
        """Note a call and take the next step, if any."""
        self.note(method, request, context)
        if self.steps:
            self.steps.popleft()(context)

    def note(self, method: str, request: Message, context: grpc.ServicerContext) -> None:
        """Note a call."""
        with self._noted:
            self.calls.append(Call(method, request, context.time_remaining()))
            self._noted.notify_all()

    def requests(self, method: str) -> list[Any]:
        """The requests of one method so far."""
        return [call.request for call in self.calls if call.method == method]

    def wait_for(self, method: str, count: int) -> list[Any]:
        """Wait until one method was called so often, and return its requests."""
        with self._noted:
            assert self._noted.wait_for(lambda: len(self.requests(method)) >= count, 30), f"{method} was not called"
            return self.requests(method)

    def until(self, method: str, count: int) -> Step:
        """Return the step of a script that waits until one method was called so often."""

        def step(_: grpc.ServicerContext) -> None:
            self.wait_for(method, count)

        return step

    def stay(self, context: grpc.ServicerContext) -> None:
        """Keep a stream open until the client leaves or the test is over."""
        gone = threading.Event()
        if context.add_callback(gone.set):
            while not (gone.wait(0.05) or self.released.is_set()):
                pass

    def hang(self, _: grpc.ServicerContext) -> None:
        """Answer nothing until the test is over."""
        self.reached.set()
        self.released.wait(30)


def refuse(code: grpc.StatusCode, message: str, *details: Message, reason: str = "TEST_REASON") -> Step:
    """Return the step that ends a call as a Tidings server does, with ErrorInfo and further details."""
    packed = []
    for detail in (error_details_pb2.ErrorInfo(reason=reason, domain="tidings"), *details):
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    status = status_pb2.Status(code=code.value[0], message=message, details=packed)

    def step(context: grpc.ServicerContext) -> None:
        context.abort_with_status(rpc_status.to_status(status))

    return step


def violation(name: str, description: str) -> error_details_pb2.BadRequest.FieldViolation:
    """Return the refusal of one field."""
    return error_details_pb2.BadRequest.FieldViolation(field=name, description=description)


def bad_request(*violations: error_details_pb2.BadRequest.FieldViolation) -> Step:
    """Return the step that refuses fields."""
    detail = error_details_pb2.BadRequest(field_violations=violations)
    message = f"{len(violations)} fields are refused"
    return refuse(grpc.StatusCode.INVALID_ARGUMENT, message, detail, reason="INVALID_REQUEST")


def answer(request: recommendation_service_pb2.RecommendRequest) -> recommendation_service_pb2.RecommendResponse:
    """Return `k` items, cycling through `ITEMS` without those excluded; the user "stranger" is not known."""
    wanted = request.k if request.HasField("k") else 20
    left_out = {*request.exclude_item_ids, *request.context_item_ids}
    response = recommendation_service_pb2.RecommendResponse(
        release_id="second",
        release_age_seconds=7200.0,
        index_age_seconds=30.0,
        serving_config=request.serving_config or "for-you",
        request_id=request.request_id,
    )
    for rank, item in enumerate([item for item in ITEMS * (wanted // len(ITEMS) + 2) if item.item_id not in left_out]):
        if rank == wanted:
            break
        response.items.add(
            item=item,
            score=1.0 - rank / 1024,
            sources=[recommendation_service_pb2.SourceScore(source="ann", score=0.5)],
            reasons=[
                recommendation_service_pb2.Reason(
                    code=recommendation_service_pb2.REASON_CODE_SIMILAR_TO_BOUGHT, item_id="22423"
                ),
                recommendation_service_pb2.Reason(code=recommendation_service_pb2.REASON_CODE_TRENDING),
            ],
        )
    if request.user_id == "stranger":
        response.degraded.add(
            cause=recommendation_service_pb2.DEGRADATION_CAUSE_UNKNOWN_USER,
            stage="user",
            detail="The release does not know the user.",
        )
    return response


class _Recommendations(RecommendationServiceServicer):
    def __init__(self, server: SmallServer) -> None:
        self._server = server

    def Recommend(  # noqa: N802 - the name of the call
        self, request: recommendation_service_pb2.RecommendRequest, context: grpc.ServicerContext
    ) -> recommendation_service_pb2.RecommendResponse:
        self._server.take("Recommend", request, context)
        return answer(request)

    def BatchRecommend(  # noqa: N802
        self, request: recommendation_service_pb2.BatchRecommendRequest, context: grpc.ServicerContext
    ) -> recommendation_service_pb2.BatchRecommendResponse:
        self._server.take("BatchRecommend", request, context)
        return recommendation_service_pb2.BatchRecommendResponse(responses=[answer(one) for one in request.requests])


class _Releases(ReleaseServiceServicer):
    def __init__(self, server: SmallServer) -> None:
        self._server = server

    def ListReleases(  # noqa: N802
        self, request: release_service_pb2.ListReleasesRequest, context: grpc.ServicerContext
    ) -> release_service_pb2.ListReleasesResponse:
        self._server.take("ListReleases", request, context)
        torn = release_service_pb2.Release(
            release_id="torn", state=release_service_pb2.RELEASE_STATE_BROKEN, problem="index.faiss:\nchecksum differs"
        )
        return release_service_pb2.ListReleasesResponse(
            releases=[torn, self._release("second"), self._release("first")]
        )

    def PromoteRelease(  # noqa: N802
        self, request: release_service_pb2.PromoteReleaseRequest, context: grpc.ServicerContext
    ) -> release_service_pb2.PromoteReleaseResponse:
        self._server.take("PromoteRelease", request, context)
        if request.release_id not in ("first", "second"):
            refuse(grpc.StatusCode.NOT_FOUND, f"there is no release {request.release_id}", reason="RELEASE_NOT_FOUND")(
                context
            )
        previous, self._server.serving = self._server.serving, request.release_id
        return release_service_pb2.PromoteReleaseResponse(
            release=self._release(request.release_id), previous_release_id=previous
        )

    def RollbackRelease(  # noqa: N802
        self, request: release_service_pb2.RollbackReleaseRequest, context: grpc.ServicerContext
    ) -> release_service_pb2.RollbackReleaseResponse:
        self._server.take("RollbackRelease", request, context)
        if request.from_release_id not in ("", self._server.serving):
            refuse(grpc.StatusCode.FAILED_PRECONDITION, f"{request.from_release_id} is not serving")(context)
        self._server.serving, self._server.before = self._server.before, self._server.serving
        return release_service_pb2.RollbackReleaseResponse(
            release=self._release(self._server.serving), previous_release_id=self._server.before
        )

    def _release(self, release_id: str) -> release_service_pb2.Release:
        serving = release_id == self._server.serving
        release = release_service_pb2.Release(
            release_id=release_id,
            state=release_service_pb2.RELEASE_STATE_SERVING if serving else release_service_pb2.RELEASE_STATE_AVAILABLE,
            item_count=123_456,
            user_count=7,
            dim=64,
            metric="inner_product",
            index_key="IVF512,SQfp16",
            recall=0.9625,
            recall_k=10,
            sources=["ann", "trending"],
            ranked=True,
        )
        release.create_time.FromDatetime(BUILT)
        return release


class _Events(EventServiceServicer):
    def __init__(self, server: SmallServer) -> None:
        self._server = server

    def RecordEvents(  # noqa: N802
        self, request: event_service_pb2.RecordEventsRequest, context: grpc.ServicerContext
    ) -> event_service_pb2.RecordEventsResponse:
        self._server.take("RecordEvents", request, context)
        return event_service_pb2.RecordEventsResponse(
            verdicts=[self._verdict(event) for event in request.events], consistency_token="token-1"
        )

    def _verdict(self, event: event_pb2.Event) -> event_service_pb2.EventVerdict:
        """Reject what has no user, know a second event of an id, and accept the rest."""
        if not event.user_id:
            fault = event_service_pb2.EventFault(field="user_id", description="has 0 bytes, must have 1 to 256")
            return event_service_pb2.EventVerdict(status=event_service_pb2.EVENT_STATUS_REJECTED, faults=[fault])
        known = event.event_id in self._server.event_ids
        self._server.event_ids.add(event.event_id)
        status = event_service_pb2.EVENT_STATUS_DUPLICATE if known else event_service_pb2.EVENT_STATUS_ACCEPTED
        return event_service_pb2.EventVerdict(status=status)


class _Profiles(ProfileServiceServicer):
    def __init__(self, server: SmallServer) -> None:
        self._server = server

    def GetProfile(  # noqa: N802
        self, request: profile_service_pb2.GetProfileRequest, context: grpc.ServicerContext
    ) -> profile_service_pb2.GetProfileResponse:
        self._server.take("GetProfile", request, context)
        if request.user_id == "stranger":
            refuse(grpc.StatusCode.NOT_FOUND, "nothing is recorded of user 'stranger'")(context)
        profile = profile_service_pb2.Profile(
            user_id=request.user_id,
            version=7,
            counts=[
                profile_service_pb2.EventCount(
                    type=event_pb2.EVENT_TYPE_VIEW, total=1234, last_day=1, last_week=20, last_month=300, decayed=123.5
                )
            ],
            recent_events=[
                profile_service_pb2.RecentEvent(type=event_pb2.EVENT_TYPE_SEARCH, query="lantern"),
                profile_service_pb2.RecentEvent(type=event_pb2.EVENT_TYPE_PURCHASE, item_ids=["a", "b"], value=9.5),
            ],
            bought_items=[profile_service_pb2.BoughtItem(item_id="a", purchases=2, returns=1)],
            bought_item_count=1,
            blocked_item_ids=["z"],
            blocked_categories=["garden"],
            categories=[profile_service_pb2.Affinity(value="home", share=0.75)],
            known_to_release=True,
            spent=1234.5,
            attributes=[
                profile_service_pb2.ProfileAttribute(name="age", value={"number": 25}, source="crm"),
                profile_service_pb2.ProfileAttribute(name="interests", value={"texts": {"values": ["art", "tea"]}}),
            ],
            tags=[profile_service_pb2.ProfileTag(tag="vip", weight=2, source="crm")],
            ratings=[profile_service_pb2.Rating(item_id="b", stars=4.5)],
            searches=[profile_service_pb2.Search(query="lantern")],
            visits=[profile_service_pb2.Visit(events=3)],
            prices=profile_service_pb2.PriceAffinity(low=1, middle=2, high=1234.5),
            contacts=[
                contact_pb2.KnownContact(
                    contact_id="1" * 32, channel=contact_pb2.CONTACT_CHANNEL_EMAIL, masked="a***@b.example"
                )
            ],
            preferences=preferences_pb2.Preferences(
                purposes=[
                    preferences_pb2.PurposeChoice(
                        purpose=preferences_pb2.PURPOSE_PROFILING, choice=preferences_pb2.CHOICE_NO
                    )
                ],
                topics={"sale": preferences_pb2.CHOICE_YES, "news": preferences_pb2.CHOICE_NO},
                quiet_hours=preferences_pb2.QuietHours(
                    time_zone="Europe/Berlin",
                    spans=[
                        *(
                            preferences_pb2.QuietSpan(weekday=day, start_minute=22 * 60, end_minute=8 * 60)
                            for day in preferences_pb2.Weekday.keys()[1:]
                        ),
                        preferences_pb2.QuietSpan(
                            weekday=preferences_pb2.WEEKDAY_SUNDAY, start_minute=12 * 60, end_minute=14 * 60
                        ),
                    ],
                ),
                max_per_day=2,
            ),
        )
        for message, name in (
            (profile, "first_event_time"),
            (profile, "last_event_time"),
            (profile.recent_events[0], "event_time"),
            (profile.bought_items[0], "last_time"),
            (profile.attributes[0], "since"),
            (profile.tags[0], "expire_time"),
            (profile.ratings[0], "event_time"),
            (profile.searches[0], "event_time"),
            (profile.visits[0], "start_time"),
            (profile.visits[0], "end_time"),
        ):
            getattr(message, name).FromDatetime(BUILT)
        return profile_service_pb2.GetProfileResponse(profile=profile)

    def UpdateProfile(  # noqa: N802
        self, request: profile_service_pb2.UpdateProfileRequest, context: grpc.ServicerContext
    ) -> profile_service_pb2.UpdateProfileResponse:
        self._server.take("UpdateProfile", request, context)
        known = request.event_id in self._server.event_ids
        self._server.event_ids.add(request.event_id)
        return profile_service_pb2.UpdateProfileResponse(duplicate=known, consistency_token="token-2")

    def MergeProfiles(  # noqa: N802
        self, request: profile_service_pb2.MergeProfilesRequest, context: grpc.ServicerContext
    ) -> profile_service_pb2.MergeProfilesResponse:
        self._server.take("MergeProfiles", request, context)
        return profile_service_pb2.MergeProfilesResponse(
            user_id=request.user_id, already=request.visitor_id == "known", consistency_token="token-3"
        )


class _Pushes(PushServiceServicer):
    def __init__(self, server: SmallServer) -> None:
        self._server = server

    def Subscribe(  # noqa: N802
        self, request: push_service_pb2.SubscribeRequest, context: grpc.ServicerContext
    ) -> Iterator[push_service_pb2.SubscribeResponse]:
        scripts = self._server.scripts
        script: Script = scripts.popleft() if scripts else (subscribed(), self._server.stay)
        self._server.note("Subscribe", request, context)
        try:
            for part in script:
                if isinstance(part, push_service_pb2.SubscribeResponse):
                    yield part
                else:
                    part(context)
        finally:
            self._server.note("left", request, context)

    def Acknowledge(  # noqa: N802
        self, request: push_service_pb2.AcknowledgeRequest, context: grpc.ServicerContext
    ) -> push_service_pb2.AcknowledgeResponse:
        self._server.take("Acknowledge", request, context)
        return push_service_pb2.AcknowledgeResponse(offset=request.offset)

    def SendPush(  # noqa: N802
        self, request: push_service_pb2.SendPushRequest, context: grpc.ServicerContext
    ) -> push_service_pb2.SendPushResponse:
        self._server.take("SendPush", request, context)
        if request.user_id == "full":
            return push_service_pb2.SendPushResponse(
                decision=push_service_pb2.PUSH_DECISION_SUPPRESSED, reason=push_service_pb2.SUPPRESS_REASON_CAP_DAY
            )
        return push_service_pb2.SendPushResponse(decision=push_service_pb2.PUSH_DECISION_SENT, push_id="p7", offset=7)


def subscribed(
    offset: int = 0, *, name: str = "s1", epoch: str = "e1", recovered: bool = True, heartbeat: float = 60.0
) -> push_service_pb2.SubscribeResponse:
    """Return the first message of a stream; `heartbeat` is in seconds."""
    return push_service_pb2.SubscribeResponse(
        subscribed=push_service_pb2.Subscribed(
            subscription_id=name,
            epoch=epoch,
            offset=offset,
            recovered=recovered,
            heartbeat_interval=Duration(nanos=round(heartbeat * 1e9) % 10**9, seconds=int(heartbeat)),
        )
    )


def push(offset: int, prev_offset: int | None = None, **fields: Any) -> push_service_pb2.SubscribeResponse:
    """Return a push that follows the one before it, `p` + offset its name."""
    previous = offset - 1 if prev_offset is None else prev_offset
    message = push_service_pb2.Push(push_id=f"p{offset}", offset=offset, prev_offset=previous, **fields)
    return push_service_pb2.SubscribeResponse(push=message)


@contextmanager
def small_server(port: int = 0) -> Iterator[SmallServer]:
    """Run a small server on this machine for as long as the block lasts."""
    seen = SmallServer()
    server = grpc.server(ThreadPoolExecutor(max_workers=16), options=[("grpc.so_reuseport", 0)])
    add_RecommendationServiceServicer_to_server(_Recommendations(seen), server)
    add_ReleaseServiceServicer_to_server(_Releases(seen), server)
    add_EventServiceServicer_to_server(_Events(seen), server)
    add_ProfileServiceServicer_to_server(_Profiles(seen), server)
    add_PushServiceServicer_to_server(_Pushes(seen), server)
    seen.address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield seen
    finally:
        seen.released.set()
        server.stop(grace=None).wait()
