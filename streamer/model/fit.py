"""The whole job of one training: replay, fit, export, judge, fit again on all, write. Runs in the training process.

One stream's history gives it a model of its own. Of several streams' histories comes one network, with one set of
experts, for all of them: each has it with its own state, so that each model is whole and can go its own way.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np

from streamer.core.adjustment import adjusted
from streamer.core.experts import Layout
from streamer.core.features import FeatureMap, Features, State
from streamer.core.forecaster import MIX, Forecaster
from streamer.core.grid import Floats
from streamer.core.market_features import MarketFeatures, most_correlated
from streamer.model import artifact, ridge, training
from streamer.model.artifact import Artifact
from streamer.model.dataset import Replay, TrainingSet
from streamer.model.export import export
from streamer.model.forecaster import EXPERTS_KEY, PEERS_KEY, LstmForecaster, Weights, expert_layout, hidden, inputs_of
from streamer.model.gate import Beginning, GateReport, judge, together
from streamer.model.manifest import Manifest, TrainingSpan
from streamer.model.pool import Pool
from streamer.model.runtime import StepRuntime
from streamer.model.spec import FitSpec, GateSpec, NetworkSpec, Shape
from streamer.model.training import Fitted, Progress, Series, Slices, Track

_WARM_UP = 1_000  # rows: after 100 an LSTM's state from zero is as good as one carried all along (measured)


@dataclass(frozen=True, slots=True)
class FitResult:
    """Outcome of a training; `seconds`: wall time by phase (`fit`, `gate`, `refit`, `replay`)."""

    model_id: str
    promoted: bool
    report: GateReport
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class PoolResult:
    """Outcome of a training for several streams: the gate's verdict over all, and each stream's model.

    seconds: as in FitResult.
    """

    report: GateReport
    artifacts: Mapping[str, Artifact]
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
    pool, incumbents = Pool({"": training_set.usable()}), {} if incumbent is None else {"": incumbent}
    result = fit_pool(pool, network, fit, gate, incumbents, progress, threads)
    built = result.artifacts[""]
    artifact.write(built, out, key)
    return FitResult(built.id, result.report.promoted, result.report, result.seconds)


def fit_pool(
    pool: Pool,
    network: NetworkSpec,
    fit: FitSpec,
    gate: GateSpec,
    incumbents: Mapping[str, Artifact],
    progress: Progress | None = None,
    threads: int = 1,
) -> PoolResult:
    """Train one challenger on all histories, and judge it against each stream's incumbent: one verdict for all.

    Raises as `fit` does.
    """
    clock = _Clock()
    training.use_threads(threads)
    job = _Job.of(pool, network, fit, gate)
    judged = job.learn(incumbents, progress)
    clock.lap("fit")
    reports = job.judge(judged.forecaster, incumbents, gate.tolerance)
    report = together(reports, gate.tolerance)
    clock.lap("gate")
    made = job.learn_all(judged, progress) if fit.refit and report.promoted else judged
    clock.lap("refit")
    built = {
        each.name: each.artifact(made, reports[each.name].within(report), pool=len(pool)) for each in job.histories
    }
    clock.lap("replay")
    return PoolResult(report, built, clock.seconds)


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """One fit. penalties: of the experts, as the stop slices chose them."""

    fitted: Fitted
    model: bytes
    weights: Weights
    forecaster: LstmForecaster
    penalties: Sequence[float]


@dataclass(frozen=True, slots=True, eq=False)
class _History:
    """One stream's history, replayed through the features once, and its slices."""

    name: str
    history: TrainingSet
    manifest: Manifest
    replayed: Replay
    track: Track

    @property
    def slices(self) -> Slices:
        return self.track.slices

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

    def artifact(self, made: _Made, report: GateReport, pool: int) -> Artifact:
        """The model with this stream's own span and state."""
        state = self._final_state(made.forecaster, report)
        manifest = replace(self.manifest, gate=report.figures(), pool=pool)
        return Artifact.build(manifest, made.model, made.weights, state)

    def _final_state(self, made: LstmForecaster, report: GateReport) -> State:
        """After the last row, by the very computation that serving goes on with; the mix as the gate left it."""
        rows = list(self.history.rows())
        begin = _before(len(rows))
        state = self._state(made, begin)
        for row in rows[begin:]:
            state, _ = made.step(state, row)
        # Without a row after the fit slice, the mix has only seen forecasts of what the fit knew.
        mixed = report.state if self.slices.fit_end < len(rows) else made.initial_state()
        return {**state, **{name: value for name, value in mixed.items() if name.startswith(MIX)}}

    def _state(self, forecaster: LstmForecaster, row: int) -> State:
        """Its state before the row `row`, in which the features are known and nothing else."""
        return forecaster.state_of(self.replayed.states[row - 1]) if row else forecaster.initial_state()

    def cells(self, layout: Layout, runtime: StepRuntime) -> ridge.Cells:
        """What the experts learn from; the hidden states as the exported network steps through them."""
        x, targets = self.track.series.x, len(self.history.targets)
        state, states = runtime.initial_state(), np.empty((len(x), targets, layout.hidden), np.float32)
        for index, row in enumerate(x):
            _, state = runtime.step(row, state)
            states[index] = hidden(state, self.manifest.network, targets)
        replayed = self.replayed
        return ridge.Cells(layout, replayed.x, states, self.history.columns(), replayed.y, replayed.mask)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """What all steps of a training share."""

    histories: Sequence[_History]
    features: FeatureMap
    shape: Shape

    @classmethod
    def of(cls, pool: Pool, network: NetworkSpec, fit: FitSpec, gate: GateSpec) -> "_Job":
        sets = pool.sets
        first = next(iter(sets.values()))
        changes = {name: one.changes() for name, one in sets.items()}
        slices = _slices(sets, gate)
        # Peers are picked from the fit slices, so that the gate judges what has not seen them.
        features = (
            Features(first.change)
            if network.features == "changes"
            else MarketFeatures(first.change, _peers([own[: slices[name].fit_end] for name, own in changes.items()]))
        )
        shape = network.shape(len(first.symbols), len(first.targets), len(features.names))
        histories = []
        for name, one in sets.items():
            warm = [_before(slices[name].fit_end), _before(len(changes[name]))]
            replayed = one.replay(features, keep=[row - 1 for row in warm])
            track = Track(_series(replayed, one, network, shape), slices[name])
            histories.append(_History(name, one, _manifest(one, network, fit, features), replayed, track))
        return cls(histories, features, shape)

    @property
    def manifest(self) -> Manifest:
        """Of the first stream: what is said there of the network holds for all."""
        return self.histories[0].manifest

    def learn(self, incumbents: Mapping[str, Artifact], progress: Progress | None) -> _Made:
        """Fit on the fit slices, with the stop slices to say how long and how freely."""
        starts = (_warm_start(incumbent, self.manifest) for incumbent in incumbents.values())
        initial = next((weights for weights in starts if weights is not None), None)
        spec, fit = self.manifest.network, self.manifest.fit
        fitted = training.train(self._tracks(), spec, self.shape, fit, initial, progress)
        return self._made(fitted, None)

    def learn_all(self, judged: _Made, progress: Progress | None) -> _Made:
        """Fit again, for as long and as freely as was best, on all rows."""
        spec, fit = self.manifest.network, self.manifest.fit
        weights = training.refit(self._tracks(), spec, self.shape, fit, judged.fitted, progress)
        few = sum(each.slices.fit_end for each in self.histories)
        penalties = ridge.for_rows(judged.penalties, few, sum(len(each.replayed.x) for each in self.histories))
        return self._made(replace(judged.fitted, weights=weights), penalties)

    def judge(
        self, challenger: LstmForecaster, incumbents: Mapping[str, Artifact], tolerance: float
    ) -> dict[str, GateReport]:
        """Of each stream, with its own incumbent."""
        return {each.name: each.judge(challenger, incumbents.get(each.name), tolerance) for each in self.histories}

    def _tracks(self) -> list[Track]:
        return [each.track for each in self.histories]

    def _made(self, fitted: Fitted, penalties: Sequence[float] | None) -> _Made:
        """The forecaster of a fit; penalties: of experts that learn from all rows, None: from the fit slices."""
        training.require_finite(fitted.weights)
        model = export(self.manifest.network, self.shape, fitted.weights)
        weights: dict[str, np.ndarray] = dict(fitted.weights)
        if isinstance(self.features, MarketFeatures):
            weights[PEERS_KEY] = self.features.peers
        if self.manifest.fit.combine:
            penalties, weights[EXPERTS_KEY] = self._experts(StepRuntime(model, self.shape.rows), penalties)
        forecaster = LstmForecaster.untrained(self.manifest, model, weights)
        return _Made(fitted, model, weights, forecaster, penalties or ())

    def _experts(self, runtime: StepRuntime, penalties: Sequence[float] | None) -> tuple[Sequence[float], np.ndarray]:
        """Penalties, which the stop slices choose where none are given, and coefficients."""

        def moments(each: _History) -> tuple[ridge.Moments, ridge.Moments]:
            cells, slices = each.cells(layout, runtime), each.slices
            end = slices.fit_end if penalties is None else len(each.replayed.x)
            return cells.moments(0, end), cells.moments(slices.fit_end, slices.stop_end, ridge.STOP_CLIP)

        layout = expert_layout(self.manifest, self.features)
        found = map(moments, self.histories)  # one after the other: those of a thousand streams would take gigabytes
        learned, held_out = reduce(lambda sums, more: (sums[0] + more[0], sums[1] + more[1]), found)
        penalties = penalties or ridge.choose_penalties(layout, learned, held_out)
        return penalties, ridge.fit(layout, learned, penalties).coefficients


