"""Messages that are broken in every way that a seed comes upon, and whether one is a tick all the same.

`is_tick` shares no code with the daemon: where the two disagree, one of them is wrong.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from datetime import datetime
from typing import Any

from tests.e2e.feeding import Message

MESSAGE_BYTES = 4096
_STREAMS = 100
_SYMBOLS, _SYMBOL_LENGTH = 2048, 64  # limits.symbols and limits.symbol_length, their defaults

_NASTY_VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1e308,
        -0.0,
        5e-324,
        float("nan"),
        float("inf"),
        10**30,
        10**4000,
        "",
        "12",
        "NaN",
        [],
        {},
    ),
    *(
        [[[[]]]],
        {"a": {"b": {}}},
        "\ud800",
        "\x00",
        "\x1b[2J",
        "é" * 100,
        "9" * 300,
        [1] * 50,
        2**53 + 1,
        1e-400,
        "null",
    ),
]
_NASTY_TIMES: list[Any] = [
    *(-1, 0, 1.5, 1e12, 7_258_118_400_000, 7_258_118_399_999, 1e300, 10**25, "now", "2018-02-30T00:00:00Z"),
    *("2018-01-01T24:00:00Z", "2018-01-01T00:00:60Z", "2018-01-01T00:00:00", "2018-01-01", "1969-12-31T23:59:59Z"),
    *(
        "2018-01-01T00:00Z",
        "2018-01-01 00:00:00+24:00",
        "2018-01-01T00:00:00.123456789-05",
        "\uff12018-01-01T00:00:00Z",
    ),
]
_NASTY_SYMBOLS = ["", " ", "\n", "\u200b", "\ud83d", "x" * 64, "x" * 65, "é", "ts", "__proto__", "'; --"]
_TOKENS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"\\",
    b"null",
    b"NaN",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\\ud800",
    b"9" * 50,
]
_BAD_KEYS = [b"", b"k" * 257, b"\xff", b"line\nbreak", b"\x00", "\u200b".encode()]


class Rubbish:
    """Breaks ticks at random. What is one all the same goes to streams of its own, all else to the real one too."""

    def __init__(self, draw: random.Random, templates: Sequence[bytes], real: bytes) -> None:
        self._draw = draw
        self._templates = templates
        self._real = real
        self._ways: list[Callable[[bytes], bytes | None]] = [
            *([self._tree] * 6),
            *([self._flipped, self._cut, self._inserted, self._spliced] * 2),
            *(self._noise, self._twice, self._nested, self._nothing, self._untouched),
        ]

    def message(self) -> tuple[Message, bool]:
        """One message, and whether it has to become a dead letter."""
        draw = self._draw
        value = draw.choice(self._ways)(draw.choice(self._templates))
        if draw.random() < 0.005:
            value = (value or b"") + b" " * MESSAGE_BYTES
        headers = tuple((f"h{n}", draw.randbytes(5)) for n in range(draw.randrange(3)))
        if draw.random() < 0.05:
            return Message(value, draw.choice(_BAD_KEYS), headers=headers), True
        if is_tick(value):
            return Message(value, b"fuzz-%d" % draw.randrange(_STREAMS), headers=headers), False
        key = draw.choice([self._real, self._real, None])
        return Message(b"" if key is None and value is None else value, key, headers=headers), True

    def _flipped(self, value: bytes) -> bytes:
        broken = bytearray(value)
        for _ in range(self._draw.randint(1, 8)):
            broken[self._draw.randrange(len(broken))] = self._draw.randrange(256)
        return bytes(broken)

    def _cut(self, value: bytes) -> bytes:
        begin, end = sorted(self._draw.choices(range(len(value) + 1), k=2))
        return value[:begin] + value[end:]

    def _inserted(self, value: bytes) -> bytes:
        at = self._draw.randrange(len(value) + 1)
        return value[:at] + b"".join(self._draw.choices(_TOKENS, k=self._draw.randint(1, 4))) + value[at:]

    def _spliced(self, value: bytes) -> bytes:
        other = self._draw.choice(self._templates)
        return value[: self._draw.randrange(len(value))] + other[self._draw.randrange(len(other)) :]

    def _noise(self, _: bytes) -> bytes:
        return self._draw.randbytes(self._draw.randrange(200))

    def _twice(self, value: bytes) -> bytes:
        """A key that stands twice, of the message or of its prices."""
        if self._draw.random() < 0.5:
            return value.replace(b'{"ts":', b'{"ts":1,"ts":', 1)
        return value.replace(b'"prices":{', b'"prices":{"BTCUSD":1,"BTCUSD":2,', 1)

    def _nested(self, _: bytes) -> bytes:
        depth = self._draw.choice([10, 500, 3000])
        return self._draw.choice([b"[" * depth, b'{"ts":' * (depth // 5), b"[" * (depth // 2) + b"]" * (depth // 2)])

    def _nothing(self, _: bytes) -> bytes | None:
        return self._draw.choice([None, b"", b" ", b"null", b"0", b'""', b"[]", b"{}"])

    def _untouched(self, value: bytes) -> bytes:
        return value

    def _tree(self, value: bytes) -> bytes:
        """Valid JSON in which some of what stands there is something else."""
        draw, message = self._draw, json.loads(value)
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(6)
            prices = message.get("prices")
            if place == 0:
                message["ts"] = deepcopy(draw.choice(_NASTY_TIMES + _NASTY_VALUES))
            elif place == 1:
                message["prices"] = deepcopy(draw.choice(_NASTY_VALUES))
            elif place == 2:
                message.pop(draw.choice(["ts", "prices"]), None)
            elif isinstance(prices, dict):
                symbol = draw.choice([*prices, *_NASTY_SYMBOLS])
                prices[symbol] = deepcopy(draw.choice(_NASTY_VALUES))
        return json.dumps(message, ensure_ascii=draw.random() < 0.5).encode(errors="surrogatepass")


# --- whether it is one ------------------------------------------------------------------------------------------------


def is_tick(value: bytes | None) -> bool:
    """Whether `value` is a message that can be read, of any time and with whatever prices, blank ones too."""
    if not value or len(value) > MESSAGE_BYTES:
        return False
    try:
        message = json.loads(value.decode("utf-8"), object_pairs_hook=lambda pairs: _Pairs(pairs))
    except (ValueError, RecursionError):
        return False
    if not isinstance(message, _Pairs) or not message.are_distinct():
        return False
    fields = dict(message)
    return {"ts", "prices"} <= fields.keys() and _is_time(fields["ts"]) and _are_prices(fields["prices"])


class _Pairs(list[tuple[str, Any]]):
    """An object as it stands in the text."""

    def are_distinct(self) -> bool:
        return len({name for name, _ in self}) == len(self)


def _are_prices(prices: Any) -> bool:
    if not isinstance(prices, _Pairs) or not prices.are_distinct() or len(prices) > _SYMBOLS:
        return False
    return all(
        0 < len(name) <= _SYMBOL_LENGTH and name.isprintable() and (price is None or type(price) in (int, float))
        for name, price in prices
    )


def _is_time(time: Any) -> bool:
    if isinstance(time, str):
        return _is_iso_time(time)
    return type(time) in (int, float) and time == time // 1 and 0 <= time < 7_258_118_400_000


def _is_iso_time(text: str) -> bool:
    pattern = r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,]\d+)?)?(?:Z|([+-]\d\d)(?::?(\d\d))?)"
    match = re.fullmatch(pattern, text, re.ASCII)
    if match is None:
        return False
    year, month, day, hour, minute, second, zone_hours, zone_minutes = (int(part or 0) for part in match.groups())
    try:
        local = datetime(year, month, day, hour, minute, second)
    except ValueError:
        return False
    if abs(zone_hours) > 23 or zone_minutes > 59:
        return False
    sign = -1 if "-" in (match[7] or "") else 1
    seconds = (local - datetime(1970, 1, 1)).total_seconds() - 3600 * zone_hours - 60 * sign * zone_minutes
    return 0 <= seconds < 7_258_118_400
