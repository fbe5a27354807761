"""One tick of an engine: the article's profile beside what it cannot do without, and the default settings by part.

    scripts/bench tick [--ticks N] [--rounds N]

The article's profile (300 units, 2 symbols) stands beside the matrix-vector product of its four gates; and beside the
engine's tick stands the article's own way, `model.predict(window)` with the last 100 rows in Keras. The default
settings (10 symbols) are taken apart: what each part takes, beside the whole tick. Everything takes turns; each round
is the median of its ticks, in microseconds. The models are of the weights that they are born with.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

from streamer.core import experts, mix
from streamer.core.engine import ForecastEngine
from streamer.core.features import Features
from streamer.core.grid import Row
from streamer.core.settings import EngineSettings
from streamer.model.forecaster import LstmForecaster, hidden, inputs_of
from tests.bench import _models
from tests.bench._models import Profile
from tests.bench._result import Figure, Limit, Result, interleaved
from tests.bench.growth import served, ticks_of, timed

UNITS, SYMBOLS, WIDE = 300, 2, 10
WINDOW = 100
_PREDICTED = 20  # windows in a round, at most: 50 ms each


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--ticks", type=int, default=1_000, metavar="N", help="of each in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="(%(default)s)")


def run(arguments: argparse.Namespace) -> Result:
    """All rounds."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    profiles = [(Profile.of("article"), SYMBOLS), (Profile.of("default"), WIDE)]
    article, default = (
        _models.forecaster(profile, count, network)
        for (profile, count), network in zip(profiles, _models.exported(profiles), strict=True)
    )
    works = {
        "matrix-vector product": _product(),
        "article, network": _network(article),
        "article, model": _model(article),
        "article, engine without a model": _persistence(article),
        "article, engine tick": served(article),
        "default, features": _features(default),
        "default, network": _network(default),
        "default, experts": _experts(default),
        "default, mix and guard": _mix(default),
        "default, model": _model(default),
        "default, engine without a model": _persistence(default),
        "default, engine tick": served(default),
    }
    turns: dict[str, Callable[[], float]] = {
        name: partial(timed, work, arguments.ticks) for name, work in works.items()
    }
    predicted = _predict()
    turns["model.predict(window)"] = lambda: timed(predicted, min(_PREDICTED, arguments.ticks))
    for work in (*works.values(), predicted):
        timed(work, 10)  # the first turns meet cold caches
    return Result("tick", tuple(_figures(interleaved(turns, arguments.rounds))))


def _figures(taken: dict[str, list[float]]) -> Iterator[Figure]:
    """Each beside what it is to be set against."""
    product = Figure.of("matrix-vector product", "us", taken.pop("matrix-vector product"))
    yield product
    windows = taken.pop("model.predict(window)")
    whole = Figure.of("default, engine tick", "us", taken["default, engine tick"])
    for name, values in taken.items():
        if name == "article, network":
            yield Figure.of(name, "us", values, product, Limit(2.0))
        elif name == "article, engine tick":
            yield (tick := Figure.of(name, "us", values, product, Limit(60.0, absolute=True)))
            yield Figure.of("model.predict(window)", "us", windows, tick, Limit(800.0, least=True))
        elif name == "default, engine tick":
            yield Figure.of(name, "us", values, limit=Limit(250.0, absolute=True))
        else:
            yield Figure.of(name, "us", values, product if name.startswith("article") else whole)


def _product() -> Iterator[None]:
    """`x @ W + h @ U` for the four gates."""
    draw = np.random.default_rng(0)
    inputs = SYMBOLS * len(Features.NAMES)
    x, h, w, u = (
        draw.normal(size=size).astype(np.float32)
        for size in ((1, inputs), (1, UNITS), (inputs, 4 * UNITS), (UNITS, 4 * UNITS))
    )
    while True:
        _ = x @ w + h @ u
        yield


def _network(forecaster: LstmForecaster) -> Iterator[None]:
    runtime = forecaster.runtime
    state = runtime.initial_state()
    x = np.random.default_rng(0).normal(size=(runtime.rows, runtime.inputs)).astype(np.float32)
    while True:
        _, state = runtime.step(x, state)
        yield


def _model(forecaster: LstmForecaster) -> Iterator[None]:
    """All that serves: features, network, experts, mix."""
    state = forecaster.initial_state()
    for row in _rows(len(forecaster.symbols)):
        state, _ = forecaster.step(state, row)
        yield


def _features(forecaster: LstmForecaster) -> Iterator[None]:
    state = forecaster.features.initial(len(forecaster.symbols))
    columns = slice(None)
    pooled = forecaster.manifest.network.mode == "pooled"
    for row in _rows(len(forecaster.symbols)):
        state, features = forecaster.features.step(state, row)
        inputs_of(features[None], columns, pooled=pooled)
        yield


def _experts(forecaster: LstmForecaster) -> Iterator[None]:
    assert forecaster.experts is not None
    columns, state = np.arange(len(forecaster.targets)), forecaster.runtime.initial_state()
    features = np.random.default_rng(0).normal(size=(len(forecaster.symbols), len(forecaster.features.names)))
    spec = forecaster.manifest.network
    layout = forecaster.experts.layout
    while True:
        last = hidden(state, spec, len(columns))
        forecaster.experts.predict(layout.basis(features, features[:, 0], last, columns))
        yield


def _mix(forecaster: LstmForecaster) -> Iterator[None]:
    count, draw = len(forecaster.targets), np.random.default_rng(0)
    state: Any = mix.initial(1 + len(experts.NAMES), count)
    predictions, scale = draw.normal(size=(1 + len(experts.NAMES), count)), np.ones(count)
    while True:
        state, _ = mix.propose(mix.learn(state, predictions[0], None), predictions, scale)
        yield


def _persistence(forecaster: LstmForecaster) -> Iterator[None]:
    """Everything but the model: place, score, market, interval, forecast, ring and history."""
    engine = ForecastEngine(EngineSettings(symbols=forecaster.symbols, every=0))
    for tick in ticks_of(forecaster.symbols):
        engine.process(tick)
        yield


def _predict() -> Iterator[None]:
    """The article's way: the window of 100 rows is run through anew for each tick."""
    import keras

    model = keras.Sequential([keras.Input((WINDOW, SYMBOLS)), keras.layers.LSTM(UNITS), keras.layers.Dense(SYMBOLS)])
    window = np.random.default_rng(0).normal(size=(1, WINDOW, SYMBOLS)).astype(np.float32)
    while True:
        model.predict(window, verbose=0)
        yield


def _rows(count: int) -> Iterator[Row]:
    path = np.exp(np.random.default_rng(0).normal(scale=1e-3, size=(100, count)).cumsum(axis=0))
    for number, prices in enumerate(cycle((*path, *path[::-1]))):
        yield Row(number * _models.STEP, prices, whole=True)  # as the engine passes them on
