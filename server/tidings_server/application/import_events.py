"""Import history: rows of events into the log and the profiles, in small transactions that know how far they came.

No trigger is started: what happened long ago calls for nothing now.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from tidings_core.errors import ErasedUser, InvalidInput, Overloaded, StorageFailed
from tidings_core.events import event_faults, id_fault
from tidings_core.faults import Fault
from tidings_core.privacy import EVERYTHING, PrivacyRules
from tidings_core.stored import StoredImport
from tidings_server.application.documents import write_document
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.record_events import Door, Proposed, Verdict, take_in, whose
from tidings_server.application.store import Store, Transaction

TOGETHER, LEAST = 128, 8
"""So many rows share a transaction at most, and at least."""
SECONDS = 0.02
"""Who records live waits for a transaction to end: where somebody does, one has as many rows as take about so long."""
MAX_FAULTS = 100
"""Of so many rejected rows the faults are kept, the first."""
MAX_ROWS = 1 << 40
YIELD = 1.0
"""Where others write too, an import leaves the writer alone for as long as it used it, times this."""

_ERASED: Sequence[Fault] = (("user_id", "is of somebody who was erased: what was done before that stays unknown"),)

Row = Proposed | Verdict
"""An event, or the verdict on one that cannot be read."""


class ImportEvents:
    """Imports history. Blocks its thread until the rows are on disk."""

    def __init__(
        self,
        store: Store,
        documents: KnownDocuments,
        busy: Callable[[], bool],
        now: Callable[[], float],
        privacy: PrivacyRules = EVERYTHING,
        rest: Callable[[float], None] = time.sleep,
        watching: bool = False,
        door: Door | None = None,
    ) -> None:
        """`busy` says whether others wait to write; `now` gives Unix seconds; `rest` lets so many seconds pass.

        `watching`: have the tags of the users looked at. Without a `door` every event counts.
        """
        self._door = door
        self._store = store
        self._documents = documents
        self._busy = busy
        self._now = now
        self._privacy = privacy
        self._rest = rest
        self._together = TOGETHER
        self._watching = watching

    def come(self, import_id: str) -> StoredImport:
        """How far an import has come. Raises InvalidInput for a bad name, StorageFailed."""
        if problem := id_fault(import_id):
            raise InvalidInput(("import_id", problem))
        return self._store.history(import_id)

    def __call__(self, import_id: str, first_row: int, rows: Sequence[Row]) -> StoredImport:
        """Take in the rows from a row on, but for those that are done; how far the import has come then.

        What a transaction took in stays, also when a later one fails. Raises InvalidInput when rows were left out, or
        for a bad name; StorageFull, StorageFailed, Overloaded, Stopping.
        """
        state = self.come(import_id)
        if not 0 <= first_row <= MAX_ROWS:
            raise InvalidInput(("first_row", f"is {first_row}, must be 0 to {MAX_ROWS}"))
        if first_row > state.next_row:
            raise InvalidInput(
                ("first_row", f"is {first_row}, but rows are done up to {state.next_row} only: go on from there")
            )
        now_ms = int(self._now() * 1000)
        start = max(0, state.next_row - first_row)
        while start < len(rows):
            part = rows[start : start + self._together]
            began = time.monotonic()
            state = self._write(partial(self._job, import_id, first_row + start, part, now_ms))
            start += len(part)
            took = time.monotonic() - began
            if self._busy():
                self._rest(YIELD * took)
                self._together = min(max(int(len(part) * SECONDS / max(took, 1e-6)), LEAST), TOGETHER)
            else:
                self._together = min(2 * self._together, TOGETHER)
        return state

    def _write(self, job: Callable[[Transaction], StoredImport]) -> StoredImport:
        while True:
            try:
                return self._store.write(job).result()
            except Overloaded as error:
                # An import can wait: it has one job at a time, and those who are ahead have callers.
                self._rest(error.retry_after)

    def _job(self, import_id: str, first_row: int, rows: Sequence[Row], now_ms: int, tx: Transaction) -> StoredImport:
        """The transaction of some rows, user by user."""
        state = tx.imports.get(import_id)
        done = max(0, state.next_row - first_row)
        faults: list[tuple[int, Sequence[Fault]]] = []
        of_user: dict[str, list[tuple[int, Proposed]]] = {}
        for row, given in enumerate(rows[done:], first_row + done):
            wrong = given.faults if isinstance(given, Verdict) else event_faults(given[0], now_ms)
            if wrong or isinstance(given, Verdict):
                faults.append((row, wrong))
            else:
                of_user.setdefault(given[0].user_id, []).append((row, given))
        accepted = 0
        for user_id, events in of_user.items():
            new, erased = self._take_in(tx, user_id, events, now_ms)
            accepted += new
            faults += [(row, _ERASED) for row in erased]
        taken = max(0, len(rows) - done)
        state = replace(
            state,
            next_row=max(state.next_row, first_row + len(rows)),
            accepted=state.accepted + accepted,
            duplicates=state.duplicates + taken - len(faults) - accepted,
            rejected=state.rejected + len(faults),
            faults=_with_faults(state.faults, sorted(faults)),
        )
        tx.imports.put(state)
        return state

    def _take_in(
        self, tx: Transaction, user_id: str, events: Sequence[tuple[int, Proposed]], now_ms: int
    ) -> tuple[int, list[int]]:
        """Take in events of one user; how many of them were new, and the rows from before the user was erased."""
        stored = tx.users.get(user_id)
        try:
            before = self._documents.decode(stored.whose(user_id), stored)
        except ErasedUser:
            return 0, [row for row, _ in events]
        erased = [row for row, (event, _) in events if event.time <= before.erased_through]
        there = [given for _, given in events if given[0].time > before.erased_through]
        user_id = stored.whose(user_id)
        document, new = take_in(tx, before, whose(there, stored), (), now_ms, self._privacy, door=self._door)
        if document is not before:
            tx.users.put(user_id, write_document(document), stored.version)
            if self._watching:
                # History calls for no push.
                tx.looks.ask(user_id, now_ms, loud=False)
        return sum(new), erased


def read_faults(state: StoredImport) -> list[tuple[int, list[Fault]]]:
    """The first rejected rows of an import, in order, with what is wrong with each. Raises StorageFailed."""
    try:
        found = json.loads(state.faults or b"[]")
        return [(int(row), [(str(field), str(problem)) for field, problem in wrong]) for row, wrong in found]
    except (ValueError, TypeError) as error:
        raise StorageFailed(f"what is known of an import is damaged: {error}") from error


def _with_faults(kept: bytes, more: Sequence[tuple[int, Sequence[Fault]]]) -> bytes:
    """What is kept of faults, with some more of later rows, as long as there is room."""
    before = json.loads(kept) if kept else []
    if not more or len(before) >= MAX_FAULTS:
        return kept
    return json.dumps([*before, *more][:MAX_FAULTS], ensure_ascii=False, separators=(",", ":")).encode()
