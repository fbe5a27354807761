"""Records that go out: forecasts, dead letters and snapshots, as Kafka sees them."""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from aiokafka import ConsumerRecord

from streamer import dead_letters
from streamer.codecs import Codec
from streamer.core.outcome import Forecast, Rejected
from streamer.dead_letters import Header
from streamer.encoding import forecast_message

FORECAST_TYPE = "streamer.forecast.v1"
NEXT_OFFSET = "next_offset"
"""Header of a snapshot: the input offset that follows what it holds."""

LARGEST_DEAD_LETTER = 1_000_000
"""Bytes, where the topic's limit is not known: Kafka's own, `max.message.bytes`, is 1,048,588."""

SMALLEST_DEAD_LETTER = 4096
"""Bytes that a topic for dead letters must take: the headers that say what a message was and why it is here."""

_SPECVERSION = ("ce_specversion", b"1.0")
_TYPE = ("ce_type", FORECAST_TYPE.encode())
_PASSED_ON = ("traceparent", "tracestate")
_FIRST_BYTES = 64 * 1024
_DETAIL_BYTES = 1000
_STACKTRACE_BYTES = 8 * 1024

# Kafka's message format, version 2: 61 bytes of a batch, up to 31 of a record, up to 10 of each header's lengths.
_RECORD_FRAME = 96
_HEADER_FRAME = 10


class OutputRecord(NamedTuple):
    """One record to be produced to `topic`, at the partition number of the input."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()


def forecast_record(topic: str, forecast: Forecast, stream: str, source: ConsumerRecord, codec: Codec) -> OutputRecord:
    """A forecast, with the attributes of a CloudEvent in binary mode as headers.

    CloudEvents, Kafka protocol binding 1.0.2, section 3.2. `traceparent` of the tick is passed through. Raises
    what the codec does, TypeError where it gives no bytes.
    """
    message = forecast_message(forecast, stream, (source.topic, source.partition, source.offset))
    headers: tuple[Header, ...] = (
        ("content-type", codec.content_type.encode()),
        _SPECVERSION,
        ("ce_id", message["id"].encode()),
        ("ce_source", _event_source(source.topic, stream)),
        _TYPE,
        ("ce_time", message["as_of"].encode()),
    )
    if source.headers:
        headers += tuple([each for each in source.headers if each[0] in _PASSED_ON])
    value: object = codec.encode(message)
    if not isinstance(value, bytes):
        raise TypeError(f"encode gave {type(value).__name__}, expected bytes")
    return OutputRecord(topic, stream.encode(), value, headers)


@lru_cache(maxsize=4096)
def _event_source(topic: str, stream: str) -> bytes:
    return f"/{quote(topic, safe='')}/{quote(stream, safe='')}".encode()


def dead_letter_record(
    topic: str, source: ConsumerRecord, rejected: Rejected, largest: int = LARGEST_DEAD_LETTER
) -> OutputRecord:
    """A message that is no tick: its bytes as they came, and why, under the header names of KIP-1034.

    One of more than `largest` bytes with its headers and framing carries its first bytes, its full length and its
    SHA-256.
    """
    errors = _error_headers(source, rejected)
    key, value, headers = source.key, source.value, [*source.headers, *errors]
    if _size(key, value, headers) > largest:
        key, value, headers = _cut(source, errors, largest)
    if key is None and value is None:
        value = b""  # aiokafka sends no record without key and value
    return OutputRecord(topic, key, value, tuple(headers))


def _error_headers(source: ConsumerRecord, rejected: Rejected) -> list[Header]:
    headers = [
        (dead_letters.REASON, rejected.reason.encode()),
        (dead_letters.DETAIL, rejected.detail.encode(errors="replace")[:_DETAIL_BYTES]),
        (dead_letters.TOPIC, source.topic.encode()),
        (dead_letters.PARTITION, str(source.partition).encode()),
        (dead_letters.OFFSET, str(source.offset).encode()),
        (dead_letters.TIMESTAMP, str(source.timestamp).encode()),
    ]
    if rejected.stacktrace:
        headers.append((dead_letters.STACKTRACE, rejected.stacktrace.encode(errors="replace")[-_STACKTRACE_BYTES:]))
    return headers


def _cut(
    source: ConsumerRecord, errors: Iterable[Header], largest: int
) -> tuple[bytes | None, bytes | None, list[Header]]:
    """Key, value and headers of a dead letter that has room for the beginning of its message only."""
    headers = [
        *(header for header in errors if header[0] != dead_letters.STACKTRACE),
        *_digest("key", source.key),
        *_digest("value", source.value),
        (dead_letters.HEADERS, str(len(source.headers)).encode()),
    ]
    room = max(0, largest - _size(None, None, headers))
    key = _first(source.key, room // 2)
    return key, _first(source.value, room - len(key or b"")), headers


def _size(key: bytes | None, value: bytes | None, headers: Iterable[Header]) -> int:
    """Bytes of a record batch that holds one record, at most."""
    parts = sum(len(name) + len(data or b"") + _HEADER_FRAME for name, data in headers)
    return _RECORD_FRAME + len(key or b"") + len(value or b"") + parts


def _digest(part: str, data: bytes | None) -> list[Header]:
    if data is None:
        return []
    return [
        (dead_letters.length_of(part), str(len(data)).encode()),
        (dead_letters.sha256_of(part), hashlib.sha256(data).hexdigest().encode()),
    ]


def _first(data: bytes | None, room: int) -> bytes | None:
    return None if data is None else data[: min(room, _FIRST_BYTES)]
