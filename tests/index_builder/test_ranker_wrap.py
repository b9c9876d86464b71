"""A plain ranker scores inside a release as it does alone, and one that does not fit is refused with both numbers."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, load_model_from_string

from tests.index_builder.rankers import graph_bytes, plain_mlp
from tests.support.world import linear_ranker
from tidings_core.errors import InvalidInput
from tidings_core.features import CANDIDATE_FEATURES, ITEM_FEATURES, USER_FEATURES
from tidings_core.ranker import OnnxRanker
from tidings_index_builder.ranker_wrap import WIDTH, fit_ranker

RNG = np.random.default_rng(3)
ITEMS = RNG.normal(size=(50, len(ITEM_FEATURES))).astype(np.float32)


@pytest.mark.parametrize("column", [True, False])
@pytest.mark.parametrize("opset", [11, 13, 17, 21])
@pytest.mark.parametrize(("users", "candidates"), [(1, 1), (3, 20)])
def test_a_wrapped_ranker_scores_as_it_does_alone(column: bool, opset: int, users: int, candidates: int) -> None:
    """Every candidate's score equals what the unwrapped model gives for its row: user, item, candidate features."""
    model = plain_mlp(WIDTH, opset=opset, column=column)
    rows = RNG.integers(0, len(ITEMS), (users, candidates))
    user = RNG.normal(size=(users, len(USER_FEATURES))).astype(np.float32)
    pair = RNG.normal(size=(users, candidates, len(CANDIDATE_FEATURES))).astype(np.float32)
    flat = np.concatenate([np.repeat(user[:, None], candidates, axis=1), ITEMS[rows], pair], axis=2).reshape(-1, WIDTH)
    alone = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": flat})[0]
    wrapped = OnnxRanker(fit_ranker(model, "plain.onnx"), ITEMS).score(rows, user, pair)
    np.testing.assert_allclose(wrapped, alone.reshape(users, candidates), rtol=1e-5, atol=1e-5)


def test_a_plain_ranker_may_name_columns_of_users_attributes() -> None:
    """They come after the schema's columns of the user, and the wrapped model names them too."""
    plain = load_model_from_string(plain_mlp(WIDTH + 2))
    helper.set_model_props(plain, {"tidings.user_attributes": '["age", "member"]'})
    model = plain.SerializeToString()
    ranker = OnnxRanker(fit_ranker(model, "plain.onnx"), ITEMS)
    assert ranker.user_attributes == ("age", "member")
    rows = RNG.integers(0, len(ITEMS), (2, 3))
    user = RNG.normal(size=(2, len(USER_FEATURES) + 2)).astype(np.float32)
    pair = RNG.normal(size=(2, 3, len(CANDIDATE_FEATURES))).astype(np.float32)
    flat = np.concatenate([np.repeat(user[:, None], 3, axis=1), ITEMS[rows], pair], axis=2).reshape(-1, WIDTH + 2)
    alone = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": flat})[0]
    np.testing.assert_allclose(ranker.score(rows, user, pair), alone.reshape(2, 3), rtol=1e-5, atol=1e-5)


def test_a_ranker_with_the_release_signature_is_left_as_it_is() -> None:
    """A model that already fits is not touched."""
    model = linear_ranker({}, {"log_items": 1.0}, {})
    assert fit_ranker(model, "ranker.onnx") is model
    wrapped = fit_ranker(plain_mlp(WIDTH), "plain.onnx")
    assert fit_ranker(wrapped, "wrapped.onnx") is wrapped


def _one_node(kind: int, shape: list[Any], out_kind: int, out_shape: list[Any], operator: str = "Identity") -> bytes:
    return graph_bytes(
        [helper.make_node(operator, ["x"], ["y"])], [("x", kind, shape)], [("y", out_kind, out_shape)], {}
    )


FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            plain_mlp(WIDTH + 3),
            rf"input x has {WIDTH + 3} columns, must have {WIDTH}: 7 of the user, 9 of the item, 11",
        ),
        (plain_mlp(5), rf"input x has 5 columns, must have {WIDTH}"),
        (_one_node(DOUBLE, ["n", WIDTH], DOUBLE, ["n", WIDTH]), rf"x is float64\[n, {WIDTH}\], must be float32\[n, "),
        (
            _one_node(FLOAT, ["n", WIDTH], FLOAT, ["n", WIDTH]),
            rf"output y is float32\[n, {WIDTH}\], must be float32\[n\]",
        ),
        (_one_node(FLOAT, ["n", "d"], FLOAT, ["n", "d"]), r"cannot|failed|shape|Reshape"),
        (_one_node(FLOAT, ["n"], FLOAT, ["n"]), r"input x is float32\[n\], must be"),
        (b"no model", "ranker.onnx is not an ONNX model|cannot load"),
        (
            graph_bytes(
                [helper.make_node("Add", ["a", "b"], ["y"])],
                [("a", FLOAT, ["n", WIDTH]), ("b", FLOAT, ["n", WIDTH])],
                [("y", FLOAT, ["n", 1])],
                {},
            ),
            r"has 2 inputs \(a, b\)",
        ),
        (
            graph_bytes(
                [helper.make_node("Identity", ["item_rows"], ["score"])],
                [("item_rows", TensorProto.INT64, ["B", "K"])],
                [("score", TensorProto.INT64, ["B", "K"])],
                {},
            ),
            "ranker input item_features: ranker.onnx: is missing",
        ),
    ],
)
def test_a_ranker_that_does_not_fit_is_refused_with_the_difference(model: bytes, expected: str) -> None:
    """A wrong width names both numbers; wrong types, shapes, inputs and broken files say what they are."""
    with pytest.raises(InvalidInput, match=expected):
        fit_ranker(model, "ranker.onnx")


def test_a_ranker_that_scores_no_numbers_is_refused() -> None:
    """A model whose scores are not finite is found out before it is in a release."""
    model = graph_bytes(
        [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node("Log", ["z"], ["y"]),
        ],
        [("x", FLOAT, ["n", WIDTH])],
        [("y", FLOAT, ["n", 1])],
        {"w": np.full((WIDTH, 1), -1.0, np.float32)},
    )
    with pytest.raises(InvalidInput, match="not finite"):
        fit_ranker(model, "ranker.onnx")
