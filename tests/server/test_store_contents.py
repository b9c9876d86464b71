"""Every store keeps events, documents, streams, decisions, timers and counts as its Protocols promise."""

import pytest

from tests.server.storing import WAIT, Opened, add_pushes, entry, push, set_timers
from tidings_core.errors import Conflict
from tidings_core.flags import GOOD, Flag
from tidings_core.stored import Document, State, StoredEvent, StoredImport, StoredItem, Timer
from tidings_server.application.store import Transaction

# Events and items


def test_events_are_numbered_upwards_and_known_by_their_ids(opened: Opened) -> None:
    """A number is larger than all before it; an id that is there already gets none, in the same job or a later one."""
    first = opened.do(lambda t: [t.events.append(event, "anna", 1, b"") for event in ("a", "b", "a")])
    second = opened.do(lambda t: [t.events.append(event, "ben", 1, b"") for event in ("b", "c" * 256, "é")])
    assert (first[2], second[0]) == (None, None)
    numbers = [number for number in first + second if number is not None]
    assert numbers == sorted(set(numbers))
    assert opened.store.position == numbers[-1]


def test_the_log_is_read_in_order_from_any_place(opened: Opened) -> None:
    """`events` gives those after a number, in order, as many as asked for, each as it was recorded."""
    opened.do(lambda t: [t.events.append(f"e{n}", f"user-{n}", 100 - n, b"\x00%d" % n) for n in range(5)])
    log = opened.store.events(0, 9)
    assert [(e.event_id, e.user_id, e.time, e.content) for e in log] == [
        (f"e{n}", f"user-{n}", 100 - n, b"\x00%d" % n) for n in range(5)
    ]
    assert opened.store.events(log[1].number, 2) == log[2:4]
    assert opened.store.events(log[-1].number, 9) == []


def test_the_events_of_a_user_are_read_in_order(opened: Opened) -> None:
    """`user_events` gives those of one user alone after a number, as many as asked for; a job sees its own too."""

    def job(transaction: Transaction) -> list[StoredEvent]:
        transaction.events.append("late", "ben", 9, b"late")
        return transaction.events.of_user("ben", 0, 99)

    opened.do(lambda t: [t.events.append(f"e{n}", ("anna", "ben", "be")[n % 3], n, b"%d" % n) for n in range(30)])
    of_ben = opened.store.user_events("ben", 0, 99)
    assert [event.event_id for event in of_ben] == [f"e{n}" for n in range(1, 30, 3)]
    assert of_ben == [event for event in opened.store.events(0, 99) if event.user_id == "ben"]
    assert opened.store.user_events("ben", of_ben[2].number, 3) == of_ben[3:6]
    assert opened.store.user_events("nobody", 0, 9) == []
    assert [event.event_id for event in opened.do(job)] == [*(event.event_id for event in of_ben), "late"]


def test_flags_of_an_event_are_kept_and_changed(opened: Opened) -> None:
    """An event has the flags it was appended with until it gets others; without any it is good."""
    first = opened.do(lambda t: t.events.append("a", "anna", 1, b""))
    opened.do(lambda t: t.events.append("b", "anna", 1, b"", Flag.BOT | Flag.FLOOD))
    assert [event.flags for event in opened.store.events(0, 9)] == [GOOD, Flag.BOT | Flag.FLOOD]
    assert opened.do(lambda t: [t.events.set_flags(number, Flag.CANCELLED) for number in (first, 99)]) == [True, False]
    assert [event.flags for event in opened.store.user_events("anna", 0, 9)] == [Flag.CANCELLED, Flag.BOT | Flag.FLOOD]


def test_an_event_taken_out_leaves_its_number_and_its_id(opened: Opened) -> None:
    """No later event gets the number, not even after the store was opened again, and the id is a duplicate still."""
    numbers = opened.do(lambda t: [t.events.append(f"e{n}", "anna", 1, b"") for n in range(5)])
    assert opened.do(lambda t: t.events.remove([*numbers[2:], 99])) == 3
    assert [event.event_id for event in opened.store.user_events("anna", 0, 9)] == ["e0", "e1"]
    assert opened.store.position == numbers[-1]
    opened.reopen()
    assert opened.store.position == numbers[-1]
    assert opened.do(lambda t: t.events.append("e3", "anna", 1, b"")) is None
    assert opened.do(lambda t: t.events.append("new", "anna", 1, b"")) > numbers[-1]


