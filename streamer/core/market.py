"""What an engine knows of the prices themselves, whatever model serves."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from streamer.core import volatility
from streamer.core.grid import Floats, Row, is_finite
from streamer.core.levels import Levels


@dataclass(frozen=True, eq=False)
class Market:
    """Per symbol, `(n_symbols,)`: the last price seen, how long ago that was, and its volatility's state.

    age: in rows of the grid, the missing ones too. unseen: in ticks. levels: what a change is of each.
    """

    last: Floats
    age: Floats
    unseen: Floats
    variance: Floats
    weight: Floats
    levels: Levels

    @classmethod
    def initial(cls, levels: Levels) -> "Market":
        """Nothing is known yet of the symbols with these levels."""
        zeros = np.zeros(len(levels.is_log))
        return cls(np.full(len(zeros), np.nan), zeros, zeros, zeros, zeros, levels)

    def widened(self, levels: Levels) -> "Market":
        """The same with further symbols on the right, unknown so far."""
        more = Market.initial(levels)
        return Market(
            np.concatenate([self.last, more.last]),
            np.concatenate([self.age, more.age]),
            np.concatenate([self.unseen, more.unseen]),
            np.concatenate([self.variance, more.variance]),
            np.concatenate([self.weight, more.weight]),
            self.levels.widened(levels),
        )

    def vanished(self, ticks: int, rows: int) -> list[int]:
        """Symbols without a price for more than `ticks` ticks, and `rows` of the grid."""
        gone = self.unseen > ticks
        if not np.count_nonzero(gone):
            return []
        columns: list[int] = np.flatnonzero(gone & (self.age > rows)).tolist()
        return columns

    def take(self, columns: npt.NDArray[np.intp]) -> "Market":
        """The same of these symbols alone, in that order."""
        return Market(
            self.last[columns],
            self.age[columns],
            self.unseen[columns],
            self.variance[columns],
            self.weight[columns],
            self.levels.take(columns),
        )

    def adjusted(self, column: int, ratio: float) -> "Market":
        """The same with the past of one symbol in prices `ratio` times as large."""
        last, variance = self.last.copy(), self.variance.copy()
        last[column] *= ratio
        if not self.levels.is_log[column]:  # log returns are the same in all units
            variance[column] *= ratio * ratio
        return replace(self, last=last, variance=variance)

    def seeing(self, prices: Floats) -> "Market":
        """The same in the levels that `prices` ask for: differences for a symbol of which one is not positive.

        Its volatility becomes that of differences at its last price. So such a price meets a scale, which it can raise
        no more than any other bad print can.
        """
        levels = self.levels.seeing(prices)
        if levels is self.levels:
            return self
        switched = self.levels.is_log & ~levels.is_log & np.isfinite(self.last)
        variance = np.where(switched, self.variance * self.last * self.last, self.variance)
        return replace(self, variance=variance, levels=levels)

    def after(self, row: Row, missing: int) -> "Market":
        """Take in `row`, whose prices the levels can use, and before which `missing` steps had none."""
        moved = self.levels.between(self.last, row.prices)
        if row.whole and not row.is_break and is_finite(moved):
            none, (variance, weight) = np.zeros(len(moved)), volatility.update(self.variance, self.weight, moved, None)
            return Market(row.prices, none, none, variance, weight, self.levels)
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
            np.where(blank, self.unseen + 1.0, 0.0),
            variance,
            weight,
            self.levels,
        )

    @cached_property
    def sigma(self) -> Floats:
        """Standard deviation of one change, `(n_symbols,)`."""
        return volatility.sigma(self.variance)
