"""Kafka records as lines for people and for programs.

What stands in a record may be anybody's: a line never fails on it, and what could steer a terminal is escaped.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiokafka import ConsumerRecord

from streamer import decoding
from streamer.codec import format_time, shown
from streamer.codecs import Codec
from streamer.codecs.json_text import JsonCodec
from streamer.control import asked
from streamer.core.tick import Tick
from streamer.dead_letters import DeadLetter, plain
from streamer.decoding import Decoder
from streamer.errors import DecodeError

if TYPE_CHECKING:
    from streamer.settings import Settings

_EXCERPT = 80


@dataclass(frozen=True, slots=True)
class Formats:
    """How the values of our topics are read. feed: of prices. forecasts: of forecasts."""

    feed: Decoder
    forecasts: Codec

    @classmethod
    def of(cls, settings: "Settings") -> "Formats":
        """As the settings have them. ConfigError where a codec is unknown, or refuses its options."""
        return cls(decoding.decoder(settings), decoding.encoder(settings))

    async def prepare(self, topic: str, records: list[ConsumerRecord]) -> None:
        """Comes before records of `topic` are shown. RegistryError."""
        if topic == "prices":
            await self.feed.prepare(records)
        elif topic == "forecasts":
            await decoding.prepare(self.forecasts, records)


def as_text(topic: str, record: ConsumerRecord, width: int | None, formats: Formats) -> str:
    """One line; `width` columns at most are filled with symbols, all of them where it is None.

    topic: `forecasts`, `prices` or `dead-letters`.
    """
    if topic == "dead-letters":
        return _dead_letter_line(record)
    if topic == "prices":
        if (asks := asked(record.headers)) is not None:
            return escaped(f"{_place(record)}  control: {plain(asks)} {_excerpt(record.value)}")
        try:
            return tick_line(record, *formats.feed.decode(record), width)
        except DecodeError as error:
            return problem_line(record, error)
    try:
        message: Any = formats.forecasts.decode(record.value)
        return _forecast_line(message, width)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError, DecodeError):
        return f"{_place(record)}  not understood: {_excerpt(record.value)}"


def as_json(topic: str, record: ConsumerRecord, formats: Formats) -> str:
    """One line of JSON: the value as it was sent, or as its codec reads it; of a dead letter its reason and source."""
    if topic == "dead-letters":
        return json.dumps({**DeadLetter.of(record).as_json(), "value": plain(record.value)})
    codec = formats.feed.codec if topic == "prices" else formats.forecasts
    try:
        if not isinstance(codec, JsonCodec):
            return json.dumps(codec.decode(record.value or b""), default=str)
        text = (record.value or b"null").decode()
        message = json.loads(text)
    except (ValueError, TypeError, RecursionError, DecodeError):
        return json.dumps(plain(record.value))
    return json.dumps(message) if "\n" in text or "\r" in text else text


def value_of(record: ConsumerRecord, formats: Formats) -> Any:
    """The value of a forecast's record in plain values, None where it is none."""
    try:
        return formats.forecasts.decode(record.value)
    except (TypeError, ValueError, RecursionError, DecodeError):
        return None


def tick_json(record: ConsumerRecord, stream: str | None, tick: Tick) -> str:
    """One line of JSON of a tick; a blank is null."""
    prices = {symbol: price if math.isfinite(price) else None for symbol, price in tick.prices.items()}
    return json.dumps(
        {"record": _place(record), "stream": _stream(record, stream), "time": format_time(tick.time), "prices": prices}
    )


def problem_json(record: ConsumerRecord, error: DecodeError) -> str:
    """One line of JSON of a record that is no tick."""
    return json.dumps({"record": _place(record), "reason": error.reason, "detail": error.detail})


def tick_line(record: ConsumerRecord, stream: str | None, tick: Tick, width: int | None) -> str:
    """A tick: its record, time, stream, and the price of each symbol."""
    head = escaped(f"{_place(record)}  {format_time(tick.time)}  {_stream(record, stream)}")
    return _fitted(head, (escaped(f"{symbol} {_number(price)}") for symbol, price in tick.prices.items()), width)


def problem_line(record: ConsumerRecord, error: DecodeError) -> str:
    """A record that is no tick: why, and how it begins."""
    return escaped(f"{_place(record)}  {error.reason}: {error.detail}  {_excerpt(record.value)}")


def _forecast_line(message: Mapping[str, Any], width: int | None) -> str:
    lower, upper, last = message["yhat_lower"], message["yhat_upper"], message["last"]
    head = f"{message['as_of']} -> {message['target']}  {message['stream']}  {message['model']:<12}"
    parts = (
        f"{symbol} {_number(last[symbol])} -> {_number(yhat)} [{_number(lower[symbol])}, {_number(upper[symbol])}]"
        for symbol, yhat in message["yhat"].items()
    )
    return _fitted(escaped(head), (escaped(part) for part in parts), width)


def _dead_letter_line(record: ConsumerRecord) -> str:
    letter = DeadLetter.of(record)
    return escaped(f"{letter.source}  {letter.reason}: {letter.detail}  {_excerpt(record.value)}")


def _fitted(head: str, parts: Iterable[str], width: int | None) -> str:
    """`head` and as many of `parts` as there is room for, at least one; then how many were left out."""
    pieces = list(parts)
    line = head
    for position, piece in enumerate(pieces):
        left = len(pieces) - position
        longer = f"{line}  {piece}"
        room_for_rest = len(f"  +{left - 1}") if left > 1 else 0
        if width is not None and position and len(longer) + room_for_rest > width:
            return f"{line}  +{left}"
        line = longer
    return line


def _number(value: object) -> str:
    """Ten columns, six digits: aligned for prices of any size; a blank is a dash."""
    if value is None or value != value:
        return f"{'-':>10}"
    return f"{float(value):>10.6g}" if isinstance(value, int | float) else shown(value)


def _place(record: ConsumerRecord) -> str:
    return f"{record.topic}-{record.partition}-{record.offset}"


def _stream(record: ConsumerRecord, stream: str | None) -> str:
    return stream or f"{record.topic}-{record.partition}"


def _excerpt(value: bytes | None) -> str:
    text = plain(value)
    return "no value" if text is None else escaped(text if len(text) <= _EXCERPT else text[:_EXCERPT] + "...")


def escaped(text: str) -> str:
    """`text` without what could steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
