"""Intervals: adaptive conformal calibration by quantile tracking.

I. Gibbs, E. Candès, "Adaptive conformal inference under distribution shift", NeurIPS 2021; the update on the
quantile itself is A. Angelopoulos, E. Candès, R. Tibshirani, "Conformal PID control for time series prediction",
NeurIPS 2023, section 2.1, here on its logarithm, so that steps are relative and a width never turns negative.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.core.grid import ONE, Floats, constant
from streamer.core.levels import bounded

_START = 1.645  # the 90 % quantile of a normal law, sigmas; the tracker leaves it within some dozen forecasts
_BOUND = 12.0  # log sigmas: a symbol that never moves must not shrink its width to nothing for good
# Relative steps: quick while young, then slow enough not to chase single misses.
_FASTEST, _SLOWEST = constant(0.2), constant(0.03)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Half-width of each symbol's interval, in units of its volatility.

    log_width, count: shape `(n_symbols,)`. A value: `updated` gives a new one.
    """

    coverage: float
    log_width: Floats
    count: Floats

    @classmethod
    def initial(cls, n_symbols: int, coverage: float) -> "Calibration":
        """The calibration before any forecast."""
        return cls(coverage, np.full(n_symbols, np.log(_START)), np.zeros(n_symbols))

    @property
    def width(self) -> Floats:
        """Half-width in sigmas, `(n_symbols,)`."""
        return np.exp(self.log_width)

    def updated(self, scored: Floats | None, missed: Floats) -> "Calibration":
        """Learn from one step: `scored` and `missed` are 1.0 or 0.0 per symbol, `(n_symbols,)`. scored: None: all.

        The step has mean zero exactly when misses come at the rate 1 - coverage.
        """
        if scored is None:
            count = self.count + ONE
            step = np.maximum(_SLOWEST, _FASTEST / np.sqrt(count))
        else:
            count = self.count + scored
            step = scored * np.maximum(_SLOWEST, _FASTEST / np.sqrt(np.maximum(count, 1.0)))
        log_width = self.log_width + step * (missed - (1.0 - self.coverage))
        return Calibration(self.coverage, bounded(log_width, _BOUND), count)

    def take(self, columns: npt.NDArray[np.intp]) -> "Calibration":
        """The same of these symbols alone, in that order."""
        return Calibration(self.coverage, self.log_width[columns], self.count[columns])

    def widened(self, n_symbols: int) -> "Calibration":
        """The same with further symbols on the right, uncalibrated."""
        fresh = Calibration.initial(n_symbols - len(self.count), self.coverage)
        return Calibration(
            self.coverage,
            np.concatenate([self.log_width, fresh.log_width]),
            np.concatenate([self.count, fresh.count]),
        )
