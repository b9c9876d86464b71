"""`tidings-server backup | restore | verify`: keeping what the server remembers."""

import json
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from tidings_core.errors import Conflict, InvalidInput, TidingsError
from tidings_core.stored import Erased
from tidings_server.adapters.backup_directory import (
    MANIFEST,
    BackupManifest,
    Which,
    check_files,
    read_backup,
    write_backup,
)
from tidings_server.adapters.carry_erasures import carry_over
from tidings_server.adapters.restore_directory import present_extent, refuse_newer
from tidings_server.adapters.restore_directory import restore as restore_directory
from tidings_server.adapters.sqlite_backup import Extent, Progress, open_copy
from tidings_server.adapters.sqlite_check import find_faults
from tidings_server.adapters.sqlite_erasures import read_erasures
from tidings_server.adapters.sqlite_schema import FILE, find_database, open_reader
from tidings_server.adapters.state_directory import KEY, KEY_BYTES, LOCK, read_file
from tidings_server.application.documents import read_document
from tidings_server.application.serving import read_serving
from tidings_server.faults import faults_as_lines
from tidings_server.settings import Settings
from tidings_server.show_progress import ShownProgress

_State = Annotated[Path, typer.Option(help="State directory of the server.", metavar="DIR", envvar="TIDINGS_STATE")]
_Releases = Annotated[Path, typer.Option(help="Directory of the releases.", metavar="DIR", envvar="TIDINGS_RELEASES")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def backup(
    out: Annotated[Path, typer.Argument(help="Directory to make.", metavar="BACKUP")],
    state: _State = Settings.model_fields["state"].default,
    releases: _Releases = Settings.model_fields["releases"].default,
    with_releases: Annotated[
        Which, typer.Option(help="Which releases to copy too: none, the serving one, all that were promoted.")
    ] = "none",
    without_key: Annotated[
        bool, typer.Option("--without-key", help="Leave the server's secret out; keep a copy of it elsewhere.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Back up the state directory, as it is at one moment. The server may be running and goes on.

    What was not finished is never taken for a backup: it stands under another name until all of it is on disk.
    """
    with faults_as_lines(), ShownProgress() as progress:
        manifest = write_backup(out, state, releases, with_releases, not without_key, time.time(), progress)
    told = {"backup": str(out), "bytes": manifest.bytes, **_described(manifest)}
    if as_json:
        print(json.dumps(told))
        return
    print(f"{out}: {manifest.bytes:,} bytes, {_extent(manifest.extent)}, of the history {manifest.extent.epoch}")
    if manifest.serving and manifest.serving not in manifest.releases:
        print(f"it serves release {manifest.serving}, which is not in it: keep a copy of {releases / manifest.serving}")


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found in a backup or a state directory."""

    faults: list[str]
    extent: Extent
    manifest: BackupManifest | None


def verify(
    path: Annotated[Path, typer.Argument(help="A backup, or a state directory.", metavar="PATH")],
    as_json: _Json = False,
) -> None:
    """Check a backup, or a state directory beside a running server or without one. Changes nothing.

    Of a backup every file is held against its checksum. Of both the pages of the database are checked, and what its
    tables promise each other: profiles can be read and are no further than the log, places lie within their streams,
    timers have their users, every event is known by its key. The exit status is 1 when something is wrong.
    """
    with faults_as_lines(), ShownProgress() as progress:
        found = find_damage(path, progress)
    if as_json:
        print(json.dumps({"path": str(path), "ok": not found.faults, "faults": found.faults, **asdict(found.extent)}))
    else:
        for fault in found.faults:
            print(f"tidings-server: {path}: {fault}", file=sys.stderr)
        if not found.faults:
            kind = "backup" if found.manifest else "state directory"
            print(f"the {kind} is whole: {_extent(found.extent)}, of the history {found.extent.epoch}")
    if found.faults:
        raise typer.Exit(1)


def restore(
    backup: Annotated[Path, typer.Argument(help="The backup.", metavar="BACKUP")],
    state: _State = Settings.model_fields["state"].default,
    releases: _Releases = Settings.model_fields["releases"].default,
    key: Annotated[
        Path | None, typer.Option(help="File with the server's secret, for a backup without it.", metavar="FILE")
    ] = None,
    keep_epoch: Annotated[
        bool,
        typer.Option(
            "--keep-epoch", help="No history was lost: the server was stopped for the backup, and did not run since."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also over a newer state, or another; it is moved aside, not deleted.")
    ] = False,
    erased_by: Annotated[
        list[Path] | None,
        typer.Option(help="Another state directory whose erasures to carry over. Repeatable.", metavar="DIR"),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Put a backup in the place of a state directory that is empty, missing or older. No server may run there.

    The backup is verified first. The history gets a new epoch, so that those who have offsets and tokens of what was
    lost are told so. What stood there is moved aside. Whoever was erased there since is erased from the backup's too.
    """
    carried = 0

    def carry(ready: Path) -> None:
        nonlocal carried
        own = read_file(ready, KEY) or b""
        for folder in (state, *(erased_by or ())):
            secret = read_file(folder, KEY)
            if secret is not None and (folder / FILE).exists():
                carried += carry_over(ready, _erased_in(folder, folder == state), secret, own)
            elif (folder / FILE).exists():
                _not_known(folder, f"it has no {KEY}")

    with faults_as_lines(), ShownProgress() as progress:
        _refuse_unknowing(erased_by or ())
        manifest = read_backup(backup)
        try:
            refuse_newer(state, present_extent(state), manifest.extent)
        except Conflict:
            if not force:
                raise
        found = find_damage(backup, progress)
        if found.faults:
            raise InvalidInput(*(("backup", f"{backup}: {fault}") for fault in found.faults))
        secret = None if key is None else _secret(key)
        done = restore_directory(backup, manifest, state, releases, secret, keep_epoch, carry, time.time(), progress)
    if as_json:
        print(json.dumps({"state": str(state), **asdict(done), "erased": carried}))
        return
    print(f"{state} is {backup} now: {_extent(done.extent)}, of the history {done.epoch}")
    if carried:
        print(f"erased from it: {carried:,} people who were erased since it was made")
    if done.aside:
        print(f"what stood there is {done.aside} now")
    for release_id in done.missing_releases:
        print(f"release {release_id} was promoted and is not in {releases}: put it there before the server starts")


def find_damage(path: Path, progress: Progress) -> Verified:
    """Check a backup or a state directory."""
    # A server leaves its lock in its directory; whatever else has no manifest is no backup.
    if (path / MANIFEST).exists() or not (path / LOCK).exists():
        manifest = read_backup(path)
        faults = check_files(path, manifest, progress)
        if faults:
            # What a changed file holds says nothing more.
            return Verified(faults, manifest.extent, manifest)
        with closing(open_copy(path / FILE)) as connection:
            faults, extent = find_faults(connection, path / FILE, read_document, progress)
        if not faults and extent != manifest.extent:
            faults = [f"{FILE} goes to {extent}, the manifest says {manifest.extent}"]
    else:
        manifest = None
        find_database(path)
        with closing(open_reader(path)) as connection:
            faults, extent = find_faults(connection, path / FILE, read_document, progress)
    return Verified(faults + _check_small(path, manifest), extent, manifest)


def _check_small(path: Path, manifest: BackupManifest | None) -> list[str]:
    """What is wrong with the key and the record of what was promoted."""
    faults = []
    secret = read_file(path, KEY)
    if (secret is None and manifest is None) or (secret is not None and len(secret) != KEY_BYTES):
        faults.append(f"{KEY} has {len(secret or b'')} bytes, must have {KEY_BYTES}")
    try:
        read_serving(lambda name: read_file(path, name))
    except TidingsError as error:
        faults.append(str(error))
    return faults


def _refuse_unknowing(folders: Iterable[Path]) -> None:
    """Raise InvalidInput when a directory was named for its erasures and has none to tell: people would be back."""
    lacking = ((folder, name) for folder in folders for name in (FILE, KEY) if not (folder / name).is_file())
    if faults := [
        ("erased-by", f"there is no {folder / name}: name a state directory or a backup with its {KEY}")
        for folder, name in lacking
    ]:
        raise InvalidInput(*faults)


def _erased_in(folder: Path, may_fail: bool) -> list[Erased]:
    """Who was erased by a state directory; of one that `may_fail` and cannot be read, nobody is known: that is said."""
    try:
        return read_erasures(folder)
    except TidingsError as error:
        if may_fail:
            _not_known(folder, str(error))
            return []
        raise


def _not_known(folder: Path, problem: str) -> None:
    words = (
        "people who were erased since the backup was made may be back; restore again with --erased-by and a later one"
    )
    print(f"tidings-server: who was erased by {folder} cannot be told ({problem}): {words}", file=sys.stderr)


def _secret(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(("key", f"{file} cannot be read: {error.strerror}")) from error


def _described(manifest: BackupManifest) -> dict[str, object]:
    fields = asdict(manifest)
    extent = fields.pop("extent")
    return {**extent, **{name: fields[name] for name in ("made_at", "live", "serving", "releases")}}


def _extent(extent: Extent) -> str:
    return f"{extent.events:,} events, {extent.catalogue:,} changes of the catalogue, {extent.decisions:,} decisions"
