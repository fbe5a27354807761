from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.errors import ArtifactError
from streamer.model.export import export
from streamer.model.runtime import StepRuntime
from streamer.model.spec import LayerSpec, NetworkSpec, Shape
from tests.model.helpers import bits, random_weights

SPEC = NetworkSpec("pooled", (LayerSpec(6), LayerSpec(3)))
SHAPE = Shape(rows=4, inputs=2, outputs=1)


@pytest.fixture(scope="module")
def model() -> bytes:
    return export(SPEC, SHAPE, random_weights(SPEC, SHAPE))


def noise(seed: int, rows: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, 2)).astype(np.float32)


def test_the_state_has_an_array_for_each_layer_and_part(model: bytes) -> None:
    state = StepRuntime(model, rows=4).initial_state()
    assert {name: array.shape for name, array in state.items()} == {
        "c0": (4, 6),
        "c1": (4, 3),
        "h0": (4, 6),
        "h1": (4, 3),
    }


def test_a_step_changes_neither_its_arguments_nor_what_was_returned_before(model: bytes) -> None:
    runtime = StepRuntime(model, rows=4)
    x = noise(0)
    first, state = runtime.step(x, runtime.initial_state())
    kept = (x.tobytes(), first.tobytes(), bits(state))
    runtime.step(noise(1), state)
    assert (x.tobytes(), first.tobytes(), bits(state)) == kept


def test_states_take_turns_on_one_runtime(model: bytes) -> None:
    runtime = StepRuntime(model, rows=4)
    alone = runtime.initial_state()
    for seed in range(5):
        _, alone = runtime.step(noise(seed), alone)
    one, other = runtime.initial_state(), runtime.initial_state()
    for seed in range(5):
        _, one = runtime.step(noise(seed), one)
        _, other = runtime.step(noise(seed + 100), other)
    assert bits(one) == bits(alone)
    assert bits(other) != bits(alone)


def test_a_row_gets_the_same_bits_in_any_batch(model: bytes) -> None:
    """A pooled network serves any number of symbols, and a forecast does not depend on its neighbours."""
    x = noise(7, rows=9)
    many, _ = (runtime := StepRuntime(model, rows=9)).step(x, runtime.initial_state())
    one, _ = (runtime := StepRuntime(model, rows=1)).step(x[5:6], runtime.initial_state())
    assert many[5].tobytes() == one[0].tobytes()


@pytest.mark.parametrize("damaged", [b"", b"no model at all", b"\0" * 1_000])
def test_bytes_that_are_no_model_are_refused(damaged: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"model\.tflite is no step of a network"):
        StepRuntime(damaged, rows=1)


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((2,), name="price")
    path = tmp_path / "other.tflite"
    keras.Model(inputs, keras.layers.Dense(1)(inputs)).export(str(path), format="litert", verbose=False)
    with pytest.raises(ArtifactError, match="train it anew"):
        StepRuntime(path.read_bytes(), rows=1)


@pytest.mark.parametrize("streams", [1, 3, 4, 7, 16, 37, 65])
def test_streams_side_by_side_get_the_bits_that_they_get_alone(model: bytes, streams: int) -> None:
    runtime = StepRuntime(model, rows=4)
    x, *states = (
        np.random.default_rng(streams).normal(size=(streams, 4, width)).astype(np.float32) for width in (2, 6, 3, 6, 3)
    )
    state = dict(zip(("c0", "c1", "h0", "h1"), states, strict=True))
    output, after = runtime.step_all(x, state)
    for at in range(streams):
        one, alone = runtime.step(x[at], {name: array[at] for name, array in state.items()})
        assert output[at].tobytes() == one.tobytes()
        assert bits({name: array[at] for name, array in after.items()}) == bits(alone)


def test_where_kernels_do_not_agree_streams_are_stepped_one_by_one(
    model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor that sums a wide batch in another order, a forecast would depend on who else has a tick."""
    step, rows = StepRuntime.step, []

    def off_by_a_bit(self: StepRuntime, x: np.ndarray, state: Mapping[str, np.ndarray]) -> Any:
        output, after = step(self, x, state)
        rows.append(self.rows)
        return (output if self.rows == 4 else np.nextafter(output, np.float32(9.0))), after

    monkeypatch.setattr(StepRuntime, "step", off_by_a_bit)
    runtime = StepRuntime(model, rows=4)
    x = np.stack([noise(seed) for seed in range(16)])
    state = {name: np.zeros((16, 4, units), np.float32) for name, units in runtime.units.items()}
    output, _ = runtime.step_all(x, state)
    rows.clear()
    again, _ = runtime.step_all(x, state)
    assert rows == [4] * 16
    alone = [runtime.step(each, runtime.initial_state())[0] for each in x]
    assert output.tobytes() == again.tobytes() == np.stack(alone).tobytes()
