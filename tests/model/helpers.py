"""What several tests of the model side share: prices, small settings, random networks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.core.features import Features
from streamer.core.grid import Floats, Row
from streamer.core.levels import Change, Levels
from streamer.model.artifact import Artifact
from streamer.model.dataset import TrainingSet
from streamer.model.manifest import Manifest, TrainingSpan
from streamer.model.spec import FitSpec, LayerSpec, NetworkSpec, Shape

STEP = 60_000

Weights = dict[str, npt.NDArray[np.float32]]


def sawtooth(rows: int) -> Floats:
    """The article's columns, `(rows, 2)`: a triangle 1 to 10 and back, and the same nine rows later."""
    triangle = np.tile([*range(1, 11), *range(9, 1, -1)], rows // 18 + 2).astype(np.float64)
    return 0.7 * np.stack([triangle[9 : rows + 9], triangle[:rows]], axis=1)


def walk(rows: int, symbols: int = 2, seed: int = 0) -> Floats:
    """Random walks around 100, `(rows, symbols)`."""
    moves = np.random.default_rng(seed).normal(scale=0.1, size=(rows, symbols))
    prices: Floats = 100.0 + np.cumsum(moves, axis=0)
    return prices


def training_set(prices: Floats, symbols: tuple[str, ...] = (), targets: tuple[str, ...] = ()) -> TrainingSet:
    """Ticks without a gap; symbols A, B, ... and all of them targets if nothing else is said."""
    names = symbols or tuple(chr(ord("A") + column) for column in range(prices.shape[1]))
    times = STEP * np.arange(1, len(prices) + 1)
    breaks = np.arange(len(prices)) == 0
    change = Levels.starting([Change.AUTO] * len(names)).seeing(prices)
    return TrainingSet(names, targets or names, change, STEP, times, breaks, prices)


def manifest(
    symbols: tuple[str, ...] = ("A", "B"),
    targets: tuple[str, ...] = ("A", "B"),
    network: NetworkSpec | None = None,
) -> Manifest:
    """A manifest of a model that was trained on nothing."""
    spec = network if network is not None else NetworkSpec(layers=(LayerSpec(4),))
    span = TrainingSpan(STEP, 100 * STEP, 100)
    change = (Change.LOG_RETURN,) * len(symbols)
    return Manifest(symbols, targets, change, STEP, Features.NAMES, spec, FitSpec(), span, {}, {"machine": "x"})


def artifact(as_of: int = 100 * STEP, seed: int = 0, gate: Mapping[str, Any] | None = None) -> Artifact:
    """A small artifact whose `.tflite` is no network: enough for whatever does not step it."""
    random = np.random.default_rng(seed)
    weights = {"head/bias": random.normal(size=1).astype(np.float32)}
    state = {"h0": random.normal(size=(2, 4)).astype(np.float32)}
    named = replace(manifest(), span=TrainingSpan(STEP, as_of, 100), gate=gate or {})
    return Artifact.build(named, b"model" * 100, weights, state)


def random_weights(spec: NetworkSpec, shape: Shape, seed: int = 0) -> Weights:
    """Weights of a network of that form, none of them zero."""
    from streamer.model import network

    random = np.random.default_rng(seed)
    born = network.get_weights(network.window_model(spec, shape))
    return {name: (random.normal(size=w.shape) / np.sqrt(w.shape[0])).astype(np.float32) for name, w in born.items()}


def rows(prices: Floats) -> list[Row]:
    """Rows of the grid, the first of which begins the session."""
    return list(training_set(prices).rows())


def bits(arrays: Mapping[str, npt.NDArray[np.generic]]) -> dict[str, bytes]:
    """Arrays for comparison bit by bit."""
    return {name: array.tobytes() for name, array in arrays.items()}
