"""What does a server do when more comes than it can carry, and with callers who misbehave?

One run, one front, a generated shop; the server has core 0, the load generators core 1. It measures

  half       p99 at half of what the server can carry, begun at random times (Poisson)
  surge      three times what it can carry, for a while, in the middle of half load that goes on: p99 of the calls that
             were answered over the one at half load, the share refused and how fast, calls that ended in any other way,
             how long until all is as before, and the server's memory before, at most and after
  hostile    each beside callers at a quarter of what the server carries, whose p99 is held against the same without:
             1,000 connections; deadlines of 1 ms; calls left after 2 ms without a word; subscribers who never read,
             with pushes sent to them, and one who does, who must get his

Prints a table of each, or a list of flat objects with --json.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

import tidings
from caller import ENDED, Caller, NoCompiler, build
from served import Served, server
from shop import write_shop
from tidings.v1 import push_service_pb2, push_service_pb2_grpc
from tidings.v1 import recommendation_service_pb2 as pb
from turns import Row, tell

RECOMMEND = "/tidings.v1.RecommendationService/Recommend"
BODIES = 20_000
FULL_ANSWER = 200
SURGE = 3.0
REFUSED = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
WINDOW = 0.1
"""Seconds that are looked at together for when all is as before."""
SILENT = 20
"""Subscribers who never read."""
PUSHES = 900
"""Pushes to each of them, at most."""
BODY = "Something that is worth a long sentence. " * 49
MIB = 1 << 20
CONFIG = "push_max_per_day = 1000\n"


@dataclass(frozen=True)
class Load:
    """A server under test, what calls it, and what its calls ask."""

    served: Served
    caller: Caller
    bodies: Sequence[bytes]
    folder: Path
    lost: list[int] = field(default_factory=list)
    """How many connections the callers lost, one entry for each time that they called."""

    def ended(self, seconds: float, rate: float, seed: int, connections: int = 8, leave_ms: int = 0,
              deadline: bool = False) -> NDArray[np.void]:  # fmt: skip
        """Call at random times, so many a second, and return an ENDED row for each call that ended."""
        record = self.folder / f"ended-{seed}"
        found = self.caller.calls(
            RECOMMEND, self.bodies, seconds, rate=rate, least=FULL_ANSWER, seed=seed, connections=connections,
            leave_ms=leave_ms, tell=deadline, record=record,
        )  # fmt: skip
        self.lost.append(int(found["connections_lost"]))
        return np.fromfile(record, ENDED)

    def capacity(self, seconds: float) -> float:
        """Calls per second that the server carries."""
        found = self.caller.calls(RECOMMEND, self.bodies, seconds, 64, least=FULL_ANSWER)
        if found["failed"] or found["short_answers"]:
            raise SystemExit(f"the server fails before there is too much to do: {found}")
        return found["calls_per_second"]


def p(ended: NDArray[np.void], share: float) -> float:
    """Milliseconds within which a share of these calls ended; 0 of none."""
    return float(np.quantile(ended["ms"], share)) if len(ended) else 0.0


@contextmanager
def watched(served: Served) -> Iterator[Callable[[], tuple[float, float, float]]]:
    """Watch a server's memory; gives a function that tells MiB at the beginning, at most, and now."""
    before = served.memory / MIB
    most, over = [before], threading.Event()

    def watch() -> None:
        while not over.wait(0.25):
            most.append(served.memory / MIB)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: (before, max(most), served.memory / MIB)
    finally:
        over.set()
        thread.join()


