"""Acknowledgements on a real store: what a device has is written down once, whole, and for its own user only."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from unittest.mock import Mock

import pytest

from tests.server.conftest import Clock
from tests.server.listening import House, Listener, opened
from tidings_core.errors import InvalidInput, NotFound, Overloaded, StorageFailed
from tidings_core.profile import EMPTY
from tidings_core.stored import StoredEvent
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.adapters.sqlite_tables import DecisionTable
from tidings_server.application import acknowledge
from tidings_server.application.acknowledge import Acknowledgement, Outcome
from tidings_server.application.decision_record import read_record
from tidings_server.application.places import Resume
from tidings_server.transport.events import decode_event


@pytest.fixture
async def house(tmp_path: Path, clock: Clock) -> AsyncIterator[House]:
    """An empty store with nobody listening."""
    async with opened(tmp_path / "state", clock) as house:
        yield house


async def having(house: House, pushes: int, device_id: str = "phone", items: tuple[str, ...] = ()) -> Listener:
    """A device of ann's that received so many pushes."""
    for _ in range(pushes):
        house.push("ann", items=items)
    listener = await house.listen("ann", device_id)
    assert len(await listener.pushes()) == pushes
    return listener


def events(house: House) -> Sequence[StoredEvent]:
    """All events of the log."""
    return house.store.events(0, 1000)


def states(house: House) -> list[str]:
    """What became of ann's pushes, by offset."""
    return [entry.state for entry in sorted(house.store.decisions("ann", 1000), key=lambda entry: entry.offset)]


async def test_what_is_acknowledged_is_delivered_and_does_not_come_again(house: House) -> None:
    """Everything up to the offset, and nothing after it."""
    listener = await having(house, 3)
    assert listener.acknowledge(2) == 2
    assert states(house) == ["delivered", "delivered", "sent"]
    again = await house.listen("ann", "phone")
    assert again.opened.offset == 2
    assert [push.stored.offset for push in await again.pushes()] == [3]


async def test_acknowledging_again_or_less_changes_nothing(house: House) -> None:
    """It answers how far the device is, whatever is asked, and writes no new version of the document."""
    listener = await having(house, 3)
    assert listener.acknowledge(3) == 3
    before = house.store.user("ann")
    house.clock.now += 60
    assert [listener.acknowledge(offset) for offset in (3, 1, 0)] == [3, 3, 3]
    assert house.store.user("ann") == before


async def test_devices_acknowledge_each_for_itself(house: House) -> None:
    """What one device acknowledged still comes to another; a push is delivered when any has it."""
    phone, tv = await having(house, 3), await house.listen("ann", "tv")
    assert phone.acknowledge(2) == 2
    assert len(await tv.pushes()) == 3
    assert tv.acknowledge(1) == 1
    assert house.document("ann").devices == {"phone": (2, house.now), "tv": (1, house.now)}
    assert house.document("ann").acknowledged == 2
    assert states(house) == ["delivered", "delivered", "sent"]


async def test_an_offset_that_was_not_sent_is_refused_with_both_numbers(house: House) -> None:
    """A device cannot acknowledge what it cannot have, also when there is such a push."""
    for _ in range(5):
        house.push("ann")
    listener = await house.listen("ann", "phone", max_unacked=2)
    assert len(await listener.pushes()) == 2
    with pytest.raises(InvalidInput, match="offset: is 3, and only pushes up to 2 were sent"):
        listener.acknowledge(3)
    assert states(house) == ["sent"] * 5


async def test_the_place_a_subscription_began_at_can_be_acknowledged(house: House) -> None:
    """Before the first push the offset of `subscribed` is as good as any."""
    listener = await having(house, 2)
    listener.acknowledge(2)
    again = await house.listen("ann", "phone")
    assert again.acknowledge(again.opened.offset) == 2
    stranger = await house.listen("nobody")
    before = house.store.user("nobody")
    assert stranger.acknowledge(0) == 0
    assert house.store.user("nobody") == before


