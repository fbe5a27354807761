"""What the live page shows, kept as the workers' events come: fed after commits, read when a browser asks.

Prices, scores and states are the engines' own and are read there. Kept here is what an engine does not hold: of each
stream the last forecasts and the errors over time (single precision), its trainings, and what became of its ticks. That
is some 20 kB for a stream of ten symbols, and 2 kB for each further one: a hundredth of a history of 20,000 ticks.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from streamer.core.adjustment import NEVER, Adjustment, since
from streamer.core.engine import ForecastEngine
from streamer.core.forecaster import FORECASTERS, PERSISTENCE, SERVED
from streamer.core.outcome import Dropped, Forecast, Rejected, Step
from streamer.service.metrics import RetrainOutcome, TickStatus
from streamer.service.partition import Batch, Partition, Stream
from streamer.service.series import Series
from streamer.service.trainer import Account

POINTS: Final = 100
"""Forecasts of a stream that are kept, as many as the default ring has prices to compare them with."""

_ERROR_POINTS: Final = 64  # of the errors over time; when full, every other one goes, so they reach back to the start
_FIRST_SPACING: Final = 8  # forecasts between two of them, doubled each time
_TRAININGS: Final = 20
_DETAIL: Final = 300  # characters of a training's reason; an exception's text may be long
_COMPARED: Final = [FORECASTERS.index(SERVED), FORECASTERS.index(PERSISTENCE)]


@dataclass(frozen=True, slots=True)
class Training:
    """One that has ended: at (seconds since the Unix epoch), how, after how many seconds, and why."""

    at: float
    outcome: RetrainOutcome
    seconds: float
    account: Account


@dataclass(slots=True, eq=False)
class Watched:
    """A stream, and what came of it since this process has it.

    latest: the newest forecast that has been published, None before the first. arrived: when the newest tick was taken
    (seconds since the Unix epoch), None before the first. counts: input records by TickStatus, and `blanks`, `missing`,
    `breaks`. changes: how often any of it has changed. adjusted: number of the last adjustment in the charts.
    """

    partition: str
    stream: Stream
    latest: Forecast | None
    arrived: float | None = None
    forecasts: Series = field(default_factory=lambda: Series(POINTS, 3))
    errors: Series = field(default_factory=lambda: Series(_ERROR_POINTS, 2))
    trainings: deque[Training] = field(default_factory=lambda: deque(maxlen=_TRAININGS))
    counts: Counter[str] = field(default_factory=Counter)
    changes: int = 0
    adjusted: int = NEVER
    _spacing: int = _FIRST_SPACING
    _until_errors: int = 0

    def take(self, step: Step, now: float) -> None:
        """Note what one record brought about."""
        outcome = step.outcome
        match outcome:
            case Forecast():
                self.latest, self.arrived = outcome, now
                self.forecasts.add(outcome.target, outcome.symbols, (outcome.yhat, outcome.lower, outcome.upper))
                self._until_errors -= 1
                self.counts[TickStatus.FORECAST] += 1
            case Dropped():
                self.counts[outcome.reason] += 1
                if outcome.reason == TickStatus.MERGED:
                    self.arrived = now
            case Rejected():
                self.counts[TickStatus.DEAD_LETTER] += 1
        if step.blanks or step.missing or step.is_break:
            self.counts.update(blanks=step.blanks, missing=step.missing, breaks=step.is_break)
        if step.adjustment is not None:
            self._adjust(step.adjustment)
            self.latest = standing(self.stream.engine)

    def _adjust(self, adjustment: Adjustment) -> None:
        self.adjusted = adjustment.number
        for series in (self.forecasts, self.errors):
            series.adjust(adjustment.symbol, adjustment.ratio, adjustment.name)

    def put_back(self, stream: Stream) -> None:
        """Go on with a stream that was restored: what it was told of since is made up for.

        Forecasts of another step, and errors over another window, are no part of the same charts.
        """
        before, now = self.stream.engine.settings, stream.engine.settings
        if (before.step, before.scoring_window) != (now.step, now.scoring_window):
            self.forecasts, self.errors = Series(POINTS, 3), Series(_ERROR_POINTS, 2)
            self._spacing, self._until_errors = _FIRST_SPACING, 0
        self.stream, self.latest = stream, standing(stream.engine)
        for each in since(stream.engine.adjustments, self.adjusted):
            self._adjust(each)
        self.changes += 1

    def touched(self) -> None:
        """All of a batch is taken: look at the errors, if it is time."""
        self.changes += 1
        if self._until_errors <= 0 and self.latest is not None:
            self._until_errors = self._spacing
            engine = self.stream.engine
            rmse = engine.scoreboard.rmse[:, _COMPARED]
            if np.isfinite(rmse).any():
                self.errors.add(self.latest.as_of, engine.symbols, (rmse[:, 0], rmse[:, 1]))
            if len(self.errors) == _ERROR_POINTS:
                self.errors.thin()
                self._spacing *= 2


def standing(engine: ForecastEngine) -> Forecast | None:
    """The forecast that a restored engine has pending, None where it has none."""
    pending, as_of = engine.pending, engine.position.last
    if pending is None or as_of is None:
        return None
    cells = np.flatnonzero(pending.mask)
    return Forecast(
        as_of=as_of,
        target=pending.target,
        symbols=tuple([engine.symbols[cell] for cell in cells]),
        yhat=pending.yhat[0, cells],
        lower=pending.lower[cells],
        upper=pending.upper[cells],
        last=engine.market.last[cells],
        model=engine.model_id,
    )


class Live:
    """All streams of this process, for the page.

    known_after: seconds from a tick's time to when it is known. strays: dead letters that belong to no stream. lags:
    records that are not read yet, by partition.
    """

    def __init__(self, known_after: float = 0.0, clock: Callable[[], float] = time.time) -> None:
        self.known_after = known_after
        self.clock = clock
        self.started = clock()
        self.streams: dict[str, Watched] = {}
        self.strays = 0
        self.lags: dict[str, int] = {}

    def restored(self, partition: Partition) -> None:
        """A partition begins to serve; what is known of its streams since this process has them stays."""
        for name, watched in list(self.streams.items()):
            if watched.partition == partition.name and name not in partition.streams:
                del self.streams[name]
        for stream in partition.streams.values():
            self.streams.setdefault(stream.name, self._watched(partition, stream)).put_back(stream)

    @staticmethod
    def _watched(partition: Partition, stream: Stream) -> Watched:
        return Watched(partition.name, stream, None, adjusted=stream.engine.adjusted)

    def gone(self, partition: Partition) -> None:
        """A partition moved away, and its streams with it."""
        for name, watched in list(self.streams.items()):
            if watched.partition == partition.name:
                del self.streams[name]
        self.lags.pop(partition.name, None)

    def committed(self, partition: Partition, batch: Batch, lag: int | None) -> None:
        """A batch has become visible."""
        now = self.clock()
        touched: dict[int, Watched] = {}
        for stream, step in batch.steps:
            if stream is None:
                self.strays += 1
                continue
            watched = self.streams.get(stream.name)
            if watched is None or watched.stream is not stream:
                watched = self.streams[stream.name] = self._watched(partition, stream)
            watched.take(step, now)
            touched[id(watched)] = watched
        for watched in touched.values():
            watched.touched()
        for name in batch.expired:
            if name not in partition.streams:
                self.streams.pop(name, None)
        if lag is not None:
            self.lags[partition.name] = lag

    def trained(self, stream: str, outcome: RetrainOutcome, seconds: float, account: Account) -> None:
        """A training has ended."""
        if (watched := self.streams.get(stream)) is not None:
            short = replace(account, detail=account.detail[:_DETAIL])
            watched.trainings.append(Training(self.clock(), outcome, seconds, short))
            watched.changes += 1

    def swapped(self, stream: Stream) -> None:
        """Another model serves."""
        if (watched := self.streams.get(stream.name)) is not None:
            watched.changes += 1
