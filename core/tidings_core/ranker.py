"""The ranker: an ONNX model that scores candidates. The only file that imports onnxruntime.

Signature, part of the release format: item_rows i64[B, K], item_features f32[N, F] (bound once, gathered inside),
user_features f32[B, U], candidate_features f32[B, K, C] -> score f32[B, K].
"""

import json
import os
import threading
from pathlib import Path

import numpy as np

from tidings_core.errors import InvalidInput, RankerFailed
from tidings_core.features import CANDIDATE_FEATURES, ITEM_FEATURES, USER_FEATURES, attribute_columns_fault
from tidings_core.tables import Float32, Int64

# Else it tells Microsoft of the machine and of each session over the network, and leaves a device id in the user's
# cache. It looks at this while it is imported; its own switch comes too late for the first event.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

INPUTS = {
    "item_rows": ("tensor(int64)", 2, None),
    "item_features": ("tensor(float)", 2, len(ITEM_FEATURES)),
    "user_features": ("tensor(float)", 2, len(USER_FEATURES)),
    "candidate_features": ("tensor(float)", 3, len(CANDIDATE_FEATURES)),
}
"""Name -> element type, number of axes, length of the last axis. That of the users is longer by the columns that the
model names in its metadata.
"""
USER_ATTRIBUTES = "tidings.user_attributes"
"""The key of a model's metadata under which it names, as a JSON list, columns of what is stated of users."""
OUTPUT = "score"
ROWS_AT_ONCE = 640
"""So many candidates are scored in one run: what a layer makes of more leaves the processor's cache."""


class OnnxRanker:
    """Scores candidates with ONNX Runtime on one thread. Safe to use from several threads at once."""

    def __init__(self, model: Path | bytes, item_features: Float32) -> None:
        """Load a model file or its bytes and bind item_features f32[N, F].

        Raises InvalidInput when it is no model or its signature differs, naming the difference.
        """
        self._session = open_session(model, "ranker")
        self.user_attributes = _user_attributes(self._session)
        _check_signature(self._session, len(self.user_attributes))
        # Kept: ONNX Runtime reads the array in place and does not own it.
        self._item_features = np.ascontiguousarray(item_features, np.float32)
        self._bound = onnxruntime.OrtValue.ortvalue_from_numpy(self._item_features)
        self._local = threading.local()

    def score(
        self,
        item_rows: Int64,
        user_features: Float32,
        candidate_features: Float32,
        item_features: Float32 | None = None,
    ) -> Float32:
        """Scores f32[B, K] of item_rows i64[B, K], user_features f32[B, U], candidate_features f32[B, K, C].

        The rows are those of `item_features` f32[M, F] when it is given, else of those bound. A score may be no number
        where the model makes none of its inputs. Raises RankerFailed when the model fails or gives scores of another
        shape.
        """
        rows = np.ascontiguousarray(item_rows, np.int64)
        users = np.ascontiguousarray(user_features, np.float32)
        pairs = np.ascontiguousarray(candidate_features, np.float32)
        binding = self._binding(item_features)
        step = max(1, ROWS_AT_ONCE // max(rows.shape[1], 1))
        try:
            # The parts are named in the list, so that they outlive the run: a binding may read an array in place.
            parts = [
                (rows[at : at + step], users[at : at + step], pairs[at : at + step])
                for at in range(0, max(len(rows), 1), step)
            ]
            made = [self._run(binding, *part) for part in parts]
        except Exception as error:  # See above: the classes are not public.
            raise RankerFailed(f"the ranker failed: {error}") from error
        for part, found in zip(parts, made, strict=True):
            if found.shape != part[0].shape:
                raise RankerFailed(f"the ranker gave scores of shape {found.shape} for {part[0].shape}")
        return np.asarray(made[0] if len(made) == 1 else np.concatenate(made), np.float32)

    def _binding(self, item_features: Float32 | None) -> "onnxruntime.IOBinding":
        """What a run reads from and writes to: for each thread its own, with the item features in it."""
        if item_features is not None:
            binding = self._session.io_binding()
            binding.bind_cpu_input("item_features", np.ascontiguousarray(item_features, np.float32))
            return binding
        binding = getattr(self._local, "binding", None)
        if binding is None:
            binding = self._local.binding = self._session.io_binding()
            binding.bind_ortvalue_input("item_features", self._bound)
        return binding

    def _run(self, binding: "onnxruntime.IOBinding", rows: Int64, users: Float32, pairs: Float32) -> Float32:
        binding.bind_cpu_input("item_rows", rows)
        binding.bind_cpu_input("user_features", users)
        binding.bind_cpu_input("candidate_features", pairs)
        binding.bind_output(OUTPUT)
        self._session.run_with_iobinding(binding)
        found: Float32 = binding.get_outputs()[0].numpy()
        return found


def open_session(model: Path | bytes, what: str) -> "onnxruntime.InferenceSession":
    """A session that runs a model file or its bytes on the thread that asks.

    Raises InvalidInput, of the field `what`, when it is no model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a class of its own for each kind of broken model.
        raise InvalidInput((what, f"ONNX Runtime cannot load the model: {error}")) from error


def _user_attributes(session: "onnxruntime.InferenceSession") -> tuple[str, ...]:
    """The columns of users' attributes that a model names. Raises InvalidInput when they are none."""
    given = session.get_modelmeta().custom_metadata_map.get(USER_ATTRIBUTES, "[]")
    try:
        names = json.loads(given)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidInput((f"ranker metadata {USER_ATTRIBUTES}", "must be a JSON list of names"))
    if problem := attribute_columns_fault(names):
        raise InvalidInput((f"ranker metadata {USER_ATTRIBUTES}", problem))
    return tuple(names)


def _check_signature(session: "onnxruntime.InferenceSession", more: int) -> None:
    """Raise InvalidInput naming every difference between a model's signature and the release format's."""
    violations: list[tuple[str, str]] = []
    given = {node.name: node for node in session.get_inputs()}
    for name, (kind, axes, width) in INPUTS.items():
        last = width if width is None or name != "user_features" else width + more
        node = given.pop(name, None)
        if node is None:
            violations.append((f"ranker input {name}", "is missing"))
            continue
        if node.type != kind:
            violations.append((f"ranker input {name}", f"is {node.type}, must be {kind}"))
        if len(node.shape) != axes:
            violations.append((f"ranker input {name}", f"has {len(node.shape)} axes {node.shape}, must have {axes}"))
        elif last is not None and node.shape[-1] != last:
            violations.append((f"ranker input {name}", f"has last axis {node.shape[-1]}, must be {last}"))
    violations.extend((f"ranker input {name}", "is not part of the signature") for name in given)
    outputs = {node.name: node for node in session.get_outputs()}
    if OUTPUT not in outputs:
        violations.append((f"ranker output {OUTPUT}", f"is missing; the model has {sorted(outputs)}"))
    elif outputs[OUTPUT].type != "tensor(float)" or len(outputs[OUTPUT].shape) != 2:
        violations.append(
            (f"ranker output {OUTPUT}", f"is {outputs[OUTPUT].type}{outputs[OUTPUT].shape}, must be f32[B, K]")
        )
    if violations:
        raise InvalidInput(*violations)
