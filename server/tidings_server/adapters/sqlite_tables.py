"""What a job reads and writes in the SQLite database, table by table, and the reads that need no job."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Literal

from tidings_core.flags import GOOD, Flag
from tidings_core.stored import Entry, State, StoredEvent, StoredItem, StoredPush, Timer
from tidings_server.adapters.sqlite_statements import Row, Statements
from tidings_server.adapters.sqlite_user_table import Changes

_ENTRY = "decision_id, user_id, time, state, changed, cause, reason, push_id, offset, record"
_EVENT = "number, event_id, user_id, time, content, flags"
Of = Literal["all", "pushes", "answers"]
"""Which decisions: about pushes, sent or not, or recorded answers to Recommend."""
_OF: dict[Of, str] = {"all": "", "pushes": "state <> 'answered'", "answers": "state = 'answered'"}
_PUSH = "offset, push_id, expires, collapse_key, content"


def read_newest_users(sql: Statements, events: int) -> list[str]:
    """The users of so many events, the newest of the log that count, each once."""
    newest = "SELECT user_id FROM events WHERE flags = 0 ORDER BY number DESC LIMIT ?"
    query = (
        "SELECT DISTINCT iif(ifnull(users.merged_into, '') = '', newest.user_id, users.merged_into) "
        f"FROM ({newest}) AS newest LEFT JOIN users USING (user_id)"
    )
    return [user_id for (user_id,) in sql.rows(query, events)]


def read_pushes(sql: Statements, user_id: str, after: int, limit: int) -> list[StoredPush]:
    """Pushes of a user after an offset, in order."""
    query = f"SELECT {_PUSH} FROM pushes WHERE user_id = ? AND offset > ? ORDER BY offset LIMIT ?"
    return [StoredPush(*row) for row in sql.rows(query, user_id, after, limit)]


def read_decisions(sql: Statements, user_id: str, limit: int, of: Of = "all") -> list[Entry]:
    """The decisions for a user, or for any (""), that were added last, the last one first: all, or those of a kind."""
    wanted = " AND ".join(filter(None, ("user_id = ?1" if user_id else "", _OF[of])))
    where = f"WHERE {wanted}" if wanted else ""
    query = f"SELECT {_ENTRY} FROM decisions {where} ORDER BY number DESC LIMIT ?2"
    return [Entry(*row) for row in sql.rows(query, user_id, limit)]


def read_ledger_after(sql: Statements, after: int, limit: int) -> list[tuple[int, Entry]]:
    """Decisions after a number, in order, each with its own."""
    query = f"SELECT number, {_ENTRY} FROM decisions WHERE number > ? ORDER BY number LIMIT ?"
    return [(number, Entry(*entry)) for number, *entry in sql.rows(query, after, limit)]


def read_decision(sql: Statements, name: str) -> Entry | None:
    """The decision of a decision_id or, if there is none, of a push_id."""
    table = DecisionTable(sql)
    return table.get(name) or table.find_push(name)


def read_due(sql: Statements, now: int, limit: int) -> list[Timer]:
    """Timers due at or before `now`, those due first in front."""
    query = "SELECT key, due, user_id, content FROM timers WHERE due <= ? ORDER BY due, key LIMIT ?"
    return [Timer(*row) for row in sql.rows(query, now, limit)]


def read_timers(sql: Statements, user_id: str) -> list[Timer]:
    """The timers of a user."""
    query = "SELECT key, due, user_id, content FROM timers WHERE user_id = ? ORDER BY due, key"
    return [Timer(*row) for row in sql.rows(query, user_id)]


def read_next_due(sql: Statements) -> int | None:
    """When the next timer is due; None when none is set."""
    row = sql.row("SELECT due FROM timers ORDER BY due LIMIT 1")
    return int(row[0]) if row else None


def read_items(sql: Statements, first: int, limit: int) -> list[tuple[int, str]]:
    """Numbers, from one on, and their items."""
    query = "SELECT number, item_id FROM items WHERE number >= ? ORDER BY number LIMIT ?"
    return [(number, item_id) for number, item_id in sql.rows(query, first, limit)]


def read_events(sql: Statements, after: int, limit: int) -> list[StoredEvent]:
    """Events after a number, in order."""
    query = f"SELECT {_EVENT} FROM events WHERE number > ? ORDER BY number LIMIT ?"
    return [_event(row) for row in sql.rows(query, after, limit)]


def read_user_events(sql: Statements, user_id: str, after: int, limit: int) -> list[StoredEvent]:
    """Events of a user after a number, in order."""
    query = f"SELECT {_EVENT} FROM events WHERE user_id = ? AND number > ? ORDER BY number LIMIT ?"
    return [_event(row) for row in sql.rows(query, user_id, after, limit)]


def _event(row: Row) -> StoredEvent:
    number, event_id, user_id, time, content, flags = row
    return StoredEvent(number, event_id, user_id, time, content, Flag(flags) if flags else GOOD)


def read_checkpoint(sql: Statements, user_id: str) -> bytes:
    """What is left of the events of a user that were taken out; b"" for nothing."""
    row = sql.row("SELECT content FROM checkpoints WHERE user_id = ?", user_id)
    return bytes(row[0]) if row else b""


def read_catalogue_item(sql: Statements, item_id: str) -> StoredItem:
    """What is known of an item."""
    row = sql.row("SELECT item_id, number, time, content FROM catalogue WHERE item_id = ?", item_id)
    return StoredItem(*row) if row else StoredItem(item_id)


def read_catalogue_changes(sql: Statements, after: int, limit: int) -> list[StoredItem]:
    """Items whose last change has a number above another, in order of it."""
    query = "SELECT item_id, number, time, content FROM catalogue WHERE number > ? ORDER BY number LIMIT ?"
    return [StoredItem(*row) for row in sql.rows(query, after, limit)]


class EventTable:
    """The event log. Ids are recognised by a hash of 16 bytes, which stays small however long they are."""

    def __init__(self, sql: Statements, changes: Changes) -> None:
        self._sql = sql
        self._changes = changes

    def append(self, event_id: str, user_id: str, time: int, content: bytes, flags: Flag = GOOD) -> int | None:
        """Append an event and return its number; None when its id is there already."""
        key = event_key(event_id)
        if not self._sql.change("INSERT INTO event_keys VALUES (?) ON CONFLICT DO NOTHING", key):
            return None
        query = "INSERT INTO events (event_id, user_id, time, content, flags) VALUES (?, ?, ?, ?, ?) RETURNING number"
        ((number,),) = self._sql.rows(query, event_id, user_id, time, content, int(flags))
        self._changes.newest_event = number
        return int(number)

    def of_user(self, user_id: str, after: int, limit: int) -> list[StoredEvent]:
        """Events of a user after a number, in order."""
        return read_user_events(self._sql, user_id, after, limit)

    def set_flags(self, number: int, flags: Flag) -> bool:
        """Give an event other flags; False when there is none of that number."""
        return self._sql.change("UPDATE events SET flags = ? WHERE number = ?", int(flags), number) > 0

    def remove(self, numbers: Sequence[int]) -> int:
        """Take events out of the log; returns how many there were. Their ids are known as before."""
        return sum(self._sql.change("DELETE FROM events WHERE number = ?", number) for number in numbers)


class CheckpointTable:
    """What is left of events that were taken out."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql

    def get(self, user_id: str) -> bytes:
        """What is left of the events of a user; b"" for nothing."""
        return read_checkpoint(self._sql, user_id)

    def put(self, user_id: str, content: bytes) -> None:
        """Replace what is left of the events of a user; b"" takes it out."""
        if content:
            query = "INSERT INTO checkpoints VALUES (?, ?) ON CONFLICT DO UPDATE SET content = excluded.content"
            self._sql.change(query, user_id, content)
        else:
            self._sql.change("DELETE FROM checkpoints WHERE user_id = ?", user_id)


