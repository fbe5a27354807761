import asyncio
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from streamer import __version__
from streamer.core.policy import Reason
from streamer.service.health import watch_loop_lag
from streamer.service.metrics import LATENCY_BUCKETS, Metrics, ModelKind, RetrainOutcome, TickStatus
from tests.support import eventually

Floats = npt.NDArray[np.float64]
NAN = float("nan")


@dataclass
class Scores:
    """A `ScoreView` of n symbols and k forecasters, written out; nothing scored where not said otherwise."""

    symbols: Sequence[str]
    forecasters: Sequence[str] = ("served", "persistence")
    rmse: Floats = field(init=False)
    squared_error_total: Floats = field(init=False)
    scored_total: npt.NDArray[np.int64] = field(init=False)
    coverage: Floats = field(init=False)

    def __post_init__(self) -> None:
        shape = (len(self.symbols), len(self.forecasters))
        self.rmse = np.full(shape, NAN)
        self.squared_error_total = np.zeros(shape)
        self.scored_total = np.zeros(shape[0], dtype=np.int64)
        self.coverage = np.full(shape[0], NAN)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)


def scored(symbols: Sequence[str]) -> Scores:
    view = Scores(symbols)
    view.rmse[:] = (3.0, 4.0)
    view.squared_error_total[:] = (90.0, 160.0)
    view.scored_total[:] = 10
    view.coverage[:] = 0.9
    return view


def use_everything(metrics: Metrics, stream: str = "prices-0") -> None:
    """Give every metric data."""
    metrics.watch(stream, scored(["AAPL", "MSFT"]))
    metrics.refresh()
    metrics.tick_seen(stream, 1_000.0)
    metrics.model_serves(stream, "m-1", 2_000.0)
    for status in TickStatus:
        metrics.ticks.labels(stream, status).inc()
    for kind in ModelKind:
        metrics.forecasts.labels(stream, kind).inc()
    for outcome in RetrainOutcome:
        metrics.retrains.labels(stream, outcome).inc()
    for reason in Reason:
        metrics.retrains_requested.labels(stream, reason).inc()
    for counter in (metrics.conflicts, metrics.blank_prices, metrics.session_breaks, metrics.missing_ticks):
        counter.labels(stream).inc()
    for gauge in (metrics.last_forecast_timestamp, metrics.window_fill, metrics.history_fill):
        gauge.labels(stream).set(0.5)
    metrics.consumer_lag.labels("prices", 0).set(3)
    metrics.dead_letters.labels("json").inc()
    metrics.assigned_partitions.set(1)
    for histogram in (metrics.tick_to_forecast, metrics.engine_time, metrics.retrain_duration):
        histogram.observe(0.004)
    metrics.event_loop_lag.observe(0.001)


def series(registry: CollectorRegistry) -> set[str]:
    """Every line with a value, less the value."""
    lines = generate_latest(registry).decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def test_the_scores_of_a_watched_stream_are_read_at_the_scrape(metrics: Metrics, registry: CollectorRegistry) -> None:
    view = scored(["AAPL"])
    metrics.watch("prices-0", view)
    metrics.refresh()
    labels = {"stream": "prices-0", "symbol": "AAPL"}
    value = registry.get_sample_value
    assert value("streamer_rmse", {**labels, "forecaster": "served"}) == 3.0
    assert value("streamer_rmse", {**labels, "forecaster": "persistence"}) == 4.0
    assert value("streamer_squared_error_total", {**labels, "forecaster": "served"}) == 90.0
    assert value("streamer_scored_forecasts_total", labels) == 10
    assert value("streamer_skill_ratio", labels) == 0.25
    assert value("streamer_interval_coverage_ratio", labels) == 0.9
    view.rmse[0, 0] = 1.0
    metrics.refresh()
    assert value("streamer_skill_ratio", labels) == 0.75


