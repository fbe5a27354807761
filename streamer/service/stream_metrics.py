"""What is counted of one stream, told to the metrics once for each batch."""

from typing import Any

from prometheus_client import Counter, Gauge

from streamer.core.outcome import PERSISTENCE_MODEL, Dropped, Forecast, Rejected, Step
from streamer.service.metrics import Metrics, ModelKind, TickStatus
from streamer.service.partition import Stream


class StreamMetrics:
    """Counts in plain numbers until `tell`: to look up a series takes as long as to count ten ticks.

    stream: None for the records that belong to none. label: of its series. Not to be used once they were forgotten.
    """

    def __init__(self, metrics: Metrics, label: str, stream: Stream | None) -> None:
        self.label = label
        self.stream = stream
        self._metrics = metrics
        self._counted: dict[Counter, int] = {}
        self._series: dict[tuple[Any, ...], Any] = {}
        self._has_forecasts = False

    def add(self, step: Step) -> None:
        """Count what came of one record."""
        metrics, outcome = self._metrics, step.outcome
        match outcome:
            case Forecast():
                kind = ModelKind.PERSISTENCE if outcome.model == PERSISTENCE_MODEL else ModelKind.LSTM
                self._count(metrics.forecasts, kind)
                self._count(metrics.ticks, TickStatus.FORECAST)
                self._has_forecasts = True
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
        series = self._of(counter, *values)
        self._counted[series] = self._counted.get(series, 0) + by

    def tell(self, now: float) -> None:
        """Show what was counted since. now: seconds since the Unix epoch."""
        for series, count in self._counted.items():
            series.inc(count)
        self._counted.clear()
        if self._has_forecasts:
            self._of(self._metrics.last_forecast_timestamp).set(now)
            self._has_forecasts = False

    def _of(self, metric: Counter | Gauge, *values: str) -> Any:
        """The series of `metric` that has the stream's label and these."""
        key = (metric, *values)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = metric.labels(self.label, *values)
        return found
