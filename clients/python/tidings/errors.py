"""What a call can raise, in one tree:

    TidingsError               .message  .code (grpc.StatusCode)  .reason (stable name, or "")
    ├── InvalidArgument        .fields: each refused field and why; also a ValueError
    ├── NotFound               what was named is not there
    ├── FailedPrecondition     not in the present state, such as promoting a broken release
    ├── Replaced               a subscription whose device subscribed elsewhere
    ├── Overloaded             .retry_after: too much at once, try again later
    ├── StorageFull            .retry_after: the server's disk is full; reads go on
    ├── Unavailable            .retry_after: no server, or one that starts or stops
    ├── DeadlineExceeded       no answer in time
    ├── Unimplemented          the server is older than this call
    └── InternalError          a fault of the server

A status with none of these meanings (a proxy's PERMISSION_DENIED, say) is a plain TidingsError with its `code`.
"""

from collections.abc import Sequence

import grpc


class TidingsError(Exception):
    """A call that failed: `message` for a person, `code` and `reason` for a program.

    `reason` is the stable name that the server gives the error, such as "NOT_FOUND". It is empty when the
    error does not come from a Tidings server.
    """

    def __init__(self, message: str, *, code: grpc.StatusCode = grpc.StatusCode.UNKNOWN, reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason


class InvalidArgument(TidingsError, ValueError):
    """The request breaks a rule and changed nothing; `fields` holds (field, description) for each one refused."""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT,
        reason: str = "",
        fields: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message, code=code, reason=reason)
        self.fields = list(fields)


class NotFound(TidingsError):
    """What the request names is not there."""


class FailedPrecondition(TidingsError):
    """The server is not in a state for this request, and stays as it was."""


class Replaced(TidingsError):
    """The same device of the same user subscribed again, which ended this subscription."""

    def __init__(
        self, message: str, *, code: grpc.StatusCode = grpc.StatusCode.ABORTED, reason: str = "SUBSCRIPTION_REPLACED"
    ) -> None:
        super().__init__(message, code=code, reason=reason)


class _TryLater(TidingsError):
    """An error that may pass: `retry_after` is the server's advice in seconds, None when it gave none."""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE,
        reason: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, code=code, reason=reason)
        self.retry_after = retry_after


class Overloaded(_TryLater):
    """The server has too much to do and refused at once; try again after `retry_after` seconds."""


class StorageFull(_TryLater):
    """The server's disk is full: nothing was changed, and reads go on.

    The call is not repeated by itself: somebody must make room first. `retry_after` is when to look again, in seconds.
    """


class Unavailable(_TryLater):
    """No server answered, or it cannot answer now; the retries of the call are used up."""


class DeadlineExceeded(TidingsError):
    """No answer came within the call's timeout, all attempts together."""


class Unimplemented(TidingsError):
    """The server does not know this call."""


class InternalError(TidingsError):
    """The server failed, or sent what this client cannot read."""
