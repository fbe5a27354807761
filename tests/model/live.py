"""An engine on whatever ticks are given, with a small model trained on the way: the whole path, but for Kafka."""

from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd

from streamer.core.engine import ForecastEngine
from streamer.core.forecaster import FORECASTERS, PERSISTENCE, SERVED, Forecaster
from streamer.core.grid import Floats
from streamer.core.outcome import Forecast, Step
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.model import artifact
from streamer.model.dataset import TrainingSet
from streamer.model.fit import fit
from streamer.model.forecaster import LstmForecaster
from streamer.model.spec import FitSpec, GateSpec, LayerSpec, NetworkSpec
from tests.core.oracle import Oracle

NETWORK = NetworkSpec(layers=(LayerSpec(8),))
FIT = FitSpec(steps=200)

_SHOWN = [FORECASTERS.index(SERVED), FORECASTERS.index(PERSISTENCE)]


class Live:
    """An engine, and what came of its ticks.

    errors: by target time (ms), squared errors as served and of persistence, `(2, n_symbols)`, NaN where not scored.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.engine = ForecastEngine(settings)
        self.oracle = Oracle(settings)
        self.steps: list[Step] = []
        self.errors: dict[int, Floats] = {}

    def feed(self, ticks: Iterable[Tick]) -> "Live":
        """Process `ticks`; AssertionError where one does not come to what the oracle says, or a figure is no number."""
        for tick in ticks:
            pending = self.engine.pending
            step, expected = self.engine.process(tick), self.oracle.tick(tick)
            found = (_kind(step), step.missing, step.is_break, step.blanks, step.scored)
            assert found == (
                expected.outcome,
                expected.missing,
                expected.is_break,
                expected.blanks,
                len(expected.scored),
            ), f"tick {len(self.steps)}"
            self.steps.append(step)
            if isinstance(step.outcome, Forecast):
                for figures in (step.outcome.yhat, step.outcome.lower, step.outcome.upper, step.outcome.last):
                    assert np.isfinite(figures).all(), f"tick {len(self.steps)}: {step.outcome}"
            if pending is not None and step.scored:
                prices = np.array([tick.prices.get(symbol, np.nan) for symbol in self.engine.symbols])
                errors = np.full((2, len(prices)), np.nan)
                known = np.flatnonzero(pending.mask)
                errors[:, known] = pending.yhat[_SHOWN][:, known] - prices[known]
                self.errors[pending.target] = errors * errors
        return self

    def train(self, folder: Path) -> Forecaster:
        """Fit a small model on what the engine holds; the gate's verdict does not matter."""
        fit(TrainingSet.of(self.engine), NETWORK, FIT, GateSpec(), None, folder)
        return LstmForecaster.from_artifact(artifact.read(folder))

    def serve(self, model: Forecaster) -> "Live":
        """Put `model` into service."""
        ready = self.engine.catch_up(model)
        assert ready.advance(len(self.engine.history))
        self.engine.swap(ready)
        return self

    def outcomes(self) -> Counter[str]:
        """How many ticks came to what."""
        return Counter([_kind(step) for step in self.steps])

    def ratio(self, first: int, last: int) -> Floats:
        """RMSE over persistence's per symbol, for the targets from the time `first` to before `last` (ms)."""
        scored = [errors for target, errors in self.errors.items() if first <= target < last]
        served, persistence = np.sqrt(np.nanmean(np.array(scored), axis=0))
        ratio: Floats = served / persistence
        return ratio


def _kind(step: Step) -> str:
    return "forecast" if isinstance(step.outcome, Forecast) else step.outcome.reason


def ticks_of(prices: pd.DataFrame) -> list[Tick]:
    """One tick per row of a frame indexed by time; blanks stay NaN."""
    times = pd.DatetimeIndex(prices.index).as_unit("ms").asi8.tolist()
    rows = prices.to_numpy(np.float64).tolist()
    return [Tick(time, dict(zip(prices.columns, row, strict=True))) for time, row in zip(times, rows, strict=True)]


def exchange_vectors(path: Path) -> list[Tick]:
    """Vectors of one second from a recording of exchange messages, each of which has the price of one symbol.

    The recording (columns `Symbol`, `exchange_timestamp`, `last_price`) was sent in blocks, some of them again: where a
    time jumps back by some seconds, messages that were there before are repeated. One line is torn.

    Messages are taken in the order of the file. Those that follow each other within one second make one vector: the
    last price of each symbol, none for the others. A message without time or price is left out. Nothing is sorted, and
    nothing left out because it was there before: that is for the engine to find.
    """
    table = pd.read_csv(path, usecols=["Symbol", "exchange_timestamp", "last_price"]).dropna()
    seconds = pd.DatetimeIndex(pd.to_datetime(table["exchange_timestamp"], utc=True, format="ISO8601")).floor("s")
    messages = zip(seconds.as_unit("ms").asi8.tolist(), table["Symbol"], table["last_price"].tolist(), strict=True)
    return [
        Tick(time, {symbol: price for _, symbol, price in run})
        for time, run in groupby(messages, key=lambda message: message[0])
    ]
