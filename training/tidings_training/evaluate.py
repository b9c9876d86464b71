"""Proof: recommend as of a past day, and see how much of what people then bought for the first time was there."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidings_core.errors import InvalidInput
from tidings_core.features import DAY
from tidings_core.model import DEFAULT_K, MAX_BATCH, Answer, Query, ServingConfig, Snapshot, SourceUse
from tidings_core.ranker import OnnxRanker
from tidings_core.recommend import recommend
from tidings_core.tables import Float64, Int32
from tidings_training import popularity
from tidings_training.events import Events
from tidings_training.examples import purchases_later
from tidings_training.proof import metrics
from tidings_training.proof.bootstrap import CONFIDENCE, RESAMPLES, bootstrap
from tidings_training.ranker import export
from tidings_training.trainer import SERVING, Trainer

AT = DEFAULT_K
METRICS = ("recall", "ndcg", "hit_rate")
BASELINE = "popularity"
USERS_LIMIT = 20_000
"""Of more users a random choice is evaluated."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better `of` is than `to`: the mean over users, and the interval a paired bootstrap gives."""

    of: str
    to: str
    metric: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured. Fits JSON after `dataclasses.asdict`.

    `split` and `end` are Unix seconds: everything was learned from events up to `split` and asked about what was bought
    after it and up to `end`. `means` maps a contender to its metrics.
    """

    split: float
    end: float
    at: int
    buyers: int
    """Users who bought something in the holdout."""
    unknown: int
    """Those of them without an event up to the split; they are left out."""
    nothing_new: int
    """Known ones who bought only what they had bought before; they are left out."""
    evaluated: int
    purchases: int
    """New purchases of the evaluated users, one per user and item."""
    purchases_of_unknown_items: int
    """Those of items without an event up to the split: nobody could name them, and they count as missed."""
    ranker_lists: int
    """Lists of candidates, one per user and window, the ranker learned from; 0: there was too little,
    and `for-you` ran without one."""
    means: dict[str, dict[str, float]]
    differences: list[Difference]
    confidence: float = CONFIDENCE
    resamples: int = RESAMPLES


def evaluate(trainer: Trainer, end: float, holdout_days: float) -> Evaluation:
    """Hold the last days before `end` (Unix seconds) out, learn from what came before, and compare.

    The contenders, all asked through `tidings_core.recommend` and all without what a user had already bought: `for-you`
    (the serving config with its ranker), `retrieval` (the same without the ranker), `popularity` (purchases ever) and
    `trending` (purchases, the recent ones weighing more). Raises InvalidInput when there is nothing to compare on.
    """
    split = end - holdout_days * DAY
    snapshot = trainer.snapshot(split)
    if snapshot is None:
        raise InvalidInput(
            (
                "holdout_days",
                f"{holdout_days:g} days leave too few events before them to learn from: hold fewer out with "
                "--holdout-days, or train without measuring with --no-evaluate",
            )
        )
    later = trainer.events.between(split, end)
    labels = purchases_later(snapshot, later, SERVING)
    if not labels:
        raise InvalidInput(
            (
                "holdout_days",
                f"nobody known before bought anything new in the last {holdout_days:g} days: hold more out with "
                "--holdout-days, or train without measuring with --no-evaluate",
            )
        )
    buyers = {later.user_ids[user] for user in np.unique(later.users[later.purchases])}
    unknown = int((snapshot.users.find_many(sorted(buyers)) < 0).sum())
    users = sorted(labels)
    if len(users) > USERS_LIMIT:
        chosen = np.random.default_rng(trainer.settings.seed).choice(len(users), USERS_LIMIT, replace=False)
        users = [users[at] for at in np.sort(chosen)]
    ranked = trainer.ranker(split)
    if ranked is not None:
        snapshot = dataclasses.replace(snapshot, ranker=OnnxRanker(export(ranked.network), snapshot.item_features))
    measured: dict[str, Float64] = {}
    for name, (serving, served) in _contenders(snapshot, trainer.events.between(float("-inf"), split), split).items():
        answers = _ask(users, serving, served, split, trainer, f"asking {name}")
        measured[name] = measure(answers, [labels[user] for user in users])
    return Evaluation(
        split=split,
        end=end,
        at=AT,
        buyers=len(buyers),
        unknown=unknown,
        nothing_new=len(buyers) - unknown - len(labels),
        evaluated=len(users),
        purchases=sum(len(labels[user]) for user in users),
        purchases_of_unknown_items=sum(int((labels[user] < 0).sum()) for user in users),
        ranker_lists=0 if ranked is None else ranked.lists,
        means={name: dict(zip(METRICS, found.mean(axis=0).tolist(), strict=True)) for name, found in measured.items()},
        differences=differences(measured, _pairs(measured), trainer.settings.seed),
    )


def _contenders(snapshot: Snapshot, events: Events, now: float) -> dict[str, tuple[ServingConfig, Snapshot]]:
    # The baselines go without diversity, which costs hits: they are to be as strong as they can be.
    plain = ServingConfig("plain", (SourceUse("trending", AT),), rerank=False, exclude_bought=SERVING.exclude_bought)
    ever = dataclasses.replace(snapshot, trending=popularity.trending(events, now, np.inf))
    return {
        "for-you": (SERVING, snapshot),
        "retrieval": (dataclasses.replace(SERVING, rerank=False), snapshot),
        "trending": (plain, snapshot),
        BASELINE: (plain, ever),
    }


def _ask(
    users: Sequence[str], serving: ServingConfig, snapshot: Snapshot, now: float, trainer: Trainer, step: str
) -> list[Answer]:
    answers: list[Answer] = []
    for start in range(0, len(users), MAX_BATCH):
        batch = [Query(user, serving, k=AT) for user in users[start : start + MAX_BATCH]]
        answers += recommend(batch, snapshot, now)
        trainer.progress(step, len(answers), len(users))
    return answers


def measure(answers: Sequence[Answer], wanted: Sequence[Int32], at: int = AT) -> Float64:
    """METRICS f64[C, 3] of the first `at` items of C answers, each against the rows wanted (-1: an unknown item)."""
    found = np.zeros((len(answers), at), np.bool_)
    for row, answer, rows in zip(found, answers, wanted, strict=True):
        shown = [item.row for item in answer.items[:at]]
        row[: len(shown)] = np.isin(shown, rows[rows >= 0])
    every = metrics.measure(found, np.array([len(rows) for rows in wanted], np.float64), at)
    return every[:, [metrics.METRICS.index(name) for name in METRICS]]


def differences(measured: Mapping[str, Float64], pairs: Sequence[tuple[str, str]], seed: int) -> list[Difference]:
    """How much better the first of each pair is than the second, by what was measured of both, f64[C, 3]."""
    found: list[Difference] = []
    for of, to in pairs:
        gain = measured[of] - measured[to]
        low, high = bootstrap(gain, np.arange(len(gain), dtype=np.int32), seed)
        found += [
            Difference(of, to, metric, float(mean), float(least), float(most))
            for metric, mean, least, most in zip(METRICS, gain.mean(axis=0), low, high, strict=True)
        ]
    return found


def _pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Everyone against the baseline, and `for-you` against everyone."""
    return [(name, BASELINE) for name in names if name != BASELINE] + [
        ("for-you", name) for name in ("trending", "retrieval")
    ]
