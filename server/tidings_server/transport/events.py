"""EventService: bytes to events that are checked, verdicts to bytes; and the bytes that the log keeps of an event."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from tidings.v1 import event_pb2, event_service_pb2
from tidings_core.errors import InvalidInput, StorageFailed, TidingsError
from tidings_core.events import EVENT_TYPES, MAX_EVENTS, Event, EventItem, EventType, id_fault
from tidings_core.faults import Fault
from tidings_server.application.record_events import Proposed, Recorded, RecordEvents, Status, Verdict
from tidings_server.metrics import Metrics
from tidings_server.transport.calls import Call, parse

MAX_FAULTS = 8
"""So many faults of one event are named."""
TYPES: Mapping[EventType, "event_pb2.EventType"] = {
    kind: getattr(event_pb2, f"EVENT_TYPE_{kind.upper()}") for kind in EVENT_TYPES
}
_KINDS = {int(number): kind for kind, number in TYPES.items()}
_STATUS: Mapping[Status, "event_service_pb2.EventStatus"] = {
    "accepted": event_service_pb2.EVENT_STATUS_ACCEPTED,
    "duplicate": event_service_pb2.EVENT_STATUS_DUPLICATE,
    "rejected": event_service_pb2.EVENT_STATUS_REJECTED,
    "erased": event_service_pb2.EVENT_STATUS_ERASED,
}
_MAX_NANOS = 1_000_000_000
_MAX_SECONDS = 253_402_300_799  # The last second of the year 9999, the largest that a Timestamp may hold.


_Given = Sequence[Proposed | Verdict]
"""The events of a call as they were read."""

CheckDecision = Callable[[str], object]
"""Raises InvalidInput for a decision token that is not good."""


def no_decisions(_token: str) -> None:
    """Take no decision token."""
    raise InvalidInput(("decision_token", "is taken by RecordEvents alone: history has no decision to follow from"))


class EventHandlers:
    """The handler of RecordEvents."""

    def __init__(
        self, record: RecordEvents, now: Callable[[], float], metrics: Metrics, check_decision: CheckDecision
    ) -> None:
        """`now` gives Unix seconds. `check_decision` raises InvalidInput for a decision token that is not good."""
        self._check_decision = check_decision
        self._record = record
        self._now = now
        self._metrics = metrics
        self._recorded = metrics.stage("record")

    def record_events(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer RecordEvents calls together. Blocks until what they record is on disk."""
        read = [self._read(call.body) for call in calls]
        start = time.monotonic()
        made = iter(self._record([one for one in read if not isinstance(one, TidingsError)]))
        self._recorded(time.monotonic() - start)
        answers = [(one, one if isinstance(one, TidingsError) else next(made)) for one in read]
        self._count(answers)
        return [made if isinstance(made, TidingsError) else _answer(made) for _, made in answers]

    def _count(
        self, answers: "Sequence[tuple[list[Proposed | Verdict] | TidingsError, Recorded | TidingsError]]"
    ) -> None:
        """Count the verdicts of all calls together: most are alike."""
        counts: Counter[tuple[str, str]] = Counter()
        for given, made in answers:
            if isinstance(given, TidingsError) or isinstance(made, TidingsError):
                continue
            types = ["unknown" if isinstance(one, Verdict) else one[0].type for one in given]
            counts.update(zip(types, [verdict.status for verdict in made.verdicts], strict=True))
        for (type, status), count in counts.items():
            self._metrics.events(type, status, count)

    def _read(self, body: bytes) -> "list[Proposed | Verdict] | TidingsError":
        try:
            events = parse(event_service_pb2.RecordEventsRequest(), body).events
        except InvalidInput as error:
            return error
        if not 1 <= len(events) <= MAX_EVENTS:
            return InvalidInput(
                ("events", f"has {len(events)} entries, must have 1 to {MAX_EVENTS}: send them in several calls")
            )
        now_ms = int(self._now() * 1000)
        return [propose(event, now_ms, self._check_decision) for event in events]


