"""What is wrong with a log, before anything is learned from it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidings_core.errors import InvalidInput
from tidings_core.events import EVENT_TYPES
from tidings_core.features import DAY
from tidings_core.tables import Float64, Int64
from tidings_training.events import PURCHASE
from tidings_training.log import Log
from tidings_training.proof.splits import Cut, split

BOT_TIMES = 50
"""Somebody who did things at fewer moments is not suspected of being a machine."""
CLOCKWORK = 0.1
"""Pauses that differ by less than this share of their mean are no person's."""
SLEEPLESS_HOURS = 23
PER_MINUTE = 30
"""So many moments within one minute are no person's either."""
NEVER_BUYS = 100.0
"""Nor is so many times what others do without ever buying, where people buy."""
GAP_DAYS, GAP_TIMES = 3.0, 3.0
"""A silence of more than three days that is three times as long as silences usually are is a gap."""
SHOWN_GAPS = 5
DUPLICATES, TIES, COLD_PEOPLE, COLD_ITEMS = 0.01, 0.5, 0.5, 0.2
"""Shares from which on each is told as a problem."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A silence of so many days that began at a time, Unix seconds."""

    start: float
    days: float


@dataclass(frozen=True, slots=True)
class Bot:
    """A user who looks like a machine, with why."""

    user_id: str
    events: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a split of the log would be like. Shares are of 1.

    `cold_people` have no past, `cold_items` are wanted and unknown; `earlier` of the events held out are not later than
    what is learned from, so that a model sees the future of the shop.
    """

    protocol: str
    questions: int
    cold_people: float
    cold_items: float
    earlier: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was found. Times are Unix seconds, shares of 1; fits JSON after `dataclasses.asdict`."""

    events: int
    users: int
    items: int
    first: float
    last: float
    kinds: dict[str, int]
    valued: float
    """Share of events with a value, and the least and the largest of them, None without any."""
    least_value: float | None
    largest_value: float | None
    sessions: int
    duplicates: int
    """Events that are the same as one before: user, item, time and type."""
    repeats: float
    """Share of wanted events of an item that the user had wanted before."""
    ties: float
    """Share of events of users who did another thing, to another item, at the same time."""
    single_users: float
    """Share of users with one item only: nothing can be held out of them."""
    future: int
    """Events later than `now`."""
    gaps: list[Gap]
    bots: list[Bot]
    held: Held | None
    problems: list[str]
    """Sentences for people, each with what can be done; the first ones matter most."""


