"""Records as the decoder takes them, without a broker."""

from dataclasses import dataclass
from typing import Any

from streamer.codec import DecodeLimits
from streamer.codecs import Codec
from streamer.codecs.json_text import JsonCodec
from streamer.core.tick import Tick
from streamer.decoding import Decoder
from streamer.mapping import RecordMapping

LIMITS = DecodeLimits(message_bytes=10_000, symbols=5, symbol_length=10)


@dataclass
class Record:
    """What a decoder reads of aiokafka's `ConsumerRecord`."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: Any = 0


def decode(
    value: bytes | None, limits: DecodeLimits, symbols: tuple[str, ...] = (), *, record_time: int | None = None
) -> Tick:
    """The tick of a message in the form of the default."""
    return Decoder(JsonCodec(), RecordMapping(), limits, symbols).decode(Record(value, timestamp=record_time))[1]


def decoded(
    record: Record,
    mapping: RecordMapping,
    symbols: tuple[str, ...] = (),
    codec: Codec | None = None,
    limits: DecodeLimits = LIMITS,
) -> tuple[str | None, Tick]:
    """Name of the stream, and tick."""
    return Decoder(codec or JsonCodec(), mapping, limits, symbols).decode(record)
