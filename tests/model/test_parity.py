"""One network in four forms: fitted, windowed, exported, served. They must compute the same."""

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


def test_an_export_that_differs_from_the_trained_network_is_refused() -> None:
    shape = Shape(rows=2, inputs=2, outputs=1)
    other = export.export(SMALL, shape, random_weights(SMALL, shape, seed=1))
    with pytest.raises(TrainingError, match="differs from the trained one"):
        export.verify(other, SMALL, shape, random_weights(SMALL, shape, seed=2))
