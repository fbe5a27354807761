"""A forecast that waits for its price: how it is made, published and scored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.core.calibration import Calibration
from streamer.core.drift import Drift
from streamer.core.forecaster import FORECASTERS, PERSISTENCE, SERVED
from streamer.core.grid import Floats
from streamer.core.market import Market
from streamer.core.outcome import Forecast

Bools = npt.NDArray[np.bool_]

_LOSSES = np.array([FORECASTERS.index(SERVED), FORECASTERS.index(PERSISTENCE)])


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What one tick settles.

    cells: symbol indices `(c,)`. squared_errors: `(c, forecasters)`. covered: prices in their interval, `(c,)`. seen,
    missed: of all symbols `(n,)`, those with a price, and with one outside of its interval.
    """

    cells: npt.NDArray[np.intp]
    squared_errors: Floats
    covered: Bools
    seen: Bools
    missed: Bools

    def learned(self, calibration: Calibration) -> Calibration:
        """`calibration` after them."""
        return calibration.updated(self.seen.astype(np.float64), self.missed.astype(np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A forecast that waits for its price. Arrays per symbol of the engine, `(n,)`; `yhat` is `(forecasters, n)`."""

    target: int
    mask: np.ndarray
    yhat: Floats
    lower: Floats
    upper: Floats

    @classmethod
    def of(cls, target: int, mask: Bools, market: Market, half: Floats, changes: Floats) -> "Pending":
        """The forecast by `changes` `(modelled, n)` from the last prices; `half` of its interval `(n,)` on each side.

        Persistence's change is none. target: grid time, ms. mask: symbols that are forecast.
        """
        last = market.last
        predicted = np.zeros((len(FORECASTERS) + 2, len(last)))  # by the model, persistence's none, and the bounds
        predicted[: len(changes)] = changes
        predicted[-2] = changes[0] - half
        predicted[-1] = changes[0] + half
        prices = market.levels.apply(last, predicted)
        return cls(target, mask, yhat=prices[:-2], lower=prices[-2], upper=prices[-1])

    def forecast(self, as_of: int, symbols: Sequence[str], last: Floats, model: str) -> Forecast:
        """What is published of it. symbols, last: of all columns."""
        cells = np.flatnonzero(self.mask)
        return Forecast(
            as_of=as_of,
            target=self.target,
            symbols=tuple([symbols[cell] for cell in cells.tolist()]),
            yhat=self.yhat[0, cells],
            lower=self.lower[cells],
            upper=self.upper[cells],
            last=last[cells],
            model=model,
        )

    def scores(self, prices: Floats) -> "Scores":
        """What comes of it with the prices `(n,)` really seen at its target time."""
        seen = self.mask & np.isfinite(prices)
        inside = (prices >= self.lower) & (prices <= self.upper)
        cells = np.flatnonzero(seen)
        errors = self.yhat[:, cells] - prices[cells]
        return Scores(cells, (errors * errors).T, inside[cells], seen, seen & ~inside)

    def drifted(self, drift: Drift, prices: Floats, cells: npt.NDArray[np.intp], market: Market) -> Drift:
        """`drift` after the loss as served and persistence's, in variances as they were when the forecast was made.

        market: before `prices`, in units in which they can be measured.
        """
        if not len(cells):
            return drift
        levels = market.levels if len(cells) == len(self.mask) else market.levels.take(cells)
        yhat = self.yhat.take(_LOSSES, axis=0).take(cells, axis=1)  # a list as index takes five times as long
        errors = levels.between(prices.take(cells), yhat) / market.sigma().take(cells)
        served, persistence = errors * errors
        return drift.after(served, persistence)

    def widened(self, n_symbols: int) -> "Pending":
        """The same with further symbols on the right, not forecast."""
        more = n_symbols - len(self.mask)
        return Pending(
            self.target,
            np.append(self.mask, np.zeros(more, np.bool_)),
            np.pad(self.yhat, [(0, 0), (0, more)]),
            np.pad(self.lower, (0, more)),
            np.pad(self.upper, (0, more)),
        )

    def take(self, columns: npt.NDArray[np.intp]) -> "Pending":
        """The same of these symbols alone, in that order."""
        return Pending(self.target, self.mask[columns], self.yhat[:, columns], self.lower[columns], self.upper[columns])

    def adjusted(self, column: int, ratio: float) -> "Pending":
        """The same with the forecast of one symbol in prices `ratio` times as large."""
        factors = np.ones(len(self.mask))
        factors[column] = ratio
        return Pending(self.target, self.mask, self.yhat * factors, self.lower * factors, self.upper * factors)
