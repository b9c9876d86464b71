"""ProfileService: what a person said, everything that is kept of one, and erasing it; bytes to verbs and back."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Executor, Future

import structlog

from tidings.v1 import erasure_pb2
from tidings.v1 import preferences_pb2 as pb
from tidings_core.changes import Change, Said
from tidings_core.errors import InvalidInput, Overloaded, TidingsError
from tidings_core.events import id_fault
from tidings_server.application.erase_profile import EraseProfile
from tidings_server.application.export_profile import ExportProfile
from tidings_server.application.record_change import Changed
from tidings_server.application.set_preferences import SetPreferences
from tidings_server.transport.calls import Call, parse
from tidings_server.transport.changes import milliseconds, stamp
from tidings_server.transport.export_lines import ItemIds, lines
from tidings_server.transport.preferences import read_preferences

MOST_OPEN = 4
"""Exports that are told at once."""
RETRY_AFTER = 5.0
PART_BYTES = 64 << 10
"""A part of an export has about so many bytes."""

log = structlog.get_logger(__name__)


class PrivacyHandlers:
    """The handlers of what a person has a right to."""

    def __init__(
        self,
        set_preferences: SetPreferences,
        erase: EraseProfile,
        export: ExportProfile,
        item_ids: ItemIds,
        executor: Executor,
        now: Callable[[], float],
    ) -> None:
        """Exports are read on `executor`. `now` gives Unix seconds."""
        self._set = set_preferences
        self._erase = erase
        self._export = export
        self._item_ids = item_ids
        self._executor = executor
        self._now = now
        self._open = 0

    def set_preferences(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer SetPreferences calls together. Blocks until what they change is on disk."""
        return [_changed(future) for future in [self._start(call.body) for call in calls]]

    def erase_profile(self, calls: Sequence[Call]) -> list[bytes | TidingsError]:
        """Answer EraseProfile calls, one after the other. Blocks until all is gone."""
        return [self._erased(call.body) for call in calls]

    async def export_profile(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """Tell the parts of an export."""
        user_id = _user_id(parse(erasure_pb2.ExportProfileRequest(), body).user_id)
        if self._open >= MOST_OPEN:
            raise Overloaded(f"{MOST_OPEN} exports are under way, the most at once: try again later", RETRY_AFTER)
        self._open += 1
        try:
            loop = asyncio.get_running_loop()
            parts = await loop.run_in_executor(self._executor, self._parts, user_id)
            while (part := await loop.run_in_executor(self._executor, next, parts, None)) is not None:
                yield erasure_pb2.ExportProfileResponse(lines=part).SerializeToString()
        finally:
            self._open -= 1

    def _start(self, body: bytes) -> "Future[Changed] | TidingsError":
        try:
            request = parse(pb.SetPreferencesRequest(), body)
            words, faults = read_preferences(request.preferences)
            timed = request.HasField("event_time")
            moment = milliseconds(request.event_time) if timed else int(self._now() * 1000)
            change = Change(request.event_id, request.user_id, moment, Said(words))
            named = [(f"preferences.{field}", problem) for field, problem in faults]
            return self._set(change, timed, request.lift_erasure, named)
        except TidingsError as error:
            return error
        except Exception:  # A fault of ours; it must not hurt the other calls.
            log.exception("set preferences failed")
            return TidingsError("the server failed; its log says why")

    def _erased(self, body: bytes) -> bytes | TidingsError:
        try:
            receipt = self._erase(_user_id(parse(erasure_pb2.EraseProfileRequest(), body).user_id))
        except TidingsError as error:
            return error
        return erasure_pb2.EraseProfileResponse(
            erase_time=stamp(receipt.time),
            removed=dict(receipt.counts),
            due_release_ids=receipt.due,
            scrubbed=receipt.scrubbed,
        ).SerializeToString()

    def _parts(self, user_id: str) -> Iterator[bytes]:
        """The export in parts. Raises NotFound before the first one."""
        kept = self._export(user_id)
        return _joined(lines(user_id, int(self._now() * 1000), kept, self._item_ids))


def _joined(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines in parts of about PART_BYTES."""
    part, size = [], 0
    for line in lines:
        part.append(line)
        size += len(line)
        if size >= PART_BYTES:
            yield b"".join(part)
            part, size = [], 0
    if part:
        yield b"".join(part)


def _user_id(given: str) -> str:
    if problem := id_fault(given):
        raise InvalidInput(("user_id", problem))
    return given


def _changed(future: "Future[Changed] | TidingsError") -> bytes | TidingsError:
    if isinstance(future, TidingsError):
        return future
    try:
        made = future.result()
    except TidingsError as error:
        return error
    except Exception:
        log.exception("set preferences failed")
        return TidingsError("the server failed; its log says why")
    return pb.SetPreferencesResponse(duplicate=made.duplicate, consistency_token=made.token).SerializeToString()
