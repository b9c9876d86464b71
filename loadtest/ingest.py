"""What does it cost to remember people? Events taken in, profiles read, answers meanwhile, bytes on disk.

One run measures on one machine, in one state directory with a million users, whose documents are those of the customers
of Online Retail, over and over:

  rpc        calls/s of a grpcio server on core 0 that does nothing, 64 in flight from a load generator on core 1
  single     RecordEvents calls/s of a real server on core 0, one event each, 64 in flight
  batches    events/s of calls with 100 events each, 8 in flight
  inserts    rows/s of a bare loop that inserts 100 such events and commits, synced as the server syncs
  profile    microseconds to read a user's document in process: again (cached), and of users nobody asked for (cold)
  answers    p99 of Recommend at a quarter of its load (Poisson), alone and while events come in at half theirs

and prints them with their ratios. The disk's part of a single event is told: the seconds that the commits take.
"""

import argparse
import asyncio
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import numpy as np
import pyarrow.parquet as pq

from caller import Caller, NoCompiler, build, keep_to
from served import Served, server
from shop import write_shop
from tidings import Client
from tidings.v1 import event_pb2, event_service_pb2
from tidings.v1 import recommendation_service_pb2 as recommendation_pb
from tidings_core.events import Event, EventItem, EventType
from tidings_core.profile import EMPTY, fold
from tidings_server.adapters.sqlite_schema import FILE, open_database
from tidings_server.adapters.sqlite_store import SqliteStore
from tidings_server.adapters.state_directory import StateDirectory
from tidings_server.application.documents import UserDocument, write_document
from tidings_server.application.known_documents import KnownDocuments

RETAIL = Path(__file__).parents[1] / "examples" / "online_retail" / "online_retail.parquet"
RECORD = "/tidings.v1.EventService/RecordEvents"
RECOMMEND = "/tidings.v1.RecommendationService/Recommend"
IN_FLIGHT, BATCH, BATCHES_IN_FLIGHT = 64, 100, 8
SINGLE_BODIES, BATCH_BODIES = 400_000, 4_000
CACHED = 1_000


def documents() -> list[bytes]:
    """The documents that the orders of Online Retail make of its customers, in their stored form."""
    names = ["invoice_no", "stock_code", "quantity", "invoice_date", "unit_price", "customer_id"]
    lines = pq.read_table(RETAIL, columns=names).to_pydict()
    orders: dict[int, dict[tuple[str, int], list[tuple[str, int, float]]]] = defaultdict(lambda: defaultdict(list))
    numbers: dict[str, int] = {}
    for invoice, item, quantity, moment, price, customer in zip(*(lines[name] for name in names), strict=True):
        if customer is not None:
            order = invoice, round(moment.timestamp() * 1000)
            orders[customer][order].append((item, abs(quantity) or 1, max(price, 0.0)))
            numbers.setdefault(item, len(numbers))
    found = []
    for customer, of_customer in orders.items():
        events = [
            (
                Event(invoice, _kind(invoice), str(customer), moment, tuple(EventItem(*line) for line in bought)),
                [numbers[item] for item, _, _ in bought],
            )
            for (invoice, moment), bought in of_customer.items()
        ]
        found.append(write_document(UserDocument(profile=fold(EMPTY, events), applied_through=1)))
    return found


def _kind(invoice: str) -> EventType:
    return "return" if invoice[0] == "C" else "purchase"


