"""Promises about people under several ids: visitors who do something, and turn out to be somebody.

A merge that was answered holds for ever; one that was not may be done or not, and is asked for again. In the end every
event of a visitor is in the profile of the person, once.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tidings.v1 import event_pb2, event_service_pb2, profile_service_pb2
from tidings.v1.event_service_pb2_grpc import EventServiceStub
from tidings.v1.profile_service_pb2_grpc import ProfileServiceStub

PEOPLE = 6
CALL_SECONDS = 20.0


class Shop(Protocol):
    """A connection to a server."""

    events: EventServiceStub
    profiles: ProfileServiceStub


class Tally(Protocol):
    """Counts promises, and faults by their kind."""

    def check(self, kept: bool, kind: str, words: str) -> None:
        """Count a promise, and a fault when it was not kept."""
        ...


@dataclass
class Merges:
    """What was asked for and what was answered. Written by one thread."""

    events: dict[str, event_pb2.Event] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    asked: dict[str, str] = field(default_factory=dict)
    """The person that each visitor was to be merged into."""
    merged: set[str] = field(default_factory=set)


def merge(shop: Shop, merges: Merges, tally: Tally, chance: random.Random, turn: int, number: int) -> None:
    """Let a visitor, and maybe the person, do something, merge them, and let the visitor go on."""
    visitor, person = f"visitor-{turn}-{number}", f"person-{chance.randrange(PEOPLE)}"
    whose = [visitor] * chance.randrange(3) + [person] * chance.randrange(2)
    if whose:
        _record(shop, merges, tally, [_event(merges, user, turn, number) for user in whose])
    merges.asked[visitor] = person
    done = _merge(shop, visitor, person)
    tally.check(done.user_id == person, "corrupt", f"{visitor} was merged into {done.user_id}, not {person}")
    tally.check(not done.already, "doubled", f"{visitor} was merged before anybody asked for it")
    merges.merged.add(visitor)
    _record(shop, merges, tally, [_event(merges, visitor, turn, number)])
    wanted = profile_service_pb2.GetProfileRequest(user_id=visitor, consistency_token=done.consistency_token)
    profile = shop.profiles.GetProfile(wanted, timeout=CALL_SECONDS).profile
    tally.check(profile.user_id == person, "lost", f"{visitor} is {profile.user_id}, and was merged into {person}")


def judge_merges(shop: Shop, merges: Merges, tally: Tally) -> None:
    """Hold a server that was started again against all that was promised, and ask for what is not known again."""
    for visitor, person in merges.asked.items():
        done = _merge(shop, visitor, person)
        kept = done.already or visitor not in merges.merged
        tally.check(kept, "lost", f"{visitor} was merged into {person}, and is not any more")
        tally.check(done.user_id == person, "corrupt", f"{visitor} was merged into {done.user_id}, not {person}")
    merges.merged.update(merges.asked)
    if merges.events:
        _record(shop, merges, tally, list(merges.events.values()))
    expected = Counter(merges.asked.get(event.user_id, event.user_id) for event in merges.events.values())
    for person, count in expected.items():
        wanted = profile_service_pb2.GetProfileRequest(user_id=person)
        counts = shop.profiles.GetProfile(wanted, timeout=CALL_SECONDS).profile.counts
        total = sum(one.total for one in counts)
        tally.check(total >= count, "lost", f"{person} has {total} events under all ids, {count} were accepted")
        tally.check(total <= count, "doubled", f"{person} has {total} events under all ids, {count} were recorded")


def _merge(shop: Shop, visitor: str, person: str) -> profile_service_pb2.MergeProfilesResponse:
    request = profile_service_pb2.MergeProfilesRequest(visitor_id=visitor, user_id=person)
    return shop.profiles.MergeProfiles(request, timeout=CALL_SECONDS)


def _event(merges: Merges, user: str, turn: int, number: int) -> event_pb2.Event:
    event = event_pb2.Event(
        event_id=f"merge-{turn}-{number}-{len(merges.events)}",
        type=event_pb2.EVENT_TYPE_VIEW,
        user_id=user,
        items=[event_pb2.EventItem(item_id="item-1")],
    )
    event.event_time.GetCurrentTime()
    merges.events[event.event_id] = event
    return event


def _record(shop: Shop, merges: Merges, tally: Tally, events: Sequence[event_pb2.Event]) -> None:
    """Record events: what was accepted before is a duplicate."""
    for start in range(0, len(events), 1000):
        part = events[start : start + 1000]
        request = event_service_pb2.RecordEventsRequest(events=part)
        verdicts = shop.events.RecordEvents(request, timeout=CALL_SECONDS).verdicts
        for event, verdict in zip(part, verdicts, strict=True):
            known = event.event_id in merges.accepted
            again = verdict.status == event_service_pb2.EVENT_STATUS_DUPLICATE
            tally.check(again or not known, "lost", f"{event.event_id} of {event.user_id} was accepted before")
        merges.accepted.update(event.event_id for event in part)
