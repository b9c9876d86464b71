"""The same for everybody: what was liked by many. Every other model has to beat it."""

from dataclasses import dataclass

import numpy as np

from tidings_core.features import DAY
from tidings_core.tables import Float32
from tidings_training.contenders.contender import TrainingSet
from tidings_training.questions import Questions


@dataclass(frozen=True, slots=True)
class Popular:
    """Scores f32[I] of the items."""

    items: Float32

    def scores(self, asked: Questions) -> Float32:
        """The same row for all who ask, f32[C, I]."""
        return np.broadcast_to(self.items, (len(asked), len(self.items)))


def learn_popularity(training: TrainingSet, *, half_life_days: float) -> Popular:
    """Wanted events of each item, each counting half of one that is `half_life_days` newer."""
    log = training.log
    ages = np.maximum(training.as_of - log.times, 0.0) / DAY
    weights = np.where(log.wanted, np.exp2(-ages / half_life_days), 0.0)
    return Popular(np.bincount(log.items, weights, minlength=len(log.item_ids)).astype(np.float32))
