"""Does a server that dies at any moment, with all that the disk had not yet been told to keep, keep its promises?

    python loadtest/crash.py --rounds 10 --json -

Each round starts a real server, asks it for many things at once (events singly and in batches, with repeats; pushes,
with repeats; streams with acknowledgements; visitors merged into people; items upserted, priced and deleted, which are
folded back into one release after the other meanwhile; people erased; history imported on and on; recommendations that
must see a write; backups, whose maker dies too), kills it with SIGKILL at a random moment, takes from the disk what was
not synced (mode drop: all of it or a random part), starts it again, and holds it against what clients were promised.
Sometimes it is killed again while it starts. Needs a C compiler but for mode kill.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backup_promises import Backups
from catalogue_promises import judge_items
from power_cut import ForgetfulDisk, Loss, NoCompiler
from promises import TRIGGER, Load, Promises, Shop, Tally, judge
from shop import write_shop
from tidings import Client

ITEMS, USERS = 2_000, 12
START_SECONDS = 60.0
FOLD_SECONDS = 20.0
CONFIG = f"""
push_max_per_day = 1000
push_history = 10000
fold_items = 10
fold_every_seconds = 0
[cleaning]
events_per_minute = 0
events_per_day = 0
[trigger.{TRIGGER}]
event = "purchase"
serving_config = "for-you"
template = "{TRIGGER}"
[template.{TRIGGER}]
title = "Goes with it: {{{{ item.title or item.item_id }}}}"
"""

Mode = Literal["kill", "drop"]


class NotStarted(RuntimeError):
    """The server does not start, and says why."""


@dataclass
class Server:
    """A server process, started again and again on one state directory."""

    folder: Path
    disk: ForgetfulDisk | None
    process: "subprocess.Popen[bytes] | None" = None

    @contextmanager
    def answering(self) -> Iterator[str]:
        """Start it and give its address; kill it on leaving."""
        log = self.start()
        try:
            end = time.monotonic() + START_SECONDS
            while not (found := re.search(r'"grpc":\s*"([^"]+)"', log.read_text())):
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > end:
                    raise NotStarted(f"the server did not start:\n{log.read_text()}")
                time.sleep(0.01)
            yield found[1]
        finally:
            self.kill()

    def start(self) -> Path:
        """Start it without waiting for anything; returns the file of what it says."""
        log = self.folder / "server.log"
        command = [sys.executable, "-m", "tidings_server", "--config", str(self.folder / "server.toml")]
        command += ["--releases", str(self.folder / "releases"), "--state", str(self.folder / "state")]
        command += [
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--log-format",
            "json",
            "--log-level",
            "warning",
        ]
        preload: Mapping[str, str] = self.disk.environment() if self.disk else {}
        with log.open("w") as said:
            self.process = subprocess.Popen(command, env={**os.environ, **preload}, stdout=said, stderr=said)
        return log

    def kill(self) -> None:
        """Kill it, at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def run(rounds: int, mode: str, seed: int, seconds: float) -> dict[str, object]:
    """Crash so many times; returns the figures. `seconds` is how long a round's load lasts at most."""
    begun, chance = time.monotonic(), random.Random(seed)
    promises, tally = Promises(), Tally()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("state", "aside", "backups"):
            (folder / part).mkdir()
        backups = Backups(folder / "state", folder / "backups", promises)
        (folder / "server.toml").write_text(CONFIG)
        disk = None if mode == "kill" else ForgetfulDisk.prepare(folder / "state", folder / "aside")
        manifest = write_shop(folder / "releases", ITEMS, 200, time.time(), dim=16, searchable=True)
        server, dropped = Server(folder, disk), 0
        with server.answering() as address, Client(address) as client:
            client.promote_release(manifest.release_id)
        turn = 0
        for turn in range(rounds):
            try:
                dropped += _crash(server, promises, tally, backups, chance, _mode(mode, turn), turn, seed, seconds)
            except NotStarted as dead:
                tally.check(False, "corrupt", str(dead))
                break
            told = f"{tally.checked} promises checked, {tally.lost} lost, {tally.doubled} doubled"
            print(f"round {turn + 1} of {rounds}: {told}", file=sys.stderr)
        # A process that folds ends soon after its server: then nothing writes here any more.
        time.sleep(1.0)
        return {
            "rounds": turn + 1,
            "mode": mode,
            "seed": seed,
            "promises_checked": tally.checked,
            "lost": tally.lost,
            "doubled": tally.doubled,
            "corrupt": tally.corrupt,
            "faults": tally.said,
            "events": len(promises.accepted),
            "pushes": sum(map(len, promises.received.values())),
            "items": len(promises.items),
            "erased": len(promises.erased.answered),
            "merges": len(promises.merges.merged),
            "imported_rows": promises.imported.done,
            "folds": _folds(folder / "state"),
            "backups": backups.finished,
            "unfinished_backups": backups.unfinished,
            "acknowledged": sum(promises.acknowledged.values()),
            "unsynced_writes": dropped,
            "seconds": round(time.monotonic() - begun, 1),
        }


