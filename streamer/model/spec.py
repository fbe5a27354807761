"""What is trained, how, and what it must achieve: plain values that both processes and the manifest share."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

Mode = Literal["pooled", "joint"]
FeatureKind = Literal["market", "changes"]


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One LSTM layer. dropout: share of its outputs dropped while fitting."""

    units: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.units < 1:
            raise ValueError(f"units must be positive, got {self.units}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of one step of the network: `(rows, inputs) -> (rows, outputs)`."""

    rows: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class NetworkSpec:
    """A stack of LSTM layers with a linear head.

    mode: `pooled` has a row per target symbol, all with the same weights, and takes any number of them;
    `joint` has one row, the whole vector in and the whole vector out. features: what it sees of each symbol, its
    change and mask alone (`changes`) or all of `core.market_features`. embedding: units of a tanh layer before the
    stack, 0 for none. skip: a linear way past the stack. members: networks side by side, each born from other random
    weights and fitted by itself, whose outputs are averaged.
    """

    mode: Mode = "pooled"
    layers: tuple[LayerSpec, ...] = (LayerSpec(32),)
    features: FeatureKind = "changes"
    embedding: int = 0
    skip: bool = False
    members: int = 1

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, got {self.mode!r}")
        if self.features not in get_args(FeatureKind):
            raise ValueError(f"features must be one of {', '.join(get_args(FeatureKind))}, got {self.features!r}")
        if not self.layers:
            raise ValueError("a network needs at least one layer")
        if self.embedding < 0 or self.members < 1:
            raise ValueError(f"embedding {self.embedding} must not be negative, members {self.members} be positive")

    def shape(self, symbols: int, targets: int, features: int) -> Shape:
        """Sizes for so many symbols, target symbols, and features per symbol."""
        if self.mode == "pooled":
            return Shape(targets, features, 1)
        return Shape(1, symbols * features, targets)

    @cached_property
    def last_states(self) -> tuple[str, ...]:
        """Names of the states that hold the members' last hidden layers."""
        depth = len(self.layers)
        return tuple(f"h{member * depth + depth - 1}" for member in range(self.members))


@dataclass(frozen=True, slots=True)
class FitSpec:
    """Budget and schedule of a fit.

    steps: optimizer steps, never seconds, so that the result does not depend on the machine's load. epochs: passes
    over the history at most, since a short one is soon learned by heart; 0 for any number. sequence: rows that a
    gradient reaches back. lanes: pieces of contiguous history trained side by side. learning_rate: peak of the
    schedule. beta_2: decay of Adam's mean of squared gradients: without noise in the data gradients shrink by orders of
    magnitude, and one that remembers the first of them lets the steps shrink as fast. patience: evaluations on the
    stop slice without a gain before the fit ends. refit: once judged, fit all again on all rows, those of the stop and
    gate slices too. combine: fit linear experts, and serve their mix with the network.
    """

    steps: int = 2000
    sequence: int = 48
    lanes: int = 16
    learning_rate: float = 1e-2
    beta_2: float = 0.999
    patience: int = 8
    seed: int = 0
    epochs: int = 0
    refit: bool = False
    combine: bool = False

    def __post_init__(self) -> None:
        if min(self.steps, self.sequence, self.lanes, self.patience) < 1:
            raise ValueError("steps, sequence, lanes and patience must be positive")
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, got {self.epochs}")


@dataclass(frozen=True, slots=True)
class GateSpec:
    """What a challenger must achieve, and on what.

    tolerance: it may be so much worse than the incumbent, as a share of the RMSE. fraction, stop_fraction:
    shares of the history, at its end, for the gate and, before that, for early stopping.
    """

    tolerance: float = 0.002
    fraction: float = 0.15
    stop_fraction: float = 0.15

    def __post_init__(self) -> None:
        if not (0.0 < self.fraction < 1.0 and 0.0 < self.stop_fraction < 1.0):
            raise ValueError("fraction and stop_fraction must be in (0, 1)")
        if self.fraction + self.stop_fraction >= 1.0:
            raise ValueError("fraction and stop_fraction must leave something to fit on")
