"""Features: what the network sees of each symbol at each step.

One implementation, stepped row by row: the trainer replays the history through it, serving steps it live.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Protocol

import numpy as np

from streamer.core import volatility
from streamer.core.grid import Floats, Row
from streamer.core.levels import Levels, bounded

State = Mapping[str, np.ndarray]
"""Everything of a forecaster that changes from row to row, as named arrays: a value, never changed in place."""

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
        """State before the first row; `level` is the last one seen of each symbol, NaN before the first."""

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

    change: what a change is of each. The state holds, per symbol, the `level` last seen (NaN before the first), and
    the `variance` and `weight` of its volatility.
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
            "level": np.full(n_symbols, np.nan),
            "variance": np.zeros(n_symbols),
            "weight": np.zeros(n_symbols),
        }

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        """Take in one row; returns the new state and the features, shape `(n_symbols, len(NAMES))`.

        A blank feeds a zero change and a zero mask, and so does the first row of a session: the change across the
        break is no one-step change.
        """
        level = self.change.level(row.prices)
        moved = level - state["level"]
        if row.whole and not row.is_break and isfinite(np.add.reduce(moved, None)):
            variance, weight = volatility.update(state["variance"], state["weight"], moved, None)
            out = np.ones((*moved.shape, 2))
            out[..., 0] = bounded(moved / volatility.sigma(variance), CLIP)
            return {"level": level, "variance": variance, "weight": weight}, out
        seen = np.isfinite(moved)
        if row.is_break:
            seen = np.zeros_like(seen)
        moved = np.where(seen, moved, 0.0)
        mask = seen.astype(np.float64)
        variance, weight = volatility.update(state["variance"], state["weight"], moved, mask)
        scaled = bounded(moved / volatility.sigma(variance), CLIP)
        after = {
            "level": np.where(np.isnan(level), state["level"], level),
            "variance": variance,
            "weight": weight,
        }
        return after, np.stack([scaled, mask], axis=-1)

    @staticmethod
    def scale(state: State) -> Floats:
        """Standard deviation of each symbol's changes, known at the state's row, level units, `(n_symbols,)`."""
        return volatility.sigma(state["variance"])