def _folds(state: Path) -> int:
    """How many releases answered after the first: each came of folding changes back."""
    return len(json.loads((state / "serving.json").read_text())["promote_times"]) - 1


def _crash(
    server: Server,
    promises: Promises,
    tally: Tally,
    backups: Backups,
    chance: random.Random,
    mode: Mode,
    turn: int,
    seed: int,
    seconds: float,
) -> int:
    """One round; returns how many writes were not synced when the server died."""
    users = [f"user-{number}" for number in range(USERS)]
    with server.answering() as address, closing(Shop(address)) as shop:
        load = Load(shop, promises, tally, users, ITEMS, seed, turn)
        with load.running(), backups.running(chance):
            time.sleep(chance.uniform(0.2, seconds))
            server.kill()
    dropped = _cut(server, chance, mode)
    if chance.random() < 0.3:
        server.start()
        time.sleep(chance.uniform(0.5, 2.5))
        server.kill()
        dropped += _cut(server, chance, mode)
    backups.judge(tally)
    with server.answering() as address, closing(Shop(address)) as shop:
        judge(shop, promises, tally, server.folder / "state" / "tidings.db", users)
        # Most folds die with the server. Now and then one may end, and its release takes over.
        if chance.random() < 0.5 and _await_fold(server.folder / "state"):
            judge_items(shop, promises.items, tally)
    return dropped + _cut(server, chance, mode)


def _await_fold(state: Path) -> bool:
    """Wait until another release answers; False when none does for long."""
    before, end = _folds(state), time.monotonic() + FOLD_SECONDS
    while _folds(state) == before and time.monotonic() < end:
        time.sleep(0.05)
    return _folds(state) > before


def _cut(server: Server, chance: random.Random, mode: Mode) -> int:
    if server.disk is None:
        return 0
    if mode == "kill":
        # The page cache survives a kill: all that was written counts as synced.
        server.disk.log.unlink(missing_ok=True)
        return 0
    loss: Loss = chance.choice(("all", "some"))
    return server.disk.cut(loss, chance.randrange(1 << 30))


def _mode(mode: str, turn: int) -> Mode:
    return "kill" if mode == "kill" or (mode == "both" and turn % 2 == 0) else "drop"


def main() -> int:
    """Crash and tell; the exit status is 1 when a promise was not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--mode", choices=("kill", "drop", "both"), default="both")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load before a crash at most (default 3)")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - is standard output")
    options = parser.parse_args()
    try:
        figures = run(options.rounds, options.mode, options.seed, options.seconds)
    except NoCompiler as missing:
        raise SystemExit(f"{missing}; or use --mode kill") from missing
    text = json.dumps(figures, indent=2)
    if options.json == "-":
        print(text)
    elif options.json:
        Path(options.json).write_text(text)
    with suppress(BrokenPipeError):
        print(text, file=sys.stderr)
    return 1 if figures["lost"] or figures["doubled"] or figures["corrupt"] else 0


if __name__ == "__main__":
    sys.exit(main())
