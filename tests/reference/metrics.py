"""Every metric, from a registry as the daemon has it."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from prometheus_client import CollectorRegistry, Metric

from streamer.core.forecaster import FORECASTERS
from streamer.core.policy import Reason
from streamer.service.metrics import Metrics, ModelKind, RetrainOutcome, TickStatus
from tests.reference.markdown import code, table

_SUFFIX = {"counter": "_total", "info": "_info"}
_VALUES: dict[str, type[StrEnum]] = {"status": TickStatus, "model_kind": ModelKind, "outcome": RetrainOutcome}
_LIBRARY = ("process_", "python_")


def families() -> Iterator[tuple[Metric, tuple[str, ...]]]:
    """Each metric with the names of its labels."""
    registry = CollectorRegistry()
    Metrics(registry)
    for collector in list(registry._collector_to_names):
        described: Any = collector
        for family in getattr(described, "describe", described.collect)():
            labels = getattr(described, "_labelnames", None) or getattr(family, "_labelnames", None)
            seen = family.samples[0].labels if family.samples else ()
            yield family, tuple(seen if labels is None else labels)


def shown_name(family: Metric) -> str:
    """As a query names it; of a histogram without _bucket, _sum and _count."""
    return family.name + _SUFFIX.get(family.type, "")


def metrics() -> str:
    """A table of ours, and one of those that every Python process has."""
    rows = [
        (code(shown_name(family)), family.type, _labels(family, labels), family.documentation)
        for family, labels in families()
    ]
    ours = [row for row in rows if not row[0].startswith(tuple(f"`{prefix}" for prefix in _LIBRARY))]
    rest = [row for row in rows if row not in ours]
    head = ("name", "type", "labels", "what")
    library = "Of the process and the interpreter, as every Python program has them (memory, CPU, files, collections):"
    return f"{table(head, ours)}\n\n{library}\n\n{table(head, rest)}"


def _labels(family: Metric, labels: tuple[str, ...]) -> str:
    own = {"info": {"streamer_build": ("version",), "streamer_model": ("model",)}.get(family.name, ())}
    return ", ".join(_label(family, name) for name in (*labels, *own.get(family.type, ())))


def _label(family: Metric, name: str) -> str:
    values: tuple[str, ...] = tuple(_VALUES[name]) if name in _VALUES else ()
    if name == "forecaster":
        values = tuple(FORECASTERS)
    if family.name == "streamer_retrains_requested":
        values = tuple(Reason) if name == "reason" else values
    elif name == "reason":
        return f"{code(name)} (see [dead letters](#reasons-of-dead-letters))"
    return code(name) + (f" ({', '.join(values)})" if values else "")
