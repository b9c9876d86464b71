"""Rankers as trainers export them, made to fit the release's signature.

A plain ranker scores one row of features at a time: f32[n, D] -> f32[n] or f32[n, 1], with the columns of the user, the
item and the candidate block, in schema order. It is wrapped in a graph that gathers those columns per candidate.
"""

import json
from typing import Any

import numpy as np
import onnx
import onnx.compose
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from tidings_core.errors import InvalidInput, RankerFailed
from tidings_core.features import CANDIDATE_FEATURES, ITEM_FEATURES, USER_FEATURES
from tidings_core.ranker import INPUTS, OUTPUT, USER_ATTRIBUTES, OnnxRanker

WIDTH = len(USER_FEATURES) + len(ITEM_FEATURES) + len(CANDIDATE_FEATURES)
_INNER = "plain/"


def fit_ranker(model: bytes, where: str) -> bytes:
    """The model with the release's signature: as it is, or wrapped. `where` names it in errors.

    It is run once, so that a model that cannot score is refused here. Raises InvalidInput naming what does not fit.
    """
    try:
        graph = onnx.load_model_from_string(model).graph
    except (DecodeError, ValueError, UnicodeDecodeError) as error:
        raise InvalidInput(("ranker", f"{where} is not an ONNX model: {error}")) from error
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [given for given in graph.input if given.name not in weights]
    fitted = model if {given.name for given in inputs} & set(INPUTS) else _wrap(model, inputs, where)
    try:
        ranker = OnnxRanker(fitted, np.ones((4, len(ITEM_FEATURES)), np.float32))
        rows = np.array([[0, 1, 3], [2, 2, 0]], np.int64)
        pairs = np.ones((2, 3, len(CANDIDATE_FEATURES)), np.float32)
        users = np.ones((2, len(USER_FEATURES) + len(ranker.user_attributes)), np.float32)
        scores = ranker.score(rows, users, pairs)
    except InvalidInput as error:
        raise InvalidInput(*((field, f"{where}: {problem}") for field, problem in error.violations)) from error
    except RankerFailed as error:
        raise InvalidInput(("ranker", f"{where}: {error}")) from error
    if not np.isfinite(scores).all():
        raise InvalidInput(("ranker", f"{where}: its scores are not finite, not even where every feature is 1"))
    return fitted


def _wrap(model: bytes, inputs: list[Any], where: str) -> bytes:
    """Put a plain model between nodes that gather its columns and nodes that shape its scores."""
    plain = onnx.load_model_from_string(model)
    more = _named(plain)
    _check_plain(inputs, list(plain.graph.output), where, more)
    inner = onnx.compose.add_prefix(plain, _INNER).graph
    entry, leave = _INNER + inputs[0].name, inner.output[0].name
    users, width = len(USER_FEATURES) + more, [-1, WIDTH + more]
    constants = {"one_user_each": [-1, 1, users], "users": [users], "row_each": width}
    nodes = [
        helper.make_node("Shape", ["item_rows"], ["pairs"]),
        helper.make_node("Concat", ["pairs", "users"], ["user_shape"], axis=0),
        helper.make_node("Reshape", ["user_features", "one_user_each"], ["of_users"]),
        helper.make_node("Expand", ["of_users", "user_shape"], ["of_user"]),
        helper.make_node("Gather", ["item_features", "item_rows"], ["of_item"]),
        helper.make_node("Concat", ["of_user", "of_item", "candidate_features"], ["blocks"], axis=2),
        helper.make_node("Reshape", ["blocks", "row_each"], [entry]),
        *inner.node,
        helper.make_node("Reshape", [leave, "pairs"], [OUTPUT]),
    ]
    kinds = {"tensor(int64)": TensorProto.INT64, "tensor(float)": TensorProto.FLOAT}
    axes: dict[str, list[int | str]] = {
        "item_rows": ["B", "K"],
        "item_features": ["N"],
        "user_features": ["B"],
        "candidate_features": ["B", "K"],
    }
    graph = helper.make_graph(
        nodes,
        "tidings_ranker",
        [
            helper.make_tensor_value_info(name, kinds[kind], axes[name] + _last(name, last, more))
            for name, (kind, _, last) in INPUTS.items()
        ],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["B", "K"])],
        [
            *inner.initializer,
            *(numpy_helper.from_array(np.array(shape, np.int64), name) for name, shape in constants.items()),
        ],
        sparse_initializer=list(inner.sparse_initializer),
    )
    wrapped = helper.make_model(
        graph, opset_imports=list(plain.opset_import), ir_version=plain.ir_version, functions=list(plain.functions)
    )
    wrapped.metadata_props.extend(plain.metadata_props)
    return bytes(wrapped.SerializeToString())


