"""How long from an event to the push that it calls for, on another connection, on a subscriber's open stream?

One run measures, on the same release, machine and disk, for random users:

  F1       the whole recommendation of one user in process, with its candidates kept for the record
  commits  the two commits that a push cannot do without (event and profile; push and ledger), as bare SQLite
           transactions of the same size, one after the other, with the same fsync policy
  unloaded an event, its push, the next event: one at a time
  half     events at random times (Poisson), half as many as the server can turn into pushes

and prints p50 and p99 of event to push, and both over F1 + commits. The server has core 0, clients and floors core 1.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import tidings
import tidings.aio
from served import server
from shop import write_shop
from tidings_core.model import SERVING_CONFIGS, Query
from tidings_core.recommend import recommend
from tidings_core.release import open_release

CONFIG = """
push_max_per_day = 1000
[cleaning]
events_per_minute = 0
events_per_day = 0
[trigger.bought]
event = "purchase"
serving_config = "for-you"
template = "bought"
k = 3
[template.bought]
title = "For you: {{ item.title or item.item_id }}"
"""
IN_FLIGHT = 64
PATIENCE = 30.0
"""Seconds after which a push is missing."""


def measure_f1(folder: Path, seconds: float, seed: int) -> float:
    """Seconds of one user's recommendation in process, with its candidates kept: the median over random users."""
    snapshot = open_release(folder).snapshot
    users = np.random.default_rng(seed).integers(0, len(snapshot.users), 100_000)
    took: list[float] = []
    end = time.perf_counter() + seconds
    for user in users:
        start = time.perf_counter()
        recommend([Query(snapshot.users[int(user)], SERVING_CONFIGS["for-you"], 3)], snapshot, time.time(), keep=True)
        took.append(time.perf_counter() - start)
        if time.perf_counter() > end:
            break
    return statistics.median(took)


