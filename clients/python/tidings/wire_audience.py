"""Between the client's values and the wire: audiences."""

from collections.abc import Sequence

from tidings import model_audience, wire, wire_filter
from tidings.filters import Filter
from tidings.v1 import audience_pb2 as pb


def audience_request(
    item_ids: Sequence[str],
    *,
    filter: Filter | None,
    min_score: float | None,
    limit: int,
    page_size: int | None,
    include_refused: bool,
    page_token: str,
    user_filter: Filter | None = None,
) -> pb.FindAudienceRequest:
    """Return the request for an audience; raises InvalidArgument for what does not fit."""
    request = pb.FindAudienceRequest()
    wire.fill_ids(request, "item_ids", item_ids)
    if filter is not None:
        request.filter.CopyFrom(wire_filter.filter_message(filter, "filter"))
    if user_filter is not None:
        request.user_filter.CopyFrom(wire_filter.filter_message(user_filter, "user_filter"))
    wire.fill(request, "limit", limit)
    wire.fill(request, "include_refused", include_refused)
    wire.fill(request, "page_token", page_token)
    if min_score is not None:
        wire.fill(request, "min_score", min_score)
    if page_size is not None:
        wire.fill(request, "page_size", page_size)
    return request


def gone_on(request: pb.FindAudienceRequest, page: model_audience.AudiencePage) -> bool:
    """Make a request ask for what comes after a page; whether anything does."""
    request.page_token = page.page_token
    request.limit -= len(page.members)
    return bool(page.page_token) and request.limit > 0


def audience_page(message: pb.FindAudienceResponse) -> model_audience.AudiencePage:
    """Return one page of an audience."""
    return model_audience.AudiencePage(
        members=tuple(model_audience.AudienceMember(one.user_id, one.score, one.item_id) for one in message.members),
        page_token=message.page_token,
        release_id=message.release_id,
        item_count=message.item_count,
        passing_count=message.passing_count,
        withheld=message.withheld,
    )