def event_key(event_id: str) -> bytes:
    """The hash by which an event's id is recognised."""
    return blake2b(event_id.encode(), digest_size=16).digest()


class ItemTable:
    """Numbers of items."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql

    def number(self, item_id: str) -> int:
        """The item_no of an item, given at first sight."""
        row = self._sql.row("SELECT number FROM items WHERE item_id = ?", item_id)
        if row is None:
            query = "INSERT INTO items SELECT ifnull(max(number) + 1, 0), ? FROM items RETURNING number"
            (row,) = self._sql.rows(query, item_id)
        return int(row[0])


class CatalogueTable:
    """What is known of items. Rows are only ever replaced, so the largest number stays the newest."""

    def __init__(self, sql: Statements, changes: Changes) -> None:
        self._sql = sql
        self._changes = changes

    def get(self, item_id: str) -> StoredItem:
        """What is known of an item, as this transaction sees it."""
        return read_catalogue_item(self._sql, item_id)

    def put(self, item_id: str, time: int, content: bytes) -> int:
        """Replace what is known of an item; returns the number of this change."""
        query = (
            "INSERT INTO catalogue SELECT ?, ifnull(max(number), 0) + 1, ?, ? FROM catalogue WHERE true "
            "ON CONFLICT (item_id) DO UPDATE SET number = excluded.number, time = excluded.time, "
            "content = excluded.content RETURNING number"
        )
        ((number,),) = self._sql.rows(query, item_id, time, content)
        self._changes.newest_item = number
        return int(number)


class PushTable:
    """Streams of pushes."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql

    def append(self, user_id: str, push: StoredPush) -> None:
        """Add a push. Adding the same offset again changes nothing."""
        query = f"INSERT INTO pushes (user_id, {_PUSH}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        given = (push.offset, push.push_id, push.expires, push.collapse_key, push.content)
        self._sql.change(query, user_id, *given)

    def read(self, user_id: str, after: int, limit: int) -> list[StoredPush]:
        """Pushes after an offset, in order."""
        return read_pushes(self._sql, user_id, after, limit)

    def remove(self, user_id: str, offsets: Sequence[int]) -> None:
        """Take pushes out."""
        for offset in offsets:
            self._sql.change("DELETE FROM pushes WHERE user_id = ? AND offset = ?", user_id, offset)

    def expired(self, now: int, limit: int) -> list[tuple[str, StoredPush]]:
        """Pushes of any user that expired at or before `now`, oldest first."""
        query = (
            f"SELECT user_id, {_PUSH} FROM pushes WHERE expires > 0 AND expires <= ? "
            "ORDER BY expires, user_id, offset LIMIT ?"
        )
        return [(user_id, StoredPush(*push)) for user_id, *push in self._sql.rows(query, now, limit)]


