"""Plan pushes: everything about a decision that needs no transaction. Recommend, word, and pack the record."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog

from tidings_core.errors import StorageFailed
from tidings_core.events import Event
from tidings_core.expressions import Expression
from tidings_core.may_push import push_bar, quiet_end
from tidings_core.model import MAX_CONTEXT_ITEMS, Answer, Query, ServingConfig, Snapshot
from tidings_core.privacy import standing_of
from tidings_core.profile import EMPTY, Profile
from tidings_core.ranked import RankedItem
from tidings_core.stored import Timer
from tidings_core.triggers import Trigger
from tidings_server.application.compose import Composed, Composer, ShownItem
from tidings_server.application.decision_record import Basis, pack_basis
from tidings_server.application.documents import UserDocument
from tidings_server.application.known_documents import KnownDocuments
from tidings_server.application.push_timer import PREFIX, PushTimer
from tidings_server.application.recommend import Answers
from tidings_server.application.store import Transaction
from tidings_server.application.write_push import Draft, Encode, Rules, log_name, push_id_of

ROOM = 16
"""So many more items are asked for than are pushed: some may be bought, or pushed, before the decision is written."""
MAX_DETAIL = 500
AGAIN_SECONDS = 5.0
"""What cannot be decided yet is tried again after so long."""

log = structlog.get_logger(__name__)


class Ask(Protocol):
    """Answers queries, each before its deadline (monotonic seconds), and keeps what was considered."""

    def __call__(self, queries: Sequence[Query], deadlines: Sequence[float], *, keep: bool) -> Answers:
        """Answer the queries, in order."""
        ...


Holds = Callable[[Expression, Profile, int], bool]
"""Whether a condition holds for a user at a moment (Unix milliseconds). Raises StorageFailed."""
Show = Callable[[Snapshot, int], ShownItem]
"""What the catalogue of a snapshot shows of the item of a row."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How pushes are worded and written: the templates, what items show, and the bytes of a push."""

    composer: Composer
    show: Show
    encode: Encode


@dataclass(frozen=True, slots=True)
class Worded:
    """A push about some items in words, and in bytes."""

    words: Composed
    draft: Draft
    content: bytes


