"""The one error tree.

TidingsError
├── InvalidInput        a request, file or setting is not as it must be; names every field
├── NotFound            what was named is not there
├── Conflict            it cannot be done in the present state
│   ├── ReleaseRefused  a release did not pass validation
│   └── ErasedUser      the user was erased: nothing is recorded or sent
├── InUse               somebody else holds what is needed (a lock, a port)
├── Overloaded          no room for more work now; says when to come back
├── Stopping            no new work: the server is about to end; says when to come back
├── StorageFull         nothing can be written: the disk is full; says when to come back
├── StorageFailed       the disk, or the database on it, failed
├── DeadlinePassed      the caller's deadline passed before an answer was ready
└── DependencyFailed    a part failed that the answer can do without
    ├── IndexFailed
    ├── RankerFailed
    └── EncoderFailed
"""

from collections.abc import Sequence


class TidingsError(Exception):
    """Every error of ours. `reason` is a stable upper-case word for programs; `str()` is a sentence for people."""

    reason = "INTERNAL"


class InvalidInput(TidingsError):
    """Input is not as it must be.

    `violations` holds (field, description) pairs; a description names the limit and the way out.
    """

    reason = "INVALID_INPUT"

    def __init__(self, *violations: tuple[str, str]) -> None:
        self.violations: Sequence[tuple[str, str]] = violations
        super().__init__("; ".join(f"{field}: {description}" for field, description in violations))


class NotFound(TidingsError):
    """What was named is not there."""

    reason = "NOT_FOUND"


class Conflict(TidingsError):
    """It cannot be done in the present state."""

    reason = "CONFLICT"


class ReleaseRefused(Conflict):
    """A release did not pass validation and was not taken."""

    reason = "RELEASE_REFUSED"

    def __init__(self, release_id: str, problem: str) -> None:
        self.release_id = release_id
        self.problem = problem
        super().__init__(f"release {release_id}: {problem}")


class ErasedUser(Conflict):
    """The user was erased: nothing may be recorded of that id, or sent to it."""

    reason = "ERASED"

    def __init__(self) -> None:
        super().__init__(
            "the user was erased: nothing is recorded of that id or sent to it; if the person came back, say so with "
            "SetPreferences and lift_erasure"
        )


class InUse(TidingsError):
    """Somebody else holds what is needed."""

    reason = "IN_USE"


class Overloaded(TidingsError):
    """No room for more work now. `retry_after` is in seconds."""

    reason = "OVERLOADED"

    def __init__(self, message: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class Stopping(TidingsError):
    """No new work is taken: the server is about to end. `retry_after` is in seconds."""

    reason = "STOPPING"

    def __init__(self, message: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class StorageFull(TidingsError):
    """Nothing can be written: the disk is full. Nothing was changed; reads go on. `retry_after` is in seconds."""

    reason = "STORAGE_FULL"

    def __init__(self, message: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class StorageFailed(TidingsError):
    """The disk, or the database on it, failed."""

    reason = "STORAGE_FAILED"


class DeadlinePassed(TidingsError):
    """The caller's deadline passed before an answer was ready."""

    reason = "DEADLINE_PASSED"


class DependencyFailed(TidingsError):
    """A part failed that the answer can do without."""

    reason = "DEPENDENCY_FAILED"


class IndexFailed(DependencyFailed):
    """The vector index failed."""


class RankerFailed(DependencyFailed):
    """The ranker failed."""


class EncoderFailed(DependencyFailed):
    """The encoder failed."""