class DecisionTable:
    """The ledger."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql

    def add(self, entry: Entry) -> bool:
        """Add a decision; False when its decision_id is there already."""
        query = f"INSERT INTO decisions ({_ENTRY}) VALUES (?{', ?' * 9}) ON CONFLICT (decision_id) DO NOTHING"
        made = (entry.decision_id, entry.user_id, entry.time, entry.state, entry.changed, entry.cause, entry.reason)
        return self._sql.change(query, *made, entry.push_id, entry.offset, entry.record) > 0

    def get(self, decision_id: str) -> Entry | None:
        """A decision."""
        return self._one("decision_id = ?", decision_id)

    def find_push(self, push_id: str) -> Entry | None:
        """The decision that sent a push."""
        return self._one("push_id = ? AND push_id <> ''", push_id)

    def advance(self, user_id: str, after: int, through: int, state: State, now: int) -> int:
        """Set the state of this user's pushes after an offset, through another, that are `sent`."""
        query = (
            "UPDATE decisions SET state = ?, changed = ? "
            "WHERE user_id = ? AND offset > ? AND offset <= ? AND state = 'sent' AND push_id <> ''"
        )
        return self._sql.change(query, state, now, user_id, after, through)

    def move(self, user_id: str, to: str, offsets: Mapping[str, int]) -> None:
        """Make the decisions for a user those for another; pushes of these ids have these offsets then."""
        self._sql.change("UPDATE decisions SET user_id = ? WHERE user_id = ?", to, user_id)
        for push_id, offset in offsets.items():
            self._sql.change("UPDATE decisions SET offset = ? WHERE push_id = ? AND push_id <> ''", offset, push_id)

    def set_state(self, push_id: str, state: State, now: int) -> None:
        """Set the state of one push."""
        query = "UPDATE decisions SET state = ?, changed = ? WHERE push_id = ? AND push_id <> ''"
        self._sql.change(query, state, now, push_id)

    def remove_before(self, time: int, answers: bool, limit: int) -> int:
        """Remove up to `limit` decisions of before a time: recorded answers or those about pushes; returns how many."""
        query = (
            "DELETE FROM decisions WHERE number IN (SELECT number FROM decisions "
            "WHERE time < ? AND (state = 'answered') = ? ORDER BY time LIMIT ?)"
        )
        return self._sql.change(query, time, int(answers), limit)

    def keep_newest(self, state: State, count: int) -> int:
        """Remove the decisions of a state but for the `count` added last; returns the number removed."""
        # The literal lets SQLite use the index of answers alone, which holds nothing else.
        where = "state = 'answered'" if state == "answered" else "state = ?1"
        query = (
            f"DELETE FROM decisions WHERE {where} AND number <= "
            f"(SELECT number FROM decisions WHERE {where} ORDER BY number DESC LIMIT 1 OFFSET ?2)"
        )
        return self._sql.change(query, state, count)

    def _one(self, condition: str, value: str) -> Entry | None:
        row = self._sql.row(f"SELECT {_ENTRY} FROM decisions WHERE {condition}", value)
        return Entry(*row) if row else None