@dataclass(slots=True)
class Plan:
    """A decision in the making. `now` is Unix milliseconds, `start` monotonic seconds.

    `reason` is why nothing is to be sent, "" when `worded` is. `put_off` says why it cannot be decided yet, "" when it
    can: then the timer stays. `document` has version `version`.
    """

    timer: Timer
    now: int
    start: float
    event: Event | None = None
    trigger: Trigger | None = None
    document: UserDocument = field(default_factory=UserDocument)
    version: int = 0
    query: Query | None = None
    answer: Answer | None = None
    snapshot: Snapshot | None = None
    release_id: str = ""
    worded: Worded | None = None
    reason: str = ""
    detail: str = ""
    put_off: str = ""
    basis: bytes = b""
    latency: dict[str, float] = field(default_factory=dict)

    @property
    def decision_id(self) -> str:
        """The timer's key."""
        return self.timer.key

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be done for it now."""
        return bool(self.reason or self.put_off)

    @property
    def cause(self) -> str:
        """What called for it, as the ledger names it."""
        return f"trigger:{self.timer.key.removeprefix(PREFIX).split('/', 1)[0]}"

    def fail(self, detail: str) -> None:
        """Nothing is sent, since something went wrong."""
        self.reason, self.detail, self.worded = "FAILED", detail[:MAX_DETAIL], None


class PlanPushes:
    """Plans what triggers call for, many at once."""

    def __init__(
        self,
        documents: KnownDocuments,
        ask: Ask,
        triggers: Mapping[str, Trigger],
        serving_configs: Mapping[str, ServingConfig],
        wording: Wording,
        rules: Rules,
        monotonic: Callable[[], float],
        holds: Holds = lambda condition, profile, now: True,  # noqa: ARG005 - a default for triggers without conditions
    ) -> None:
        """Each trigger's serving config must be among `serving_configs`."""
        self._documents = documents
        self._ask = ask
        self._wording = wording
        self._rules = rules
        self._monotonic = monotonic
        self._holds = holds
        self._triggers = triggers
        # Nobody is pushed what they have, whatever the serving config does about it elsewhere.
        self._servings = {
            name: replace(serving_configs[trigger.serving_config], exclude_bought=True)
            for name, trigger in triggers.items()
        }

    def __call__(self, timers: Sequence[Timer], now: int) -> list[Plan]:
        """A plan for each timer, at `now` (Unix milliseconds). What goes wrong with one is said in its plan.

        One is put off while its user's document cannot be read (a damaged one never will be: that has failed), and
        while no release answers, as long as the event will not be too old at the next try.
        """
        start = self._monotonic()
        plans = [Plan(timer, now, start, latency={"waited": float(now - timer.due)}) for timer in timers]
        for plan in plans:
            _guarded(plan, self._prepare)
        asked = [plan for plan in plans if not plan.ended]
        self._recommend(asked)
        took = (self._monotonic() - start) * 1000
        for plan in asked:
            plan.latency["recommend"] = took
            if not plan.ended:
                _guarded(plan, self._word)
        for plan in plans:
            if not plan.put_off:
                pack(plan)
        return plans

    def knows(self, trigger: str) -> bool:
        """Whether there is a trigger of this name."""
        return trigger in self._triggers

    def refusal(self, plan: Plan, document: UserDocument) -> str:
        """Why nothing may be pushed to the user with this document now, "" when it may."""
        event, trigger = _called(plan)
        bar = push_bar(document.profile, self._rules.privacy, plan.now, trigger.topic)
        if bar and bar != "QUIET_HOURS":
            return bar
        if plan.now - event.time > trigger.max_age_seconds * 1000:
            return "EXPIRED"
        fired = document.fired.get(trigger.name)
        if fired is not None:
            if plan.now - fired < trigger.cooldown_seconds * 1000:
                return "COOLDOWN"
            # Of a count, the events may have led to a push since this one made it full.
            if trigger.count > 1 and not trigger.matches(event, document.profile, plan.now, fired):
                return "COOLDOWN"
        if bar:
            return bar
        if trigger.when is not None and not self._holds(trigger.when, document.profile, plan.now):
            return "CONDITION"
        return "CAP_DAY" if document.pushes_in_a_day(plan.now) >= self._rules.cap(document) else ""

    def again_at(self, plan: Plan, document: UserDocument) -> int:
        """When to decide again what quiet hours hold up, 0 when the event will be too old by then."""
        event, trigger = _called(plan)
        end = quiet_end(document.profile, plan.now) or plan.now
        return end if end - event.time <= trigger.max_age_seconds * 1000 else 0

    def still_fit(self, plan: Plan, tx: Transaction, document: UserDocument) -> tuple[RankedItem, ...]:
        """The items to push, without those bought, pushed, rated low or asked to see less of since recommended."""
        _, trigger = _called(plan)
        assert plan.answer is not None
        assert plan.snapshot is not None
        pushed = set(document.pushed_items)
        # Without consent nothing that is known may be used, not even to spare somebody what they have.
        usable = standing_of(document.profile, self._rules.privacy).may("answer", plan.now)
        profile = document.profile if usable else EMPTY
        unwanted = {*profile.blocked_items, *profile.disliked}
        fit: list[RankedItem] = []
        for item in plan.answer.items:
            if len(fit) == trigger.k:
                break
            item_id = plan.snapshot.items[item.row]
            number = tx.items.number(item_id)
            bought = profile.bought.get(number)
            if item_id in pushed or number in unwanted:
                continue
            if bought is not None and bought.kept > 0:
                continue
            if profile.blocked_categories:
                shown = self._wording.show(plan.snapshot, item.row)
                if not profile.blocked_categories.keys().isdisjoint(shown.categories):
                    continue
            fit.append(item)
        return tuple(fit)

    def word(self, plan: Plan, chosen: Sequence[RankedItem]) -> Worded:
        """The push about these items. Raises InvalidInput when its template fails."""
        event, trigger = _called(plan)
        assert plan.snapshot is not None
        known = plan.snapshot.items.find_many([item.item_id for item in event.items[:MAX_CONTEXT_ITEMS]])
        because = next((self._wording.show(plan.snapshot, row) for row in known.tolist() if row >= 0), None)
        shown = [self._wording.show(plan.snapshot, item.row) for item in chosen]
        words = self._wording.composer.compose(trigger.template, event, because, shown)
        draft = Draft(
            push_id=push_id_of(plan.decision_id),
            created=plan.now,
            expires=plan.now + int(trigger.ttl_seconds * 1000),
            title=words.title,
            body=words.body,
            url=words.url,
            items=chosen,
            item_ids=tuple(one.item_id for one in shown),
            collapse_key=trigger.collapse_key,
            trigger=trigger.name,
            event_id=event.event_id,
            release_id=plan.release_id,
            serving_config=trigger.serving_config,
        )
        return Worded(words, draft, self._wording.encode(draft, plan.snapshot))

    def _prepare(self, plan: Plan) -> None:
        """Read what the timer says, and the user's document; find reasons to send nothing."""
        call = PushTimer.read(plan.timer)
        plan.event, plan.trigger = call.event, self._triggers.get(call.trigger)
        if plan.trigger is None:
            plan.fail(f"the trigger {call.trigger!r} is no longer configured")
            log.warning("a push is not decided: its trigger is no longer configured", trigger=call.trigger)
            return
        user_id = plan.timer.user_id
        try:
            stored = self._documents.stored(user_id)
        except StorageFailed as error:
            plan.put_off = str(error)
            return
        plan.version, plan.document = stored.version, self._documents.committed(user_id, stored)
        plan.reason = self.refusal(plan, plan.document)

    def _recommend(self, plans: Sequence[Plan]) -> None:
        """Recommend for all plans together, or one by one when together they fail."""
        if not plans:
            return
        try:
            queries = [self._query(plan) for plan in plans]
            made = self._ask(queries, [math.inf] * len(plans), keep=True)
        except Exception as error:  # Whatever it is, it must not be in the way of the others.
            if len(plans) > 1:
                for plan in plans:
                    self._recommend([plan])
            else:
                log.exception("a push cannot be decided", decision=log_name(plans[0].decision_id))
                plans[0].fail(f"{type(error).__name__}: {error}")
            return
        for plan, query, answer in zip(plans, queries, made.answers, strict=True):
            plan.query = query
            if made.release is None:
                self._without_release(plan)
            elif not isinstance(answer, Answer):
                plan.fail(str(answer))
            else:
                plan.answer, plan.snapshot = answer, made.release.snapshot
                plan.release_id = made.release.manifest.release_id
                plan.reason = "" if answer.items else "NO_CANDIDATE"
                # What was bought is not known, so it might be pushed. The document was fine just now: the store failed.
                failed = (one for one in answer.degraded if one.stage == "profile" and one.cause == "failed")
                plan.put_off = next((one.detail for one in failed), "")

    def _without_release(self, plan: Plan) -> None:
        """Wait for a release, unless the event will be too old at the next try."""
        event, trigger = _called(plan)
        if plan.now - event.time + AGAIN_SECONDS * 1000 > trigger.max_age_seconds * 1000:
            plan.reason = "NO_RELEASE"
        else:
            plan.put_off = "no release answers: promote one"

    def _query(self, plan: Plan) -> Query:
        event, trigger = _called(plan)
        items = tuple(item.item_id for item in event.items)
        return Query(
            plan.timer.user_id,
            self._servings[trigger.name],
            trigger.k + ROOM,
            context_item_ids=items[:MAX_CONTEXT_ITEMS],
            exclude_item_ids=(*items, *plan.document.pushed_items),
            search=event.query,
            category=event.category,
        )

    def _word(self, plan: Plan) -> None:
        _, trigger = _called(plan)
        assert plan.answer is not None
        start = self._monotonic()
        plan.worded = self.word(plan, plan.answer.items[: trigger.k])
        plan.latency["compose"] = (self._monotonic() - start) * 1000


