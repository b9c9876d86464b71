"""Decisions go by what the person said: where, on what, how often and when; what is held up is decided again."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.server.conftest import Clock
from tests.server.deciding.house import TRIGGERS, House, Open
from tidings_core.changes import Change, Said, Update
from tidings_core.preferences import CAP, QUIET, Value
from tidings_core.profile import fold
from tidings_core.quiet_hours import QuietHours, Span
from tidings_server.application.documents import UserDocument, write_document
from tidings_server.application.send_push import PushRequest

NIGHT = QuietHours("Asia/Shanghai", tuple(Span(day, 22 * 60, 8 * 60) for day in range(7)))
EVENING = datetime(2023, 11, 15, 15, 30, tzinfo=UTC).timestamp()
"""Half past eleven at night in Shanghai."""
MORNING = datetime(2023, 11, 16, 0, 0, tzinfo=UTC).timestamp()
"""Eight in the morning there."""


def says(house: House, words: Mapping[str, Value], user: str = "ann") -> None:
    """Let a person say something."""
    house.made += 1
    change = Change(f"said-{house.made}", user, house.now, Said(words))
    house.change(user, lambda document: replace(document, profile=fold(document.profile, [(change, ())])))


def asked(house: House, name: str, **fields: object) -> str:
    """What becomes of a push that a sender asks for: its state, or the reason why not."""
    entry = house.send(PushRequest(name, "ann", "Title", 60.0, **fields)).result(30)  # type: ignore[arg-type]
    return entry.reason or entry.state


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"channel/stream": False}, "CHANNEL_OFF"),
        ({"topic/offers": False}, "TOPIC_OFF"),
        ({"consent/marketing": False}, "NO_CONSENT"),
        ({CAP: 0}, "CAP_DAY"),
        ({"channel/email": False, "topic/news": False, CAP: 1}, "sent"),
    ],
)
def test_a_trigger_is_held_back_by_what_the_person_said(opened: Open, words: dict[str, Value], reason: str) -> None:
    """Before anything is recommended, and the ledger says why; what is about something else holds nothing back."""
    triggers = {"bought": replace(TRIGGERS["bought"], topic="offers")}
    with opened(triggers=triggers) as house:
        says(house, words)
        house.act("ann", "purchase", "item-8")
        house.decide()
        assert house.outcomes() == [reason]
        assert len(house.pushes("ann")) == (reason == "sent")
        says(house, dict.fromkeys(words))
        house.act("ann", "purchase", "item-9")
        house.decide()
        assert house.outcomes()[-1] == "sent"


def test_what_is_said_while_a_push_is_being_decided_counts(opened: Open, wrap: object, around: list) -> None:  # type: ignore[type-arg]
    """A word that comes between the recommendation and the transaction holds the push back."""
    with opened(around=wrap) as house:
        house.act("ann", "purchase", "item-8")
        document = house.document("ann")
        change = Change("late", "ann", house.now, Said({"consent/marketing": False}))
        after = replace(document, profile=fold(document.profile, [(change, ())]))
        around[0].before = lambda tx: tx.users.put("ann", write_document(after), tx.users.get("ann").version)
        house.decide()
        assert house.outcomes() == ["NO_CONSENT"]
        assert house.pushes("ann") == []


def test_a_push_waits_for_the_end_of_quiet_hours(opened: Open, clock: Clock) -> None:
    """Nothing comes at night, and nothing is in the ledger; at eight it is decided by what is so then."""
    clock.now = EVENING
    triggers = {"bought": replace(TRIGGERS["bought"], max_age_seconds=12 * 3600.0)}
    with opened(triggers=triggers) as house:
        says(house, {QUIET: NIGHT})
        house.act("ann", "purchase", "item-8")
        house.decide()
        assert (house.outcomes(), house.pushes("ann")) == ([], [])
        assert house.store.next_due() == int(MORNING * 1000)
        clock.now = MORNING - 0.001
        house.decide()
        assert house.outcomes() == []
        house.act("ann", "purchase", "item-14")
        house.decide()
        clock.now = MORNING
        house.decide()
        assert house.outcomes() == ["sent", "sent"]
        assert not {"item-8", "item-14"} & {item.item.item_id for push in house.pushes("ann") for item in push.items}
        assert house.store.next_due() is None


def test_a_push_that_would_be_too_old_by_morning_is_not_held(opened: Open, clock: Clock) -> None:
    """It is suppressed at once, with the reason."""
    clock.now = EVENING
    with opened() as house:
        says(house, {QUIET: NIGHT})
        house.act("ann", "purchase", "item-8")
        house.decide()
        assert house.outcomes() == ["QUIET_HOURS"]
        assert house.store.next_due() is None


def test_a_sender_is_told_what_the_person_said(opened: Open, clock: Clock) -> None:
    """Topics, quiet hours and the person's own cap; what was asked for comes at night too, but not over the cap."""
    clock.now = EVENING
    with opened(max_per_day=1) as house:
        says(house, {QUIET: NIGHT, "topic/sale": False, CAP: 2, "consent/marketing": True})
        assert asked(house, "night") == "QUIET_HOURS"
        assert asked(house, "sale", topic="sale", asked_for=True) == "TOPIC_OFF"
        assert asked(house, "order", asked_for=True) == "sent"
        clock.now = MORNING
        assert [asked(house, "day"), asked(house, "more"), asked(house, "order-2", asked_for=True)] == [
            "sent", "CAP_DAY", "CAP_DAY",
        ]  # fmt: skip
        says(house, {CAP: None})
        assert asked(house, "back", asked_for=True) == "CAP_DAY"


def test_minors_get_nothing_that_they_did_not_ask_for(opened: Open, clock: Clock) -> None:
    """Until the day that they come of age."""
    clock.now = EVENING
    born = Change("born", "ann", int(clock.now * 1000), Update({"birth_date": "2005-11-16"}))
    with opened() as house:
        house.change("ann", lambda _: UserDocument(profile=fold(UserDocument().profile, [(born, ())])))
        house.act("ann", "purchase", "item-8")
        house.decide()
        assert house.outcomes() == ["MINOR"]
        assert [asked(house, "offer"), asked(house, "order", asked_for=True)] == ["MINOR", "sent"]
        clock.now = MORNING
        house.act("ann", "purchase", "item-9")
        house.decide()
        assert house.outcomes()[-1] == "sent"
