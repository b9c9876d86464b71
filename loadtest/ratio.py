"""How much of what FAISS and ONNX Runtime can do on one core reaches the caller?

One run measures, by turns and in the same minute, on the same release and for random users:

  F0         one FAISS search for 200 items + one ONNX Runtime run over 200 candidates, in process, one user at a time
  F1         the whole recommendation in process, batches of 8
  saturated  calls/s of a real server on core 0, closed loop of 64 calls in flight from a load generator on core 1
  half       half as many calls, begun at random times (Poisson), whether answers came or not

and prints calls/s over F0 and over F1, latencies over F1, and what the server's processor did for a call. A generated
shop of 100,000 items and 10,000 users; medians over rounds. The load generator's own limit is measured and told.
"""

import argparse
import json
import multiprocessing
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import psutil

from caller import Caller, NoCompiler, build, calibrate, keep_to
from shop import write_shop
from tidings import Client
from tidings.v1 import recommendation_service_pb2 as pb
from tidings_core.features import CANDIDATE_FEATURES, USER_FEATURES
from tidings_core.model import SERVING_CONFIGS, Query
from tidings_core.recommend import recommend
from tidings_core.release import open_release

CANDIDATES = 200
IN_FLIGHT = 64
FULL_ANSWER = 200
"""Bytes that an answer of 20 items has at least."""
BODIES = 20_000
STAGES = ("decode", "recommend", "encode")
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


def _floor(core: int, arguments: tuple[Path, float, int], pipe: "multiprocessing.connection.Connection") -> None:
    keep_to(core)
    pipe.send(floor(*arguments))


def floor_on(core: int, folder: Path, seconds: float, seed: int) -> dict[str, float]:
    """Measure the floor in a process of its own that keeps to one core."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_floor, args=(core, (folder, seconds, seed), there))
    process.start()
    there.close()
    try:
        result: dict[str, float] = here.recv()
    finally:
        process.join()
    return result


@dataclass(frozen=True)
class Measured:
    """A server that is measured: its addresses, and its process."""

    address: str
    http: str
    pid: int

    def spent(self) -> dict[str, float]:
        """Seconds spent so far: of the processor's time in all, and of each stage by the clock."""
        times = psutil.Process(self.pid).cpu_times()
        with urlopen(f"http://{self.http}/metrics") as answer:
            text = answer.read().decode()
        found = {"cpu": times.user + times.system}
        for stage in STAGES:
            seconds = re.search(rf'^tidings_stage_seconds_sum{{stage="{stage}"}} (\S+)', text, re.M)
            found[stage] = float(seconds[1]) if seconds else 0.0
        return found


def _measure(server: Measured, caller: Caller, bodies: list[bytes], seconds: float, seed: int) -> dict[str, float]:
    """Calls/s and latencies at saturation and at half of it, and microseconds per call by what they were spent on."""
    before = server.spent()
    full = caller.calls(RECOMMEND, bodies, seconds, IN_FLIGHT, least=FULL_ANSWER, seed=seed)
    after = server.spent()
    # The first fifth of the time is not counted by the generator, but spent by the server.
    calls = full["calls_per_second"] * seconds
    half = caller.calls(
        RECOMMEND, bodies, seconds, rate=full["calls_per_second"] / 2, least=FULL_ANSWER, seed=seed + 1000
    )
    spent = {f"{name}_us": (after[name] - before[name]) / calls * 1e6 for name in after}
    return {
        "calls_per_second": full["calls_per_second"],
        "p50_ms": full["p50_ms"],
        "p99_ms": full["p99_ms"],
        "half_p50_ms": half["p50_ms"],
        "half_p99_ms": half["p99_ms"],
        "short_answers": full["short_answers"] + half["short_answers"],
        "failed": full["failed"] + half["failed"],
        **spent,
        "front_us": spent["cpu_us"] - sum(spent[f"{stage}_us"] for stage in STAGES),
    }


@contextmanager
def server(releases: Path, state: Path, front: str, core: int, config: Path | None = None) -> Iterator[Measured]:
    """A real server process on one core."""
    command = [sys.executable, "-m", "tidings_server", "--releases", str(releases), "--state", str(state)]
    command += ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--front", front, "--log-format", "json"]
    command += [] if config is None else ["--config", str(config)]
    log = (state.parent / "server.log").open("w+")
    process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=lambda: keep_to(core))
    try:
        end = time.monotonic() + 30
        while not (found := re.search(r'"grpc": "([^"]+)", "http": "([^"]+)"', Path(log.name).read_text())):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the server did not start:\n{Path(log.name).read_text()}")
            time.sleep(0.05)
        yield Measured(found[1], found[2], process.pid)
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--front", default="grpcio", choices=("grpcio", "native"))
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement (default 6)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - is standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        releases, state = Path(folder) / "releases", Path(folder) / "state"
        try:
            program = build(Path(folder))
        except NoCompiler as error:
            raise SystemExit(str(error)) from error
        print(f"building a shop of {options.items:,} items", file=sys.stderr)
        manifest = write_shop(releases, options.items, options.users, time.time())
        users = np.random.default_rng(0).integers(0, options.users, BODIES)
        bodies = [pb.RecommendRequest(user_id=f"user-{user}").SerializeToString() for user in users]
        limit = calibrate(program, bodies, min(options.seconds, 3.0), 5000, core=0)
        rounds = []
        with server(releases, state, options.front, 0) as measured:
            with Client(measured.address) as client:
                client.promote_release(manifest.release_id)
            for number in range(options.rounds):
                figures = floor_on(0, releases / manifest.release_id, options.seconds, number)
                figures |= _measure(measured, Caller(program, measured.address), bodies, options.seconds, number)
                rounds.append(figures)
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
        "half_p50_over_f1": middle["half_p50_ms"] * 1e3 / middle["whole_us"],
        "half_p99_over_f1": middle["half_p99_ms"] * 1e3 / middle["whole_us"],
        "generator_calls_per_second": limit,
        "generator_over_calls": limit / middle["calls_per_second"],
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
    print(
        f"at half of that, Poisson: p50 {middle['half_p50_ms']:.2f} ms ({result['half_p50_over_f1']:.1f} x F1), "
        f"p99 {middle['half_p99_ms']:.2f} ms ({result['half_p99_over_f1']:.1f} x F1)"
    )
    stages = ", ".join(f"{stage} {middle[f'{stage}_us']:.0f}" for stage in STAGES)
    print(f"of a call's {middle['cpu_us']:.0f} us of the processor: {stages}, the front {middle['front_us']:.0f}")
    print(f"short answers {middle['short_answers']:.0f}, failed {middle['failed']:.0f}")
    print(f"the load generator is good for {limit:.0f} calls/s, {result['generator_over_calls']:.1f} x this")


if __name__ == "__main__":
    main()
