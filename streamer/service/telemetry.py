"""Measurements of what has become visible: the workers' events as metrics and log lines."""

import time

import numpy as np
import numpy.typing as npt
import structlog

from streamer.core.engine import ForecastEngine
from streamer.core.forecaster import FORECASTERS, LINEAR, LSTM
from streamer.core.grid import Floats
from streamer.core.outcome import PERSISTENCE_MODEL, Dropped, Forecast, Rejected, Step
from streamer.service.metrics import Metrics, ModelKind, TickStatus
from streamer.service.partition import Batch, Partition, Stream

log = structlog.get_logger(__name__)


class EngineScores:
    """A stream's scores as the metrics read them at a scrape."""

    forecasters = FORECASTERS

    def __init__(self, engine: ForecastEngine) -> None:
        self._engine = engine

    @property
    def symbols(self) -> tuple[str, ...]:
        """The engine's symbols."""
        return self._engine.symbols

    @property
    def rmse(self) -> Floats:
        """Over the scoring window, `(symbols, forecasters)`; NaN for the model's parts while there is none."""
        return self._without_absent(self._engine.scoreboard.rmse, np.nan)

    @property
    def squared_error_total(self) -> Floats:
        """Since the stream's beginning, `(symbols, forecasters)`."""
        return self._without_absent(self._engine.scoreboard.squared_error_total, 0.0)

    @property
    def scored_total(self) -> npt.NDArray[np.int64]:
        """Since the stream's beginning, `(symbols,)`."""
        return self._engine.scoreboard.scored_total

    @property
    def coverage(self) -> Floats:
        """Over the scoring window, `(symbols,)`."""
        return self._engine.scoreboard.coverage

    def _without_absent(self, values: Floats, absent: float) -> Floats:
        if self._engine.serving is not None:
            return values
        values = values.copy()
        values[:, [FORECASTERS.index(LSTM), FORECASTERS.index(LINEAR)]] = absent
        return values


class Telemetry:
    """Applies batches to the metrics, after their commit: what was undone is never counted."""

    def __init__(self, metrics: Metrics, known_after: float = 0.0) -> None:
        self._metrics = metrics
        self.known_after = known_after

    def restored(self, partition: Partition, seconds: float) -> None:
        """Show the streams of a partition that begins to serve."""
        # Records without a stream count under the partition's name: dead letters alone.
        self._metrics.ticks.labels(partition.name, TickStatus.DEAD_LETTER)
        for stream in partition.streams.values():
            self._watch(stream)
            if stream.engine.switched:
                _say_switched(stream.name, stream.engine.switched)
        streams = len(partition.streams)
        log.info("partition serves", partition=partition.name, streams=streams, seconds=round(seconds, 3))

    def _watch(self, stream: Stream) -> None:
        self._show(stream)
        self.show_model(stream)

    def show_model(self, stream: Stream) -> None:
        """State which model serves a stream."""
        if stream.engine.serving is None:
            self._metrics.no_model_serves(stream.name)
            return
        model = stream.engine.serving.model
        self._metrics.model_serves(stream.name, model.id, model.as_of / 1000)

    def gone(self, partition: Partition) -> None:
        """Remove all series of a partition that moved away."""
        for name in (partition.name, *partition.streams):  # records without a stream count under the partition's name
            self._metrics.forget(name)
        self._metrics.forget_partition(partition.topic, partition.number)

    def committed(
        self, partition: Partition, batch: Batch, engine_seconds: list[float], seconds: float, lag: int | None
    ) -> None:
        """Count a batch that has become visible. lag: records of the partition not read yet, None if unknown."""
        metrics = self._metrics
        for spent in engine_seconds:
            metrics.engine_time.observe(spent)
            metrics.tick_to_forecast.observe(seconds)
        for stream, step in batch.steps:
            self._count(partition.name if stream is None else stream.name, step)
        for stream in {id(s): s for s, _ in batch.steps if s is not None}.values():
            self._show(stream)
        for name in batch.expired:
            self._expired(name, partition.streams.get(name))
        if lag is not None:
            metrics.consumer_lag.labels(partition.topic, partition.number).set(lag)

    def _expired(self, name: str, anew: Stream | None) -> None:
        """Show a stream that was dropped no longer, unless it is back: then without the model of before."""
        log.info("stream dropped, it has been without a tick for streams.expire", stream=name, is_back=anew is not None)
        if anew is None:
            self._metrics.forget(name)
        else:
            self.show_model(anew)

    def _count(self, stream: str, step: Step) -> None:
        metrics, outcome = self._metrics, step.outcome
        status = TickStatus.FORECAST
        match outcome:
            case Forecast():
                kind = ModelKind.PERSISTENCE if outcome.model == PERSISTENCE_MODEL else ModelKind.LSTM
                metrics.forecasts.labels(stream, kind).inc()
                metrics.last_forecast_timestamp.labels(stream).set(time.time())
            case Dropped():
                status = TickStatus(outcome.reason)
                if outcome.conflict:
                    metrics.conflicts.labels(stream).inc()
            case Rejected():
                status = TickStatus.DEAD_LETTER
                metrics.dead_letters.labels(outcome.reason).inc()
        metrics.ticks.labels(stream, status).inc()
        self._count_rarities(stream, step)

    def _count_rarities(self, stream: str, step: Step) -> None:
        metrics = self._metrics
        if step.blanks:
            metrics.blank_prices.labels(stream).inc(step.blanks)
        if step.missing:
            metrics.missing_ticks.labels(stream).inc(step.missing)
        if step.is_break:
            metrics.session_breaks.labels(stream).inc()
        if step.restarted:
            log.warning("time has restarted, late ticks kept rising: a new session begins", stream=stream)
        if step.spacing is not None:
            log.warning("ticks keep another spacing than feed.step", stream=stream, spacing_seconds=step.spacing / 1000)
        if step.left:
            log.info("symbols have vanished, they leave the stream", stream=stream, symbols=step.left)
        if (taken := step.adjustment) is not None:
            log.info("symbol adjusted", stream=stream, symbol=taken.symbol, ratio=taken.ratio, name=taken.name)
        if step.switched:
            _say_switched(stream, step.switched)

    def _show(self, stream: Stream) -> None:
        metrics, engine = self._metrics, stream.engine
        metrics.watch(stream.name, EngineScores(engine))
        metrics.count_from_zero(stream.name)
        metrics.coverage_target.set(engine.settings.coverage)
        metrics.feed_expected(stream.name, engine.is_expected)
        metrics.window_fill.labels(stream.name).set(len(engine.ring) / engine.ring.capacity)
        metrics.history_fill.labels(stream.name).set(len(engine.history) / engine.history.capacity)
        if stream.last is not None:
            metrics.tick_seen(stream.name, stream.last / 1000 + self.known_after)


def _say_switched(stream: str, symbols: tuple[str, ...]) -> None:
    log.warning(
        "prices are not all positive, the changes of these symbols are differences", stream=stream, symbols=symbols
    )
