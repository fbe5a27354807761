"""A forecast that waits for its price: how it is made, published and scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from streamer.core.calibration import Calibration
from streamer.core.drift import Drift
from streamer.core.forecaster import FORECASTERS, PERSISTENCE, SERVED
from streamer.core.grid import Floats, Row, constant
from streamer.core.market import Market
from streamer.core.outcome import Forecast

Bools = npt.NDArray[np.bool_]

_LEAST_VARIANCE = constant(1e-100)  # of a price: the largest error's square is still a number, over it
_SERVED, _PERSISTENCE = FORECASTERS.index(SERVED), FORECASTERS.index(PERSISTENCE)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What one tick settles.

    cells: symbol indices `(c,)`. squared_errors: `(c, forecasters)`. covered: prices in their interval, `(c,)`. seen,
    missed: of all symbols `(n,)`, those with a price, None: all; and with one outside of its interval.
    """

    cells: npt.NDArray[np.intp]
    squared_errors: Floats
    covered: Bools
    seen: Bools | None
    missed: Bools

    def learned(self, calibration: Calibration) -> Calibration:
        """`calibration` after them."""
        seen = None if self.seen is None else self.seen.astype(np.float64)
        return calibration.updated(seen, self.missed.astype(np.float64))

    def drifted(self, drift: Drift, market: Market) -> Drift:
        """`drift` after the loss as served and persistence's, in variances as they were when the forecast was made.

        market: before the prices, in units in which they can be measured.
        """
        if not len(self.cells):
            return drift
        sigma = market.levels.in_prices(market.sigma, market.last)
        if self.seen is not None:
            sigma = sigma.take(self.cells)
        variance, errors = np.maximum(sigma * sigma, _LEAST_VARIANCE), self.squared_errors
        return drift.after(errors[:, _SERVED] / variance, errors[:, _PERSISTENCE] / variance)


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A forecast that waits for its price. Arrays per symbol of the engine, `(n,)`; `yhat` is `(forecasters, n)`.

    whole: whether `mask` leaves none out.
    """

    target: int
    mask: np.ndarray
    yhat: Floats
    lower: Floats
    upper: Floats
    whole: bool

    @classmethod
    def of(cls, target: int, mask: Bools, market: Market, half: Floats, changes: Floats, *, whole: bool) -> "Pending":
        """The forecast by `changes` `(modelled, n)` from the last prices; `half` of its interval `(n,)` on each side.

        Persistence's change is none. target: grid time, ms. mask: symbols that are forecast.
        """
        last = market.last
        predicted = np.zeros((len(FORECASTERS) + 2, len(last)))  # by the model, persistence's none, and the bounds
        predicted[: len(changes)] = changes
        predicted[-2] = changes[0] - half
        predicted[-1] = changes[0] + half
        prices = market.levels.apply(last, predicted)
        return cls(target, mask, prices[:-2], prices[-2], prices[-1], whole)

    def forecast(self, as_of: int, symbols: Sequence[str], last: Floats, model: str) -> Forecast:
        """What is published of it. symbols, last: of all columns."""
        if self.whole:
            return Forecast(as_of, self.target, tuple(symbols), self.yhat[0], self.lower, self.upper, last, model)
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

    def scores(self, row: Row) -> "Scores":
        """What comes of it with the prices really seen at its target time."""
        prices = row.prices
        inside = (prices >= self.lower) & (prices <= self.upper)
        if self.whole and row.whole:
            errors = self.yhat - prices
            return Scores(_every(len(prices)), (errors * errors).T, inside, None, ~inside)
        seen = self.mask & np.isfinite(prices)
        cells = np.flatnonzero(seen)
        errors = self.yhat[:, cells] - prices[cells]
        return Scores(cells, (errors * errors).T, inside[cells], seen, seen & ~inside)

    def widened(self, n_symbols: int) -> "Pending":
        """The same with further symbols on the right, not forecast."""
        more = n_symbols - len(self.mask)
        return Pending(
            self.target,
            np.append(self.mask, np.zeros(more, np.bool_)),
            np.pad(self.yhat, [(0, 0), (0, more)]),
            np.pad(self.lower, (0, more)),
            np.pad(self.upper, (0, more)),
            self.whole and not more,
        )

    def take(self, columns: npt.NDArray[np.intp]) -> "Pending":
        """The same of these symbols alone, in that order."""
        mask = self.mask[columns]
        whole = bool(mask.all())
        return Pending(self.target, mask, self.yhat[:, columns], self.lower[columns], self.upper[columns], whole)

    def adjusted(self, column: int, ratio: float) -> "Pending":
        """The same with the forecast of one symbol in prices `ratio` times as large."""
        factors = np.ones(len(self.mask))
        factors[column] = ratio
        yhat, lower, upper = self.yhat * factors, self.lower * factors, self.upper * factors
        return Pending(self.target, self.mask, yhat, lower, upper, self.whole)


@lru_cache(64)
def _every(n: int) -> npt.NDArray[np.intp]:
    cells = np.arange(n)
    cells.flags.writeable = False
    return cells
