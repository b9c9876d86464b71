"""Removing releases: hidden first, so that nobody lists or opens one that is half gone."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tidings_core.release import UNFINISHED


def remove(releases: Path, release_ids: Iterable[str]) -> tuple[tuple[str, ...], str | None]:
    """Remove releases. Gives the ids of those that are gone, and what went wrong, None when nothing did."""
    pruned: list[str] = []
    try:
        for release_id in release_ids:
            # Under this name nobody lists or opens it, and the next build removes what a crash leaves of it.
            hidden = releases / f"{UNFINISHED}pruned-{release_id}"
            os.rename(releases / release_id, hidden)
            shutil.rmtree(hidden)
            pruned.append(release_id)
    except OSError as error:
        return tuple(pruned), str(error)
    return tuple(pruned), None
