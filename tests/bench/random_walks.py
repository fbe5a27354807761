"""No false skill: random walks, on which nothing beats the last price, through the whole thing.

    scripts/bench random_walks [--seeds N] [--rows N] [--processes N]

Five symbols; Gaussian returns, and Student-t ones under stochastic volatility. A model is trained with the default
settings on the first 90 % of the rows, and the engine serves it tick by tick on the rest. It serves whatever the gate
said of it: what is published has to be harmless without that luck. For each kind of walk: RMSE over persistence's,
geometric mean over symbols, as the median of the seeds, and between the best and the worst of them.
"""

import argparse
import multiprocessing
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from streamer.config import load
from streamer.core.engine import ForecastEngine
from streamer.core.forecaster import FORECASTERS, PERSISTENCE
from streamer.core.grid import Floats
from streamer.core.tick import Tick
from streamer.model.dataset import TrainingSet
from streamer.service import wiring
from streamer.settings import Settings
from tests.bench._result import Figure, Result

SYMBOLS = ("A", "B", "C", "D", "E")
KINDS = ("gaussian", "student")
TRAINED = 0.9  # share of the rows

_RETURN = 1e-3  # standard deviation of one log return, as of a lively minute
_FREEDOM = 4.0  # of Student's t: the tails of minute returns
_PERSISTENCE_OF_VOLATILITY, _VOLATILITY_OF_VOLATILITY = 0.98, 0.15  # of its logarithm, an AR(1)


@dataclass(frozen=True, slots=True)
class Walk:
    """One walk: each forecaster's RMSE over persistence's, and whether the gate would have let the model serve."""

    kind: str
    seed: int
    ratios: dict[str, float]
    promoted: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--seeds", type=int, default=20, help="walks of each kind (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=6_000, help="ticks of each walk (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="trainings at a time (default: %(default)s)")


def run(arguments: argparse.Namespace) -> Result:
    """Serve all walks; a forecaster's RMSE has no unit but persistence's."""
    walks = measure(arguments.seeds, arguments.rows, arguments.processes)
    figures = []
    for kind in KINDS:
        own = [walk for walk in walks if walk.kind == kind]
        for name in own[0].ratios if own else ():
            ratios = tuple(walk.ratios[name] for walk in own)
            figures.append(Figure(f"{kind}, {name}", "", ratios, "persistence", ratios))
        figures.append(Figure.of(f"{kind}, models past the gate", "", [sum(walk.promoted for walk in own)]))
    return Result("random_walks", tuple(figures), details={"walks": [asdict(walk) for walk in walks]})


def measure(seeds: int, rows: int, processes: int) -> list[Walk]:
    """All walks, each in a process of its own: TensorFlow leaks across fits."""
    work = [(kind, seed, rows) for seed in range(seeds) for kind in KINDS]
    results = []
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
        for done, result in enumerate(pool.imap_unordered(served, work), 1):
            print(f"{done} of {len(work)}: {result}", file=sys.stderr)
            results.append(result)
    return sorted(results, key=lambda result: (result.kind, result.seed))


def walk(kind: str, seed: int, rows: int) -> Floats:
    """Prices of independent random walks, `(rows, len(SYMBOLS))`."""
    random = np.random.default_rng([KINDS.index(kind), seed])
    shape = (rows, len(SYMBOLS))
    if kind == "gaussian":
        returns = random.normal(size=shape)
    else:
        log_volatility = np.zeros(shape)
        for row in range(1, rows):
            shock = _VOLATILITY_OF_VOLATILITY * random.normal(size=shape[1])
            log_volatility[row] = _PERSISTENCE_OF_VOLATILITY * log_volatility[row - 1] + shock
        returns = np.exp(log_volatility) * random.standard_t(_FREEDOM, shape) / np.sqrt(_FREEDOM / (_FREEDOM - 2.0))
    prices: Floats = 100.0 * np.exp(np.cumsum(_RETURN * returns, axis=0))
    return prices


def served(work: tuple[str, int, int]) -> Walk:
    """Train on the first rows of a walk (kind, seed, rows) and serve the rest."""
    kind, seed, rows = work
    settings = load(None, {}, {"kafka.bootstrap_servers": "127.0.0.1:9092"})  # none is asked for anything
    engine = ForecastEngine(replace(wiring.engine_settings(settings), symbols=SYMBOLS, every=0))
    prices = walk(kind, seed, rows).tolist()
    ticks = [Tick(i * engine.settings.step, dict(zip(SYMBOLS, row, strict=True))) for i, row in enumerate(prices)]
    split = round(TRAINED * rows)
    for tick in ticks[:split]:
        engine.process(tick)
    promoted = _put_into_service(engine, settings)
    before = engine.scoreboard.squared_error_total.copy()
    for tick in ticks[split:]:
        engine.process(tick)
    errors = np.sqrt(engine.scoreboard.squared_error_total - before)
    ratios = np.exp(np.log(errors / errors[:, [FORECASTERS.index(PERSISTENCE)]]).mean(axis=0))
    named = zip(FORECASTERS, ratios.round(6).tolist(), strict=True)
    return Walk(kind, seed, {name: ratio for name, ratio in named if name != PERSISTENCE}, promoted)


def _put_into_service(engine: ForecastEngine, settings: Settings) -> bool:
    """Train on what the engine holds and swap the model in; whether the gate would have."""
    from streamer.model import artifact
    from streamer.model.fit import fit
    from streamer.model.forecaster import LstmForecaster

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        specs = (wiring.network_spec(settings), wiring.fit_spec(settings), wiring.gate_spec(settings))
        result = fit(TrainingSet.of(engine), *specs, None, out)
        ready = engine.catch_up(LstmForecaster.from_artifact(artifact.read(out)))
    ready.advance(len(engine.history))
    engine.swap(ready)
    return result.promoted