def audit(log: Log, cut: Cut, now: float) -> Audit:
    """Look a log over as of `now` (Unix seconds), and at what `cut` would make of it.

    Raises InvalidInput for a log without events.
    """
    if not len(log):
        raise InvalidInput(("events", "there are none"))
    problems: list[str] = []
    held = _held(log, cut, problems)
    pairs = log.users.astype(np.int64) * len(log.item_ids) + log.items
    duplicates = len(log) - len(_distinct(pairs, log.times, log.kinds))
    wanted = pairs[log.wanted]
    per_user = np.bincount(np.unique(pairs) // len(log.item_ids), minlength=len(log.user_ids))
    values = log.values[~np.isnan(log.values)]
    kinds = np.bincount(log.kinds, minlength=len(EVENT_TYPES))
    found = Audit(
        events=len(log),
        users=len(log.user_ids),
        items=len(log.item_ids),
        first=float(log.times.min()),
        last=float(log.times.max()),
        kinds={kind: int(count) for kind, count in zip(EVENT_TYPES, kinds, strict=True) if count},
        valued=len(values) / len(log),
        least_value=float(values.min()) if len(values) else None,
        largest_value=float(values.max()) if len(values) else None,
        sessions=len(np.unique(log.sessions[log.sessions >= 0])),
        duplicates=duplicates,
        repeats=1.0 - len(np.unique(wanted)) / len(wanted) if len(wanted) else 0.0,
        ties=ties(log),
        single_users=float((per_user == 1).mean()),
        future=int((log.times > now).sum()),
        gaps=gaps(log.times),
        bots=bots(log),
        held=held,
        problems=problems,
    )
    problems += _told(found)
    return found


def _held(log: Log, cut: Cut, problems: list[str]) -> Held | None:
    try:
        parts = split(log, cut)
    except InvalidInput as error:
        problems += [description for _, description in error.violations]
        return None
    asked = parts.questions
    wanted = asked.wanted[asked.known].indices
    return Held(
        protocol=cut.protocol,
        questions=len(asked),
        cold_people=float((~asked.known).mean()),
        cold_items=float((~parts.known[wanted]).mean()) if len(wanted) else 0.0,
        earlier=float((parts.test.times <= parts.train.times.max()).mean()),
    )


def ties(log: Log) -> float:
    """Share of events of users who did another thing, to another item, at the same time."""
    places = _distinct(log.users, log.times, log.items)
    users, times = log.users[places], log.times[places]
    again = np.zeros(len(places), np.bool_)
    same = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    again[1:] |= same
    again[:-1] |= same
    return float(again.mean())


def _distinct(*columns: NDArray[Any]) -> Int64:
    """The first places of distinct rows of columns, each of E, ordered by the first column, then the next."""
    order = np.lexsort(columns[::-1])
    fresh = np.zeros(len(order), np.bool_)
    fresh[:1] = True
    for column in columns:
        fresh[1:] |= column[order[1:]] != column[order[:-1]]
    return order[fresh]


def gaps(times: Float64) -> list[Gap]:
    """The longest silences between event times f64[E] (Unix seconds), longest first; those that are usual are none."""
    days = np.unique(np.floor(times / DAY))
    if len(days) < 3:
        return []
    silences = np.diff(days)
    usual = float(np.quantile(silences, 0.95))
    found = np.flatnonzero((silences > GAP_DAYS) & (silences > GAP_TIMES * usual))
    order = found[np.argsort(-silences[found], kind="stable")][:SHOWN_GAPS]
    return [Gap(float(days[at] * DAY), float(silences[at])) for at in order]


def bots(log: Log) -> list[Bot]:
    """Users who look like machines, the busiest first.

    Somebody who acts by the clock, in nearly every hour of one day, or many times within a minute; or who does a
    hundred times what others do and never buys where people buy. An order is one moment, however many items are in it.
    """
    places = _distinct(log.users, log.times)
    users, times = log.users[places], log.times[places]
    starts = np.searchsorted(users, np.arange(len(log.user_ids) + 1))
    events = np.bincount(log.users, minlength=len(log.user_ids))
    bought = np.bincount(log.users[log.of(PURCHASE)], minlength=len(log.user_ids))
    much = NEVER_BUYS * float(np.median(events))
    found: list[Bot] = []
    for user in np.flatnonzero(np.diff(starts) >= BOT_TIMES):
        why = _machine(times[starts[user] : starts[user + 1]])
        if not why and bought.any() and not bought[user] and events[user] > much:
            why = f"did {events[user]:,} things and bought nothing; half of all did {np.median(events):,.0f} at most"
        if why:
            found.append(Bot(log.user_ids[user], int(events[user]), why))
    return sorted(found, key=lambda bot: -bot.events)


def _machine(times: Float64) -> str:
    """What is inhuman about ascending moments f64[n] in Unix seconds, "" for nothing."""
    pauses = np.diff(times)
    if pauses.std() < CLOCKWORK * pauses.mean():
        return f"acts every {pauses.mean():,.0f} seconds"
    hours = np.unique(np.floor(times / 3600.0))
    days, awake = np.unique(np.floor(hours / 24.0), return_counts=True)
    if awake.max() >= SLEEPLESS_HOURS:
        return f"acts in {awake.max()} hours of {np.datetime64(int(days[awake.argmax()]), 'D')}"
    within = np.searchsorted(times, times + 60.0, side="left") - np.arange(len(times))
    if within.max() >= PER_MINUTE:
        return f"acts {within.max()} times within a minute"
    return ""


def _told(found: Audit) -> list[str]:
    """The problems in words, with the way out."""
    told: list[str] = []
    held = found.held
    if found.future:
        told.append(f"{found.future:,} events are later than now: end the log with --until, or mend the clock")
    if found.duplicates > DUPLICATES * found.events:
        told.append(f"{found.duplicates:,} events stand there more than once: write each one time")
    if held is not None and held.earlier and held.protocol in ("random", "leave-last-out"):
        told.append(
            f"{held.earlier:.0%} of what {held.protocol} holds out is not later than what is learned from: models see "
            "the future of the shop, and figures are larger than they will be; temporal does not"
        )
    if held is not None and held.cold_people > COLD_PEOPLE:
        told.append(f"{held.cold_people:.0%} of those who want something have no past: hold fewer days out")
    if held is not None and held.cold_items > COLD_ITEMS:
        told.append(
            f"{held.cold_items:.0%} of what is wanted was unknown before, and nobody can name it from behaviour alone"
        )
    if found.bots:
        told.append(
            f"{len(found.bots):,} users look like machines, first {found.bots[0].user_id}, who {found.bots[0].why}: "
            "leave them out if they are"
        )
    if found.gaps:
        longest = found.gaps[0]
        told.append(
            f"nothing happened for {longest.days:.0f} days from {_day(longest.start)}, longer than is usual here: was "
            "something lost?"
        )
    if found.ties > TIES:
        told.append(
            f"{found.ties:.0%} of events have no order of their own, since the user did another thing at the same "
            "time: what goes by order learns little"
        )
    return told


def _day(time: float) -> str:
    return str(np.datetime64(int(time // DAY), "D"))
