"""The person: what a profile says in the terms of one snapshot, made once per profile and release, without a clock."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, compress, islice
from typing import NamedTuple

import numpy as np

from tidings_core import text
from tidings_core.delta import have_vectors
from tidings_core.encoder import STEPS
from tidings_core.events import LIKED_STARS, liking
from tidings_core.exclusions import MANY, prepared
from tidings_core.features import attribute_features, attribute_text
from tidings_core.fold_in import folded, likings
from tidings_core.model import EMPTY_HISTORY, History, Person, Snapshot
from tidings_core.profile import Profile, RecentEvent
from tidings_core.tables import Float32, Float64, Int32, Int64

INTERESTS = 32
SEARCHES = 3
CATEGORIES = 5
"""So many of each are kept."""
CATEGORY_HALF_LIFE = 86_400.0
"""Seconds. Looking at a category counts half of doing so that much later."""
_WANTED = ("view", "click", "add_to_cart")
_LOOKED = ("view", "click")
_UNWANTED = ("return", "dismiss", "see_less")


def view(profile: Profile, rows: Int32, snapshot: Snapshot, user_row: int) -> Person:
    """What a profile says in the terms of a snapshot.

    rows[item_no] is an item's row in the snapshot, -1 when it has none; an item_no beyond the end has none. `user_row`
    is -1 for a user the release does not know.
    """
    past = EMPTY_HISTORY if snapshot.histories is None or user_row < 0 else snapshot.histories[user_row]
    history, returned = _bought(profile, rows, past, snapshot.trained_until)
    blocked = _blocked(profile, rows, snapshot)
    done = _done(profile.recent, rows)
    disliked = _served(profile.disliked, rows)
    left_out = {*returned.tolist(), *blocked.tolist(), *disliked.tolist()}
    interests, interest_times = _interests(done, history, left_out)
    unbought, unbought_times = _unbought(done, history, left_out)
    seen = _served(profile.seen, rows)
    liked = _liked(done, history, blocked, snapshot)
    steps, step_times = _steps(*liked[:2], snapshot)
    parts = {"bought": history.rows, "returned": returned, "blocked": blocked, "seen": seen}
    return Person(
        history=history,
        interests=interests,
        many={name: prepared(part, snapshot) for name, part in parts.items() if len(part) > MANY},
        interest_times=interest_times,
        unbought=unbought,
        unbought_times=unbought_times,
        returned=returned,
        seen=seen,
        blocked=blocked,
        disliked=disliked,
        searches=_searches(profile.searches),
        categories=_categories(profile, done, snapshot),
        steps=steps,
        step_times=step_times,
        vector=_vector(*liked, snapshot, user_row),
        attributes=attribute_features(asked, profile.stated.values()) if (asked := snapshot.user_attributes) else None,
    )


class _Done(NamedTuple):
    """One item of one recent event: when (Unix seconds), how much it says for the item, or whether against it."""

    row: int
    time: float
    liking: float
    bad: bool
    event: RecentEvent


def _done(events: Sequence[RecentEvent], rows: Int32) -> list[_Done]:
    """What was done to items that have a row, newest first."""
    flat = iter(_row_of(list(chain.from_iterable(event.items for event in events)), rows).tolist())
    found = []
    for event in events:
        liked = liking(event.type, event.value)
        bad = event.type in _UNWANTED or (event.type == "rating" and (event.value or 0.0) < LIKED_STARS)
        time = event.time / 1000.0
        found += [_Done(row, time, liked, bad, event) for row in islice(flat, len(event.items)) if row >= 0]
    return found


def _row_of(item_nos: Collection[int] | Int64, rows: Int32) -> Int32:
    """Row of each item, i32, -1 where it has none."""
    items = item_nos if isinstance(item_nos, np.ndarray) else np.fromiter(item_nos, np.int64, len(item_nos))
    there = (items >= 0) & (items < len(rows))
    found = np.full(len(items), -1, np.int32)
    found[there] = rows[items[there]]
    return found


def _served(item_nos: Collection[int], rows: Int32) -> Int32:
    """Rows of the items that have one, i32."""
    found = _row_of(item_nos, rows)
    return found[found >= 0]


def _bought(profile: Profile, rows: Int32, past: History, trained_until: float) -> tuple[History, Int32]:
    """What was bought by release or log, newest first; and the rows of what was given back, all of it."""
    if not profile.bought:
        return past, np.empty(0, np.int32)
    bought = profile.bought.columns
    items = _row_of(bought.items, rows)
    # Of what is still there the number of purchases counts; what was given back for good is counted down.
    there = items >= 0
    items, times, purchases = items[there], bought.times[there], bought.purchases[there]
    returns = np.where(bought.kept > 0, 0, bought.returns)[there]
    _, in_past, in_log = np.intersect1d(past.rows, items, return_indices=True)
    counts: Float64 = np.zeros(len(items))
    last = times // 1000
    counts[in_log] = past.counts[in_past]
    last[in_log] = np.maximum(last[in_log], past.times[in_past])
    # The release has counted what was bought before its training ended; what came later comes on top.
    later = (purchases > 0) & (times > trained_until * 1000.0)
    counts = np.maximum(counts + later, purchases) - returns
    kept = counts > 0
    alone = np.ones(len(past.rows), np.bool_)
    alone[in_past] = False
    all_rows = np.concatenate([past.rows[alone], items[kept]])
    all_times = np.concatenate([past.times[alone], last[kept]])
    all_counts = np.concatenate([past.counts[alone], counts[kept]]).astype(np.float32)
    # What was bought at one time is ordered as in the histories of a release, and not by item_no: a model learned so.
    newest = np.lexsort((all_rows, -all_counts, -all_times))
    return History(all_rows[newest], all_times[newest], all_counts[newest]), items[~kept]


def _blocked(profile: Profile, rows: Int32, snapshot: Snapshot) -> Int32:
    """Rows of what the user asked to see less of: the items, and all items of the categories."""
    parts = [_served(profile.blocked_items, rows)]
    if snapshot.categories is not None:
        whole = len(snapshot.items)
        parts += [text.category_items(name, snapshot.categories, whole) for name in profile.blocked_categories]
    return np.unique(np.concatenate(parts))


def _interests(done: Sequence[_Done], history: History, left_out: Collection[int]) -> tuple[Int32, Float64]:
    """Items liked or bought, newest first, but for those whose newest word is a bad one."""
    # What is older than these is no interest of the newest, whichever of them fall away.
    span = slice(INTERESTS + len(done))
    good = dict(zip(history.rows[span].tolist(), history.times[span].astype(np.float64).tolist(), strict=True))
    for one in done:
        if one.liking > 0.0:
            good[one.row] = max(one.time, good.get(one.row, one.time))
    return _newest(good, _last(one for one in done if one.bad), left_out, INTERESTS)


def _unbought(done: Sequence[_Done], history: History, left_out: Collection[int]) -> tuple[Int32, Float64]:
    """Items looked at or put into the cart and since then neither bought nor refused, newest first."""
    wanted = _last(one for one in done if one.event.type in _WANTED)
    ended = _last(one for one in done if one.bad or one.event.type in ("purchase", "remove_from_cart"))
    for row, second in zip(history.rows.tolist(), history.times.tolist(), strict=True):
        # A history knows whole seconds: what was done within the last one came before it was bought.
        if row in wanted and int(wanted[row]) <= second:
            ended[row] = wanted[row]
    return _newest(wanted, ended, left_out, len(wanted))


def _last(done: Iterable[_Done]) -> dict[int, float]:
    """When each item was last in what was done, which is newest first."""
    found: dict[int, float] = {}
    for one in done:
        found.setdefault(one.row, one.time)
    return found


def _newest(
    times: Mapping[int, float], ended: Mapping[int, float], left_out: Collection[int], most: int
) -> tuple[Int32, Float64]:
    """Rows and times, newest first, of those that have not ended since and are not left out."""
    kept = [(row, time) for row, time in times.items() if row not in left_out and time > ended.get(row, -1.0)]
    kept.sort(key=lambda entry: -entry[1])
    found = kept[:most]
    return np.array([row for row, _ in found], np.int32), np.array([time for _, time in found], np.float64)


def _searches(searches: Mapping[str, int]) -> tuple[tuple[str, float], ...]:
    """The newest searches, each once however it was written, and when."""
    found: dict[tuple[str, ...], tuple[str, float]] = {}
    for query, time in sorted(searches.items(), key=lambda entry: (-entry[1], entry[0])):
        words = tuple(text.tokens(query))
        if words:
            found.setdefault(words, (query, time / 1000.0))
            if len(found) == SEARCHES:
                break
    return tuple(found.values())


def _categories(profile: Profile, done: Sequence[_Done], snapshot: Snapshot) -> tuple[tuple[str, float], ...]:
    """The categories most looked at lately, by themselves or by their items, with the newest time of each.

    Who has bought has looked enough: what was bought says which category is not needed next.
    """
    if snapshot.categories is None or not profile.recent:
        return ()
    looked: dict[tuple[int, str], float] = {
        (event.key, event.category): event.time / 1000.0
        for event in profile.recent
        if event.type == "view" and event.category
    }
    for one in done:
        name = attribute_text(snapshot, "category", one.row) if one.event.type in _LOOKED else None
        if name is not None:
            looked[one.event.key, name] = one.time
    newest = profile.recent[0].time / 1000.0
    weights: dict[str, float] = {}
    last: dict[str, tuple[str, float]] = {}
    for (_, name), time in sorted(looked.items(), key=lambda entry: -entry[1]):
        key = text.fold(name)
        weights[key] = weights.get(key, 0.0) + 2.0 ** ((time - newest) / CATEGORY_HALF_LIFE)
        last.setdefault(key, (name, time))
    best = sorted(weights.keys() - map(text.fold, profile.blocked_categories), key=lambda key: (-weights[key], key))
    known = text.known_words(best, snapshot.categories)
    return tuple(last[key] for key in compress(best, known))[:CATEGORIES]


def _liked(
    done: Sequence[_Done], history: History, blocked: Int32, snapshot: Snapshot
) -> tuple[Int32, Float64, Float32]:
    """Rows i32[n], times f64[n] (Unix seconds) and weights f32[n] of what was liked, with a vector and not blocked."""
    # Purchases stand in the history.
    liked = [one for one in done if one.liking > 0.0 and one.event.type != "purchase"]
    rows = np.concatenate([history.rows, np.array([one.row for one in liked], np.int32)])
    times = np.concatenate([history.times, np.array([one.time for one in liked])])
    weights = np.concatenate([history.counts, np.array([one.liking for one in liked], np.float32)])
    kept = ~np.isin(rows, blocked) & have_vectors(rows, snapshot)
    return rows[kept], times[kept], weights[kept]


def _steps(rows: Int32, times: Float64, snapshot: Snapshot) -> tuple[Int32, Float64]:
    """The newest of what was liked, oldest first, for an encoder to read: rows i32[n], times f64[n]."""
    if snapshot.encoder is None:
        return np.empty(0, np.int32), np.empty(0, np.float64)
    newest = np.argsort(times, kind="stable")[-STEPS:]
    return rows[newest], times[newest]


def _vector(rows: Int32, times: Float64, weights: Float32, snapshot: Snapshot, user_row: int) -> Float32 | None:
    """What was liked folded into a vector, where the release's own is missing or older than that."""
    if snapshot.encoder is not None:
        return None
    if user_row >= 0 and (snapshot.fold_in is None or not (times > snapshot.trained_until).any()):
        return None
    return folded(*likings(rows, times, weights), snapshot)
