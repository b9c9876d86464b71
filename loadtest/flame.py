"""Where the time of a recommendation goes: a flame graph of a server at saturation, of this tree or of a revision.

    python loadtest/flame.py --front native --svg docs/img/flame.svg
    python loadtest/flame.py --rev HEAD~20 --svg /tmp/before.svg

The server has core 0, the load generator and the sampler core 1. A generated shop, random users. Prints
microseconds of the processor per call, and those of each stage.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from caller import Caller, NoCompiler, build
from served import server
from stacks import NoProfiler, draw, sample, shares
from tidings import Client
from tidings.v1 import recommendation_service_pb2 as pb
from turns import tell

ROOT = Path(__file__).parents[1]
PACKAGES = ("clients/python", "core", "index_builder", "server", "loadtest")
RECOMMEND = "/tidings.v1.RecommendationService/Recommend"
WRITE = """
import sys, time
from pathlib import Path
from shop import write_shop
print(write_shop(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), time.time()).release_id)
"""


@contextmanager
def tree(revision: str | None) -> Iterator[Path]:
    """This tree, or one with the files of a revision."""
    if revision is None:
        yield ROOT
        return
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", there, revision], cwd=ROOT, check=True)
        try:
            yield there
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", there], cwd=ROOT, check=True)


def profile(source: Path, options: argparse.Namespace) -> dict[str, object]:
    """Sample a server that runs the code of `source`, draw it, and tell the stages."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(source / package) for package in PACKAGES)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            program = build(folder)
        except NoCompiler as error:
            raise SystemExit(str(error)) from error
        # A release is read by the code that wrote it: the format may have changed.
        words = [sys.executable, "-c", WRITE, str(folder / "releases"), str(options.items), str(options.users)]
        wrote = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        users = np.random.default_rng(0).integers(0, options.users, 20_000)
        bodies = [pb.RecommendRequest(user_id=f"user-{user}").SerializeToString() for user in users]
        with (
            server(folder / "releases", folder / "state", options.front, environment=environment) as served,
            ThreadPoolExecutor(1) as pool,
        ):
            with Client(served.address) as client:
                client.promote_release(wrote.stdout.strip())
            caller = Caller(program, served.address)
            caller.calls(RECOMMEND, bodies, 2.0)  # Warm.
            load = pool.submit(caller.calls, RECOMMEND, bodies, options.seconds + 3.0)
            time.sleep(1.0)
            stacks = sample(served.pid, options.seconds)
            rate = load.result()["calls_per_second"]
    if options.svg is not None:
        title = f"{options.title}: {options.front}, {options.items:,} items, {rate:,.0f} calls/s on one core"
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        options.svg.write_text(draw(stacks, title))
    spent = stacks.total() / (rate * options.seconds)
    found = shares(stacks)
    return {
        "of": options.title,
        "front": options.front,
        "calls_per_second": rate,
        "us_per_call": spent,
        **{f"{stage.replace(' ', '_').lower()}_us": share * spent for stage, share in found.items()},
    }


def main() -> None:
    """Sample, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--front", default="native", choices=("grpcio", "native"))
    parser.add_argument("--rev", help="a revision to look at (default: the files as they are)")
    parser.add_argument("--title", help="what the graph is called (default: the revision, or 'now')")
    parser.add_argument("--seconds", type=float, default=20.0, help="sampled (default 20)")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--svg", type=Path, help="where the graph goes")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - is standard output")
    options = parser.parse_args()
    options.title = options.title or options.rev or "now"
    with tree(options.rev) as source:
        try:
            row = profile(source, options)
        except NoProfiler as error:
            raise SystemExit(str(error)) from error
    tell([row], options.json)


if __name__ == "__main__":
    main()
