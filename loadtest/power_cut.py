"""A power cut after kill -9: what a process wrote and did not sync is undone, all of it or a random part.

`unsynced.c`, preloaded into the process, keeps the record; `cut` applies it when the process is dead.
"""

import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SOURCE = Path(__file__).with_name("unsynced.c")
SECTOR = 512
"""Bytes that a disk writes whole or not at all."""
_HEADER = struct.Struct("=IIQQQQQQ")
_MAGIC = 0x4F444E55
_WRITE, _RESIZE, _SYNCED = 1, 2, 3

Loss = Literal["all", "some"]
"""What a power cut takes of the unsynced writes: all, or a random part, writes torn at sectors among them."""


class NoCompiler(RuntimeError):
    """There is no C compiler, without which a power cut cannot be played."""


@dataclass(frozen=True, slots=True)
class _Record:
    kind: int
    number: int
    size_before: int
    offset: int
    path: Path
    old: bytes
    new: bytes


@dataclass(frozen=True)
class ForgetfulDisk:
    """A watched directory: the preloaded library, its log of unsynced writes, and the file that makes the disk full."""

    library: Path
    directory: Path
    log: Path
    full: Path

    @classmethod
    def prepare(cls, directory: Path, aside: Path) -> "ForgetfulDisk":
        """Compile the library into `aside`, a directory outside the watched one. Raises NoCompiler."""
        return cls(compile_library(aside), directory.resolve(), aside / "unsynced.log", aside / "full")

    def environment(self) -> Mapping[str, str]:
        """Variables of the process to watch."""
        return {
            "LD_PRELOAD": str(self.library),
            "UNSYNCED_DIR": str(self.directory),
            "UNSYNCED_LOG": str(self.log),
            "UNSYNCED_FULL": str(self.full),
        }

    def set_full(self, full: bool) -> None:
        """Make the disk full, or give it room again."""
        if full:
            self.full.touch()
        else:
            self.full.unlink(missing_ok=True)

    def cut(self, loss: Loss, seed: int) -> int:
        """Take away unsynced writes, the process being dead, and SQLite's shared memory; returns how many they were."""
        records = list(_unsynced(self.log.read_bytes())) if self.log.exists() else []
        for record in reversed(records):
            _undo(record)
        if loss == "some":
            chance = random.Random(seed)
            for record in records:
                _redo_some(record, chance)
        self.log.unlink(missing_ok=True)
        for shared in self.directory.rglob("*-shm"):
            shared.unlink()
        return len(records)


def compile_library(aside: Path) -> Path:
    """Compile `unsynced.c` into a directory. Raises NoCompiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompiler("there is no C compiler (cc): install one to play power cuts")
    library = aside / "unsynced.so"
    options = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, "-o", str(library), str(SOURCE), "-lpthread"], check=True)
    return library


def _unsynced(log: bytes) -> Iterator[_Record]:
    """The changes that no later sync of their file covers, in order. A record cut short at the end tells of nothing."""
    records = list(_records(log))
    synced: dict[Path, int] = {}
    for record in records:
        if record.kind == _SYNCED:
            synced[record.path] = max(record.number, synced.get(record.path, 0))
    for record in records:
        if record.kind != _SYNCED and record.number > synced.get(record.path, 0):
            yield record


def _records(log: bytes) -> Iterator[_Record]:
    at = 0
    while at + _HEADER.size <= len(log):
        magic, kind, number, size, offset, *lengths = _HEADER.unpack_from(log, at)
        if magic != _MAGIC:
            raise ValueError(f"the log of unsynced writes is damaged at byte {at}")
        at += _HEADER.size
        if at + sum(lengths) > len(log):
            return
        # The header has the length of the path last, the log has the path first.
        old_bytes, new_bytes, path_bytes = lengths
        path = Path(os.fsdecode(log[at : at + path_bytes]))
        at += path_bytes
        old, new = log[at : at + old_bytes], log[at + old_bytes : at + old_bytes + new_bytes]
        at += old_bytes + new_bytes
        yield _Record(kind, number, size, offset, path, old, new)


def _undo(record: _Record) -> None:
    if record.path.exists():
        with record.path.open("r+b") as file:
            file.seek(record.offset)
            file.write(record.old)
            file.truncate(record.size_before)


def _redo_some(record: _Record, chance: random.Random) -> None:
    """Do a change again that had reached the disk: whole, in part, or not at all."""
    fate = chance.random()
    if fate < 0.4 or not record.path.exists():
        return
    with record.path.open("r+b") as file:
        if record.kind == _RESIZE:
            file.truncate(record.offset)
            return
        start = record.offset
        while start < record.offset + len(record.new):
            end = min(record.offset + len(record.new), (start // SECTOR + 1) * SECTOR)
            if fate > 0.7 or chance.random() < 0.5:
                file.seek(start)
                file.write(record.new[start - record.offset : end - record.offset])
            start = end
