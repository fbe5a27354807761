"""One network in four forms: fitted, windowed, exported, served. They must compute the same."""

from dataclasses import replace

import numpy as np
import pytest

from streamer.errors import TrainingError
from streamer.model import export, network
from streamer.model.runtime import StepRuntime
from streamer.model.spec import LayerSpec, NetworkSpec, Shape
from tests.model.helpers import random_weights

SINGLE = NetworkSpec("joint", (LayerSpec(300),))
STACK = NetworkSpec("joint", (LayerSpec(300, 0.2), LayerSpec(500, 0.2), LayerSpec(200)))
FIVE_TO_THREE = Shape(rows=1, inputs=10, outputs=3)
SMALL = NetworkSpec("pooled", (LayerSpec(5), LayerSpec(3)))
WHOLE = NetworkSpec("pooled", (LayerSpec(32), LayerSpec(8, 0.2)), "market", embedding=16, skip=True, members=2)
PARTS = {
    "embedding": replace(SMALL, embedding=4),
    "skip": replace(SMALL, skip=True),
    "members": replace(SMALL, members=3),
    "all": WHOLE,
    "all-joint": replace(WHOLE, mode="joint"),
}


def noise(steps: int, shape: Shape) -> np.ndarray:
    size = (steps, shape.rows, shape.inputs)
    return np.random.default_rng(1).normal(size=size).astype(np.float32)


@pytest.mark.parametrize("spec", [SINGLE, STACK], ids=["300", "300-500-200-dropout"])
def test_litert_agrees_with_the_stateful_keras_model_over_a_thousand_steps(spec: NetworkSpec) -> None:
    weights = random_weights(spec, FIVE_TO_THREE)
    exported = export.export(spec, FIVE_TO_THREE, weights)
    x = noise(1_000, FIVE_TO_THREE)
    assert export.largest_difference(exported, spec, FIVE_TO_THREE, weights, x) < 1e-5


def test_stepping_a_hundred_rows_equals_predict_on_the_window_of_a_hundred() -> None:
    """The article's computation and ours are one."""
    weights = random_weights(SINGLE, FIVE_TO_THREE)
    x = noise(100, FIVE_TO_THREE)
    window = network.window_model(SINGLE, FIVE_TO_THREE)
    network.set_weights(window, weights)
    predicted = window.predict(x.swapaxes(0, 1), verbose=0)[0, -1]
    runtime = StepRuntime(export.export(SINGLE, FIVE_TO_THREE, weights), rows=1)
    state, y = runtime.initial_state(), np.empty((1, 3), np.float32)
    for row in x:
        y, state = runtime.step(row, state)
    np.testing.assert_allclose(y[0], predicted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("spec", PARTS.values(), ids=PARTS)
def test_litert_agrees_with_keras_whatever_the_network_is_made_of(spec: NetworkSpec) -> None:
    shape = spec.shape(symbols=3, targets=2, features=7)
    weights = random_weights(spec, shape)
    exported = export.export(spec, shape, weights)
    assert export.largest_difference(exported, spec, shape, weights, noise(300, shape)) < 1e-5
    runtime = StepRuntime(exported, shape.rows)
    assert set(spec.last_states) <= set(runtime.units)
    assert {runtime.units[name] for name in spec.last_states} == {spec.layers[-1].units}


def test_members_are_networks_of_their_own_whose_outputs_are_averaged() -> None:
    shape = WHOLE.shape(symbols=2, targets=2, features=7)
    weights, alone = random_weights(WHOLE, shape), replace(WHOLE, members=1)
    second = {name.removeprefix("member1_"): w for name, w in weights.items() if name.startswith("member1_")}
    first = {name: w for name, w in weights.items() if not name.startswith("member1_")}
    x = noise(20, shape).swapaxes(0, 1)
    outputs = []
    for own in (first, second):
        model = network.window_model(alone, shape)
        network.set_weights(model, own)
        outputs.append(np.asarray(model(x)))
    together, apart = network.window_model(WHOLE, shape), network.stateful_model(WHOLE, shape, 1, 20, apart=True)
    for model in (together, apart):
        network.set_weights(model, weights)
    np.testing.assert_allclose(together(x), np.mean(outputs, axis=0), atol=1e-6)
    np.testing.assert_allclose(apart(x), np.stack(outputs, axis=-1), atol=1e-6)


def test_each_member_is_born_from_other_weights_and_all_of_them_as_persistence() -> None:
    shape = WHOLE.shape(symbols=2, targets=2, features=7)
    model = network.window_model(WHOLE, shape)
    born = network.get_weights(model)
    for name in ("embedding/kernel", "lstm0/kernel", "lstm1/recurrent_kernel"):
        assert (born[name] != born[f"member1_{name}"]).any(), name
    assert not np.asarray(model(noise(20, shape).swapaxes(0, 1))).any()


def test_an_embedding_is_a_tanh_layer_before_the_stack_and_a_skip_a_linear_way_past_it() -> None:
    """One step from zero state, in NumPy."""
    spec = NetworkSpec("pooled", (LayerSpec(5),), embedding=4, skip=True)
    shape = spec.shape(symbols=2, targets=2, features=7)
    w = random_weights(spec, shape)
    x = noise(1, shape)[0]
    embedded = np.tanh(x @ w["embedding/kernel"] + w["embedding/bias"])
    i, _, c, o = np.split(embedded @ w["lstm0/kernel"] + w["lstm0/bias"], 4, axis=1)
    hidden = np.tanh(np.tanh(c) / (1 + np.exp(-i))) / (1 + np.exp(-o))
    expected = hidden @ w["head/kernel"] + w["head/bias"] + x @ w["skip/kernel"]
    model = network.window_model(spec, shape)
    network.set_weights(model, w)
    np.testing.assert_allclose(np.asarray(model(x[:, None]))[:, 0], expected, atol=1e-5)


def test_an_export_that_differs_from_the_trained_network_is_refused() -> None:
    shape = Shape(rows=2, inputs=2, outputs=1)
    other = export.export(SMALL, shape, random_weights(SMALL, shape, seed=1))
    with pytest.raises(TrainingError, match="differs from the trained one"):
        export.verify(other, SMALL, shape, random_weights(SMALL, shape, seed=2))
