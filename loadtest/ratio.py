"""How much of what FAISS and ONNX Runtime can do on one core reaches the caller?

One run measures, by turns and in the same minute, on the same release and for random users:

  F0         one FAISS search for 200 items + one ONNX Runtime run over 200 candidates, in process, one user at a time
  F1         the whole recommendation in process, batches of 8
  saturated  calls/s of a real server on core 0, closed loop of 64 calls in flight from a load generator on core 1
  half       half as many calls, begun at random times (Poisson), whether answers came or not
  two        calls/s of a server with two compute threads on cores 0 and 1, which the load generator shares

and prints calls/s over F0 and over F1, latencies over F1, and what the server's processor did for a call: by stages of
the server's own clock (waiting for the processor included), and by sampled stacks (with py-spy). A generated shop of
100,000 items and 10,000 users; medians over rounds. The load generator's own limit is measured and told.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from caller import Caller, NoCompiler, build, calibrate, keep_to
from served import Served, server
from shop import write_shop
from stacks import NoProfiler, sample, shares
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
NO_STAGE = ("f0_us", "faiss_us", "onnx_us", "whole_us", "cpu_us")
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


def _measure(server: Served, caller: Caller, bodies: list[bytes], seconds: float, seed: int) -> dict[str, float]:
    """Calls/s and latencies at saturation and at half of it, and microseconds per call by what they were spent on."""
    cpu, stages = server.cpu, server.stages()
    full = caller.calls(RECOMMEND, bodies, seconds, IN_FLIGHT, least=FULL_ANSWER, seed=seed)
    # The first fifth of the time is not counted by the generator, but spent by the server.
    calls = full["calls_per_second"] * seconds
    spent = {f"{stage}_us": (taken - stages.get(stage, 0.0)) / calls * 1e6 for stage, taken in server.stages().items()}
    spent = {"cpu_us": (server.cpu - cpu) / calls * 1e6, **{name: us for name, us in spent.items() if us > 0}}
    half = caller.calls(
        RECOMMEND, bodies, seconds, rate=full["calls_per_second"] / 2, least=FULL_ANSWER, seed=seed + 1000
    )
    return {
        "calls_per_second": full["calls_per_second"],
        "p50_ms": full["p50_ms"],
        "p99_ms": full["p99_ms"],
        "half_p50_ms": half["p50_ms"],
        "half_p99_ms": half["p99_ms"],
        "short_answers": full["short_answers"] + half["short_answers"],
        "failed": full["failed"] + half["failed"],
        **spent,
    }


def _two_threads(server: Served, program: Path, bodies: list[bytes], seconds: float, seed: int) -> dict[str, float]:
    """Calls/s of a server with two compute threads on two cores, which the load generator shares."""
    caller = Caller(program, server.address, core=None)
    found = caller.calls(RECOMMEND, bodies, seconds, IN_FLIGHT, least=FULL_ANSWER, seed=seed)
    return {
        "two_calls_per_second": found["calls_per_second"],
        "two_generator_cores": found["cpu_seconds"] / seconds,
        "two_failed": found["failed"] + found["short_answers"],
    }


def _profile(server: Served, caller: Caller, bodies: list[bytes], seconds: float) -> dict[str, float]:
    """The share of each stage in what the server's processor does at saturation; empty without a profiler."""
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(caller.calls, RECOMMEND, bodies, seconds + 2.0, IN_FLIGHT)
        time.sleep(1.0)
        try:
            found = shares(sample(server.pid, seconds))
        except NoProfiler as error:
            print(f"no stages: {error}", file=sys.stderr)
            found = {}
        load.result()
    return {f"share_{stage.replace(' ', '_').lower()}": share for stage, share in found.items()}


