"""Questions to a model: what will this person want next?"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse

from tidings_core.tables import Bool, Float64, Int32, Int64
from tidings_training.interactions import interactions
from tidings_training.log import Log

RECENT = 200
"""So many of the newest things a person did are told to a model that goes by their order."""


@dataclass(frozen=True, slots=True)
class Questions:
    """C questions, each of one person at one time.

    people i32[C] who asks, by number; users i32[C] their rows of the training matrix, -1 for somebody it holds nothing
    of; times f64[C] Unix seconds. Matrices, CSR with a row per question: `past` f32[C, I] how much each item was liked
    before, `wanted` f32[C, I] 1 for what was wanted afterwards, `hidden` f32[C, I] above 0 for what is not to be shown.
    What was done before, oldest first, is items[starts[c]:starts[c + 1]] at those `moments`: starts i64[C + 1],
    items i32, moments f64 Unix seconds.
    """

    people: Int32
    users: Int32
    times: Float64
    past: "scipy.sparse.csr_matrix"
    wanted: "scipy.sparse.csr_matrix"
    hidden: "scipy.sparse.csr_matrix"
    starts: Int64
    items: Int32
    moments: Float64

    def __len__(self) -> int:
        return len(self.users)

    @property
    def known(self) -> Bool:
        """Who has a past, bool[C]."""
        return np.diff(self.past.indptr) > 0

    def where(self, chosen: Bool | Int64) -> "Questions":
        """The chosen questions, bool[C] or places i64[n]."""
        places = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else np.asarray(chosen, np.int64)
        starts, taken = joined(self.starts[places], self.starts[places + 1])
        return Questions(
            self.people[places],
            self.users[places],
            self.times[places],
            self.past[places],
            self.wanted[places],
            self.hidden[places],
            starts,
            self.items[taken],
            self.moments[taken],
        )


def joined(begins: Int64, ends: Int64) -> tuple[Int64, Int64]:
    """The spans begins[p]:ends[p], i64[n] each, one after the other: starts i64[n + 1] and the places, i64."""
    lengths = ends - begins
    starts = np.zeros(len(begins) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts, np.arange(starts[-1]) + np.repeat(begins - starts[:-1], lengths)


def indicator(rows: Int32 | Int64, items: Int32, shape: tuple[int, int]) -> "scipy.sparse.csr_matrix":
    """f32[shape] (CSR) with 1 at each of the places, however often it is named."""
    matrix = scipy.sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, items)), shape=shape)
    matrix.data[:] = 1.0
    return matrix


def of_users(train: Log, test: Log, as_of: float, *, aged: bool, repeats: bool, seed: int) -> Questions:
    """One question for each user who wants something in `test` that they did not have in `train`.

    With `repeats` what they had counts too, and may be shown. `aged` halves liking with its age as of `as_of` (Unix
    seconds).
    """
    shape = (len(train.user_ids), len(train.item_ids))
    had = indicator(train.users[train.wanted], train.items[train.wanted], shape)
    wanted = scipy.sparse.csr_matrix(indicator(test.users[test.wanted], test.items[test.wanted], shape))
    if repeats:
        had = scipy.sparse.csr_matrix(shape, dtype=np.float32)
    else:
        wanted = scipy.sparse.csr_matrix(wanted - wanted.multiply(had))
        wanted.eliminate_zeros()
    asked = np.flatnonzero(np.diff(wanted.indptr))
    everyone = replace(of_everyone(train, as_of, aged=aged, seed=seed), wanted=wanted, hidden=had)
    newest = everyone.where(asked)
    ends = newest.starts[1:]
    starts, taken = joined(np.maximum(newest.starts[:-1], ends - RECENT), ends)
    return replace(newest, starts=starts, items=newest.items[taken], moments=newest.moments[taken])


def of_everyone(train: Log, as_of: float, *, aged: bool, seed: int) -> Questions:
    """One question for each user of a log, about whom nothing is known to be wanted. See `of_users`."""
    shape = (len(train.user_ids), len(train.item_ids))
    past = interactions(train, as_of, *(() if aged else (np.inf,)))
    nothing = scipy.sparse.csr_matrix(shape, dtype=np.float32)
    liked = in_order(train.where(train.weights > 0), seed)
    by_user = np.argsort(liked.users, kind="stable")
    starts = np.zeros(shape[0] + 1, np.int64)
    np.cumsum(np.bincount(liked.users, minlength=shape[0]), out=starts[1:])
    return Questions(
        np.arange(shape[0], dtype=np.int32),
        np.where(np.diff(past.indptr) > 0, np.arange(shape[0]), -1).astype(np.int32),
        np.full(shape[0], as_of),
        past.tocsr(),
        nothing,
        nothing,
        starts,
        liked.items[by_user],
        liked.times[by_user],
    )


def of_sessions(train: Log, test: Log, seed: int) -> Questions:
    """A question after each event of a session but its last: what comes next? The users of both logs are sessions.

    Whatever is in the session may be shown again.
    """
    count = len(train.item_ids)
    liked = in_order(test.where(test.weights > 0), seed)
    by_session = np.lexsort((np.arange(len(liked)), liked.users))
    sessions, items, times = liked.users[by_session], liked.items[by_session], liked.times[by_session]
    # Twice the same in a row says nothing of what comes next.
    again = np.zeros(len(items), np.bool_)
    again[1:] = (sessions[1:] == sessions[:-1]) & (items[1:] == items[:-1])
    sessions, items, times = sessions[~again], items[~again], times[~again]
    places = np.arange(len(items))
    first = np.searchsorted(sessions, sessions)
    asked = np.flatnonzero(places > first)
    starts, taken = joined(np.maximum(first[asked], asked - RECENT), asked)
    rows = np.repeat(np.arange(len(asked)), np.diff(starts))
    past = scipy.sparse.csr_matrix(
        (np.ones(len(taken), np.float32), (rows, items[taken])), shape=(len(asked), count), dtype=np.float32
    )
    past.data = np.log1p(past.data)
    return Questions(
        sessions[asked],
        np.full(len(asked), -1, np.int32),
        times[asked],
        past,
        indicator(np.arange(len(asked)), items[asked], (len(asked), count)),
        scipy.sparse.csr_matrix((len(asked), count), dtype=np.float32),
        starts,
        items[taken],
        times[taken],
    )


def in_order(log: Log, seed: int) -> Log:
    """By time, with what is of one time in an order drawn by chance: that of the ids could tell something."""
    drawn = np.random.default_rng(seed).random(len(log))
    return log.where(np.lexsort((drawn, log.times)))