def test_what_is_left_of_events_is_kept_by_user(opened: Opened) -> None:
    """A checkpoint is replaced as a whole, and gone when it is replaced by nothing."""

    def job(transaction: Transaction) -> bytes:
        transaction.checkpoints.put("anna", b"two")
        return transaction.checkpoints.get("anna")

    assert opened.store.checkpoint("anna") == b""
    opened.do(lambda t: t.checkpoints.put("anna", b"one"))
    opened.do(lambda t: t.checkpoints.put("ben", b"one"))
    assert opened.do(job) == b"two"
    opened.do(lambda t: t.checkpoints.put("ben", b""))
    assert (opened.store.checkpoint("anna"), opened.store.checkpoint("ben")) == (b"two", b"")


def test_how_far_an_import_came_is_kept_with_what_it_did(opened: Opened) -> None:
    """An import that has not begun is at row 0; what a job puts stands with its other effects, or not at all."""
    state = StoredImport("march", 7, 5, 1, 1, b"faults")

    def job(transaction: Transaction) -> StoredImport:
        transaction.imports.put(state)
        return transaction.imports.get("march")

    def failing(transaction: Transaction) -> None:
        transaction.imports.put(StoredImport("march", 99))
        raise ZeroDivisionError

    assert opened.store.history("march") == StoredImport("march")
    assert opened.do(job) == state
    opened.store.write(failing).exception(WAIT)
    assert opened.store.history("march") == state
    opened.reopen()
    assert (opened.store.history("march"), opened.store.history("april")) == (state, StoredImport("april"))


def test_an_item_keeps_its_number(opened: Opened) -> None:
    """Numbers are given at first sight, from 0, and never changed."""
    assert opened.do(lambda t: [t.items.number(item) for item in ("hat", "cap", "hat", "scarf")]) == [0, 1, 0, 2]
    assert opened.do(lambda t: [t.items.number(item) for item in ("scarf", "hat")]) == [2, 0]
    assert list(opened.store.item_ids(0)) == [(0, "hat"), (1, "cap"), (2, "scarf")]
    assert list(opened.store.item_ids(2)) == [(2, "scarf")]
    assert list(opened.store.item_ids(3)) == []


def test_more_items_than_one_read_fetches_come_all(opened: Opened) -> None:
    """`item_ids` goes on over any number of items, each once, also while more come."""
    opened.do(lambda t: [t.items.number(f"item-{n}") for n in range(20_000)])
    found = opened.store.item_ids(0)
    head = next(found)
    opened.do(lambda t: t.items.number("late"))
    numbers = [head, *found]
    assert numbers == [*((n, f"item-{n}") for n in range(20_000)), (20_000, "late")]


# The catalogue


def test_changes_of_the_catalogue_are_numbered_upwards_and_each_item_has_its_last(opened: Opened) -> None:
    """Every `put` gets a number larger than all before it; an item is listed once, at the place of its last change."""
    assert opened.store.catalogue_item("hat") == StoredItem("hat")
    puts = [("hat", 5, b"h1"), ("cap", 9, b"c1"), ("hat", 4, b"h2\x00")]
    first = opened.do(lambda t: [t.catalogue.put(*put) for put in puts])
    (last,) = opened.do(lambda t: [t.catalogue.put("bag", 1, b"")])
    assert [*first, last] == sorted({*first, last})
    assert opened.store.catalogue_position == last
    cap = StoredItem("cap", first[1], 9, b"c1")
    hat = StoredItem("hat", first[2], 4, b"h2\x00")
    bag = StoredItem("bag", last, 1, b"")
    assert opened.store.catalogue_changes(0, 9) == [cap, hat, bag]
    assert opened.store.catalogue_changes(cap.number, 1) == [hat]
    assert opened.store.catalogue_item("hat") == opened.do(lambda t: t.catalogue.get("hat")) == hat
    opened.reopen()
    assert (opened.store.catalogue_position, opened.store.catalogue_changes(hat.number, 9)) == (last, [bag])


