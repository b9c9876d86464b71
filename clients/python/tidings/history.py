"""What an import of history sends next: shared by the blocking and the asyncio client, which alone send and wait."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from tidings import errors, model, wire, wire_events
from tidings.model_import import Imported, ImportFault
from tidings.v1 import event_pb2, event_service_pb2

ROWS_PER_MESSAGE = 500
ROWS_PER_CALL = 10_000
"""A call answers when all its rows are on disk; so many are kept to be sent again."""
BYTES_PER_MESSAGE = 1 << 20
"""Messages end when they have so many, to stay below a server's limit of 4 MiB."""
ATTEMPTS = 6
"""A server that is unavailable or has no room is tried so often before an import ends."""
PAUSES = (0.1, 0.5, 1.0, 3.0, 10.0)
"""Seconds between the attempts."""

MAX_FAULTS = 100
"""So many rows that cannot be sent are remembered with what is wrong with them."""
Rows = Iterable["model.Event | errors.InvalidArgument"]
"""The rows of an import; an error stands for one that cannot be read."""
Message = event_service_pb2.ImportEventsRequest


class History:
    """The rows of one import and how far the server has come with them."""

    def __init__(self, import_id: str, rows: Rows) -> None:
        """Take the name of an import and its rows, from the first one on."""
        if isinstance(rows, str | bytes | model.Event) or not isinstance(rows, Iterable):
            raise wire.unfit("events", rows, "an iterable of tidings.Event is wanted")
        self.question = Message()
        wire.fill(self.question, "import_id", import_id)
        self._import_id = import_id
        self._rows = iter(rows)
        self._first = 0
        self._unsent: list[event_pb2.Event] = []
        self._faults: dict[int, tuple[model.EventFault, ...]] = {}
        self._failures = 0

    def reached(self, answer: event_service_pb2.ImportEventsResponse) -> Imported:
        """Take in how far the server says it has come, and pass over the rows that are done."""
        done = answer.next_row - self._first
        if done:
            self._failures = 0
        if done < 0:
            raise errors.FailedPrecondition("the server knows less of this import than it did: its state was set back")
        kept = len(self._unsent)
        del self._unsent[:done]
        rejected = {fault.row for fault in answer.faults}
        for row, value in enumerate(islice(self._rows, max(0, done - kept)), self._first + kept):
            if row in rejected:
                # One that could not be sent went out empty: what is wrong with it is told here only.
                self._message(row, value)
        self._first = answer.next_row
        faults = tuple(self._fault(fault) for fault in answer.faults)
        return Imported(
            self._import_id,
            answer.next_row,
            answer.accepted,
            answer.duplicates,
            answer.rejected,
            faults,
            answer.consistency_token,
        )

    def failed(self, error: errors.TidingsError) -> float:
        """Seconds to wait before the server is asked how far it came. Raises the error when that is of no use."""
        # grpc.aio says INTERNAL, without a reason, of a call that ended while it wrote to it: the next try tells why.
        unclear = isinstance(error, errors.InternalError) and not error.reason
        passing = isinstance(error, errors.Unavailable | errors.Overloaded) or unclear
        if not passing or self._failures >= ATTEMPTS - 1:
            raise error
        self._failures += 1
        return PAUSES[self._failures - 1]

    def more(self) -> bool:
        """Whether rows are left; then those of the next call are at hand."""
        for row in islice(self._rows, max(0, ROWS_PER_CALL - len(self._unsent))):
            self._unsent.append(self._message(self._first + len(self._unsent), row))
        return bool(self._unsent)

    def messages(self) -> Iterator[Message]:
        """The messages of the next call."""
        # A copy: a call that failed may still be asking for messages in a thread of gRPC's.
        return _messages(self._import_id, self._first, tuple(self._unsent))

    def _message(self, row: int, value: "model.Event | errors.InvalidArgument") -> event_pb2.Event:
        """A row as it is sent: empty when it cannot be, since the rows after it must keep their numbers."""
        try:
            if isinstance(value, errors.InvalidArgument):
                raise value
            return wire_events.event(value)
        except errors.InvalidArgument as error:
            if len(self._faults) < MAX_FAULTS:
                self._faults[row] = tuple(model.EventFault(field, problem) for field, problem in error.fields)
            return event_pb2.Event()

    def _fault(self, fault: event_service_pb2.ImportFault) -> ImportFault:
        told = tuple(model.EventFault(one.field, one.description) for one in fault.faults)
        return ImportFault(fault.row, self._faults.get(fault.row, told))


def _messages(import_id: str, first: int, rows: Sequence[event_pb2.Event]) -> Iterator[Message]:
    events: list[event_pb2.Event] = []
    size = 0
    for event in rows:
        if len(events) == ROWS_PER_MESSAGE or (events and size + event.ByteSize() > BYTES_PER_MESSAGE):
            yield Message(import_id=import_id, first_row=first, events=events)
            first, size, events = first + len(events), 0, []
        events.append(event)
        size += event.ByteSize()
    yield Message(import_id=import_id, first_row=first, events=events)
