"""What does the index that the builder chooses reach, on users that it never saw, and what did the choice cost?

One run, on one generated shop, one thread:

  recall@100    share of the exact 100 nearest items found, for 1,000 users that took no part in tuning
  ratio         µs of a search in the tuned index over µs of exact search ("Flat"), by turns, random users
  build ratio   seconds the tuning took in all over seconds of building the winner alone, lists included, as it was
                built while tuning; 0 when exact search won, which is not built

Prints a table, or with --json a list of one object.
"""

import argparse
import resource
import time

from tidings_core.index import build_index, normalise, set_threads
from tidings_core.model import METRICS, Metric
from tidings_index_builder.recall import true_nearest
from tidings_index_builder.tune import tune
from turns import by_turns, progress, tell
from vectors import KINDS, Kind, generate

K = 100
TARGET = 0.95
UNSEEN = 1000


def measure(
    kind: Kind, metric: Metric, items: int, dim: int, seconds: float, users: int, seed: int
) -> dict[str, object]:
    """Generate, tune, and compare with exact search and with one build of the winner."""
    made = generate(kind, items, dim, users + UNSEEN, seed)
    vectors, people = normalise(made.items, metric), normalise(made.users, metric)
    del made
    known, unseen = people[:users], people[users:]
    set_threads(1)
    start = time.perf_counter()
    tuned = tune(vectors, known, metric, target=TARGET, k=K, seed=seed, progress=progress)
    tuning = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    winner = tuned.winner
    progress("measuring recall and speed on unseen users")
    recall = true_nearest(vectors, unseen, K, metric).recall(tuned.index.search(unseen, K)[0])
    flat = build_index("Flat", vectors, metric, {})
    speed = by_turns(
        {
            "tuned": lambda row: tuned.index.search(unseen[row : row + 1], K),
            "flat": lambda row: flat.search(unseen[row : row + 1], K),
        },
        len(unseen),
        seconds,
        seed,
    )
    return {
        "vectors": kind,
        "metric": metric.replace("_", " "),
        "items": items,
        "dim": dim,
        "index": winner.key + "".join(f" {name}={value}" for name, value in winner.parameters.items()),
        "recall_at_100": round(recall, 4),
        "promised": round(tuned.recall, 4),
        "us": speed["tuned"],
        "flat_us": speed["flat"],
        "ratio": speed["tuned"] / speed["flat"],
        "bytes_per_item": winner.bytes_per_item,
        "tuned_build_s": tuning,
        "plain_build_s": winner.build_seconds,
        "build_ratio": tuning / winner.build_seconds if winner.build_seconds else 0.0,
        "peak_mib": peak,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--kind", choices=KINDS, default="clustered")
    parser.add_argument("--metric", choices=METRICS, default="inner_product")
    parser.add_argument("--users", type=int, default=10_000, help="to tune with (default 10,000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing by turns (default 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - is standard output")
    options = parser.parse_args()
    given = (options.kind, options.metric, options.items, options.dim, options.seconds, options.users, options.seed)
    tell([measure(*given)], options.json)


if __name__ == "__main__":
    main()
