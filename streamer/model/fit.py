"""The whole job of one training: replay, fit, export, judge, fit again on all, write. Runs in the training process."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamer.core.adjustment import adjusted
from streamer.core.features import FeatureMap, Features, State
from streamer.core.forecaster import MIX, Forecaster
from streamer.core.market_features import MarketFeatures, most_correlated
from streamer.model import artifact, ridge, training
from streamer.model.artifact import Artifact
from streamer.model.dataset import Replay, TrainingSet
from streamer.model.export import export
from streamer.model.forecaster import EXPERTS_KEY, PEERS_KEY, LstmForecaster, Weights, expert_layout, hidden, inputs_of
from streamer.model.gate import Beginning, GateReport, judge
from streamer.model.manifest import Manifest, TrainingSpan
from streamer.model.runtime import StepRuntime
from streamer.model.spec import FitSpec, GateSpec, NetworkSpec, Shape
from streamer.model.training import Fitted, Progress, Series, Slices

_WARM_UP = 1_000  # rows: after 100 an LSTM's state from zero is as good as one carried all along (measured)


@dataclass(frozen=True, slots=True)
class FitResult:
    """Outcome of a training; `seconds`: wall time by phase (`fit`, `gate`, `refit`, `replay`)."""

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
    key: bytes | None = None,
) -> FitResult:
    """Train a challenger on the history, judge it against `incumbent`, and write it to the folder `out`.

    It is written when rejected too, with the gate's figures; whoever asked decides what to store. key: signs it. Raises
    TrainingError (too little data, a loss that is no number) or ArtifactError (foreign incumbent, full disk).
    """
    clock = _Clock()
    training.use_threads(threads)
    job = _Job.of(training_set.usable(), network, fit, gate)
    judged = job.learn(incumbent, progress)
    clock.lap("fit")
    report = job.judge(judged.forecaster, incumbent, gate.tolerance)
    clock.lap("gate")
    made = job.learn_all(judged, progress) if fit.refit and report.promoted else judged
    clock.lap("refit")
    state = job.final_state(made.forecaster, report)
    clock.lap("replay")
    built = Artifact.build(replace(job.manifest, gate=report.figures()), made.model, made.weights, state)
    artifact.write(built, out, key)
    return FitResult(built.id, report.promoted, report, clock.seconds)


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """One fit. penalties: of the experts, as the stop slice chose them."""

    fitted: Fitted
    model: bytes
    weights: Weights
    forecaster: LstmForecaster
    penalties: Sequence[float]


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """What all steps of a training share: the history, replayed through the features once, and its slices."""

    history: TrainingSet
    manifest: Manifest
    features: FeatureMap
    replayed: Replay
    series: Series
    slices: Slices
    shape: Shape

    @classmethod
    def of(cls, history: TrainingSet, network: NetworkSpec, fit: FitSpec, gate: GateSpec) -> "_Job":
        changes = history.changes()
        slices = Slices.of(len(changes), gate)
        # Peers are picked from the fit slice, so that the gate judges what has not seen it.
        features = (
            Features(history.change)
            if network.features == "changes"
            else MarketFeatures(history.change, most_correlated(changes[: slices.fit_end]))
        )
        shape = network.shape(len(history.symbols), len(history.targets), len(features.names))
        warm = [_before(slices.fit_end), _before(len(changes))]
        replayed = history.replay(features, keep=[row - 1 for row in warm])
        manifest = _manifest(history, network, fit, features)
        return cls(history, manifest, features, replayed, _series(replayed, history, network, shape), slices, shape)

    def learn(self, incumbent: Artifact | None, progress: Progress | None) -> _Made:
        """Fit on the fit slice, with the stop slice to say how long and how freely."""
        spec, fit = self.manifest.network, self.manifest.fit
        initial = _warm_start(incumbent, self.manifest)
        fitted = training.train(self.series, self.slices, spec, self.shape, fit, initial, progress)
        return self._made(fitted, None, self.slices.fit_end)

    def learn_all(self, judged: _Made, progress: Progress | None) -> _Made:
        """Fit again, for as long and as freely as was best, on all rows."""
        spec, fit = self.manifest.network, self.manifest.fit
        weights = training.refit(self.series, spec, self.shape, fit, judged.fitted, progress)
        rows = len(self.replayed.x)
        penalties = ridge.for_rows(judged.penalties, self.slices.fit_end, rows)
        return self._made(replace(judged.fitted, weights=weights), penalties, rows)

    def _made(self, fitted: Fitted, penalties: Sequence[float] | None, end: int) -> _Made:
        training.require_finite(fitted.weights)
        model = export(self.manifest.network, self.shape, fitted.weights)
        weights: dict[str, np.ndarray] = dict(fitted.weights)
        if isinstance(self.features, MarketFeatures):
            weights[PEERS_KEY] = self.features.peers
        if self.manifest.fit.combine:
            cells = self._cells(StepRuntime(model, self.shape.rows))
            penalties = penalties or ridge.choose_penalties(cells, self.slices.fit_end, self.slices.stop_end)
            weights[EXPERTS_KEY] = ridge.fit(cells, end, penalties).coefficients
        forecaster = LstmForecaster.untrained(self.manifest, model, weights)
        return _Made(fitted, model, weights, forecaster, penalties or ())

    def _cells(self, runtime: StepRuntime) -> ridge.Cells:
        """What the experts learn from; the hidden states as the exported network steps through them."""
        targets = len(self.history.targets)
        layout = expert_layout(self.manifest, self.features)
        state, states = runtime.initial_state(), np.empty((len(self.series.x), targets, layout.hidden), np.float32)
        for index, x in enumerate(self.series.x):
            _, state = runtime.step(x, state)
            states[index] = hidden(state, self.manifest.network, targets)
        columns = self.history.columns()
        return ridge.Cells(layout, self.replayed.x, states, columns, self.replayed.y, self.replayed.mask)

    def judge(self, challenger: LstmForecaster, incumbent: Artifact | None, tolerance: float) -> GateReport:
        """Both as they would serve: the challenger's mix has learned since the end of the fit slice."""
        begin = _before(self.slices.fit_end)
        beginning = Beginning(begin, self._state(challenger, begin), self.slices.fit_end)
        rival: Forecaster | None = None
        since = Beginning(mix_row=self.slices.fit_end)
        if incumbent is not None:
            loaded = LstmForecaster.from_artifact(incumbent)
            rival, since = adjusted(loaded, self.history.adjustments), self._since(loaded) or since
        return judge(challenger, rival, self.history, self.slices.stop_end, tolerance, beginning, since)

    def _since(self, incumbent: LstmForecaster) -> Beginning | None:
        """Where a model that has learned from all rows of its history goes on: on none of those can it be judged."""
        if not incumbent.manifest.fit.refit:
            return None
        after = [index for index, row in enumerate(self.history.rows()) if row.time == incumbent.as_of]
        return Beginning(after[-1] + 1, incumbent.trained_state(), -1) if after else None

    def final_state(self, made: LstmForecaster, report: GateReport) -> State:
        """After the last row, by the very computation that serving goes on with; the mix as the gate left it."""
        rows = list(self.history.rows())
        begin = _before(len(rows))
        state = self._state(made, begin)
        for row in rows[begin:]:
            state, _ = made.step(state, row)
        return {**state, **{name: value for name, value in report.state.items() if name.startswith(MIX)}}

    def _state(self, forecaster: LstmForecaster, row: int) -> State:
        """Its state before the row `row`, in which the features are known and nothing else."""
        return forecaster.state_of(self.replayed.states[row - 1]) if row else forecaster.initial_state()


