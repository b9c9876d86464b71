"""Putting a backup in the place of a state directory: made ready beside it, then put there by a rename.

What stood there is moved aside, never deleted.
"""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from tidings_core.errors import Conflict, InUse, InvalidInput
from tidings_server.adapters.backup_directory import (
    MANIFEST,
    RELEASES,
    SERVING,
    UNFINISHED,
    BackupManifest,
    sync,
)
from tidings_server.adapters.sqlite_backup import Extent, Progress, read_extent
from tidings_server.adapters.sqlite_schema import FILE, open_reader, renew_epoch
from tidings_server.adapters.sqlite_statements import failure
from tidings_server.adapters.state_directory import KEY, KEY_BYTES, LOCK, held_if_free

RESTORED = "restored.json"
"""Written last into a directory that is made ready: what is left is the rename."""
_OWN = {LOCK, KEY, SERVING, FILE, f"{FILE}-wal", f"{FILE}-shm", RESTORED}


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. `epoch` is the new one, or that of before; `aside` where what stood there was moved."""

    backup: str
    epoch: str
    extent: Extent
    aside: str
    releases: tuple[str, ...]
    missing_releases: tuple[str, ...]


def present_extent(state: Path) -> Extent | None:
    """How far the database of a state directory goes, None when there is nothing to lose.

    Raises InvalidInput when the directory holds what is no state, Conflict when its database cannot be read.
    """
    if not state.exists():
        return None
    strange = sorted(path.name for path in state.iterdir() if path.name not in _OWN)
    if not (state / FILE).exists():
        if strange:
            raise InvalidInput(("state", f"{state} holds {strange[0]} and no database: name an empty directory"))
        return None
    try:
        with closing(open_reader(state)) as connection:
            return read_extent(connection, state / FILE)
    except sqlite3.Error as error:
        words = f"{state / FILE} cannot be read ({failure(error)}), so nobody knows whether it is older than the backup"
        raise Conflict(f"{words}; --force moves {state} aside") from error


def refuse_newer(state: Path, present: Extent | None, backup: Extent) -> None:
    """Raise Conflict when a state directory holds what the backup does not."""
    if present is None or present.within(backup):
        return
    if present.epoch != backup.epoch:
        what = f"another history ({present.epoch}; the backup is of {backup.epoch})"
    else:
        what = ", ".join(
            f"{name} up to {getattr(present, name)} (the backup: {getattr(backup, name)})"
            for name in ("events", "catalogue", "decisions")
            if getattr(present, name) > getattr(backup, name)
        )
    raise Conflict(
        f"{state} holds what the backup does not: {what}; name another directory with --state, or give --force, which "
        "moves what is there aside"
    )


def restore(
    folder: Path,
    manifest: BackupManifest,
    state: Path,
    releases: Path,
    key: bytes | None,
    keep_epoch: bool,
    finish: Callable[[Path], None],
    now: float,
    progress: Progress,
) -> Restored:
    """Put a checked backup in the place of a state directory that may go, and its releases beside the others.

    `key` takes the place of the backup's key. `finish` is called with the directory while it is made ready. Raises
    InUse while a server runs there, InvalidInput or Conflict; then the state directory is as it was.
    """
    if keep_epoch and manifest.live:
        raise Conflict(
            "the epoch cannot be kept: a server ran beside the backup and went on after it; leave out --keep-epoch"
        )
    if key is None and KEY not in manifest.files:
        raise InvalidInput(("key", "the backup was made without the key: name the file that has it with --key"))
    if key is not None and len(key) != KEY_BYTES:
        raise InvalidInput(("key", f"has {len(key)} bytes, must have {KEY_BYTES}"))
    ready = state.with_name(f"{state.name}.restoring")
    try:
        with _kept_out(state):
            told = _begun(ready, state, folder, manifest)
            if told is None:
                copied, missing = _restore_releases(folder, manifest, releases, progress)
                _make_ready(folder, ready, key, progress)
                epoch = manifest.extent.epoch
                if not keep_epoch:
                    progress("giving the history another name", 0, 0)
                    _, epoch = renew_epoch(ready)
                finish(ready)
                told = Restored(str(folder), epoch, manifest.extent, _aside(state, now), copied, missing)
                (ready / RESTORED).write_text(json.dumps(asdict(told), indent=1) + "\n")
                for path in ready.iterdir():
                    sync(path)
                sync(ready)
            _swap(ready, state, told.aside)
    except OSError as error:
        raise Conflict(f"the backup could not be restored: {error.filename}: {error.strerror}") from error
    return told


@contextmanager
def _kept_out(state: Path) -> Iterator[None]:
    """Keep servers out of what stands there. Raises InUse while one runs."""
    if not state.exists():
        yield
        return
    with held_if_free(state) as free:
        if not free:
            raise InUse(f"a server runs on {state}: stop it first")
        yield


def _begun(ready: Path, state: Path, folder: Path, manifest: BackupManifest) -> Restored | None:
    """What an earlier restore of the same backup did, that was stopped when all but the last rename was done."""
    if state.exists() or not (ready / RESTORED).exists():
        return None
    told = TypeAdapter(Restored).validate_json((ready / RESTORED).read_bytes())
    return told if (told.backup, told.extent) == (str(folder), manifest.extent) else None


def _restore_releases(
    folder: Path, manifest: BackupManifest, releases: Path, progress: Progress
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Copy the releases that are not there; returns those copied, and the serving one when it is nowhere."""
    copied = []
    for release_id in manifest.releases:
        target, source = releases / release_id, folder / RELEASES / release_id
        if target.exists():
            if (target / MANIFEST).read_bytes() != (source / MANIFEST).read_bytes():
                raise Conflict(f"{target} is another release of that name than the backup's: move it away")
            continue
        progress(f"copying release {release_id}", 0, 0)
        releases.mkdir(parents=True, exist_ok=True)
        unfinished = releases / f".{release_id}{UNFINISHED}"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished)
        for path in unfinished.iterdir():
            sync(path)
        sync(unfinished)
        os.rename(unfinished, target)
        sync(releases)
        copied.append(release_id)
    serving = manifest.serving
    missing = (serving,) if serving and not (releases / serving).is_dir() else ()
    return tuple(copied), missing


def _make_ready(folder: Path, ready: Path, key: bytes | None, progress: Progress) -> None:
    """Copy what a state directory holds."""
    if ready.exists():
        shutil.rmtree(ready)
    ready.mkdir(parents=True, mode=0o700)
    (ready / LOCK).touch()
    for name in (FILE, KEY, SERVING):
        if (folder / name).exists():
            progress(f"copying {name}", 0, 0)
            shutil.copyfile(folder / name, ready / name)
            (ready / name).chmod(0o644 if name == SERVING else 0o600)
    if key is not None:
        (ready / KEY).write_bytes(key)
        (ready / KEY).chmod(0o600)


def _aside(state: Path, now: float) -> str:
    """Where what stands there is moved to, "" when there is nothing in it."""
    if not state.exists() or all(path.name == LOCK for path in state.iterdir()):
        return ""
    aside = state.with_name(f"{state.name}.before-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}")
    if aside.exists():
        raise Conflict(f"{aside} is there already: move it away")
    return str(aside)


def _swap(ready: Path, state: Path, aside: str) -> None:
    """Put a directory in the place of another, which is moved aside when there is something in it."""
    if state.exists():
        if aside:
            os.rename(state, aside)
        else:
            shutil.rmtree(state)
    os.rename(ready, state)
    sync(state.parent)
