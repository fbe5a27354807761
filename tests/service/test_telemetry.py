"""What the log says of the streams."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streamer.codec import DecodeLimits
from streamer.core.engine import ForecastEngine
from streamer.core.levels import Change
from streamer.core.outcome import Step
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.service.metrics import Metrics
from streamer.service.partition import Batch, Partition, PartitionSettings, Stream
from streamer.service.telemetry import Telemetry

SETTINGS = EngineSettings(symbols=("A", "B"))


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry(Metrics(CollectorRegistry()))


def partition(stream: Stream) -> Partition:
    settings = PartitionSettings(SETTINGS, DecodeLimits(1, 1, 1), 1, 1, 1, "forecasts", "dead-letters", "state", "me")

    def load(stream: str, model_id: str) -> NoReturn:
        raise AssertionError(f"{stream} has no model {model_id}")

    return Partition("prices", 0, settings, load, streams={stream.name: stream})


def fed(prices: Sequence[float], settings: EngineSettings = SETTINGS) -> tuple[Stream, list[Step]]:
    """A stream that has seen `prices` of B, and what came of each."""
    engine = ForecastEngine(settings)
    steps = [engine.process(Tick(60_000 * i, {"A": 1.0, "B": price})) for i, price in enumerate(prices)]
    return Stream("s", engine), steps


def said(logs: Sequence[Mapping[str, object]]) -> list[object]:
    return [entry["symbols"] for entry in logs if "not all positive" in str(entry["event"])]


def test_a_symbol_whose_changes_become_differences_is_said_once(telemetry: Telemetry) -> None:
    stream, steps = fed([1.0, -1.0, 1.0, -2.0])
    batch = Batch(4, steps=[(stream, step) for step in steps])
    with capture_logs() as logs:
        telemetry.committed(partition(stream), batch, [], 0.0, None)
    assert said(logs) == [("B",)]


def test_it_is_said_again_by_the_next_process(telemetry: Telemetry) -> None:
    stream, _ = fed([1.0, -1.0, 1.0])
    with capture_logs() as logs:
        telemetry.restored(partition(stream), 0.1)
    assert said(logs) == [("B",)]


@pytest.mark.parametrize("change", [Change.LOG_RETURN, Change.DIFFERENCE])
def test_what_the_settings_ask_for_is_not_said(change: Change, telemetry: Telemetry) -> None:
    stream, steps = fed([1.0, -1.0, 1.0], replace(SETTINGS, change=change))
    with capture_logs() as logs:
        telemetry.committed(partition(stream), Batch(3, steps=[(stream, step) for step in steps]), [], 0.0, None)
        telemetry.restored(partition(stream), 0.1)
    assert said(logs) == []


def test_the_time_of_the_last_forecast_is_not_moved_by_a_tick_that_is_dropped() -> None:
    metrics = Metrics(CollectorRegistry())
    telemetry, (stream, [step]) = Telemetry(metrics), fed([1.0])
    late = stream.engine.process(Tick(-60_000, {"A": 1.0, "B": 1.0}))

    def shown() -> float | None:
        return metrics.registry.get_sample_value("streamer_last_forecast_timestamp_seconds", {"stream": "s"})

    telemetry.committed(partition(stream), Batch(1, steps=[(stream, late)]), [], 0.0, None)
    assert shown() is None
    telemetry.committed(partition(stream), Batch(2, steps=[(stream, step)]), [], 0.0, None)
    assert shown() is not None


def test_that_time_has_restarted_is_said_once(telemetry: Telemetry) -> None:
    stream, _ = fed([1.0] * 20)
    again = [stream.engine.process(Tick(60_000 * i, {"A": 1.0, "B": 1.0})) for i in range(SETTINGS.late_reset + 3)]
    with capture_logs() as logs:
        telemetry.committed(partition(stream), Batch(3, steps=[(stream, step) for step in again]), [], 0.0, None)
    assert [entry["stream"] for entry in logs if "time has restarted" in str(entry["event"])] == ["s"]


def test_a_feed_that_is_silent_since_before_the_start_has_its_lag_shown() -> None:
    metrics = Metrics(CollectorRegistry(), clock=lambda: 1_000.0)
    stream, _ = fed([1.0, 1.0])
    Telemetry(metrics).restored(partition(stream), 0.1)
    assert metrics.registry.get_sample_value("streamer_feed_lag_seconds", {"stream": "s"}) == 1_000.0 - 60.0
    assert metrics.registry.get_sample_value("streamer_window_fill_ratio", {"stream": "s"}) == 2 / 100


@pytest.mark.parametrize("opening", [0.0, 60.0])
def test_a_bar_that_is_stamped_at_its_open_is_no_older_than_its_close(opening: float) -> None:
    """As the daemon shows it, and again when it has just been restored."""
    metrics = Metrics(CollectorRegistry(), clock=lambda: 1_000.0)
    telemetry, (stream, steps) = Telemetry(metrics, known_after=opening), fed([1.0, 1.0])
    batch = Batch(2, steps=[(stream, step) for step in steps])

    def lag() -> float | None:
        return metrics.registry.get_sample_value("streamer_feed_lag_seconds", {"stream": "s"})

    telemetry.committed(partition(stream), batch, [], 0.0, None)
    assert lag() == 940.0 - opening
    telemetry.restored(partition(stream), 0.1)
    assert lag() == 940.0 - opening


def test_the_coverage_that_was_asked_for_and_dead_letters_without_a_stream_are_shown_from_the_start() -> None:
    registry = CollectorRegistry()
    stream, _ = fed([1.0], replace(SETTINGS, coverage=0.8))
    Telemetry(Metrics(registry)).restored(partition(stream), 0.1)
    assert registry.get_sample_value("streamer_interval_coverage_target_ratio") == 0.8
    dead = {"stream": "prices-0", "status": "dead_letter"}
    assert registry.get_sample_value("streamer_ticks_total", dead) == 0


def test_what_was_shown_before_a_partition_began_anew_goes_with_it() -> None:
    """It is empty until it is restored, and may be given away before that."""
    registry = CollectorRegistry()
    telemetry, (stream, _) = Telemetry(Metrics(registry)), fed([1.0])
    telemetry.restored(partition(stream), 0.1)
    assert registry.get_sample_value("streamer_feed_open", {"stream": "s"}) is not None

    anew = partition(stream)
    anew.streams = {}
    telemetry.gone(anew)

    assert registry.get_sample_value("streamer_feed_open", {"stream": "s"}) is None


def test_records_without_a_stream_take_no_place_of_a_stream() -> None:
    registry = CollectorRegistry()
    telemetry, (stream, _) = Telemetry(Metrics(registry, max_stream_series=1)), fed([1.0])
    telemetry.restored(partition(stream), 0.1)
    assert registry.get_sample_value("streamer_feed_open", {"stream": "s"}) is not None
    assert registry.get_sample_value("streamer_streams_beyond_limit") == 0
