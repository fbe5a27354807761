"""Kafka records as lines for people and for programs.

What stands in a record may be anybody's: a line never fails on it, and what could steer a terminal is escaped.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import ConsumerRecord

from streamer.codec import shown
from streamer.control import asked
from streamer.dead_letters import DeadLetter, plain

_EXCERPT = 80


def as_text(topic: str, record: ConsumerRecord, width: int | None) -> str:
    """One line; `width` columns at most are filled with symbols, all of them where it is None.

    topic: `forecasts`, `prices` or `dead-letters`.
    """
    if topic == "dead-letters":
        return _dead_letter_line(record)
    if topic == "prices" and (asks := asked(record.headers)) is not None:
        return escaped(f"{_place(record)}  control: {plain(asks)} {_excerpt(record.value)}")
    try:
        message = json.loads(record.value)
        return _forecast_line(message, width) if topic == "forecasts" else _tick_line(message, record, width)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError):
        return f"{_place(record)}  not understood: {_excerpt(record.value)}"


def as_json(topic: str, record: ConsumerRecord) -> str:
    """One line of JSON: the value as it was sent; of a dead letter its reason, source, key and value."""
    if topic == "dead-letters":
        return json.dumps({**DeadLetter.of(record).as_json(), "value": plain(record.value)})
    try:
        text = (record.value or b"null").decode()
        message = json.loads(text)
    except (ValueError, RecursionError):
        return json.dumps(plain(record.value))
    return json.dumps(message) if "\n" in text or "\r" in text else text


def _forecast_line(message: Mapping[str, Any], width: int | None) -> str:
    lower, upper, last = message["yhat_lower"], message["yhat_upper"], message["last"]
    head = f"{message['as_of']} -> {message['target']}  {message['stream']}  {message['model']:<12}"
    parts = (
        f"{symbol} {_number(last[symbol])} -> {_number(yhat)} [{_number(lower[symbol])}, {_number(upper[symbol])}]"
        for symbol, yhat in message["yhat"].items()
    )
    return _fitted(escaped(head), (escaped(part) for part in parts), width)


def _tick_line(message: Mapping[str, Any], record: ConsumerRecord, width: int | None) -> str:
    prices = message["prices"]
    pairs = prices.items() if isinstance(prices, dict) else enumerate(prices)
    head = escaped(f"{_place(record)}  {message['ts']}")
    return _fitted(head, (escaped(f"{symbol} {_number(price)}") for symbol, price in pairs), width)


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
    if value is None:
        return f"{'-':>10}"
    return f"{float(value):>10.6g}" if isinstance(value, int | float) else shown(value)


def _place(record: ConsumerRecord) -> str:
    return f"{record.topic}-{record.partition}-{record.offset}"


def _excerpt(value: bytes | None) -> str:
    text = plain(value)
    return "no value" if text is None else escaped(text if len(text) <= _EXCERPT else text[:_EXCERPT] + "...")


def escaped(text: str) -> str:
    """`text` without what could steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
