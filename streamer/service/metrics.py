"""The daemon's metrics, for Prometheus. All names begin with `streamer_`; units are base units."""

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from streamer import __version__
from streamer.core.policy import Reason
from streamer.service.histogram import BatchHistogram
from streamer.service.scores import ScoreCollector, ScoreView
from streamer.service.stream_labels import SHARED, StreamLabels

MAX_SYMBOL_SERIES: Final = 2_000
"""Pairs of stream and symbol: at up to 11 series each, some 2 MB a scrape."""

MAX_STREAM_SERIES: Final = 1_000
"""Streams with series of their own, some 20 each."""

LATENCY_BUCKETS: Final = (
    *(5e-5, 7e-5),
    *(1e-4, 1.5e-4, 2e-4, 3e-4, 5e-4, 7e-4),
    *(1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 7e-3),
    *(1e-2, 1.5e-2, 2e-2, 3e-2, 5e-2, 7e-2),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.7),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0),
)
"""Seconds. From the engine's 50 us to a broker's 10 s, six to a decade: a quantile read from them is within a
fifth of the true one, and without a stream label they cost 34 series a histogram."""

DURATION_BUCKETS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
"""Seconds that a training may take, from a toy to its time limit."""

LAG_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds of event loop lag; Kafka drops a member whose heartbeats stop for its session time-out."""


class TickStatus(StrEnum):
    """The one outcome of an input offset."""

    FORECAST = "forecast"
    DUPLICATE = "duplicate"
    LATE = "late"
    MERGED = "merged"
    ADJUSTED = "adjusted"
    DEAD_LETTER = "dead_letter"


class ModelKind(StrEnum):
    """What made a forecast."""

    PERSISTENCE = "persistence"
    LSTM = "lstm"


class RetrainOutcome(StrEnum):
    """How a training that was due ended. Skipped: beside another of its stream, which one more follows."""

    PROMOTED = "promoted"
    REJECTED = "rejected"
    FAILED = "failed"
    SKIPPED = "skipped"


class ReloadOutcome(StrEnum):
    """How a reload of the configuration ended."""

    TAKEN = "taken"
    REFUSED = "refused"


class Metrics:
    """All metrics, on the registry given; used as `metrics.ticks.labels(metrics.label(stream), status).inc()`.

    What stands beside `stream` as a label comes from an enum, or `forget` would leave it behind.

    Args:
        registry: Where they are registered; one registry takes one `Metrics`.
        max_symbol_series: Pairs of stream and symbol whose scores are shown at most.
        max_stream_series: Streams with series of their own at most. What is counted of those beyond is counted in one
            series for all, their gauges are left out, but for the feed's: the worst of them.
        clock: Now, in seconds since the Unix epoch.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        max_symbol_series: int = MAX_SYMBOL_SERIES,
        max_stream_series: int = MAX_STREAM_SERIES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # Each counter would get a twin that tells when it was made: half of all series, of use to nobody here.
        # The library has this as a switch of the process only.
        disable_created_metrics()
        self.registry = registry
        self._clock = clock
        self._labels = StreamLabels(max_stream_series)
        self._scores = ScoreCollector(max_symbol_series)
        self._from_zero: set[str] = set()
        registry.register(self._scores)
        self._make_stream_counters()
        self._make_stream_gauges()
        self._make_process_metrics()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def watch(self, stream: str, view: ScoreView) -> None:
        """Show the scores of `stream` at each scrape, read from `view`."""
        self._scores.watch(stream, view)

    def refresh(self) -> None:
        """Read the watched scores, in the engines' thread; rendering may then go on in another."""
        self._scores.refresh()

    def reloaded(self, outcome: ReloadOutcome) -> None:
        """Count a reload of the configuration."""
        self.config_reloads.labels(outcome).inc()
        self.config_reload_successful.set(outcome is ReloadOutcome.TAKEN)
        if outcome is ReloadOutcome.TAKEN:
            self.config_reload_timestamp.set(self._clock())

    def label(self, stream: str) -> str:
        """The label of `stream`: its name, or `SHARED`."""
        return self._labels.of(stream)

    def tick_seen(self, stream: str, event_time: float) -> None:
        """Note when the newest tick was known (seconds since the Unix epoch); its age is the feed's lag.

        It is taken when read: it grows while the feed is silent.
        """
        feed, label = self._labels.feed(stream), self.label(stream)
        feed.event_time = event_time
        if feed.label != label:
            feed.label = label
            age = self._labels.worst_age if label == SHARED else feed.age
            self.feed_lag.labels(label).set_function(lambda: age(self._clock()))

    def feed_expected(self, stream: str, is_expected: Callable[[int], bool]) -> None:
        """Show whether ticks of `stream` are expected, by what `is_expected` says of now (ms since the Unix epoch)."""
        feed, label = self._labels.feed(stream), self.label(stream)
        feed.is_expected = is_expected
        is_open = self._labels.is_any_open if label == SHARED else feed.is_open
        self.feed_open.labels(label).set_function(lambda: float(is_open(self._clock())))

    def fills(self, stream: str, window: Callable[[], float], history: Callable[[], float]) -> None:
        """Show what shares of ring and history are filled at each scrape."""
        if (label := self.label(stream)) != SHARED:
            self.window_fill.labels(label).set_function(window)
            self.history_fill.labels(label).set_function(history)

    def model_serves(self, stream: str, model: str, trained_at: float) -> None:
        """State which model serves `stream`, and when it was trained (seconds since the Unix epoch)."""
        if self.label(stream) == SHARED:
            return
        self.model.labels(stream).info({"model": model})
        self.model_trained_timestamp.labels(stream).set(trained_at)

    def no_model_serves(self, stream: str) -> None:
        """State that `stream` is served by persistence alone."""
        self.model.remove(stream)
        self.model_trained_timestamp.remove(stream)

    def count_from_zero(self, stream: str) -> None:
        """Show what seldom happens to `stream` as 0 until it does.

        PromQL's `increase` does not see the first increment of a counter that appears with it: the alert on it would
        miss that. Those of what happens all the time are left out: they would be half as many series again.
        """
        label = self.label(stream)
        if label in self._from_zero:
            return
        self._from_zero.add(label)
        for counter in (self.conflicts, self.blank_prices, self.session_breaks, self.missing_ticks):
            counter.labels(label)
        for status in (TickStatus.DUPLICATE, TickStatus.LATE, TickStatus.DEAD_LETTER):
            self.ticks.labels(label, status)
        for outcome in RetrainOutcome:
            self.retrains.labels(label, outcome)
        for kind in ModelKind:  # the first forecast of a model is one, too
            self.forecasts.labels(label, kind)

    def forget(self, stream: str) -> None:
        """Remove every series of `stream`: it moved to another process, which shows it now."""
        self._scores.forget(stream)
        self._labels.forget(stream)
        self._remove(stream)
        if SHARED in self._from_zero and not self._labels.beyond:
            self._remove(SHARED)

    def _remove(self, label: str) -> None:
        self._from_zero.discard(label)
        for metric in self._by_stream:
            metric.remove(label)
        # Not `remove_by_labels`, which looks at each series: a rebalance may move 2,000 streams at once.
        for metric, values in self._by_stream_and_value:
            for value in values:
                metric.remove(label, value)

    def forget_partition(self, topic: str, partition: int) -> None:
        """Remove the series of a partition that was revoked."""
        self.consumer_lag.remove(topic, partition)

    def _make_stream_counters(self) -> None:
        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, ("stream", *labels), registry=self.registry)

        self.ticks = counter("streamer_ticks_total", "Input records, by what became of them", "status")
        self.conflicts = counter("streamer_conflicts_total", "Duplicate ticks whose prices differ")
        self.blank_prices = counter("streamer_blank_prices_total", "Prices that were missing from a tick")
        self.session_breaks = counter(
            "streamer_session_breaks_total", "Sessions begun after closed hours, or gaps too long to step over"
        )
        self.missing_ticks = counter("streamer_missing_ticks_total", "Ticks missing from the grid, stepped over")
        self.forecasts = counter("streamer_forecasts_total", "Forecasts published", "model_kind")
        self.retrains = counter(
            "streamer_retrains_total", "Trainings that were due, by their end; skipped: beside another", "outcome"
        )
        self.retrains_requested = counter(
            "streamer_retrains_requested_total", "Trainings that were queued, by why they were due", "reason"
        )

    def _make_stream_gauges(self) -> None:
        def gauge(name: str, documentation: str) -> Gauge:
            return Gauge(name, documentation, ("stream",), registry=self.registry)

        self.feed_lag = gauge("streamer_feed_lag_seconds", "Age of the newest tick, by its own time")
        self.feed_open = gauge(
            "streamer_feed_open",
            "1 while ticks are expected: in the hours of feed.calendar, without it at times of the week at which they"
            " came before. A feed is stale where streamer_feed_lag_seconds > 600 and"
            " min_over_time(streamer_feed_open[10m]) == 1",
        )
        self.last_forecast_timestamp = gauge(
            "streamer_last_forecast_timestamp_seconds", "When the last forecast was published"
        )
        self.window_fill = gauge("streamer_window_fill_ratio", "Share of the ring of past rows that is filled")
        self.history_fill = gauge("streamer_history_fill_ratio", "Share of the history to train on that is held")
        self.model_trained_timestamp = gauge(
            "streamer_model_trained_timestamp_seconds", "When the model that serves was trained"
        )
        self.model = Info("streamer_model", "The model that serves", ("stream",), registry=self.registry)
        self._by_stream = (
            *(self.conflicts, self.blank_prices, self.session_breaks, self.missing_ticks),
            *(self.feed_lag, self.feed_open, self.last_forecast_timestamp, self.window_fill, self.history_fill),
            *(self.model_trained_timestamp, self.model),
        )
        self._by_stream_and_value = (
            (self.ticks, tuple(TickStatus)),
            (self.forecasts, tuple(ModelKind)),
            (self.retrains, tuple(RetrainOutcome)),
            (self.retrains_requested, tuple(Reason)),
        )

    def _make_process_metrics(self) -> None:
        registry = self.registry
        self.tick_to_forecast = BatchHistogram(
            "streamer_tick_to_forecast_seconds",
            "From the fetch that returned a record to the commit that made its outcome visible",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.engine_time = BatchHistogram(
            "streamer_engine_seconds",
            "One record's way through the engine, decoding and encoding included",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.retrain_duration = Histogram(
            "streamer_retrain_duration_seconds",
            "From a training's turn to its end, if promoted until its model has caught up",
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        # A histogram, where a gauge of the worst since the last scrape would show a stall to whichever of two
        # Prometheus servers asks first, and to nobody if that scrape fails.
        self.event_loop_lag = Histogram(
            "streamer_event_loop_lag_seconds",
            "How much too late the event loop ends a short sleep",
            buckets=LAG_BUCKETS,
            registry=registry,
        )
        self.consumer_lag = Gauge(
            "streamer_consumer_lag_messages",
            "Records of the partition that are not read yet",
            ("topic", "partition"),
            registry=registry,
        )
        self.dead_letters = Counter(
            "streamer_dead_letters_total",
            "Records sent to the dead-letter topic",
            ("reason",),
            registry=registry,
        )
        self.streams_beyond = Gauge(
            "streamer_streams_beyond_limit",
            "Streams that have no series of their own since there are too many: theirs are those without the label",
            registry=registry,
        )
        self.streams_beyond.set_function(lambda: self._labels.beyond)
        self.assigned_partitions = Gauge(
            "streamer_assigned_partitions", "Input partitions that this process owns", registry=registry
        )
        self.ready = Gauge("streamer_ready", "1 while /readyz says that the process serves", registry=registry)
        self.coverage_target = Gauge(
            "streamer_interval_coverage_target_ratio",
            "Share of prices that intervals are to hold: interval.coverage",
            registry=registry,
        )
        self._make_config_metrics()
        Info("streamer_build", "The version that runs", registry=registry).info({"version": __version__})

    def _make_config_metrics(self) -> None:
        """As Prometheus has them of itself: what the process was started with counts as taken."""
        self.config_reloads = Counter(
            "streamer_config_reloads_total", "Reloads of the configuration", ("outcome",), registry=self.registry
        )
        for outcome in ReloadOutcome:
            self.config_reloads.labels(outcome)
        self.config_reload_successful = Gauge(
            "streamer_config_last_reload_successful",
            "Whether the last configuration that was read is the one in use",
            registry=self.registry,
        )
        self.config_reload_timestamp = Gauge(
            "streamer_config_last_reload_success_timestamp_seconds",
            "When the configuration in use was read",
            registry=self.registry,
        )
        self.config_reload_successful.set(True)
        self.config_reload_timestamp.set(self._clock())
