"""Kafka record values, to and from the engine's types.

A message is checked by hand and not by a schema library: this runs once per tick, in microseconds. Whatever
the bytes are, `decode` gives a `Tick` or raises `DecodeError`, nothing else.
"""

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NoReturn

from streamer.core.outcome import Forecast
from streamer.core.tick import Tick
from streamer.errors import DecodeError

END_OF_TIME = 7_258_118_400_000
"""2200-01-01T00:00:00Z in ms, the first time refused: micro- or nanoseconds sent for ms lie far beyond it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

# RFC 3339's profile of ISO-8601, and the shorter forms that databases print (no seconds, "+00"). The pattern
# stands before `datetime.fromisoformat` since that takes more, and not the same in each version of Python.
_ISO_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[T ](?:[01]\d|2[0-3]):[0-5]\d(?::\d\d(?:[.,]\d+)?)?"
    r"(?P<zone>Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?",
    re.ASCII,
)

_SHOWN_LENGTH = 60
_SHOWN_BITS = 128


class DecodeReason(StrEnum):
    """Why a message is no tick. Few and fixed: each is a metric label and a dead letter's header."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    INVALID_TIME = "invalid_time"
    TOO_MANY_SYMBOLS = "too_many_symbols"
    SYMBOL_TOO_LONG = "symbol_too_long"
    INVALID_SYMBOL = "invalid_symbol"
    LENGTH_MISMATCH = "length_mismatch"


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Bounds on a message: its bytes, the symbols in it, the characters of a symbol."""

    message_bytes: int
    symbols: int
    symbol_length: int


def decode(
    value: bytes | None,
    limits: DecodeLimits,
    symbols: tuple[str, ...] = (),
    *,
    record_time: int | None = None,
) -> Tick:
    """Read `{"ts": ..., "prices": {"AAPL": 190.1, "MSFT": null}}`, or prices as a list ordered as `symbols`.

    A blank price (null, NaN, infinite, too large for a float) is NaN in the tick: its symbol is still known.
    Further top-level fields are ignored. `record_time` is the Kafka record's timestamp in ms.

    Raises `DecodeError` with a `DecodeReason`.
    """
    message = _parse_object(value, limits)
    if "ts" not in message:
        _fail(DecodeReason.MISSING_FIELD, "ts")
    if "prices" not in message:
        _fail(DecodeReason.MISSING_FIELD, "prices")
    time = parse_time(message["ts"])
    prices = message["prices"]
    if isinstance(prices, dict):
        return Tick(time, _price_map(prices, limits), record_time)
    if isinstance(prices, list):
        return Tick(time, _price_list(prices, symbols), record_time)
    _fail(DecodeReason.WRONG_TYPE, f"prices: found {shown(prices)}, expected an object")


def parse_time(value: object) -> int:
    """Milliseconds since the Unix epoch, within [0, `END_OF_TIME`).

    Takes a whole number of ms, or ISO-8601 text with a zone, of which digits below a millisecond are floored.
    Leap seconds (`:60`) are invalid: the epoch's count has no place for them.

    Raises `DecodeError` (`wrong_type`, `invalid_time`).
    """
    if isinstance(value, str):
        time = _parse_iso(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        time = value
    elif isinstance(value, float):
        if not value.is_integer():  # false for NaN and the infinities too
            _fail(DecodeReason.INVALID_TIME, f"ts: found {value}, expected whole milliseconds")
        time = int(value)
    else:
        _fail(DecodeReason.WRONG_TYPE, f"ts: found {shown(value)}, expected ISO-8601 or epoch milliseconds")
    if not 0 <= time < END_OF_TIME:
        _fail(DecodeReason.INVALID_TIME, f"ts: found {shown(value)}, expected 1970 to 2199, in milliseconds")
    return time


def is_symbol(text: str) -> bool:
    """Whether `text` can name a symbol: not empty, and printable (no control character or lone surrogate)."""
    return text != "" and text.isprintable()


def shown(value: object) -> str:
    """A value as a message to a person shows it: one short line, containers by their kind alone."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return "a huge integer"  # Python refuses to print one of more than 4,300 digits
    text = repr(value)
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 3] + "..."


