"""PushService.SendPush: bytes to a push that is fit to be sent, and what became of it to bytes."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import structlog

from tidings.v1 import push_service_pb2 as pb
from tidings_core.errors import InvalidInput, TidingsError
from tidings_core.events import id_fault
from tidings_core.faults import Fault, text_fault
from tidings_core.model import MAX_ID_BYTES
from tidings_core.preferences import MAX_TOPIC_BYTES
from tidings_core.stored import Entry
from tidings_server.application.compose import MAX_BODY_BYTES, MAX_TITLE_BYTES, MAX_URL_BYTES
from tidings_server.application.send_push import PushRequest, SendPush
from tidings_server.transport.calls import Call, parse

MAX_ITEMS = 20
MAX_DATA_ENTRIES = 32
MAX_DATA_BYTES = 4096
MAX_TTL_SECONDS = 30 * 86_400
MAX_FAULTS = 8
"""So many faults of one request are named; the details of an error must fit into a header."""

log = structlog.get_logger(__name__)


class SendPushHandler:
    """The handler of SendPush."""

    def __init__(self, send: SendPush, ttl_seconds: float) -> None:
        """`ttl_seconds` is how long a push is of use whose sender does not say."""
        self._send = send
        self._ttl_seconds = ttl_seconds

    def send_push(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer SendPush calls together. Blocks until what they send is on disk."""
        return [_answer(future) for future in [self._start(call.body) for call in calls]]

    def _start(self, body: bytes) -> "Future[Entry] | TidingsError":
        try:
            return self._send(_read(body, self._ttl_seconds))
        except TidingsError as error:
            return error
        except Exception:  # A fault of ours; it must not hurt the other calls.
            log.exception("send push failed")
            return TidingsError("the server failed; its log says why")


def _answer(future: "Future[Entry] | TidingsError") -> bytes | TidingsError:
    if isinstance(future, TidingsError):
        return future
    try:
        entry = future.result()
    except TidingsError as error:
        return error
    except Exception:
        log.exception("send push failed")
        return TidingsError("the server failed; its log says why")
    if not entry.push_id:
        why = f"SUPPRESS_REASON_{entry.reason}"
        return pb.SendPushResponse(decision=pb.PUSH_DECISION_SUPPRESSED, reason=why).SerializeToString()
    return pb.SendPushResponse(
        decision=pb.PUSH_DECISION_SENT, push_id=entry.push_id, offset=entry.offset
    ).SerializeToString()


def _read(body: bytes, ttl_seconds: float) -> PushRequest:
    """The push in a request. Raises InvalidInput naming each field at fault."""
    request = parse(pb.SendPushRequest(), body)
    if request.HasField("ttl"):
        ttl_seconds = request.ttl.seconds + request.ttl.nanos / 1e9
    faults = [(field, problem) for field, problem in _checks(request, ttl_seconds) if problem]
    if len(faults) > MAX_FAULTS:
        field, problem = faults[MAX_FAULTS - 1]
        faults[MAX_FAULTS - 1 :] = [(field, f"{problem} (and {len(faults) - MAX_FAULTS} more faults)")]
    if faults:
        raise InvalidInput(*faults)
    return PushRequest(
        request_id=request.request_id,
        user_id=request.user_id,
        title=request.title,
        ttl_seconds=ttl_seconds,
        body=request.body,
        item_ids=tuple(request.item_ids),
        url=request.url,
        data=dict(request.data),
        collapse_key=request.collapse_key,
        topic=request.topic,
        asked_for=request.asked_for,
    )


def _checks(request: "pb.SendPushRequest", ttl_seconds: float) -> Iterator[Fault]:
    yield "request_id", id_fault(request.request_id)
    yield "user_id", id_fault(request.user_id)
    yield "title", text_fault(request.title, MAX_TITLE_BYTES, 1)
    # A body may have several lines.
    yield "body", text_fault(request.body.replace("\n", " "), MAX_BODY_BYTES)
    yield "url", text_fault(request.url, MAX_URL_BYTES)
    yield "collapse_key", text_fault(request.collapse_key, MAX_ID_BYTES)
    yield "topic", text_fault(request.topic, MAX_TOPIC_BYTES)
    if len(request.item_ids) > MAX_ITEMS:
        yield "item_ids", f"has {len(request.item_ids)} entries, may have {MAX_ITEMS} at most"
    else:
        yield from ((f"item_ids[{at}]", id_fault(item_id)) for at, item_id in enumerate(request.item_ids))
    if len(request.data) > MAX_DATA_ENTRIES:
        yield "data", f"has {len(request.data)} entries, may have {MAX_DATA_ENTRIES} at most"
    size = sum(len(name.encode()) + len(value.encode()) for name, value in request.data.items())
    if size > MAX_DATA_BYTES:
        yield "data", f"has {size} bytes, may have {MAX_DATA_BYTES} in all: send what is larger another way"
    if not 1 <= ttl_seconds <= MAX_TTL_SECONDS:
        yield "ttl", f"is {ttl_seconds:g} s, must be 1 second to 30 days ({MAX_TTL_SECONDS} s)"
