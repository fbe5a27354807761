"""A histogram that takes a batch at once says what the library's would."""

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.exposition import choose_encoder

from streamer.service.histogram import BatchHistogram

BOUNDS = (0.001, 0.01, 0.5, 1.0)
VALUES = (0.0, 0.001, 0.0011, 0.5, 0.7, 1.0, 1.5, 0.0011)


def pages(registry: CollectorRegistry) -> list[str]:
    """In both formats that Prometheus asks for."""
    encode, _ = choose_encoder("application/openmetrics-text; version=1.0.0")
    return [generate_latest(registry).decode(), encode(registry).decode()]


def test_values_fall_into_the_buckets_of_the_library() -> None:
    """A value on a bound counts below it, and one above the last nowhere but in the whole."""
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("spent_seconds", "What it took", buckets=BOUNDS, registry=theirs)
    for value in VALUES:
        histogram.observe(value)
    BatchHistogram("spent_seconds", "What it took", BOUNDS, ours).observe_each(VALUES)
    shown, expected = ["\n".join(pages(registry)).splitlines() for registry in (ours, theirs)]
    assert shown == [line for line in expected if "_created" not in line]


def test_a_value_that_came_so_many_times_is_counted_so_often() -> None:
    once, together = CollectorRegistry(), CollectorRegistry()
    BatchHistogram("s", "x", BOUNDS, once).observe_each([0.25] * 4)
    BatchHistogram("s", "x", BOUNDS, together).observe(0.25, 4)
    assert pages(once) == pages(together)
    assert together.get_sample_value("s_count") == 4


def test_a_name_is_taken_once() -> None:
    registry = CollectorRegistry()
    BatchHistogram("s", "x", BOUNDS, registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        BatchHistogram("s", "x", BOUNDS, registry)
