"""The catalogue of the serving release: its delta, made from what the store holds, and kept up with it.

The store is the truth, the delta follows from it: at the start, and for a release that takes over, it is made from all
changes that the release does not hold; then whoever wrote a change brings it up to that change, for all who wrote
meanwhile. A snapshot is swapped in whole, so an answer sees all of a batch or nothing.
"""

import itertools
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tidings_core.catalogue import Change, Description, ItemState
from tidings_core.delta import Delta, taken_in
from tidings_core.errors import StorageFailed
from tidings_core.model import Snapshot
from tidings_core.patched import patched
from tidings_core.release import Manifest, Release
from tidings_core.stored import StoredItem
from tidings_server.application.serving import Serving

PAGE = 5_000
"""So many changes are read and taken in at a time."""
KEPT = 2
"""Deltas are kept for so many releases: while one takes over, the other still answers."""
LEAST_ROOM, MOST_ROOM, SHARE = 2_000, 10_000, 50
"""A delta may hold a 50th of the release's items, and 2,000 to 10,000, before it should be folded back."""
REFUSED_AT = 5
"""At so many times as many, items that need room are refused."""


class Codec(Protocol):
    """What the wire knows of items."""

    def describe(self, described: bytes) -> Description:
        """A description that was stored, decoded. Raises ValueError."""
        ...

    def priced(self, payload: bytes, price: float) -> bytes:
        """What is shown of an item, with another price."""
        ...


class Changes(Protocol):
    """Where changes are read."""

    @property
    def epoch(self) -> str:
        """Name of the history that they are of."""
        ...

    @property
    def catalogue_position(self) -> int:
        """Number of the newest."""
        ...

    def catalogue_changes(self, after: int, limit: int) -> list[StoredItem]:
        """Items whose last change has a number above `after`, in order of it. Raises StorageFailed."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """The delta of a release up to the change `through`, and the release's own snapshot."""

    base: Snapshot
    through: int
    delta: Delta


Warn = Callable[[str, str], None]
"""Told of an item that cannot be taken in: its id, and why."""


class Catalogue:
    """Keeps the deltas. For any thread."""

    def __init__(
        self,
        store: Changes,
        codec: Codec,
        warn: Warn = lambda *_: None,
        watch: Callable[[Release], None] = lambda _: None,
    ) -> None:
        """`watch` is told of the release with its new delta, after each change and swap."""
        self._store = store
        self._codec = codec
        self._warn = warn
        self._watch = watch
        self._held: OrderedDict[str, Held] = OrderedDict()
        # Not the same after a restart: new items may then have other rows.
        self._numberings = itertools.count(1 + secrets.randbits(48))
        self._changing = threading.Lock()

    def prepare(self, release: Release) -> Release:
        """A release with its delta as the store has it by now, before it answers. Raises StorageFailed."""
        held = self._caught_up(self._started(release), release.manifest)
        with self._changing:
            self._keep(release.manifest.release_id, held)
        return _with(release, held)

    def renew(self, release: Release) -> Release:
        """A release that was prepared, with what was changed since. Raises StorageFailed."""
        with self._changing:
            held = self._held.get(release.manifest.release_id)
            if held is None:
                # Releases that were prepared since, and refused, have taken its place.
                held = self._started(release)
            newer = self._caught_up(held, release.manifest)
            self._keep(release.manifest.release_id, newer)
        return release if newer.delta is release.snapshot.delta else _with(release, newer)

    def show(self, serving: Serving, through: int) -> None:
        """Let the serving release answer with all changes up to a number. Raises StorageFailed."""
        serving.renew(lambda release: self._up_to(release, through))
        if serving.release is not None:
            self._watch(serving.release)

    def _up_to(self, release: Release, through: int) -> Release:
        held = self._held.get(release.manifest.release_id)
        return release if held is not None and held.through >= through else self.renew(release)

    def changes(self, release: Release) -> tuple[int, Iterator[Change]]:
        """The number up to which the delta of a release goes, and all changes that make it up. Raises StorageFailed."""
        with self._changing:
            held = self._held.get(release.manifest.release_id)
        through = self._store.catalogue_position if held is None else held.through
        return through, changes_since(release, self._store, through, self._codec, self._warn)

    def _started(self, release: Release) -> Held:
        base = release.snapshot.base or release.snapshot
        return Held(base, _first(release.manifest, self._store), Delta(numbering=next(self._numberings)))

    def _keep(self, release_id: str, held: Held) -> None:
        self._held[release_id] = held
        self._held.move_to_end(release_id)
        while len(self._held) > KEPT:
            self._held.popitem(last=False)

    def _caught_up(self, held: Held, manifest: Manifest) -> Held:
        """The delta with all that the store holds by now."""
        while stored := self._store.catalogue_changes(held.through, PAGE):
            changes = _known(stored, held.base, self._codec, self._warn)
            delta = taken_in(held.base, held.delta, changes, manifest.vector_space) if changes else held.delta
            held = replace(held, delta=delta, through=stored[-1].number)
        return held