def test_what_a_scrape_shows_is_a_copy_that_the_engine_cannot_change_meanwhile(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    view = scored(["AAPL"])
    metrics.watch("prices-0", view)
    metrics.refresh()
    view.symbols = ["AAPL", "MSFT"]
    view.scored_total[0] = 11
    labels = {"stream": "prices-0", "symbol": "AAPL"}
    assert registry.get_sample_value("streamer_scored_forecasts_total", labels) == 10


def test_only_what_was_scored_has_series(metrics: Metrics, registry: CollectorRegistry) -> None:
    view = Scores(["AAPL", "MSFT"], ("served", "lstm", "persistence"))
    view.rmse[0] = (0.0, NAN, 2.0)
    view.scored_total[0] = 5
    metrics.watch("prices-0", view)
    metrics.refresh()
    shown = {line for line in series(registry) if "prices-0" in line}
    cell = 'stream="prices-0",symbol="AAPL"'
    assert shown == {
        f'streamer_rmse{{forecaster="served",{cell}}}',
        f'streamer_rmse{{forecaster="persistence",{cell}}}',
        f'streamer_squared_error_total{{forecaster="served",{cell}}}',
        f'streamer_squared_error_total{{forecaster="persistence",{cell}}}',
        f"streamer_scored_forecasts_total{{{cell}}}",
        f"streamer_skill_ratio{{{cell}}}",
    }


def test_a_total_stays_when_the_rolling_window_has_run_empty(metrics: Metrics, registry: CollectorRegistry) -> None:
    view = scored(["AAPL"])
    view.rmse[:] = NAN
    metrics.watch("prices-0", view)
    metrics.refresh()
    labels = {"stream": "prices-0", "symbol": "AAPL", "forecaster": "served"}
    assert registry.get_sample_value("streamer_squared_error_total", labels) == 90.0
    assert registry.get_sample_value("streamer_rmse", labels) is None


@pytest.mark.parametrize(("served", "persistence"), [(1.0, 0.0), (1.0, NAN), (NAN, 1.0)])
def test_there_is_no_skill_without_an_error_of_both_to_compare(
    metrics: Metrics, registry: CollectorRegistry, served: float, persistence: float
) -> None:
    view = scored(["AAPL"])
    view.rmse[0] = (served, persistence)
    metrics.watch("prices-0", view)
    metrics.refresh()
    assert registry.get_sample_value("streamer_skill_ratio", {"stream": "prices-0", "symbol": "AAPL"}) is None


def test_pairs_of_stream_and_symbol_beyond_the_limit_are_left_out_and_counted(
    registry: CollectorRegistry,
) -> None:
    metrics = Metrics(registry, max_symbol_series=3)
    metrics.watch("a", scored(["s0", "s1"]))
    metrics.watch("b", scored(["s0", "s1"]))
    metrics.watch("c", scored(["s0"]))
    metrics.refresh()
    shown = {line for line in series(registry) if line.startswith("streamer_scored_forecasts_total")}
    assert shown == {
        f'streamer_scored_forecasts_total{{stream="{stream}",symbol="{symbol}"}}'
        for stream, symbol in (("a", "s0"), ("a", "s1"), ("b", "s0"))
    }
    assert registry.get_sample_value("streamer_series_dropped") == 2


def test_a_forgotten_stream_leaves_no_series_behind_and_the_others_all_of_theirs(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    use_everything(metrics, "stays")
    before = series(registry)
    use_everything(metrics, "goes")
    metrics.forget("goes")
    metrics.refresh()
    assert series(registry) == before
    metrics.forget("never seen")


def test_counters_and_histograms_have_no_twin_that_tells_when_they_were_made(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    use_everything(metrics)
    assert not any("_created" in line for line in series(registry))


def test_a_forgotten_stream_may_come_back(metrics: Metrics, registry: CollectorRegistry) -> None:
    for _ in range(2):
        use_everything(metrics)
        assert registry.get_sample_value("streamer_feed_lag_seconds", {"stream": "prices-0"}) is not None
        metrics.forget("prices-0")


def test_a_revoked_partition_has_no_lag(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.consumer_lag.labels("prices", 0).set(3)
    metrics.consumer_lag.labels("prices", 1).set(4)
    metrics.forget_partition("prices", 0)
    lags = {line for line in series(registry) if line.startswith("streamer_consumer_lag_messages")}
    assert lags == {'streamer_consumer_lag_messages{partition="1",topic="prices"}'}


def test_the_lag_of_a_silent_feed_grows(registry: CollectorRegistry) -> None:
    clock = Clock()
    metrics = Metrics(registry, clock=clock)
    metrics.tick_seen("prices-0", 990.0)
    labels = {"stream": "prices-0"}
    assert registry.get_sample_value("streamer_feed_lag_seconds", labels) == 10.0
    clock.now += 60
    assert registry.get_sample_value("streamer_feed_lag_seconds", labels) == 70.0
    metrics.tick_seen("prices-0", 1_050.0)
    assert registry.get_sample_value("streamer_feed_lag_seconds", labels) == 10.0


def test_one_model_is_shown_as_serving_at_a_time(metrics: Metrics, registry: CollectorRegistry) -> None:
    for model in ("m-1", "m-2"):
        metrics.model_serves("prices-0", model, 5.0)
    assert {line for line in series(registry) if "m-" in line} == {'streamer_model_info{model="m-2",stream="prices-0"}'}
    metrics.no_model_serves("prices-0")
    assert not any("prices-0" in line for line in series(registry))


def test_metrics_of_the_process_and_its_version_are_there(registry: CollectorRegistry) -> None:
    Metrics(registry)
    shown = series(registry)
    assert {"process_resident_memory_bytes", "process_open_fds"} <= shown
    assert 'python_gc_collections_total{generation="2"}' in shown
    assert any(line.startswith("python_info{") for line in shown)
    assert registry.get_sample_value("streamer_build_info", {"version": __version__}) == 1


def test_latency_buckets_reach_from_50_microseconds_to_10_seconds_in_small_steps() -> None:
    assert (LATENCY_BUCKETS[0], LATENCY_BUCKETS[-1]) == (5e-5, 10.0)
    steps = np.divide(LATENCY_BUCKETS[1:], LATENCY_BUCKETS[:-1])
    assert steps.min() > 1
    assert steps.max() < 1.7


def test_promtool_finds_nothing_to_complain_of(metrics: Metrics, registry: CollectorRegistry, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: install Debian's package prometheus, as scripts/test does"
    use_everything(metrics)
    page = tmp_path / "metrics"
    page.write_bytes(generate_latest(registry))
    with page.open() as text:
        done = subprocess.run([promtool, "check", "metrics"], stdin=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_openmetrics_page_can_be_parsed_and_its_counters_are_counters(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    use_everything(metrics)
    encode, _ = choose_encoder("application/openmetrics-text; version=1.0.0")
    families = text_string_to_metric_families(encode(registry).decode())
    types = {family.name: family.type for family in families}
    assert types["streamer_squared_error"] == types["streamer_scored_forecasts"] == "counter"
    assert types["streamer_rmse"] == "gauge"
    assert types["streamer_model"] == "info"


def test_a_second_set_of_metrics_on_one_registry_is_refused(registry: CollectorRegistry) -> None:
    Metrics(registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Metrics(registry)


def test_a_scrape_in_another_thread_goes_with_streams_that_come_and_go(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    """No scrape fails, whatever the engines' thread does meanwhile."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def scrape() -> None:
        while not stop.is_set():
            try:
                generate_latest(registry)
            except Exception as error:
                failures.append(error)
                return

    thread = threading.Thread(target=scrape)
    thread.start()
    for i in range(200):
        use_everything(metrics, f"s{i}")
        metrics.forget(f"s{i - 3}")
    stop.set()
    thread.join()
    assert failures == []


async def test_what_keeps_the_event_loop_shows_as_its_lag(metrics: Metrics, registry: CollectorRegistry) -> None:
    def measured(name: str) -> float:
        return registry.get_sample_value(f"streamer_event_loop_lag_seconds_{name}") or 0.0

    task = asyncio.create_task(watch_loop_lag(metrics.event_loop_lag, interval=0.01))
    await eventually(lambda: measured("count") >= 2)
    before = measured("sum")
    time.sleep(0.2)  # what is under test: the loop stands still
    after = await eventually(lambda: measured("sum") > before and measured("sum"))
    assert after - before >= 0.18
    task.cancel()


def test_what_seldom_happens_is_shown_as_0_until_it_does_and_goes_with_its_stream(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    metrics.count_from_zero("prices-0")
    failed = {"stream": "prices-0", "outcome": "failed"}
    assert registry.get_sample_value("streamer_retrains_total", failed) == 0
    metrics.retrains.labels("prices-0", RetrainOutcome.FAILED).inc()
    metrics.count_from_zero("prices-0")
    assert registry.get_sample_value("streamer_retrains_total", failed) == 1
    metrics.forget("prices-0")
    assert not any("prices-0" in line for line in series(registry))
    metrics.count_from_zero("prices-0")
    assert registry.get_sample_value("streamer_retrains_total", failed) == 0
