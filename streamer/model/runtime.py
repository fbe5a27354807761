"""One step of an exported network, run by LiteRT."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from streamer.errors import ArtifactError

Array32 = npt.NDArray[np.float32]
NetworkState = Mapping[str, Array32]
"""`h0, c0, h1, c1, ...` of the layers, each of shape `(rows, units)`."""

Details = Mapping[str, Mapping[str, Any]]

_NEXT = "_next"  # what the output of a state has behind the name of its input


class StepRuntime:
    """Steps the network's state by one row of features; a pure function with its buffers resolved once.

    Any number of states may take turns on one runtime, also of several threads.
    """

    def __init__(self, model: bytes, rows: int) -> None:
        """Load `model` (bytes of a `.tflite` file) for a batch of `rows`; raises ArtifactError."""
        self.rows = rows
        self._turn = threading.Lock()
        try:
            # One thread: a step is microseconds of work, which a hand-over between threads would double.
            self._interpreter = Interpreter(model_content=model, num_threads=1)
            inputs, outputs = _details(self._interpreter)
            for detail in inputs.values():
                self._interpreter.resize_tensor_input(detail["index"], (rows, detail["shape"][1]))
            self._interpreter.allocate_tensors()
            self.inputs = int(inputs["x"]["shape"][1])
            self.outputs = int(outputs["y"]["shape"][1])
            self.units = {name: int(inputs[name]["shape"][1]) for name in inputs if name != "x"}
            self._x = int(inputs["x"]["index"])
            self._y = int(outputs["y"]["index"])
            self._states: Sequence[tuple[str, int, int]] = [
                (name, int(inputs[name]["index"]), int(outputs[name + _NEXT]["index"])) for name in sorted(self.units)
            ]
        except (ValueError, RuntimeError, TypeError, KeyError, IndexError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ArtifactError(f"model.tflite is no step of a network ({reason}): train it anew") from error

    def initial_state(self) -> dict[str, Array32]:
        """Zeros: the state before any row."""
        return {name: np.zeros((self.rows, units), np.float32) for name, units in self.units.items()}

    def step(self, x: Array32, state: NetworkState) -> tuple[Array32, dict[str, Array32]]:
        """Take in `x`, shape `(rows, inputs)`; returns the outputs `(rows, outputs)` and the new state.

        Both are copies: nothing that was returned earlier changes.
        """
        interpreter = self._interpreter
        with self._turn:
            interpreter.set_tensor(self._x, x)
            for name, read, _ in self._states:
                interpreter.set_tensor(read, state[name])
            interpreter.invoke()
            after = {name: interpreter.get_tensor(written) for name, _, written in self._states}
            return interpreter.get_tensor(self._y), after


def _details(interpreter: Interpreter) -> tuple[Details, Details]:
    """Index and shape of inputs and outputs by name. The runner must be gone before anything is resized."""
    runner = interpreter.get_signature_runner()
    return runner.get_input_details(), runner.get_output_details()
