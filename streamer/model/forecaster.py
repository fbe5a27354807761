"""The trained model as the engine's forecaster: features, network, experts, mix, back to level units."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.core import experts, mix
from streamer.core.experts import Experts, Layout
from streamer.core.features import LEVEL, FeatureMap, Features, State
from streamer.core.forecaster import MIX, MODELLED
from streamer.core.grid import Floats, Row, is_finite
from streamer.core.levels import Levels
from streamer.core.market_features import PEERS, MarketFeatures
from streamer.errors import ArtifactError
from streamer.model import stacked
from streamer.model.artifact import Artifact
from streamer.model.manifest import Manifest
from streamer.model.runtime import StepRuntime
from streamer.model.spec import NetworkSpec

NETWORK = "network"
"""Name of the network among the experts."""

PEERS_KEY, EXPERTS_KEY = "features/peers", "experts/coefficients"
"""Where an artifact's weights hold what is no weight of the network."""

_LINEAR = experts.NAMES.index(experts.VECTOR)  # the best of those that are linear in prices seen

Weights = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class LstmForecaster:
    """Implements `core.forecaster.Forecaster` for one model.

    experts: None where the bare network is served. trained: state after the row at `as_of`, empty while the model is
    still being made.
    """

    manifest: Manifest
    features: FeatureMap
    runtime: StepRuntime
    experts: Experts | None
    trained: State = field(default_factory=dict)

    @classmethod
    def from_artifact(cls, artifact: Artifact, twin: "LstmForecaster | None" = None) -> "LstmForecaster":
        """Load a model; raises ArtifactError where its parts do not fit each other or this version.

        twin: a model of the same network and experts, which are then used in common.
        """
        made = twin or cls.untrained(artifact.manifest, artifact.model, artifact.weights)
        fresh = made.initial_state()
        if _layout(artifact.state) != _layout(fresh):
            raise ArtifactError(f"state.npz of model {artifact.id} does not fit its network: train it anew")
        # In the order that a step gives them, so that a snapshot is the same bytes whatever way the state came about.
        state = {name: artifact.state[name] for name in fresh}
        return cls(artifact.manifest, made.features, made.runtime, made.experts, state)

    @classmethod
    def untrained(cls, manifest: Manifest, model: bytes, weights: Weights) -> "LstmForecaster":
        """The forecaster of an exported network (bytes of `.tflite`), stateless yet; raises ArtifactError.

        weights: hold the symbols' peers and the experts' coefficients, if the model has any.
        """
        features = _features(manifest, weights)
        if manifest.features != features.names:
            raise ArtifactError(
                f"manifest.json of model {manifest.id} names the features {', '.join(manifest.features)}, "
                f"this version computes {', '.join(features.names)}: train the model anew"
            )
        if not set(manifest.targets) <= set(manifest.symbols):
            raise ArtifactError(f"manifest.json of model {manifest.id} has targets that are no symbols")
        shape = manifest.network.shape(len(manifest.symbols), len(manifest.targets), len(features.names))
        runtime = StepRuntime(model, shape.rows)
        states = {f"{part}{index}" for index in range(_depth(manifest)) for part in "hc"}
        if (runtime.inputs, runtime.outputs, set(runtime.units)) != (shape.inputs, shape.outputs, states):
            raise ArtifactError(f"model.tflite of model {manifest.id} does not fit its manifest: train it anew")
        return cls(manifest, features, runtime, _experts(manifest, features, weights))

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

    @property
    def trained_to(self) -> int:
        """Grid time (ms) of the last row that it has learned from."""
        return self.manifest.trained.last

    @property
    def adjusted(self) -> int:
        """Number of the last adjustment that its history had."""
        return self.manifest.adjusted

    @cached_property
    def _columns(self) -> np.ndarray:
        return np.array([self.symbols.index(target) for target in self.targets], np.intp)

    @cached_property
    def _chosen(self) -> np.ndarray | slice:
        """The same as an index; where all symbols are targets, one that copies nothing."""
        return slice(None) if self.symbols == self.targets else self._columns

    @cached_property
    def _stack(self) -> stacked.Layout:
        return stacked.Layout.of(self.initial_state())

    def _of_targets(self, values: Floats) -> Floats:
        """Of `values` by symbol those of the targets."""
        return values[..., self._chosen]

    def initial_state(self) -> State:
        """State before any row: arrays of the features, of the mix, and of the network."""
        return self.state_of(self.features.initial(len(self.symbols)))

    def state_of(self, features: State) -> State:
        """The state in which the features are known, and nothing else is."""
        mixed = mix.initial(1 + len(experts.NAMES), len(self.targets)) if self.experts else {}
        return {**features, **self.runtime.initial_state(), **mixed}

    def trained_state(self) -> State:
        """State as it stood after the row at `as_of`."""
        return self.trained

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        """Take in one row, prices `(len(symbols),)`; returns the new state and changes of level.

        Changes are `(len(MODELLED), len(targets))`. Without experts the bare network is served, and the linear expert
        is persistence.
        """
        seen, features = self.features.step(state, row)
        output, network = self.runtime.step(self._inputs(features[None])[0], state)
        heard = self._hear(state, seen, row) if self.experts else {}
        mixed, changes = self._predict(seen, features, output.reshape(-1), network, heard)
        return {**seen, **network, **mixed}, changes

    @cached_property
    def alike(self) -> Hashable:
        """What its steps depend on."""
        return self.symbols, self.targets, self.features, self.runtime, self.experts

    def step_all(self, states: Sequence[State], rows: Sequence[Row]) -> list[tuple[State, Floats]]:
        """`step` of each state and row, bit for bit, as one batch."""
        if len({row.is_break for row in rows}) > 1:
            return [self.step(state, row) for state, row in zip(states, rows, strict=True)]
        state, row = self._stack.stacked(states), _one_row(rows)
        seen, features = self.features.step(state, row)
        output, network = self.runtime.step_all(self._inputs(features), state)
        heard = self._hear(_streams_inside(state), seen, row) if self.experts else {}
        mixed, changes = self._predict(seen, features, output.reshape(len(rows), -1), network, heard)
        after = {**seen, **network, **_streams_first(mixed)}
        return [(each, changes[:, at]) for at, each in enumerate(self._stack.apart(after, len(rows)))]

    def _predict(
        self, seen: State, features: Floats, output: np.ndarray, network: State, heard: State
    ) -> tuple[State, Floats]:
        """State of the mix, and changes of level, from the network's `output` `(..., len(targets))`."""
        scaled = output.astype(np.float64)
        # A network that went wrong must not silence the stream: no change is persistence.
        if not is_finite(scaled):
            scaled[~np.isfinite(scaled)] = 0.0
        scale = self._of_targets(self.features.scale(seen))
        changes = np.zeros((len(MODELLED), *scaled.shape))
        changes[:2] = scaled
        if self.experts is None:
            return heard, changes * scale
        last = hidden(network, self.manifest.network, scaled.shape[-1])
        basis = self.experts.layout.basis(features[..., self._chosen, :], features[..., 0], last, self._columns)
        predicted = np.empty((1 + len(experts.NAMES), *scaled.shape))
        predicted[0], predicted[1:] = scaled, self.experts.predict(basis)
        mixed, changes[0] = mix.propose(heard, predicted, scale)
        changes[2] = predicted[1 + _LINEAR]
        return mixed, changes * scale

    def _hear(self, state: State, seen: State, row: Row) -> State:
        """Tell the mix what came of its last proposals; `seen` are the features after `row`."""
        scale = state[mix.SCALE]
        moved = self._of_targets(seen[LEVEL]) - self._of_targets(state[LEVEL])
        if row.whole and not row.is_break and is_finite(moved) and np.count_nonzero(scale) == scale.size:
            return mix.learn(state, moved / scale, None)
        # A price of its own, a step after the one that it was forecast from.
        came = np.isfinite(self._of_targets(row.prices)) & np.isfinite(moved) & (scale > 0.0)
        if row.is_break:
            came = np.zeros_like(came)
        return mix.learn(state, np.where(came, moved, 0.0) / np.where(scale > 0.0, scale, 1.0), came)

    def shares(self, state: State) -> Mapping[str, Floats]:
        """Share of each expert in what is served next, `(len(targets),)` by name; more than 1 where it is stretched."""
        if self.experts is None:
            return {NETWORK: np.ones(len(self.targets))}
        guard = mix.guard(state)
        shares = mix.weights(state) * guard
        shares[0] += np.maximum(1.0 - guard, 0.0)
        return dict(zip((*mix.EXTRA, NETWORK, *experts.NAMES), shares, strict=True))

    def _inputs(self, features: Floats) -> np.ndarray:
        return inputs_of(features, self._chosen, pooled=self.manifest.network.mode == "pooled")