def _answer(made: Recorded) -> bytes:
    if len(made.verdicts) == 1 and not made.verdicts[0].faults:
        return _usual(made.verdicts[0].status, made.token)
    return _encode(made.verdicts, made.token)


@lru_cache(16)
def _usual(status: Status, token: str) -> bytes:
    """The answer to a call of one event without faults: calls that were written down together have the same."""
    return _encode([Verdict(status)], token)


def _encode(verdicts: Sequence[Verdict], token: str) -> bytes:
    return event_service_pb2.RecordEventsResponse(
        verdicts=[_verdict(verdict) for verdict in verdicts], consistency_token=token
    ).SerializeToString()


def read_event(message: event_pb2.Event, moment: int) -> Event:
    """The event in a message whose type is known, at `moment` (Unix milliseconds)."""
    return Event(
        event_id=message.event_id,
        type=_KINDS[message.type],
        user_id=message.user_id,
        time=moment,
        items=tuple(
            EventItem(
                item.item_id,
                item.quantity if item.HasField("quantity") else 1,
                item.price if item.HasField("price") else None,
            )
            for item in message.items
        ),
        category=message.category,
        query=message.query,
        value=message.value if message.HasField("value") else None,
        push_id=message.push_id,
        order_id=message.order_id,
        decision_token=message.decision_token,
    )


def encode_event(event: Event) -> bytes:
    """What the log keeps of an event: an encoded tidings.v1.Event."""
    message = event_pb2.Event(
        event_id=event.event_id,
        type=TYPES[event.type],
        user_id=event.user_id,
        category=event.category,
        query=event.query,
        value=event.value,
        event_time=_timestamp(event.time),
        push_id=event.push_id,
        order_id=event.order_id,
        decision_token=event.decision_token,
    )
    for item in event.items:
        message.items.add(item_id=item.item_id, quantity=item.quantity, price=item.price)
    return message.SerializeToString()


def decode_event(content: bytes) -> Event:
    """The event that the log kept. Raises StorageFailed when it is damaged."""
    try:
        message = event_pb2.Event.FromString(content)
        return read_event(message, message.event_time.seconds * 1000 + message.event_time.nanos // 1_000_000)
    except (DecodeError, KeyError) as error:
        raise StorageFailed(f"an event of the log is damaged: {error}") from error


def propose(message: event_pb2.Event, now_ms: int, check_decision: CheckDecision = no_decisions) -> Proposed | Verdict:
    """The event in a message with what the log keeps of it, or the verdict on a message that holds none."""
    faults: list[Fault] = []
    if message.decision_token:
        try:
            check_decision(message.decision_token)
        except InvalidInput as error:
            faults += error.violations
    if message.HasField("change"):
        faults.append(("change", "is no event: UpdateProfile records what is said of a user"))
    elif message.type not in _KINDS:
        known = ", ".join(kind.upper() for kind in EVENT_TYPES)
        faults.append(("type", f"is {int(message.type)}, which is no type of event; known are {known}"))
    if faults:
        # What is wrong with the rest depends on the type, but not that.
        named = (("event_id", id_fault(message.event_id)), ("user_id", id_fault(message.user_id)))
        faults += [(field, problem) for field, problem in named if problem]
    stamp = message.event_time
    if not (0 <= stamp.nanos < _MAX_NANOS and abs(stamp.seconds) <= _MAX_SECONDS):
        faults.append(("event_time", "is no time: seconds must be of the years 1 to 9999, nanos 0 to 999,999,999"))
    if faults:
        return Verdict("rejected", faults)
    moment = stamp.seconds * 1000 + stamp.nanos // 1_000_000 if message.HasField("event_time") else now_ms
    event = read_event(message, moment)
    return event, encode_event(event)


def _verdict(verdict: Verdict) -> event_service_pb2.EventVerdict:
    message = event_service_pb2.EventVerdict(status=_STATUS[verdict.status])
    for field, description in verdict.faults[:MAX_FAULTS]:
        message.faults.add(field=field, description=description)
    return message


def _timestamp(milliseconds: int) -> Timestamp:
    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)