def _before(row: int) -> int:
    """The row with which a replay begins that has to be as good as one from the first row at `row`."""
    return max(0, row - _WARM_UP)


def _manifest(history: TrainingSet, network: NetworkSpec, fit: FitSpec, features: FeatureMap) -> Manifest:
    return Manifest(
        symbols=history.symbols,
        targets=history.targets,
        change=history.change.changes,
        step=history.step,
        features=features.names,
        network=network,
        fit=fit,
        span=TrainingSpan(int(history.times[0]), int(history.times[-1]), len(history)),
        gate={},
        environment=artifact.environment(),
        adjusted=history.adjusted,
    )


def _series(replayed: Replay, history: TrainingSet, network: NetworkSpec, shape: Shape) -> Series:
    cells = (len(replayed.x), shape.rows, shape.outputs)
    return Series(
        inputs_of(replayed.x, history.columns(), pooled=network.mode == "pooled"),
        replayed.y.reshape(cells),
        replayed.mask.reshape(cells).astype(np.float32),
    )


def _warm_start(incumbent: Artifact | None, manifest: Manifest) -> Weights | None:
    """The incumbent's weights where they mean the same in the new network, else None.

    Nor where they were fitted on all rows of its history: among them are rows that the gate judges by. Nor where the
    new network is to be fitted again, from nothing, for as long as was best now.
    """
    if incumbent is None or incumbent.manifest.fit.refit or manifest.fit.refit:
        return None
    same: Sequence[str] = ["network", "features"]
    if manifest.network.mode == "joint":
        same = [*same, "symbols", "targets", "change"]  # a joint network's weights belong to places in the vector
    if any(getattr(incumbent.manifest, name) != getattr(manifest, name) for name in same):
        return None
    return incumbent.weights


class _Clock:
    """Wall time by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = now - self._last
        self._last = now
