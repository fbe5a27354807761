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
_CHUNK = 10  # steps to a call of Keras, which has to carry its state from one to the next


def export(spec: NetworkSpec, shape: Shape, weights: Weights) -> bytes:
    """Bytes of a `.tflite` file: one step of any number of rows. Raises TrainingError if it goes astray."""
    model = network.step_model(spec, shape)
    network.set_weights(model, weights)
    with tempfile.TemporaryDirectory(prefix="streamer-export-") as folder:
        path = Path(folder) / "model.tflite"
        model.export(str(path), format="litert", verbose=False)
        exported = path.read_bytes()
    verify(exported, spec, shape, weights)
    return exported


def verify(exported: bytes, spec: NetworkSpec, shape: Shape, weights: Weights) -> None:
    """Raise TrainingError where the exported network does not compute what one with `weights` does."""
    x = np.random.default_rng(0).normal(size=(_CHECKED_STEPS, shape.rows, shape.inputs)).astype(np.float32)
    difference = largest_difference(exported, spec, shape, weights, x)
    if not difference <= TOLERANCE:
        raise TrainingError(
            f"the exported network differs from the trained one by {difference:.1e}, more than "
            f"{TOLERANCE:.0e}: check the versions of keras and ai-edge-litert"
        )


def largest_difference(exported: bytes, spec: NetworkSpec, shape: Shape, weights: Weights, x: np.ndarray) -> float:
    """Between the exported network and the stateful one with `weights`, over `x` `(T, rows, inputs)`.

    T is a multiple of 10.
    """
    stateful = network.stateful_model(spec, shape, lanes=1, length=_CHUNK)
    network.set_weights(stateful, weights)
    runtime = StepRuntime(exported, shape.rows)
    state = runtime.initial_state()
    largest = 0.0
    for begin in range(0, len(x), _CHUNK):
        chunk = x[begin : begin + _CHUNK]
        expected = stateful.predict_on_batch(chunk.swapaxes(0, 1)).swapaxes(0, 1)
        for row, expected_y in zip(chunk, expected, strict=True):
            y, state = runtime.step(row, state)
            largest = max(largest, float(np.abs(y - expected_y).max()))
    return largest
