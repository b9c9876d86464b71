"""MergeProfiles: two ids from bytes, and what became of them to bytes."""

from collections.abc import Sequence
from concurrent.futures import Future

import structlog

from tidings.v1 import profile_service_pb2 as pb
from tidings_core.errors import InvalidInput, TidingsError
from tidings_core.events import id_fault
from tidings_server.application.merge_profiles import Merged, MergeProfiles
from tidings_server.transport.calls import Call, parse

log = structlog.get_logger(__name__)


class MergeHandler:
    """The handler of MergeProfiles."""

    def __init__(self, merge: MergeProfiles) -> None:
        """Take the verb."""
        self._merge = merge

    def merge_profiles(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer MergeProfiles calls together. Blocks until they are on disk."""
        return [_answered(future) for future in [self._start(call.body) for call in calls]]

    def _start(self, body: bytes) -> "Future[Merged] | TidingsError":
        try:
            request = parse(pb.MergeProfilesRequest(), body)
            given = (("visitor_id", request.visitor_id), ("user_id", request.user_id))
            faults = [(field, problem) for field, name in given if (problem := id_fault(name))]
            if faults:
                return InvalidInput(*faults)
            return self._merge(request.visitor_id, request.user_id)
        except TidingsError as error:
            return error


def _answered(future: "Future[Merged] | TidingsError") -> bytes | TidingsError:
    if isinstance(future, TidingsError):
        return future
    try:
        made = future.result()
    except TidingsError as error:
        return error
    except Exception:
        log.exception("merge profiles failed")
        return TidingsError("the server failed; its log says why")
    answer = pb.MergeProfilesResponse(user_id=made.user_id, already=made.already, consistency_token=made.token)
    return answer.SerializeToString()