def changes_since(
    release: Release, store: Changes, through: int, codec: Codec, warn: Warn = lambda *_: None
) -> Iterator[Change]:
    """What a release lacks of the changes of a store through a number; what changed again later is left for later.

    Raises StorageFailed.
    """
    base, after = release.snapshot.base or release.snapshot, _first(release.manifest, store)
    while after < through and (stored := store.catalogue_changes(after, PAGE)):
        yield from _known([one for one in stored if one.number <= through], base, codec, warn)
        after = stored[-1].number


def _known(stored: Sequence[StoredItem], base: Snapshot, codec: Codec, warn: Warn) -> list[Change]:
    """What stored items change of a release; those that cannot be read are told of."""
    rows = base.items.find_many([one.item_id for one in stored]).tolist()
    changes = []
    for one, row in zip(stored, rows, strict=True):
        try:
            change = change_of(one, base, row, codec)
        except ValueError as error:
            warn(one.item_id, str(error))
            continue
        if change is not None:
            changes.append(change)
    return changes


def change_of(stored: StoredItem, base: Snapshot, row: int, codec: Codec) -> Change | None:
    """What stands of an item beside a release that holds it in `row` (-1: does not); None when that is what it says.

    Raises ValueError when what is stored is damaged.
    """
    held = int(base.item_times[row]) if 0 <= row < len(base.item_times) else 0
    if stored.time < held:
        return None
    state = ItemState.decode(stored.content)
    newer = state.time > held
    # Of two words of one time a deletion wins, also over the description that a release holds.
    if state.deleted and (newer or (row >= 0 and state.time == held)):
        return Change(stored.item_id, state.time, stored.time, deleted=True)
    if stored.time == held:
        return None
    parts = {name: value for name, (time, value) in state.parts.items() if time > held}
    if state.described and newer:
        description = codec.describe(state.described)
        if "price" in parts:
            description = replace(description, payload=codec.priced(description.payload, parts["price"]))
        return Change(
            stored.item_id,
            state.time,
            stored.time,
            description=description,
            parts=parts,
            vector=state.vector,
            space=state.space,
        )
    if not parts or row < 0:
        return None
    payload = base.payloads[row]
    if "price" in parts:
        payload = codec.priced(payload, parts["price"])
    return Change(stored.item_id, held, stored.time, parts=parts, payload=payload)


def room(items: int) -> int:
    """How many new and newly described items a delta of a release of `items` should hold at most."""
    return min(MOST_ROOM, max(LEAST_ROOM, items // SHARE))


def read_state(stored: StoredItem) -> ItemState:
    """What is stored of an item. Raises StorageFailed when it is damaged."""
    try:
        return ItemState.decode(stored.content)
    except ValueError as error:
        raise StorageFailed(f"what is stored of item {stored.item_id} is damaged: {error}") from error


def _first(manifest: Manifest, store: Changes) -> int:
    """The number up to which a release holds the changes of a store."""
    held = manifest.changes_held
    return held.number if held is not None and held.epoch == store.epoch else 0


def _with(release: Release, held: Held) -> Release:
    return replace(release, snapshot=patched(held.base, held.delta))
