"""The network in Keras, in the three forms in which its weights are used."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from streamer.model.spec import NetworkSpec, Shape

Weights = Mapping[str, npt.NDArray[np.float32]]
"""Arrays by name (`lstm0/kernel`, ..., `head/bias`), the same for all three forms."""


def stateful_model(spec: NetworkSpec, shape: Shape, lanes: int, length: int, *, apart: bool = False) -> keras.Model:
    """For fitting: `(lanes * shape.rows, length, inputs)` to `(..., outputs)`, keeps its state between calls.

    A row's place in the batch is its lane's, then its own among the `shape.rows`. apart: outputs of each member,
    `(..., outputs, members)`, instead of their mean.
    """
    inputs = keras.Input(batch_shape=(lanes * shape.rows, length, shape.inputs), name="x")
    outputs = [_sequence(spec, shape, inputs, member, stateful=True) for member in range(spec.members)]
    return keras.Model(inputs, keras.ops.stack(outputs, axis=-1) if apart else _mean(outputs))


def window_model(spec: NetworkSpec, shape: Shape) -> keras.Model:
    """For evaluation: any number of windows of any length, each from zero state."""
    inputs = keras.Input((None, shape.inputs), name="x")
    return keras.Model(
        inputs, _mean([_sequence(spec, shape, inputs, member, stateful=False) for member in range(spec.members)])
    )


def step_model(spec: NetworkSpec, shape: Shape) -> keras.Model:
    """For export: one step as a function, `x, h0, c0, h1, ...` to `y, h0_next, c0_next, h1_next, ...`.

    The states of all members are numbered through.
    """
    inputs: dict[str, Any] = {"x": keras.Input((shape.inputs,), name="x")}
    after: dict[str, Any] = {}
    outputs = []
    for member in range(spec.members):
        hidden = _embedded(spec, inputs["x"], member)
        for index, layer in enumerate(spec.layers, member * len(spec.layers)):
            states = [keras.Input((layer.units,), name=f"{part}{index}") for part in "hc"]
            inputs[f"h{index}"], inputs[f"c{index}"] = states
            hidden, new = keras.layers.LSTMCell(layer.units, name=_lstm(spec, index))(hidden, states)
            after[f"h{index}_next"], after[f"c{index}_next"] = new
        outputs.append(_output(spec, shape, inputs["x"], hidden, member))
    return keras.Model(inputs, {"y": _mean(outputs), **after})


def _sequence(spec: NetworkSpec, shape: Shape, inputs: Any, member: int, *, stateful: bool) -> Any:
    hidden = _embedded(spec, inputs, member)
    for index, layer in enumerate(spec.layers, member * len(spec.layers)):
        name = _lstm(spec, index)
        hidden = keras.layers.LSTM(layer.units, stateful=stateful, return_sequences=True, name=name)(hidden)
        if layer.dropout and stateful:
            hidden = keras.layers.Dropout(layer.dropout)(hidden)
    return _output(spec, shape, inputs, hidden, member)


def _embedded(spec: NetworkSpec, inputs: Any, member: int) -> Any:
    if not spec.embedding:
        return inputs
    return keras.layers.Dense(spec.embedding, activation="tanh", name=_named("embedding", member))(inputs)


def _output(spec: NetworkSpec, shape: Shape, inputs: Any, hidden: Any, member: int) -> Any:
    # Zeros: an untrained network forecasts no change, which is persistence, and a fit can only gain on that.
    output = keras.layers.Dense(shape.outputs, kernel_initializer="zeros", name=_named("head", member))(hidden)
    if not spec.skip:
        return output
    name = _named("skip", member)
    return output + keras.layers.Dense(shape.outputs, use_bias=False, kernel_initializer="zeros", name=name)(inputs)


def _mean(outputs: list[Any]) -> Any:
    return keras.layers.average(outputs) if len(outputs) > 1 else outputs[0]


def _lstm(spec: NetworkSpec, index: int) -> str:
    member, layer = divmod(index, len(spec.layers))
    return _named(f"lstm{layer}", member)


def _named(layer: str, member: int) -> str:
    return layer if member == 0 else f"member{member}_{layer}"


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
