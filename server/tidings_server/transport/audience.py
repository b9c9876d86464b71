"""RecommendationService.FindAudience: a question from bytes, and its pages as bytes."""

import asyncio
import math
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Executor

from tidings.v1 import audience_pb2 as pb
from tidings_core.audience import MAX_ITEMS
from tidings_core.errors import InvalidInput, Overloaded
from tidings_core.events import id_fault
from tidings_core.faults import Fault
from tidings_server.application.find_audience import AudienceQuestion, FindAudience, Page
from tidings_server.transport.calls import parse
from tidings_server.transport.filters import decode_filter

MOST_OPEN = 4
"""Audiences that are told at once: each holds 8 bytes per user."""
RETRY_AFTER = 5.0
DEFAULT_LIMIT, MAX_LIMIT = 1000, 10_000_000
DEFAULT_PAGE, MAX_PAGE = 500, 5000
MAX_TOKEN_BYTES = 2048
MAX_FAULTS = 8
"""So many faults of one request are named; the details of an error must fit into a header."""


class AudienceHandlers:
    """The handler of FindAudience."""

    def __init__(self, find: FindAudience, executor: Executor) -> None:
        """The verb runs on `executor`, a page at a time, so that several streams share it."""
        self._find = find
        self._executor = executor
        self._open = 0

    async def find_audience(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """Tell the pages of an audience."""
        question = _question(body)
        if self._open >= MOST_OPEN:
            raise Overloaded(f"{MOST_OPEN} audiences are being told, the most at once: try again later", RETRY_AFTER)
        self._open += 1
        stopped = threading.Event()
        try:
            loop = asyncio.get_running_loop()
            pages = await loop.run_in_executor(self._executor, self._find, question, stopped.is_set)
            while (page := await loop.run_in_executor(self._executor, _next, pages)) is not None:
                yield page
        finally:
            # Who left does not keep the thread looking for more.
            stopped.set()
            self._open -= 1


def _next(pages: Iterator[Page]) -> bytes | None:
    """The bytes of the next page."""
    page = next(pages, None)
    if page is None:
        return None
    response = pb.FindAudienceResponse(
        page_token=page.token,
        release_id=page.release_id,
        item_count=page.items,
        passing_count=page.passing,
        withheld=page.withheld,
    )
    for member in page.members:
        response.members.add(user_id=member.user_id, score=member.score, item_id=member.item_id)
    return response.SerializeToString()


def _question(body: bytes) -> AudienceQuestion:
    """The question in a request. Raises InvalidInput."""
    request = parse(pb.FindAudienceRequest(), body)
    limit = request.limit if request.HasField("limit") else DEFAULT_LIMIT
    page_size = request.page_size if request.HasField("page_size") else DEFAULT_PAGE
    faults: list[Fault] = []
    if not request.item_ids and not request.HasField("filter"):
        faults.append(("item_ids", "is empty; name an item, or give a filter"))
    elif request.item_ids and request.HasField("filter"):
        faults.append(("filter", "stands beside item_ids; give one of them"))
    if len(request.item_ids) > MAX_ITEMS:
        faults.append(("item_ids", f"has {len(request.item_ids)} entries, may have {MAX_ITEMS} at most"))
    else:
        named = ((f"item_ids[{at}]", id_fault(item_id)) for at, item_id in enumerate(request.item_ids))
        faults += [(field, problem) for field, problem in named if problem]
    wanted = None
    if request.HasField("filter"):
        wanted, wrong = decode_filter(request.filter)
        faults += [(f"filter.{at}" if at else "filter", problem) for at, problem in wrong]
    of_users = None
    if request.HasField("user_filter"):
        of_users, wrong = decode_filter(request.user_filter)
        faults += [(f"user_filter.{at}" if at else "user_filter", problem) for at, problem in wrong]
    if math.isnan(request.min_score):
        faults.append(("min_score", "is no number"))
    if not 1 <= limit <= MAX_LIMIT:
        faults.append(("limit", f"is {limit}, must be 1 to {MAX_LIMIT}"))
    if not 1 <= page_size <= MAX_PAGE:
        faults.append(("page_size", f"is {page_size}, must be 1 to {MAX_PAGE}"))
    if len(request.page_token) > MAX_TOKEN_BYTES:
        faults.append(("page_token", f"has {len(request.page_token)} bytes, may have {MAX_TOKEN_BYTES} at most"))
    if len(faults) > MAX_FAULTS:
        field, problem = faults[MAX_FAULTS - 1]
        faults[MAX_FAULTS - 1 :] = [(field, f"{problem} (and {len(faults) - MAX_FAULTS} more faults)")]
    if faults:
        raise InvalidInput(*faults)
    return AudienceQuestion(
        item_ids=tuple(dict.fromkeys(request.item_ids)),
        filter=wanted,
        min_score=request.min_score if request.HasField("min_score") else -math.inf,
        limit=limit,
        page_size=page_size,
        everybody=request.include_refused,
        page_token=request.page_token,
        user_filter=of_users,
    )
