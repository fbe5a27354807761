"""What the readers of messages share: why one is refused, how a time is written, and how a value is shown."""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

from streamer.errors import DecodeError

END_OF_TIME = 7_258_118_400_000
"""2200-01-01T00:00:00Z in ms, the first time refused: micro- or nanoseconds sent for ms lie far beyond it."""

TIME_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
"""Units in which a number may count the time since the epoch."""

_PER_MILLISECOND = {"ms": 1, "us": 1000, "ns": 1_000_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

# RFC 3339's profile of ISO-8601, and the shorter forms that databases print (no seconds, "+00"). The pattern
# stands before `datetime.fromisoformat` since that takes more, and not the same in each version of Python.
_ISO_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[T ](?:[01]\d|2[0-3]):[0-5]\d(?::\d\d(?:[.,]\d+)?)?"
    r"(?P<zone>Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?",
    re.ASCII,
)
_DECIMAL = re.compile(r"[0-9]{1,30}(?:\.[0-9]{1,30})?")

_SHOWN_LENGTH = 60
_SHOWN_BITS = 128
_SHOWN_NAMES = 5


class DecodeReason(StrEnum):
    """Why a message is no tick. Few and fixed: each is a metric label and a dead letter's header."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    INVALID_KEY = "invalid_key"
    INVALID_TIME = "invalid_time"
    TOO_MANY_SYMBOLS = "too_many_symbols"
    SYMBOL_TOO_LONG = "symbol_too_long"
    INVALID_SYMBOL = "invalid_symbol"
    LENGTH_MISMATCH = "length_mismatch"
    UNKNOWN_SCHEMA = "unknown_schema"


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Bounds on a message: its bytes, the symbols in it, the characters of a symbol."""

    message_bytes: int
    symbols: int
    symbol_length: int


class Ambiguous(dict[str, Any]):
    """An object in which a key stands twice: refused where it is read, ignored where it is not."""


def refuse(reason: DecodeReason, detail: str) -> NoReturn:
    """Raise DecodeError without the cause, whose text is in the detail; what was sent is in it by `shown` alone."""
    raise DecodeError(reason, detail) from None


def parse_time(value: object, where: str = "ts", unit: str = "ms", zone: ZoneInfo | None = None) -> int:
    """Milliseconds since the Unix epoch, within [0, `END_OF_TIME`).

    Takes a whole number of `unit` (of seconds, any number), or ISO-8601 text with a zone (without one it is a time of
    `zone`'s clocks), of which digits below a millisecond are floored. Leap seconds (`:60`) are invalid: the epoch's
    count has no place for them. `where` names the value in errors.

    Raises `DecodeError` (`wrong_type`, `invalid_time`).
    """
    if isinstance(value, str):
        time = _parse_iso(value, where, zone)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        time = _count(value, where, unit)
    else:
        refuse(DecodeReason.WRONG_TYPE, f"{where}: found {shown(value)}, expected ISO-8601 or epoch {TIME_UNITS[unit]}")
    if not 0 <= time < END_OF_TIME:
        refuse(
            DecodeReason.INVALID_TIME, f"{where}: found {shown(value)}, expected 1970 to 2199, in {TIME_UNITS[unit]}"
        )
    return time


def parse_time_text(value: object, where: str = "ts", unit: str = "ms", zone: ZoneInfo | None = None) -> int:
    """As `parse_time`, of a value in which a number may stand as text too."""
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = int(value) if value.isdecimal() else float(value)
    return parse_time(value, where, unit, zone)


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


def shown_names(found: Iterable[Any]) -> str:
    """The first of some names, on one short line."""
    texts = [str(name) for name in found]
    names = ", ".join(text if text.isprintable() else repr(text)[1:-1] for text in texts[:_SHOWN_NAMES])
    if len(names) > _SHOWN_LENGTH:
        names = names[: _SHOWN_LENGTH - 3] + "..."
    more = len(texts) - _SHOWN_NAMES
    return f"{names} and {more} more" if more > 0 else names or "nothing"


@lru_cache(maxsize=1024)  # streams have their ticks at the same times, and a forecast's target is the next tick's time
def format_time(time: int) -> str:
    """ISO-8601 in UTC of a time in ms; milliseconds only where there are any."""
    moment = _EPOCH + time * _MILLISECOND
    return moment.isoformat(timespec="milliseconds" if time % 1000 else "seconds").replace("+00:00", "Z")


def _count(value: int | float, where: str, unit: str) -> int:
    if isinstance(value, float):
        if not math.isfinite(value) or not (unit == "s" or value.is_integer()):
            refuse(DecodeReason.INVALID_TIME, f"{where}: found {value}, expected whole {TIME_UNITS[unit]}")
        # Of its shortest decimals, not of its bits: 0.29 s are 290 ms.
        return math.floor(Decimal(repr(value)) * 1000) if unit == "s" else int(value) // _PER_MILLISECOND[unit]
    return value * 1000 if unit == "s" else value // _PER_MILLISECOND[unit]


def _parse_iso(text: str, where: str, zone: ZoneInfo | None) -> int:
    match = _ISO_TIME.fullmatch(text)
    if match is None:
        remedy = ", or input.numbers: text for numbers that stand as text" if _DECIMAL.fullmatch(text) else ""
        refuse(DecodeReason.INVALID_TIME, f"{where}: found {shown(text)}, expected ISO-8601 with a zone{remedy}")
    if match["zone"] is None and zone is None:
        refuse(DecodeReason.INVALID_TIME, f"{where}: {shown(text)} has no zone, expected Z or an offset")
    try:
        moment = datetime.fromisoformat(text)
        if match["zone"] is None and zone is not None:
            moment = _placed(moment, where, zone)
        return (moment - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError) as error:  # the thirtieth of February, second 60
        refuse(DecodeReason.INVALID_TIME, f"{where}: {shown(text)}: {error}")


def _placed(local: datetime, where: str, zone: ZoneInfo) -> datetime:
    """The time that `zone`'s clocks show as `local`, where they show that exactly once."""
    earlier, later = (local.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if earlier.utcoffset() != later.utcoffset():
        # Subtracted from each other, two times of one zone would be compared as its clocks show them.
        times = "twice" if earlier - _EPOCH < later - _EPOCH else "never"
        refuse(
            DecodeReason.INVALID_TIME,
            f"{where}: {shown(local.isoformat(' '))} comes {times} in {zone.key}, when its clocks change: expected an"
            " offset",
        )
    return earlier
