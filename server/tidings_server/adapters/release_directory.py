"""The releases directory: what is in it, and opening one release of it."""

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tidings_core import release
from tidings_core.errors import InvalidInput, NotFound, ReleaseRefused
from tidings_core.release import Manifest, Release


class ReleaseDirectory:
    """Releases as directories inside one directory, as a builder leaves them. Read only."""

    def __init__(self, path: Path) -> None:
        """Take a directory that exists. Raises InvalidInput when it does not."""
        if not path.is_dir():
            raise InvalidInput(("releases", f"there is no directory {path}; name the one that releases are built into"))
        self._path = path

    def list(self) -> "list[Manifest | ReleaseRefused]":
        """Every release, newest first; one whose manifest cannot be read is its ReleaseRefused. Raises NotFound."""
        return release.list_releases(self._path)

    def holding(self, user_ids: Sequence[str]) -> Mapping[str, Sequence[int]]:
        """The releases that know any of some users, each with the places of those in the list.

        One that cannot be read holds nobody: it will not be served either.
        """
        found: dict[str, Sequence[int]] = {}
        for listed in self.list():
            if isinstance(listed, Manifest):
                try:
                    rows = release.read_user_ids(self._path / listed.release_id).find_many(user_ids)
                except (NotFound, ReleaseRefused):
                    continue
                places = np.flatnonzero(rows >= 0).tolist()
                if places:
                    found[listed.release_id] = places
        return found

    def open(self, release_id: str) -> Release:
        """Open a release and validate all of it.

        Raises InvalidInput for a name that no release can have, NotFound, or ReleaseRefused with the reason.
        """
        # Checked here, so that no name from outside can leave the directory.
        if not release.RELEASE_ID.match(release_id):
            raise InvalidInput(
                ("release_id", f"is {reprlib.repr(release_id)}, must be 1 to 128 letters, digits, '.', '_' and '-'")
            )
        try:
            return release.open_release(self._path / release_id)
        except OSError as error:
            name = Path(error.filename).name if isinstance(error.filename, str) else "a file"
            raise ReleaseRefused(release_id, f"{name} cannot be read: {error.strerror}") from error
