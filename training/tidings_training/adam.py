"""Adam, for models that are learned in numpy."""

from collections.abc import Sequence

import numpy as np

from tidings_core.tables import Float32


class Adam:
    """The running means of one list of parameters (Kingma and Ba, ICLR 2015)."""

    def __init__(self, parameters: Sequence[Float32], learning_rate: float) -> None:
        self._first = [np.zeros_like(p) for p in parameters]
        self._second = [np.zeros_like(p) for p in parameters]
        self._rate = learning_rate
        self._steps = 0

    def step(self, parameters: Sequence[Float32], gradients: Sequence[Float32]) -> None:
        """Move the parameters, in place."""
        self._steps += 1
        rate = self._rate * np.sqrt(1 - 0.999**self._steps) / (1 - 0.9**self._steps)
        for p, g, first, second in zip(parameters, gradients, self._first, self._second, strict=True):
            first += 0.1 * (g - first)
            second += 0.001 * (g * g - second)
            p -= (rate * first / (np.sqrt(second) + 1e-8)).astype(np.float32)
