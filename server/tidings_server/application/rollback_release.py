"""Let the release before answer again."""

from collections.abc import Callable

from tidings_core.errors import Conflict
from tidings_core.release import Release
from tidings_server.application.serving import Releases, Serving


class RollbackRelease:
    """Goes back through the promoted releases, one a call: after A, B, C come B, then A, then Conflict."""

    def __init__(self, releases: Releases, serving: Serving, now: Callable[[], float]) -> None:
        """`now` gives Unix seconds."""
        self._releases = releases
        self._serving = serving
        self._now = now

    def __call__(self, from_release_id: str = "") -> tuple[Release, str]:
        """Return the serving release and the id of the one that was left.

        With `from_release_id` nothing happens unless that one is serving. Raises Conflict, NotFound or ReleaseRefused.
        """
        with self._serving.lock:
            left = self._serving.record
            if from_release_id and from_release_id != left.serving:
                raise Conflict(
                    f"from_release_id is {from_release_id}, but {left.serving or 'no release'} is serving: nothing done"
                )
            record = left.rolled_back(self._now())
            release = self._releases.open(record.serving)
            self._serving.swap(release, record)
            return release, left.serving
