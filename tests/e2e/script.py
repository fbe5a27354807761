"""Feeds that hold everything, made together with what has to become of each message.

Worked out from how the feed is made; shares no code with the daemon.
"""

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.e2e.feeding import MINUTE, START, Feed, Message, Offset, tick

MESSAGE_BYTES = 4096
MAX_GAP = 60
SYMBOLS = ("A", "B", "C")

RUBBISH: dict[str, list[bytes | None]] = {
    "empty": [None, b""],
    "malformed": [b"\xff\xfe\x00", b"{", b"nonsense", b'{"ts": 1, "ts": 2, "prices": {}}'],
    "wrong_type": [b"[1, 2]", b'{"ts": 1, "prices": {"A": "12"}}', b'{"ts": true, "prices": {"A": 1}}'],
    "missing_field": [b"{}", b'{"ts": 1}', b'{"prices": {"A": 1}}'],
    "invalid_time": [b'{"ts": "2023-11-15T00:00:00", "prices": {"A": 1}}', b'{"ts": -1, "prices": {"A": 1}}'],
    "invalid_symbol": [b'{"ts": 1, "prices": {"": 1}}'],
    "symbol_too_long": [json.dumps({"ts": 1, "prices": {"x" * 65: 1}}).encode()],
    "too_large": [b'{"pad": "' + b"x" * MESSAGE_BYTES + b'"}'],
}
"""Messages that are no tick, by the reason that their dead letter has to give."""

REFUSED_KEYS = [b"", b"k" * 257, b"\xff", b"line\nbreak"]


def iso(at: int) -> str:
    """The minute `at` after START, as forecasts write it."""
    moment = datetime.fromtimestamp((START + at * MINUTE) / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Expected:
    """What one message has to become: `forecast`, `duplicate`, `late`, or the reason of a dead letter."""

    message: Message
    outcome: str
    stream: str
    as_of: int = 0
    last: dict[str, float] = field(default_factory=dict)


class Script:
    """Makes the messages of one stream, each with what has to become of it."""

    def __init__(self, name: str, seed: int, **fields: Any) -> None:
        self.name = name
        self.made: list[Expected] = []
        self.counts: Counter[str] = Counter()
        self._draw = random.Random(seed)
        self._fields = fields
        self._now = 0
        self._last = {symbol: 10.0 * (number + 1) for number, symbol in enumerate(SYMBOLS)}
        self._usual()

    def extend(self, messages: int) -> "Script":
        """Make so many more, of all kinds."""
        kinds = {
            self._usual: 60,
            self._blank: 10,
            self._duplicate: 6,
            self._conflict: 6,
            self._late: 6,
            self._gap: 4,
            self._session_break: 2,
            self._no_price: 4,
            self._rubbish: 16,
            self._refused_key: 4,
            self._ahead: 2,
        }
        for make in self._draw.choices(list(kinds), list(kinds.values()), k=messages):
            make()
        return self

    def _add(self, message: Message, outcome: str) -> None:
        at, last = (self._now, dict(self._last)) if outcome == "forecast" else (0, {})
        self.made.append(Expected(message, outcome, self.name, at, last))

    def _move(self) -> dict[str, float]:
        return {symbol: round(price * self._draw.uniform(0.99, 1.01), 4) for symbol, price in self._last.items()}

    def _tick(self, at: int, prices: dict[str, float | None], outcome: str) -> None:
        # Off the grid by some seconds, which are floored away; times and numbers in each form that is allowed.
        milliseconds = START + at * MINUTE + self._draw.choice([0, 0, 1, 59_999])
        text = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
        value = json.dumps({"ts": self._draw.choice([milliseconds, text]), "prices": prices, "more": [1]})
        headers = (("traceparent", f"00-{len(self.made):032x}-01".encode()), ("other", b"not passed on"))
        self._add(Message(value.encode(), headers=headers, **self._fields), outcome)

    # Ticks that count

    def _usual(self, steps: int = 1) -> None:
        self._now += steps
        self._last = self._move()
        self._tick(self._now, dict(self._last), "forecast")

    def _blank(self) -> None:
        """Null, absent, not a number, or no price at all: the last price is carried."""
        self._now += 1
        blank = self._draw.choice(SYMBOLS)
        moved = {s: p for s, p in self._move().items() if s != blank}
        self._last |= moved
        nan = float("nan")
        ways: list[dict[str, float | None]] = [{blank: None}, {}, {blank: nan}, {blank: 0.0}, {blank: -1.0}]
        self._tick(self._now, {**moved, **self._draw.choice(ways)}, "forecast")
        self.counts["blank"] += 1

    def _gap(self) -> None:
        missing = self._draw.choice([1, 2, MAX_GAP])
        self.counts["missing"] += missing
        self._usual(1 + missing)

    def _session_break(self) -> None:
        self.counts["break"] += 1
        self._usual(2 + MAX_GAP)

    # Ticks that are dropped: before the newest time the price does not matter

    def _duplicate(self) -> None:
        newest = next(each for each in reversed(self.made) if each.outcome == "forecast").message
        self._add(newest, "duplicate")

    def _conflict(self) -> None:
        self._tick(self._now, dict.fromkeys(SYMBOLS, 1.5), "duplicate")
        self.counts["conflict"] += 1

    def _late(self) -> None:
        # Two a time that fall: never ten that rise, which would mean that time has restarted.
        for back in (2, 3):
            self._tick(self._now - back, dict(self._last), "late")

    # Messages that are none

    def _no_price(self) -> None:
        self._tick(self._now + 1, dict.fromkeys(SYMBOLS), "no_price")

    def _ahead(self) -> None:
        stamp = START + (self._now + 1) * MINUTE - 3_600_001
        self._add(tick(self._now + 1, {"A": 1.0}, **self._fields, timestamp=stamp), "ahead")

    def _rubbish(self) -> None:
        reason = self._draw.choice(list(RUBBISH))
        headers = (("from", b"the sender"),)
        value = self._draw.choice(RUBBISH[reason])
        if value is None and "key" not in self._fields:
            value = b""  # aiokafka cannot send neither key nor value: that case has a test of its own
        self._add(Message(value, headers=headers, **self._fields), reason)

    def _refused_key(self) -> None:
        fields = self._fields | {"key": self._draw.choice(REFUSED_KEYS)}
        self._add(tick(self._now + 1, {"A": 1.0}, **fields), "invalid_key")

    def restart_time(self) -> "Script":
        """Ten late ticks that rise: nine are dropped, with the tenth the stream begins anew."""
        self._usual()
        first = self._now - 500
        for at in range(first, first + 9):
            self._tick(at, dict(self._last), "late")
        self._now = first + 8
        self.counts["break"] += 1
        self._usual()
        return self


def scripts(prices: str, messages: int) -> list[Script]:
    """Three streams with a key and one without, on two partitions."""
    made = [
        Script("alpha", 1, key=b"alpha", partition=0),
        Script("béta", 2, key="béta".encode(), partition=0),
        Script("gamma", 3, key=b"gamma", partition=1),
        Script(f"{prices}-1", 4, partition=1),
    ]
    return [script.extend(messages).restart_time().extend(messages // 4) for script in made]


async def send(feed: Feed, made: list[Script], seed: int = 5) -> dict[Offset, Expected]:
    """Interleave the streams at random, each in its own order; returns what is expected of each offset."""
    draw = random.Random(seed)
    left = {script.name: iter(script.made) for script in made}
    turns = [script.name for script in made for _ in script.made]
    draw.shuffle(turns)
    queue = [next(left[name]) for name in turns]
    return dict(zip(await feed.send([each.message for each in queue]), queue, strict=True))
