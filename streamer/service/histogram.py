"""A histogram for Prometheus that takes a batch of values at once."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString


class BatchHistogram:
    """As the library's without labels, which looks through its buckets, and takes two locks, for each value.

    Args:
        name: Without suffix.
        documentation: What it measures.
        buckets: Upper bounds, rising, without the infinite one.
        registry: Where it is registered.
    """

    def __init__(self, name: str, documentation: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = list(buckets)
        self._les = [floatToGoString(bound) for bound in (*buckets, float("inf"))]
        self._counts = [0] * len(self._les)
        self._sum = 0.0
        registry.register(self)

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, so many times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def observe_each(self, values: Iterable[float]) -> None:
        """Count all of `values`."""
        for value in values:
            self.observe(value)

    def collect(self) -> Iterable[Metric]:
        """The metric as it stands. Any thread: its count is that of its buckets."""
        total, buckets = 0, []
        for le, count in zip(self._les, list(self._counts), strict=True):
            total += count
            buckets.append((le, float(total)))
        family = HistogramMetricFamily(self._name, self._documentation)
        family.add_metric((), buckets, self._sum)
        yield family

    def describe(self) -> Iterable[Metric]:
        """The metric without series, from which a registry sees a clash of names."""
        yield HistogramMetricFamily(self._name, self._documentation, labels=())
