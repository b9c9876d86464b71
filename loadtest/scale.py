"""What does a recommendation cost when there are more items, and when there are more people?

    python loadtest/scale.py --front native --items 10000 100000 1000000 --people 10000 1000000

Each size is a generated shop with a server of its own, whose index the builder chose; all servers are up on core 0, and
only one is called at a time, in turns, from core 1, closed loop of 64, a random user each time. People have profiles in
the store; there are more of them than a server keeps in memory, so that most are read from disk. Prints, for each size,
calls/s, microseconds of the processor per call, and both over the smallest size.

A size for which there is not enough memory is left out, and that is told.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from caller import Caller, NoCompiler, build
from served import Served, server
from shop import write_shop
from tidings import Client
from tidings.v1 import recommendation_service_pb2 as pb
from tidings_core.release import Manifest
from turns import Row, progress, tell
from write_profiles import write_profiles

RECOMMEND = "/tidings.v1.RecommendationService/Recommend"
FULL_ANSWER = 200
IN_FLIGHT = 64
BODIES = 200_000
"""Different people who are asked for, ten times as many as a server keeps."""
BYTES_PER_ITEM = 1_700
"""Memory that making a shop takes at most, per item."""
TUNED_UP_TO = 2_000_000
"""Items of a shop whose index is chosen as the builder does; for more that takes too long."""


@dataclass(frozen=True)
class Shop:
    """One size: its server, and what it was made of."""

    items: int
    people: int
    manifest: Manifest
    served: Served
    caller: Caller
    bodies: Sequence[bytes]
    bytes_per_person: int


def open_shop(
    stack: ExitStack, program: Path, folder: Path, front: str, items: int, people: int, stored: bool
) -> Shop | None:
    """Make a shop and serve it; None when there is not enough memory. With `stored` everybody has a profile."""
    free = psutil.virtual_memory().available
    if items * BYTES_PER_ITEM > free:
        progress(
            f"{items:,} items left out: they take {items * BYTES_PER_ITEM / 1e9:.0f} GB, {free / 1e9:.0f} are free"
        )
        return None
    progress(f"making a shop of {items:,} items and {people:,} people")
    folder.mkdir()
    large = items > TUNED_UP_TO
    manifest = write_shop(folder / "releases", items, people, time.time(), tuned=not large, similar=10 if large else 50)
    size = write_profiles(folder / "state", people, items) if stored else 0
    served = stack.enter_context(server(folder / "releases", folder / "state", front))
    with Client(served.address) as client:
        client.promote_release(manifest.release_id, timeout=300)
    chosen = np.random.default_rng(0).permutation(people)[:BODIES]
    bodies = [pb.RecommendRequest(user_id=f"user-{user}").SerializeToString() for user in chosen]
    return Shop(items, people, manifest, served, Caller(program, served.address), bodies, size)


def call(shop: Shop, seconds: float, seed: int) -> dict[str, float]:
    """Calls/s at saturation, and microseconds of the processor per call."""
    before = shop.served.cpu
    found = shop.caller.calls(RECOMMEND, shop.bodies, seconds, IN_FLIGHT, least=FULL_ANSWER, seed=seed)
    if found["failed"] or found["short_answers"]:
        raise SystemExit(f"{shop.items:,} items, {shop.people:,} people: {found}")
    return {
        "calls_per_second": found["calls_per_second"],
        # The first fifth is not counted by the generator, but spent by the server.
        "cpu_us": (shop.served.cpu - before) / (found["calls_per_second"] * seconds) * 1e6,
        "p99_ms": found["p99_ms"],
    }


def measure(shops: Sequence[Shop], front: str, seconds: float, rounds: int, stored: bool) -> list[Row]:
    """A row for each shop, by turns."""
    taken: list[list[dict[str, float]]] = [[] for _ in shops]
    for shop in shops:
        call(shop, 1.0, 99)  # Warm.
    for number in range(rounds):
        for at, shop in enumerate(shops):
            taken[at].append(call(shop, seconds, number))
    rows: list[Row] = []
    middle = [{name: statistics.median(one[name] for one in found) for name in found[0]} for found in taken]
    for shop, figures in zip(shops, middle, strict=True):
        index = shop.manifest.index
        of_people = {"people": shop.people, "bytes_per_person": shop.bytes_per_person} if stored else {}
        rows.append(
            {
                "front": front,
                "items": shop.items,
                **of_people,
                "index": index.key + "".join(f" {name}={value}" for name, value in index.parameters.items()),
                "recall_at_100": index.recall,
                **figures,
                "cost_over_smallest": middle[0]["calls_per_second"] / figures["calls_per_second"],
                "cpu_over_smallest": figures["cpu_us"] / middle[0]["cpu_us"],
                "memory_mib": shop.served.memory / (1 << 20),
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--front", default="native", choices=("grpcio", "native"))
    parser.add_argument("--items", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], help="sizes of shops")
    parser.add_argument("--people", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], help="numbers of people")
    parser.add_argument("--items-of-people", type=int, default=100_000, help="items of the shops that people are in")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement (default 6)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - is standard output")
    options = parser.parse_args()
    rows: list[Row] = []
    for stored, sizes in ((False, options.items), (True, options.people)):
        if not sizes:
            continue
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            folder = Path(name)
            try:
                program = build(folder)
            except NoCompiler as error:
                raise SystemExit(str(error)) from error
            shops = [
                open_shop(
                    stack,
                    program,
                    folder / str(size),
                    options.front,
                    options.items_of_people if stored else size,
                    size if stored else 10_000,
                    stored,
                )
                for size in sizes
            ]
            found = [shop for shop in shops if shop is not None]
            if found:
                rows += measure(found, options.front, options.seconds, options.rounds, stored)
    if not rows:
        sys.exit("nothing was measured")
    tell(rows, options.json)


if __name__ == "__main__":
    main()