def test_a_job_that_fails_changes_nothing_of_the_catalogue(opened: Opened) -> None:
    """Neither an item nor the position; the next change gets a number all the same."""

    def job(transaction: Transaction) -> None:
        transaction.catalogue.put("hat", 1, b"")
        raise ZeroDivisionError

    opened.do(lambda t: t.catalogue.put("cap", 1, b"kept"))
    before = opened.store.catalogue_position
    opened.store.write(job).exception(WAIT)
    assert (opened.store.catalogue_position, opened.store.catalogue_item("hat")) == (before, StoredItem("hat"))
    assert opened.do(lambda t: t.catalogue.put("hat", 2, b"")) > before


# Documents


def test_a_document_has_a_version_that_grows(opened: Opened) -> None:
    """No document is version 0; each change makes the next version."""
    assert opened.store.user("anna") == Document(0, b"")
    assert opened.do(lambda t: [t.users.put("anna", b"%d" % n, n) for n in range(3)]) == [1, 2, 3]
    assert opened.store.user("anna") == Document(3, b"2")
    assert opened.do(lambda t: t.users.get("anna")) == Document(3, b"2")


@pytest.mark.parametrize("expected", [0, 1, 3])
def test_a_document_of_another_version_is_not_replaced(opened: Opened, expected: int) -> None:
    """`put` raises Conflict when the version is not the expected one, and changes nothing."""
    opened.do(lambda t: [t.users.put("anna", b"%d" % n, n) for n in range(2)])
    with pytest.raises(Conflict):
        opened.do(lambda t: t.users.put("anna", b"new", expected))
    assert opened.store.user("anna") == Document(2, b"1")


def test_a_document_that_is_not_there_has_no_version_to_expect(opened: Opened) -> None:
    """`put` raises Conflict for a version of a document that does not exist."""
    with pytest.raises(Conflict):
        opened.do(lambda t: t.users.put("anna", b"new", 1))
    assert opened.store.user("anna") == Document()


def test_the_documents_of_many_are_read_at_once(opened: Opened) -> None:
    """Of those who have one, however many are asked for, each as it is on disk."""
    opened.do(lambda t: [t.users.put(f"user-{n}", b"%d" % n, 0) for n in range(0, 1200, 2)])
    found = opened.store.users([f"user-{n}" for n in range(1200)])
    assert found == {f"user-{n}": Document(1, b"%d" % n) for n in range(0, 1200, 2)}
    assert opened.store.users([]) == {}
    assert opened.store.versions([]) == {}
    opened.do(lambda t: t.users.put("user-4", b"again", 1))
    assert opened.store.versions(["user-2", "user-3", "user-4"]) == {"user-2": 1, "user-4": 2}


def test_the_users_of_the_newest_events_are_found(opened: Opened) -> None:
    """Each once, of so many events and no more."""
    opened.do(lambda t: [t.events.append(f"e{n}", f"user-{n % 7}", 1, b"") for n in range(50)])
    assert sorted(opened.store.newest_users(3)) == ["user-0", "user-5", "user-6"]
    assert len(opened.store.newest_users(50)) == 7


# Streams


def test_a_stream_is_read_in_order_of_offsets(opened: Opened) -> None:
    """Pushes come in offset order whatever order they were added in, after an offset, as many as asked for."""
    opened.do(add_pushes(*(("anna", push(offset)) for offset in (5, 1, 9))))
    opened.do(add_pushes(("ben", push(2))))
    assert opened.store.pushes("anna", 0, 9) == [push(1), push(5), push(9)]
    assert opened.store.pushes("anna", 1, 1) == [push(5)]
    assert opened.do(lambda t: t.streams.read("anna", 5, 9)) == [push(9)]
    assert opened.store.pushes("carl", 0, 9) == []


def test_the_same_offset_added_again_changes_nothing(opened: Opened) -> None:
    """The push that was there first stays."""
    opened.do(add_pushes(("anna", push(1)), ("anna", push(1, 7, "other"))))
    assert opened.store.pushes("anna", 0, 9) == [push(1)]


def test_pushes_are_taken_out_by_offset(opened: Opened) -> None:
    """Only those named go; one that is not there is passed over; other users keep theirs."""
    opened.do(add_pushes(*((user, push(n)) for user in ("anna", "ben") for n in (1, 2, 3))))
    opened.do(lambda t: t.streams.remove("anna", [1, 3, 8]))
    assert (opened.store.pushes("anna", 0, 9), len(opened.store.pushes("ben", 0, 9))) == ([push(2)], 3)
    opened.do(lambda t: t.streams.remove("anna", []))
    assert opened.store.pushes("anna", 0, 9) == [push(2)]


