"""Say which releases there are, and which one answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tidings_core.errors import ReleaseRefused
from tidings_core.release import Manifest
from tidings_server.application.serving import Serving


class Listing(Protocol):
    """Knows which releases there are."""

    def list(self) -> Sequence[Manifest | ReleaseRefused]:
        """Every release, newest first; a broken one is its ReleaseRefused. Raises NotFound."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """A release, whether it answers, and when it was last promoted here (Unix seconds, None: never).

    `erased` is how many users of it were erased since.
    """

    release: Manifest | ReleaseRefused
    serving: bool
    promote_time: float | None
    erased: int = 0


class ListReleases:
    """Lists the releases directory."""

    def __init__(self, listing: Listing, serving: Serving, erased: Callable[[], Mapping[str, int]] = dict) -> None:
        """Take where releases are and which one serves; `erased` gives how many users of each were erased."""
        self._listing = listing
        self._serving = serving
        self._erased = erased

    def __call__(self) -> list[Listed]:
        """Every release, newest first. Raises NotFound when the directory is gone."""
        return [self.describe(found) for found in self._listing.list()]

    def describe(self, found: Manifest | ReleaseRefused) -> Listed:
        """One release as it stands now."""
        serving = self._serving.release
        return Listed(
            found,
            serving is not None and found.release_id == serving.manifest.release_id,
            self._serving.record.promote_times.get(found.release_id),
            self._erased().get(found.release_id, 0),
        )
