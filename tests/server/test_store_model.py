"""Whatever is done to a store, in whatever order: it answers as plain dicts would, also after jobs that failed."""

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.server.storing import WAIT, entry, push
from tidings_core.errors import Conflict
from tidings_core.stored import Document, Entry, State, StoredPush, Timer
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.application.store import Transaction

USERS = ("anna", "ben")


class _Model:
    """A store made of dicts and lists."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.numbers: dict[str, int] = {}
        self.documents: dict[str, Document] = {}
        self.pushes: dict[tuple[str, int], StoredPush] = {}
        self.entries: dict[str, Entry] = {}
        self.timers: dict[str, Timer] = {}
        self.reserved: dict[tuple[str, str], tuple[int, int, bool]] = {}
        self.now = 0

    def append(self, event_id: str) -> int | None:
        if event_id in self.log:
            return None
        self.log.append(event_id)
        return len(self.log)

    def number(self, item_id: str) -> int:
        return self.numbers.setdefault(item_id, len(self.numbers))

    def put(self, user_id: str, content: bytes, expected: int) -> int:
        if self.documents.get(user_id, Document()).version != expected:
            raise Conflict("the model says so")
        self.documents[user_id] = Document(expected + 1, content)
        return expected + 1

    def add_push(self, user_id: str, given: StoredPush) -> None:
        self.pushes.setdefault((user_id, given.offset), given)

    def remove(self, user_id: str, offsets: Sequence[int]) -> None:
        for offset in offsets:
            self.pushes.pop((user_id, offset), None)

    def stream(self, user_id: str, after: int, limit: int) -> list[StoredPush]:
        return [
            each
            for (user, offset), each in sorted(self.pushes.items(), key=_place)
            if user == user_id and offset > after
        ][:limit]

    def expired(self, now: int, limit: int) -> list[tuple[str, StoredPush]]:
        found = [(user, each) for (user, _), each in self.pushes.items() if 0 < each.expires <= now]
        return sorted(found, key=lambda one: (one[1].expires, one[0], one[1].offset))[:limit]

    def add_entry(self, given: Entry) -> bool:
        return self.entries.setdefault(given.decision_id, given) is given

    def advance(self, user_id: str, after: int, through: int, state: State, now: int) -> int:
        found = [
            e
            for e in self.entries.values()
            if e.user_id == user_id and e.state == "sent" and after < e.offset <= through
        ]
        self.entries.update({e.decision_id: replace(e, state=state, changed=now) for e in found})
        return len(found)

    def set_state(self, push_id: str, state: State, now: int) -> None:
        found = [e for e in self.entries.values() if push_id and e.push_id == push_id]
        self.entries.update({e.decision_id: replace(e, state=state, changed=now) for e in found})

    def set_timer(self, timer: Timer) -> None:
        self.timers.setdefault(timer.key, timer)

    def remove_timer(self, key: str) -> bool:
        return self.timers.pop(key, None) is not None

    def reserve(self, counter: str, name: str, amount: int, limit: int, expires: int) -> bool:
        before = self.reserved.get((counter, name))
        if before and (before[2] or before[1] > self.now):
            return True
        others = {key: held for key, held in self.reserved.items() if key[0] == counter and key[1] != name}
        over = sum(held[0] for held in others.values()) + amount - limit
        given_up = []
        for key, held in sorted(others.items(), key=lambda one: (one[1][1], one[0])):
            if over > 0 and not held[2] and held[1] <= self.now:
                given_up.append(key)
                over -= held[0]
        if over > 0:
            return False
        for key in given_up:
            del self.reserved[key]
        self.reserved[counter, name] = (amount, expires, False)
        return True

    def commit(self, counter: str, name: str) -> bool:
        held = self.reserved.get((counter, name))
        if held:
            self.reserved[counter, name] = (held[0], held[1], True)
        return held is not None

    def release(self, counter: str, name: str) -> bool:
        held = self.reserved.get((counter, name), (0, 0, True))
        if not held[2]:
            del self.reserved[counter, name]
        return not held[2]

    def used(self, counter: str, now: int) -> int:
        return sum(a for (c, _), (a, until, final) in self.reserved.items() if c == counter and (final or until > now))


def _place(one: tuple[tuple[str, int], StoredPush]) -> tuple[str, int]:
    return one[0]


Act = tuple[Callable[[Transaction], Any], Callable[[_Model], Any]]
"""The same thing done to a store and to the model."""

users = st.sampled_from(USERS)
small = st.integers(0, 5)
limits = st.integers(1, 4)
states: st.SearchStrategy[State] = st.sampled_from(("delivered", "sent", "clicked"))


@st.composite
def acts(draw: st.DrawFn) -> Act:
    """Anything a job may do."""
    user, number, other, limit = draw(users), draw(small), draw(small), draw(limits)
    state = draw(states)
    each = push(number, expires=other)
    decision = entry(number, user, other, **({"push_id": f"push-{number}"} if other else {}))
    timer = Timer(f"timer-{number}", other, user, b"%d" % limit)
    name = f"name-{number}"
    choices: list[Act] = [
        (lambda t: t.events.append(f"event-{number}", user, 1, b""), lambda m: m.append(f"event-{number}")),
        (lambda t: t.items.number(f"item-{number}"), lambda m: m.number(f"item-{number}")),
        (lambda t: t.users.put(user, b"%d" % other, number), lambda m: m.put(user, b"%d" % other, number)),
        (lambda t: t.users.get(user), lambda m: m.documents.get(user, Document())),
        (lambda t: t.streams.append(user, each), lambda m: m.add_push(user, each)),
        (lambda t: t.streams.remove(user, [number, other]), lambda m: m.remove(user, [number, other])),
        (lambda t: t.streams.read(user, number, limit), lambda m: m.stream(user, number, limit)),
        (lambda t: t.streams.expired(number, limit), lambda m: m.expired(number, limit)),
        (lambda t: t.ledger.add(decision), lambda m: m.add_entry(decision)),
        (lambda t: t.ledger.get(f"decision-{number}"), lambda m: m.entries.get(f"decision-{number}")),
        (lambda t: t.ledger.find_push(f"push-{number}"), lambda m: _sender(m, f"push-{number}")),
        (lambda t: t.ledger.advance(user, 0, other, state, 9), lambda m: m.advance(user, 0, other, state, 9)),
        (
            lambda t: t.ledger.set_state(f"push-{number}", state, 8),
            lambda m: m.set_state(f"push-{number}", state, 8),
        ),
        (lambda t: t.timers.set(timer), lambda m: m.set_timer(timer)),
        (lambda t: t.timers.remove(timer.key), lambda m: m.remove_timer(timer.key)),
        (lambda t: t.counters.reserve("c", name, limit, 6, other), lambda m: m.reserve("c", name, limit, 6, other)),
        (lambda t: t.counters.commit("c", name), lambda m: m.commit("c", name)),
        (lambda t: t.counters.release("c", name), lambda m: m.release("c", name)),
        (lambda t: t.counters.used("c", other), lambda m: m.used("c", other)),
    ]
    return draw(st.sampled_from(choices))


def _sender(model: _Model, push_id: str) -> Entry | None:
    return next((e for e in model.entries.values() if e.push_id == push_id), None)


class StoreMachine(RuleBasedStateMachine):
    """Runs jobs of several acts, some of which fail, and opens the store again now and then."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.model = _Model()
        self.store = self._open()

    def _open(self) -> SqliteStore:
        return SqliteStore.open(Path(self._directory.name), lambda: self.model.now)

    @rule(jobs=st.lists(st.tuples(st.lists(acts(), min_size=1, max_size=6), st.booleans()), min_size=1, max_size=4))
    def write(self, jobs: list[tuple[list[Act], bool]]) -> None:
        """Run jobs that may be committed together."""
        futures = [self.store.write(lambda t, a=a, f=f: self._job(t, [act[0] for act in a], f)) for a, f in jobs]  # type: ignore[misc]
        for (done, fails), future in zip(jobs, futures, strict=True):
            before = copy.deepcopy(self.model)
            expected: Any
            try:
                expected = self._job(self.model, [act[1] for act in done], fails)
            except (Conflict, ArithmeticError) as error:
                self.model, expected = before, type(error)
            failed = future.exception(WAIT)
            assert (type(failed) if failed else future.result()) == expected

    @staticmethod
    def _job(target: Any, done: list[Callable[[Any], Any]], fails: bool) -> list[Any]:
        answers = [act(target) for act in done]
        if fails:
            raise ArithmeticError
        return answers

    @rule(now=st.integers(0, 6))
    def wait(self, now: int) -> None:
        """Set the clock."""
        self.model.now = now

    @rule()
    def reopen(self) -> None:
        """Close the store and open it again."""
        self.store.close()
        self.store = self._open()

    @invariant()
    def agree(self) -> None:
        """Every read answers as the model does."""
        store, model = self.store, self.model
        assert [(e.number, e.event_id) for e in store.events(0, 99)] == list(enumerate(model.log, 1))
        assert store.position == len(model.log)
        assert list(store.item_ids(0)) == [(number, item) for item, number in model.numbers.items()]
        for user in USERS:
            assert store.user(user) == model.documents.get(user, Document())
            assert store.pushes(user, 0, 99) == model.stream(user, 0, 99)
            assert store.decisions(user, 99) == [e for e in model.entries.values() if e.user_id == user][::-1]
        assert store.decisions("", 99) == list(model.entries.values())[::-1]
        timers = sorted(model.timers.values(), key=lambda timer: (timer.due, timer.key))
        assert store.due(3, 99) == [timer for timer in timers if timer.due <= 3]
        assert store.next_due() == (timers[0].due if timers else None)

    def teardown(self) -> None:
        """Close the store."""
        self.store.close()
        self._directory.cleanup()


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)
TestStore = StoreMachine.TestCase
