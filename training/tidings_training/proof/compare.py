"""The comparison: each model learns from one side of a split and is asked about the other."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tidings_core.tables import Bool, Float64, Int32
from tidings_index_builder.progress import Progress
from tidings_training.contenders.contender import Contender, TrainingSet
from tidings_training.contenders.registry import LEARNERS, learn
from tidings_training.contenders.svd import Rated, newest_values
from tidings_training.proof import metrics
from tidings_training.proof.bootstrap import bootstrap
from tidings_training.proof.splits import Split
from tidings_training.questions import Questions

CELLS = 4_000_000
"""So many scores are held at once."""
TIE = 1e-9
"""Popularity decides between items whose scores differ by less than this share of the largest."""
QUESTIONS_LIMIT = 20_000
"""Of more questions a random choice is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How one model did. `at` maps k to METRICS f64[M, 5] of the M questions of people with a past, `beyond` to
    coverage, novelty and diversity of their lists.

    lists i32[C, K] are the items it named in answer to all questions, best first, -1 in the padding; hits bool[C, K].
    `microseconds` is the time per question when asked many at once; `facts` fit JSON.
    """

    name: str
    options: Mapping[str, Any]
    seconds: float
    microseconds: float
    lists: Int32
    hits: Bool
    at: Mapping[int, Float64]
    beyond: Mapping[int, Mapping[str, float]]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better `of` is than `to`: the mean over questions, and the interval of the paired bootstrap."""

    of: str
    to: str
    metric: str
    k: int
    mean: float
    low: float
    high: float


def choose(split: Split, seed: int, limit: int = QUESTIONS_LIMIT) -> Split:
    """The split with a random choice of `limit` questions where there are more."""
    count = len(split.questions)
    if count <= limit:
        return split
    chosen = np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))
    return Split(split.protocol, split.train, split.test, split.questions.where(chosen), split.as_of)


def rank(contender: Contender, training: TrainingSet, asked: Questions, k: int, progress: Progress) -> Int32:
    """The best k items of each question, i32[C, k], -1 in the padding.

    All known items are ranked but those hidden from who asks. Of equal scores the item liked by more comes first.
    """
    known = training.known
    liked_by = np.diff(training.matrix.tocsc().indptr).astype(np.float64)
    tie = TIE * liked_by / max(float(liked_by.max()), 1.0)
    lists = np.full((len(asked), k), -1, np.int32)
    width = min(k, int(known.sum()))
    step = max(1, CELLS // len(known))
    for start in range(0, len(asked), step):
        part = asked.where(np.arange(start, min(start + step, len(asked))))
        scores = contender.scores(part).astype(np.float64)
        scores += tie * np.abs(scores).max(axis=1, initial=1e-30, keepdims=True)
        scores[:, ~known] = -np.inf
        hidden = part.hidden.tocoo()
        scores[hidden.row, hidden.col] = -np.inf
        best = np.argpartition(-scores, width - 1, axis=1)[:, :width]
        best.sort(axis=1)
        found = np.take_along_axis(scores, best, 1)
        order = np.argsort(-found, axis=1, kind="stable")
        rows = np.take_along_axis(best, order, 1)
        there = np.take_along_axis(found, order, 1) > -np.inf
        lists[start : start + step, :width] = np.where(there, rows, -1)
        progress("asking", start + len(part), len(asked))
    return lists


def measured(
    name: str,
    lists: Int32,
    training: TrainingSet,
    asked: Questions,
    ks: Sequence[int],
    *,
    options: Mapping[str, Any] | None = None,
    seconds: float = 0.0,
    microseconds: float = 0.0,
    facts: Mapping[str, Any] | None = None,
) -> Measured:
    """Lists i32[C, K] against what was wanted."""
    found = metrics.hits(lists, asked.wanted)
    main = asked.known
    wanted = np.diff(asked.wanted.indptr)[main].astype(np.float64)
    buyers = np.diff(training.matrix.tocsc().indptr).astype(np.float64)
    users = int((np.diff(training.matrix.indptr) > 0).sum())
    return Measured(
        name=name,
        options=options or {},
        seconds=seconds,
        microseconds=microseconds,
        lists=lists,
        hits=found,
        at={k: metrics.measure(found[main], wanted, k) for k in ks},
        beyond={
            k: {
                "coverage": metrics.coverage(lists[main, :k], training.known),
                "novelty": metrics.novelty(lists[main, :k], buyers, users),
                "diversity": metrics.diversity(lists[main, :k], training.matrix),
            }
            for k in ks
        },
        facts=facts or {},
    )


def try_model(
    name: str, options: Mapping[str, Any], training: TrainingSet, split: Split, ks: Sequence[int]
) -> tuple[Measured, Contender]:
    """Learn one model, ask it, and measure."""
    asked = split.questions
    start = time.perf_counter()
    contender = learn(name, training, options)
    learned = time.perf_counter()
    told: Progress = lambda _, done=0, total=0: training.progress(f"asking {name}", done, total)  # noqa: E731
    lists = rank(contender, training, asked, max(ks), told)
    ended = time.perf_counter()
    found = measured(
        name,
        lists,
        training,
        asked,
        ks,
        options={**LEARNERS[name].defaults(training), **options},
        seconds=learned - start,
        microseconds=(ended - learned) / len(asked) * 1e6,
        facts=value_error(contender, split) if isinstance(contender, Rated) else None,
    )
    return found, contender


def value_error(contender: Rated, split: Split) -> dict[str, float]:
    """RMSE and MAE of the values held out, those of unknown users and items too; nothing when there are none."""
    held = newest_values(split.test)
    if not len(held):
        return {}
    wrong = contender.predict(held.users, held.items) - held.values
    return {"rmse": float(np.sqrt((wrong**2).mean())), "mae": float(np.abs(wrong).mean()), "values": float(len(held))}


def differences(
    found: Mapping[str, Measured], people: Int32, k: int, baseline: str, best: str, seed: int
) -> list[Difference]:
    """Everyone against the baseline, and the best against everyone else; people i32[M] who asked."""
    pairs = [(name, baseline) for name in found if name != baseline]
    pairs += [(best, name) for name in found if name not in (best, baseline)]
    told: list[Difference] = []
    for of, to in pairs:
        gains = found[of].at[k] - found[to].at[k]
        low, high = bootstrap(gains, people, seed)
        told += [
            Difference(of, to, metric, k, float(mean), float(least), float(most))
            for metric, mean, least, most in zip(metrics.METRICS, gains.mean(axis=0), low, high, strict=True)
        ]
    return told


def best_of(found: Mapping[str, Measured], k: int) -> str:
    """The name of the best by NDCG@k; of equal ones the first."""
    return max(found, key=lambda name: float(found[name].at[k][:, metrics.METRICS.index("ndcg")].mean()))
