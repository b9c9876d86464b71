"""Show items as they are served, one or all of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidings_core.attributes import Kind
from tidings_core.catalogue import Value
from tidings_core.delta import item_values
from tidings_core.errors import Conflict, InvalidInput, NotFound
from tidings_core.model import Snapshot
from tidings_core.release import Release
from tidings_server.application.catalogue import Codec, read_state
from tidings_server.application.serving import Serving
from tidings_server.application.store import Store

PAGE = 500


@dataclass(frozen=True, slots=True)
class ShownItem:
    """An item as it is served: what is shown of it, its typed attributes, and when it last changed.

    `time` is Unix microseconds, 0 when that is not known.
    """

    payload: bytes
    values: Mapping[str, tuple[Kind, Value]]
    time: int


class ReadItems:
    """Shows items of the serving release and its delta; without a release, one of those the store holds."""

    def __init__(self, store: Store, serving: Serving, codec: Codec) -> None:
        self._store = store
        self._serving = serving
        self._codec = codec

    def get(self, item_id: str) -> ShownItem:
        """One item. Raises NotFound, StorageFailed."""
        release = self._serving.release
        if release is None:
            return self._stored(item_id)
        row = release.snapshot.items.find(item_id)
        if row < 0 or _deleted(release.snapshot, row):
            raise NotFound("there is no such item: it was never described, or it is deleted")
        return _shown(release.snapshot, row)

    def page(self, token: str, release: Release | None = None) -> tuple[Sequence[ShownItem], str, Release]:
        """A part of the list, the token of the next ("": there is none), and the release it is of.

        Given back, that release goes on being listed as it was then. Raises InvalidInput for what is no token, Conflict
        when another release is serving, or none.
        """
        serving = release or self._serving.release
        if serving is None:
            raise Conflict("no release is serving, so there is no list: promote one first")
        release_id, numbering, row = _read_token(token, serving)
        if release_id != serving.manifest.release_id:
            raise Conflict(
                f"page_token is of release {release_id}, and another one is serving: list from the beginning"
            )
        if numbering != _numbering(serving, row):
            raise Conflict("page_token is of new items in another order than they now have: list from the beginning")
        end = min(row + PAGE, len(serving.snapshot.items))
        items = [_shown(serving.snapshot, at) for at in range(row, end) if not _deleted(serving.snapshot, at)]
        more = end < len(serving.snapshot.items)
        return items, f"{release_id}:{_numbering(serving, end)}:{end}" if more else "", serving

    def _stored(self, item_id: str) -> ShownItem:
        """What the store holds of an item. Raises NotFound, StorageFailed."""
        stored = self._store.catalogue_item(item_id)
        state = read_state(stored)
        if not state.described:
            raise NotFound("there is no such item: it was never described, or it is deleted")
        said = self._codec.describe(state.described)
        values: dict[str, tuple[Kind, Value]] = {name: (said.kinds[name], value) for name, value in said.values.items()}
        payload = said.payload
        for name, (_, value) in state.parts.items():
            values[name] = ("flag", value > 0) if name == "available" else ("number", value)
            payload = self._codec.priced(payload, value) if name == "price" else payload
        return ShownItem(payload, values, stored.time)


def shown_items(snapshot: Snapshot) -> Iterator[ShownItem]:
    """Every item as a snapshot shows it."""
    for row in range(len(snapshot.items)):
        if not _deleted(snapshot, row):
            yield _shown(snapshot, row)


def _shown(snapshot: Snapshot, row: int) -> ShownItem:
    values, time = item_values(snapshot, row)
    return ShownItem(snapshot.payloads[row], values, time)


def _deleted(snapshot: Snapshot, row: int) -> bool:
    if snapshot.delta is None:
        return False
    gone = snapshot.delta.deleted
    at = int(np.searchsorted(gone, row))
    return at < len(gone) and int(gone[at]) == row


def _numbering(serving: Release, row: int) -> int:
    """By what a row of a list is told apart: 0 for one of the release, else the numbering of its new items."""
    base, delta = serving.snapshot.base, serving.snapshot.delta
    return 0 if base is None or delta is None or row <= len(base.items) else delta.numbering


def _read_token(token: str, serving: Release) -> tuple[str, int, int]:
    if not token:
        return serving.manifest.release_id, 0, 0
    parts = token.rsplit(":", 2)
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 16 for part in parts[1:]):
        raise InvalidInput(("page_token", "is no token of a list: give the last next_page_token that came, unchanged"))
    return parts[0], int(parts[1]), int(parts[2])
