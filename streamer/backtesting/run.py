"""The run itself: the daemon's engine over a file, progressive. Forecast, then score, then learn."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from streamer.backtesting.rows import Rows, readable
from streamer.backtesting.trail import Promise, Service, Trail, Training
from streamer.core.engine import ForecastEngine
from streamer.core.forecaster import Forecaster
from streamer.core.outcome import Dropped, Forecast, Rejected, Step, Swap
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.errors import TrainingError, UsageError
from streamer.model.artifact import Artifact
from streamer.model.dataset import TrainingSet
from streamer.model.store import ModelStore

_NEVER = 2**40  # ticks
_REPORT_EVERY = 200  # rows: some milliseconds
_LEAST_WINDOWS = 3  # of history: as `retrain.first`, so that fit, stop and gate slice can each warm a state up


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a backtest goes.

    train_fraction: share of the rows that are history only. retrain_every: ticks from training to training, 0: only
    one, None: as `retrain.every`. swap_after: ticks from a training's last row to the swap.
    """

    train_fraction: float = 0.9
    retrain_every: int | None = None
    swap_after: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.train_fraction < 1.0:
            raise UsageError(f"train_fraction: found {self.train_fraction:g}, expected a number between 0 and 1")
        for name in ("retrain_every", "swap_after"):
            if (getattr(self, name) or 0) < 0:
                raise UsageError(f"{name}: found {getattr(self, name)}, expected a whole number from 0 on")


class Reporter(Protocol):
    """Told how far a backtest is."""

    def stage(self, text: str) -> None:
        """Something begins that takes a while."""

    def note(self, text: str) -> None:
        """Something came out that is worth a line."""

    def rows(self, done: int, total: int, seconds_left: float | None) -> None:
        """So many rows are done; seconds_left: None while it is not known."""


class Silent:
    """A reporter that says nothing."""

    def stage(self, text: str) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def rows(self, done: int, total: int, seconds_left: float | None) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True)
class Learning:
    """How models come to be. train: from the history and the champion to the gate's result and the challenger."""

    train: Callable[[TrainingSet, Artifact | None], tuple[dict[str, Any], Artifact]]
    load: Callable[[Artifact], Forecaster]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Swaps of an earlier run, which replace training; `load` gives the model of an id."""

    swaps: Sequence[Swap]
    load: Callable[[str], Forecaster]


@dataclass(frozen=True, slots=True)
class Record:
    """Where models and swaps are recorded: a stream of a store."""

    store: ModelStore
    stream: str


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A promoted model that is to serve once the engine has accepted `at` ticks."""

    at: int
    artifact: Artifact
    model: Forecaster


@dataclass
class _Clock:
    """Wall time by what it went to; only the estimate of what is left depends on it."""

    began: float = field(default_factory=time.monotonic)
    in_trainings: float = 0.0
    trainings: int = 0

    def left(self, done: int, total: int, trainings: int) -> float | None:
        """Seconds, None before the first of the `trainings` that are to come has shown how long one takes."""
        if trainings and not self.trainings:
            return None
        rows = time.monotonic() - self.began - self.in_trainings
        per_training = self.in_trainings / max(self.trainings, 1)
        return rows / max(done, 1) * (total - done) + max(0, trainings - self.trainings) * per_training


