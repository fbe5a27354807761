"""One tick at the article's size (300 units, 2 symbols), beside the matrix-vector product that it cannot do without.

    scripts/bench tick [--steps N]

All figures are medians of one run, in microseconds, and as ratios to the product.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator

import numpy as np

from streamer.core.catchup import RING
from streamer.core.engine import ForecastEngine
from streamer.core.features import Features
from streamer.core.grid import Row
from streamer.core.levels import Change
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.model.forecaster import LstmForecaster
from streamer.model.manifest import Manifest, TrainingSpan
from streamer.model.spec import FitSpec, LayerSpec, NetworkSpec

UNITS = 300
SYMBOLS = ("A", "B")


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5_000, help="steps to time (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    # Otherwise its start-up notes stand in the output; in effect only before the first import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    figures = measure(arguments.steps)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:8.1f} us {value / figures['matrix_vector_product']:6.2f} x")


def measure(steps: int) -> dict[str, float]:
    """Medians in microseconds by what was timed."""
    forecaster = _untrained()
    figures = {
        "matrix_vector_product": _median(_product(), steps),
        "runtime_step": _median(_runtime_step(forecaster), steps),
        "forecaster_step": _median(_forecaster_step(forecaster), steps),
        "engine_tick_persistence": _median(_engine_tick(None), steps),
        "engine_tick": _median(_engine_tick(forecaster), steps),
    }
    return {name: round(value, 2) for name, value in figures.items()}


def _untrained() -> LstmForecaster:
    """A joint network with the weights that it is born with: its time does not depend on them."""
    from streamer.model import network
    from streamer.model.export import export

    spec = NetworkSpec("joint", (LayerSpec(UNITS),))
    shape = spec.shape(len(SYMBOLS), len(SYMBOLS), len(Features.NAMES))
    model = export(spec, shape, network.get_weights(network.window_model(spec, shape)))
    span = TrainingSpan(0, 0, 1)
    change = (Change.LOG_RETURN,) * len(SYMBOLS)
    manifest = Manifest(SYMBOLS, SYMBOLS, change, 60_000, Features.NAMES, spec, FitSpec(), span, {}, {})
    return LstmForecaster.untrained(manifest, model, {})


def _product() -> Iterator[None]:
    """`x @ W + h @ U` for the four gates."""
    random = np.random.default_rng(0)
    inputs = len(SYMBOLS) * len(Features.NAMES)
    x, h, w, u = (
        random.normal(size=size).astype(np.float32)
        for size in ((1, inputs), (1, UNITS), (inputs, 4 * UNITS), (UNITS, 4 * UNITS))
    )
    while True:
        _ = x @ w + h @ u
        yield


def _runtime_step(forecaster: LstmForecaster) -> Iterator[None]:
    runtime = forecaster.runtime
    state = runtime.initial_state()
    x = np.random.default_rng(0).normal(size=(runtime.rows, runtime.inputs)).astype(np.float32)
    while True:
        _, state = runtime.step(x, state)
        yield


def _forecaster_step(forecaster: LstmForecaster) -> Iterator[None]:
    rows = [Row(0, np.exp(step)) for step in np.random.default_rng(0).normal(size=(100, len(SYMBOLS)))]
    state = forecaster.initial_state()
    while True:
        for row in rows:
            state, _ = forecaster.step(state, row)
            yield


def _engine_tick(forecaster: LstmForecaster | None) -> Iterator[None]:
    """Everything between the decoded tick and the forecast: place, score, scale, step, forecast, interval."""
    engine = ForecastEngine(EngineSettings(symbols=SYMBOLS, every=0))
    walk = 100.0 * np.exp(np.random.default_rng(0).normal(scale=1e-3, size=(100_000, len(SYMBOLS))).cumsum(axis=0))
    for row, prices in enumerate(walk.tolist()):
        if row == engine.settings.window and forecaster is not None:
            ready = engine.catch_up(forecaster, RING)
            ready.advance(row)
            engine.swap(ready)
        engine.process(Tick(row * engine.settings.step, dict(zip(SYMBOLS, prices, strict=True))))
        if row > engine.settings.window:
            yield


def _median(work: Iterator[None], steps: int) -> float:
    """Median time of one turn of `work` in microseconds, after some turns that are not counted."""
    times = []
    for _ in range(steps + steps // 10):
        started = time.perf_counter_ns()
        next(work)
        times.append(time.perf_counter_ns() - started)
    return float(np.median(times[-steps:])) / 1000.0
