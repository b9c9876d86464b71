"""How long does it take to erase a person of whom much is recorded, and what do others notice of it?

    python loadtest/erase.py --json -

A server with a release and a background of other people's events gets users of so many events each (pushes and
decisions besides), and erases them one after the other. The bound is 2 seconds for 10,000 events. Meanwhile somebody
else records an event at a time: their times while nothing is erased and while something is stand side by side.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import tidings
from served import server
from shop import write_shop

BOUND = 2.0
BATCH = 1000


def fill(client: tidings.Client, user: str, events: int, items: int) -> None:
    """Record so many events of a user, every tenth a purchase, and send some pushes."""
    for start in range(0, events, BATCH):
        batch = [
            tidings.Event(
                user,
                "purchase" if number % 10 == 0 else "view",
                [f"item-{(number * 7919) % items}"],
                event_id=f"{user}-{number}",
            )
            for number in range(start, min(start + BATCH, events))
        ]
        client.record(batch)
    for number in range(50):
        client.send_push(user, f"Push {number}", request_id=f"{user}-{number}")


class Somebody:
    """Records an event at a time until told to stop, and notes how long each took."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = threading.Event()
        self.times: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        with tidings.Client(self._address, timeout=60) as client:
            while not self._stop.is_set():
                start = time.monotonic()
                client.record(tidings.Event("somebody", "view", ["item-1"]))
                self.times.append((start, time.monotonic() - start))

    def stop(self) -> None:
        """Wait until it has stopped."""
        self._stop.set()
        self._thread.join()

    def between(self, spans: Sequence[tuple[float, float]], inside: bool) -> list[float]:
        """How long those events took that began in any of these spans of time, or in none."""
        return [took for start, took in self.times if any(a <= start < b for a, b in spans) == inside]


def main() -> int:
    """Measure and print; the exit status is 1 when the bound is not held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000, help="of each user who is erased (default 10,000)")
    parser.add_argument("--others", type=int, default=200_000, help="events of other people (default 200,000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - is standard output")
    options = parser.parse_args()
    os.sched_setaffinity(0, {1 % (os.cpu_count() or 1)})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_shop(folder / "releases", options.items, 1000, time.time(), dim=16)
        (folder / "server.toml").write_text("push_max_per_day = 1000\nrecord_share = 1.0\n")
        given = ["--config", str(folder / "server.toml")]
        with (
            server(folder / "releases", folder / "state", given=given) as measured,
            tidings.Client(measured.address, timeout=120) as client,
        ):
            client.promote_release(manifest.release_id)
            users = [f"user-{number}" for number in range(options.rounds)]
            for first in range(0, options.others, 100 * BATCH):
                fill(client, f"other-{first}", min(100 * BATCH, options.others - first), options.items)
            for user in users:
                fill(client, user, options.events, options.items)
            somebody = Somebody(measured.address)
            time.sleep(1.0)
            took: list[float] = []
            spans: list[tuple[float, float]] = []
            rows = 0
            for user in users:
                start = time.monotonic()
                receipt = client.erase_profile(user)
                end = time.monotonic()
                took.append(end - start)
                spans.append((start, end))
                rows = sum(int(receipt.removed[what]) for what in ("events", "pushes", "decisions"))
                assert receipt.removed["events"] >= options.events, receipt
                print(f"{user}: {took[-1]:.2f} s, {dict(receipt.removed)}", file=sys.stderr)
                time.sleep(1.0)
            somebody.stop()
    meanwhile, else_ = somebody.between(spans, inside=True), somebody.between(spans, inside=False)
    figures = {
        "events": options.events,
        "rows": rows,
        "seconds": statistics.median(took),
        "seconds_worst": max(took),
        "rows_per_second": rows / statistics.median(took),
        "bound": BOUND,
        "held": max(took) <= BOUND,
        "record_p50_ms": statistics.median(else_) * 1e3,
        "record_p50_while_erasing_ms": statistics.median(meanwhile) * 1e3,
        "record_worst_while_erasing_ms": max(meanwhile) * 1e3,
    }
    if options.json == "-":
        print(json.dumps(figures))
    elif options.json:
        Path(options.json).write_text(json.dumps(figures) + "\n")
    else:
        for name, value in figures.items():
            print(f"{name:32} {value}")
    return 0 if figures["held"] else 1


if __name__ == "__main__":
    sys.exit(main())