def surge(load: Load, most: float, half_p99: float, seconds: float, deadline_ms: int) -> dict[str, object]:
    """Three times what the server carries for `seconds`, with half load before, meanwhile and after."""
    calm = max(3.0, seconds / 4)
    load.lost.clear()
    with watched(load.served) as memory, ThreadPoolExecutor(2) as pool:
        base = pool.submit(load.ended, 2 * calm + seconds, most / 2, 1, leave_ms=deadline_ms, deadline=True)
        time.sleep(calm)
        began = time.monotonic_ns()
        more = pool.submit(load.ended, seconds, most * (SURGE - 0.5), 2, leave_ms=deadline_ms, deadline=True).result()
        over = time.monotonic_ns()
        steady = base.result()
        time.sleep(1.0)
        before, peak, after = memory()
    # The first moments are those in which the server learns what is coming.
    within = (steady["due"] > began + int(0.5e9)) & (steady["due"] < over - int(0.2e9))
    during = np.concatenate([steady[within], more[more["due"] > began + int(0.5e9)]])
    answered, refused = during[during["code"] == 0], during[during["code"] == REFUSED]
    return {
        "deadline_ms": deadline_ms,
        "seconds": seconds,
        "offered_over_carried": len(during) / max(1e-9, (over - began) / 1e9 - 0.5) / most,
        "answered_over_carried": len(answered) / max(1e-9, (over - began) / 1e9 - 0.5) / most,
        "half_p99_ms": half_p99,
        "answered_p50_ms": p(answered, 0.5),
        "answered_p99_ms": p(answered, 0.99),
        "answered_p99_over_half": p(answered, 0.99) / half_p99,
        "refused_share": len(refused) / max(1, len(during)),
        "refused_p50_ms": p(refused, 0.5),
        "refused_p99_ms": p(refused, 0.99),
        "otherwise_ended": int(np.sum((during["code"] != 0) & (during["code"] != REFUSED))),
        "connections_lost": sum(load.lost),
        "recovered_s": recovered(steady, over, half_p99),
        "memory_before_mib": before,
        "memory_peak_mib": peak,
        "memory_after_mib": after,
    }


def recovered(steady: NDArray[np.void], over: int, half_p99: float) -> float | str:
    """Seconds after `over` until all calls of half a second are answered, and half of them within `half_p99`."""
    after = steady[steady["due"] >= over]
    at = (after["due"] - over) / 1e9
    for start in np.arange(0.0, float(at.max(initial=0.0)), WINDOW):
        window = after[(at >= start) & (at < start + 5 * WINDOW)]
        if len(window) and not window["code"].any() and p(window, 0.5) <= half_p99:
            return float(start)
    return "never"


def beside(load: Load, most: float, seconds: float, what: Callable[[], dict[str, object]]) -> dict[str, object]:
    """Do something beside callers at a quarter of what the server carries, and tell what it did to them."""
    alone = load.ended(seconds, most / 4, 11)
    with watched(load.served) as memory, ThreadPoolExecutor(1) as pool:
        others = pool.submit(load.ended, seconds, most / 4, 12)
        done = what()
        neighbours = others.result()
        time.sleep(0.5)
        before, peak, _ = memory()
    later = load.ended(min(3.0, seconds), most / 4, 13)
    return {
        **done,
        "beside_p99_ms": p(neighbours, 0.99),
        "beside_p99_over_alone": p(neighbours, 0.99) / p(alone, 0.99),
        "beside_calls": len(neighbours),
        "beside_refused": int(np.sum(neighbours["code"] == REFUSED)),
        "beside_failed": int(np.sum(~np.isin(neighbours["code"], (0, REFUSED)))),
        "later_refused": int(np.sum(later["code"] == REFUSED)),
        "later_failed": int(np.sum(~np.isin(later["code"], (0, REFUSED)))),
        "memory_growth_mib": peak - before,
    }


def calls(
    load: Load, seconds: float, rate: float, connections: int = 8, leave_ms: int = 0, deadline: bool = False
) -> dict[str, object]:
    """Call in some other way, and tell what came of it."""
    ended = load.ended(seconds, rate, 21, connections, leave_ms, deadline)
    lost = load.lost[-1]
    return {
        "calls": len(ended),
        "answered": int(np.sum(ended["code"] == 0)),
        "refused": int(np.sum(ended["code"] == REFUSED)),
        "left": int(np.sum(np.isin(ended["code"], (1, 4)))),
        "otherwise": int(np.sum(~np.isin(ended["code"], (0, 1, 4, REFUSED)))),
        "p99_ms": p(ended[ended["code"] == 0], 0.99),
        "connections_lost": lost,
    }


