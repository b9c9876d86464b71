"""What a server promised of an import of history, and whether it kept it: a part of the load of loadtest/crash.py.

One import goes on over all crashes. Its rows are numbered, and all are good and new: however often it was cut off, what
the server says is done must stand in log and profiles once, and nothing besides.
"""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import connect
from typing import Protocol

from tidings.v1 import event_pb2, event_service_pb2, profile_service_pb2
from tidings.v1.event_service_pb2_grpc import EventServiceStub
from tidings.v1.profile_service_pb2_grpc import ProfileServiceStub

IMPORT_ID = "history"
CALL_SECONDS = 20.0
USERS = 30
ROWS = 40
"""Of one message."""
LONG_AGO = 1_300_000_000


class Shop(Protocol):
    """A connection."""

    events: EventServiceStub
    profiles: ProfileServiceStub


class Tally(Protocol):
    """Counts promises."""

    def check(self, kept: bool, kind: str, words: str) -> None:
        """Count a promise, and a fault when it was not kept."""
        ...


@dataclass
class Imported:
    """So many rows were answered to be done, and so many were ever sent."""

    done: int = 0
    sent: int = 0


def go_on(shop: Shop, imported: Imported, tally: Tally, chance: random.Random) -> None:
    """Ask how far the import has come, and send some more; now and then rows that are done are sent again."""
    at = _reached(shop, imported, tally, iter((_message(0, 0),)))
    first = max(0, at - chance.choice((0, 0, ROWS // 2, 3 * ROWS)))
    messages = [_message(first + part * ROWS, ROWS) for part in range(chance.randint(1, 6))]
    imported.sent = max(imported.sent, first + len(messages) * ROWS)
    after = _reached(shop, imported, tally, iter(messages))
    wanted = max(at, first + len(messages) * ROWS)
    tally.check(after == wanted, "lost", f"the import is at row {after} after rows up to {wanted}")


def judge_import(shop: Shop, imported: Imported, tally: Tally, database: Path) -> None:
    """Hold a server that was started again against what it said of the import."""
    at = _reached(shop, imported, tally, iter((_message(0, 0),)))
    tally.check(at <= imported.sent, "doubled", f"the import is at row {at}, and {imported.sent} were sent")
    # All of it again changes nothing.
    again = [_message(row, ROWS) for row in range(0, at - at % ROWS, ROWS)]
    if again:
        after = _reached(shop, imported, tally, iter(again))
        tally.check(after == at, "doubled", f"the import is at row {after} after rows that were done, before at {at}")
    with closing(connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as reader:
        query = "SELECT event_id FROM events WHERE event_id >= 'history/' AND event_id < 'history0'"
        there = Counter(int(name.partition("/")[2]) for (name,) in reader.execute(query))
    missing, extra = set(range(at)) - there.keys(), there.keys() - set(range(at))
    tally.check(not missing, "lost", f"rows of the import are not in the log: {sorted(missing)[:5]}")
    tally.check(not extra, "doubled", f"the log has rows of the import that are not done: {sorted(extra)[:5]}")
    tally.check(max(there.values(), default=1) == 1, "doubled", "a row of the import is in the log twice")
    for user in range(min(USERS, at)):
        wanted = profile_service_pb2.GetProfileRequest(user_id=f"history-{user}")
        counts = shop.profiles.GetProfile(wanted, timeout=CALL_SECONDS).profile.counts
        total, right = sum(count.total for count in counts), len(range(user, at, USERS))
        tally.check(total >= right, "lost", f"the profile of history-{user} has {total} events of {right}")
        tally.check(total <= right, "doubled", f"the profile of history-{user} has {total} events of {right}")


def _reached(
    shop: Shop, imported: Imported, tally: Tally, messages: Iterator[event_service_pb2.ImportEventsRequest]
) -> int:
    """The row that the server has come to, after what it took of messages."""
    answer = shop.events.ImportEvents(messages, timeout=CALL_SECONDS)
    told = f"the import is at row {answer.next_row}, promised {imported.done}"
    tally.check(answer.next_row >= imported.done, "lost", told)
    right = answer.accepted == answer.next_row and not answer.duplicates and not answer.rejected
    tally.check(right, "doubled", f"{answer.accepted} of {answer.next_row} rows are accepted")
    imported.done = max(imported.done, answer.next_row)
    return int(answer.next_row)


def _message(first: int, count: int) -> event_service_pb2.ImportEventsRequest:
    message = event_service_pb2.ImportEventsRequest(import_id=IMPORT_ID, first_row=first)
    for row in range(first, first + count):
        event = message.events.add(
            event_id=f"history/{row}",
            type=event_pb2.EVENT_TYPE_PURCHASE,
            user_id=f"history-{row % USERS}",
            items=[event_pb2.EventItem(item_id=f"item-{row % 7}")],
        )
        event.event_time.FromSeconds(LONG_AGO + row)
    return message
