"""Features: what the network sees of each symbol at each step.

One implementation, stepped row by row: the trainer replays the history through it, serving steps it live.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamer.core import volatility
from streamer.core.grid import Floats, Row, is_finite
from streamer.core.levels import Levels, bounded

State = Mapping[str, np.ndarray]
"""Everything of a forecaster that changes from row to row, as named arrays: a value, never changed in place.

Those of the features, of the mix (`core.mix`) and of the network lie side by side, the first two under `features.` and
`mix.`; each part finds its own, and gives what has become of them.
"""

LEVEL, VARIANCE, WEIGHT = "features.level", "features.variance", "features.weight"
"""What all kinds of features hold: the level last seen, and its volatility, each `(n_symbols,)`."""

CLIP = 6.0  # sigmas: one bad print must not poison the network's state


class FeatureMap(Protocol):
    """What a kind of features is: rows in, features out, all that changes in the state."""

    @property
    def change(self) -> Levels:
        """What a change is of each symbol."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features of a symbol; the first is its change in this row, over its volatility."""

    @property
    def regressors(self) -> int:
        """How many of them, from the first on, a linear expert uses."""

    def initial(self, n_symbols: int) -> State:
        """State before the first row; `LEVEL` is NaN before the first price."""

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        """Take in one row; returns the new state and the features, shape `(n_symbols, len(names))`.

        Prices, features and the arrays of the state may have one more axis before all others, that of streams which are
        stepped side by side: each comes out as it would alone, bit for bit.
        """

    def scale(self, state: State) -> Floats:
        """Standard deviation of each symbol's changes, known at the state's row, level units, `(n_symbols,)`."""


@dataclass(frozen=True, slots=True)
class Features:
    """Scaled last change and mask of blanks, per symbol.

    change: what a change is of each.
    """

    change: Levels

    NAMES = ("change", "seen")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features of a symbol."""
        return self.NAMES

    @property
    def regressors(self) -> int:
        """How many of them, from the first on, a linear expert uses."""
        return 1

    def initial(self, n_symbols: int) -> State:
        """State before the first row."""
        return {
            LEVEL: np.full(n_symbols, np.nan),
            VARIANCE: np.zeros(n_symbols),
            WEIGHT: np.zeros(n_symbols),
        }

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        """Take in one row; returns the new state and the features, shape `(n_symbols, len(NAMES))`.

        A blank feeds a zero change and a zero mask, and so does the first row of a session: the change across the
        break is no one-step change.
        """
        level = self.change.level(row.prices)
        moved = level - state[LEVEL]
        if row.whole and not row.is_break and is_finite(moved):
            variance, weight = volatility.update(state[VARIANCE], state[WEIGHT], moved, None)
            out = np.ones((*moved.shape, 2))
            out[..., 0] = bounded(moved / volatility.sigma(variance), CLIP)
            return {LEVEL: level, VARIANCE: variance, WEIGHT: weight}, out
        seen = np.isfinite(moved)
        if row.is_break:
            seen = np.zeros_like(seen)
        moved = np.where(seen, moved, 0.0)
        mask = seen.astype(np.float64)
        variance, weight = volatility.update(state[VARIANCE], state[WEIGHT], moved, mask)
        scaled = bounded(moved / volatility.sigma(variance), CLIP)
        after = {
            LEVEL: np.where(np.isnan(level), state[LEVEL], level),
            VARIANCE: variance,
            WEIGHT: weight,
        }
        return after, np.stack([scaled, mask], axis=-1)

    @staticmethod
    def scale(state: State) -> Floats:
        """Standard deviation of each symbol's changes, known at the state's row, level units, `(n_symbols,)`."""
        return volatility.sigma(state[VARIANCE])
