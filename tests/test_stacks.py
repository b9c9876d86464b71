"""A flame graph shows what the processor did: samples are weighted by what each thread took, and drawn to scale."""

import re

import pytest

from stacks import OTHER, OUTSIDE, draw, read, shares, stage_of, weigh

FOLDED = """\
thread (7): compute-0;run (/x/server/tidings_server/transport/batcher.py:9);search (/x/core/tidings_core/index.py:1) 3
thread (7): compute-0;run (/x/server/tidings_server/transport/batcher.py:9);score (/x/core/tidings_core/ranker.py:1) 1
thread (8): native-front;receive (/x/server/tidings_server/transport/front_native.py:5) 50
"""


def test_a_thread_that_only_waited_for_its_turn_weighs_what_it_took() -> None:
    """However often it was seen; and threads that Python does not know have a stack of their own."""
    weighed = weigh(read(FOLDED), {7: 400_000, 8: 1_000, 9: 20_000, 10: 0})
    assert sum(weighed.values()) == 421_000
    assert weighed[(OUTSIDE,)] == 20_000
    assert {stack[0]: count for stack, count in weighed.items() if "search" in stack[-1]} == {"compute-0": 300_000}
    found = shares(weighed)
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["search"] == pytest.approx(300 / 421)
    assert found["rank"] == pytest.approx(100 / 421)
    assert found["front"] == pytest.approx(1 / 421)
    assert found[OUTSIDE] == pytest.approx(20 / 421)


@pytest.mark.parametrize(
    ("frames", "stage"),
    [
        (["run (/x/server/tidings_server/transport/batcher.py)", "dot (/y/numpy/linalg.py)"], "front"),
        (["a (/x/core/tidings_core/recommend.py)", "search (/y/site-packages/faiss/class_wrappers.py)"], "search"),
        (["a (/x/core/tidings_core/index.py)", "b (/x/core/tidings_core/rows.py)"], "order"),
        (["a (/y/somewhere.py)"], OTHER),
    ],
)
def test_a_stack_counts_for_the_innermost_function_with_a_stage(frames: list[str], stage: str) -> None:
    """What a library does, it does for who called it."""
    assert stage_of(tuple(frames)) == stage


def test_the_graph_is_drawn_to_scale_and_the_same_each_time() -> None:
    """Half of the time is half of the width, callers under what they call, names escaped, slivers left out."""
    stacks: dict[tuple[str, ...], int] = {("main", "<a> (/x/b.py:1)"): 500, ("main", "c"): 499, ("main", "sliver"): 1}
    svg = draw(stacks, "One & all")
    assert svg == draw(dict(reversed(stacks.items())), "One & all")
    boxes = re.findall(r'<title>(.*?): .*?</title><rect x="([\d.]+)" y="(\d+)" width="([\d.]+)"', svg)
    assert [(name, float(x), float(width)) for name, x, _, width in boxes] == [
        ("main", 0.0, 1000.0), ("&lt;a&gt; (x/b.py)", 0.0, 500.0), ("c", 500.0, 499.0)
    ]  # fmt: skip
    assert int(boxes[0][2]) > int(boxes[1][2])
    assert "One &amp; all" in svg
