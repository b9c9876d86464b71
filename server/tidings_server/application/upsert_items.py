"""Take in what a shop says of its items: the newest word stands, on disk, and the next answer goes by it."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np

from tidings_core.attributes import Kind
from tidings_core.catalogue import ItemState, Word
from tidings_core.errors import Conflict, InvalidInput, Overloaded, TidingsError
from tidings_core.faults import Fault
from tidings_core.release import Release
from tidings_core.tables import Int32
from tidings_server.application.catalogue import REFUSED_AT, Catalogue, read_state, room
from tidings_server.application.consistency import write_token
from tidings_server.application.serving import Serving
from tidings_server.application.store import Store, Transaction, outcome

Result = Literal["applied", "older", "unchanged", "not_found"]
RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Said:
    """A word, where it stood in its call, and the kinds of its typed attributes and what was said of them."""

    word: Word
    place: str
    kinds: Mapping[str, Kind] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of each word of one call, in order, and the token that makes reads see them."""

    results: Sequence[Result]
    token: str


class UpsertItems:
    """Takes in the words of many calls, each call whole or not at all. Blocks its thread until answers go by them."""

    def __init__(
        self, store: Store, catalogue: Catalogue, serving: Serving, changed: Callable[[], None] = lambda: None
    ) -> None:
        """`changed` is called when the delta has grown."""
        self._store = store
        self._catalogue = catalogue
        self._serving = serving
        self._changed = changed

    def __call__(self, calls: Sequence[Sequence[Said]]) -> list[Taken | TidingsError]:
        """For each call what became of its words, or the error for which none of them was taken.

        InvalidInput, Conflict, Overloaded, StorageFull, StorageFailed or Stopping.
        """
        release = self._serving.release
        under_way = [self._start(call, release) for call in calls]
        done = [_finished(one) for one in under_way]
        if not any(isinstance(one, list) for one in done):
            return [one for one in done if isinstance(one, TidingsError)]
        try:
            self._catalogue.show(self._serving, self._store.catalogue_position)
        except TidingsError as error:
            return [error for _ in done]
        self._changed()
        token = write_token(self._store)
        return [one if isinstance(one, TidingsError) else Taken(one, token) for one in done]

    def _start(self, call: Sequence[Said], release: Release | None) -> "TidingsError | Future[list[Result]]":
        try:
            call = _fitting(call, release)
            return self._store.write(partial(_write, [said.word for said in call], release))
        except TidingsError as error:
            return error


def _finished(under_way: "TidingsError | Future[list[Result]]") -> TidingsError | list[Result]:
    if isinstance(under_way, TidingsError):
        return under_way
    made: TidingsError | list[Result] = outcome(under_way)
    return made


def _write(words: Sequence[Word], release: Release | None, tx: Transaction) -> list[Result]:
    """The transaction of one call."""
    results: list[Result] = []
    for word in words:
        stored = tx.catalogue.get(word.item_id)
        state = read_state(stored)
        after = state.after(word)
        if after != state:
            tx.catalogue.put(word.item_id, after.newest, after.encode())
        results.append(_result(word, state, after, release))
    return results


def _result(word: Word, state: ItemState, after: ItemState, release: Release | None) -> Result:
    held = _held(word.item_id, release)
    if word.deletes:
        if after == state:
            return "not_found" if state.deleted else "older"
        if word.time <= held:
            return "older"
        return "applied" if held >= 0 or state.described else "not_found"
    if after == state:
        return "unchanged" if state.holds(word) else "older"
    return "older" if word.time <= held else "applied"


def _held(item_id: str, release: Release | None) -> int:
    """When a release last heard of an item, in Unix microseconds; -1 when it does not hold it."""
    if release is None:
        return -1
    base = release.snapshot.base or release.snapshot
    row = base.items.find(item_id)
    return (int(base.item_times[row]) if row < len(base.item_times) else 0) if row >= 0 else -1


def _fitting(call: Sequence[Said], release: Release | None) -> Sequence[Said]:
    """The words of a call, held against the serving release: vectors and kinds of attributes must be as it has them.

    Vectors are marked with its space. Raises InvalidInput with all that does not fit, Conflict for a vector when none
    is serving, Overloaded when there is no room.
    """
    if release is None:
        if any(said.word.vector for said in call):
            raise Conflict(
                "no release is serving, so no vector can be checked: send items without, or promote one first"
            )
        return call
    faults: list[Fault] = []
    dim = release.manifest.dim
    for said in call:
        size = len(said.word.vector) // 4
        if size and size != dim:
            faults.append((f"{said.place}.vector", f"must have {dim} numbers, as the serving release's, or none"))
        for name, kind in said.kinds.items():
            there = release.snapshot.attributes.get(name)
            if there is not None and there.kind != kind:
                problem = f"is a {kind}; to the serving release it is a {there.kind}"
                faults.append((f"{said.place}.attributes[{name}]", problem))
    if faults:
        raise InvalidInput(*faults)
    _see_room(call, release)
    space = release.manifest.vector_space
    return [replace(said, word=replace(said.word, space=space)) if said.word.vector else said for said in call]


def _see_room(call: Sequence[Said], release: Release) -> None:
    """Raise Overloaded when there is no room for the descriptions among the words. Nothing else needs room."""
    snapshot = release.snapshot
    described = [said.word for said in call if said.word.described]
    if not described:
        return
    limit = REFUSED_AT * room(release.manifest.item_count)
    size = 0 if snapshot.delta is None else snapshot.delta.size
    if size + len(described) <= limit:
        return
    rows = snapshot.items.find_many([word.item_id for word in described])
    more = int((~_has_room(rows, release)).sum())
    if size + more > limit:
        raise Overloaded(
            f"{size} items were described since release {release.manifest.release_id} was built, {limit} may be: let "
            "them be folded back (the setting fold), or build and promote a release; prices and stock are still taken",
            RETRY_SECONDS,
        )


def _has_room(rows: Int32, release: Release) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Which rows the delta holds a description of already."""
    delta = release.snapshot.delta
    return np.zeros(len(rows), np.bool_) if delta is None else np.isin(rows, delta.rows[delta.described])
