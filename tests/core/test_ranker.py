"""The ranker: scores as its graph says, signatures checked, failures named."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, load_model_from_string

from tests.support.world import linear_ranker
from tidings_core.errors import InvalidInput, RankerFailed
from tidings_core.features import CANDIDATE_FEATURES, ITEM_FEATURES, USER_FEATURES
from tidings_core.ranker import OnnxRanker

RNG = np.random.default_rng(0)
ITEMS = RNG.normal(size=(40, len(ITEM_FEATURES))).astype(np.float32)


def inputs(users: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random inputs of a batch."""
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, len(ITEMS), (users, width)),
        rng.normal(size=(users, len(USER_FEATURES))).astype(np.float32),
        rng.normal(size=(users, width, len(CANDIDATE_FEATURES))).astype(np.float32),
    )


def expected(rows: np.ndarray, users: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """What the ranker below computes."""
    price, items, score = (
        ITEM_FEATURES.index("log_price"),
        USER_FEATURES.index("log_items"),
        CANDIDATE_FEATURES.index("vector_score"),
    )
    return 2.0 * ITEMS[rows, price] + 3.0 * users[:, None, items] + pairs[:, :, score]


MODEL = linear_ranker({"log_price": 2.0}, {"log_items": 3.0}, {"vector_score": 1.0})


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (8, 60)])
def test_scores_are_what_the_graph_says_for_any_batch(shape: tuple[int, int]) -> None:
    """Item features are gathered by row inside the graph; batch and width are free."""
    given = inputs(*shape)
    np.testing.assert_allclose(OnnxRanker(MODEL, ITEMS).score(*given), expected(*given), rtol=1e-4, atol=1e-5)


def test_a_ranker_may_name_columns_of_users_attributes() -> None:
    """The users' block is longer by them; what they are is told, and a wrong name or length is refused by name."""
    model = linear_ranker({"log_price": 1.0}, {}, {}, {"age": 2.0, "gender=female": -1.0})
    ranker = OnnxRanker(model, ITEMS)
    assert ranker.user_attributes == ("age", "gender=female")
    rows, users, pairs = inputs(2, 5)
    columns = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    scores = ranker.score(rows, np.concatenate([users, columns], axis=1), pairs)
    price = ITEMS[rows, ITEM_FEATURES.index("log_price")]
    np.testing.assert_allclose(scores, price * [[2.0], [-1.0]], rtol=1e-4, atol=1e-5)
    for names, said in (
        (["Age"], "names the column 'Age'; write age, or gender=female"),
        (["age", "age"], "must name each once"),
        ([f"a{n}" for n in range(300)], "256 at most"),
        ("age", "must be a JSON list of names"),
        (["age"], "has last axis"),
    ):
        other = load_model_from_string(model)
        helper.set_model_props(other, {"tidings.user_attributes": json.dumps(names)})
        with pytest.raises(InvalidInput, match=re.escape(said)):
            OnnxRanker(other.SerializeToString(), ITEMS)


def test_threads_can_share_a_ranker() -> None:
    """Concurrent calls do not see each other's inputs."""
    ranker = OnnxRanker(MODEL, ITEMS)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for turn in range(50):
            given = inputs(2, 30, seed * 1000 + turn)
            if not np.allclose(ranker.score(*given), expected(*given), rtol=1e-4, atol=1e-5):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_model_with_another_signature_is_refused_with_every_difference() -> None:
    """A wrong last axis, a missing and a foreign input are all named at once."""
    model = load_model_from_string(MODEL)
    model.graph.input[2].type.tensor_type.shape.dim[1].dim_value = 99
    model.graph.input[3].name = "pairs"
    for node in model.graph.node:
        node.input[:] = ["pairs" if name == "candidate_features" else name for name in node.input]
    model.graph.node[3].CopyFrom(helper.make_node("ReduceSum", ["user_features", "last"], ["from_user"], keepdims=1))
    with pytest.raises(InvalidInput) as refused:
        OnnxRanker(model.SerializeToString(), ITEMS)
    assert f"user_features: has last axis 99, must be {len(USER_FEATURES)}" in str(refused.value)
    assert "candidate_features: is missing" in str(refused.value)
    assert "pairs: is not part of the signature" in str(refused.value)


def test_bytes_that_are_no_model_are_refused() -> None:
    """Garbage is the user's mistake, not a crash."""
    with pytest.raises(InvalidInput, match="cannot load"):
        OnnxRanker(b"garbage", ITEMS)


def test_a_row_outside_the_items_is_a_failure_of_the_ranker_alone() -> None:
    """What ONNX Runtime raises becomes RankerFailed, which an answer can do without."""
    rows, users, pairs = inputs(1, 5)
    rows[0, 0] = 10_000
    with pytest.raises(RankerFailed):
        OnnxRanker(MODEL, ITEMS).score(rows, users, pairs)


def test_an_output_of_another_type_is_refused() -> None:
    """The output must be f32[B, K] named score."""
    model = load_model_from_string(MODEL)
    model.graph.node[-1].output[0] = "points"
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("points", TensorProto.FLOAT, ["B", "K"]))
    with pytest.raises(InvalidInput, match="output score: is missing"):
        OnnxRanker(model.SerializeToString(), ITEMS)


def test_scoring_tells_nobody_and_leaves_nothing_in_the_users_cache(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry, which would begin by writing a device id and a queue of events, is off."""
    model, home = tmp_path / "ranker.onnx", tmp_path / "home"
    model.write_bytes(MODEL)
    home.mkdir()
    code = "import sys, numpy; from pathlib import Path; from tidings_core.ranker import OnnxRanker; "
    code += f"OnnxRanker(Path(sys.argv[1]), numpy.zeros((40, {len(ITEM_FEATURES)}), numpy.float32))"
    told = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    where = {"HOME": str(home), "XDG_CACHE_HOME": str(home)}
    subprocess.run([sys.executable, "-c", code, str(model)], env={**told, **where}, check=True)
    assert list(home.rglob("*")) == []
