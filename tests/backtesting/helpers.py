"""What the tests of backtests share: frames of prices, and a learner without TensorFlow."""

from typing import Any

import numpy as np
import pandas as pd

from streamer.backtesting import Options, Record, Result
from streamer.backtesting.rows import Rows, check
from streamer.backtesting.run import Backtest, Learning, Reporter, Schedule
from streamer.config import load
from streamer.core.buffer import TickBuffer
from streamer.core.forecaster import Forecaster
from streamer.core.grid import Floats
from streamer.core.settings import EngineSettings
from streamer.frames import price_table
from streamer.model.artifact import Artifact
from streamer.model.dataset import TrainingSet
from streamer.settings import Settings
from tests.core.fakes import FakeForecaster
from tests.model import helpers

SMALL = EngineSettings(window=5, max_gap=3, max_stale=50, history=60, every=20)
"""Near limits, so that a few dozen rows are a backtest."""


def settings(**values: Any) -> Settings:
    """Settings with a small, quick training; `values` by dotted key with "__" for the dot."""
    quick = {"kafka.bootstrap_servers": "127.0.0.1:9092", "fit.steps": 4, "fit.sequence": 12, "fit.lanes": 4}
    return load(None, {}, {**quick, **{key.replace("__", "."): value for key, value in values.items()}})


def frame(prices: Floats, step: str = "1min", start: str = "2026-01-05") -> pd.DataFrame:
    """Columns A, B, ... on equal steps from `start`."""
    index = pd.date_range(start, periods=len(prices), freq=step, tz="UTC")
    return pd.DataFrame(prices, index, [chr(ord("A") + column) for column in range(prices.shape[1])])


def walk(rows: int, symbols: int = 2, seed: int = 0) -> pd.DataFrame:
    """Random walks around 100."""
    return frame(helpers.walk(rows, symbols, seed))


def checked(table: pd.DataFrame, engine: EngineSettings = SMALL) -> Rows:
    """The rows of a frame."""
    return check(price_table(table, engine.symbols, "prices.csv"), engine, "prices.csv")


HALF = Options(train_fraction=0.5)


class Learner:
    """Stands for the training process: a forecaster with random weights, named by its history, at once.

    verdicts: whether the models are promoted, in turn; then all are.
    """

    def __init__(self, *verdicts: bool) -> None:
        self.histories: list[TrainingSet] = []
        self.champions: list[str | None] = []
        self.models: dict[str, FakeForecaster] = {}
        self._verdicts = list(verdicts)

    def train(self, history: TrainingSet, champion: Artifact | None) -> tuple[dict[str, Any], Artifact]:
        """A model of the whole history."""
        seed = int(np.nan_to_num(history.prices).sum() * 1e6) % 2**32
        artifact = helpers.artifact(int(history.times[-1]), seed)
        buffer = TickBuffer(len(history), len(history.symbols))
        buffer.prepend(history.times, history.breaks, history.prices)
        untrained = FakeForecaster(artifact.id, history.symbols, history.targets, change=history.change)
        self.models[artifact.id] = untrained.trained_on(buffer, range(len(history.symbols)), history.step)
        self.histories.append(history)
        self.champions.append(None if champion is None else champion.id)
        promoted = self._verdicts.pop(0) if self._verdicts else True
        return {"promoted": promoted, "reason": "so it was told", "ratio": 0.9}, artifact

    def load(self, artifact: Artifact) -> Forecaster:
        """The model of an artifact."""
        return self.models[artifact.id]

    @property
    def learning(self) -> Learning:
        """As a backtest takes it."""
        return Learning(self.train, self.load)


def run(
    table: pd.DataFrame,
    learner: Learner | None = None,
    *,
    engine: EngineSettings = SMALL,
    options: Options = HALF,
    record: Record | None = None,
    schedule: Schedule | None = None,
    reporter: Reporter | None = None,
) -> Backtest:
    """A backtest that has run, with the learner or by the schedule."""
    models = schedule or (learner or Learner()).learning
    backtest = Backtest(checked(table, engine), engine, options, models, record, reporter)
    backtest.run()
    return backtest


def bits(result: Result) -> list[bytes]:
    """All that was forecast, for comparison bit by bit."""
    frames = [*result.forecasters.values(), result.lower, result.upper]
    return [each.to_numpy().tobytes() for each in frames]
