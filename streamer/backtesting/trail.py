"""What a backtest writes down as it goes: each forecast beside the price that then came."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streamer.core.engine import ForecastEngine
from streamer.core.forecaster import FORECASTERS
from streamer.core.grid import Floats
from streamer.core.outcome import Swap
from streamer.core.pending import Pending

_SAMPLES = 400  # of the experts' weights over a whole backtest: more than a chart shows


@dataclass(frozen=True, slots=True, eq=False)
class Promise:
    """What stood before a row came: the forecast of it, persistence's with its own interval, and who made it."""

    pending: Pending
    baseline: Pending
    model: str

    @classmethod
    def of(cls, engine: ForecastEngine, baseline: ForecastEngine) -> "Promise | None":
        """The forecast that waits in both engines, if one does."""
        if engine.pending is None or baseline.pending is None:
            return None
        return cls(engine.pending, baseline.pending, engine.model_id)


@dataclass(frozen=True, slots=True)
class Shares:
    """Weight of each expert of one target at one row."""

    row: int
    model: str
    target: str
    weights: dict[str, float]


class Trail:
    """Arrays over the scored rows, from `first` on; `(rows, targets)`, NaN where there is no forecast.

    yhat: by forecaster. lower, upper: of the interval served; baseline_*: of persistence with its own calibration.
    models: who made the forecast of each row, "" where none was made.
    """

    def __init__(self, first: int, rows: int, columns: npt.NDArray[np.intp]) -> None:
        shape = (rows - first, len(columns))
        self.first = first
        self.yhat: dict[str, Floats] = {name: np.full(shape, np.nan) for name in FORECASTERS}
        self.lower, self.upper = np.full(shape, np.nan), np.full(shape, np.nan)
        self.baseline_lower, self.baseline_upper = np.full(shape, np.nan), np.full(shape, np.nan)
        self.models = [""] * shape[0]
        self.shares: list[Shares] = []
        self.done = 0
        self._columns = columns
        self._every = max(1, shape[0] // _SAMPLES)

    def add(self, row: int, time: int, promise: Promise | None) -> None:
        """Write down what had been forecast for `row`, which lies on the grid at `time` (ms)."""
        if row < self.first:
            return
        if promise is not None and promise.pending.target == time:
            self._write(row - self.first, promise)
        self.done = row - self.first + 1

    def _write(self, at: int, promise: Promise) -> None:
        columns, pending, baseline = self._columns, promise.pending, promise.baseline
        mask = pending.mask[columns]

        def chosen(values: Floats) -> Floats:
            result: Floats = np.where(mask, values[columns], np.nan)
            return result

        for name, yhat in zip(FORECASTERS, pending.yhat, strict=True):
            self.yhat[name][at] = chosen(yhat)
        self.lower[at], self.upper[at] = chosen(pending.lower), chosen(pending.upper)
        self.baseline_lower[at], self.baseline_upper[at] = chosen(baseline.lower), chosen(baseline.upper)
        self.models[at] = promise.model

    def sample(self, row: int, engine: ForecastEngine) -> None:
        """Now and then, write down what share each expert has in the forecast that was just made."""
        serving = engine.serving
        if serving is None or row < self.first or (row - self.first) % self._every:
            return
        shares = serving.model.shares(serving.state)
        for index, target in enumerate(serving.model.targets):
            weights = {name: float(values[index]) for name, values in shares.items()}
            self.shares.append(Shares(row, serving.model.id, target, weights))


@dataclass(frozen=True, slots=True)
class Training:
    """One training and what became of it.

    row: the last that it saw. ticks: how many it saw. due: why it was done. outcome: promoted, rejected or failed.
    figures: the gate's.
    """

    row: int
    ticks: int
    due: str
    outcome: str
    reason: str
    model: str | None = None
    figures: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Service:
    """A model began to serve: it made its first forecast at `row`, of the row after."""

    row: int
    swap: Swap