def _slices(sets: Mapping[str, TrainingSet], gate: GateSpec) -> dict[str, Slices]:
    """Those of one history, or of several those that end at the same times: with such shares of all their rows."""
    times = {name: np.array([row.time for row in one.rows()]) for name, one in sets.items()}
    if len(times) == 1:
        return {name: Slices.of(len(own), gate) for name, own in times.items()}
    every = np.sort(np.concatenate(list(times.values())))
    common = Slices.of(len(every), gate)
    return {name: common.at_times(every, own) for name, own in times.items()}


def _peers(changes: Sequence[Floats]) -> np.ndarray:
    """Each symbol's peers, by the changes of all streams, `(rows, n)` each."""
    if len(changes) == 1:
        return most_correlated(changes[0])
    # As large in each stream, or the wildest alone would say who goes with whom.
    return most_correlated(np.concatenate([own / _size(own) for own in changes]))


def _size(changes: Floats) -> Floats:
    """Root mean square of each column's changes, `(n,)`; 1 where nothing moved."""
    seen = np.isfinite(changes)
    square = np.square(np.where(seen, changes, 0.0)).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return np.sqrt(np.where(square > 0.0, square, 1.0))


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
    pooled = network.mode == "pooled"
    is_plain = pooled and history.targets == history.symbols  # as the features stand: no second copy
    return Series(
        replayed.x if is_plain else inputs_of(replayed.x, history.columns(), pooled=pooled),
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