def measure(program: Path, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """All figures of one front."""
    releases, two = folder / "releases", (os.cpu_count() or 1) > 1
    print(f"building a shop of {options.items:,} items", file=sys.stderr)
    manifest = write_shop(releases, options.items, options.users, time.time())
    users = np.random.default_rng(0).integers(0, options.users, BODIES)
    bodies = [pb.RecommendRequest(user_id=f"user-{user}").SerializeToString() for user in users]
    limit = calibrate(program, bodies, min(options.seconds, 3.0), 5000, core=0)
    rounds = []
    with ExitStack() as open_servers:
        one = open_servers.enter_context(server(releases, folder / "state", options.front))
        both = [
            open_servers.enter_context(
                server(releases, folder / "two", options.front, (0, 1), ["--compute-threads", "2"])
            )
        ] * two
        for served in (one, *both):
            with Client(served.address) as client:
                client.promote_release(manifest.release_id)
        caller = Caller(program, one.address)
        for number in range(options.rounds):
            figures = floor_on(0, releases / manifest.release_id, options.seconds, number)
            figures |= _measure(one, caller, bodies, options.seconds, number)
            for served in both:
                figures |= _two_threads(served, program, bodies, options.seconds, number)
            rounds.append(figures)
            print(f"round {number + 1}: {figures}", file=sys.stderr)
        stages = _profile(one, caller, bodies, options.seconds) if options.profile else {}
    middle = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    f0, rate = middle["faiss_us"] + middle["onnx_us"], middle["calls_per_second"]
    return {
        "front": options.front,
        "items": options.items,
        "index": " ".join(
            [manifest.index.key, *(f"{name}={value}" for name, value in manifest.index.parameters.items())]
        ),
        "recall_at_100": manifest.index.recall,
        **middle,
        "f0_us": f0,
        "calls_over_f0": rate * f0 / 1e6,
        "calls_over_f1": rate * middle["whole_us"] / 1e6,
        "half_p50_over_f1": middle["half_p50_ms"] * 1e3 / middle["whole_us"],
        "half_p99_over_f1": middle["half_p99_ms"] * 1e3 / middle["whole_us"],
        "generator_calls_per_second": limit,
        "generator_over_calls": limit / rate,
        **({"two_over_one": middle["two_calls_per_second"] / rate} if two else {}),
        **stages,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--front", default="grpcio", choices=("grpcio", "native"))
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement (default 6)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--no-profile", dest="profile", action="store_false", help="do not sample the server's stacks")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - is standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            program = build(Path(folder))
        except NoCompiler as error:
            raise SystemExit(str(error)) from error
        result = measure(program, Path(folder), options)
    if options.json == "-":
        print(json.dumps(result))
        return
    if options.json:
        Path(options.json).write_text(json.dumps(result) + "\n")
    show(result)


def show(found: Mapping[str, Any]) -> None:
    """Print the figures for people."""
    print(f"F0 {found['f0_us']:.0f} us (FAISS {found['faiss_us']:.0f} + ONNX Runtime {found['onnx_us']:.0f})")
    print(f"F1 {found['whole_us']:.0f} us (the whole recommendation in process, batches of 8)")
    print(
        f"{found['calls_per_second']:.0f} calls/s on one core, {IN_FLIGHT} in flight, "
        f"p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms"
    )
    print(f"calls over F0: {found['calls_over_f0']:.2f}   over F1: {found['calls_over_f1']:.2f}")
    print(
        f"at half of that, Poisson: p50 {found['half_p50_ms']:.2f} ms ({found['half_p50_over_f1']:.1f} x F1), "
        f"p99 {found['half_p99_ms']:.2f} ms ({found['half_p99_over_f1']:.1f} x F1)"
    )
    clock = {name: us for name, us in found.items() if name.endswith("_us") and name not in NO_STAGE}
    print("us per call by the server's own clock: " + ", ".join(f"{name[:-3]} {us:.0f}" for name, us in clock.items()))
    shares = {name[6:]: share for name, share in found.items() if name.startswith("share_")}
    told = ", ".join(f"{name.replace('_', ' ')} {share * found['cpu_us']:.0f}" for name, share in shares.items())
    print(f"{found['cpu_us']:.0f} us of the processor per call" + (f": {told}" if told else ""))
    if "two_over_one" in found:
        print(
            f"two compute threads on two cores: {found['two_calls_per_second']:.0f} calls/s, "
            f"{found['two_over_one']:.2f} x one; the load generator took {found['two_generator_cores']:.2f} of them"
        )
    print(f"short answers {found['short_answers']:.0f}, failed {found['failed']:.0f}")
    print(
        f"the load generator is good for {found['generator_calls_per_second']:.0f} calls/s, "
        f"{found['generator_over_calls']:.1f} x this"
    )


if __name__ == "__main__":
    main()
