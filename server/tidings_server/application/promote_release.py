"""Let a release answer."""

from collections.abc import Callable

from tidings_core.errors import Conflict
from tidings_core.release import Release
from tidings_server.application.serving import Releases, Serving


class PromoteRelease:
    """Opens and validates a release, keeps the choice on disk, and swaps it in. A failed step changes nothing."""

    def __init__(self, releases: Releases, serving: Serving, now: Callable[[], float]) -> None:
        """`now` gives Unix seconds."""
        self._releases = releases
        self._serving = serving
        self._now = now

    def __call__(self, release_id: str, instead_of: str = "") -> tuple[Release, str]:
        """Return the serving release and the id of the one before it, "" when there was none.

        Promoting the serving release changes nothing. With `instead_of` nothing happens unless that one is serving.
        Raises InvalidInput, NotFound, ReleaseRefused, or Conflict when another one is serving, or when the choice
        cannot be kept on disk.
        """
        with self._serving.lock:
            release, record = self._serving.release, self._serving.record
            if instead_of and instead_of != record.serving:
                raise Conflict(f"{record.serving or 'no release'} is serving by now, not {instead_of}: nothing done")
            if release is None or release.manifest.release_id != release_id:
                release = self._releases.open(release_id)
                record = record.promoted(release_id, self._now())
                self._serving.swap(release, record)
            return release, record.earlier[-1] if record.earlier else ""
