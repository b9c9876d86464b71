"""What the client does with the pages of an audience: goes on where a server that was gone for a moment left off."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

import tidings
from tests.client.service import refuse
from tidings.v1 import audience_pb2
from tidings.v1.recommendation_service_pb2_grpc import (
    RecommendationServiceServicer,
    add_RecommendationServiceServicer_to_server,
)

USERS = 10


class Few(RecommendationServiceServicer):
    """Ten users, two on a page; it breaks off after a page as often as it is told to."""

    def __init__(self) -> None:
        self.requests: list[audience_pb2.FindAudienceRequest] = []
        self.breaks = 0
        self.code = grpc.StatusCode.UNAVAILABLE

    def FindAudience(  # noqa: N802 - the name of the call
        self, request: audience_pb2.FindAudienceRequest, context: grpc.ServicerContext
    ) -> Iterator[audience_pb2.FindAudienceResponse]:
        """Page by page, from a token on."""
        self.requests.append(request)
        first = int(request.page_token or 0)
        for at in range(first, min(USERS, first + request.limit), 2):
            members = [
                audience_pb2.AudienceMember(user_id=f"u{n}", score=1.0 - n / 16, item_id="a")
                for n in range(at, min(at + 2, first + request.limit))
            ]
            token = "" if at + 2 >= USERS else str(at + 2)
            yield audience_pb2.FindAudienceResponse(members=members, page_token=token, release_id="r", item_count=1)
            if self.breaks:
                self.breaks -= 1
                refuse(self.code, "gone for a moment")(context)


@pytest.fixture
def few() -> Iterator[tuple[Few, str]]:
    """The server, and its address."""
    service = Few()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        add_RecommendationServiceServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield service, f"127.0.0.1:{port}"
        server.stop(None).wait()


def told(pages: list[tidings.AudiencePage]) -> list[str]:
    """The users of pages."""
    return [member.user_id for page in pages for member in page.members]


@pytest.mark.parametrize("limit", [7, 1000])
def test_a_break_is_gone_on_from_and_nobody_comes_twice(few: tuple[Few, str], limit: int) -> None:
    """Both clients ask for what is left, and for no more users than were wanted."""
    service, address = few
    wanted = [f"u{n}" for n in range(min(limit, USERS))]
    service.breaks = 2
    with tidings.Client(address, timeout=10) as client:
        assert told(list(client.find_audience(["a"], limit=limit, min_score=0.5))) == wanted
    assert [(one.page_token, one.limit) for one in service.requests] == [
        ("", limit),
        ("2", limit - 2),
        ("4", limit - 4),
    ]
    assert {(tuple(one.item_ids), one.min_score) for one in service.requests} == {(("a",), 0.5)}

    async def ask() -> list[tidings.AudiencePage]:
        async with tidings.aio.Client(address, timeout=10) as other:
            return [page async for page in other.find_audience(["a"], limit=limit)]

    service.breaks = 1
    assert told(asyncio.run(ask())) == wanted


def test_what_no_waiting_mends_is_raised_after_what_came(few: tuple[Few, str]) -> None:
    """Such as a release that took over: the pages before it stand."""
    service, address = few
    service.breaks, service.code = 1, grpc.StatusCode.FAILED_PRECONDITION
    with tidings.Client(address, timeout=10) as client:
        pages = client.find_audience(["a"])
        assert told([next(pages)]) == ["u0", "u1"]
        with pytest.raises(tidings.FailedPrecondition):
            next(pages)
    assert len(service.requests) == 1


def test_what_cannot_be_sent_is_named_before_any_call() -> None:
    """One text for a list of ids, or a number that is none."""
    with tidings.Client("127.0.0.1:1") as client:
        with pytest.raises(tidings.InvalidArgument) as refused:
            next(client.find_audience("item-1"))
        assert refused.value.fields[0][0] == "item_ids"
        with pytest.raises(tidings.InvalidArgument) as refused:
            next(client.find_audience(["a"], limit="many"))  # type: ignore[arg-type]
        assert refused.value.fields[0][0] == "limit"
