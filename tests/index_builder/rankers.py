"""ONNX rankers for the builder's tests, as trainers export them."""

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def plain_mlp(width: int, hidden: int = 8, seed: int = 0, opset: int = 17, column: bool = True) -> bytes:
    """A two-layer network f32[n, width] -> f32[n, 1], or f32[n] when `column` is false."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(size=(width, hidden)).astype(np.float32),
        "b1": rng.normal(size=hidden).astype(np.float32),
        "w2": rng.normal(size=(hidden, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h0"]),
        helper.make_node("Add", ["h0", "b1"], ["h1"]),
        helper.make_node("Relu", ["h1"], ["h2"]),
        helper.make_node("MatMul", ["h2", "w2"], ["y" if column else "y2"]),
    ]
    if not column:
        weights["flat"] = np.array([-1], np.int64)
        nodes.append(helper.make_node("Reshape", ["y2", "flat"], ["y"]))
    shape: list[Any] = ["n", 1] if column else ["n"]
    return graph_bytes(
        nodes, [("x", TensorProto.FLOAT, ["n", width])], [("y", TensorProto.FLOAT, shape)], weights, opset
    )


def graph_bytes(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any], opset: int = 17
) -> bytes:
    """A model from its nodes, (name, type, shape) of inputs and outputs, and weights by name."""
    graph = helper.make_graph(
        nodes,
        "ranker",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return bytes(model.SerializeToString())
