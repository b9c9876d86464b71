"""Between the client's values and the wire: requests, answers, errors, and the settings of a channel.

Nothing here waits or sends, so the blocking and the asyncio client share all of it. Events and profiles are in
wire_events.py, pushes in wire_push.py.
"""

import json
import reprlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from tidings import errors, model, wire_filter
from tidings.v1 import item_pb2, recommendation_service_pb2, release_service_pb2

DEFAULT_ADDRESS = "127.0.0.1:50051"

# A full batch: 256 answers of 500 items of 2 KiB.
_MAX_ANSWER_BYTES = 256 << 20
# gRPC counts every higher number as 5.
_MOST_ATTEMPTS = 5
_LONGEST_SECONDS = 86_400
# Reads, and what changes nothing when repeated: events and pushes carry ids of their own, items a time. RollbackRelease
# is left out: a second attempt after a lost answer would leave one more release, or report that `from_release_id` is
# not serving when it was just left.
_RETRIED = (
    ("tidings.v1.RecommendationService", "Recommend"),
    ("tidings.v1.RecommendationService", "BatchRecommend"),
    ("tidings.v1.RecommendationService", "Explain"),
    ("tidings.v1.RecommendationService", "FindAudience"),
    ("tidings.v1.ReleaseService", "ListReleases"),
    ("tidings.v1.ReleaseService", "PromoteRelease"),
    ("tidings.v1.EventService", "RecordEvents"),
    ("tidings.v1.ProfileService", "GetProfile"),
    ("tidings.v1.PushService", "Acknowledge"),
    ("tidings.v1.PushService", "SendPush"),
    ("tidings.v1.CatalogService", "UpsertItems"),
    ("tidings.v1.CatalogService", "DeleteItems"),
    ("tidings.v1.CatalogService", "GetItem"),
    ("tidings.v1.CatalogService", "ListItems"),
)

_Enum = TypeVar("_Enum", bound=StrEnum)


def address_of(address: str) -> str:
    """Return the address of a server; raises InvalidArgument for one that gRPC would misread."""
    # Without a port gRPC takes 443, and it looks up "http" as a host.
    if ":" in address and not address.startswith(("http:", "https:")):
        return address
    raise invalid("address", f"must be host:port, such as {DEFAULT_ADDRESS}, not {address!r}")


def timeout_of(seconds: float) -> float:
    """Return a call's timeout in seconds; raises InvalidArgument for none at all or more than a day."""
    # gRPC takes what is too large, and NaN, for a deadline that has passed.
    if 0 < seconds <= _LONGEST_SECONDS:
        return seconds
    raise invalid("timeout", f"must be above 0 and at most {_LONGEST_SECONDS} s, not {seconds}")


def channel_options(max_attempts: int) -> list[tuple[str, Any]]:
    """Return the options of a channel that tries a call up to `max_attempts` times (1 to 5).

    Raises InvalidArgument for another number.
    """
    if not 1 <= max_attempts <= _MOST_ATTEMPTS:
        raise invalid("max_attempts", f"must be 1 to {_MOST_ATTEMPTS}, not {max_attempts}")
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
        # A server that comes back is found within a second, and a host that does not answer is given up after three;
        # gRPC's own values are 120 s and 20 s.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.min_reconnect_backoff_ms", 3_000),
        # The kernel drops a connection on which sent bytes stay unacknowledged for 10 s. The pings themselves are no
        # denser than every server allows by default (one in 5 minutes).
        ("grpc.keepalive_time_ms", 310_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]
    if max_attempts > 1:
        options.append(("grpc.service_config", _retry_policy(max_attempts)))
    return options


def _retry_policy(max_attempts: int) -> str:
    return json.dumps(
        {
            "methodConfig": [
                {
                    "name": [{"service": service, "method": method} for service, method in _RETRIED],
                    "retryPolicy": {
                        "maxAttempts": max_attempts,
                        "initialBackoff": "0.05s",
                        "maxBackoff": "0.5s",
                        "backoffMultiplier": 2,
                        "retryableStatusCodes": ["UNAVAILABLE"],
                    },
                }
            ]
        }
    )


