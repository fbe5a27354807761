"""Streams beyond the number that has series of its own."""

from collections.abc import Callable
from typing import NoReturn

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from streamer.codec import DecodeLimits
from streamer.core.engine import ForecastEngine
from streamer.core.outcome import Rejected, Step
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.service.metrics import Metrics, RetrainOutcome
from streamer.service.partition import Batch, Partition, PartitionSettings, Stream
from streamer.service.telemetry import Telemetry

SETTINGS = EngineSettings(symbols=("A", "B"))
MINUTE = 60_000


class Watched:
    """Two streams with series of their own at most. now: seconds."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry, max_stream_series=2, clock=lambda: self.now)
        self.telemetry = Telemetry(self.metrics)
        settings = PartitionSettings(SETTINGS, DecodeLimits(1, 1, 1), 9, 1, 1, "forecasts", "letters", "state", "me")

        def load(stream: str, model_id: str) -> NoReturn:
            raise AssertionError(f"{stream} has no model {model_id}")

        self.partition = Partition("prices", 0, settings, load)

    def fed(self, **ticks: int) -> None:
        """So many ticks of each stream, in one batch."""
        batch = Batch(1)
        for name, count in ticks.items():
            stream = self.partition.streams.setdefault(name, Stream(name, ForecastEngine(SETTINGS)))
            for _ in range(count):
                time = 0 if stream.last is None else stream.last + MINUTE
                batch.steps.append((stream, stream.process(Tick(time, {"A": 1.0, "B": 2.0}))))
        self.telemetry.committed(self.partition, batch, [], 0.0, None)

    def expire(self, name: str) -> None:
        """`name` has been without a tick for too long."""
        del self.partition.streams[name]
        self.telemetry.committed(self.partition, Batch(1, expired=[name]), [], 0.0, None)

    def value(self, name: str, stream: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"streamer_{name}", {"stream": stream} | labels)

    def forecasts(self, stream: str) -> float | None:
        return self.value("ticks_total", stream, status="forecast")

    def lines(self) -> set[str]:
        text = generate_latest(self.registry).decode().splitlines()
        return {line.rpartition(" ")[0] for line in text if "stream=" in line and "symbol=" not in line}


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_what_is_counted_of_those_beyond_is_counted_together_so_that_no_sum_misses_it(watched: Watched) -> None:
    watched.fed(a=1, b=2, c=3, d=4)
    watched.fed(c=1, a=1)
    assert [watched.forecasts(stream) for stream in ("a", "b", "")] == [2, 2, 8]
    assert watched.forecasts("c") is None
    assert watched.registry.get_sample_value("streamer_streams_beyond_limit") == 2


def test_they_take_no_more_series_however_many_they_are(watched: Watched) -> None:
    watched.fed(a=1, b=1, c=1)
    before = watched.lines()
    watched.fed(**{f"more{number}": 1 for number in range(50)})
    assert watched.lines() == before


def test_gauges_that_are_of_one_stream_alone_are_left_out(watched: Watched) -> None:
    watched.fed(a=1, b=1, c=1)
    for name in ("window_fill_ratio", "history_fill_ratio"):
        assert watched.value(name, "a") is not None
        assert watched.value(name, "") is None


def test_one_that_is_stale_shows_in_the_lag_of_all(watched: Watched) -> None:
    """So that the alert on a stale feed fires, though it cannot name which."""
    watched.fed(a=1, b=1, c=11, d=21)
    watched.now = 20 * 60.0
    for name in ("c", "d"):
        watched.metrics.feed_expected(name, lambda time: True)
    assert watched.value("feed_lag_seconds", "") == 10 * 60.0
    assert watched.value("feed_open", "") == 1.0


@pytest.mark.parametrize(
    "is_expected",
    [lambda time: False, lambda time: time >= 1_200_000 - 5 * MINUTE],
    ids=["is closed", "has opened five minutes ago"],
)
def test_one_whose_feed_is_closed_or_has_just_opened_does_not(
    watched: Watched, is_expected: Callable[[int], bool]
) -> None:
    watched.fed(a=1, b=1, c=11, d=21)
    watched.now = 20 * 60.0
    watched.metrics.feed_expected("c", is_expected)
    watched.metrics.feed_expected("d", lambda time: True)
    assert watched.value("feed_lag_seconds", "") == 0.0


def test_its_trainings_are_counted_with_the_others(watched: Watched) -> None:
    watched.fed(a=1, b=1, c=1)
    watched.metrics.retrains.labels(watched.metrics.label("c"), RetrainOutcome.FAILED).inc()
    assert watched.value("retrains_total", "", outcome="failed") == 1


def test_a_model_that_serves_it_has_no_series(watched: Watched) -> None:
    watched.fed(a=1, b=1, c=1)
    watched.metrics.model_serves("c", "m", 5.0)
    assert not any("model_info" in line for line in watched.lines())


def test_it_has_its_own_as_soon_as_another_is_gone(watched: Watched) -> None:
    watched.fed(a=1, b=1, c=3)
    watched.expire("a")
    watched.fed(c=2)
    assert (watched.forecasts("c"), watched.value("window_fill_ratio", "c")) == (2, 5 / 100)
    assert watched.registry.get_sample_value("streamer_streams_beyond_limit") == 0


def test_with_the_last_of_them_their_series_go(watched: Watched) -> None:
    watched.fed(a=1, b=1)
    before = watched.lines()
    watched.fed(c=1)
    assert watched.lines() != before
    watched.expire("c")
    assert watched.lines() == before


def test_a_batch_is_counted_as_its_ticks_would_be_one_by_one() -> None:
    together, single = Watched(), Watched()
    together.fed(a=5)
    for _ in range(5):
        single.fed(a=1)
    assert [each.forecasts("a") for each in (together, single)] == [5, 5]
    assert together.lines() == single.lines()


def test_records_without_a_stream_count_under_the_partitions_name(watched: Watched) -> None:
    rejected = Step(Rejected("malformed", "no JSON"))
    watched.telemetry.committed(watched.partition, Batch(2, steps=[(None, rejected)] * 2), [], 0.0, None)
    assert watched.value("ticks_total", "prices-0", status="dead_letter") == 2


def test_a_stream_that_was_restored_is_shown_by_its_new_engine(watched: Watched) -> None:
    watched.fed(a=5)
    watched.partition.streams = {"a": Stream("a", ForecastEngine(SETTINGS))}
    watched.telemetry.restored(watched.partition, 0.1)
    watched.fed(a=1)
    assert (watched.forecasts("a"), watched.value("window_fill_ratio", "a")) == (6, 1 / 100)


def test_a_stream_that_expires_and_is_back_in_one_batch_is_shown_by_its_new_engine(watched: Watched) -> None:
    watched.fed(a=5)
    anew = Stream("a", ForecastEngine(SETTINGS))
    watched.partition.streams["a"] = anew
    steps: list[tuple[Stream | None, Step]] = [(anew, anew.process(Tick(0, {"A": 1.0, "B": 2.0})))]
    watched.telemetry.committed(watched.partition, Batch(2, steps=steps, expired=["a"]), [], 0.0, None)
    assert (watched.forecasts("a"), watched.value("window_fill_ratio", "a")) == (6, 1 / 100)