def measure_commits(folder: Path, rounds: int = 300) -> float:
    """Seconds of the two commits of one push, as bare transactions with synchronous=FULL: the median."""
    database = sqlite3.connect(folder / "floor.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    for table in ("events", "users", "timers", "pushes", "ledger"):
        database.execute(f"CREATE TABLE {table} (key TEXT PRIMARY KEY, content BLOB)")
    event, document, record = os.urandom(120), os.urandom(1_500), os.urandom(3_000)
    took: list[float] = []
    for number in range(rounds):
        start = time.perf_counter()
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO events VALUES (?, ?)", (f"event-{number}", event))
        database.execute("INSERT OR REPLACE INTO users VALUES (?, ?)", (f"user-{number % 50}", document))
        database.execute("INSERT INTO timers VALUES (?, ?)", (f"timer-{number}", event))
        database.execute("COMMIT")
        database.execute("BEGIN IMMEDIATE")
        database.execute("DELETE FROM timers WHERE key = ?", (f"timer-{number}",))
        database.execute("INSERT INTO pushes VALUES (?, ?)", (f"push-{number}", event))
        database.execute("INSERT INTO ledger VALUES (?, ?)", (f"decision-{number}", record))
        database.execute("INSERT OR REPLACE INTO users VALUES (?, ?)", (f"user-{number % 50}", document))
        database.execute("COMMIT")
        took.append(time.perf_counter() - start)
    database.close()
    return statistics.median(took)


class Shoppers:
    """Subscribed users on one connection, and their events on another."""

    def __init__(self, address: str, users: Sequence[str], items: int, seed: int) -> None:
        """`items` is the number of items of the shop, `item-0` and so on; `seed` is another one each round."""
        self._address = address
        self._users = users
        self._items = items
        self._round = seed
        self._random = np.random.default_rng(seed)
        self._pushed: dict[str, asyncio.Future[float]] = {}
        self._number = 0

    async def __aenter__(self) -> "Shoppers":
        """Connect, and subscribe for everyone."""
        self._events = tidings.aio.Client(self._address, timeout=PATIENCE)
        self._streams = tidings.aio.Client(self._address, timeout=PATIENCE)
        self._listeners = [asyncio.create_task(self._listen(user)) for user in self._users]
        # Everyone's first push shows that the stream is open.
        await asyncio.gather(*(self.act(user) for user in self._users))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Unsubscribe and disconnect."""
        for listener in self._listeners:
            listener.cancel()
        await asyncio.gather(*self._listeners, return_exceptions=True)
        await self._streams.close()
        await self._events.close()

    async def act(self, user: str | None = None) -> float:
        """Record a purchase of a random user, wait for the push, and return the seconds between."""
        self._number += 1
        event_id = f"{self._round}-{self._number}"
        user = user or self._users[int(self._random.integers(len(self._users)))]
        item = f"item-{int(self._random.integers(self._items))}"
        self._pushed[event_id] = asyncio.get_running_loop().create_future()
        start = time.perf_counter()
        recorded = await self._events.record(tidings.Event(user, "purchase", items=[item], event_id=event_id))
        assert recorded.verdicts[0].status is tidings.EventStatus.ACCEPTED
        arrived = await asyncio.wait_for(self._pushed[event_id], PATIENCE)
        del self._pushed[event_id]
        return arrived - start

    async def _listen(self, user: str) -> None:
        async with self._streams.subscribe(user) as pushes:
            async for push in pushes:
                waiting = self._pushed.get(push.event_id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(time.perf_counter())

    async def one_by_one(self, seconds: float) -> list[float]:
        """One event at a time."""
        took: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            took.append(await self.act())
        return took

    async def saturated(self, seconds: float) -> float:
        """Events turned into pushes per second, `IN_FLIGHT` at a time."""
        count = 0
        start = time.perf_counter()

        async def loop() -> None:
            nonlocal count
            while time.perf_counter() < start + seconds:
                await self.act()
                count += 1

        await asyncio.gather(*(loop() for _ in range(IN_FLIGHT)))
        return count / (time.perf_counter() - start)

    async def at_rate(self, per_second: float, seconds: float) -> list[float]:
        """Events at random times, so many per second on average, whatever the server does."""
        calls: list[asyncio.Task[float]] = []
        due = time.perf_counter()
        end = due + seconds
        while due < end:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            calls.append(asyncio.create_task(self.act()))
            due += float(self._random.exponential(1.0 / per_second))
        return list(await asyncio.gather(*calls))


async def measure(address: str, users: Sequence[str], items: int, seconds: float, seed: int) -> dict[str, float]:
    """The latencies of one round, in seconds, and the rates."""
    async with Shoppers(address, users, items, seed) as shoppers:
        alone = await shoppers.one_by_one(seconds)
        most = await shoppers.saturated(seconds)
        half = await shoppers.at_rate(most / 2, seconds)
    return {
        "unloaded_p50": float(np.percentile(alone, 50)),
        "unloaded_p99": float(np.percentile(alone, 99)),
        "pushes_per_second": most,
        "half_p50": float(np.percentile(half, 50)),
        "half_p99": float(np.percentile(half, 99)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default 5)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--subscribers", type=int, default=200)
    parser.add_argument("--front", default="grpcio", choices=("grpcio", "native"))
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - is standard output")
    options = parser.parse_args()
    os.sched_setaffinity(0, {1 % (os.cpu_count() or 1)})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"building a shop of {options.items:,} items", file=sys.stderr)
        manifest = write_shop(folder / "releases", options.items, options.users, time.time())
        (folder / "server.toml").write_text(CONFIG)
        rounds: list[dict[str, float]] = []
        given = ["--config", str(folder / "server.toml")]
        with (
            server(folder / "releases", folder / "state", options.front, given=given) as measured,
            # One loop for all rounds: gRPC tells calls of an earlier one that they ended when the next one runs.
            asyncio.Runner() as runner,
        ):
            with tidings.Client(measured.address) as client:
                client.promote_release(manifest.release_id)
            for number in range(options.rounds):
                chosen = np.random.default_rng(number).choice(options.users, options.subscribers, replace=False)
                f1 = measure_f1(folder / "releases" / manifest.release_id, options.seconds, number)
                (folder / f"floor-{number}").mkdir()
                commits = measure_commits(folder / f"floor-{number}")
                users = [f"user-{user}" for user in chosen]
                figures = runner.run(measure(measured.address, users, options.items, options.seconds, number))
                rounds.append({"f1": f1, "commits": commits, **figures})
                print(f"round {number + 1}: {rounds[-1]}", file=sys.stderr)
    middle = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    floor = middle["f1"] + middle["commits"]
    latencies = ("unloaded_p50", "unloaded_p99", "half_p50", "half_p99")
    over = {f"{name}_over_floor": middle[name] / floor for name in latencies}
    result = {"front": options.front, "subscribers": options.subscribers, **middle, "floor": floor, **over}
    if options.json == "-":
        print(json.dumps(result))
        return
    if options.json:
        Path(options.json).write_text(json.dumps(result) + "\n")
    print(f"floor {floor * 1e3:.2f} ms: F1 {middle['f1'] * 1e3:.2f} + two commits {middle['commits'] * 1e3:.2f}")
    print(
        f"{middle['pushes_per_second']:.0f} pushes/s at most, {IN_FLIGHT} in flight, {options.subscribers} subscribers"
    )
    for name in latencies:
        print(
            f"{name.replace('_', ' '):13} {middle[name] * 1e3:6.2f} ms   {over[f'{name}_over_floor']:.1f} x the floor"
        )


if __name__ == "__main__":
    main()
