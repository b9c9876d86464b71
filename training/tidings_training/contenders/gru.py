"""A recurrent network: what somebody will want next, by what they did, in which order and how long ago."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special
from threadpoolctl import threadpool_limits

from tidings_core.encoder import STEPS
from tidings_core.tables import Bool, Float32, Float64, Int32, Int64
from tidings_training.adam import Adam
from tidings_training.contenders.contender import TrainingSet
from tidings_training.questions import Questions, in_order, joined

BUCKETS = 32
"""Gaps are told apart by powers of two of seconds."""
LONGER: Float32 = np.exp2(np.arange(1, BUCKETS)).astype(np.float32) - 1
"""Where one bucket ends and the next begins, in seconds."""
BATCH = 64
PREDICTED = 512
"""So many next items are learned from in one batch, drawn by chance."""
COMPARED = 8192
"""Of more items the next one is told apart from a sample of this many, drawn anew for each batch."""


@dataclass(frozen=True, slots=True)
class Gru:
    """A gated recurrent unit (Cho et al., EMNLP 2014) over items and gaps, as GRU4Rec (Hidasi et al., ICLR 2016).

    items f32[I, D] stand for what goes in and what comes out, bias f32[I]; gaps f32[32, D] are joined to what goes in;
    into f32[D, 3H], over f32[H, 3H] and shift f32[3H] are the gates (update, reset, new); out f32[H, D]; scale and move
    f32[32, D] change what comes out by how long ago the last thing was done.
    """

    items: Float32
    bias: Float32
    gaps: Float32
    into: Float32
    over: Float32
    shift: Float32
    out: Float32
    scale: Float32
    move: Float32

    @property
    def parameters(self) -> list[Float32]:
        """All that is learned, in the order of the fields."""
        return [getattr(self, name) for name in self.__dataclass_fields__]

    def scores(self, asked: Questions) -> Float32:
        """How well each item goes on from what was done, f32[C, I]; bias alone for those who did nothing."""
        return np.asarray(self.vectors(asked) @ self.item_vectors.T, np.float32)

    @property
    def item_vectors(self) -> Float32:
        """The vectors that a release serves, f32[I, D + 1]: the items, and the bias of each."""
        return np.column_stack([self.items, self.bias])

    def vectors(self, asked: Questions) -> Float32:
        """The vectors f32[C, D + 1] of those who ask, for the inner product with `item_vectors`."""
        begins = np.maximum(asked.starts[:-1], asked.starts[1:] - STEPS)
        piece = _Pieces.of(asked.items, asked.moments, begins, asked.starts[1:])
        hidden, _ = self.run(piece)
        ends = np.where(piece.lengths > 0, asked.moments[np.maximum(asked.starts[1:] - 1, 0)], asked.times)
        gap = buckets(asked.times - ends)
        made = (hidden[-1] @ self.out) * (1.0 + self.scale[gap]) + self.move[gap]
        made = np.where(piece.lengths[:, None] > 0, made, 0.0)
        return np.column_stack([made, np.ones(len(made))]).astype(np.float32)

    def encoder(self) -> bytes:
        """The network as an ONNX model with the signature of a release's encoder (`tidings_core.encoder`)."""
        # Its import needs onnx, which takes its time to load.
        from tidings_training.contenders.gru_onnx import export

        return export(self)

    def run(self, piece: "_Pieces") -> tuple[list[Float32], list[Any]]:
        """The states after each step, f32[B, H], the first before any; and of each step what its gradients need."""
        size = len(self.over)
        states: list[Float32] = [np.zeros((len(piece.lengths), size), np.float32)]
        kept: list[Any] = []
        for step in range(piece.items.shape[1]):
            state = states[-1]
            given = self.items[piece.items[:, step]] + self.gaps[piece.gaps[:, step]]
            from_input, from_state = given @ self.into + self.shift, state @ self.over
            update, reset = np.split(scipy.special.expit((from_input + from_state)[:, : 2 * size]), 2, axis=1)
            recalled = from_state[:, 2 * size :]
            new = np.tanh(from_input[:, 2 * size :] + reset * recalled)
            there = piece.there[:, step, None]
            states.append(np.where(there, (1.0 - update) * new + update * state, state))
            kept.append((given, update, reset, recalled, new))
        return states, kept


