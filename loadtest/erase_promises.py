"""What a server promised of people it erased, and whether it kept it: a part of the load of loadtest/crash.py.

Somebody does things for a while and is erased. An erasure that was answered is complete; one without an answer, because
the server died, has either not begun or is complete too once the server answers again. Nothing brings anybody back.
"""

import random
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from sqlite3 import connect
from typing import Protocol

from tidings.v1 import erasure_pb2, event_pb2, event_service_pb2, push_service_pb2
from tidings.v1.event_service_pb2_grpc import EventServiceStub
from tidings.v1.profile_service_pb2_grpc import ProfileServiceStub
from tidings.v1.push_service_pb2_grpc import PushServiceStub

CALL_SECONDS = 20.0
EVENTS = 600
"""Of one person: more than go in one transaction."""


class Shop(Protocol):
    """A connection."""

    events: EventServiceStub
    profiles: ProfileServiceStub
    pushes: PushServiceStub


class Tally(Protocol):
    """Counts promises."""

    def check(self, kept: bool, kind: str, words: str) -> None:
        """Count a promise, and a fault when it was not kept."""
        ...


@dataclass
class Erased:
    """Who asked to be erased: those for whom it was answered, and those for whom it was not."""

    answered: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)


def erase(shop: Shop, erased: Erased, tally: Tally, chance: random.Random, turn: int, number: int) -> None:
    """Be somebody, do things, and be erased."""
    user_id = f"vanishing-{turn}-{number}"
    # Of a call without an answer nobody knows what came of it.
    erased.unanswered.add(user_id)
    events = [_event(user_id, at) for at in range(chance.choice((1, 50, EVENTS)))]
    shop.events.RecordEvents(event_service_pb2.RecordEventsRequest(events=events), timeout=CALL_SECONDS)
    push = push_service_pb2.SendPushRequest(request_id=f"to-{user_id}", user_id=user_id, title=f"For {user_id}")
    shop.pushes.SendPush(push, timeout=CALL_SECONDS)
    receipt = _erase(shop, user_id)
    erased.unanswered.discard(user_id)
    erased.answered.add(user_id)
    gone = receipt.removed["events"]
    tally.check(gone == len(events), "lost", f"the receipt of {user_id} counts {gone} of {len(events)} events")


def judge_erased(shop: Shop, erased: Erased, tally: Tally, state: Path) -> None:
    """Hold a server that was started again against what was promised; afterwards nothing is without an answer."""
    left = _left(state)
    for user_id in erased.answered:
        tally.check(user_id not in left, "lost", f"{user_id} was erased and is in {left.get(user_id)}")
    begun = {user_id for user_id in erased.unanswered if _late(shop, user_id)}
    for user_id in begun:
        tally.check(user_id not in left, "lost", f"{user_id} was half erased and is in {left.get(user_id)}")
    for user_id in erased.answered:
        tally.check(_late(shop, user_id), "lost", f"{user_id} was erased, and came back")
    for user_id in erased.unanswered:
        _erase(shop, user_id)
    erased.answered |= erased.unanswered
    erased.unanswered.clear()
    left = _left(state)
    tally.check(not left, "lost", f"erased people are in {left}")
    found = [name for name in _files_with(state, b"vanishing-") if name.startswith("tidings.db")]
    tally.check(not found, "lost", f"erased people can be read in {found}")


def _event(user_id: str, at: int) -> event_pb2.Event:
    event = event_pb2.Event(event_id=f"{user_id}-{at}", type=event_pb2.EVENT_TYPE_VIEW, user_id=user_id)
    event.items.add(item_id=f"item-{at}")
    event.event_time.GetCurrentTime()
    return event


def _erase(shop: Shop, user_id: str) -> erasure_pb2.EraseProfileResponse:
    return shop.profiles.EraseProfile(erasure_pb2.EraseProfileRequest(user_id=user_id), timeout=CALL_SECONDS)


def _late(shop: Shop, user_id: str) -> bool:
    """Whether an event that comes late is refused. It is one that was recorded before, so that it adds nothing."""
    request = event_service_pb2.RecordEventsRequest(events=[_event(user_id, 0)])
    (verdict,) = shop.events.RecordEvents(request, timeout=CALL_SECONDS).verdicts
    return verdict.status == event_service_pb2.EVENT_STATUS_ERASED


def _left(state: Path) -> dict[str, str]:
    """The people of this load of whom anything stands in a table, each with one of those."""
    found: dict[str, str] = {}
    with closing(connect(f"{(state / 'tidings.db').absolute().as_uri()}?mode=ro", uri=True)) as reader:
        for table in ("users", "events", "pushes", "decisions", "timers", "checkpoints", "contacts", "contact_keys"):
            rows = reader.execute(f"SELECT DISTINCT user_id FROM {table} WHERE user_id LIKE 'vanishing-%'")
            found.update((user_id, table) for (user_id,) in rows)
    return found


def _files_with(state: Path, text: bytes) -> list[str]:
    return [file.name for file in state.iterdir() if file.is_file() and text in file.read_bytes()]
