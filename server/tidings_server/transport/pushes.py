"""PushService: subscriptions as streams of bytes, and acknowledgements."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tidings.v1 import push_service_pb2 as pb
from tidings_core.errors import InvalidInput, TidingsError
from tidings_core.events import id_fault
from tidings_core.faults import Fault, text_fault
from tidings_core.model import MAX_ID_BYTES
from tidings_server.application.acknowledge import Acknowledge, Acknowledgement, Outcome
from tidings_server.application.places import Resume
from tidings_server.application.subscription import (
    GoAway,
    Heartbeat,
    Message,
    Push,
    Subscribed,
    Subscription,
    Withdraw,
)
from tidings_server.application.subscriptions import Subscriptions
from tidings_server.transport.calls import Call, parse
from tidings_server.transport.encoding import varint

DEFAULT_MAX_UNACKED = 32
MOST_UNACKED = 1000
MAX_OUTCOMES = 1000
MAX_FAULTS = 8
"""So many faults of one request are named; the details of an error must fit into a header."""

_GO_AWAY = {
    "stopping": pb.GO_AWAY_REASON_STOPPING,
    "replaced": pb.GO_AWAY_REASON_REPLACED,
    "erased": pb.GO_AWAY_REASON_ERASED,
    "failed": pb.GO_AWAY_REASON_FAILED,
    "merged": pb.GO_AWAY_REASON_MERGED,
}
_OUTCOMES: dict[int, Outcome] = {
    pb.DISPOSITION_DELIVERED: "delivered",
    pb.DISPOSITION_DISPLAYED: "displayed",
    pb.DISPOSITION_CLICKED: "clicked",
    pb.DISPOSITION_DISMISSED: "dismissed",
    pb.DISPOSITION_REJECTED: "rejected",
}

# Tag bytes: field number and wire type, as push_service.proto has them; tests compare with protobuf's own.
_PUSH = b"\x12"  # SubscribeResponse.push
_OFFSET = b"\x10"  # Push.offset
_PREV_OFFSET = b"\x18"  # Push.prev_offset


class PushHandlers:
    """The handlers of Subscribe and Acknowledge."""

    def __init__(self, subscriptions: Subscriptions, acknowledge: Acknowledge) -> None:
        """Take who listens, and the verb."""
        self._subscriptions = subscriptions
        self._acknowledge = acknowledge

    async def subscribe(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """Open a subscription and tell of everything on it, until it ends or is closed."""
        user_id, device_id, resume, max_unacked = _subscription(body)
        async with aclosing(self._subscriptions.subscribe(user_id, device_id, resume, max_unacked)) as messages:
            async for message in messages:
                yield encode_message(message)

    async def open(self, body: bytes, wake: Callable[[], None]) -> "PushSession":
        """Open a subscription that is asked for what there is to tell."""
        user_id, device_id, resume, max_unacked = _subscription(body)
        subscription, first = await self._subscriptions.open(user_id, device_id, resume, max_unacked, wake)
        return PushSession(self._subscriptions, subscription, first)

    def acknowledge(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer Acknowledge calls together. Blocks until they are on disk."""
        read = [_answered(_acknowledgement, call.body) for call in calls]
        made = iter(self._acknowledge([one for one in read if isinstance(one, Acknowledgement)]))
        answers = [next(made) if isinstance(one, Acknowledgement) else one for one in read]
        return [
            pb.AcknowledgeResponse(offset=one).SerializeToString() if isinstance(one, int) else one for one in answers
        ]


class PushSession:
    """A subscription as a Session of bytes."""

    __slots__ = ("_first", "_subscription", "_subscriptions", "ended")

    def __init__(self, subscriptions: Subscriptions, subscription: Subscription, first: Message) -> None:
        """Tell `first` before all else."""
        self._subscriptions = subscriptions
        self._subscription = subscription
        self._first: Message | None = first
        self.ended = False

    def next(self) -> bytes | None:
        """The next message; None when there is none for now."""
        message, self._first = self._first, None
        if message is None and not self.ended:
            message = self._subscriptions.next_message(self._subscription)
        if message is None:
            return None
        self.ended = isinstance(message, GoAway)
        return encode_message(message)

    def close(self) -> None:
        """End the subscription."""
        self._subscriptions.leave(self._subscription)


