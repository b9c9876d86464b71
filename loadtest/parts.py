"""The parts of the benchmarks: which commands measure each, in full and in a few minutes."""

from collections.abc import Sequence
from dataclasses import dataclass

from vectors import KINDS

SIZES = {"10k": 10_000, "100k": 100_000, "1M": 1_000_000}
BEFORE = "a58755b"
"""The revision before the hot path was worked on."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the page: its marker, the heading it stands under, and its commands, also in the quick form.

    `images` are drawings in docs/img that its commands make.
    """

    marker: str
    heading: str
    runs: tuple[str, ...]
    quick: tuple[str, ...]
    images: tuple[str, ...] = ()


def _retrieval(
    sizes: Sequence[str], dims: Sequence[int], seconds: int, kinds: Sequence[str] = KINDS, script: str = "retrieval.py"
) -> tuple[str, ...]:
    return tuple(
        f"{script} --items {SIZES[size]} --dim {dim} --kind {kind} --seconds {seconds}"
        for size in sizes
        for dim in dims
        for kind in kinds
    )


def _metrics(metrics: Sequence[str], seconds: int) -> tuple[str, ...]:
    return tuple(f"retrieval.py --items {SIZES['100k']} --metric {metric} --seconds {seconds}" for metric in metrics)


def _fronts(*commands: str) -> tuple[str, ...]:
    return tuple(command.format(front=front) for command in commands for front in ("native", "grpcio"))


_SMALL = "--items 10000 --users 2000"

RETRIEVAL = (
    Part(
        "retrieval",
        "Search and tuning",
        _retrieval(list(SIZES), (64, 128), 8) + _metrics(("cosine", "l2"), 8),
        _retrieval(["100k"], (64,), 5),
    ),
    Part(
        "filters",
        "Filters and exclusions",
        _retrieval(["100k"], (64,), 20, script="retrieval_filters.py")
        + _retrieval(["1M"], (64,), 20, KINDS[:1], "retrieval_filters.py"),
        _retrieval(["100k"], (64,), 10, script="retrieval_filters.py"),
    ),
    Part(
        "delta",
        "The catalogue between releases",
        _retrieval(["100k", "1M"], (64,), 20, KINDS[:1], "retrieval_delta.py"),
        _retrieval(["100k"], (64,), 10, KINDS[:1], "retrieval_delta.py"),
    ),
)
SERVING = (
    Part(
        "serving",
        "Calls per second",
        _fronts("ratio.py --front {front} --seconds 6 --rounds 5"),
        _fronts(f"ratio.py --front {{front}} --seconds 2 --rounds 1 {_SMALL}"),
    ),
    Part(
        "hot-path",
        "Where the time of a call goes",
        (
            f"flame.py --front native --rev {BEFORE} --title before --svg docs/img/flame-before.svg",
            "flame.py --front native --title now --svg docs/img/flame-now.svg",
            "flame.py --front grpcio --title now --svg docs/img/flame-now-grpcio.svg",
        ),
        (f"flame.py --front native --seconds 4 {_SMALL}",),
        ("flame-before", "flame-now", "flame-now-grpcio"),
    ),
    Part(
        "fanout",
        "One text for ten thousand",
        _fronts("fanout.py --front {front} --subscribers 10000"),
        _fronts("fanout.py --front {front} --subscribers 1000 --rounds 2"),
    ),
    Part(
        "push",
        "From an event to its push",
        _fronts("event_to_push.py --front {front} --seconds 5 --rounds 3"),
        _fronts(f"event_to_push.py --front {{front}} --seconds 2 --rounds 1 {_SMALL}"),
    ),
    Part(
        "items",
        "More items",
        ("scale.py --front native --people --items 10000 100000 1000000",),
        ("scale.py --front native --people --items 10000 50000 --seconds 2 --rounds 1",),
    ),
    Part(
        "ten-million",
        "Ten million items",
        ("scale.py --front native --people --items 10000 10000000 --rounds 2",),
        (),
    ),
    Part(
        "people",
        "More people",
        ("scale.py --front native --items --people 10000 100000 1000000",),
        ("scale.py --front native --items --people 2000 50000 --items-of-people 10000 --seconds 2 --rounds 1",),
    ),
    Part(
        "ingest",
        "Events and profiles",
        _fronts("ingest.py --front {front}"),
        _fronts("ingest.py --front {front} --users 20000 --items 5000 --seconds 2 --rounds 1"),
    ),
    Part("erasing", "Erasing a person", ("erase.py",), ("erase.py --events 2000 --others 20000",)),
    Part(
        "overload",
        "Too much to do",
        (
            "overload.py --front native --seconds 60 --deadline-ms 1000 50",
            "overload.py --front grpcio --seconds 60 --deadline-ms 1000",
        ),
        _fronts(f"overload.py --front {{front}} --seconds 6 --deadline-ms 1000 {_SMALL}"),
    ),
)
PARTS = (*SERVING, *RETRIEVAL)