@dataclass(frozen=True, slots=True)
class _Pieces:
    """B pieces of sequences: items i32[B, T], gaps i32[B, T] to what was done before each, lengths i64[B]."""

    items: Int32
    gaps: Int32
    moments: Float64
    lengths: Int64

    @property
    def there(self) -> Bool:
        """Which places are not padding, bool[B, T]."""
        return np.asarray(np.arange(self.items.shape[1]) < self.lengths[:, None], np.bool_)

    @classmethod
    def of(cls, items: Int32, moments: Float64, begins: Int64, ends: Int64) -> "_Pieces":
        """The spans begins[b]:ends[b] of items and their times (Unix seconds)."""
        starts, taken = joined(begins, ends)
        lengths = np.diff(starts)
        rows = np.repeat(np.arange(len(begins)), lengths)
        places = np.arange(len(taken)) - starts[rows]
        shape = (len(begins), int(lengths.max(initial=0)))
        wide_items, wide_moments = np.zeros(shape, np.int32), np.zeros(shape)
        wide_items[rows, places], wide_moments[rows, places] = items[taken], moments[taken]
        before = np.concatenate([wide_moments[:, :1], wide_moments[:, :-1]], axis=1)
        return cls(wide_items, buckets(wide_moments - before), wide_moments, lengths)


def buckets(gaps: Float64) -> Int32:
    """The bucket of gaps in seconds: 0 for less than one, then one more for each doubling."""
    return np.searchsorted(LONGER, gaps.astype(np.float32), side="right").astype(np.int32)


def learn_gru(training: TrainingSet, *, factors: int, hidden: int, passes: int, learning_rate: float) -> Gru:
    """Predict every next item from those before it, by softmax over all items (or a sample of many) and Adam.

    Of a long past every piece of STEPS is learned from. Deterministic given the seed.
    """
    log = training.log.where(training.log.weights > 0)
    ordered = in_order(log, training.seed)
    by_user = np.argsort(ordered.users, kind="stable")
    items, moments = ordered.items[by_user], ordered.times[by_user]
    ends = np.cumsum(np.bincount(ordered.users, minlength=len(log.user_ids)))
    begins, stops = _cut(np.concatenate([[0], ends[:-1]]), ends)
    rng = np.random.default_rng(training.seed)
    model = _fresh(np.bincount(log.items, minlength=len(log.item_ids)), factors, hidden, rng)
    adam = Adam(model.parameters, learning_rate)
    # More threads wait for each other longer than they work.
    with threadpool_limits(1, "blas"):
        for done in range(passes):
            for chosen in _batches(len(begins), rng):
                piece = _Pieces.of(items, moments, begins[chosen], stops[chosen])
                adam.step(model.parameters, _gradients(model, piece, training.known, rng))
            training.progress("learning sequences", done + 1, passes)
    return model


def _cut(begins: Int64, ends: Int64) -> tuple[Int64, Int64]:
    """Pieces of two events up to STEPS + 1, each but the first beginning with the last of the one before."""
    firsts, lasts = [], []
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        for start in range(begin, end - 1, STEPS):
            firsts.append(start)
            lasts.append(min(start + STEPS + 1, end))
    return np.array(firsts, np.int64), np.array(lasts, np.int64)


