"""The one table: which error ends a call with which gRPC status, and what the status tells a program."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from tidings_core import errors

DOMAIN = "tidings"
DETAILS_KEY = "grpc-status-details-bin"
MAX_TEXT = 600
"""Characters of one message. Clients refuse headers of more than some 8 KiB, and the message is in them twice."""

CODES: Mapping[type[errors.TidingsError], grpc.StatusCode] = {
    errors.TidingsError: grpc.StatusCode.INTERNAL,
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.Conflict: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ReleaseRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ErasedUser: grpc.StatusCode.FAILED_PRECONDITION,
    errors.InUse: grpc.StatusCode.ABORTED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Stopping: grpc.StatusCode.UNAVAILABLE,
    errors.StorageFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StorageFailed: grpc.StatusCode.INTERNAL,
    errors.DeadlinePassed: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.DependencyFailed: grpc.StatusCode.INTERNAL,
    errors.IndexFailed: grpc.StatusCode.INTERNAL,
    errors.RankerFailed: grpc.StatusCode.INTERNAL,
    errors.EncoderFailed: grpc.StatusCode.INTERNAL,
}


def code_of(error: errors.TidingsError) -> grpc.StatusCode:
    """The gRPC status code of an error."""
    return CODES[type(error)]


def message_of(error: errors.TidingsError) -> str:
    """The sentence for a person, short enough for a header."""
    return _short(str(error))


def details_of(error: errors.TidingsError) -> bytes:
    """The encoded google.rpc.Status of an error: ErrorInfo, and BadRequest or RetryInfo where they apply."""
    if isinstance(error, errors.Overloaded):
        # Of these there are most when there is least time to write them.
        return _overloaded(str(error), error.retry_after)
    return _details_of(error)


@lru_cache(64)
def _overloaded(message: str, retry_after: float) -> bytes:
    return _details_of(errors.Overloaded(message, retry_after))


def _details_of(error: errors.TidingsError) -> bytes:
    status = status_pb2.Status(code=code_of(error).value[0], message=message_of(error))
    _pack(status, error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN))
    if isinstance(error, errors.InvalidInput):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=_short(description))
            for field, description in error.violations
        ]
        _pack(status, error_details_pb2.BadRequest(field_violations=violations))
    if isinstance(error, errors.Overloaded | errors.Stopping | errors.StorageFull):
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after * 1000))
        _pack(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status.SerializeToString()


def _pack(status: status_pb2.Status, detail: Any) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
