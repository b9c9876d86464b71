"""What do changes of the catalogue and swaps of the release cost those who search meanwhile?

One run, on one generated shop, one thread:

  delta    µs of a search with a full delta (half new items, half re-embedded ones, and 1 % of the items deleted) over
           µs of the release alone, by turns, random users; and the recall of both against what there really is
  swap     p99 of searches while a release of the same size is opened, validated and swapped in, over p99 before: with
           a core of its own for opening, and with both on one core; the release is written to disk for it
  memory   private memory of a second process that has the release open and answers, over what both share: the
           release's files and the libraries

Prints tables, or with --json a list of objects.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from tidings.v1 import item_pb2
from tidings_core.attributes import Keyword
from tidings_core.features import ItemStatistics, item_features
from tidings_core.index import FaissIndex, build_index, set_threads
from tidings_core.model import Neighbours, Trending
from tidings_core.patched import PatchedIndex
from tidings_core.release import IndexInfo, Parts, open_release, write_release
from tidings_core.tables import Float32, Int32
from tidings_index_builder.recall import true_nearest
from turns import Row, by_turns, progress, tell
from vectors import KINDS, Kind, Vectors, generate

K = 100
TARGET = 0.95
USERS = 2_000
MEASURED = 500
"""Users that recall is measured on."""
FULL = 0.02
MOST = 10_000
"""A full delta: a 50th of the items, this at most."""
BEFORE_SECONDS = 5.0
SWAPS = 5


def chosen_index(made: Vectors) -> FaissIndex:
    """An index of the kind that tuning chooses, its parameter raised until recall is above the target."""
    items = len(made.items)
    key = f"IVF{round(4 * items**0.5)},{'SQ8' if items > 200_000 else 'SQfp16'}"
    index = build_index(key, made.items, "inner_product", {})
    truth = true_nearest(made.items, made.users[:MEASURED], K, "inner_product")
    nprobe = 8
    while nprobe < round(4 * items**0.5):
        index = index.with_parameters({"nprobe": nprobe})
        if truth.recall(index.search(made.users[:MEASURED], K)[0]) >= TARGET + 0.005:
            break
        nprobe = round(nprobe * 1.2) + 1
    return index


def measure_delta(made: Vectors, index: FaissIndex, kind: Kind, seconds: float, seed: int) -> Row:
    """The release alone against the release with a full delta."""
    rng = np.random.default_rng(seed)
    items, dim = made.items.shape
    full = min(MOST, round(items * FULL))
    again = np.sort(rng.choice(items, full // 2, False)).astype(np.int32)
    deleted = np.sort(rng.choice(items, items // 100, False)).astype(np.int32)
    rows = np.concatenate([again, items + np.arange(full - len(again), dtype=np.int32)])
    # New items of the same shop: the seed is what makes its clusters.
    vectors = generate(kind, full, dim, 1, seed).items
    gone = np.union1d(again, deleted).astype(np.int32)
    count, lists = items + full - len(again), index.places(vectors)
    patched = PatchedIndex(index, "inner_product", made.items, count, gone, rows, vectors, lists)
    users = made.users[MEASURED:]
    speed = by_turns(
        {
            "none": lambda row: index.search(users[row : row + 1], K),
            "full": lambda row: patched.search(users[row : row + 1], K),
        },
        len(users),
        seconds,
        seed,
    )
    return {
        "vectors": kind,
        "items": items,
        "dim": dim,
        "delta_rows": full,
        "deleted": len(deleted),
        "recall_at_100": round(_recall(made, index, None), 4),
        "with_delta": round(_recall(made, patched, (gone, rows, vectors)), 4),
        "us": speed["none"],
        "delta_us": speed["full"],
        "ratio": speed["full"] / speed["none"],
    }


def _recall(made: Vectors, index: FaissIndex | PatchedIndex, delta: tuple[Int32, Int32, Float32] | None) -> float:
    """Recall of what there really is."""
    queries, vectors = made.users[:MEASURED], made.items
    kept = np.arange(len(vectors))
    if delta is not None:
        gone, rows, new = delta
        kept = np.concatenate([np.setdiff1d(kept, gone), rows])
        vectors = np.concatenate([made.items[np.setdiff1d(np.arange(len(made.items)), gone)], new])
    place = np.full(int(kept.max()) + 1, -1, np.int64)
    place[kept] = np.arange(len(kept))
    found = index.search(queries, K)[0]
    return true_nearest(vectors, queries, K, "inner_product").recall(np.where(found >= 0, place[found], -1))


def write(made: Vectors, index: FaissIndex, folder: Path) -> Path:
    """Write a whole release of a shop; its directory."""
    rng = np.random.default_rng(0)
    items = len(made.items)
    prices = rng.lognormal(2.0, 1.0, items).astype(np.float32)
    categories = (made.clusters % 200).astype(np.int32)
    purchases = rng.pareto(1.2, items) * 5.0
    order = np.argsort(-purchases)[:1000].astype(np.int32)
    near = rng.integers(0, items, (items, 20)).astype(np.int32)
    now = time.time()
    parts = Parts(
        item_ids=[f"item-{row}" for row in range(items)],
        user_ids=[f"user-{row}" for row in range(len(made.users))],
        item_vectors=made.items,
        user_vectors=made.users,
        metric="inner_product",
        index=index,
        index_info=IndexInfo(index.key, index.parameters, TARGET, K, TARGET, MEASURED, 0.0, 0.0, now),
        item_features=item_features(ItemStatistics.unknown(items), prices, categories),
        payloads=[
            item_pb2.Item(
                item_id=f"item-{row}", title=f"A thing of the shop, number {row}", price=float(price), currency="EUR"
            ).SerializeToString()
            for row, price in enumerate(prices)
        ],
        recall_queries=made.users[:MEASURED],
        attributes={"category": Keyword.of([f"category-{code:03}" for code in categories.tolist()])},
        neighbours=Neighbours(near, np.sort(rng.random(near.shape).astype(np.float32))[:, ::-1]),
        trending=Trending(order, purchases[order].astype(np.float32)),
    )
    return folder / write_release(folder, parts, now).release_id


def measure_swap(made: Vectors, release: Path, kind: Kind) -> list[Row]:
    """Searches while a release is opened and swapped in, with a core for it and without."""
    cores = sorted(os.sched_getaffinity(0))
    sharing = [("shared", cores[0])]
    if len(cores) > 1:
        sharing.insert(0, ("free", cores[1]))
    return [_swap(made, release, kind, core, cores[0], other) for core, other in sharing]


def _swap(made: Vectors, release: Path, kind: Kind, core: str, own: int, other: int) -> Row:
    serving = [open_release(release)]
    ended = threading.Event()
    taken: list[tuple[float, float]] = []

    def search() -> None:
        os.sched_setaffinity(0, {own})
        rng = np.random.default_rng(0)
        while not ended.is_set():
            row = int(rng.integers(0, len(made.users)))
            start = time.perf_counter()
            serving[0].snapshot.index.search(made.users[row : row + 1], K)
            taken.append((start, time.perf_counter() - start))

    searcher = threading.Thread(target=search)
    searcher.start()
    time.sleep(BEFORE_SECONDS)
    swaps: list[tuple[float, float]] = []

    def swap() -> None:
        os.sched_setaffinity(0, {other})
        for _ in range(SWAPS):
            start = time.perf_counter()
            serving[0] = open_release(release)
            swaps.append((start, time.perf_counter()))
            time.sleep(0.5)

    opener = threading.Thread(target=swap)
    opener.start()
    opener.join()
    ended.set()
    searcher.join()
    before = [seconds for start, seconds in taken if start < swaps[0][0]]
    during = [seconds for start, seconds in taken if any(a <= start <= b for a, b in swaps)]
    calm, busy = float(np.percentile(before, 99)), float(np.percentile(during, 99))
    return {
        "vectors": kind,
        "items": len(made.items),
        "core_for_opening": core,
        "open_s": float(np.median([b - a for a, b in swaps])),
        "p50_before_us": float(np.median(before)) * 1e6,
        "p99_before_ms": calm * 1e3,
        "p99_during_ms": busy * 1e3,
        "p99_ratio": busy / calm,
    }


_HOLDER = """
import sys
from pathlib import Path
import numpy as np
from tidings_core.release import open_release
release = open_release(Path(sys.argv[1]))
snapshot = release.snapshot
for row in range(min(2000, len(snapshot.users))):
    rows, _ = snapshot.index.search(snapshot.user_vectors[row : row + 1], 100)
    snapshot.item_vectors[rows[0]], snapshot.item_features[rows[0]], snapshot.neighbours.rows[rows[0]]
    snapshot.payloads.views(rows[0].tolist()), snapshot.items.find_many([snapshot.items[int(rows[0, 0])]])
