"""The narrow line between a front and the rest: a batch of calls in, their answers out, or a stream; all of it bytes.

A front (grpcio, or another) turns a wire into Calls and answers into a wire. It takes the Methods and Streams below and
knows nothing of what they do, so another front is one file. An Upload, a stream that callers send, is served by grpcio
alone; another front hands it on.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from tidings_core.errors import InvalidInput, TidingsError

_Message = TypeVar("_Message", bound=Message)

Lane = Literal[
    "compute", "bulk", "record", "acknowledge", "send", "catalogue", "admin", "explain", "erase"
]  # fmt: skip
"""Threads of their own for single answers, for batches asked for by one caller, for each kind of call that waits for
the disk, for releases, for who looks into a case, and for erasing people: none waits for another kind, and a batch is
not cut short by a call of another method.
"""


class Caller(Protocol):
    """Who waits for an answer: whatever a front knows a call by. A Future is one."""

    def done(self) -> bool:
        """Whether nobody waits any more."""
        ...


@dataclass(slots=True)
class Call:
    """One call: its request as it came from the wire, its deadline in monotonic seconds, and who waits, when known."""

    body: bytes
    deadline: float
    caller: Caller | None = None

    def left(self) -> bool:
        """Whether nobody waits for its answer any more: no work need be done for it."""
        return self.caller is not None and self.caller.done()


Handler = Callable[[Sequence[Call]], list[bytes | TidingsError]]
"""Answers a batch: for each call, in order, the response's bytes or the error it ends with. Blocks its thread."""


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC. `name` is unique among all services; `lane` says which threads run it.

    `max_batch` calls go to the handler at once; `default_seconds` is the deadline of a caller that sets none.
    """

    service: str
    name: str
    handler: Handler
    lane: Lane
    max_batch: int
    default_seconds: float


class Session(Protocol):
    """One open stream that has no coroutine of its own: it is asked for what there is. Lives on the event loop."""

    @property
    def ended(self) -> bool:
        """Whether `next` has given the last message."""
        ...

    def next(self) -> bytes | None:
        """The next message; None when there is none for now. Its TidingsError ends the stream."""
        ...

    def close(self) -> None:
        """Nobody listens any more. Called once."""
        ...


OpenSession = Callable[[bytes, Callable[[], None]], Awaitable[Session]]
"""Opens the session of a request. It calls the function it is given, on the event loop, when there may be a message."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One RPC that answers a request with a stream. `name` is unique among all services.

    The handler runs on the event loop and makes the responses of one request, each when the peer has room for it. Its
    TidingsError ends the stream; a front that has nobody to send to any more closes it. `open`, where there is one, is
    the same stream as a Session, which costs a front that can use it less.
    """

    service: str
    name: str
    handler: Callable[[bytes], AsyncGenerator[bytes, None]]
    open: OpenSession | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """One RPC that answers a stream of requests with one response. `name` is unique among all services.

    The handler runs on the event loop and takes the requests one by one: the peer sends no more than the wire holds
    until it asks for the next. Its TidingsError ends the call.
    """

    service: str
    name: str
    handler: Callable[[AsyncIterator[bytes]], Awaitable[bytes]]


def parse(message: _Message, body: bytes) -> _Message:
    """Fill an empty message from a request's bytes and return it. Raises InvalidInput when they are not one."""
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        kind = message.DESCRIPTOR.name
        raise InvalidInput(("request", f"is not a {kind}: its bytes are damaged, or a text is not UTF-8")) from error
    return message
