"""What a stream of ticks should bring about, written from the contract with dicts and loops.

Shares no code with the engine: slow, plain, and easy to check by eye.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from streamer.core.levels import Change
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick


@dataclass
class Expected:
    """What one tick should bring about. scored: price by symbol, for each forecast that it settles."""

    outcome: str  # forecast, duplicate, late, no_price, ahead, too_many_symbols
    conflict: bool = False
    missing: int = 0
    is_break: bool = False
    blanks: int = 0
    as_of: int = 0
    last: dict[str, float] = field(default_factory=dict)  # what persistence forecasts, by symbol
    scored: dict[str, float] = field(default_factory=dict)
    ring: list[int] = field(default_factory=list)


class Oracle:
    """Follows one stream, tick by tick. is_open: whether the market is open in the step at a grid time."""

    def __init__(self, settings: EngineSettings, is_open: Callable[[int], bool] = lambda time: True) -> None:
        self.settings = settings
        self.is_open = is_open
        self.known: list[str] = list(settings.symbols)
        self.now: int | None = None  # grid time of the last accepted tick
        self.newest: dict[str, float] = {}  # usable prices of that tick
        self.last: dict[str, float] = {}  # last price ever seen, by symbol
        self.age: dict[str, int] = {}  # steps since then
        self.late: list[int] = []  # the run of late ticks that rise among themselves
        self.promised: dict[str, float] = {}  # the forecast that is open, by symbol
        self.promised_for: int | None = None
        self.ring: list[int] = []

    def tick(self, tick: Tick) -> Expected:
        """Take in one tick."""
        time = math.floor(tick.time / self.settings.step) * self.settings.step
        symbols = list(self.known)
        if not self.settings.symbols:
            symbols += [symbol for symbol in tick.prices if symbol not in symbols]
        usable = {s: tick.prices[s] for s in symbols if s in tick.prices and self.is_usable(s, tick.prices[s])}
        if not usable:
            return Expected("no_price")
        if len(symbols) > self.settings.max_symbols:
            return Expected("too_many_symbols")
        if tick.record_time is not None and time - tick.record_time > self.settings.max_ahead:
            return Expected("ahead")
        if self.now is not None and time == self.now:
            self.late = []
            return Expected("duplicate", conflict=usable != self.newest)
        restarted = False
        if self.now is not None and time < self.now:
            rises = bool(self.late) and time > self.late[-1]
            self.late = [*self.late, time] if rises else [time]
            if len(self.late) < self.settings.late_reset:
                return Expected("late")
            restarted = True
        return self.accept(time, symbols, usable, restarted)

    def is_usable(self, symbol: str, price: float) -> bool:
        """Whether a price counts as one at all."""
        if math.isnan(price) or math.isinf(price):
            return False
        return price > 0 or self.settings.change_of.get(symbol, self.settings.change) is not Change.LOG_RETURN

    def accept(self, time: int, symbols: list[str], usable: dict[str, float], restarted: bool) -> Expected:
        """A tick that counts."""
        missing = 0
        is_break = restarted  # what begins the stream breaks nothing
        if self.now is not None and not restarted:
            missing = (time - self.now) // self.settings.step - 1
            if missing > self.settings.max_gap or self.opens_anew(self.now, time):
                missing, is_break = 0, True
        scored = {}
        if self.promised_for == time and not is_break:
            scored = {symbol: usable[symbol] for symbol in self.promised if symbol in usable}
        self.known, self.now, self.late, self.newest = symbols, time, [], usable
        self.ring = [*self.ring, time][-self.settings.window :]
        for symbol in symbols:
            if symbol in usable:
                self.last[symbol], self.age[symbol] = usable[symbol], 0
            elif symbol in self.last:
                self.age[symbol] += 1 + missing
        self.promised = {symbol: self.last[symbol] for symbol in symbols if self.is_forecast(symbol)}
        self.promised_for = time + self.settings.step
        blanks = len(symbols) - len(usable)
        return Expected(
            "forecast", False, missing, is_break, blanks, time, dict(self.promised), scored, list(self.ring)
        )

    def opens_anew(self, last: int, time: int) -> bool:
        """Whether a closed step lies between two, or open hours begin after the first and no later than the second."""
        step = self.settings.step
        is_closed_between = not all(map(self.is_open, range(last + step, time, step)))
        later = range(last + step, time + step, step)
        return is_closed_between or any(self.is_open(each) and not self.is_open(each - step) for each in later)

    def is_forecast(self, symbol: str) -> bool:
        """Whether a symbol is in the forecast that is now made."""
        if symbol in self.settings.inputs or (self.settings.targets and symbol not in self.settings.targets):
            return False
        return symbol in self.last and self.age[symbol] <= self.settings.max_stale