print("ready", flush=True)
sys.stdin.read()
"""


def measure_memory(release: Path, kind: Kind, items: int) -> Row:
    """Two processes on one release: what the second has for itself."""
    holders: list[subprocess.Popen[str]] = []
    try:
        for _ in range(2):
            command = [sys.executable, "-c", _HOLDER, str(release)]
            holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            holders.append(holder)
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
        sizes = _mapped(holders[1].pid, release)
    finally:
        for holder in holders:
            holder.communicate()
    files = sum(path.stat().st_size for path in release.iterdir())
    mib = 1 << 20
    return {
        "vectors": kind,
        "items": items,
        "release_mib": files / mib,
        "libraries_mib": sizes["libraries"] / mib,
        "private_mib": sizes["private"] / mib,
        "of_it_release_mib": sizes["private_release"] / mib,
        "share": sizes["private"] / (files + sizes["libraries"]),
    }


def _mapped(pid: int, release: Path) -> dict[str, int]:
    """Bytes that a process has for itself, in all and of the release's files, and bytes of libraries in its memory."""
    found = {"private": 0, "private_release": 0, "libraries": 0}
    path = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("Private_Clean", "Private_Dirty", "Rss") and path is not None:
            size = int(rest.split()[0]) * 1024
            if name == "Rss":
                found["libraries"] += size if ".so" in path or "bin/python" in path else 0
            else:
                found["private"] += size
                found["private_release"] += size if path.startswith(str(release)) else 0
        elif "-" in line.split(" ", 1)[0] and ":" not in line.split(" ", 1)[0]:
            path = line.split(maxsplit=5)[5] if len(line.split(maxsplit=5)) > 5 else ""
    return found


