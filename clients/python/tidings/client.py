"""The blocking client."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from tidings import model, wire
from tidings.v1 import release_service_pb2
from tidings.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from tidings.v1.release_service_pb2_grpc import ReleaseServiceStub


class Client:
    """A connection to one Tidings server; safe to share between threads, and best shared.

    `timeout` is the seconds a call may take, all attempts together, where the call names none. A call that finds the
    server unavailable is tried up to `max_attempts` times (1 to 5) with growing pauses; only `rollback_release` is
    never repeated. `credentials` make the connection TLS. Every call raises an error of `tidings.errors`.
    """

    def __init__(
        self,
        address: str = wire.DEFAULT_ADDRESS,
        *,
        timeout: float = 1.0,
        max_attempts: int = 4,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._address = wire.address_of(address)
        self._timeout = wire.timeout_of(timeout)
        options = wire.channel_options(max_attempts)
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, credentials, options)
        self._recommendations = RecommendationServiceStub(self._channel)
        self._releases = ReleaseServiceStub(self._channel)

    def recommend(
        self,
        user_id: str,
        *,
        k: int | None = None,
        serving_config: str = "",
        context_item_ids: Sequence[str] = (),
        exclude_item_ids: Sequence[str] = (),
        request_id: str = "",
        timeout: float | None = None,
    ) -> model.Recommendation:
        """Return items for one user, best first.

        `k` is the number of items, 1 to 500 (the server's default is 20). `serving_config` names the recipe ("" means
        "for-you"). `context_item_ids` are the items this answer is about, at most 64; they and `exclude_item_ids`, at
        most 10,000, are never part of it. `request_id` comes back in the answer.
        """
        query = model.RecommendQuery(
            user_id,
            k=k,
            serving_config=serving_config,
            context_item_ids=context_item_ids,
            exclude_item_ids=exclude_item_ids,
            request_id=request_id,
        )
        return wire.recommendation(self._call(self._recommendations.Recommend, wire.recommend_request(query), timeout))

    def batch_recommend(
        self, queries: Iterable[model.RecommendQuery], *, timeout: float | None = None
    ) -> list[model.Recommendation]:
        """Return one answer per query, in order, for up to 256 at once; one bad query refuses them all."""
        return wire.recommendations(
            self._call(self._recommendations.BatchRecommend, wire.batch_request(queries), timeout)
        )

    def list_releases(self, *, timeout: float | None = None) -> list[model.Release]:
        """Return every release of the server, newest first, broken ones with their problem."""
        request = release_service_pb2.ListReleasesRequest()
        return wire.releases(self._call(self._releases.ListReleases, request, timeout))

    def promote_release(self, release_id: str, *, timeout: float = 60.0) -> model.Promotion:
        """Let a release answer, once the server has validated it; when that fails the old one goes on answering."""
        return wire.promotion(self._call(self._releases.PromoteRelease, wire.promote_request(release_id), timeout))

    def rollback_release(self, from_release_id: str = "", *, timeout: float = 60.0) -> model.Promotion:
        """Go back to the release that answered before.

        The call is never repeated by itself. With `from_release_id`, the release to leave, it does nothing unless
        that one is serving, so you may repeat it: at most one release is left.
        """
        return wire.promotion(
            self._call(self._releases.RollbackRelease, wire.rollback_request(from_release_id), timeout)
        )

    def close(self) -> None:
        """Close the connection; calls under way end with an error."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Any, request: object, timeout: float | None) -> Any:
        seconds = self._timeout if timeout is None else wire.timeout_of(timeout)
        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as error:
            raise wire.error_from(error, self._address, seconds) from error
