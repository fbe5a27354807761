"""Drift: whether what is published has lost what it had over persistence.

E. S. Page, "Continuous inspection schemes", Biometrika 41, 1954: the test of a rising mean, known as Page-Hinkley where
the mean it rises from is learned beside it. Not on the error alone, which rises with every volatile hour: on the
difference between the loss as served and persistence's, on the same cells.
"""

import math
from typing import NamedTuple

import numpy as np

from streamer.core.grid import Floats, constant

CAP = 9.0  # variances: one bad print must not outweigh a day
_CAP = constant(CAP)
_CLIP = 3.0  # standard deviations of the difference: as above, for the test
_ALLOWANCE = 0.1  # and half the rise that matters, in the same unit
_WARM_UP = 300  # differences before any rise counts: the mean is known to about half the allowance then
_MEAN_SPAN, _SPREAD_SPAN = 2_000.0, 200.0  # over which the two are learned: a trading day and more, half a session
_LEAST_SPREAD = 0.01  # variances: where it hardly spreads, a rise of less is of no use to anybody


class Drift(NamedTuple):
    """State of the test; a value, which `after` replaces.

    threshold: standard deviations of excess that are drift, 0: none ever is. At 50 a stationary stream raises less
    than one alarm in 20,000 ticks. seen: differences taken in. mean, variance: of those. excess: how far they have
    lately summed up beyond the mean and the allowance, standard deviations; it goes no further than the threshold,
    so that it soon falls once the rise is over.
    """

    threshold: float
    seen: int = 0
    mean: float = 0.0
    variance: float = 0.0
    excess: float = 0.0

    @property
    def detected(self) -> bool:
        """Whether the loss has risen."""
        return 0.0 < self.threshold <= self.excess

    def after(self, served: Floats, persistence: Floats) -> "Drift":
        """Take in one tick: squared errors in variances of their symbols, `(c,)` each, of the same `c` cells."""
        differences = np.minimum(served, _CAP) - np.minimum(persistence, _CAP)
        difference = float(np.add.reduce(differences)) / len(differences)  # `mean` takes four times as long
        seen = self.seen + 1
        if seen == 1:
            return Drift(self.threshold, seen, difference)
        spread = max(math.sqrt(self.variance), _LEAST_SPREAD)
        rise = difference - self.mean
        # Clipped for the mean too (Huber): so the sum has no trend while nothing changes, however skewed they are.
        scaled = min(max(rise / spread, -_CLIP), _CLIP)
        excess = min(max(self.excess + scaled - _ALLOWANCE, 0.0), self.threshold) if seen > _WARM_UP else 0.0
        return Drift(
            self.threshold,
            seen,
            self.mean + scaled * spread / min(seen, _MEAN_SPAN),
            self.variance + (rise * rise - self.variance) / min(seen, _SPREAD_SPAN),
            excess,
        )

    def acted_on(self) -> "Drift":
        """The same once a training has been asked for: it is due again if the loss stays up, until the mean follows."""
        return Drift(self.threshold, self.seen, self.mean, self.variance)
