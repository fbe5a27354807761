"""The article's recipe and ours on the article's data, in one run: error in price steps, and time.

    scripts/bench article [--config FILE] [--rows N] [--epochs N] [--seed N]

Theirs: windows of 100 rows of prices, made apart in each part; a Keras LSTM and a dense layer, RMSprop, mean squared
error, batch 450, 10 epochs, validation split 0.05, Keras defaults else. Ours: the daemon's training with
config/article.yaml, then its engine over the rest, row by row. Both learn from the first 90 % of the rows, on as many
threads as there are processors, and are scored on the same rows after that: all but the first 100, which are the first
window. Beside the time on the clock stands that of the processors, in which other work has no share.

With --config config/article-stack.yaml both are the article's stack, five columns in and three out.
"""

import argparse
import importlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from streamer.config import load
from streamer.core.engine import ForecastEngine
from streamer.core.grid import Floats
from streamer.core.outcome import Forecast
from streamer.core.tick import Tick
from streamer.errors import UsageError
from streamer.model.dataset import TrainingSet
from streamer.sawtooth import DROPPED, PERIOD, SYMBOLS, price_step, sawtooth
from streamer.service import wiring
from streamer.settings import Settings
from tests.bench._result import Figure, Result
from tests.support import CHECKOUT

TRAINED = 0.9  # share of the rows
WINDOW, BATCH, EPOCHS, VALIDATION = 100, 450, 10, 0.05
COLUMNS = 2  # where the configuration lists no symbols
ROWS = 1000 * PERIOD - DROPPED
MEASURED = {"error": "price steps", "training": "s", "forecasts": "s", "time": "s", "processors": "s"}


@dataclass(frozen=True, slots=True)
class Work:
    """What both do: the prices of `rows` ticks, settings from `config`, `epochs` for theirs."""

    config: Path
    rows: int
    epochs: int
    seed: int

    @property
    def settings(self) -> Settings:
        """Ours; of theirs only layers, symbols and targets."""
        return load(self.config, {}, {"fit.seed": self.seed})

    @property
    def symbols(self) -> tuple[str, ...]:
        """Columns in."""
        return self.settings.feed.symbols or SYMBOLS[:COLUMNS]

    @property
    def targets(self) -> tuple[str, ...]:
        """Columns out."""
        return self.settings.feed.targets or self.symbols

    @property
    def ticks(self) -> list[Tick]:
        """The article's data."""
        return sawtooth(self.rows, self.settings.feed.step_ms, columns=len(self.symbols), first=DROPPED)

    @property
    def split(self) -> int:
        """Rows to learn from."""
        return round(TRAINED * self.rows)


@dataclass(frozen=True, slots=True)
class Recipe:
    """RMSE in price steps by column, and seconds: of the training, of the forecasts, and of all processors in both."""

    rmse: dict[str, float]
    training: float
    forecasts: float
    processors: float

    @property
    def error(self) -> float:
        """RMSE over all columns."""
        return float(np.sqrt(np.mean(np.square(list(self.rmse.values())))))

    @property
    def time(self) -> float:
        """Of both."""
        return self.training + self.forecasts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--config", type=Path, default=CHECKOUT / "config" / "article.yaml", help="ours")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of data (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the article's recipe (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of both (default: %(default)s)")


def run(arguments: argparse.Namespace) -> Result:
    """Both recipes, one after the other; UsageError."""
    if arguments.rows < 20 * WINDOW:
        raise UsageError(f"--rows: found {arguments.rows}, at least {20 * WINDOW} leave rows to score after a window")
    work = Work(arguments.config, arguments.rows, arguments.epochs, arguments.seed)
    our, their = _alone(ours, work), _alone(theirs, work)
    figures = []
    for name, unit in MEASURED.items():
        rival = Figure.of(f"article's {name}", unit, [getattr(their, name)])
        figures += [rival, Figure.of(f"our {name}", unit, [getattr(our, name)], rival)]
    details = {
        "rows": work.rows,
        "scored": work.rows - work.split - WINDOW,
        "epochs": work.epochs,
        "rmse": {"streamer": our.rmse, "article": their.rmse},
    }
    return Result("article", tuple(figures), details=details)