@pytest.mark.parametrize("stranger", ["unknown", "another user's", "closed", "replaced"])
async def test_a_subscription_that_is_not_open_for_this_user_is_not_found(house: House, stranger: str) -> None:
    """An acknowledgement needs the subscription it was received on, and nothing is written without it."""
    listener = await having(house, 1)
    user_id, name = "ann", listener.opened.subscription_id
    if stranger == "unknown":
        name = "no-such-name"
    elif stranger == "another user's":
        user_id = "bob"
    elif stranger == "closed":
        await listener.leave()
    else:
        await house.listen("ann", "phone")
    (answer,) = house.acknowledge([Acknowledgement(user_id, name, 1)])
    assert isinstance(answer, NotFound)
    assert states(house) == ["sent"]


@pytest.mark.parametrize(
    ("outcome", "type"), [("displayed", "impression"), ("clicked", "click"), ("dismissed", "dismiss")]
)
async def test_an_outcome_is_recorded_as_what_the_user_did_with_the_items(
    house: House, outcome: Outcome, type: str
) -> None:
    """One event of the push's items, with the push named, in the log and in the profile; a repeat is a duplicate."""
    push = house.push("ann", items=("phone-3", "case-1"))
    listener = await house.listen("ann")
    await listener.pushes()
    for _ in range(2):
        listener.acknowledge(1, (push.push_id, outcome))
    (event,) = events(house)
    assert (event.event_id, event.user_id, event.time) == (f"push/{push.push_id}/{outcome}", "ann", house.now)
    told = decode_event(event.content)
    assert (told.type, told.push_id, told.time) == (type, push.push_id, house.now)
    assert [item.item_id for item in told.items] == ["phone-3", "case-1"]
    document = house.document("ann")
    assert document.applied_through == event.number
    assert document.profile != EMPTY
    assert states(house) == [outcome]


@pytest.mark.parametrize("outcome", ["delivered", "rejected"])
async def test_delivery_and_rejection_are_no_deeds_of_the_user(house: House, outcome: Outcome) -> None:
    """They are kept in the ledger alone."""
    push = house.push("ann", items=("phone-3",))
    listener = await house.listen("ann")
    await listener.pushes()
    listener.acknowledge(0, (push.push_id, outcome))
    assert (states(house), events(house)) == ([outcome], [])


async def test_a_push_without_items_has_outcomes_without_events(house: House) -> None:
    """There is nothing that was clicked on; the ledger has the click all the same."""
    listener = await having(house, 1)
    (entry,) = house.store.decisions("ann", 1)
    listener.acknowledge(1, (entry.push_id, "clicked"))
    assert (states(house), events(house)) == (["clicked"], [])


async def test_a_later_word_that_says_less_does_not_win(house: House) -> None:
    """Devices report in any order: a click stays a click, however often the push is delivered or shown afterwards."""
    push = house.push("ann", items=("phone-3",))
    listener = await house.listen("ann")
    await listener.pushes()
    listener.acknowledge(1, (push.push_id, "clicked"), (push.push_id, "displayed"))
    listener.acknowledge(1, (push.push_id, "delivered"))
    listener.acknowledge(1, (push.push_id, "dismissed"))
    assert states(house) == ["clicked"]
    assert {event.event_id.rpartition("/")[2] for event in events(house)} == {"clicked", "displayed", "dismissed"}


