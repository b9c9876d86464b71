"""The narrow line between a front and the rest: a batch of calls in, their answers out, all of it bytes.

A front (grpcio, or another) turns a wire into Calls and answers into a wire. It takes the Methods below and knows
nothing of what they do, so another front is one file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from google.protobuf.message import DecodeError, Message

from tidings_core.errors import InvalidInput, TidingsError

_Message = TypeVar("_Message", bound=Message)

Lane = Literal["compute", "bulk", "admin"]
"""Threads of their own for single answers, for batches asked for by one caller, and for releases: none waits for
another kind.
"""


@dataclass(slots=True)
class Call:
    """One call: its request as it came from the wire, and its deadline in monotonic seconds."""

    body: bytes
    deadline: float


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


def by_service(methods: Sequence[Method]) -> Mapping[str, list[Method]]:
    """Methods by the full name of their service."""
    found: dict[str, list[Method]] = {}
    for method in methods:
        found.setdefault(method.service, []).append(method)
    return found


def parse(message: _Message, body: bytes) -> _Message:
    """Fill an empty message from a request's bytes and return it. Raises InvalidInput when they are not one."""
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        kind = message.DESCRIPTOR.name
        raise InvalidInput(("request", f"is not a {kind}: its bytes are damaged, or a text is not UTF-8")) from error
    return message
