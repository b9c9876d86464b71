"""ImportEvents: a stream of messages to rows of an import, how far it came to bytes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor

from tidings.v1 import event_pb2, event_service_pb2
from tidings_core.errors import InvalidInput, Stopping
from tidings_core.events import MAX_EVENTS
from tidings_core.stored import StoredImport
from tidings_server.application.import_events import ImportEvents, Row, read_faults
from tidings_server.application.record_events import Verdict
from tidings_server.metrics import Metrics
from tidings_server.transport.calls import parse
from tidings_server.transport.events import MAX_FAULTS, propose

RETRY_SECONDS = 1.0


class ImportHandler:
    """The handler of ImportEvents. It holds one message of each call at a time: the next is read when it is on disk."""

    def __init__(
        self,
        take_in: ImportEvents,
        threads: Executor,
        now: Callable[[], float],
        metrics: Metrics,
        token: Callable[[], str],
    ) -> None:
        """`threads` do what blocks; `now` gives Unix seconds; `token` is that of all that is on disk."""
        self._take_in = take_in
        self._threads = threads
        self._now = now
        self._metrics = metrics
        self._token = token
        self._stopping = False

    def stop(self) -> None:
        """End the imports that are under way at their next message: they go on with another server."""
        self._stopping = True

    async def import_events(self, messages: AsyncIterator[bytes]) -> bytes:
        """Answer one call when its last message is on disk. Its TidingsError leaves what came before in place."""
        loop = asyncio.get_running_loop()
        state: StoredImport | None = None
        async for body in messages:
            if self._stopping:
                raise Stopping("the server is stopping: go on with the import after it", RETRY_SECONDS)
            state = await loop.run_in_executor(self._threads, self._take, body, state)
        if state is None:
            raise InvalidInput(("import_id", "is missing: a call brings one message or more, each with its name"))
        return self._answer(state)

    def _take(self, body: bytes, before: StoredImport | None) -> StoredImport:
        request = parse(event_service_pb2.ImportEventsRequest(), body)
        if before is not None and request.import_id != before.import_id:
            raise InvalidInput(("import_id", f"is not {before.import_id!r}: a call is of one import"))
        if len(request.events) > MAX_EVENTS:
            raise InvalidInput(
                ("events", f"has {len(request.events)} entries, may have {MAX_EVENTS}: send them in several messages")
            )
        begun = before or self._take_in.come(request.import_id)
        if not request.events:
            return begun
        now_ms = int(self._now() * 1000)
        rows = [_propose(event, now_ms) for event in request.events]
        state = self._take_in(request.import_id, request.first_row, rows)
        self._metrics.imported(
            state.accepted - begun.accepted, state.duplicates - begun.duplicates, state.rejected - begun.rejected
        )
        return state

    def _answer(self, state: StoredImport) -> bytes:
        answer = event_service_pb2.ImportEventsResponse(
            next_row=state.next_row,
            accepted=state.accepted,
            duplicates=state.duplicates,
            rejected=state.rejected,
            consistency_token=self._token() if state.next_row else "",
        )
        for row, wrong in read_faults(state):
            fault = answer.faults.add(row=row)
            for field, description in wrong[:MAX_FAULTS]:
                fault.faults.add(field=field, description=description)
        return answer.SerializeToString()


def _propose(message: event_pb2.Event, now_ms: int) -> Row:
    """What `propose` makes of a message, but that history says when it was."""
    found = propose(message, now_ms)
    if message.HasField("event_time"):
        return found
    faults = list(found.faults) if isinstance(found, Verdict) else []
    return Verdict("rejected", [*faults, ("event_time", "is missing: history says when it was")])