def recommend_request(query: model.RecommendQuery, prefix: str = "") -> recommendation_service_pb2.RecommendRequest:
    """Return the request for one question; raises InvalidArgument naming `prefix` + field for what does not fit."""
    request = recommendation_service_pb2.RecommendRequest()
    for name in ("user_id", "serving_config", "request_id", "query", "category", "consistency_token"):
        fill(request, name, getattr(query, name), prefix)
    if query.filter is not None:
        request.filter.CopyFrom(wire_filter.filter_message(query.filter, prefix + "filter"))
    if query.k is not None:
        fill(request, "k", query.k, prefix)
    for name in ("context_item_ids", "exclude_item_ids"):
        fill_ids(request, name, getattr(query, name), prefix)
    if query.examples is not None:
        for name in ("liked_item_ids", "disliked_item_ids"):
            fill_ids(request.examples, name, getattr(query.examples, name), prefix + "examples.")
    fill_ids(request, "vector", query.vector, prefix)
    return request


def batch_request(queries: Iterable[model.RecommendQuery]) -> recommendation_service_pb2.BatchRecommendRequest:
    """Return the request for many questions, in order."""
    return recommendation_service_pb2.BatchRecommendRequest(
        requests=[recommend_request(query, f"requests[{at}].") for at, query in enumerate(queries)]
    )


def promote_request(release_id: str) -> release_service_pb2.PromoteReleaseRequest:
    """Return the request to promote a release."""
    request = release_service_pb2.PromoteReleaseRequest()
    fill(request, "release_id", release_id)
    return request


def rollback_request(from_release_id: str) -> release_service_pb2.RollbackReleaseRequest:
    """Return the request to go back to the release before."""
    request = release_service_pb2.RollbackReleaseRequest()
    fill(request, "from_release_id", from_release_id)
    return request


def fill(request: Any, name: str, value: object, prefix: str = "") -> None:
    """Set one field of a request; raises InvalidArgument naming `prefix` + field for a value that does not fit."""
    try:
        setattr(request, name, value)
    except (TypeError, ValueError, OverflowError) as error:
        is_text = request.DESCRIPTOR.fields_by_name[name].type == FieldDescriptor.TYPE_STRING
        # What protobuf says of a wrong type names no type.
        problem = "a text is wanted" if is_text and isinstance(error, TypeError) else str(error)
        raise unfit(prefix + name, value, problem) from error


def fill_ids(request: Any, name: str, values: Sequence[str] | Sequence[float], prefix: str = "") -> None:
    """Set a field that holds ids, or numbers; raises InvalidArgument as `fill` does."""
    # A text is a sequence of texts too: it would go out as one item per letter.
    if isinstance(values, str | bytes):
        raise unfit(prefix + name, values, "a list is wanted, not one text")
    try:
        getattr(request, name).extend(values)
    except (TypeError, ValueError) as error:
        raise unfit(prefix + name, values, str(error)) from error


def unfit(field: str, value: object, problem: str) -> errors.InvalidArgument:
    """Return the error for a value that cannot be sent."""
    return invalid(field, f"{shown(value)} cannot be sent: {problem}")


def shown(value: object) -> str:
    """Return a value for a message, shortened."""
    try:
        return reprlib.repr(value)
    except ValueError:
        # A number of more digits than Python writes.
        return f"a very large {type(value).__name__}"


def fill_time(request: Any, name: str, value: datetime | None, prefix: str = "") -> None:
    """Set a field that holds a time, unless it is None; raises InvalidArgument for a time without a zone."""
    if value is None:
        return
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise unfit(prefix + name, value, "a datetime with a time zone is wanted, such as datetime.now(UTC)")
    # Before the year 1 or after 9999 in UTC.
    try:
        getattr(request, name).FromDatetime(value.astimezone(UTC))
    except (OverflowError, ValueError) as error:
        raise unfit(prefix + name, value, str(error)) from error


