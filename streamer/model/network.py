"""The network in Keras, in the three forms in which its weights are used."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from streamer.model.spec import NetworkSpec, Shape

Weights = Mapping[str, npt.NDArray[np.float32]]
"""Arrays by name (`lstm0/kernel`, ..., `head/bias`), the same for all three forms."""


def stateful_model(spec: NetworkSpec, shape: Shape, lanes: int, length: int) -> keras.Model:
    """For fitting: `(lanes * shape.rows, length, inputs)` to `(..., outputs)`, keeps its state between calls.

    A row's place in the batch is its lane's, then its own among the `shape.rows`.
    """
    inputs = keras.Input(batch_shape=(lanes * shape.rows, length, shape.inputs), name="x")
    return keras.Model(inputs, _sequence(spec, shape, inputs, stateful=True))


def window_model(spec: NetworkSpec, shape: Shape) -> keras.Model:
    """For evaluation: any number of windows of any length, each from zero state."""
    inputs = keras.Input((None, shape.inputs), name="x")
    return keras.Model(inputs, _sequence(spec, shape, inputs, stateful=False))


def step_model(spec: NetworkSpec, shape: Shape) -> keras.Model:
    """For export: one step as a function, `x, h0, c0, h1, ...` to `y, h0_next, c0_next, h1_next, ...`."""
    inputs: dict[str, Any] = {"x": keras.Input((shape.inputs,), name="x")}
    outputs: dict[str, Any] = {}
    hidden = inputs["x"]
    for index, layer in enumerate(spec.layers):
        states = [keras.Input((layer.units,), name=f"{part}{index}") for part in "hc"]
        inputs[f"h{index}"], inputs[f"c{index}"] = states
        hidden, after = keras.layers.LSTMCell(layer.units, name=f"lstm{index}")(hidden, states)
        outputs[f"h{index}_next"], outputs[f"c{index}_next"] = after
    return keras.Model(inputs, {"y": _head(shape)(hidden), **outputs})


def _sequence(spec: NetworkSpec, shape: Shape, hidden: Any, *, stateful: bool) -> Any:
    for index, layer in enumerate(spec.layers):
        hidden = keras.layers.LSTM(layer.units, stateful=stateful, return_sequences=True, name=f"lstm{index}")(hidden)
        if layer.dropout and stateful:
            hidden = keras.layers.Dropout(layer.dropout)(hidden)
    return _head(shape)(hidden)


def _head(shape: Shape) -> keras.layers.Layer:
    # Zeros: an untrained network forecasts no change, which is persistence, and a fit can only gain on that.
    return keras.layers.Dense(shape.outputs, kernel_initializer="zeros", name="head")


def get_weights(model: keras.Model) -> dict[str, npt.NDArray[np.float32]]:
    """Copies of the trained arrays by name."""
    names = _names(model)
    return {name: np.array(w.numpy()) for name, w in zip(names, model.trainable_variables, strict=True)}


def set_weights(model: keras.Model, weights: Weights) -> None:
    """Copy arrays from another form of the same network."""
    for name, variable in zip(_names(model), model.trainable_variables, strict=True):
        variable.assign(weights[name])


def _names(model: keras.Model) -> list[str]:
    """Layer and kind of each trained variable: an `LSTM` puts a cell between, a bare cell does not."""
    return [
        f"{layer.name}/{variable.path.rpartition('/')[2]}"
        for layer in model.layers
        for variable in layer.trainable_variables
    ]
