"""What an engine knows of the prices themselves, whatever model serves."""

from dataclasses import dataclass, replace

import numpy as np

from streamer.core import volatility
from streamer.core.grid import Floats, Row
from streamer.core.levels import Levels


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """Per symbol, `(n_symbols,)`: the last price seen, how many rows ago that was, and its volatility's state.

    levels: what a change is of each.
    """

    last: Floats
    age: Floats
    variance: Floats
    weight: Floats
    levels: Levels

    @classmethod
    def initial(cls, levels: Levels) -> "Market":
        """Nothing is known yet of the symbols with these levels."""
        zeros = np.zeros(len(levels.is_log))
        return cls(np.full(len(zeros), np.nan), zeros, zeros, zeros, levels)

    def widened(self, levels: Levels) -> "Market":
        """The same with further symbols on the right, unknown so far."""
        more = Market.initial(levels)
        return Market(
            np.concatenate([self.last, more.last]),
            np.concatenate([self.age, more.age]),
            np.concatenate([self.variance, more.variance]),
            np.concatenate([self.weight, more.weight]),
            self.levels.widened(levels),
        )

    def after(self, row: Row, missing: int) -> "Market":
        """Take in `row`, before which `missing` steps had none.

        A first price that is not positive makes the changes of its symbol differences from then on.
        """
        levels = self.levels.seeing(row.prices)
        if levels is not self.levels:
            return self._switched(levels).after(row, missing)
        moved = levels.between(self.last, row.prices)
        known = np.isfinite(moved)
        if row.is_break:
            known = np.zeros_like(known)
        variance, weight = volatility.update(
            self.variance, self.weight, np.where(known, moved, 0.0), known.astype(np.float64)
        )
        blank = np.isnan(row.prices)
        return Market(
            np.where(blank, self.last, row.prices),
            np.where(blank, self.age + (missing + 1), 0.0),
            variance,
            weight,
            levels,
        )

    def _switched(self, levels: Levels) -> "Market":
        """Under `levels`: the volatility of a log return becomes that of a difference at the last price.

        So the first price that is not positive meets a scale, which it can raise no more than any bad print can.
        """
        switched = self.levels.is_log & ~levels.is_log & np.isfinite(self.last)
        variance = np.where(switched, self.variance * self.last * self.last, self.variance)
        return replace(self, variance=variance, levels=levels)

    def sigma(self) -> Floats:
        """Standard deviation of one change, `(n_symbols,)`."""
        return volatility.sigma(self.variance)
