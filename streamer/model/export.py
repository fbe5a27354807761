"""Export of the trained network to LiteRT, checked against Keras."""

import tempfile
from pathlib import Path

import numpy as np

from streamer.errors import TrainingError
from streamer.model import network
from streamer.model.network import Weights
from streamer.model.runtime import StepRuntime
from streamer.model.spec import NetworkSpec, Shape

TOLERANCE = 1e-5
"""Largest difference between LiteRT and Keras; 4e-8 was seen for stacks of hundreds of units."""

_CHECKED_STEPS = 50


def export(spec: NetworkSpec, shape: Shape, weights: Weights) -> bytes:
    """Bytes of a `.tflite` file: one step of any number of rows. Raises TrainingError if it goes astray."""
    model = network.step_model(spec, shape)
    network.set_weights(model, weights)
    with tempfile.TemporaryDirectory(prefix="streamer-export-") as folder:
        path = Path(folder) / "model.tflite"
        model.export(str(path), format="litert", verbose=False)
        exported = path.read_bytes()
    _verify(exported, spec, shape, weights)
    return exported


def _verify(exported: bytes, spec: NetworkSpec, shape: Shape, weights: Weights) -> None:
    x = np.random.default_rng(0).normal(size=(_CHECKED_STEPS, shape.rows, shape.inputs)).astype(np.float32)
    difference = largest_difference(exported, spec, shape, weights, x)
    if not difference <= TOLERANCE:
        raise TrainingError(
            f"the exported network differs from the trained one by {difference:.1e}, more than "
            f"{TOLERANCE:.0e}: check the versions of keras and ai-edge-litert"
        )


def largest_difference(
    exported: bytes, spec: NetworkSpec, shape: Shape, weights: Weights, x: np.ndarray
) -> float:
    """Between the exported network and the stateful one with `weights`, over `x` `(T, rows, inputs)`."""
    stateful = network.stateful_model(spec, shape, lanes=1, length=1)
    network.set_weights(stateful, weights)
    runtime = StepRuntime(exported, shape.rows)
    state = runtime.initial_state()
    largest = 0.0
    for row in x:
        y, state = runtime.step(row, state)
        expected = np.asarray(stateful(row[:, None], training=False))[:, 0]
        largest = max(largest, float(np.abs(y - expected).max()))
    return largest
