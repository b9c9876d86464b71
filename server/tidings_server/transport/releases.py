"""ReleaseService: which releases there are, and which one answers."""

from collections.abc import Callable, Sequence

import structlog
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tidings.v1 import release_service_pb2 as pb
from tidings_core.errors import InvalidInput, ReleaseRefused, TidingsError
from tidings_core.faults import text_fault
from tidings_core.model import MAX_ID_BYTES
from tidings_core.release import Manifest, Release
from tidings_server.application.list_releases import Listed, ListReleases
from tidings_server.application.promote_release import PromoteRelease
from tidings_server.application.rollback_release import RollbackRelease
from tidings_server.metrics import Metrics
from tidings_server.transport.calls import Call, parse

log = structlog.get_logger(__name__)


class ReleaseHandlers:
    """The handlers of ReleaseService."""

    def __init__(
        self, listing: ListReleases, promote: PromoteRelease, rollback: RollbackRelease, metrics: Metrics
    ) -> None:
        """Take the three verbs."""
        self._listing = listing
        self._promote = promote
        self._rollback = rollback
        self._metrics = metrics

    def list_releases(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer ListReleases calls."""
        return [_answered(self._list, call) for call in calls]

    def promote_release(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer PromoteRelease calls, one after the other."""
        return [_answered(self._promoted, call) for call in calls]

    def rollback_release(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer RollbackRelease calls, one after the other."""
        return [_answered(self._rolled_back, call) for call in calls]

    def _list(self, body: bytes) -> Message:
        parse(pb.ListReleasesRequest(), body)
        return pb.ListReleasesResponse(releases=[_release(listed) for listed in self._listing()])

    def _promoted(self, body: bytes) -> Message:
        release_id = parse(pb.PromoteReleaseRequest(), body).release_id
        release, previous = self._changed("promote", lambda: self._promote(release_id), release_id)
        return pb.PromoteReleaseResponse(release=self._described(release), previous_release_id=previous)

    def _rolled_back(self, body: bytes) -> Message:
        left = parse(pb.RollbackReleaseRequest(), body).from_release_id
        if problem := text_fault(left, MAX_ID_BYTES):
            raise InvalidInput(("from_release_id", problem))
        release, previous = self._changed("rollback", lambda: self._rollback(left), "")
        return pb.RollbackReleaseResponse(release=self._described(release), previous_release_id=previous)

    def _changed(self, operation: str, change: Callable[[], tuple[Release, str]], wanted: str) -> tuple[Release, str]:
        """Make a change, count it and log how it went."""
        try:
            release, previous = change()
        except TidingsError as error:
            self._metrics.promotion(operation, error.reason)
            log.warning(f"{operation} refused", release_id=wanted[:128], reason=error.reason, problem=str(error))
            raise
        except Exception:
            self._metrics.promotion(operation, TidingsError.reason)
            raise
        self._metrics.promotion(operation, "done")
        log.info(f"{operation} done", release_id=release.manifest.release_id, previous_release_id=previous)
        return release, previous

    def _described(self, release: Release) -> pb.Release:
        """The serving release as ListReleases would show it, even when its directory is gone by now."""
        return _release(self._listing.describe(release.manifest))


def _answered(answer: Callable[[bytes], Message], call: Call) -> bytes | TidingsError:
    try:
        return answer(call.body).SerializeToString()
    except TidingsError as error:
        return error


def _release(listed: Listed) -> pb.Release:
    found = listed.release
    if isinstance(found, ReleaseRefused):
        out = pb.Release(release_id=found.release_id, state=pb.RELEASE_STATE_BROKEN, problem=found.problem)
    else:
        out = _from_manifest(found)
        out.state = pb.RELEASE_STATE_SERVING if listed.serving else pb.RELEASE_STATE_AVAILABLE
    out.erased_user_count = listed.erased
    if listed.promote_time is not None:
        out.promote_time.CopyFrom(_timestamp(listed.promote_time))
    return out


def _from_manifest(manifest: Manifest) -> pb.Release:
    return pb.Release(
        release_id=manifest.release_id,
        create_time=_timestamp(manifest.created_at),
        item_count=manifest.item_count,
        user_count=manifest.user_count,
        dim=manifest.dim,
        metric=manifest.metric,
        index_key=manifest.index.key,
        recall=manifest.index.recall,
        recall_k=manifest.index.recall_k,
        sources=manifest.sources,
        ranked=manifest.ranked,
    )


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(round(seconds * 1e6) * 1000)
    return stamp
