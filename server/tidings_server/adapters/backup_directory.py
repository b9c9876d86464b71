"""A backup: one directory, one manifest with the checksum of every file, written whole or not at all.

manifest.json   what it is a backup of, and size and SHA-256 of every other file; written last
tidings.db      the database as it was at one moment
key             the server's secret, unless it was left out
serving.json    what was promoted at that moment, when anything was
releases/ID/    releases, when they were asked for
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from tidings_core.errors import Conflict, InUse, InvalidInput
from tidings_core.release import RELEASE_ID, read_manifest
from tidings_server.adapters.sqlite_backup import Extent, Progress, copy_database
from tidings_server.adapters.sqlite_schema import FILE, find_database
from tidings_server.adapters.state_directory import KEY, held_if_free, read_file

MANIFEST = "manifest.json"
SERVING = "serving.json"
RELEASES = "releases"
FORMAT = 1
UNFINISHED = ".unfinished"
BLOCK = 1 << 20
Which = Literal["none", "serving", "all"]
"""Which releases are copied: none, the serving one, or also those that one can roll back to."""
_PATH = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){0,2}")


@dataclass(frozen=True, slots=True)
class FileInfo:
    """Size and SHA-256 of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BackupManifest:
    """What a backup says of itself. `made_at` is Unix seconds; `live`: a server ran beside it, and went on after it.

    `serving` is the promoted release, "" when there was none; `releases` those that are in the backup.
    """

    format: int
    made_at: float
    live: bool
    extent: Extent
    serving: str
    releases: tuple[str, ...]
    files: Mapping[str, FileInfo]

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(info.bytes for info in self.files.values())


def write_backup(
    out: Path, state: Path, releases: Path, which: Which, with_key: bool, now: float, progress: Progress
) -> BackupManifest:
    """Back up a state directory into a new directory, beside a running server or without one, as of one moment.

    `which` says which releases of the directory `releases` are copied along. It stands under another name until all of
    it is on disk. Raises InvalidInput, InUse while another backup writes there,
    NotFound for a release that is not there, StorageFull or StorageFailed; then there is no backup.
    """
    find_database(state)
    if out.exists():
        raise InvalidInput(("out", f"{out} is there already: name a directory that is not"))
    with held_if_free(state) as stopped, _unfinished(out) as folder:
        extent, serving = copy_database(state, folder / FILE, progress, lambda: read_file(state, SERVING))
        if with_key:
            _write(folder / KEY, read_file(state, KEY) or b"")
        if serving is not None:
            _write(folder / SERVING, serving)
        promoted = _promoted(serving)
        copied = _chosen(promoted, releases, which)
        for release_id in copied:
            read_manifest(releases / release_id)
            progress(f"copying release {release_id}", 0, 0)
            shutil.copytree(releases / release_id, folder / RELEASES / release_id)
        files = {name: _describe(folder / name, name, progress) for name in _names(folder)}
        manifest = BackupManifest(FORMAT, now, not stopped, extent, promoted[0] if promoted else "", copied, files)
        for name in files:
            sync(folder / name)
        _write(folder / MANIFEST, _seal(asdict(manifest)))
        sync(folder / MANIFEST)
        for path in (*sorted(folder.glob(f"{RELEASES}/*")), folder / RELEASES, folder):
            if path.is_dir():
                sync(path)
        os.rename(folder, out)
    sync(out.parent)
    return manifest


def read_backup(folder: Path) -> BackupManifest:
    """The manifest of a backup. Raises InvalidInput when the directory is none, or was not finished."""
    if folder.name.endswith(UNFINISHED):
        raise _refused(folder, "was not finished: its server or machine stopped in the middle; take another")
    try:
        fields = json.loads((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise _refused(folder, f"is no backup: {MANIFEST} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise _refused(folder, f"is damaged: {MANIFEST} is not JSON ({error})") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise _refused(folder, f"is no backup that this version reads: {MANIFEST} has no format {FORMAT}")
    if fields.pop("sha256", None) != _body_hash(fields):
        raise _refused(folder, f"is damaged: {MANIFEST} has been changed, its SHA-256 is not the one it carries")
    try:
        manifest = TypeAdapter(BackupManifest).validate_python(fields)
    except ValidationError as error:
        raise _refused(folder, f"is damaged: {MANIFEST} says {error.errors()[0]['msg']}") from error
    for name in manifest.files:
        if not _PATH.fullmatch(name):
            raise _refused(folder, f"is damaged: {MANIFEST} names a file {name!r}")
    if FILE not in manifest.files:
        raise _refused(folder, f"is damaged: {MANIFEST} names no {FILE}")
    return manifest


def check_files(folder: Path, manifest: BackupManifest, progress: Progress) -> list[str]:
    """What is wrong with the files of a backup: cut, changed, missing, or more than there should be."""
    faults = []
    for name, info in manifest.files.items():
        try:
            size = (folder / name).stat().st_size
            if size != info.bytes:
                faults.append(f"{name} has {size} bytes, must have {info.bytes}")
            elif _describe(folder / name, name, progress) != info:
                faults.append(f"{name} has been changed: its SHA-256 is not the manifest's")
        except OSError as error:
            faults.append(f"{name} cannot be read: {error.strerror}")
    extra = sorted({*_names(folder)} - {*manifest.files, MANIFEST})
    return faults + [f"{name} is not in the manifest" for name in extra]


def _promoted(serving: bytes | None) -> list[str]:
    """The releases that the record names, the serving one first. A damaged record is copied as it is."""
    try:
        fields = json.loads(serving or b"{}")
        named = [fields.get("serving", ""), *reversed(fields.get("earlier", []))]
    except (ValueError, AttributeError, TypeError):
        return []
    return [name for name in dict.fromkeys(named) if isinstance(name, str) and RELEASE_ID.match(name)]


def _chosen(promoted: Sequence[str], releases: Path, which: Which) -> tuple[str, ...]:
    """The serving release must be there when it is wanted; of those before it, those that still are."""
    if which == "none":
        return ()
    return (*promoted[:1], *(name for name in promoted[1:] if which == "all" and (releases / name).is_dir()))


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _describe(file: Path, name: str, progress: Progress) -> FileInfo:
    digest, size, done = hashlib.sha256(), file.stat().st_size, 0
    # A release has some sixty files, and is one step.
    release = Path(name).parts[:2]
    step = f"checking release {release[1]}" if release[0] == RELEASES and len(release) > 1 else f"checking {name}"
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
            done += len(block)
            progress(step, done, size)
    return FileInfo(done, digest.hexdigest())


@contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
    """A new directory beside `out`, held while it is written, gone when that fails. One left by a crash makes way."""
    folder = out.with_name(out.name + UNFINISHED)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InvalidInput(("out", f"{folder} cannot be made: {error.strerror}")) from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUse(
                f"another backup is being written to {folder}: let it end, or name another directory"
            ) from error
        try:
            _empty(folder)
            yield folder
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise Conflict(f"the backup could not be written: {error.filename}: {error.strerror}") from error
            raise
    finally:
        os.close(held)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _refused(folder: Path, problem: str) -> InvalidInput:
    return InvalidInput(("backup", f"{folder} {problem}"))


def _write(file: Path, content: bytes) -> None:
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(content)


def sync(path: Path) -> None:
    """Put a file, or the names in a directory, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _seal(fields: dict[str, Any]) -> bytes:
    """A manifest: its fields and the SHA-256 of them."""
    return json.dumps(fields | {"sha256": _body_hash(fields)}, indent=1, sort_keys=True).encode() + b"\n"


def _body_hash(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
