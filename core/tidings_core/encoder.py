"""The encoder: an ONNX model that makes a person's vector of what they did last, in its order and with the pauses.

Signature, part of the release format: vectors f32[B, L, D] of the items, oldest first; gaps f32[B, L] seconds before
each, 0 for the first; lengths i64[B] how many of the L are there, the rest being zeros; since f32[B] seconds since the
last -> vector f32[B, D], in the space of the items. It is given vectors and not rows: what it learned holds for items
that came later.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tidings_core.errors import EncoderFailed, InvalidInput
from tidings_core.model import Snapshot
from tidings_core.ranker import open_session
from tidings_core.tables import Float32, Float64, Int32, Int64

STEPS = 50
"""So many of the newest things a person did are read."""
OUTPUT = "vector"


class OnnxEncoder:
    """Makes vectors with ONNX Runtime on the thread that asks. Safe to use from several threads at once."""

    def __init__(self, model: Path | bytes, dim: int) -> None:
        """Load a model file or its bytes, for vectors of `dim` numbers.

        Raises InvalidInput when it is no model or its signature differs, naming the difference.
        """
        self._session = open_session(model, "encoder")
        inputs = {
            "vectors": ("tensor(float)", 3, dim),
            "gaps": ("tensor(float)", 2, None),
            "lengths": ("tensor(int64)", 1, None),
            "since": ("tensor(float)", 1, None),
        }
        given = {node.name: node for node in self._session.get_inputs()}
        made = {node.name: node for node in self._session.get_outputs()}
        violations = [(f"encoder input {name}", "is not part of the signature") for name in given.keys() - inputs]
        if OUTPUT not in made:
            violations.append((f"encoder output {OUTPUT}", f"is missing; the model has {sorted(made)}"))
        wanted = [("input", name, given.get(name), *of_it) for name, of_it in inputs.items()]
        wanted.append(("output", OUTPUT, made.get(OUTPUT), "tensor(float)", 2, dim))
        for side, name, node, kind, axes, last in wanted:
            if node is None:
                violations += [(f"encoder input {name}", "is missing")] if side == "input" else []
            elif node.type != kind or len(node.shape) != axes:
                told = f"is {node.type}{node.shape}, must be {kind} of {axes} axes"
                violations.append((f"encoder {side} {name}", told))
            elif last is not None and isinstance(node.shape[-1], int) and node.shape[-1] != last:
                told = f"has last axis {node.shape[-1]}, must be {last}: as many as the release's embeddings"
                violations.append((f"encoder {side} {name}", told))
        if violations:
            raise InvalidInput(*violations)

    def encode(self, vectors: Float32, gaps: Float32, lengths: Int64, since: Float32) -> Float32:
        """Vectors f32[B, D] of B people who did something: see above.

        Of whom the model gives something else than finite numbers, all of the row is NaN. Raises EncoderFailed.
        """
        feeds = {"vectors": vectors, "gaps": gaps, "lengths": lengths, "since": since}
        try:
            (made,) = self._session.run([OUTPUT], feeds)
        except Exception as error:  # The classes that ONNX Runtime raises are not public.
            raise EncoderFailed(f"the encoder failed: {error}") from error
        if made.shape != (len(vectors), vectors.shape[2]):
            raise EncoderFailed(f"the encoder gave no vector of {vectors.shape[2]} numbers for each person")
        return np.where(np.isfinite(made).all(axis=1, keepdims=True), made, np.float32(np.nan))


def encoded(
    rows: Sequence[Int32], times: Sequence[Float64], now: float | Sequence[float], snapshot: Snapshot
) -> Float32:
    """The vectors f32[B, D] of B people by what they did last: item rows i32[n] at times f64[n] (Unix seconds).

    Both are oldest first, n is 1 to STEPS; `now` is Unix seconds, one for all or one for each. What is told ahead of it
    was done just now. The snapshot must have an encoder. A row is NaN where it gives none. Raises EncoderFailed.
    """
    assert snapshot.encoder is not None
    lengths = np.array([len(one) for one in rows], np.int64)
    there = np.arange(lengths.max()) < lengths[:, None]
    vectors = np.zeros((*there.shape, snapshot.item_vectors.shape[1]), np.float32)
    vectors[there] = snapshot.item_vectors[np.concatenate(rows)]
    gaps = np.zeros(there.shape, np.float32)
    gaps[there] = np.concatenate([np.diff(one, prepend=one[:1]) for one in times])
    since = np.maximum(np.asarray(now) - np.array([one[-1] for one in times]), 0.0).astype(np.float32)
    return snapshot.encoder.encode(vectors, gaps, lengths, since)