def _named(model: Any) -> int:
    """How many columns of users' attributes a model names; whether they are any, the ranker says."""
    given = next((one.value for one in model.metadata_props if one.key == USER_ATTRIBUTES), "[]")
    try:
        names = json.loads(given)
    except ValueError:
        return 0
    return len(names) if isinstance(names, list) else 0


def _last(name: str, last: int | None, more: int) -> list[int | str]:
    """The length of an input's last axis, if it is fixed."""
    return [] if last is None else [last + (more if name == "user_features" else 0)]


def _check_plain(inputs: list[Any], outputs: list[Any], where: str, more: int) -> None:
    """Raise InvalidInput unless a model takes f32[n, WIDTH + more] and gives f32[n] or f32[n, 1]."""
    width = WIDTH + more
    must = f"must be float32[n, {width}]"
    violations = []
    if len(inputs) != 1:
        names = ", ".join(given.name for given in inputs) or "none"
        violations.append(
            (
                "ranker",
                f"{where} has {len(inputs)} inputs ({names}); a ranker has either one, float32[n, {width}], "
                f"or {', '.join(INPUTS)}",
            )
        )
    for given in inputs[:1]:
        kind, axes = _tensor(given)
        if kind != TensorProto.FLOAT or (axes is not None and len(axes) != 2):
            violations.append(("ranker", f"{where}: input {given.name} is {_told(kind, axes)}, {must}"))
        elif axes is not None and isinstance(axes[1], int) and axes[1] != width:
            violations.append(
                (
                    "ranker",
                    f"{where}: input {given.name} has {axes[1]} columns, must have {width}: "
                    f"{len(USER_FEATURES) + more} of the user, {len(ITEM_FEATURES)} of the item, "
                    f"{len(CANDIDATE_FEATURES)} of the candidate",
                )
            )
    if len(outputs) != 1:
        names = ", ".join(given.name for given in outputs)
        violations.append(("ranker", f"{where} has {len(outputs)} outputs ({names}), must have one: float32[n]"))
    for given in outputs[:1]:
        kind, axes = _tensor(given)
        column = axes is None or len(axes) == 1 or (len(axes) == 2 and not (isinstance(axes[1], int) and axes[1] != 1))
        if kind != TensorProto.FLOAT or not column:
            violations.append(
                ("ranker", f"{where}: output {given.name} is {_told(kind, axes)}, must be float32[n] or float32[n, 1]")
            )
    if violations:
        raise InvalidInput(*violations)


def _tensor(given: Any) -> tuple[int, list[int | str] | None]:
    """Element type and axes of a value; an axis that is not fixed is its name; None when nothing is said of them."""
    tensor = given.type.tensor_type
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    return tensor.elem_type, [
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in tensor.shape.dim
    ]


def _told(kind: int, axes: list[int | str] | None) -> str:
    name = helper.tensor_dtype_to_np_dtype(kind).name if kind else "no tensor"
    return f"{name}{'' if axes is None else '[' + ', '.join(map(str, axes)) + ']'}"
