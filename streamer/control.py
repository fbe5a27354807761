"""Control messages: records of the input topic that are no ticks, but say what happened to a symbol.

A header names what is asked, the key its stream, the value is JSON: `{"symbol": "AAPL", "ratio": 0.25}`,
`{"symbol": "FB", "rename": "META"}`, or both. Such a record has its place among the ticks, so that it takes effect
between the same two of them in every replay.
"""

import json
from collections.abc import Iterable
from typing import Any, NoReturn

from streamer.codec import DecodeLimits, is_symbol, shown
from streamer.core.adjustment import INVALID, Adjustment
from streamer.dead_letters import Header
from streamer.errors import DecodeError

HEADER = "streamer-control"
ADJUST = b"adjust"
_FIELDS = ("symbol", "ratio", "rename")


def asked(headers: Iterable[Header]) -> bytes | None:
    """What a control message asks for; None for a record that is none."""
    for name, value in headers:
        if name == HEADER:
            return value
    return None


def is_control(record: Any) -> bool:
    """Whether a record (as aiokafka has them) is a control message."""
    return bool(record.headers) and asked(record.headers) is not None


def decode(what: bytes, value: bytes | None, number: int, limits: DecodeLimits) -> Adjustment:
    """The adjustment that a record asks for; DecodeError says what is wrong with it.

    what: the header's value. number: the record's offset.
    """
    if what != ADJUST:
        _fail(f"{HEADER}: found {shown(_text(what))}, known is 'adjust'")
    if value is not None and len(value) > limits.message_bytes:
        _fail(f"{len(value)} bytes, at most {limits.message_bytes}")
    try:
        message = json.loads(value or b"")
    except (ValueError, RecursionError):
        _fail('found no JSON, expected such as {"symbol": "AAPL", "ratio": 0.25}')
    if not isinstance(message, dict):
        _fail(f"found {shown(message)}, expected an object")
    for name in message:
        if name not in _FIELDS:
            _fail(f"found {shown(name)}, known are {', '.join(_FIELDS)}")
    if "symbol" not in message:
        _fail("symbol: not there")
    ratio, rename = message.get("ratio"), message.get("rename")
    if ratio is None and rename is None:
        _fail("found neither ratio nor rename, expected one of them at least")
    return Adjustment(
        number,
        _symbol("symbol", message["symbol"], limits),
        1.0 if ratio is None else _ratio(ratio),
        None if rename is None else _symbol("rename", rename, limits),
    )


def encode(symbol: str, ratio: float | None, rename: str | None) -> bytes:
    """The value of a record that asks for it."""
    message = {"symbol": symbol, "ratio": ratio, "rename": rename}
    return json.dumps({name: value for name, value in message.items() if value is not None}).encode()


def _symbol(field: str, value: Any, limits: DecodeLimits) -> str:
    if not isinstance(value, str) or not is_symbol(value) or len(value) > limits.symbol_length:
        _fail(f"{field}: found {shown(value)}, expected a symbol of 1 to {limits.symbol_length} printable characters")
    return value


def _ratio(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _fail(f"ratio: found {shown(value)}, expected a number")
    try:
        return float(value)
    except OverflowError:
        _fail(f"ratio: found {shown(value)}, expected a number")


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="backslashreplace")


def _fail(detail: str) -> NoReturn:
    raise DecodeError(INVALID, detail) from None
