"""A feed of one symbol a message, made together with what has to become of each message.

Of `input: {assemble: last, close: complete}` and `feed: {symbols: [A, B, C]}`.
"""

import json
from typing import Any

from tests.e2e.feeding import MINUTE, START, Message
from tests.e2e.script import SYMBOLS, Expected, Script


class Parts(Script):
    """Makes the messages of one stream. What is open is kept as symbol to second and price of its newest print."""

    def __init__(self, name: str, seed: int, **fields: Any) -> None:
        self._open: dict[str, tuple[int, float]] = {}
        self._vector: dict[str, float] = {}  # of the newest step that has closed
        self._carried: dict[str, float] = {}
        self._at = 0  # the newest step; after a restart of time not `_now`
        super().__init__(name, seed, **fields)

    def extend(self, messages: int) -> "Parts":
        """Make so many more, of all kinds."""
        kinds = {
            self._print: 70,
            self._usual: 20,
            self._gap: 3,
            self._session_break: 1,
            self._late: 4,
            self._no_price: 4,
            self._rubbish: 8,
            self._refused_key: 2,
            self._ahead: 2,
        }
        for make in self._draw.choices(list(kinds), list(kinds.values()), k=messages):
            make()
        return self

    def finish(self) -> "Parts":
        """A last step, which stays open: that before it, with what was counted of it, has closed."""
        self._usual()
        return self

    def _usual(self, steps: int = 1) -> None:
        """The first message of a later step closes the one that is open, if one is."""
        closed = self._close() if self._open else None
        self._now += steps
        self._at = self._now
        self._merge(*self._drawn(), closed)

    def _print(self) -> None:
        """One more of the newest step: merged, the one that completes it, or a duplicate."""
        symbol, second, price = self._drawn()
        if self._open:
            self._merge(symbol, second, price, None)
            return
        if self._draw.random() < 0.5:
            price = self._vector.get(symbol, price)
        self.counts["conflict"] += self._vector.get(symbol) != price
        self._part(symbol, second, price, Expected(Message(None), "duplicate", self.name))

    def _drawn(self) -> tuple[str, int, float]:
        symbol = self._draw.choice(SYMBOLS)
        return symbol, self._draw.choice([0, 1, 20, 59]), self._move()[symbol]

    def _merge(self, symbol: str, second: int, price: float, closed: Expected | None) -> None:
        """Of two prints of a symbol the later one counts, of two at one time the one that came later."""
        if symbol not in self._open or second >= self._open[symbol][0]:
            self._open[symbol] = (second, price)
        if closed is None and len(self._open) == len(SYMBOLS):
            closed = self._close()
        self._part(symbol, second, price, closed or Expected(Message(None), "merged", self.name))

    def _close(self) -> Expected:
        self._vector = {symbol: price for symbol, (_, price) in self._open.items()}
        self.counts["blank"] += len(SYMBOLS) - len(self._open)
        self._carried |= self._vector
        self._last |= self._vector
        self._open = {}
        return Expected(Message(None), "forecast", self.name, self._at, dict(self._carried))

    def _part(self, symbol: str, second: int, price: float, expected: Expected) -> None:
        time = START + self._now * MINUTE + 1000 * second
        headers = (("traceparent", f"00-{len(self.made):032x}-01".encode()), ("other", b"not passed on"))
        message = Message(json.dumps({"ts": time, "prices": {symbol: price}}).encode(), headers=headers, **self._fields)
        self.made.append(Expected(message, expected.outcome, self.name, expected.as_of, expected.last))


def parts(prices: str, messages: int) -> list[Script]:
    """Two streams with a key and one without, on two partitions."""
    made = [
        Parts("alpha", 1, key=b"alpha", partition=0),
        Parts("gamma", 2, key=b"gamma", partition=1),
        Parts(f"{prices}-1", 3, partition=1),
    ]
    for each in made:
        each.extend(messages).restart_time()
        each.extend(messages // 4).finish()
    return list(made)
