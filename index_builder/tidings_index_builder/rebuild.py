"""Build, promote, prune: one run that a scheduler can repeat, of which only one runs at a time.

So that failed runs do not fill the disk, nothing is built unless the server answers, and what it refuses is removed.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tidings
from tidings_core.errors import InUse, TidingsError
from tidings_core.release import Manifest, list_releases
from tidings_index_builder.job import run_build
from tidings_index_builder.progress import Progress
from tidings_index_builder.prune import remove
from tidings_index_builder.settings import RebuildSettings

KIND = "rebuild"
LOCK_FILE = f".{KIND}.lock"
ASK_SECONDS = 30.0
"""A server that answers does so at once, unless it is opening another release just then."""
PROMOTE_SECONDS = 300.0
"""A server opens and checks the whole release before it answers."""
REFUSALS = (tidings.FailedPrecondition, tidings.InvalidArgument, tidings.NotFound)
"""What a server says that has not promoted, and will not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run did.

    `promoted`: the new release answers. `built`: no server was named, so it waits. `busy`: another run holds the lock.
    `failed`: `error` says why; a `release_id` then names a release that was built and kept, since nobody knows whether
    the server promoted it. `pruned` names the releases that were removed, a new one that the server refused among them;
    `prune_error` says what stood in the way.
    """

    outcome: Literal["promoted", "built", "busy", "failed"]
    seconds: float = 0.0
    release_id: str | None = None
    previous_release_id: str | None = None
    recall: float | None = None
    pruned: tuple[str, ...] = ()
    prune_error: str | None = None
    error: str | None = None


def rebuild(
    settings: RebuildSettings, now: float, progress: Progress, clock: Callable[[], float] = time.monotonic
) -> Outcome:
    """Build a release, promote it on the settings' server, and remove what is older than the newest `keep`.

    Whatever fails, what serves goes on serving. Nothing is built when the server does not answer. A release that it
    refuses is removed; one of which it is not known whether it was promoted is kept. The serving release and the one
    before it are never removed; without a server nobody knows which these are, and nothing is removed. `now` is Unix
    seconds and names the release.
    """
    start = clock()
    try:
        with alone(settings.releases, KIND):
            return _run(settings, now, progress, lambda: clock() - start)
    except InUse as error:
        return Outcome(outcome="busy", seconds=clock() - start, error=str(error))
    except (TidingsError, tidings.TidingsError, OSError) as error:
        return Outcome(outcome="failed", seconds=clock() - start, error=str(error))


def _run(settings: RebuildSettings, now: float, progress: Progress, elapsed: Callable[[], float]) -> Outcome:
    if settings.server is None:
        built = run_build(settings, now, progress)
        return Outcome(outcome="built", seconds=elapsed(), release_id=built.release_id, recall=built.index.recall)
    with tidings.Client(settings.server) as client:
        progress(f"asking {settings.server}")
        client.list_releases(timeout=ASK_SECONDS)
        built = run_build(settings, now, progress)
        progress(f"promoting {built.release_id}")
        try:
            promotion = client.promote_release(built.release_id, timeout=PROMOTE_SECONDS)
        except tidings.TidingsError as error:
            return _not_promoted(built, settings, error, elapsed())
    progress("removing old releases")
    pruned, problem = prune(settings.releases, settings.keep, {built.release_id, promotion.previous_release_id})
    return Outcome(
        outcome="promoted",
        seconds=elapsed(),
        release_id=built.release_id,
        previous_release_id=promotion.previous_release_id or None,
        recall=built.index.recall,
        pruned=pruned,
        prune_error=problem,
    )


def _not_promoted(built: Manifest, settings: RebuildSettings, error: tidings.TidingsError, seconds: float) -> Outcome:
    """Remove a release that was refused; keep one of which nobody knows."""
    refused = isinstance(error, REFUSALS)
    pruned, problem = remove(settings.releases, [built.release_id] if refused else [])
    told = f"{settings.server} refused {built.release_id}, which was removed"
    if not refused:
        told = f"it is not known whether {settings.server} promoted {built.release_id}, which is kept"
    elif not pruned:
        told = f"{settings.server} refused {built.release_id}, which could not be removed"
    return Outcome(
        outcome="failed",
        seconds=seconds,
        release_id=None if pruned else built.release_id,
        recall=built.index.recall,
        pruned=pruned,
        prune_error=problem,
        error=f"{told}: {error}",
    )


def prune(releases: Path, keep: int, needed: set[str]) -> tuple[tuple[str, ...], str | None]:
    """Remove all but the newest `keep` releases and those `needed`; broken ones are left for people to look at.

    Gives the ids of what was removed, and what went wrong, None when nothing did.
    """
    whole = [found.release_id for found in list_releases(releases) if isinstance(found, Manifest)]
    return remove(releases, [release_id for release_id in whole[keep:] if release_id not in needed])


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a directory for one kind of work. The system drops it when the process dies. Raises InUse."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{what}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"another {what} is running on {folder}") from None
        yield