def pack(plan: Plan) -> None:
    """Pack the first part of the record: not in the transaction, where every other write would wait for it."""
    key, user_id = plan.decision_id, plan.timer.user_id
    basis = Basis(
        decision_id=key,
        time=plan.now,
        user_id=user_id,
        cause=plan.cause,
        event=plan.event,
        serving_config="" if plan.trigger is None else plan.trigger.serving_config,
        release_id=plan.release_id,
        profile_version=plan.version,
        k=0 if plan.trigger is None else plan.trigger.k,
        question=plan.query,
        answer=plan.answer,
        snapshot=plan.snapshot,
    )
    try:
        plan.basis = pack_basis(basis)
    except Exception as error:  # A decision that cannot be told of is not made.
        log.exception("the record of a push cannot be made", decision=log_name(key))
        plan.fail(f"{type(error).__name__}: {error}")
        plan.basis = pack_basis(Basis(key, plan.now, user_id, plan.cause))


def _called(plan: Plan) -> tuple[Event, Trigger]:
    """The event and the trigger of a plan that was prepared."""
    assert plan.event is not None
    assert plan.trigger is not None
    return plan.event, plan.trigger


def _guarded(plan: Plan, step: Callable[[Plan], None]) -> None:
    """Do a step of a plan. Whatever goes wrong with it ends this plan and no other."""
    try:
        step(plan)
    except Exception as error:
        log.error(
            "a push cannot be decided", decision=log_name(plan.decision_id), problem=f"{type(error).__name__}: {error}"
        )
        plan.fail(str(error) or type(error).__name__)
