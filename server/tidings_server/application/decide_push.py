"""Decide what the triggers call for: one thread takes up timers that are due, and each becomes one entry of the ledger.

A timer is removed in the transaction that writes push and ledger, so a crash leaves either the timer or the decision.
What depends on the user's document is checked again inside that transaction: two decisions for one user never spend
the same place under the cap.
"""

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

import structlog

from tidings_core.errors import InvalidInput, Overloaded, Stopping, StorageFailed, StorageFull
from tidings_server.application.decision_record import Outcome, pack_record
from tidings_server.application.documents import UserDocument
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.plan_push import AGAIN_SECONDS, MAX_DETAIL, Plan, PlanPushes, Worded, pack
from tidings_server.application.store import Store, Transaction
from tidings_server.application.write_push import (
    Meter,
    Publish,
    Rules,
    Written,
    entry_of,
    log_name,
    remove_expired,
    write_push,
)

TOGETHER = 16
"""Timers taken up at once: as many as are recommended for at once."""
MAX_IN_FLIGHT = 64
"""Decisions that wait for the disk at most."""
MAX_PUT_OFF = 1024
"""Timers at most that are passed over since they cannot be decided yet; with so many nothing more is taken up."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds to wait after the store failed; it doubles while it keeps failing."""
SWEEP_SECONDS = 30.0
SWEEP = 256
"""Every so often pushes that expired are taken out of their streams, so many in one transaction."""
LOOK_SECONDS = 1.0
"""How long to wait at most while timers that are due are being decided."""
STORE_FAILS = (StorageFull, StorageFailed, Overloaded, Stopping)

log = structlog.get_logger(__name__)


class _Unreadable(Exception):
    """A user's document is damaged: no matter of the store, which works."""


