"""The recurrent network as an ONNX model: the encoder of a release."""

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tidings_training.contenders.gru import LONGER, Gru
from tidings_training.ranker import IR_VERSION, OPSET

if TYPE_CHECKING:
    from numpy.typing import NDArray


def export(model: Gru) -> bytes:
    """See `Gru.encoder`. ONNX's own GRU, its gates in the same order, with the linear map before the reset."""
    dim, size = model.items.shape[1], len(model.over)
    constants: dict[str, NDArray[np.generic]] = {
        "longer": LONGER,
        "pauses": model.gaps,
        "into": model.into.T[None],
        "over": model.over.T[None],
        "shift": np.concatenate([model.shift, np.zeros_like(model.shift)])[None],
        "out": model.out,
        "scale": model.scale,
        "move": model.move,
        "one": np.ones(1, np.float32),
        "begin": np.array([0], np.int64),
        "end": np.array([dim], np.int64),
        "last": np.array([-1], np.int64),
        "wide": np.array([1], np.int64),
    }
    nodes = [
        # The bias of the items is no part of what goes in.
        helper.make_node("Slice", ["vectors", "begin", "end", "last"], ["items"]),
        *_buckets("gaps", "gap_buckets"),
        helper.make_node("Gather", ["pauses", "gap_buckets"], ["paused"]),
        helper.make_node("Add", ["items", "paused"], ["given"]),
        helper.make_node("Transpose", ["given"], ["by_step"], perm=[1, 0, 2]),
        helper.make_node("Cast", ["lengths"], ["short_lengths"], to=TensorProto.INT32),
        helper.make_node(
            "GRU",
            ["by_step", "into", "over", "shift", "short_lengths"],
            ["", "states"],
            hidden_size=size,
            linear_before_reset=1,
        ),
        helper.make_node("Squeeze", ["states", "begin"], ["state"]),
        helper.make_node("MatMul", ["state", "out"], ["linear"]),
        *_buckets("since", "since_buckets"),
        helper.make_node("Gather", ["scale", "since_buckets"], ["scaled_by"]),
        helper.make_node("Gather", ["move", "since_buckets"], ["moved_by"]),
        helper.make_node("Add", ["scaled_by", "one"], ["factor"]),
        helper.make_node("Mul", ["linear", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "moved_by"], ["made"]),
        # The bias counts once.
        helper.make_node("Pad", ["made", "margins", "bias_weight"], ["vector"]),
    ]
    constants |= {"margins": np.array([0, 0, 0, 1], np.int64), "bias_weight": np.array(1, np.float32)}
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "encoder",
        [
            helper.make_tensor_value_info("vectors", kind, ["B", "L", dim + 1]),
            helper.make_tensor_value_info("gaps", kind, ["B", "L"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["B"]),
            helper.make_tensor_value_info("since", kind, ["B"]),
        ],
        [helper.make_tensor_value_info("vector", kind, ["B", dim + 1])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    model_proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model_proto.SerializeToString())


def _buckets(name: str, out: str) -> list[Any]:
    """The nodes that give the buckets of pauses: how many ends of buckets they have reached."""
    return [
        helper.make_node("Unsqueeze", [name, "last"], [f"{name}_wide"]),
        helper.make_node("GreaterOrEqual", [f"{name}_wide", "longer"], [f"{name}_reached"]),
        helper.make_node("Cast", [f"{name}_reached"], [f"{name}_ones"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", [f"{name}_ones", "last"], [out], keepdims=0),
    ]