def ours(work: Work) -> Recipe:
    """Train as the daemon would on the first rows, and let its engine forecast the others, each before it is read."""
    engine = ForecastEngine(replace(wiring.engine_settings(work.settings), symbols=work.symbols, every=0))
    ticks = work.ticks
    for tick in ticks[: work.split]:
        engine.process(tick)
    began, busy = time.perf_counter(), time.process_time()
    _put_into_service(engine, work.settings)
    trained = time.perf_counter()
    outcomes = [engine.process(tick).outcome for tick in ticks[work.split : -1]]
    done, busy = time.perf_counter(), time.process_time() - busy
    predicted = np.array([outcome.yhat for outcome in outcomes[WINDOW - 1 :] if isinstance(outcome, Forecast)])
    return Recipe(_errors(work, predicted), trained - began, done - trained, busy)


def _put_into_service(engine: ForecastEngine, settings: Settings) -> None:
    from streamer.model import artifact
    from streamer.model.fit import fit
    from streamer.model.forecaster import LstmForecaster

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        specs = (wiring.network_spec(settings), wiring.fit_spec(settings), wiring.gate_spec(settings))
        fit(TrainingSet.of(engine), *specs, None, out, threads=os.cpu_count() or 1)
        ready = engine.catch_up(LstmForecaster.from_artifact(artifact.read(out)))
    ready.advance(len(engine.history))
    engine.swap(ready)


def theirs(work: Work) -> Recipe:
    """The article's recipe: every row is copied into 100 windows, and 100 steps are run for every forecast."""
    import keras

    prices = np.array([[tick.prices[symbol] for symbol in work.symbols] for tick in work.ticks], np.float32)
    columns = [work.symbols.index(target) for target in work.targets]
    keras.utils.set_random_seed(work.seed)
    began, busy = time.perf_counter(), time.process_time()
    x, y = _windows(prices[: work.split], columns)
    model = keras.Sequential(
        [keras.Input((WINDOW, len(work.symbols))), *_stack(work), keras.layers.Dense(len(columns))]
    )
    model.compile(optimizer="rmsprop", loss="mse")
    model.fit(x, y, batch_size=BATCH, epochs=work.epochs, validation_split=VALIDATION, verbose=0)
    trained = time.perf_counter()
    predicted = model.predict(_windows(prices[work.split :], columns)[0], verbose=0)
    done, busy = time.perf_counter(), time.process_time() - busy
    return Recipe(_errors(work, predicted), trained - began, done - trained, busy)


def _windows(prices: np.ndarray, columns: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Windows `(n, WINDOW, n_symbols)`, and the row after each, `(n, n_targets)`."""
    starts = np.arange(len(prices) - WINDOW)[:, None]
    return prices[starts + np.arange(WINDOW)], prices[WINDOW:][:, columns]


def _stack(work: Work) -> list[Any]:
    import keras

    layers: list[Any] = []
    stack = work.settings.network.layers
    for index, layer in enumerate(stack, 1):
        layers.append(keras.layers.LSTM(layer.units, return_sequences=index < len(stack)))
        if layer.dropout:
            layers.append(keras.layers.Dropout(layer.dropout))
    return layers


def _errors(work: Work, predicted: Floats) -> dict[str, float]:
    actual = np.array([[tick.prices[target] for target in work.targets] for tick in work.ticks[work.split + WINDOW :]])
    rmse = np.sqrt(np.mean(np.square(predicted - actual), axis=0)) / price_step()
    return dict(zip(work.targets, rmse.tolist(), strict=True))


def _alone(run: Callable[[Work], Recipe], work: Work) -> Recipe:
    """In a process of its own, with TensorFlow loaded before its clock starts."""
    print(f"{run.__name__} ...", file=sys.stderr)
    with multiprocessing.get_context("spawn").Pool(1, initializer=_load) as pool:
        return pool.apply(run, (work,))


def _load() -> None:
    importlib.import_module("streamer.model.fit")