class _Ambiguous(dict[str, Any]):
    """An object in which a key stands twice: refused where it is read, ignored where it is not."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    return unique if len(unique) == len(pairs) else _Ambiguous(unique)


_JSON = json.JSONDecoder(object_pairs_hook=_object)


def _parse_object(value: bytes | None, limits: DecodeLimits) -> dict[str, Any]:
    if not value:
        _fail(DecodeReason.EMPTY, "no value")
    if len(value) > limits.message_bytes:
        _fail(DecodeReason.TOO_LARGE, f"{len(value)} bytes, at most {limits.message_bytes}")
    try:
        message = _JSON.decode(value.decode())
    except ValueError as error:  # not UTF-8, not JSON, an integer of thousands of digits
        _fail(DecodeReason.MALFORMED, str(error))
    except RecursionError:
        _fail(DecodeReason.MALFORMED, "nested too deeply")
    if not isinstance(message, dict):
        _fail(DecodeReason.WRONG_TYPE, f"found {shown(message)}, expected an object")
    _refuse_ambiguous(message, "message")
    return message


def _refuse_ambiguous(found: dict[str, Any], field: str) -> None:
    if isinstance(found, _Ambiguous):
        _fail(DecodeReason.MALFORMED, f"{field}: a key stands twice")


def _price_map(prices: dict[str, Any], limits: DecodeLimits) -> dict[str, float]:
    _refuse_ambiguous(prices, "prices")
    if len(prices) > limits.symbols:
        _fail(DecodeReason.TOO_MANY_SYMBOLS, f"prices: {len(prices)} symbols, at most {limits.symbols}")
    longest = limits.symbol_length
    for symbol, price in prices.items():
        if len(symbol) > longest:
            _fail(DecodeReason.SYMBOL_TOO_LONG, f"prices: {shown(symbol)}, at most {longest} characters")
        if not is_symbol(symbol):
            _fail(DecodeReason.INVALID_SYMBOL, f"prices: {shown(symbol)} is empty or not printable")
        if type(price) is not float or not math.isfinite(price):
            prices[symbol] = _price(symbol, price)  # a key that exists: safe while iterating
    return prices


def _price_list(prices: list[Any], symbols: tuple[str, ...]) -> dict[str, float]:
    if not symbols:
        _fail(DecodeReason.WRONG_TYPE, "prices: found a list, expected an object as feed.symbols is not set")
    if len(prices) != len(symbols):
        _fail(DecodeReason.LENGTH_MISMATCH, f"prices: {len(prices)} values for {len(symbols)} symbols")
    return {symbol: _price(symbol, price) for symbol, price in zip(symbols, prices, strict=True)}


def _price(symbol: str, price: object) -> float:
    if price is None:
        return math.nan
    if isinstance(price, bool) or not isinstance(price, int | float):
        _fail(DecodeReason.WRONG_TYPE, f"prices[{shown(symbol)}]: found {shown(price)}, expected a number")
    try:
        number = float(price)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _parse_iso(text: str) -> int:
    match = _ISO_TIME.fullmatch(text)
    if match is None:
        _fail(DecodeReason.INVALID_TIME, f"ts: found {shown(text)}, expected ISO-8601 with a zone")
    if match["zone"] is None:
        _fail(DecodeReason.INVALID_TIME, f"ts: {shown(text)} has no zone, expected Z or an offset")
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
    except ValueError as error:  # the thirtieth of February, second 60
        _fail(DecodeReason.INVALID_TIME, f"ts: {shown(text)}: {error}")


def _fail(reason: DecodeReason, detail: str) -> NoReturn:
    """Raise without the cause, whose text is in the detail; what was sent is in it by `shown` alone."""
    raise DecodeError(reason, detail) from None


def format_time(time: int) -> str:
    """ISO-8601 in UTC of a time in ms; milliseconds only where there are any."""
    moment = _EPOCH + time * _MILLISECOND
    return moment.isoformat(timespec="milliseconds" if time % 1000 else "seconds").replace("+00:00", "Z")


def encode_forecast(forecast: Forecast, stream: str, source: tuple[str, int, int]) -> bytes:
    """The record value of a forecast made from the tick at `source` (topic, partition, offset).

    Nothing in it comes from the clock: the same tick gives the same bytes.
    """
    topic, partition, offset = source
    symbols = forecast.symbols
    message = {
        "id": f"{topic}-{partition}-{offset}",
        "stream": stream,
        "as_of": format_time(forecast.as_of),
        "target": format_time(forecast.target),
        "yhat": dict(zip(symbols, forecast.yhat.tolist(), strict=True)),
        "yhat_lower": dict(zip(symbols, forecast.lower.tolist(), strict=True)),
        "yhat_upper": dict(zip(symbols, forecast.upper.tolist(), strict=True)),
        "last": dict(zip(symbols, forecast.last.tolist(), strict=True)),
        "model": forecast.model,
        "source": {"topic": topic, "partition": partition, "offset": offset},
    }
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
