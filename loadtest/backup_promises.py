"""Whether a finished backup is whole and holds what was promised, however its maker or the server died.

A part of the load of loadtest/crash.py. Run as a program it makes one backup after the other, each when told to.
"""

import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from promises import Promises, Tally
from tidings_core.errors import InvalidInput
from tidings_server.adapters.backup_directory import UNFINISHED, read_backup, write_backup
from tidings_server.adapters.sqlite_schema import FILE
from tidings_server.keep_cli import find_damage

MOST_PAUSE = 0.2


def _silent(step: str, done: int = 0, total: int = 0) -> None:
    pass


@dataclass
class Backups:
    """Makes backups of a state directory while the server works and dies, and judges them afterwards."""

    state: Path
    folder: Path
    promises: Promises
    finished: int = 0
    unfinished: int = 0
    _held: dict[str, frozenset[str]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def running(self, chance: random.Random) -> Iterator[None]:
        """Make one after the other. On leaving, whoever makes them is killed, in the middle of one as often as not."""
        command = [sys.executable, __file__, str(self.state), str(self.folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
            assert maker.stdout is not None
            maker.stdout.readline()
            ended = threading.Event()
            teller = threading.Thread(target=self._tell, args=(maker, ended, random.Random(chance.random())))
            teller.start()
            try:
                yield
            finally:
                ended.set()
                maker.kill()
                teller.join()

    def _tell(self, maker: "subprocess.Popen[str]", ended: threading.Event, chance: random.Random) -> None:
        assert maker.stdin is not None
        assert maker.stdout is not None
        while not ended.wait(chance.uniform(0, MOST_PAUSE)):
            name = str(next(self._numbers))
            # What is accepted by now must be in it.
            self._held[name] = frozenset(self.promises.accepted)
            try:
                maker.stdin.write(f"{name}\n")
                maker.stdin.flush()
            except OSError:
                return
            if not maker.stdout.readline():
                return

    def judge(self, tally: Tally) -> None:
        """Hold what was made against what it must be, and take it away."""
        for path in sorted(self.folder.iterdir()):
            if path.name.endswith(UNFINISHED):
                self.unfinished += 1
                tally.check(_refused(path), "corrupt", f"the unfinished backup {path.name} is taken for one")
            else:
                self.finished += 1
                faults = find_damage(path, _silent).faults
                tally.check(not faults, "corrupt", f"backup {path.name}: {faults[:3]}")
                with closing(sqlite3.connect(f"{(path / FILE).absolute().as_uri()}?immutable=1", uri=True)) as reader:
                    events = {name for (name,) in reader.execute("SELECT event_id FROM events")}
                missing = self._held[path.name] - events
                tally.check(not missing, "lost", f"backup {path.name} lacks {len(missing)} accepted events")
            shutil.rmtree(path)


def _refused(path: Path) -> bool:
    try:
        read_backup(path)
    except InvalidInput:
        return True
    return False


def main() -> None:
    """Make a backup for each name that is told on standard input, and say when it is done."""
    state, folder = map(Path, sys.argv[1:])
    print("ready", flush=True)
    for line in sys.stdin:
        write_backup(folder / line.strip(), state, state / "none", "none", True, time.time(), _silent)
        print("done", flush=True)


if __name__ == "__main__":
    main()