def test_expired_pushes_are_found_but_still_read(opened: Opened) -> None:
    """`expired` gives those of any user that expired at or before now, oldest first; 0 never expires."""
    added = [
        ("anna", push(1, 30)),
        ("ben", push(1, 10)),
        ("anna", push(2)),
        ("anna", push(3, 20)),
        ("ben", push(2, 31)),
    ]
    opened.do(add_pushes(*added))
    expected = [added[1], added[3], added[0]]
    assert opened.do(lambda t: t.streams.expired(30, 9)) == expected
    assert opened.do(lambda t: t.streams.expired(30, 2)) == expected[:2]
    assert opened.do(lambda t: t.streams.expired(9, 9)) == []
    assert opened.store.pushes("anna", 0, 9) == [push(1, 30), push(2), push(3, 20)]


# Ledger


def test_a_decision_is_added_once(opened: Opened) -> None:
    """A second decision of the same id is refused with False and changes nothing."""
    assert opened.do(lambda t: (t.ledger.add(entry(1)), t.ledger.add(entry(1, "ben", 4)))) == (True, False)
    assert opened.do(lambda t: t.ledger.get("decision-1")) == entry(1)
    assert opened.do(lambda t: (t.ledger.get("decision-2"), t.ledger.find_push("ben-4"))) == (None, None)


def test_a_decision_is_found_by_its_push(opened: Opened) -> None:
    """`find_push` gives the decision that sent it; decisions that sent nothing are not found by their empty name."""
    opened.do(lambda t: [t.ledger.add(each) for each in (entry(1), entry(2), entry(3, offset=1))])
    assert opened.do(lambda t: t.ledger.find_push("anna-1")) == entry(3, offset=1)
    assert opened.do(lambda t: (t.ledger.find_push(""), t.ledger.find_push("no"))) == (None, None)


def test_the_newest_decisions_come_first(opened: Opened) -> None:
    """`decisions` gives as many as asked for, of one user or of all, the one added last in front."""
    added = [entry(n, user, n) for n, user in enumerate(("anna", "ben", "anna", "ben", "anna"), 1)]
    opened.do(lambda t: [t.ledger.add(each) for each in added])
    assert opened.store.decisions("", 9) == added[::-1]
    assert opened.store.decisions("anna", 2) == [added[4], added[2]]
    assert opened.store.decisions("carl", 2) == []


def test_only_sent_pushes_of_one_user_advance(opened: Opened) -> None:
    """`advance` sets those after an offset and through another that are `sent`, and tells how many they were."""
    opened.do(lambda t: [t.ledger.add(entry(n, offset=n)) for n in range(1, 6)])
    opened.do(lambda t: (t.ledger.add(entry(7, "ben", 2)), t.ledger.add(entry(8))))
    opened.do(lambda t: t.ledger.set_state("anna-3", "clicked", 50))
    assert opened.do(lambda t: t.ledger.advance("anna", 1, 4, "delivered", 60)) == 2
    assert {(e.decision_id, e.state, e.changed) for e in opened.store.decisions("", 9)} == {
        ("decision-1", "sent", 1),
        ("decision-2", "delivered", 60),
        ("decision-3", "clicked", 50),
        ("decision-4", "delivered", 60),
        ("decision-5", "sent", 5),
        ("decision-7", "sent", 7),
        ("decision-8", "suppressed", 8),
    }
    assert opened.do(lambda t: t.ledger.advance("anna", 0, 4, "delivered", 70)) == 1


def test_the_state_of_one_push_is_set(opened: Opened) -> None:
    """`set_state` changes one decision alone; what sent nothing has no push to name."""
    opened.do(lambda t: [t.ledger.add(each) for each in (entry(1), entry(2, offset=1), entry(3, offset=2))])
    opened.do(lambda t: t.ledger.set_state("anna-1", "expired", 9))
    opened.do(lambda t: t.ledger.set_state("", "lost", 9))
    assert [(e.state, e.changed) for e in opened.store.decisions("", 9)] == [
        ("sent", 3),
        ("expired", 9),
        ("suppressed", 1),
    ]


def test_a_decision_is_found_by_its_name_or_that_of_its_push(opened: Opened) -> None:
    """From outside a job too; a name that nobody has finds nothing."""
    opened.do(lambda t: [t.ledger.add(entry(1, offset=7)), t.ledger.add(entry(2))])
    assert opened.store.decision("decision-1") == opened.store.decision("anna-7") == entry(1, offset=7)
    assert opened.store.decision("decision-2") == entry(2)
    assert opened.store.decision("") is opened.store.decision("decision-3") is None


