"""Measurements of what has become visible: the workers' events as metrics and log lines."""

import time
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import structlog

from streamer.core.buffer import TickBuffer
from streamer.core.engine import ForecastEngine
from streamer.core.forecaster import FORECASTERS, LINEAR, LSTM
from streamer.core.grid import Floats
from streamer.core.outcome import Step
from streamer.service.metrics import Metrics, TickStatus
from streamer.service.partition import Batch, Partition, Stream
from streamer.service.stream_metrics import StreamMetrics

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
        self._streams: dict[str, StreamMetrics] = {}
        self._shown: defaultdict[str, set[str]] = defaultdict(set)
        self.known_after = known_after

    def restored(self, partition: Partition, seconds: float) -> None:
        """Show the streams of a partition that begins to serve."""
        # Records without a stream count under the partition's name: dead letters alone.
        self._metrics.ticks.labels(partition.name, TickStatus.DEAD_LETTER)
        self._shown[partition.name].update(partition.streams)
        for stream in partition.streams.values():
            self._watch(stream)
            self._show_feed(stream)
            if stream.engine.switched:
                _say_switched(stream.name, stream.engine.switched)
        streams = len(partition.streams)
        log.info("partition serves", partition=partition.name, streams=streams, seconds=round(seconds, 3))

    def _watch(self, stream: Stream) -> StreamMetrics:
        """Show a stream, or another engine of the same name, from now on."""
        metrics, engine = self._metrics, stream.engine
        found = self._streams[stream.name] = StreamMetrics(metrics, metrics.label(stream.name), stream)
        metrics.watch(stream.name, EngineScores(engine))
        metrics.count_from_zero(stream.name)
        metrics.coverage_target.set(engine.settings.coverage)
        metrics.feed_expected(stream.name, engine.is_expected)
        metrics.fills(stream.name, lambda: _share(engine.ring), lambda: _share(engine.history))
        self.show_model(stream)
        return found

    def _show_feed(self, stream: Stream) -> None:
        if stream.last is not None:
            self._metrics.tick_seen(stream.name, stream.last / 1000 + self.known_after)

    def show_model(self, stream: Stream) -> None:
        """State which model serves a stream."""
        if stream.engine.serving is None:
            self._metrics.no_model_serves(stream.name)
            return
        model = stream.engine.serving.model
        self._metrics.model_serves(stream.name, model.id, model.trained_to / 1000)

    def gone(self, partition: Partition) -> None:
        """Remove all series of a partition that moved away, those of before it last began anew too."""
        for name in {partition.name, *partition.streams} | self._shown.pop(partition.name, set()):
            self._forget(name)
        self._metrics.forget_partition(partition.topic, partition.number)

    def _forget(self, stream: str) -> None:
        self._streams.pop(stream, None)
        self._metrics.forget(stream)

    def committed(
        self, partition: Partition, batch: Batch, engine_seconds: list[float], seconds: float, lag: int | None
    ) -> None:
        """Count a batch that has become visible. lag: records of the partition not read yet, None if unknown."""
        metrics, now = self._metrics, time.time()
        metrics.engine_time.observe_each(engine_seconds)
        metrics.tick_to_forecast.observe(seconds, len(engine_seconds))
        for counted in self._counted(partition, batch):
            counted.tell(now)
            if counted.stream is not None:
                self._show_feed(counted.stream)
        for name in batch.expired:
            self._expired(name, partition.streams.get(name))
        if lag is not None:
            metrics.consumer_lag.labels(partition.topic, partition.number).set(lag)

    def _counted(self, partition: Partition, batch: Batch) -> Iterable[StreamMetrics]:
        """What is to be told of a batch, by stream."""
        counted: dict[int, StreamMetrics] = {}
        for stream, step in batch.steps:
            name = partition.name if stream is None else stream.name
            found = counted.get(id(stream))
            if found is None:
                found = counted[id(stream)] = self._of(name, stream)
                self._shown[partition.name].add(name)
            found.add(step)
            _say(name, step)
        return counted.values()

    def _of(self, name: str, stream: Stream | None) -> StreamMetrics:
        """What counts for a stream; anew where it has another engine, or has come to series of its own."""
        if stream is None:
            return StreamMetrics(
                self._metrics, name, None
            )  # of a partition: few, and never beyond the limit of streams
        label = self._metrics.label(name)
        found = self._streams.get(name)
        if found is None or found.stream is not stream or found.label != label:
            return self._watch(stream)
        return found

    def _expired(self, name: str, anew: Stream | None) -> None:
        """Show a stream that was dropped no longer, unless it is back: then without the model of before."""
        log.info("stream dropped, it has been without a tick for streams.expire", stream=name, is_back=anew is not None)
        if anew is None:
            self._forget(name)
        else:
            self.show_model(anew)


def _share(buffer: TickBuffer) -> float:
    """Of its capacity that is filled."""
    return len(buffer) / buffer.capacity


def _say(stream: str, step: Step) -> None:
    """Log what seldom happens."""
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


def _say_switched(stream: str, symbols: tuple[str, ...]) -> None:
    log.warning(
        "prices are not all positive, the changes of these symbols are differences", stream=stream, symbols=symbols
    )