async def test_an_outcome_that_is_told_many_times_costs_no_more_than_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its decision is looked up once and its record read once, and each outcome is one event."""
    push = house.push("ann", items=("phone-3",))
    listener = await house.listen("ann")
    await listener.pushes()
    reading = Mock(wraps=read_record)
    finding = Mock(wraps=DecisionTable.find_push)
    monkeypatch.setattr(acknowledge, "read_record", reading)
    monkeypatch.setattr(DecisionTable, "find_push", lambda table, push_id: finding(table, push_id))
    told: list[tuple[str, Outcome]] = [(push.push_id, "displayed"), (push.push_id, "clicked")]
    listener.acknowledge(1, *told * 500)
    assert (reading.call_count, finding.call_count) == (1, 1)
    assert [event.event_id.rpartition("/")[2] for event in events(house)] == ["displayed", "clicked"]
    assert states(house) == ["clicked"]


async def test_pushes_of_others_are_refused_by_name_and_nothing_is_written(house: House) -> None:
    """One push that is not this user's refuses the whole acknowledgement, naming each such push."""
    mine, others = house.push("ann", items=("phone-3",)), house.push("bob")
    listener = await house.listen("ann", "phone")
    await listener.pushes()
    before = house.store.user("ann")
    with pytest.raises(InvalidInput) as refused:
        listener.acknowledge(1, (mine.push_id, "clicked"), (others.push_id, "clicked"), ("never", "clicked"))
    assert [field for field, _ in refused.value.violations] == ["outcomes[1].push_id", "outcomes[2].push_id"]
    assert "'never', which is no push of this user" in str(refused.value)
    assert (house.store.user("ann"), states(house), events(house)) == (before, ["sent"], [])
    assert house.subscriptions.find(listener.opened.subscription_id, "ann").unacked  # type: ignore[union-attr]


async def test_acknowledgements_of_a_batch_stand_each_for_itself(house: House) -> None:
    """A bad one fails alone, and all of them share a commit."""
    listener = await having(house, 3)
    name = listener.opened.subscription_id
    commits = house.store.commits
    answers = house.acknowledge(
        [Acknowledgement("ann", name, 1), Acknowledgement("ann", "none", 1), Acknowledgement("ann", name, 3)]
    )
    assert [answers[0], answers[2]] == [1, 3]
    assert isinstance(answers[1], NotFound)
    assert house.store.commits - commits <= 2
    assert house.acknowledge([]) == []


async def test_the_stream_goes_on_once_the_acknowledgement_is_on_disk(house: House) -> None:
    """Credit comes back with the commit, so a device that acknowledges gets all there is."""
    for _ in range(9):
        house.push("ann")
    listener = await house.listen("ann", max_unacked=2)
    got: list[int] = []
    while pushes := await listener.pushes():
        got += [push.stored.offset for push in pushes]
        assert listener.acknowledge(got[-1]) == got[-1]
    assert got == list(range(1, 10))


async def test_an_acknowledgement_that_cannot_be_written_gives_no_credit(house: House) -> None:
    """What failed can be tried again; until then nothing is taken as received."""
    listener = await having(house, 1)
    version = house.store.user("ann").version
    house.store.write(lambda transaction: transaction.users.put("ann", b"{}", version)).result(30)
    with pytest.raises(StorageFailed):
        listener.acknowledge(1)
    assert await listener.pushes() == []
    assert house.subscriptions.find(listener.opened.subscription_id, "ann").unacked  # type: ignore[union-attr]


async def test_a_store_with_too_much_waiting_refuses_at_once(tmp_path: Path, clock: Clock) -> None:
    """The caller hears when to come back, and may repeat the acknowledgement."""

    class Full(SqliteStore):
        full = False

        @property
        def _max_waiting(self) -> int:
            return 0 if self.full else 100

        @_max_waiting.setter
        def _max_waiting(self, most: int) -> None:
            pass

    async with opened(tmp_path / "state", clock, opening=Full.open) as house:
        listener = await having(house, 1)
        Full.full = True
        with pytest.raises(Overloaded):
            listener.acknowledge(1)
        Full.full = False
        assert listener.acknowledge(1) == 1


async def test_what_was_acknowledged_survives_a_restart(tmp_path: Path, clock: Clock) -> None:
    """The place of a device is on disk, and so is the epoch that makes its own place good."""
    async with opened(tmp_path / "state", clock) as house:
        listener = await having(house, 3)
        listener.acknowledge(2)
        epoch = listener.opened.epoch
    async with opened(tmp_path / "state", clock) as house:
        phone = await house.listen("ann", "phone")
        assert (phone.opened.epoch, phone.opened.offset, phone.opened.recovered) == (epoch, 2, True)
        other = await house.listen("ann", "other", Resume(epoch, 3))
        assert (other.opened.offset, other.opened.recovered) == (3, True)
