"""Where a server spends its time: its stacks sampled by py-spy, counted by stage, and drawn as a flame graph."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

import psutil

Stacks = Mapping[tuple[str, ...], int]
"""How much each stack has. A stack is its functions, `name (file)`, the outermost first."""
RATE = 200
THREAD = re.compile(r"thread \((\d+)\): (.*)")
STAGES = (
    ("search", ("core/index.py", "core/lists.py", "core/division.py", "core/selection.py", "faiss/")),
    ("rank", ("core/ranker.py", "onnxruntime/")),
    ("encode", ("transport/encoding.py",)),
    ("order", ("tidings_core/",)),
    ("profile", ("application/", "adapters/")),
    ("decode", ("transport/recommendation.py", "transport/filters.py", "transport/calls.py")),
    ("front", ("transport/", "asyncio/", "grpc/", "pygrpc_native/", "threading.py", "selectors.py", "queue.py")),
)
"""Stages with the files whose functions do them. A stack counts for the innermost function that is in any."""
OUTSIDE = "outside Python"
"""Threads of libraries: the native front's HTTP/2, grpcio's poller."""
OTHER = "other"
WIDTH, ROW = 1000.0, 15
LEAST = 1.5
"""Pixels below which a function is not drawn."""


class NoProfiler(Exception):
    """There is no py-spy, without which no stacks are sampled."""


def sample(pid: int, seconds: float) -> Counter[tuple[str, ...]]:
    """Sample the threads of a process without stopping it, and return its stacks in microseconds of the processor.

    A sampler cannot tell a thread that runs from one that waits for its turn, so each thread's samples share what the
    system says it took; threads that Python does not know have one stack of their own. Raises NoProfiler.
    """
    program = Path(sys.executable).with_name("py-spy")
    found = str(program) if program.exists() else shutil.which("py-spy")
    if found is None:
        raise NoProfiler("py-spy is not installed: pip install py-spy")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stacks.txt"
        words = [found, "record", "--pid", str(pid), "--duration", str(max(1, round(seconds))), "--rate", str(RATE)]
        words += ["--format", "raw", "--function", "--threads", "--nonblocking", "--full-filenames"]
        before = _thread_times(pid)
        said = subprocess.run([*words, "--output", str(file)], capture_output=True, text=True, check=False)
        after = _thread_times(pid)
        if said.returncode:
            raise NoProfiler(f"py-spy failed: {said.stderr.strip()}")
        spent = {thread: round((took - before.get(thread, 0.0)) * 1e6) for thread, took in after.items()}
        return weigh(read(file.read_text()), spent)


def _thread_times(pid: int) -> dict[int, float]:
    return {thread.id: thread.user_time + thread.system_time for thread in psutil.Process(pid).threads()}


def weigh(stacks: Stacks, spent: Mapping[int, int]) -> Counter[tuple[str, ...]]:
    """Stacks whose outermost part is `thread (ID): name`, weighted so that each thread's are together what it spent."""
    of: dict[int, Counter[tuple[str, ...]]] = {}
    for stack, count in stacks.items():
        found = THREAD.match(stack[0])
        if found and len(stack) > 1:
            of.setdefault(int(found[1]), Counter())[(found[2], *stack[1:])] += count
    weighed: Counter[tuple[str, ...]] = Counter()
    for thread, microseconds in spent.items():
        seen = of.get(thread, Counter({(OUTSIDE,): 1}))
        for stack, count in seen.items():
            weighed[stack] += round(microseconds * count / seen.total())
    return +weighed


def read(text: str) -> Counter[tuple[str, ...]]:
    """Stacks in the folded form: `function;function;function count`, a line each."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in text.splitlines():
        frames, _, count = line.rpartition(" ")
        stacks[tuple(frames.split(";"))] += int(count)
    return stacks


def stage_of(stack: tuple[str, ...]) -> str:
    """The stage that a stack belongs to."""
    if stack == (OUTSIDE,):
        return OUTSIDE
    for frame in reversed(stack):
        for stage, files in STAGES:
            if any(file in frame for file in files):
                return stage
    return OTHER


def shares(stacks: Stacks) -> dict[str, float]:
    """The share that each stage has of all, all together 1; stages that were not seen are left out."""
    counted: Counter[str] = Counter()
    for stack, count in stacks.items():
        counted[stage_of(stack)] += count
    total = max(1, counted.total())
    return {
        stage: counted[stage] / total for stage in (*(name for name, _ in STAGES), OUTSIDE, OTHER) if counted[stage]
    }


def short(frame: str) -> str:
    """A function with the file it is in, and of the path what tells files apart."""
    name, _, path = frame.partition(" (")
    parts = path.rstrip(")").split(":")[0].split("/")
    return f"{name} ({'/'.join(parts[-2:])})" if path else name


def draw(stacks: Stacks, title: str) -> str:
    """A flame graph as SVG: the width of a function is what it and all it called have, threads at the bottom."""
    folded = sorted((tuple(map(short, stack)), count) for stack, count in stacks.items())
    boxes = list(_boxes(folded, (), 0))
    total = max(1, sum(stacks.values()))
    scale = WIDTH / total
    shown = [box for box in boxes if box[3] * scale >= LEAST]
    height = (max((box[1] for box in shown), default=0) + 1) * ROW + 36
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height}" font-family="monospace" '
        f'font-size="10"><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="4" y="14" font-size="12">{escape(title)}</text>'
    ]
    for number, (stage, colour) in enumerate(COLOURS.items()):
        x = WIDTH - 80 * (len(COLOURS) - number)
        lines.append(f'<rect x="{x:.0f}" y="20" width="8" height="8" fill="{colour}"/>')
        lines.append(f'<text x="{x + 11:.0f}" y="28">{escape(stage)}</text>')
    for stack, depth, start, size in shown:
        name = stack[-1]
        x, width, y = start * scale, size * scale, height - (depth + 1) * ROW
        room = int((width - 4) / 6.1)
        label = escape(name if len(name) <= room else name[: max(0, room - 1)] + "…") if room > 3 else ""
        lines.append(
            f"<g><title>{escape(name)}: {size / total:.1%}</title>"
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 1}" fill="{COLOURS[stage_of(stack)]}"/>'
            + (f'<text x="{x + 2:.1f}" y="{y + 11}">{label}</text>' if label else "")
            + "</g>"
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


def _boxes(
    stacks: Sequence[tuple[tuple[str, ...], int]], above: tuple[str, ...], start: int
) -> Iterator[tuple[tuple[str, ...], int, int, int]]:
    """(function with its callers, depth, start, size) of what is called by `above`, and of all that is called by it."""
    depth = len(above)
    for name, group in groupby((one for one in stacks if len(one[0]) > depth), key=lambda one: one[0][depth]):
        alike = list(group)
        size = sum(count for _, count in alike)
        yield (*above, name), depth, start, size
        yield from _boxes(alike, (*above, name), start)
        start += size


COLOURS = {
    "search": "#7fb3d5", "rank": "#f0a35e", "encode": "#b39ddb", "order": "#f6d55c", "profile": "#9ccc9c",
    "decode": "#d7b8a0", "front": "#e88f8f", OUTSIDE: "#c5cbd3", OTHER: "#e2e2e2",
}  # fmt: skip