def fill(state: Path, users: int) -> dict[str, float]:
    """A state directory with so many users; returns the bytes that one takes in the document and on disk."""
    state.mkdir()
    StateDirectory.open(state).close()
    open_database(state).close()
    kinds = documents()
    with closing(sqlite3.connect(state / FILE, isolation_level=None)) as connection:
        before = (state / FILE).stat().st_size
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -500000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        rows = ((user_id(user), 1, kinds[user % len(kinds)]) for user in range(users))
        connection.executemany("INSERT INTO users (user_id, version, content) VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
        size = (state / FILE).stat().st_size - before
    return {"document_bytes": statistics.fmean(map(len, kinds)), "bytes_per_user": size / users}


def user_id(user: int) -> str:
    """The id of a user by number."""
    return f"user-{user:07d}"


def event(name: str, user: int, item: int) -> event_pb2.Event:
    """A view of an item."""
    found = event_pb2.Event(event_id=name, type=event_pb2.EVENT_TYPE_VIEW, user_id=user_id(user))
    found.items.add(item_id=f"item-{item}")
    return found


def event_bodies(count: int, each: int, users: int, items: int, name: str, seed: int) -> list[bytes]:
    """So many requests of `each` events of random users."""
    rng = np.random.default_rng(seed)
    who, what = rng.integers(0, users, count * each).tolist(), rng.integers(0, items, count * each).tolist()
    return [
        event_service_pb2.RecordEventsRequest(
            events=[event(f"{name}-{at}", who[at], what[at]) for at in range(start, start + each)]
        ).SerializeToString()
        for start in range(0, count * each, each)
    ]


async def serve_nothing() -> None:
    """A grpcio server that answers everything with nothing; its port is printed."""

    async def nothing(_request: bytes, _context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        return b""

    class Everything(grpc.GenericRpcHandler):
        def service(self, _call: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
            return grpc.unary_unary_rpc_method_handler(nothing)

    found = grpc.aio.server()
    found.add_generic_rpc_handlers((Everything(),))
    print(found.add_insecure_port("127.0.0.1:0"), flush=True)
    await found.start()
    await found.wait_for_termination()


@contextmanager
def nothing_server() -> Iterator[str]:
    """The address of such a server, on core 0."""
    process = subprocess.Popen([sys.executable, __file__, "--nothing"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def inserts(folder: Path, seconds: float) -> float:
    """Rows per second of a bare loop: as many events as a batch has, then a commit that is synced."""
    folder.mkdir(exist_ok=True)
    keep_to(0)
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL, "
            "user_id TEXT NOT NULL, time INTEGER NOT NULL, content BLOB NOT NULL)"
        )
        begun, rows = time.perf_counter(), 0
        content = event("name-of-an-event", 1, 1).SerializeToString()
        while time.perf_counter() < begun + seconds:
            connection.execute("BEGIN IMMEDIATE")
            for _ in range(BATCH):
                connection.execute(
                    "INSERT INTO events (event_id, user_id, time, content) VALUES (?, ?, ?, ?)",
                    (f"e-{rows}", user_id(rows), rows, content),
                )
                rows += 1
            connection.execute("COMMIT")
        took = time.perf_counter() - begun
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    return rows / took


def profile_times(state: Path, users: int, count: int, seed: int) -> dict[str, float]:
    """Microseconds to read a user's document: one that is kept, and one that nobody asked for before; medians."""
    chance = random.Random(seed)
    lock = StateDirectory.open(state)
    with closing(lock), closing(SqliteStore.open(state, lambda: 0)) as store:
        known = KnownDocuments(store)

        def timed(user: str) -> float:
            start = time.perf_counter()
            _, document = known.read(user)
            took = (time.perf_counter() - start) * 1e6
            assert document.profile.bought
            return took

        strangers = [user_id(user) for user in chance.sample(range(users), count)]
        cold = [timed(user) for user in strangers]
        again = strangers[-CACHED:]
        cached = [timed(user) for _ in range(max(1, count // CACHED)) for user in again]
    return {
        "profile_cached_us": statistics.median(cached),
        "profile_cold_us": statistics.median(cold),
        "profile_cold_p99_us": float(np.percentile(cold, 99)),
    }


def record(
    measured: Served, caller: Caller, bodies: Sequence[bytes], seconds: float, in_flight: int
) -> dict[str, float]:
    """RecordEvents at saturation: calls/s, latencies, and seconds of the processor per call."""
    before = measured.cpu
    found = caller.calls(RECORD, bodies, seconds, in_flight)
    return {
        "calls": found["calls_per_second"],
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "failed": found["failed"],
        "cpu_us": (measured.cpu - before) / max(1.0, found["calls_per_second"] * seconds) * 1e6,
    }


def answers(caller: Caller, events: Sequence[bytes], rate: float, users: int, seconds: float) -> dict[str, float]:
    """The p99 of Recommend at a quarter of its load, alone and while events come in at `rate`."""
    rng = np.random.default_rng(1)
    bodies = [
        recommendation_pb.RecommendRequest(user_id=user_id(user)).SerializeToString()
        for user in rng.integers(0, users, 20_000).tolist()
    ]
    quarter = caller.calls(RECOMMEND, bodies, seconds, IN_FLIGHT)["calls_per_second"] / 4
    alone = caller.calls(RECOMMEND, bodies, seconds, rate=quarter, seed=2)
    taken: list[dict[str, float]] = []
    ingesting = threading.Thread(
        target=lambda: taken.append(caller.calls(RECORD, events, seconds + 2, rate=rate, seed=3)), daemon=True
    )
    ingesting.start()
    time.sleep(1.0)
    both = caller.calls(RECOMMEND, bodies, seconds, rate=quarter, seed=4)
    ingesting.join()
    return {
        "answers_per_second": quarter,
        "events_per_second": taken[0]["calls_per_second"],
        "answers_p99_alone_ms": alone["p99_ms"],
        "answers_p99_ms": both["p99_ms"],
    }


def measure(folder: Path, options: argparse.Namespace) -> dict[str, float | str]:
    """One run."""
    program = build(folder)
    users, seconds = options.users, options.seconds
    say(f"writing {users:,} users")
    found: dict[str, float] = fill(folder / "state", users)
    found |= profile_times(folder / "state", users, options.reads, 0)
    say(f"{found}")
    manifest = write_shop(folder / "releases", options.items, 10_000, time.time())
    single = event_bodies(SINGLE_BODIES, 1, users, options.items, "single", 1)
    batches = event_bodies(BATCH_BODIES, BATCH, users, options.items, "batch", 2)
    rounds: list[dict[str, float]] = []
    with server(folder / "releases", folder / "state", options.front) as measured:
        with Client(measured.address) as client:
            client.promote_release(manifest.release_id)
        caller = Caller(program, measured.address)
        for turn in range(options.rounds):
            with nothing_server() as address:
                rpc = Caller(program, address).calls("/nothing.Nothing/Nothing", single, seconds, IN_FLIGHT)
            stages = measured.stages()
            one = record(measured, caller, single[turn :: options.rounds], seconds, IN_FLIGHT)
            spent = measured.stages()
            many = record(measured, caller, batches[turn :: options.rounds], seconds, BATCHES_IN_FLIGHT)
            bare = inserts(folder / "bare", seconds)
            rounds.append(
                {
                    "rpc_calls": rpc["calls_per_second"],
                    **{f"single_{name}": value for name, value in one.items()},
                    "single_record_stage": (spent.get("record", 0.0) - stages.get("record", 0.0)) / seconds,
                    **{f"batches_{name}": value for name, value in many.items()},
                    "batches_events": many["calls"] * BATCH,
                    "inserts_rows": bare,
                    "single_over_rpc": one["calls"] / rpc["calls_per_second"],
                    "batches_over_inserts": many["calls"] * BATCH / bare,
                }
            )
            say(f"round {turn + 1}: {rounds[-1]}")
        found |= {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
        fresh = event_bodies(SINGLE_BODIES // 4, 1, users, options.items, "meanwhile", 3)
        found |= answers(caller, fresh, found["single_calls"] / 2, users, seconds)
    found["answers_p99_over_alone"] = found["answers_p99_ms"] / found["answers_p99_alone_ms"]
    return {"front": options.front, "users": users, "items": options.items, **found}


def say(words: str) -> None:
    """Tell how far it is."""
    print(words, file=sys.stderr)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--front", default="grpcio", choices=("grpcio", "native"))
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--reads", type=int, default=10_000, help="users nobody asked for whose profiles are read")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default 5)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - is standard output")
    parser.add_argument("--nothing", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.nothing:
        keep_to(0)
        asyncio.run(serve_nothing())
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = measure(Path(folder), options)
        except NoCompiler as error:
            raise SystemExit(str(error)) from error
    text = json.dumps(result, indent=2)
    if options.json and options.json != "-":
        Path(options.json).write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