def invalid(field: str, description: str) -> errors.InvalidArgument:
    """Return the refusal of one field."""
    return errors.InvalidArgument(f"{field} {description}", fields=[(field, description)])


def recommendation(message: recommendation_service_pb2.RecommendResponse) -> model.Recommendation:
    """Return one answer."""
    return model.Recommendation(
        items=tuple(recommended_item(item) for item in message.items),
        degraded=degradations(message.degraded),
        release_id=message.release_id,
        release_age_seconds=message.release_age_seconds,
        index_age_seconds=message.index_age_seconds,
        serving_config=message.serving_config,
        request_id=message.request_id,
        decision_id=message.decision_id,
        decision_token=message.decision_token,
    )


def recommendations(message: recommendation_service_pb2.BatchRecommendResponse) -> list[model.Recommendation]:
    """Return the answers of a batch, in order."""
    return [recommendation(response) for response in message.responses]


def releases(message: release_service_pb2.ListReleasesResponse) -> list[model.Release]:
    """Return the releases, newest first."""
    return [_release(release) for release in message.releases]


def promotion(
    message: release_service_pb2.PromoteReleaseResponse | release_service_pb2.RollbackReleaseResponse,
) -> model.Promotion:
    """Return what a promotion or a rollback did."""
    return model.Promotion(release=_release(message.release), previous_release_id=message.previous_release_id)


def recommended_item(message: recommendation_service_pb2.RecommendedItem) -> model.RecommendedItem:
    """Return one item of an answer or of a push."""
    return model.RecommendedItem(
        item=_item(message.item),
        score=message.score,
        sources=tuple(model.SourceScore(source=s.source, score=s.score) for s in message.sources),
        reasons=reasons(message.reasons),
    )


def reasons(given: Iterable[recommendation_service_pb2.Reason]) -> tuple[model.Reason, ...]:
    """Return why an item was recommended."""
    return tuple(
        model.Reason(_REASONS.get(r.code, model.ReasonCode.UNSPECIFIED), item_id=r.item_id, text=r.text) for r in given
    )


def degradations(given: Iterable[recommendation_service_pb2.Degradation]) -> tuple[model.Degradation, ...]:
    """Return what an answer had to do without."""
    return tuple(
        model.Degradation(
            cause=_CAUSES.get(d.cause, model.DegradationCause.UNSPECIFIED), stage=d.stage, detail=d.detail
        )
        for d in given
    )


def _item(message: item_pb2.Item) -> model.Item:
    return model.Item(
        item_id=message.item_id,
        title=message.title,
        description=message.description,
        categories=tuple(message.categories),
        brand=message.brand,
        price=message.price if message.HasField("price") else None,
        currency=message.currency,
        image_url=message.image_url,
        url=message.url,
        publish_time=time_of(message, "publish_time"),
        expire_time=time_of(message, "expire_time"),
        attributes=dict(message.attributes),
    )


def _release(message: release_service_pb2.Release) -> model.Release:
    return model.Release(
        release_id=message.release_id,
        create_time=time_of(message, "create_time"),
        state=_STATES.get(message.state, model.ReleaseState.UNSPECIFIED),
        promote_time=time_of(message, "promote_time"),
        item_count=message.item_count,
        user_count=message.user_count,
        dim=message.dim,
        metric=message.metric,
        index_key=message.index_key,
        recall=message.recall,
        recall_k=message.recall_k,
        sources=tuple(message.sources),
        ranked=message.ranked,
        problem=message.problem,
        erased_user_count=message.erased_user_count,
    )


def time_of(message: Any, name: str) -> datetime | None:
    """Return the time in a field of a message, in UTC, None where it is unset."""
    if not message.HasField(name):
        return None
    timestamp: Timestamp = getattr(message, name)
    return timestamp.ToDatetime(tzinfo=UTC)