class TimerTable:
    """Things to do later."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql

    def set(self, timer: Timer) -> None:
        """Set a timer. One of the same key that is set already stays as it is."""
        query = "INSERT INTO timers (key, due, user_id, content) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        self._sql.change(query, timer.key, timer.due, timer.user_id, timer.content)

    def remove(self, key: str) -> bool:
        """Remove a timer; False when it was not set."""
        return self._sql.change("DELETE FROM timers WHERE key = ?", key) > 0


class CounterTable:
    """Shared counts. `held` is the sum of a counter's reservations, so that no call has to add them all up.

    A reservation that expired stays until its room is needed: only then is it given to others.
    """

    def __init__(self, sql: Statements, now_ms: Callable[[], int]) -> None:
        self._sql = sql
        self._now_ms = now_ms

    def reserve(self, counter: str, name: str, amount: int, limit: int, expires: int) -> bool:
        """Reserve an amount until `expires` if all stays within `limit`; True also when it holds from before."""
        now = self._now_ms()
        old, until, final = self._find(counter, name) or (0, 0, 0)
        if final or until > now:
            return True
        needed = self._held(counter) - old + amount - limit
        given_up = self._expired(counter, name, now, needed)
        if needed > sum(freed for _, freed in given_up):
            return False
        for other, freed in given_up:
            self._drop(counter, other, freed)
        self._drop(counter, name, old)
        self._sql.change("INSERT INTO reservations VALUES (?, ?, ?, ?, 0)", counter, name, amount, expires)
        self._hold(counter, amount)
        return True

    def commit(self, counter: str, name: str) -> bool:
        """Make a reservation final; False when there is none."""
        return self._sql.change("UPDATE reservations SET final = 1 WHERE counter = ? AND name = ?", counter, name) > 0

    def release(self, counter: str, name: str) -> bool:
        """Give a reservation back; False when there is none, or when it is final."""
        amount, _, final = self._find(counter, name) or (0, 0, 1)
        if not final:
            self._drop(counter, name, amount)
        return not final

    def used(self, counter: str, now: int) -> int:
        """All that is committed, or reserved and not expired."""
        query = "SELECT ifnull(sum(amount), 0) FROM reservations WHERE counter = ? AND expires <= ? AND final = 0"
        ((expired,),) = self._sql.rows(query, counter, now)
        return self._held(counter) - int(expired)

    def _find(self, counter: str, name: str) -> Row | None:
        """Amount, expiry, and whether it is final."""
        query = "SELECT amount, expires, final FROM reservations WHERE counter = ? AND name = ?"
        return self._sql.row(query, counter, name)

    def _expired(self, counter: str, but: str, now: int, needed: int) -> list[tuple[str, int]]:
        """Expired reservations and their amounts, oldest first, until `needed` is made up or there are no more."""
        if needed <= 0:
            return []
        query = (
            "SELECT name, amount FROM reservations "
            "WHERE counter = ? AND expires <= ? AND final = 0 AND name <> ? ORDER BY expires, name"
        )
        found: list[tuple[str, int]] = []
        for name, amount in self._sql.rows(query, counter, now, but):
            if needed <= 0:
                break
            found.append((name, amount))
            needed -= amount
        return found

    def _held(self, counter: str) -> int:
        row = self._sql.row("SELECT held FROM counters WHERE counter = ?", counter)
        return int(row[0]) if row else 0

    def _hold(self, counter: str, amount: int) -> None:
        query = "INSERT INTO counters VALUES (?, ?) ON CONFLICT DO UPDATE SET held = held + excluded.held"
        self._sql.change(query, counter, amount)

    def _drop(self, counter: str, name: str, amount: int) -> None:
        if self._sql.change("DELETE FROM reservations WHERE counter = ? AND name = ?", counter, name):
            self._hold(counter, -amount)
