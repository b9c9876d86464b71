"""How much of what FAISS and ONNX Runtime can do on one core reaches the caller?

One run measures, by turns and in the same minute, on the same release and for random users:

  F0  one FAISS search for 200 items + one ONNX Runtime run over 200 candidates, in process, one user at a time
  F1  the whole recommendation in process, batches of 8
  calls/s of a real server on core 0, closed loop of 64 calls in flight from a load generator on core 1

and prints calls/s over F0 and over F1. A generated shop of 100,000 items and 10,000 users; medians over rounds.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np

from shop import write_shop
from tidings import Client
from tidings.v1 import recommendation_service_pb2 as pb
from tidings_core.features import CANDIDATE_FEATURES, USER_FEATURES
from tidings_core.model import SERVING_CONFIGS, Query
from tidings_core.recommend import recommend
from tidings_core.release import open_release

CANDIDATES = 200
IN_FLIGHT = 64
RECOMMEND = "/tidings.v1.RecommendationService/Recommend"


def floor(folder: Path, seconds: float, seed: int) -> dict[str, float]:
    """Microseconds per user of FAISS, of ONNX Runtime, and of the whole recommendation, for random users."""
    snapshot = open_release(folder).snapshot
    assert snapshot.ranker is not None
    rng = np.random.default_rng(seed)
    users = rng.integers(0, len(snapshot.users), 20_000)
    rows = rng.integers(0, len(snapshot.items), (256, CANDIDATES))
    user_block = np.zeros((1, len(USER_FEATURES)), np.float32)
    pair_block = np.zeros((1, CANDIDATES, len(CANDIDATE_FEATURES)), np.float32)
    search, score, whole = [], [], []
    end = time.perf_counter() + seconds
    at = 0
    while time.perf_counter() < end:
        start = time.perf_counter()
        for user in users[at : at + 64]:
            snapshot.index.search(snapshot.user_vectors[user : user + 1], CANDIDATES)
        search.append((time.perf_counter() - start) / 64)
        start = time.perf_counter()
        for turn in range(64):
            snapshot.ranker.score(rows[turn : turn + 1], user_block, pair_block)
        score.append((time.perf_counter() - start) / 64)
        batches = [
            [Query(snapshot.users[int(user)], SERVING_CONFIGS["for-you"]) for user in users[first : first + 8]]
            for first in range(at, at + 64, 8)
        ]
        start = time.perf_counter()
        for batch in batches:
            recommend(batch, snapshot, time.time())
        whole.append((time.perf_counter() - start) / 64)
        at = (at + 64) % (len(users) - 64)
    return {
        "faiss_us": statistics.median(search) * 1e6,
        "onnx_us": statistics.median(score) * 1e6,
        "whole_us": statistics.median(whole) * 1e6,
    }


async def _load(address: str, users: int, seconds: float, in_flight: int, seed: int) -> dict[str, float]:
    """Keep `in_flight` calls going for random users; every answer must be full."""
    rng = np.random.default_rng(seed)
    bodies = [
        pb.RecommendRequest(user_id=f"user-{user}").SerializeToString() for user in rng.integers(0, users, 20_000)
    ]
    latencies: list[float] = []
    bad = 0
    async with grpc.aio.insecure_channel(address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(RECOMMEND)
        end = time.perf_counter() + seconds
        warm = end - seconds * 0.8

        async def one(start: int) -> None:
            nonlocal bad
            at = start
            while (began := time.perf_counter()) < end:
                answer = await call(bodies[at % len(bodies)], timeout=10)
                at += in_flight
                if began >= warm:
                    latencies.append(time.perf_counter() - began)
                    bad += len(answer) < 200

        await asyncio.gather(*(one(start) for start in range(in_flight)))
    ordered = np.sort(latencies)
    return {
        "calls_per_second": len(ordered) / (seconds * 0.8),
        "p50_ms": float(ordered[len(ordered) // 2] * 1e3),
        "p99_ms": float(ordered[int(len(ordered) * 0.99)] * 1e3),
        "short_answers": bad,
    }


def _on_core(
    core: int, task: str, arguments: tuple[object, ...], pipe: "multiprocessing.connection.Connection"
) -> None:
    os.sched_setaffinity(0, {core})
    if task == "floor":
        pipe.send(floor(*arguments))  # type: ignore[arg-type]
    else:
        pipe.send(asyncio.run(_load(*arguments)))  # type: ignore[arg-type]


def on_core(core: int, task: str, *arguments: object) -> dict[str, float]:
    """Run `floor` or the load in a process of its own that keeps to one core."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_on_core, args=(core, task, arguments, there))
    process.start()
    there.close()
    try:
        result: dict[str, float] = here.recv()
    finally:
        process.join()
    return result


@contextmanager
def server(releases: Path, state: Path, front: str, core: int, config: Path | None = None) -> Iterator[str]:
    """A real server process on one core; gives its address."""
    command = [sys.executable, "-m", "tidings_server", "--releases", str(releases), "--state", str(state)]
    command += ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--front", front, "--log-format", "json"]
    command += [] if config is None else ["--config", str(config)]
    log = (state.parent / "server.log").open("w+")
    process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    try:
        end = time.monotonic() + 30
        while not (found := re.search(r'"grpc":\s*"([^"]+)"', Path(log.name).read_text())):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the server did not start:\n{Path(log.name).read_text()}")
            time.sleep(0.05)
        yield found[1]
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--front", default="grpcio")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement (default 6)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - is standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        releases, state = Path(folder) / "releases", Path(folder) / "state"
        print(f"building a shop of {options.items:,} items", file=sys.stderr)
        manifest = write_shop(releases, options.items, options.users, time.time())
        rounds = []
        with server(releases, state, options.front, 0) as address:
            with Client(address) as client:
                client.promote_release(manifest.release_id)
            for number in range(options.rounds):
                figures = on_core(0, "floor", releases / manifest.release_id, options.seconds, number)
                load = on_core(1, "load", address, options.users, options.seconds, IN_FLIGHT, number)
                rounds.append(figures | load)
                print(f"round {number + 1}: {rounds[-1]}", file=sys.stderr)
    middle = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    f0 = middle["faiss_us"] + middle["onnx_us"]
    result = {
        "front": options.front,
        "items": options.items,
        "index": manifest.index.key,
        "parameters": manifest.index.parameters,
        "recall_at_100": manifest.index.recall,
        **middle,
        "f0_us": f0,
        "calls_over_f0": middle["calls_per_second"] * f0 / 1e6,
        "calls_over_f1": middle["calls_per_second"] * middle["whole_us"] / 1e6,
    }
    if options.json == "-":
        print(json.dumps(result))
        return
    if options.json:
        Path(options.json).write_text(json.dumps(result) + "\n")
    print(f"F0 {f0:.0f} us (FAISS {middle['faiss_us']:.0f} + ONNX Runtime {middle['onnx_us']:.0f})")
    print(f"F1 {middle['whole_us']:.0f} us (the whole recommendation in process, batches of 8)")
    print(
        f"{middle['calls_per_second']:.0f} calls/s on one core, {IN_FLIGHT} in flight, "
        f"p50 {middle['p50_ms']:.1f} ms, p99 {middle['p99_ms']:.1f} ms"
    )
    print(f"calls over F0: {result['calls_over_f0']:.2f}   over F1: {result['calls_over_f1']:.2f}")


if __name__ == "__main__":
    main()