def inputs_of(features: npt.NDArray[Any], columns: np.ndarray | slice, *, pooled: bool) -> np.ndarray:
    """Inputs of the network, float32 `(T, rows, inputs)`, from the features `(T, n_symbols, F)`.

    columns: index of the targets among the symbols. One implementation for training and serving.
    """
    chosen = features[:, columns] if pooled else features.reshape(len(features), 1, -1)
    return np.ascontiguousarray(chosen, np.float32)


def hidden(network: Mapping[str, np.ndarray], spec: NetworkSpec, targets: int) -> Floats:
    """Last hidden layers of all members for each target, `(..., targets, units)`; a joint network has one for all."""
    last = np.concatenate([network[name] for name in spec.last_states], axis=-1).astype(np.float64)
    # A state that is no number is the network's fault, and the experts' coefficients would spread it.
    if not is_finite(last):
        last[~np.isfinite(last)] = 0.0
    return last if last.shape[-2] == targets else np.repeat(last, targets, axis=-2)


def _one_row(rows: Sequence[Row]) -> Row:
    """Rows of streams, alike in `is_break`, as one with prices `(streams, n)`; no feature looks at its time."""
    prices = np.array([row.prices for row in rows])
    return Row(rows[0].time, prices, rows[0].is_break, all(row.whole for row in rows))