class Backtest:
    """One pass over the rows; what it found so far is in `trail`, `trainings` and `services`, also after an exception.

    The rows before the last 1 - train_fraction are history. A model is trained on what was seen, so placed that the
    first row after them is forecast by it: its training sees all but their last 1 + swap_after ticks.
    """

    def __init__(
        self,
        rows: Rows,
        settings: EngineSettings,
        options: Options,
        models: Learning | Schedule,
        record: Record | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self.rows = rows
        self.options = options
        self.split = int(len(rows) * options.train_fraction)
        self.trainings: list[Training] = []
        self.services: list[Service] = []
        self.counts: Counter[str] = Counter()
        self._learning = models if isinstance(models, Learning) else None
        self._scheduled = models.swaps if isinstance(models, Schedule) else ()
        self.record = record
        self._reporter = reporter or Silent()
        self._clock = _Clock()
        self._every = settings.every if options.retrain_every is None else options.retrain_every
        self.settings = self._engine_settings(settings)
        swaps, load = (models.swaps, models.load) if isinstance(models, Schedule) else (None, None)
        self.engine = ForecastEngine(self.settings, swaps, load)
        # Persistence with the same calibration around it; until a model serves, the engine itself is that.
        self._baseline = None if swaps is None else ForecastEngine(self.settings)
        columns = np.array([rows.symbols.index(target) for target in rows.targets], np.intp)
        self.trail = Trail(self.split, len(rows), columns)
        self._promise: Promise | None = None
        self._champion: Artifact | None = None
        self._waiting: _Waiting | None = None

    def _engine_settings(self, settings: EngineSettings) -> EngineSettings:
        """The daemon's, with the step of the rows, and the first training where the history ends."""
        usable = np.isfinite(readable(self.rows.prices[: self.split], self.rows.symbols, settings)).any(axis=1)
        first = int(usable.sum()) - 1 - self.options.swap_after
        least = _LEAST_WINDOWS * settings.window
        if self._learning is not None and first < least:
            raise UsageError(
                f"{self.rows.name}: too few rows: {self.split} of {len(self.rows)} come before the forecasts "
                f"(train fraction {self.options.train_fraction:g}), a training needs {least} with a price "
                f"(3 x feed.window) and {1 + self.options.swap_after} more"
            )
        if not 0 < self.split < len(self.rows):
            raise UsageError(
                f"{self.rows.name}: too few rows: {len(self.rows)} leave none to learn from or to forecast"
            )
        return replace(
            settings,
            step=self.rows.step,
            first=max(first, 1),
            every=self._every or _NEVER,
            history=max(settings.history, self.split),
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """What was found odd, in the data and, after the run, in the schedule."""
        missed = len(self._scheduled) - len(self.services)
        if self.trail.done < len(self.rows) - self.split or missed <= 0:
            return self.rows.notices
        odd = f"{missed} of {len(self._scheduled)} scheduled swaps were not met: the rows lack their ticks"
        return (*self.rows.notices, odd)

    def run(self) -> None:
        """Go through all rows. TrainingError where not even the first training gives a model to judge."""
        self._reporter.stage(f"history: {self.split} rows")
        for row, tick in enumerate(self.rows.ticks()):
            self._step(row, tick)
            if row % _REPORT_EVERY == 0 or row + 1 == len(self.rows):
                self._report(row + 1)

    def _step(self, row: int, tick: Tick) -> None:
        promise = self._promise
        step = self.engine.process(tick)
        if self._baseline is not None:
            self._baseline.process(tick)
        self._count(step)
        self._note_scheduled(row)
        # The first price of a session is none that the forecast before it was of.
        self.trail.add(row, self.rows.grid_time(row), None if step.is_break else promise)
        if isinstance(step.outcome, Forecast):
            # Before a swap: whoever made the forecast is in service still.
            self._promise = Promise.of(self.engine, self._baseline or self.engine)
        self.trail.sample(row, self.engine)
        if step.training and self._learning is not None:
            self._train(row, step.training, self._learning)
        if self._waiting is not None and self.engine.policy.ticks >= self._waiting.at:
            self._swap(row, self._waiting)

    def _count(self, step: Step) -> None:
        outcome = step.outcome
        self.counts[outcome.reason if isinstance(outcome, Dropped | Rejected) else "forecast"] += 1

    def _report(self, done: int) -> None:
        planned = 0
        if self._learning is not None:
            last = len(self.rows) - self.options.swap_after - 2
            planned = 1 + ((last - self.settings.first) // self._every if self._every else 0)
        total = len(self.rows)
        self._reporter.rows(done, total, self._clock.left(done, total, planned))

    # --- learning -------------------------------------------------------------------------------------------------

    def _train(self, row: int, due: str, learning: Learning) -> None:
        """Train on what the engine holds, as the daemon would; a promoted model waits for its tick.

        Not again where only one was asked for, nor while the last one's model waits.
        """
        again = bool(self.trainings)
        too_late = row + self.options.swap_after + 2 >= len(self.rows)  # for its model to forecast any row
        if (again and not self._every) or self._waiting is not None or too_late:
            return
        history = TrainingSet.of(self.engine)
        self._reporter.stage(f"training {len(self.trainings) + 1} on {len(history)} ticks")
        self._report(row + 1)
        began = time.monotonic()
        try:
            result, artifact = learning.train(history, self._champion)
        except TrainingError as error:
            if not again:
                raise
            self.trainings.append(Training(row, len(history), due, "failed", str(error)))
            self._reporter.note(f"training {len(self.trainings)} failed, the model in service stays: {error}")
            return
        finally:
            self.engine.policy.ended()
            self._clock.in_trainings += time.monotonic() - began
            self._clock.trainings += 1
        outcome = "promoted" if result["promoted"] else "rejected"
        reason = str(result.get("reason", outcome))
        self._reporter.note(f"model {artifact.id} {reason}")
        self.trainings.append(Training(row, len(history), due, outcome, reason, artifact.id, result))
        if result["promoted"]:
            at = self.engine.policy.ticks + self.options.swap_after
            self._waiting = _Waiting(at, artifact, learning.load(artifact))

    def _swap(self, row: int, waiting: _Waiting) -> None:
        if self._baseline is None:
            self._baseline = deepcopy(self.engine)
        ready = self.engine.catch_up(waiting.model)
        ready.advance(self.settings.history)
        event = self.engine.swap(ready)
        self._waiting, self._champion = None, waiting.artifact
        self.services.append(Service(row + 1, event))
        if self.record is not None:
            self.record.store.save(self.record.stream, waiting.artifact)
            self.record.store.record_swap(self.record.stream, asdict(event))

    def _note_scheduled(self, row: int) -> None:
        """What the engine swapped in by its schedule, before it took `row` in."""
        known = [service.swap for service in self.services]
        if self.engine.swaps and self.engine.swaps[-1] not in known[-1:]:
            self.services += [Service(row, swap) for swap in self.engine.swaps if swap not in known]
