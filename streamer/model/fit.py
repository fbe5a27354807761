"""The whole job of one training: replay, fit, export, judge, write. Runs in the training process."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamer.core.features import Features, State
from streamer.model import artifact, training
from streamer.model.artifact import Artifact
from streamer.model.dataset import Replay, TrainingSet
from streamer.model.export import export
from streamer.model.forecaster import LstmForecaster, inputs_of
from streamer.model.gate import GateReport, judge
from streamer.model.manifest import Manifest, TrainingSpan
from streamer.model.network import Weights
from streamer.model.spec import FitSpec, GateSpec, NetworkSpec, Shape
from streamer.model.training import Progress, Series, Slices


@dataclass(frozen=True, slots=True)
class FitResult:
    """Outcome of a training; `seconds`: wall time by phase (`fit`, `export`, `replay`, `gate`)."""

    model_id: str
    promoted: bool
    report: GateReport
    seconds: dict[str, float]


def fit(
    training_set: TrainingSet,
    network: NetworkSpec,
    fit: FitSpec,
    gate: GateSpec,
    incumbent: Artifact | None,
    out: Path,
    progress: Progress | None = None,
    threads: int = 1,
) -> FitResult:
    """Train a challenger on the history, judge it against `incumbent`, and write it to the folder `out`.

    It is written when rejected too, with the gate's figures; whoever asked decides what to store. Raises
    TrainingError (too little data, a loss that is no number) or ArtifactError (foreign incumbent, full disk).
    """
    clock = _Clock()
    training.use_threads(threads)
    history = training_set.usable()
    manifest = _manifest(history, network, fit)
    shape = network.shape(len(history.symbols), len(history.targets), len(Features.NAMES))
    series = _series(history.replay(Features(history.change)), history, network, shape)
    slices = Slices.of(len(series.x), gate)
    weights = training.train(series, slices, network, shape, fit, _warm_start(incumbent, manifest), progress)
    training.require_finite(weights)
    clock.lap("fit")
    model = export(network, shape, weights)
    challenger = LstmForecaster.untrained(manifest, model)
    clock.lap("export")
    rival = None if incumbent is None else LstmForecaster.from_artifact(incumbent)
    report = judge(challenger, rival, history, slices.stop_end, gate.tolerance)
    clock.lap("gate")
    state = _final_state(challenger, history)
    clock.lap("replay")
    made = Artifact.build(replace(manifest, gate=report.figures()), model, weights, state)
    artifact.write(made, out)
    return FitResult(made.id, report.promoted, report, clock.seconds)


def _manifest(history: TrainingSet, network: NetworkSpec, fit: FitSpec) -> Manifest:
    return Manifest(
        symbols=history.symbols,
        targets=history.targets,
        change=history.change.changes,
        step=history.step,
        features=Features.NAMES,
        network=network,
        fit=fit,
        span=TrainingSpan(int(history.times[0]), int(history.times[-1]), len(history)),
        gate={},
        environment=artifact.environment(),
    )


def _series(replayed: Replay, history: TrainingSet, network: NetworkSpec, shape: Shape) -> Series:
    cells = (len(replayed.x), shape.rows, shape.outputs)
    return Series(
        inputs_of(replayed.x, history.columns(), pooled=network.mode == "pooled"),
        replayed.y.reshape(cells),
        replayed.mask.reshape(cells).astype(np.float32),
    )


def _warm_start(incumbent: Artifact | None, manifest: Manifest) -> Weights | None:
    """The incumbent's weights where they mean the same in the new network, else None."""
    if incumbent is None:
        return None
    same: Sequence[str] = ["network", "features"]
    if manifest.network.mode == "joint":
        same = [*same, "symbols", "targets", "change"]  # a joint network's weights belong to places in the vector
    if any(getattr(incumbent.manifest, name) != getattr(manifest, name) for name in same):
        return None
    return incumbent.weights


def _final_state(challenger: LstmForecaster, history: TrainingSet) -> State:
    """State after the last row, by the very computation that serving goes on with."""
    state = challenger.initial_state()
    for row in history.rows():
        state, _ = challenger.step(state, row)
    return state


class _Clock:
    """Wall time by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = now - self._last
        self._last = now
