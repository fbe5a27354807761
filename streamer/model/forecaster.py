"""The trained LSTM as the engine's forecaster: features, one step of the network, back to level units."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.core.features import Features, State
from streamer.core.forecaster import LSTM
from streamer.core.grid import Floats, Row
from streamer.core.levels import Levels
from streamer.errors import ArtifactError
from streamer.model.artifact import Artifact
from streamer.model.manifest import Manifest
from streamer.model.runtime import StepRuntime

_FEATURES = "features."  # prefix of the features' arrays in the state; the network's are h0, c0, h1, ...


@dataclass(frozen=True, eq=False)
class LstmForecaster:
    """Implements `core.forecaster.Forecaster` for one model.

    trained: state after the row at `as_of`, empty while the model is still being made.
    """

    manifest: Manifest
    features: Features
    runtime: StepRuntime
    trained: State = field(default_factory=dict)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> "LstmForecaster":
        """Load a model; raises ArtifactError where its parts do not fit each other or this version."""
        forecaster = cls.untrained(artifact.manifest, artifact.model)
        if _layout(artifact.state) != _layout(forecaster.initial_state()):
            raise ArtifactError(f"state.npz of model {artifact.id} does not fit its network: train it anew")
        return cls(forecaster.manifest, forecaster.features, forecaster.runtime, artifact.state)

    @classmethod
    def untrained(cls, manifest: Manifest, model: bytes) -> "LstmForecaster":
        """The forecaster of an exported network (bytes of `.tflite`), stateless yet; raises ArtifactError."""
        if manifest.features != Features.NAMES:
            raise ArtifactError(
                f"manifest.json of model {manifest.id} names the features {', '.join(manifest.features)}, "
                f"this version computes {', '.join(Features.NAMES)}: train the model anew"
            )
        if not set(manifest.targets) <= set(manifest.symbols):
            raise ArtifactError(f"manifest.json of model {manifest.id} has targets that are no symbols")
        shape = manifest.network.shape(len(manifest.symbols), len(manifest.targets), len(Features.NAMES))
        runtime = StepRuntime(model, shape.rows)
        if (runtime.inputs, runtime.outputs) != (shape.inputs, shape.outputs):
            raise ArtifactError(f"model.tflite of model {manifest.id} does not fit its manifest: train it anew")
        return cls(manifest, Features(Levels.starting(manifest.change)), runtime)

    @property
    def id(self) -> str:
        """Name of the model in the store and in forecasts."""
        return self.manifest.id

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols whose prices it reads, in the order of the rows that it is given."""
        return self.manifest.symbols

    @property
    def targets(self) -> tuple[str, ...]:
        """Symbols that it forecasts, a subset of `symbols`."""
        return self.manifest.targets

    @property
    def change(self) -> Levels:
        """What a change is of each of its `symbols`."""
        return self.features.change

    @property
    def as_of(self) -> int:
        """Grid time (ms) of the last row of its history."""
        return self.manifest.as_of

    @cached_property
    def _columns(self) -> np.ndarray:
        return np.array([self.symbols.index(target) for target in self.targets], np.intp)

    def initial_state(self) -> State:
        """State before any row: features' arrays under `features.`, the network's as `h0, c0, ...`."""
        return _join(self.features.initial(len(self.symbols)), self.runtime.initial_state())

    def trained_state(self) -> State:
        """State as it stood after the row at `as_of`."""
        return self.trained

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        """Take in one row, prices `(len(symbols),)`; returns the new state and changes `(2, len(targets))`.

        Changes are of the level, as served and by the bare network: the same while there is nothing to mix.
        """
        own = {name.removeprefix(_FEATURES): state[name] for name in state if name.startswith(_FEATURES)}
        seen, features = self.features.step(own, row)
        output, network = self.runtime.step(self._inputs(features), state)
        scaled = output.reshape(-1).astype(np.float64)
        # A network that went wrong must not silence the stream: no change is persistence.
        scaled[~np.isfinite(scaled)] = 0.0
        changes = np.empty((2, len(scaled)))
        changes[:] = scaled * self.features.scale(seen)[self._columns]
        return _join(seen, network), changes

    def shares(self, state: State) -> Mapping[str, Floats]:
        """The network is the one expert."""
        return {LSTM: np.ones(len(self.targets))}

    def _inputs(self, features: Floats) -> np.ndarray:
        pooled = self.manifest.network.mode == "pooled"
        batch: np.ndarray = inputs_of(features[None], self._columns, pooled=pooled)[0]
        return batch


def inputs_of(features: npt.NDArray[Any], columns: np.ndarray, *, pooled: bool) -> np.ndarray:
    """Inputs of the network, float32 `(T, rows, inputs)`, from the features `(T, n_symbols, F)`.

    columns: indices of the targets among the symbols. One implementation for training and serving.
    """
    chosen = features[:, columns] if pooled else features.reshape(len(features), 1, -1)
    return np.ascontiguousarray(chosen, np.float32)


def _layout(state: State) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    return {name: (value.shape, value.dtype) for name, value in state.items()}


def _join(features: State, network: Mapping[str, np.ndarray]) -> State:
    return {_FEATURES + name: value for name, value in features.items()} | dict(network)