@pytest.mark.parametrize("state", ["answered", "suppressed"])
def test_of_a_state_the_newest_are_kept(opened: Opened, state: State) -> None:
    """All others of it are removed, those of other states stay."""
    opened.do(lambda t: [t.ledger.add(entry(n, state=state if n % 2 else "clicked")) for n in range(20)])
    assert opened.do(lambda t: t.ledger.keep_newest(state, 3)) == 7
    assert opened.do(lambda t: t.ledger.keep_newest(state, 3)) == 0
    left = [found.time for found in opened.store.decisions("", 99)]
    assert left == [19, 18, 17, 16, 15, 14, 12, 10, 8, 6, 4, 2, 0]


# Timers


def test_timers_come_due_in_order(opened: Opened) -> None:
    """`due` gives those at or before now, the first in front, as many as asked for; `next_due` names the first."""
    timers = [Timer(f"t{n}", due, "anna", b"%d" % n) for n, due in enumerate((30, 10, 20))]
    assert (opened.store.next_due(), opened.store.due(99, 9)) == (None, [])
    opened.do(set_timers(*timers))
    assert opened.store.due(20, 9) == [timers[1], timers[2]]
    assert opened.store.due(99, 1) == [timers[1]]
    assert (opened.store.due(9, 9), opened.store.next_due()) == ([], 10)


def test_a_timer_that_is_set_stays_as_it_is(opened: Opened) -> None:
    """Setting it again changes nothing; removing it tells whether it was there, and it can be set anew."""
    first, second = Timer("t", 10, "anna", b"1"), Timer("t", 5, "ben", b"2")
    opened.do(set_timers(first, second))
    assert opened.store.due(99, 9) == [first]
    assert opened.do(lambda t: (t.timers.remove("t"), t.timers.remove("t"))) == (True, False)
    opened.do(set_timers(second))
    assert opened.store.due(99, 9) == [second]


# Counters


def test_a_count_stays_within_its_limit(opened: Opened) -> None:
    """What would pass the limit is refused and changes nothing; a name that holds may be repeated."""
    asked = [("a", 6), ("b", 5), ("c", 4)]
    assert opened.do(lambda t: [t.counters.reserve("budget", name, amount, 10, 2_000) for name, amount in asked]) == [
        True,
        False,
        True,
    ]
    assert opened.do(lambda t: t.counters.reserve("budget", "a", 99, 10, 3_000))
    assert opened.do(lambda t: (t.counters.used("budget", 1_000), t.counters.used("other", 1_000))) == (10, 0)
    assert opened.do(lambda t: t.counters.reserve("other", "b", 5, 10, 2_000))


def test_a_reservation_expires_and_a_commitment_does_not(opened: Opened) -> None:
    """What is reserved counts until it expires; what is committed counts for ever."""
    opened.do(lambda t: [t.counters.reserve("budget", name, 3, 10, 2_000) for name in "ab"])
    assert opened.do(lambda t: (t.counters.commit("budget", "a"), t.counters.commit("budget", "no"))) == (True, False)
    assert opened.do(lambda t: [t.counters.used("budget", now) for now in (1_999, 2_000)]) == [6, 3]
    opened.now = 5_000
    assert opened.do(lambda t: t.counters.reserve("budget", "a", 9, 1, 9_000))
    assert opened.do(lambda t: t.counters.used("budget", 5_000)) == 3


def test_an_expired_reservation_can_be_committed_until_others_need_its_room(opened: Opened) -> None:
    """Room is taken from expired ones only when it is needed, the oldest first."""
    opened.do(lambda t: [t.counters.reserve("budget", n, 3, 9, until) for n, until in (("a", 1_300), ("b", 1_200))])
    opened.now = 2_000
    assert opened.do(lambda t: t.counters.reserve("budget", "c", 3, 9, 3_000))
    assert opened.do(lambda t: t.counters.reserve("budget", "d", 2, 9, 3_000))
    assert opened.do(lambda t: (t.counters.commit("budget", "a"), t.counters.commit("budget", "b"))) == (True, False)
    assert not opened.do(lambda t: t.counters.reserve("budget", "e", 2, 9, 3_000))
    assert opened.do(lambda t: t.counters.used("budget", 2_000)) == 8


