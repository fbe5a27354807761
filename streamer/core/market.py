"""What an engine knows of the prices themselves, whatever model serves."""

from dataclasses import dataclass

import numpy as np

from streamer.core import volatility
from streamer.core.grid import Floats, Row
from streamer.core.levels import Change


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """Per symbol, `(n_symbols,)`: the last price seen, how many rows ago that was, and its volatility's state."""

    last: Floats
    age: Floats
    variance: Floats
    weight: Floats

    @classmethod
    def initial(cls, n_symbols: int) -> "Market":
        """Nothing is known yet."""
        zeros = np.zeros(n_symbols)
        return cls(np.full(n_symbols, np.nan), zeros, zeros, zeros)

    def widened(self, n_symbols: int) -> "Market":
        """The same with further symbols on the right, unknown so far."""
        more = Market.initial(n_symbols - len(self.last))
        return Market(
            np.concatenate([self.last, more.last]),
            np.concatenate([self.age, more.age]),
            np.concatenate([self.variance, more.variance]),
            np.concatenate([self.weight, more.weight]),
        )

    def after(self, row: Row, missing: int, change: Change) -> "Market":
        """Take in `row`, before which `missing` steps had none."""
        moved = change.between(self.last, row.prices)
        known = np.isfinite(moved)
        if row.is_break:
            known = np.zeros_like(known)
        variance, weight = volatility.update(
            self.variance, self.weight, np.where(known, moved, 0.0), known.astype(np.float64)
        )
        blank = np.isnan(row.prices)
        return Market(
            np.where(blank, self.last, row.prices), np.where(blank, self.age + (missing + 1), 0.0), variance, weight
        )

    def sigma(self) -> Floats:
        """Standard deviation of one change, `(n_symbols,)`."""
        return volatility.sigma(self.variance)