def _streams_inside(state: State) -> State:
    """The state of streams side by side with their axis where `core.mix` has it in its arrays."""
    return {**state, **{name: np.moveaxis(state[name], 0, -2) for name in state if name.startswith(MIX)}}


def _streams_first(mixed: State) -> State:
    """And back."""
    return {name: np.moveaxis(array, -2, 0) for name, array in mixed.items()}


def _features(manifest: Manifest, weights: Weights) -> FeatureMap:
    change = Levels.starting(manifest.change)
    if manifest.network.features == "changes":
        return Features(change)
    peers, n = weights.get(PEERS_KEY, np.empty(0)), len(manifest.symbols)
    if peers.shape != (n, PEERS) or not np.issubdtype(peers.dtype, np.integer) or not _within(peers, n):
        raise ArtifactError(f"weights.npz of model {manifest.id} does not say which symbols are peers: train it anew")
    return MarketFeatures(change, peers.astype(np.intp))


def _within(indices: npt.NDArray[Any], n: int) -> bool:
    return bool((indices >= 0).all() and (indices < n).all())


def _experts(manifest: Manifest, features: FeatureMap, weights: Weights) -> Experts | None:
    if not manifest.fit.combine:
        return None
    layout = expert_layout(manifest, features)
    coefficients = weights.get(EXPERTS_KEY, np.empty(0))
    fits = coefficients.shape == (len(manifest.targets), len(experts.NAMES), layout.width)
    if not fits or coefficients.dtype.kind != "f" or not np.isfinite(coefficients).all():
        raise ArtifactError(f"weights.npz of model {manifest.id} has no experts that fit its manifest: train it anew")
    return Experts(layout, coefficients.astype(np.float64))


def expert_layout(manifest: Manifest, features: FeatureMap) -> Layout:
    """Columns of the experts' basis."""
    units = manifest.network.members * manifest.network.layers[-1].units
    return Layout.of(features.regressors, units, len(manifest.symbols))


def _depth(manifest: Manifest) -> int:
    return manifest.network.members * len(manifest.network.layers)


def _layout(state: State) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    return {name: (value.shape, value.dtype) for name, value in state.items()}