def test_a_reservation_that_expired_is_made_anew(opened: Opened) -> None:
    """The same name may reserve again after it expired, its old amount not counted twice."""
    assert opened.do(lambda t: t.counters.reserve("budget", "a", 6, 10, 1_500))
    opened.now = 1_500
    assert opened.do(lambda t: t.counters.reserve("budget", "a", 7, 10, 2_500))
    assert opened.do(lambda t: t.counters.used("budget", 2_000)) == 7
    assert not opened.do(lambda t: t.counters.reserve("budget", "b", 4, 10, 2_500))


def test_a_reservation_is_given_back_unless_it_is_final(opened: Opened) -> None:
    """`release` frees what is reserved, and says False for what is final or not there."""
    opened.do(lambda t: [t.counters.reserve("budget", name, 5, 10, 2_000) for name in "ab"])
    opened.do(lambda t: t.counters.commit("budget", "b"))
    assert opened.do(lambda t: [t.counters.release("budget", name) for name in "aab"]) == [True, False, False]
    assert opened.do(lambda t: t.counters.used("budget", 1_000)) == 5


# One person under several ids


def test_an_id_can_stand_for_another_user(opened: Opened) -> None:
    """By either id the document is the other user's, of a version above both; what is merged in turn comes along."""

    def merge(old: str, new: str) -> None:
        opened.do(lambda t: t.users.merge(old, new))

    opened.do(lambda t: [t.users.put("v", b"%d" % version, version) for version in range(5)])
    opened.do(lambda t: t.users.put("u", b"mine", 0))
    merge("v", "u")
    assert opened.store.user("v") == Document(6, b"mine", "u")
    assert opened.store.user("u") == Document(6, b"mine")
    assert opened.do(lambda t: t.users.put("u", b"both", 6)) == 7
    assert opened.do(lambda t: t.users.get("v")) == opened.store.user("v") == Document(7, b"both", "u")
    merge("u", "w")
    opened.do(lambda t: t.users.put("w", b"all", 8))
    for _ in range(2):
        assert [opened.store.user(name) for name in "vuw"] == [Document(9, b"all", "w")] * 2 + [Document(9, b"all")]
        assert (opened.store.merged("w"), opened.store.merged("u")) == (["u", "v"], [])
        assert opened.do(lambda t: t.users.merged("w")) == ["u", "v"]
        assert opened.store.versions(["u", "v", "w", "x"]) == {"u": 0, "v": 0, "w": 9}
        opened.reopen()


@pytest.mark.parametrize(("old", "new"), [("v", "w"), ("w", "v"), ("u", "u"), ("u", "v")])
def test_an_id_is_merged_once_and_never_in_a_circle(opened: Opened, old: str, new: str) -> None:
    """What stands for another user already is no user to merge, or to merge into; nor can its document be put."""
    opened.do(lambda t: t.users.merge("v", "u"))
    with pytest.raises(Conflict):
        opened.do(lambda t: t.users.merge(old, new))
    with pytest.raises(Conflict):
        opened.do(lambda t: t.users.put("v", b"", 1))
    assert opened.store.user("v").user_id == "u"


def test_decisions_move_to_another_user(opened: Opened) -> None:
    """All of them, those with new offsets at these."""
    opened.do(lambda t: [t.ledger.add(entry(n, "v", n)) for n in (1, 2)])
    opened.do(lambda t: t.ledger.add(entry(3, "u", 1)))
    opened.do(lambda t: t.ledger.move("v", "u", {"v-2": 2}))
    assert [(one.push_id, one.offset) for one in opened.store.decisions("u", 9)] == [("u-1", 1), ("v-2", 2), ("v-1", 1)]
    assert opened.store.decisions("v", 9) == []


def test_the_newest_users_are_those_of_events_that_count(opened: Opened) -> None:
    """Each once, by the id that stands for the person; whose events are flagged is not among them."""
    opened.do(lambda t: [t.events.append(f"e-{name}", name, 1, b"") for name in ("v", "u", "ann")])
    opened.do(lambda t: t.events.append("e-bot", "bot", 1, b"", Flag.BOT))
    opened.do(lambda t: t.users.merge("v", "u"))
    assert sorted(opened.store.newest_users(9)) == ["ann", "u"]
