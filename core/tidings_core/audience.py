"""The audience of items: for whom they are best, over all users at once, exactly."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidings_core.exact import near
from tidings_core.model import Person, Snapshot
from tidings_core.tables import Bool, Float32, Int32, Int64

MAX_ITEMS = 64
"""Items that one audience is sought for. Each is one product with every user's vector."""
_PEOPLE = 1024
_MANY_ROWS = 4096
"""So many people are gone through together, but for the items of one that are more than this."""
CHUNK = 1 << 15
"""Users that are compared at once: 8 MB of scores with 64 items."""


@dataclass(frozen=True, slots=True)
class Known:
    """Somebody whose profile is at hand: newer than the release, or not in it at all.

    `row` is the user's in the release, -1 for none.
    """

    user_id: str
    row: int
    person: Person


@dataclass(frozen=True, slots=True)
class Audience:
    """All users with a value, none of whom is left out.

    values f32[P], -inf for who is left out or has no vector; best i32[P] the place of each one's best item among those
    asked for. The first U are the release's users by row, then come the `strangers` by id.
    """

    values: Float32
    best: Int32
    strangers: tuple[str, ...]
    users: int

    def in_order(self, least: float, after: tuple[float, int] | None, limit: int) -> Int64:
        """Places i64[n] of those worth at least `least`, best first, equal ones by place; `limit` at most.

        `after` is the value and the place of one before the first.
        """
        wanted = (self.values >= np.float32(least)) & np.isfinite(self.values)
        if after is not None:
            value, place = np.float32(after[0]), after[1]
            later = self.values < value
            later[place + 1 :] |= self.values[place + 1 :] == value
            wanted &= later
        there = np.flatnonzero(wanted)
        if len(there) > limit:
            values = self.values[there]
            last = np.partition(values, len(values) - limit)[len(values) - limit]
            there = there[values >= last]
        order = np.argsort(-self.values[there], kind="stable")
        return there[order[:limit]]

    def place(self, user_id: str, row: int) -> int:
        """The place of a user of the release by row or, for one who is not in it, that of the stranger before."""
        if row >= 0:
            return row
        return self.users + int(np.searchsorted(np.array(self.strangers, np.str_), user_id, "right")) - 1


def find_audience(rows: Sequence[int], known: Sequence[Known], snapshot: Snapshot, leave_out: bool = True) -> Audience:
    """Value every user by the best of item `rows`, 1 to MAX_ITEMS of them that have a vector.

    The best and not the mean: somebody is worth telling of several items when one of them is right, and a mean finds
    those to whom all are middling. With `leave_out` nobody is found by an item that they bought, gave back, or asked to
    see less of, by what the release and those `known` say. Who is known counts by their own vector, if they have one;
    an encoder is not asked for any.
    """
    items = np.array(rows, np.int64)
    vectors = np.asarray(snapshot.item_vectors[items], np.float32)
    values, best = _of_release(vectors, _owners(items, snapshot) if leave_out else None, snapshot)
    users = len(values)
    strangers = sorted(one.user_id for one in known if one.row < 0)
    values = np.concatenate([values, np.full(len(strangers), -np.inf, np.float32)])
    best = np.concatenate([best, np.zeros(len(strangers), np.int32)])
    if known:
        places = {user_id: users + at for at, user_id in enumerate(strangers)}
        at = np.array([places.get(one.user_id, one.row) for one in known], np.int64)
        scores = _of_people(known, items, vectors, snapshot, leave_out)
        best[at] = scores.argmax(axis=1)
        values[at] = scores.max(axis=1)
    return Audience(values, best, tuple(strangers), users)


def _of_release(vectors: Float32, owners: Sequence[Int32] | None, snapshot: Snapshot) -> tuple[Float32, Int32]:
    """The value f32[U] and the best item i32[U] of the release's users; owners[q] are those left out for item q."""
    users = len(snapshot.user_vectors)
    values, best = np.empty(users, np.float32), np.empty(users, np.int32)
    for start in range(0, users, CHUNK):
        scores = near(snapshot.user_vectors[start : start + CHUNK], vectors.T, snapshot)
        for item, rows in enumerate(owners or ()):
            first, last = np.searchsorted(rows, (start, start + CHUNK))
            scores[rows[first:last] - start, item] = -np.inf
        at = scores.argmax(axis=1)
        best[start : start + CHUNK] = at
        values[start : start + CHUNK] = np.take_along_axis(scores, at[:, None], 1)[:, 0]
    return values, best


def _owners(items: Int64, snapshot: Snapshot) -> list[Int32]:
    """For each item the release's users who bought it, rows i32 ascending."""
    if snapshot.histories is None:
        return [np.empty(0, np.int32) for _ in items]
    histories, wanted = snapshot.histories, np.zeros(int(items.max()) + 1, np.bool_)
    wanted[items] = True
    found: list[Int64] = []
    for start in range(0, len(histories.rows), 1 << 20):
        part = histories.rows[start : start + (1 << 20)]
        inside = part < len(wanted)
        found.append(np.flatnonzero(inside & wanted[np.where(inside, part, 0)]) + start)
    entries = np.concatenate([np.empty(0, np.int64), *found])
    users = np.searchsorted(histories.offsets, entries, "right") - 1
    bought = histories.rows[entries]
    return [np.unique(users[bought == item]).astype(np.int32) for item in items.tolist()]


def _of_people(known: Sequence[Known], items: Int64, vectors: Float32, snapshot: Snapshot, leave_out: bool) -> Float32:
    """How near P people are to the items, f32[P, Q]; -inf for an item that is refused, and for who has no vector."""
    own = np.zeros((len(known), vectors.shape[1]), np.float32)
    has_vector = np.zeros(len(known), np.bool_)
    for at, one in enumerate(known):
        if one.person.vector is not None:
            own[at], has_vector[at] = one.person.vector, True
        elif one.row >= 0:
            own[at], has_vector[at] = snapshot.user_vectors[one.row], True
    scores = near(own, vectors.T, snapshot)
    if leave_out:
        scores[refused([one.person for one in known], items)] = -np.inf
    scores[~has_vector] = -np.inf
    return scores


def refused(people: Sequence[Person], items: Int64) -> Bool:
    """Which items each of P people bought, gave back, rated low, or asked to see less of: bool[P, Q]."""
    found = np.zeros((len(people), len(items)), np.bool_)
    for start in range(0, len(people), _PEOPLE):
        rows: list[Int32] = []
        owners: list[int] = []
        for at, one in enumerate(people[start : start + _PEOPLE], start):
            for part in (one.history.rows, one.returned, one.blocked, one.disliked):
                if len(part) > _MANY_ROWS:  # A category, say, which is not copied.
                    found[at] |= np.isin(items, part)
                elif len(part):
                    rows.append(part)
                    owners.append(at)
        if not rows:
            continue
        owner = np.repeat(owners, [len(part) for part in rows])
        row = np.concatenate(rows)
        for place, item in enumerate(items.tolist()):
            found[owner[row == item], place] = True
    return found
