"""The state directory: small files that survive a crash, held by one server at a time."""

import fcntl
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidings_core.errors import Conflict, InUse, InvalidInput

LOCK = "lock"
KEY = "key"
KEY_BYTES = 32


class StateDirectory:
    """A directory of small files. Holds a lock on it from `open` to `close`.

    It holds `lock` (the process that has it), `key` (32 random bytes, this server's secret, mode 0600, made once) and
    the files that `write` made.
    """

    def __init__(self, path: Path, lock: int, key: bytes) -> None:
        """Use `StateDirectory.open`."""
        self._path = path
        self._lock = lock
        self._writing = threading.Lock()
        self._closed = False
        self.key = key

    @classmethod
    def open(cls, path: Path) -> "StateDirectory":
        """Make the directory if need be, lock it, and read or make its key.

        Raises InUse while another process holds it, InvalidInput when it cannot be written or its key is damaged.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            _hold(lock, path)
            _sweep(path)
            return cls(path, lock, _key(path))
        except OSError as error:
            os.close(lock)
            raise _unusable(path, error) from error
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Let go of the directory, after a write that is under way. Nothing is written afterwards."""
        with self._writing:
            self._closed = True
            os.close(self._lock)

    def read(self, name: str) -> bytes | None:
        """The content of a file, None when there is none. Raises InvalidInput when it cannot be read."""
        return read_file(self._path, name)

    def write(self, name: str, content: bytes) -> None:
        """Replace a file, whole or not at all; on return it survives a crash.

        Raises Conflict when it cannot be written, or was let go of; then the old content stands.
        """
        with self._writing:
            if self._closed:
                raise Conflict(f"{self._path} is let go of: the server is stopping; nothing was changed")
            try:
                _write(self._path / name, content, 0o644)
            except OSError as error:
                where = self._path / name
                raise Conflict(f"{where} cannot be written: {error.strerror}; nothing was changed") from error


def read_file(directory: Path, name: str) -> bytes | None:
    """The content of a file of a state directory, None when there is none. Changes nothing, and needs no lock.

    Raises InvalidInput when it cannot be read.
    """
    try:
        return (directory / name).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(directory / name, error) from error


@contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """Keep servers out of a state directory meanwhile, when none runs there. False, and nothing held, while one does.

    Raises InvalidInput when the directory is not there or cannot be used.
    """
    try:
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)


def _unusable(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(("state", f"{error.filename or path} cannot be used: {error.strerror}"))


def _hold(lock: int, path: Path) -> None:
    """Lock the open lock file and leave this process's number in it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise InUse(
            f"the state directory {path} is in use by another server (process {holder}): "
            "stop that one, or give this one a directory of its own with --state"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _sweep(path: Path) -> None:
    """Remove what a server that died while writing left behind."""
    for left in path.glob("*.unfinished"):
        left.unlink()


def _key(path: Path) -> bytes:
    file = path / KEY
    if not file.exists():
        _write(file, secrets.token_bytes(KEY_BYTES), 0o600)
    key = file.read_bytes()
    if len(key) != KEY_BYTES:
        raise InvalidInput(
            ("state", f"{file} has {len(key)} bytes, must have {KEY_BYTES}: remove it to make a new one")
        )
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise InvalidInput(("state", f"{file} can be read by others: set its mode to 0600"))
    return key


def _write(file: Path, content: bytes, mode: int) -> None:
    unfinished = file.with_name(f"{file.name}.unfinished")
    try:
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(handle)
        os.replace(unfinished, file)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    # The rename itself must reach the disk too.
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
