"""How the cost of an engine's tick grows: with symbols, units of the network, streams, and length of the history.

    scripts/bench growth [--ticks N] [--rounds N] [--most N]

Of the default settings (10 symbols, unless they are what grows), for the units of the article's profile at 2 symbols
too. The models are of the weights that they are born with: a tick's time does not depend on them. The sizes of a
picture take turns; each round is the median of its ticks. The slope is the exponent: 1 where twice the size costs
twice as much.

`streams` are engines of their own by turns, as ticks of many streams come, which share one model's weights.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from statistics import median
from time import perf_counter_ns

import numpy as np

from streamer.core.catchup import RING
from streamer.core.engine import ForecastEngine
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.model.forecaster import LstmForecaster
from tests.bench import _models
from tests.bench._models import Profile
from tests.bench._result import Curve, Figure, Plot, Result, interleaved

SYMBOLS = 10
SIZES = {
    "symbols": (2, 10, 50, 200, 1_000, 2_000),
    "units": (32, 64, 128, 256, 512, 1_024),
    "streams": (1, 10, 100, 1_000),
    "history": (1_000, 10_000, 100_000),
}
_PATH = 64  # rows of prices, there and back


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--ticks", type=int, default=200, metavar="N", help="of each size in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="(%(default)s)")
    parser.add_argument("--most", type=int, default=100_000, metavar="N", help="no size above that (%(default)s)")


@dataclass(frozen=True, slots=True)
class Runs:
    """ticks: of each size in a round. most: largest size."""

    ticks: int
    rounds: int
    most: int

    def sizes(self, name: str) -> list[int]:
        """Those to be met."""
        return [size for size in SIZES[name] if size <= self.most]


def run(arguments: argparse.Namespace) -> Result:
    """All four pictures."""
    runs = Runs(arguments.ticks, arguments.rounds, arguments.most)
    default, article = Profile.of("default"), Profile.of("article")
    sized = [profile.sized(units) for profile in (default, article) for units in runs.sizes("units")]
    works = [(default, SYMBOLS), *((profile, SYMBOLS if profile.name == "default" else 2) for profile in sized)]
    network, *networks = _models.exported(works)
    found = [
        _grown("symbols", "default", runs, lambda size: served(_models.forecaster(default, size, network))),
        *_units(runs, sized, networks),
        _grown("streams", "default", runs, lambda size: _streams(_models.forecaster(default, SYMBOLS, network), size)),
        _grown(
            "history", "default", runs, lambda size: served(_models.forecaster(default, SYMBOLS, network), size, size)
        ),
    ]
    plots = []
    for name in SIZES:
        curves = tuple(curve for size_of, _, curve in found if size_of == name)
        plots.append(Plot(f"A tick by {name}", name, "microseconds", curves))
    return Result("growth", tuple(figure for _, figures, _ in found for figure in figures), tuple(plots))


Grown = tuple[str, list[Figure], Curve]


def _units(runs: Runs, profiles: Sequence[Profile], networks: Sequence[bytes]) -> Iterator[Grown]:
    for name in ("default", "article"):
        count = SYMBOLS if name == "default" else 2
        models = {
            profile.network.layers[0].units: _models.forecaster(profile, count, network)
            for profile, network in zip(profiles, networks, strict=True)
            if profile.name == name
        }
        yield _grown("units", name, runs, partial(_served, models))


def _served(models: Mapping[int, LstmForecaster], size: int) -> Iterator[None]:
    return served(models[size])


def _grown(size_of: str, name: str, runs: Runs, make: Callable[[int], Iterator[None]]) -> Grown:
    """Figures of each size beside the smallest, and the curve."""
    works: Mapping[str, Iterator[None]] = {str(size): make(size) for size in runs.sizes(size_of)}
    taken = interleaved({size: partial(timed, work, runs.ticks) for size, work in works.items()}, runs.rounds)
    figures: list[Figure] = []
    for size, values in taken.items():
        smallest = figures[0] if figures else None
        figures.append(Figure.of(f"{size_of} {int(size):,}, {name}", "us", values, smallest))
    return size_of, figures, Curve(name, tuple(map(float, taken)), tuple(figure.value for figure in figures))


def timed(work: Iterator[None], turns: int) -> float:
    """Median time of one turn, microseconds."""
    times = []
    for _ in range(turns):
        started = perf_counter_ns()
        next(work)
        times.append(perf_counter_ns() - started)
    return median(times) / 1000.0


def served(model: LstmForecaster, history: int = 20_000, ticks: int = 100) -> Iterator[None]:
    """An engine's ticks, one a turn, in which `model` serves after the first so many, which are no turns."""
    engine = ForecastEngine(EngineSettings(symbols=model.symbols, every=0, history=history))
    coming = ticks_of(model.symbols)
    for _ in range(ticks):
        engine.process(next(coming))
    ready = engine.catch_up(model, RING)
    ready.advance(ticks)
    engine.swap(ready)
    return _each(engine, coming)


def _each(engine: ForecastEngine, coming: Iterator[Tick]) -> Iterator[None]:
    for tick in coming:
        engine.process(tick)
        yield


def _streams(model: LstmForecaster, count: int) -> Iterator[None]:
    """A tick of the next of so many streams."""
    for engine in cycle([served(model) for _ in range(count)]):
        next(engine)
        yield


def ticks_of(symbols: Sequence[str]) -> Iterator[Tick]:
    """Prices that walk to and fro, a minute apart."""
    draw = np.random.default_rng(0).normal(scale=1e-3, size=(_PATH, len(symbols)))
    path = (100.0 * np.exp(draw.cumsum(axis=0))).tolist()
    rows = [dict(zip(symbols, prices, strict=True)) for prices in (*path, *reversed(path))]
    for number, prices in enumerate(cycle(rows)):
        yield Tick(number * _models.STEP, prices)
