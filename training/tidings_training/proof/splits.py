"""Splits: what a model may learn from, and what it is asked afterwards."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from tidings_core.errors import InvalidInput
from tidings_core.features import DAY
from tidings_core.tables import Bool, Float64, Int32
from tidings_training.log import Log
from tidings_training.questions import Questions, of_sessions, of_users

Protocol = Literal["temporal", "leave-last-out", "random", "sessions"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
HOLDOUT_DAYS = 28.0
LEAST_SHARE = 0.5
"""With no holdout said, the last 28 days are held out; the last fifth, where they are more than this much of all."""
FIFTH = 0.2
SHARE = 0.25
GAP_MINUTES = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How to split. `holdout_days` (None: by the length of the log) is for temporal and sessions, `share` for random,
    `gap_minutes` for sessions of a log that names none; `repeats` counts what a user had before as wanted too."""

    protocol: Protocol = "temporal"
    holdout_days: float | None = None
    share: float = SHARE
    gap_minutes: float = GAP_MINUTES
    repeats: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """Events to learn from and events held out, of the same ids, with the questions that the latter answer.

    `as_of` is the time of learning, Unix seconds. For sessions the users of all three are sessions.
    """

    protocol: Protocol
    train: Log
    test: Log
    questions: Questions
    as_of: float

    @property
    def known(self) -> Bool:
        """Which items can be learned of, bool[I]."""
        return np.bincount(self.train.items[self.train.weights > 0], minlength=len(self.train.item_ids)) > 0


def split(log: Log, cut: Cut) -> Split:
    """Split a log. Deterministic given the seed. Raises InvalidInput when one side would be empty, with the way out."""
    _check(log, cut)
    if cut.protocol == "sessions":
        log = by_session(log, cut.gap_minutes)
    held = {
        "temporal": _last_days,
        "leave-last-out": _last_of_each,
        "random": _share_of_each,
        "sessions": _last_sessions,
    }[cut.protocol](log, cut)
    train, test = log.where(~held), log.where(held)
    as_of = float(train.times.max()) if len(train) else 0.0
    if cut.protocol == "temporal":
        as_of = _split_time(log, cut)
    if not (train.weights > 0).any() or not test.wanted.any():
        raise InvalidInput(
            (_FIELDS[cut.protocol], f"this {cut.protocol} split leaves one side empty; {_WAYS[cut.protocol]}")
        )
    if cut.protocol == "sessions":
        questions = of_sessions(train, test, cut.seed)
    else:
        questions = of_users(train, test, as_of, aged=cut.protocol != "random", repeats=cut.repeats, seed=cut.seed)
    if not len(questions):
        raise InvalidInput(
            (
                _FIELDS[cut.protocol],
                f"nobody wants anything new in what is held out; {_WAYS[cut.protocol]}, or count repeats",
            )
        )
    return Split(cut.protocol, train, test, questions, as_of)


_FIELDS = {"temporal": "holdout_days", "leave-last-out": "events", "random": "share", "sessions": "holdout_days"}
_WAYS = {
    "temporal": "hold out more or fewer days with --holdout-days",
    "leave-last-out": "each user needs two events or more",
    "random": "hold out another share with --share, or give more events",
    "sessions": "hold out more or fewer days with --holdout-days, or end sessions later with --gap-minutes",
}


def _check(log: Log, cut: Cut) -> None:
    """Raise InvalidInput naming all that is wrong."""
    faults: list[tuple[str, str]] = []
    if cut.holdout_days is not None and not 0 < cut.holdout_days < float("inf"):
        faults.append(("holdout_days", f"is {cut.holdout_days:g}, must be above 0"))
    if not 0 < cut.share < 1:
        faults.append(("share", f"is {cut.share:g}, must be between 0 and 1"))
    if not 0 < cut.gap_minutes < float("inf"):
        faults.append(("gap_minutes", f"is {cut.gap_minutes:g}, must be above 0"))
    if len(log) == 0:
        faults.append(("events", "there are none"))
    else:
        for name, ids in (("user", log.user_ids), ("item", log.item_ids)):
            if len(ids) < 2:
                faults.append(("events", f"all are of one {name} ({ids[0]!r}): at least 2 {name}s are needed"))
        if cut.protocol in ("temporal", "sessions") and log.times.min() == log.times.max():
            faults.append(
                ("protocol", f"all events are of one time, so none is later: use random instead of {cut.protocol}")
            )
        if not log.wanted.any():
            faults.append(("events", "none is a purchase or says anything good of an item: there is nothing to find"))
    if faults:
        raise InvalidInput(*faults)