def measure(kind: Kind, items: int, dim: int, seconds: float, seed: int, parts: Sequence[str]) -> list[Row]:
    """Everything that is asked for, on one shop."""
    set_threads(1)
    progress("generating")
    made = generate(kind, items, dim, USERS, seed)
    progress("building the index")
    index = chosen_index(made)
    rows: list[Row] = []
    if "delta" in parts:
        progress("measuring a full delta")
        rows.append(measure_delta(made, index, kind, seconds, seed))
    if {"swap", "memory"} & set(parts):
        with tempfile.TemporaryDirectory() as folder:
            progress("writing the release")
            release = write(made, index, Path(folder))
            del index
            if "swap" in parts:
                progress("swapping")
                rows += measure_swap(made, release, kind)
            if "memory" in parts:
                progress("opening it twice")
                rows.append(measure_memory(release, kind, items))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--kind", choices=KINDS, default="clustered")
    parser.add_argument("--seconds", type=float, default=20.0, help="of searching by turns (default 20)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("delta", "swap", "memory"), help="measure this alone")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - is standard output")
    options = parser.parse_args()
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        # As the server has it: a product of matrices that spreads over cores waits for those that are busy. It is read
        # when numpy is imported, so begin anew.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    parts = [options.only] if options.only else ["delta", "swap", "memory"]
    rows = measure(options.kind, options.items, options.dim, options.seconds, options.seed, parts)
    if options.json is not None:
        tell(rows, options.json)
        return
    for _, group in groupby(rows, key=tuple):
        tell(list(group), None)


if __name__ == "__main__":
    main()