def deaf(load: Load, seconds: float) -> dict[str, object]:
    """Subscribers who never read; pushes go to them, and now and then one to somebody who reads."""
    sent: dict[str, float] = {}
    took: list[float] = []
    with grpc.insecure_channel(load.served.address) as channel, tidings.Client(load.served.address, timeout=30) as shop:
        stub = push_service_pb2_grpc.PushServiceStub(channel)
        asked = [push_service_pb2.SubscribeRequest(user_id=f"deaf-{n}", max_unacked=1000) for n in range(SILENT)]
        # What is not asked for is not read: the window of the stream stays shut.
        streams = [stub.Subscribe(request) for request in asked]
        with ThreadPoolExecutor(SILENT + 1) as pool, shop.subscribe("listener") as pushes:
            listening = pool.submit(_listen, pushes, sent, took)
            end = time.monotonic() + seconds
            talking = [pool.submit(_talk, shop, f"deaf-{n}", end) for n in range(SILENT)]
            told = 0
            while time.monotonic() < end:
                told += 1
                sent[str(told)] = time.monotonic()
                shop.send_push("listener", str(told))
                time.sleep(0.05)
            to_the_deaf = sum(one.result() for one in talking)
            wait_until = time.monotonic() + 10
            while len(took) < told and time.monotonic() < wait_until:
                time.sleep(0.01)
            pushes.close()
            listening.result()
        for stream in streams:
            stream.cancel()
    return {
        "pushes_to_who_never_reads": to_the_deaf,
        "pushes_to_who_reads": told,
        "arrived": len(took),
        "arrived_p99_ms": float(np.quantile(took, 0.99)) * 1e3 if took else 0.0,
    }


def _listen(pushes: Iterable[tidings.Push], sent: dict[str, float], took: list[float]) -> None:
    took.extend(time.monotonic() - sent[push.title] for push in pushes)


def _talk(shop: tidings.Client, user: str, end: float) -> int:
    """Send pushes until it is time, or the most that a user may get in a day."""
    count = 0
    while time.monotonic() < end and count < PUSHES:
        shop.send_push(user, "Hello", body=BODY)
        count += 1
    return count


def measure(load: Load, options: argparse.Namespace) -> list[Row]:
    """The rows of all that is measured."""
    most = load.capacity(max(2.0, min(10.0, options.seconds / 4)))
    half = load.ended(max(3.0, min(15.0, options.seconds / 2)), most / 2, 3)
    half_p99 = p(half, 0.99)
    first = {"front": options.front, "carries_calls_per_second": most}
    rows: list[Row] = []
    for deadline in options.deadline_ms:
        print(f"surge, callers with deadlines of {deadline} ms", file=sys.stderr)
        rows.append({**first, **surge(load, most, half_p99, options.seconds, deadline)})
    hostile: dict[str, Callable[[float], dict[str, object]]] = {
        "1,000 connections": lambda seconds: calls(load, seconds, most / 4, connections=1000),
        "deadlines of 1 ms": lambda seconds: calls(load, seconds, most / 2, leave_ms=1, deadline=True),
        "left after 2 ms": lambda seconds: calls(load, seconds, most / 2, leave_ms=2),
        "never read": lambda seconds: deaf(load, seconds),
    }
    seconds = max(2.0, min(10.0, options.seconds / 4))
    for name, do in hostile.items():
        print(name, file=sys.stderr)
        rows.append({"front": options.front, "callers": name, **beside(load, most, seconds, partial(do, seconds))})
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--front", default="native", choices=("grpcio", "native"))
    parser.add_argument("--seconds", type=float, default=60.0, help="of the surge (default 60)")
    parser.add_argument("--deadline-ms", type=int, nargs="*", default=[1000, 50], help="of the surge's callers")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - is standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            program = build(folder)
        except NoCompiler as error:
            raise SystemExit(str(error)) from error
        print(f"building a shop of {options.items:,} items", file=sys.stderr)
        manifest = write_shop(folder / "releases", options.items, options.users, time.time())
        (folder / "server.toml").write_text(CONFIG)
        given = ["--config", str(folder / "server.toml")]
        users = np.random.default_rng(0).integers(0, options.users, BODIES)
        bodies = [pb.RecommendRequest(user_id=f"user-{user}").SerializeToString() for user in users]
        with server(folder / "releases", folder / "state", options.front, given=given) as served:
            with tidings.Client(served.address) as client:
                client.promote_release(manifest.release_id)
            rows = measure(Load(served, Caller(program, served.address), bodies, folder), options)
    tell(rows, options.json)


if __name__ == "__main__":
    main()