def _split_time(log: Log, cut: Cut) -> float:
    end, length = float(log.times.max()), float(log.times.max() - log.times.min())
    if cut.holdout_days is not None:
        return end - cut.holdout_days * DAY
    held = HOLDOUT_DAYS * DAY
    return end - (held if held <= LEAST_SHARE * length else FIFTH * length)


def _last_days(log: Log, cut: Cut) -> Bool:
    return np.asarray(log.times > _split_time(log, cut), np.bool_)


def _last_of_each(log: Log, cut: Cut) -> Bool:
    """Of each user with two wanted items or more, the item wanted last, with all events of it."""
    count = len(log.item_ids)
    wanted = np.flatnonzero(log.wanted)
    keys = log.users[wanted].astype(np.int64) * count + log.items[wanted]
    pairs, places = np.unique(keys, return_inverse=True)
    first = np.full(len(pairs), np.inf)
    np.minimum.at(first, places, log.times[wanted])
    users = pairs // count
    # What is of one time is drawn by chance: the order of ids could tell something.
    drawn = np.random.default_rng(cut.seed).random(len(pairs))
    order = np.lexsort((drawn, first, users))
    is_last = np.ones(len(order), np.bool_)
    is_last[:-1] = users[order][:-1] != users[order][1:]
    several = np.bincount(users, minlength=len(log.user_ids)) > 1
    chosen = pairs[order][is_last & several[users[order]]]
    return np.isin(log.users.astype(np.int64) * count + log.items, chosen)


def _share_of_each(log: Log, cut: Cut) -> Bool:
    """A share of each user's items, drawn by chance, with all events of them; at least one stays."""
    count = len(log.item_ids)
    keys = log.users.astype(np.int64) * count + log.items
    pairs, places = np.unique(keys, return_inverse=True)
    users = pairs // count
    drawn = np.random.default_rng(cut.seed).random(len(pairs))
    order = np.lexsort((drawn, users))
    place = np.arange(len(order)) - np.searchsorted(users, users)
    sizes = np.bincount(users, minlength=len(log.user_ids))[users]
    held = np.zeros(len(pairs), np.bool_)
    held[order] = place < np.minimum(np.round(sizes * cut.share), sizes - 1)
    return held[places]


def _last_sessions(log: Log, cut: Cut) -> Bool:
    """The sessions that begin in the last days."""
    begins = np.full(len(log.user_ids), np.inf)
    np.minimum.at(begins, log.users, log.times)
    return np.asarray(begins[log.users] > _split_time(log, cut), np.bool_)


def by_session(log: Log, gap_minutes: float) -> Log:
    """The log with a session in place of each user: as the file names them, or ended by a pause of so many minutes."""
    order = np.lexsort((np.arange(len(log)), log.users))
    users, named = log.users[order], log.sessions[order]
    times: Float64 = log.times[order]
    begins = np.ones(len(log), np.bool_)
    begins[1:] = (users[1:] != users[:-1]) | (times[1:] - times[:-1] > gap_minutes * 60.0)
    paused = np.cumsum(begins) - 1
    # A session's number may be another user's too.
    keys = np.where(named >= 0, users.astype(np.int64) * (int(named.max(initial=0)) + 1) + named, -1)
    _, numbers = np.unique(np.where(named >= 0, keys + paused[-1] + 1, paused), return_inverse=True)
    sessions: Int32 = np.empty(len(log), np.int32)
    sessions[order] = numbers
    return replace(log, user_ids=[str(number) for number in range(int(sessions.max()) + 1)], users=sessions)