def by_number(wire_enum: Any, values: type[_Enum]) -> dict[int, _Enum]:
    """Return the client's enum member for each number of the wire's."""
    # REASON_CODE_TRENDING of ReasonCode is ReasonCode.TRENDING.
    zero = wire_enum.Name(0)
    prefix = zero.removesuffix("UNSPECIFIED")
    return {number: values[name.removeprefix(prefix)] for name, number in wire_enum.items()}


_REASONS = by_number(recommendation_service_pb2.ReasonCode, model.ReasonCode)
_CAUSES = by_number(recommendation_service_pb2.DegradationCause, model.DegradationCause)
_STATES = by_number(release_service_pb2.ReleaseState, model.ReleaseState)

_CLASSES: dict[grpc.StatusCode, type[errors.TidingsError]] = {
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unimplemented,
    grpc.StatusCode.INTERNAL: errors.InternalError,
    grpc.StatusCode.UNKNOWN: errors.InternalError,
    grpc.StatusCode.DATA_LOSS: errors.InternalError,
}


def error_from(rpc_error: grpc.RpcError, address: str, timeout: float) -> errors.TidingsError:
    """Return the error of a failed call to `address` that was given `timeout` seconds."""
    call: Any = rpc_error
    code: grpc.StatusCode = call.code()
    status = _status(call)
    if status is None:
        return _bare_error(code, call.details() or "", address, timeout)
    info, bad_request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail in status.details:
        for message in (info, bad_request, retry):
            detail.Unpack(message)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        fields = [(violation.field, violation.description) for violation in bad_request.field_violations]
        return errors.InvalidArgument(status.message, code=code, reason=info.reason, fields=fields)
    if code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE):
        retry_after = retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None
        return _later(code, info.reason)(status.message, code=code, reason=info.reason, retry_after=retry_after)
    return _CLASSES.get(code, errors.TidingsError)(status.message, code=code, reason=info.reason)


def _later(
    code: grpc.StatusCode, reason: str
) -> type[errors.Overloaded] | type[errors.StorageFull] | type[errors.Unavailable]:
    if code is grpc.StatusCode.UNAVAILABLE:
        return errors.Unavailable
    return errors.StorageFull if reason == "STORAGE_FULL" else errors.Overloaded


def _status(call: Any) -> status_pb2.Status | None:
    """Return the google.rpc.Status that came with an error, None for an error that is not a Tidings server's."""
    try:
        # AioRpcError answers code(), details() and trailing_metadata() without waiting, so this serves both clients.
        status: status_pb2.Status | None = rpc_status.from_call(call)
    except (ValueError, DecodeError):
        return None
    return status


def _bare_error(code: grpc.StatusCode, details: str, address: str, timeout: float) -> errors.TidingsError:
    """Return the error for a status without details: of gRPC itself, of a proxy, or of another server."""
    if code is grpc.StatusCode.UNAVAILABLE:
        message = f"no Tidings server answers at {address} (is it running? start one with `tidings-server`): {details}"
        return errors.Unavailable(message, code=code)
    if code is grpc.StatusCode.CANCELLED:
        # Not by this client's caller: the server's gRPC resets calls that it cannot even refuse.
        return errors.Unavailable(f"{address} cut the call off: it has far too much to do, or stops", code=code)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded(f"no answer from {address} within {timeout:g} s", code=code)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return errors.Unimplemented(f"the server at {address} does not know this call: {details}", code=code)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return errors.InvalidArgument(details, code=code)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # gRPC says the same of a message above a size limit, which no waiting mends.
        if "larger than max" in details:
            return errors.InvalidArgument(f"too much for one call, ask for less at once: {details}", code=code)
        return errors.Overloaded(details, code=code)
    return _CLASSES.get(code, errors.TidingsError)(f"{details} (from {address})", code=code)
