"""Records that go out: forecasts, dead letters and snapshots, as Kafka sees them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from aiokafka import ConsumerRecord

from streamer.codec import encode_forecast, format_time
from streamer.core.outcome import Forecast

Header = tuple[str, bytes]

FORECAST_TYPE = "streamer.forecast.v1"
NEXT_OFFSET = "next_offset"
"""Header of a snapshot: the input offset that follows what it holds."""

# Brokers refuse records of more than 1 MiB (`message.max.bytes`), headers and framing included.
_LARGEST_DEAD_LETTER = 900_000
_FIRST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """One record to be produced to `topic`, at the partition number of the input."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()


def forecast_record(topic: str, forecast: Forecast, stream: str, source: ConsumerRecord) -> OutputRecord:
    """A forecast, with the attributes of a CloudEvent in binary mode as headers.

    CloudEvents, Kafka protocol binding 1.0.2, section 3.2. `traceparent` of the tick is passed through.
    """
    identity = (source.topic, source.partition, source.offset)
    headers = [
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_id", "{}-{}-{}".format(*identity).encode()),
        ("ce_source", f"/{quote(source.topic, safe='')}/{quote(stream, safe='')}".encode()),
        ("ce_type", FORECAST_TYPE.encode()),
        ("ce_time", format_time(forecast.as_of).encode()),
        *((name, value) for name, value in source.headers if name in ("traceparent", "tracestate")),
    ]
    return OutputRecord(topic, stream.encode(), encode_forecast(forecast, stream, identity), tuple(headers))


def dead_letter_record(topic: str, source: ConsumerRecord, reason: str, detail: str) -> OutputRecord:
    """A message that is no tick: its bytes as they came, and why, under the header names of KIP-1034.

    One too large for the topic carries its first bytes, its full length and its SHA-256.
    """
    headers: list[Header] = [
        ("__streams.errors.exception", reason.encode()),
        ("__streams.errors.message", detail.encode(errors="replace")),
        ("__streams.errors.topic", source.topic.encode()),
        ("__streams.errors.partition", str(source.partition).encode()),
        ("__streams.errors.offset", str(source.offset).encode()),
    ]
    key, value = source.key, source.value
    if _size(key, value, source.headers) > _LARGEST_DEAD_LETTER:
        headers += _digest("key", key) + _digest("value", value)
        key, value = _first(key), _first(value)
    else:
        headers += source.headers
    if key is None and value is None:
        value = b""  # aiokafka sends no record without key and value
    return OutputRecord(topic, key, value, tuple(headers))


def _size(key: bytes | None, value: bytes | None, headers: Iterable[Header]) -> int:
    return len(key or b"") + len(value or b"") + sum(len(name) + len(data or b"") for name, data in headers)


def _digest(part: str, data: bytes | None) -> list[Header]:
    if data is None:
        return []
    return [
        (f"streamer.original.{part}.length", str(len(data)).encode()),
        (f"streamer.original.{part}.sha256", hashlib.sha256(data).hexdigest().encode()),
    ]


def _first(data: bytes | None) -> bytes | None:
    return None if data is None else data[:_FIRST_BYTES]