def _fresh(counts: Int64, factors: int, hidden: int, rng: np.random.Generator) -> Gru:
    def drawn(*shape: int) -> Float32:
        return rng.normal(0.0, 1.0 / np.sqrt(shape[0] if len(shape) > 1 else 1), shape).astype(np.float32)

    return Gru(
        items=rng.normal(0.0, 0.3, (len(counts), factors)).astype(np.float32),
        # Every item begins as likely as it was.
        bias=np.log(np.maximum(counts, 0.1) / max(counts.sum(), 1)).astype(np.float32),
        gaps=np.zeros((BUCKETS, factors), np.float32),
        into=drawn(factors, 3 * hidden),
        over=drawn(hidden, 3 * hidden),
        shift=np.zeros(3 * hidden, np.float32),
        out=drawn(hidden, factors),
        scale=np.zeros((BUCKETS, factors), np.float32),
        move=np.zeros((BUCKETS, factors), np.float32),
    )


def _batches(count: int, rng: np.random.Generator) -> Iterator[Int64]:
    order = rng.permutation(count)
    for start in range(0, count, BATCH):
        yield order[start : start + BATCH]


def _gradients(model: Gru, piece: _Pieces, known: Bool, rng: np.random.Generator) -> list[Float32]:
    """Gradients of the mean loss of next items, in the order of the parameters."""
    states, kept = model.run(_Pieces(piece.items[:, :-1], piece.gaps[:, :-1], piece.moments[:, :-1], piece.lengths - 1))
    rows, steps = np.nonzero(piece.there[:, 1:])
    if len(rows) > PREDICTED:
        drawn = rng.choice(len(rows), PREDICTED, replace=False)
        rows, steps = rows[drawn], steps[drawn]
    wanted, gap = piece.items[rows, steps + 1], piece.gaps[rows, steps + 1]
    state = np.stack(states[1:], axis=1)[rows, steps]
    linear = state @ model.out
    made = linear * (1.0 + model.scale[gap]) + model.move[gap]
    among = np.flatnonzero(known)
    if len(among) > COMPARED:
        among = np.union1d(rng.choice(among, COMPARED, replace=False), wanted)
    logits = made @ model.items[among].T + model.bias[among]
    slope = scipy.special.softmax(logits, axis=1)
    slope[np.arange(len(rows)), np.searchsorted(among, wanted)] -= 1.0
    slope /= len(rows)
    found = {name: np.zeros_like(getattr(model, name)) for name in model.__dataclass_fields__}
    found["items"][among] = slope.T @ made
    found["bias"][among] = slope.sum(axis=0)
    of_made = slope @ model.items[among]
    of_linear = of_made * (1.0 + model.scale[gap])
    np.add.at(found["scale"], gap, of_made * linear)
    np.add.at(found["move"], gap, of_made)
    found["out"] += state.T @ of_linear
    of_states = np.zeros((len(states) - 1, *states[0].shape), np.float32)
    np.add.at(of_states, (steps, rows), of_linear @ model.out.T)
    _through_time(model, piece, states, kept, of_states, found)
    return list(found.values())


def _through_time(
    model: Gru,
    piece: _Pieces,
    states: list[Float32],
    kept: list[Any],
    of_states: Float32,
    found: dict[str, Float32],
) -> None:
    """Carry the gradients of the states f32[T, B, H] back to the first step, adding to what was `found`."""
    back = np.zeros_like(states[0])
    for step in range(len(kept) - 1, -1, -1):
        given, update, reset, recalled, new = kept[step]
        there = (step < piece.lengths - 1)[:, None]
        back = back + of_states[step]
        here = np.where(there, back, 0.0)
        of_new = here * (1.0 - update) * (1.0 - new * new)
        of_update = here * (states[step] - new) * update * (1.0 - update)
        of_reset = of_new * recalled * reset * (1.0 - reset)
        of_input = np.concatenate([of_update, of_reset, of_new], axis=1)
        of_recurrent = np.concatenate([of_update, of_reset, of_new * reset], axis=1)
        found["into"] += given.T @ of_input
        found["over"] += states[step].T @ of_recurrent
        found["shift"] += of_input.sum(axis=0)
        of_given = of_input @ model.into.T
        np.add.at(found["items"], piece.items[:, step], of_given)
        np.add.at(found["gaps"], piece.gaps[:, step], of_given)
        back = np.where(there, here * update + of_recurrent @ model.over.T, back)
