"""Export the log and the recorded decisions: what may be learned from, up to one place of the log.

Flagged events are left out, and people who did not agree to it or whose document cannot be read; what went out before
and may not stay is found by the same rules (`stays`).
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from tidings_core.changes import Change, Logged
from tidings_core.errors import StorageFailed
from tidings_core.flags import GOOD
from tidings_core.profile import Profile
from tidings_core.stored import Document, Entry, StoredEvent
from tidings_server.application.documents import read_document
from tidings_server.application.export_rows import Row, decision_rows, event_rows

PAGE = 2000
"""Entries read at a time."""
MAX_KNOWN = 100_000
"""So many users are remembered, with whether they may be exported."""
Group = tuple[int, list[Row], dict[str, int]]
"""The rows of the entries through a number, and how many entries were left out by why."""


class Source(Protocol):
    """Where the log is read from. Everything raises StorageFailed."""

    def events(self, after: int, limit: int) -> list[StoredEvent]:
        """Events after a number, in order, the flagged ones too."""
        ...

    def good_numbers(self, first: int, last: int) -> set[int]:
        """The numbers, from one through another, of the events that are in the log and count."""
        ...

    def decisions(self, after: int, limit: int) -> list[tuple[int, Entry]]:
        """Decisions after a number, in order, each with its own."""
        ...

    def decision_numbers(self, first: int, last: int) -> set[int]:
        """The numbers, from one through another, of the decisions that are in the ledger."""
        ...

    def user(self, user_id: str) -> Document:
        """A user's document: that of the user into whom this one is merged, if there is one."""
        ...


class ExportLog:
    """Reads what is to be exported. Everything raises StorageFailed."""

    def __init__(self, source: Source, decode: Callable[[bytes], Logged], may: Callable[[str, Profile], bool]) -> None:
        """`decode` reads an entry of the log; `may` says whether a user of that profile may be in an export now."""
        self._source = source
        self._decode = decode
        self._may = may
        self._known: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def events(self, after: int, through: int) -> Iterator[Group]:
        """The rows of the events after a number through another, a page at a time."""
        while after < through:
            page = [one for one in self._source.events(after, PAGE) if one.number <= through]
            after = page[-1].number if len(page) == PAGE else through
            rows: list[Row] = []
            left_out: dict[str, int] = {}
            for stored in page:
                if stored.flags != GOOD:
                    left_out["flagged"] = left_out.get("flagged", 0) + 1
                    continue
                logged = self._decode(stored.content)
                if isinstance(logged, Change):
                    continue
                user_id, why = self._whose(stored.user_id)
                if why:
                    left_out[why] = left_out.get(why, 0) + 1
                else:
                    rows += event_rows(stored.number, logged, user_id)
            yield after, rows, left_out

    def decisions(self, after: int, through: int) -> Iterator[Group]:
        """The rows of the decisions after a number through another, a page at a time."""
        while after < through:
            page = [one for one in self._source.decisions(after, PAGE) if one[0] <= through]
            after = page[-1][0] if len(page) == PAGE else through
            rows: list[Row] = []
            left_out: dict[str, int] = {}
            for number, entry in page:
                user_id, why = self._whose(entry.user_id)
                if why:
                    left_out[why] = left_out.get(why, 0) + 1
                else:
                    rows += decision_rows(number, entry, user_id)
            yield after, rows, left_out

    def stays(self, good: set[int], numbers: Sequence[int], users: Sequence[str]) -> list[bool]:
        """Which rows that went out before may stay: of entries that still count, of people who may be exported now."""
        return [
            number in good and self._whose(user_id) == (user_id, "")
            for number, user_id in zip(numbers, users, strict=True)
        ]

    def _whose(self, user_id: str) -> tuple[str, str]:
        """Under which id a user is known now, and why nothing of the user may be exported, "" when it may."""
        found = self._known.get(user_id)
        if found is None:
            found = self._known[user_id] = self._ask(user_id)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return found

    def _ask(self, user_id: str) -> tuple[str, str]:
        stored = self._source.user(user_id)
        try:
            may = self._may(user_id, read_document(stored).profile)
        except StorageFailed:
            return user_id, "unreadable"
        return stored.whose(user_id), "" if may else "no_consent"
