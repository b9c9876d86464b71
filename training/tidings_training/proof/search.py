"""Search: settings that do well on a part of the training events that is held out once more."""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tidings_core.errors import InvalidInput
from tidings_training.contenders.contender import TrainingSet
from tidings_training.contenders.registry import LEARNERS
from tidings_training.proof import metrics
from tidings_training.proof.compare import choose, try_model
from tidings_training.proof.splits import Cut, Split, split

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Trial:
    """One choice of options, and what it reached: NDCG@k, or minus RMSE for a model of values."""

    options: dict[str, Any]
    reached: float


def search(
    name: str, outer: Split, training: TrainingSet, cut: Cut, k: int, seconds: float, clock: Clock = time.monotonic
) -> list[Trial]:
    """Try options of the model called `name` for so many seconds, best first; the defaults are among them.

    Tried in an order drawn by the seed, on the same kind of split of the training events alone: what is held out for
    the proof is never looked at. The last trial is ended, not cut short. A model without options, or training events
    that cannot be split once more, give no trial.
    """
    learner = LEARNERS[name]
    if not learner.tried:
        return []
    try:
        inner = choose(split(outer.train, cut), cut.seed)
    except InvalidInput:
        return []
    within = replace(training, log=inner.train, as_of=inner.as_of)
    end = clock() + seconds
    trials: list[Trial] = []
    for options in _options(name, training, cut.seed):
        if trials and clock() >= end:
            break
        training.progress(f"searching settings of {name}", len(trials), 0)
        found, _ = try_model(name, options, within, inner, (k,))
        ndcg = float(found.at[k][:, metrics.METRICS.index("ndcg")].mean()) if len(found.at[k]) else 0.0
        trials.append(Trial(options, -found.facts.get("rmse", math.inf) if learner.rates else ndcg))
    return sorted(trials, key=lambda trial: -trial.reached)


def _options(name: str, training: TrainingSet, seed: int) -> list[dict[str, Any]]:
    """Defaults first, then every combination in an order drawn by chance."""
    tried = LEARNERS[name].tried
    grid = [dict(zip(tried, values, strict=True)) for values in itertools.product(*tried.values())]
    defaults = LEARNERS[name].defaults(training)
    first = {option: defaults[option] for option in tried}
    order = np.random.default_rng(seed).permutation(len(grid))
    return [first, *(grid[at] for at in order if grid[at] != first)]