class DecidePushes:
    """The decider. What its thread does over and over, `decide_due` does once."""

    def __init__(
        self,
        store: Store,
        documents: KnownDocuments,
        plans: PlanPushes,
        rules: Rules,
        publish: Publish,
        meter: Meter,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """`publish` is called in the store's writer thread. `now` gives Unix seconds, `monotonic` those that pass."""
        self._store = store
        self._documents = documents
        self._plans = plans
        self._rules = rules
        self._publish = publish
        self._meter = meter
        self._now = now
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._woken = self._stopping = self._sweeping = False
        self._in_flight: set[str] = set()
        self._failed: list[tuple[Plan, BaseException]] = []
        self._given_up: set[str] = set()
        self._put_off: dict[str, float] = {}  # By key, until when (monotonic seconds).
        self.pause = 0.0
        """Seconds that the store is left alone after it failed last; 0 when it works."""
        self._rest_until = self._sweep_at = -math.inf
        self._thread = threading.Thread(target=self._work, name="decider", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Say that a timer was set. From any thread."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self, seconds: float) -> bool:
        """Take up nothing more, and wait so long for what is under way; whether all of it is on disk."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return self.settle(seconds)

    def settle(self, seconds: float) -> bool:
        """Wait until nothing is under way; False when something still is after so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._in_flight and not self._sweeping, seconds)

    def decide_due(self) -> bool:
        """Take up what is due and hand the decisions to the store; whether more may be due now.

        Does nothing for a while after the store failed. Raises StorageFull, StorageFailed, Overloaded or Stopping when
        the store does; then what was not handed over stays to be done.
        """
        if self._monotonic() < self._rest_until:
            return False
        self._sweep()
        with self._changed:
            failed, self._failed = self._failed, []
        for plan, error in failed:
            log.error("a decision failed", decision=log_name(plan.decision_id), exc_info=error)
            if plan.reason != "FAILED":
                plan.fail(f"{type(error).__name__}: {error}")
                pack(plan)
                self._write(plan)
        moment = self._monotonic()
        self._put_off = {key: until for key, until in self._put_off.items() if until > moment}
        with self._changed:
            # Taken before what is due is read: of these, some may be on disk by then and some not.
            busy = self._in_flight | self._given_up | self._put_off.keys()
            room = min(TOGETHER, MAX_IN_FLIGHT - len(self._in_flight), MAX_PUT_OFF - len(self._put_off))
        if room <= 0:
            return False
        now = int(self._now() * 1000)
        due = [timer for timer in self._store.due(now, len(busy) + room) if timer.key not in busy][:room]
        plans = self._plans(due, now)
        put_off = [plan for plan in plans if plan.put_off]
        if put_off and not self._put_off:  # Said once, not of each one again and again.
            log.warning("pushes wait", first=log_name(put_off[0].decision_id), problem=put_off[0].put_off)
        self._put_off.update((plan.decision_id, moment + AGAIN_SECONDS) for plan in put_off)
        for plan in plans:
            if not plan.put_off:
                self._write(plan)
        return len(due) == room

    def _work(self) -> None:
        while not self._stopping:
            try:
                more = self.decide_due()
                wait = 0.0 if more else self._seconds_to_wait()
            except STORE_FAILS as error:
                self._rest(error)
                more, wait = False, self.pause
            except Exception:  # Whatever it is, it must not end the thread.
                log.exception("the decider failed; it tries again")
                more, wait = False, LOOK_SECONDS
            with self._changed:
                if not more and not self._woken and not self._stopping:
                    self._changed.wait(wait)
                self._woken = False

    def _seconds_to_wait(self) -> float:
        now = self._monotonic()
        if now < self._rest_until:
            return self._rest_until - now
        wait = max(0.0, self._sweep_at - now)
        due = self._store.next_due()
        if due is not None:
            ahead = due / 1000 - self._now()
            # One that is due is under way, and its end wakes this thread.
            wait = min(wait, ahead if ahead > 0 else LOOK_SECONDS)
        return wait

    def _rest(self, error: BaseException) -> None:
        """Leave the store alone for a while: it has just failed."""
        with self._changed:
            now = self._monotonic()
            if now < self._rest_until:
                return  # Of many writes that fail together, the first has said so.
            self.pause = min(max(2 * self.pause, FIRST_PAUSE), LONGEST_PAUSE)
            self._rest_until = now + self.pause
        log.warning("pushes wait: the store failed", problem=str(error), pause=self.pause)

    def _write(self, plan: Plan) -> None:
        """Hand a decision to the store. Raises what `Store.write` raises."""
        with self._changed:
            self._in_flight.add(plan.decision_id)
        try:
            future = self._store.write(partial(self._decide, plan))
        except BaseException:
            with self._changed:
                self._in_flight.discard(plan.decision_id)
            raise
        future.add_done_callback(partial(self._done, plan))

    def _decide(self, plan: Plan, tx: Transaction) -> Written | None:
        """The transaction of one decision; None when it was made before."""
        if not tx.timers.remove(plan.decision_id) or tx.ledger.get(plan.decision_id) is not None:
            return None
        if plan.timer.user_id in self._documents.erased:
            return None
        outcome = Outcome(plan.reason, self._rules.max_per_day, 0, detail=plan.detail, latency=plan.latency)
        document, user_id = UserDocument(), plan.timer.user_id
        written = Written(plan.reason)
        if plan.reason != "FAILED":
            stored = tx.users.get(user_id)
            user_id = stored.whose(user_id)
            try:
                document = self._documents.decode(user_id, stored)
            except StorageFailed as error:
                raise _Unreadable(str(error)) from error
            outcome = replace(outcome, limit=self._rules.cap(document), used=document.pushes_in_a_day(plan.now))
            if not plan.reason:
                written, outcome = self._send(plan, tx, user_id, document, stored.version, outcome)
        again = self._plans.again_at(plan, document) if written.reason == "QUIET_HOURS" else 0
        if again:
            # Nothing is decided yet: held pushes are decided again, not kept.
            tx.timers.set(replace(plan.timer, due=again))
            return None
        record = pack_record(plan.basis, outcome, plan.snapshot)
        tx.ledger.add(entry_of(written, plan.decision_id, user_id, plan.now, plan.cause, record))
        return written

    def _send(
        self, plan: Plan, tx: Transaction, user_id: str, document: UserDocument, version: int, outcome: Outcome
    ) -> tuple[Written, Outcome]:
        """Write the push, if what the user's document says now still allows it."""
        reason, worded = self._plans.refusal(plan, document), plan.worded
        if not reason and version != plan.version:
            try:
                worded = self._reworded(plan, tx, document)
            except InvalidInput as error:
                log.error("a push cannot be decided", decision=log_name(plan.decision_id), problem=str(error))
                reason, worded, outcome = "FAILED", None, replace(outcome, detail=str(error)[:MAX_DETAIL])
            else:
                reason = "" if worded is not None else "NO_CANDIDATE"
        if reason or worded is None:
            return Written(reason), replace(outcome, reason=reason, draft=None if worded is None else worded.draft)
        fired = {**document.fired, worded.draft.trigger: plan.now}
        document = replace(document, fired={name: time for name, time in fired.items() if self._plans.knows(name)})
        draft = worded.draft
        written = write_push(tx, user_id, document, version, draft, worded.content, self._rules.history)
        return written, replace(outcome, draft=draft, offset=document.newest_offset + 1)

    def _reworded(self, plan: Plan, tx: Transaction, document: UserDocument) -> Worded | None:
        """The push about those items that are still fit, None when none is. Raises InvalidInput."""
        chosen = self._plans.still_fit(plan, tx, document)
        if plan.worded is not None and chosen == tuple(plan.worded.draft.items):
            return plan.worded
        return self._plans.word(plan, chosen) if chosen else None

    def _done(self, plan: Plan, future: "Future[Written | None]") -> None:
        """Tell of a decision that is on disk, or see what to do about one that failed. In the writer's thread."""
        try:
            error = future.exception()
            if error is None:
                self.pause = 0.0
                self._tell(plan, future.result())
            elif isinstance(error, STORE_FAILS):
                self._rest(error)
            else:
                self._failed_to_decide(plan, error)
        except Exception:
            log.exception("telling of a decision failed", decision=log_name(plan.decision_id))
        finally:
            with self._changed:
                self._in_flight.discard(plan.decision_id)
                self._woken = True
                self._changed.notify_all()

    def _failed_to_decide(self, plan: Plan, error: BaseException) -> None:
        with self._changed:
            if plan.reason == "FAILED":
                # Not even its failure can be written down. The next start tries again.
                self._given_up.add(plan.decision_id)
            self._failed.append((plan, error))

    def _tell(self, plan: Plan, written: Written | None) -> None:
        if written is None:
            return
        if written.push is not None:
            if written.document is not None:
                self._documents.keep(written.user_id, written.version, written.document, written.size)
            self._publish(written.user_id, written.push, written.withdrawn)
            self._meter.pushed(self._now() - plan.timer.due / 1000)
        self._meter.decision(plan.cause, written.reason or "sent")
        self._meter.decided(self._monotonic() - plan.start)

    def _sweep(self) -> None:
        """Now and then: take expired pushes out of their streams."""
        now = self._monotonic()
        if self._sweeping or now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_SECONDS
        moment = int(self._now() * 1000)
        self._sweeping = True
        try:
            future = self._store.write(lambda tx: remove_expired(tx, moment, SWEEP))
        except BaseException:
            self._sweeping = False
            raise
        future.add_done_callback(self._swept)

    def _swept(self, future: "Future[int]") -> None:
        error = future.exception()
        if error is not None:
            log.warning("expired pushes could not be removed; later again", problem=str(error))
        elif future.result() == SWEEP:
            self._sweep_at = -math.inf
        with self._changed:
            self._sweeping = False
            self._woken = True
            self._changed.notify_all()
