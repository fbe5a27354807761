"""What partial vectors should bring about, written from the contract with lists of prints: slow, and easy to check."""

import math
from dataclasses import dataclass, field

from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from tests.core.oracle import Expected, Oracle


@dataclass
class Print:
    """One price of one symbol as it was sent."""

    symbol: str
    time: int
    price: float


@dataclass
class AssemblyOracle:
    """Follows one stream of partial vectors, tick by tick. `vectors` is what each closed step goes to."""

    settings: EngineSettings
    now: int | None = None  # the newest step, open or closed
    open: list[Print] | None = None  # all that came of it, in order, while it is open
    restarted: bool = False  # whether time restarted with it
    late: list[int] = field(default_factory=list)  # the run of late steps that rise
    vectors: Oracle = field(init=False)

    def __post_init__(self) -> None:
        self.vectors = Oracle(self.settings)

    def tick(self, tick: Tick) -> Expected:
        """Take in one tick."""
        read = {s: p for s, p in tick.prices.items() if not self.settings.symbols or s in self.settings.symbols}
        prints = [Print(s, tick.time, p) for s, p in read.items() if self.vectors.is_usable(s, p)]
        if not prints:
            return Expected("no_price")
        if len({*self.vectors.known, *(p.symbol for p in (*prints, *(self.open or ())))}) > self.settings.max_symbols:
            return Expected("too_many_symbols")
        time = math.floor(tick.time / self.settings.step) * self.settings.step
        if tick.record_time is not None and time - tick.record_time > self.settings.max_ahead:
            return Expected("ahead")
        if self.now is not None and time < self.now:
            if not self.rises_to_a_restart(time):
                return Expected("late")
            return self.opens(time, prints, tick, restarted=True)
        if self.now is None or time > self.now:
            return self.opens(time, prints, tick, restarted=False)
        self.late = []
        if self.open is None:
            conflict = any(self.vectors.newest.get(p.symbol) != p.price for p in prints)
            return Expected("duplicate", conflict=conflict)
        self.open += prints
        return self.close() if self.is_due(tick) else Expected("merged")

    def rises_to_a_restart(self, time: int) -> bool:
        """Note a late step; whether so many rose. More may come of the newest of the run, and of the one before."""
        if self.late and self.late[-1] - self.settings.step <= time <= self.late[-1]:
            return False
        self.late = [*self.late, time] if self.late and time > self.late[-1] else [time]
        return len(self.late) >= self.settings.late_reset

    def opens(self, time: int, prints: list[Print], tick: Tick, restarted: bool) -> Expected:
        """A tick of another step: it closes the one that is open, or else perhaps its own."""
        outcome = None if self.open is None else self.close()
        self.now, self.open, self.restarted, self.late = time, prints, restarted, []
        if outcome is not None:
            return outcome
        return self.close() if self.is_due(tick) else Expected("merged")

    def is_due(self, tick: Tick) -> bool:
        """Whether the open step closes with a tick that is part of it."""
        assert self.open is not None
        assert self.now is not None
        if self.settings.close == "complete" and {p.symbol for p in self.open} == set(self.settings.symbols):
            return True
        after = self.settings.close_after
        return after is not None and tick.record_time is not None and tick.record_time - self.now >= after

    def close(self) -> Expected:
        """The newest print of each symbol is the vector."""
        assert self.open is not None
        assert self.now is not None
        newest: dict[str, Print] = {}
        for each in self.open:
            if each.symbol not in newest or each.time >= newest[each.symbol].time:
                newest[each.symbol] = each
        self.open = None
        prices = {symbol: newest[symbol].price for symbol in sorted(newest)}
        symbols = [*self.vectors.known, *(symbol for symbol in prices if symbol not in self.vectors.known)]
        return self.vectors.accept(self.now, symbols, prices, self.restarted)