def encode_message(message: Message) -> bytes:
    """The bytes of a SubscribeResponse. A push is spliced: its stored bytes are the same for all devices."""
    match message:
        case Push(stored, prev_offset):
            # Protobuf leaves out a field that is 0; an offset never is.
            place = _OFFSET + varint(stored.offset) + (_PREV_OFFSET + varint(prev_offset) if prev_offset else b"")
            return b"".join((_PUSH, varint(len(stored.content) + len(place)), stored.content, place))
        case Heartbeat(time, newest_offset):
            stamp = Timestamp()
            stamp.FromMilliseconds(time)
            response = pb.SubscribeResponse(heartbeat=pb.Heartbeat(server_time=stamp, newest_offset=newest_offset))
        case Withdraw(push_id):
            withdraw = pb.Withdraw(push_id=push_id, cause=pb.WITHDRAW_CAUSE_COLLAPSED)
            response = pb.SubscribeResponse(withdraw=withdraw)
        case GoAway(reason, delay, resumable):
            go_away = pb.GoAway(reason=_GO_AWAY[reason], reconnect_delay=_duration(delay), resumable=resumable)
            response = pb.SubscribeResponse(go_away=go_away)
        case Subscribed(subscription_id, epoch, offset, recovered, heartbeat):
            subscribed = pb.Subscribed(
                subscription_id=subscription_id,
                epoch=epoch,
                offset=offset,
                recovered=recovered,
                heartbeat_interval=_duration(heartbeat),
            )
            response = pb.SubscribeResponse(subscribed=subscribed)
    return response.SerializeToString()


def _subscription(body: bytes) -> tuple[str, str, Resume | None, int]:
    """User, device, place and credit of a request. Raises InvalidInput."""
    request = parse(pb.SubscribeRequest(), body)
    max_unacked = request.max_unacked if request.HasField("max_unacked") else DEFAULT_MAX_UNACKED
    faults = [("user_id", id_fault(request.user_id)), ("device_id", text_fault(request.device_id, MAX_ID_BYTES))]
    if not 1 <= max_unacked <= MOST_UNACKED:
        faults.append(("max_unacked", f"is {max_unacked}, must be 1 to {MOST_UNACKED}"))
    resume = None
    if request.HasField("resume"):
        resume = Resume(request.resume.epoch, request.resume.offset)
        faults.append(("resume.epoch", text_fault(resume.epoch, MAX_ID_BYTES)))
        faults.append(("resume.offset", _offset_fault(resume.offset)))
    _refuse(faults)
    return request.user_id, request.device_id, resume, max_unacked


def _acknowledgement(body: bytes) -> Acknowledgement:
    """What a request acknowledges. Raises InvalidInput."""
    request = parse(pb.AcknowledgeRequest(), body)
    faults = [("user_id", id_fault(request.user_id)), ("subscription_id", id_fault(request.subscription_id))]
    faults.append(("offset", _offset_fault(request.offset)))
    if len(request.outcomes) > MAX_OUTCOMES:
        faults.append(("outcomes", f"has {len(request.outcomes)} entries, may have {MAX_OUTCOMES} at most"))
        _refuse(faults)
    outcomes: list[tuple[str, Outcome]] = []
    for at, given in enumerate(request.outcomes):
        faults.append((f"outcomes[{at}].push_id", id_fault(given.push_id)))
        outcome = _OUTCOMES.get(given.disposition)
        if outcome is None:
            faults.append((f"outcomes[{at}].disposition", f"is {given.disposition}, must be one of Disposition, not 0"))
        else:
            outcomes.append((given.push_id, outcome))
    _refuse(faults)
    return Acknowledgement(request.user_id, request.subscription_id, request.offset, outcomes)


def _offset_fault(offset: int) -> str:
    return f"is {offset}, must be 0 or more" if offset < 0 else ""


def _refuse(faults: Sequence[Fault]) -> None:
    """Raise InvalidInput when there are faults."""
    found = [(field, problem) for field, problem in faults if problem]
    if len(found) > MAX_FAULTS:
        field, problem = found[MAX_FAULTS - 1]
        found[MAX_FAULTS - 1 :] = [(field, f"{problem} (and {len(found) - MAX_FAULTS} more faults)")]
    if found:
        raise InvalidInput(*found)


def _answered(read: Callable[[bytes], Acknowledgement], body: bytes) -> Acknowledgement | TidingsError:
    try:
        return read(body)
    except TidingsError as error:
        return error


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(round(seconds * 1000))
    return duration
