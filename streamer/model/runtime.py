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

_SIDE_BY_SIDE = (16, 4)  # streams: of more, none costs less, and each number takes an interpreter of its own
_MOST_ROWS = 256  # of a batch in which a row was seen to get the bits that it gets alone

_NEXT = "_next"  # what the output of a state has behind the name of its input


class StepRuntime:
    """Steps the network's state by one row of features; a pure function with its buffers resolved once.

    Any number of states may take turns on one runtime, also of several threads.
    """

    def __init__(self, model: bytes, rows: int) -> None:
        """Load `model` (bytes of a `.tflite` file) for a batch of `rows`; raises ArtifactError."""
        self.rows = rows
        self._model = model
        self._wider: dict[int, StepRuntime | None] = {}
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

    def step_all(self, x: Array32, state: NetworkState) -> tuple[Array32, dict[str, Array32]]:
        """`step` for streams side by side, bit for bit: all arrays have one more axis before the others, theirs."""
        outputs, states, at = [], [], 0
        while at < len(x):
            count, runtime = self._widest(len(x) - at)
            own = {name: state[name][at : at + count].reshape(runtime.rows, -1) for name in self.units}
            output, after = runtime.step(x[at : at + count].reshape(runtime.rows, -1), own)
            outputs.append(output)
            states.append(after)
            at += count
        each = (len(x), self.rows, -1)
        joined = {name: np.concatenate([after[name] for after in states]).reshape(each) for name in self.units}
        return np.concatenate(outputs).reshape(each), joined

    def _widest(self, streams: int) -> "tuple[int, StepRuntime]":
        """For how many of so many streams there is one, and that."""
        for count in _SIDE_BY_SIDE:
            if count <= streams and (wide := self._wide(count)) is not None:
                return count, wide
        return 1, self

    def _wide(self, count: int) -> "StepRuntime | None":
        """One for so many streams; None where a processor's kernels would not give each the bits that it gets alone."""
        if count not in self._wider:
            wide = StepRuntime(self._model, count * self.rows) if count * self.rows <= _MOST_ROWS else None
            self._wider[count] = wide if wide is not None and self._agrees_with(wide) else None
        return self._wider[count]

    def _agrees_with(self, wide: "StepRuntime") -> bool:
        """Whether both give the same bits, by the example of random numbers."""
        random = np.random.default_rng(0)
        widths = {"x": self.inputs, **self.units}
        given = {name: random.normal(size=(wide.rows, width)).astype(np.float32) for name, width in widths.items()}
        many, after = wide.step(given["x"], given)
        for at in range(0, wide.rows, self.rows):
            own = {name: array[at : at + self.rows] for name, array in given.items()}
            one, alone = self.step(own["x"], own)
            pairs = [(one, many), *((alone[name], after[name]) for name in self.units)]
            if any(mine.tobytes() != theirs[at : at + self.rows].tobytes() for mine, theirs in pairs):
                return False
        return True


def _details(interpreter: Interpreter) -> tuple[Details, Details]:
    """Index and shape of inputs and outputs by name. The runner must be gone before anything is resized."""
    runner = interpreter.get_signature_runner()
    return runner.get_input_details(), runner.get_output_details()
