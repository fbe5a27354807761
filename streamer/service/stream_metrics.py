"""What is counted of one stream, told to the metrics once for each batch."""

from collections.abc import Sized
from typing import Any

from prometheus_client import Counter, Gauge

from streamer.core.outcome import PERSISTENCE_MODEL, Dropped, Forecast, Rejected, Step
from streamer.service.metrics import Metrics, ModelKind, TickStatus
from streamer.service.partition import Stream
from streamer.service.stream_labels import SHARED


class StreamMetrics:
    """Counts in plain numbers until `tell`: to look up a series takes as long as to count ten ticks.

    stream: None for the records that belong to none. label: of its series. Not to be used once they were forgotten.
    """

    def __init__(self, metrics: Metrics, label: str, stream: Stream | None) -> None:
        self.label = label
        self.stream = stream
        self._metrics = metrics
        self._counted: dict[tuple[Any, ...], int] = {}
        self._series: dict[tuple[Any, ...], Any] = {}
        self._forecasts = 0

    def add(self, step: Step) -> None:
        """Count what came of one record."""
        metrics, outcome = self._metrics, step.outcome
        match outcome:
            case Forecast():
                kind = ModelKind.PERSISTENCE if outcome.model == PERSISTENCE_MODEL else ModelKind.LSTM
                self._count(metrics.forecasts, kind)
                self._count(metrics.ticks, TickStatus.FORECAST)
                self._forecasts += 1
            case Dropped():
                self._count(metrics.ticks, TickStatus(outcome.reason))
                if outcome.conflict:
                    self._count(metrics.conflicts)
            case Rejected():
                self._count(metrics.ticks, TickStatus.DEAD_LETTER)
                metrics.dead_letters.labels(outcome.reason).inc()
        if step.blanks:
            self._count(metrics.blank_prices, by=step.blanks)
        if step.missing:
            self._count(metrics.missing_ticks, by=step.missing)
        if step.is_break:
            self._count(metrics.session_breaks)

    def _count(self, counter: Counter, *values: str, by: int = 1) -> None:
        key = (counter, *values)
        self._counted[key] = self._counted.get(key, 0) + by

    def tell(self, now: float) -> None:
        """Show what was counted since. now: seconds since the Unix epoch."""
        for key, count in self._counted.items():
            self._of(*key).inc(count)
        self._counted.clear()
        if self._forecasts:
            self._of(self._metrics.last_forecast_timestamp).set(now)
            self._forecasts = 0
        if self.stream is not None and self.label != SHARED:
            self._fill(self._metrics.window_fill, self.stream.engine.ring, self.stream.engine.ring.capacity)
            self._fill(self._metrics.history_fill, self.stream.engine.history, self.stream.engine.history.capacity)

    def _fill(self, gauge: Gauge, held: Sized, capacity: int) -> None:
        self._of(gauge).set(len(held) / capacity)

    def _of(self, metric: Counter | Gauge, *values: str) -> Any:
        key = (metric, *values)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = metric.labels(self.label, *values)
        return found
