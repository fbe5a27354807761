"""Ticks that hold a part of a vector each, one symbol or several: merged, step by step, into the vectors of an engine.

A tick that lies on the open step is merged into it. The step closes, and its vector goes into the engine, with the
first tick of a later one; sooner, if that is set, with the tick that completes it, or that comes late enough by its
record's timestamp.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from streamer.core.adjustment import Adjustment
from streamer.core.engine import ForecastEngine
from streamer.core.grid import Grid, Placement, Position, Verdict
from streamer.core.levels import is_price
from streamer.core.outcome import AHEAD, Dropped, Rejected, Step, no_price, too_many_symbols
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick

T = TypeVar("T")

Close = Callable[[Position, Mapping[str, float]], T]
"""Takes in a step that has closed: where the grid stood with it, and its price by symbol, in the symbols' order."""


@dataclass(slots=True)
class OpenStep:
    """The step that ticks are merged into.

    symbols: how many complete a step, 0: it is never complete. close_after: ms from the step's own time to the record's
    timestamp that closes it, None: none does. position: where the grid stands, on the newest step whether open or
    closed. prints: event time (ms) and price of the newest print of each symbol; empty: no step is open.
    """

    grid: Grid
    symbols: int = 0
    close_after: int | None = None
    position: Position = field(default_factory=Position)
    prints: dict[str, tuple[int, float]] = field(default_factory=dict)

    @classmethod
    def under(cls, settings: EngineSettings, grid: Grid) -> "OpenStep":
        """Before the first tick."""
        return cls(grid, len(settings.symbols) if settings.close == "complete" else 0, settings.close_after)

    def take(self, tick: Tick, prices: Mapping[str, float], close: Close[T]) -> T | Verdict:
        """What `close` made of the step that the tick has closed, else what became of the tick: ACCEPTED is merged.

        prices: those of the tick that can be used, at least one. A tick closes one step at most: one that overtakes a
        step leaves its own open, though it may complete it, until the next. Where `close` fails, the step is lost, and
        the tick is as if it had not been sent.
        """
        placement = self._place(tick)
        verdict = placement.verdict
        if verdict is Verdict.AHEAD:
            return verdict
        if verdict is Verdict.LATE or (verdict is Verdict.DUPLICATE and not self.prints):
            self.position = placement.position
            return verdict
        overtakes = verdict is Verdict.ACCEPTED and bool(self.prints)
        closed = self._close(close) if overtakes else Verdict.ACCEPTED
        self.position = placement.position
        self._merge(tick.time, prices)
        return self._close(close) if not overtakes and self._is_due(tick.record_time) else closed

    def _place(self, tick: Tick) -> Placement:
        """As the grid does, but that a run of late ticks rises by steps.

        Further prints of its newest step, or stragglers of the one before, do not end it.
        """
        position = self.position
        placement = self.grid.place(position, tick.time, tick.record_time)
        if placement.verdict is Verdict.LATE and position.late_run:
            behind = position.late_last - placement.time
            if 0 <= behind <= self.grid.step:
                return replace(placement, position=position)
        return placement

    def _merge(self, time: int, prices: Mapping[str, float]) -> None:
        """The newest print of each symbol stays: by event time (ms), and of equal ones by the order they came in."""
        for symbol, price in prices.items():
            held = self.prints.get(symbol)
            if held is None or time >= held[0]:
                self.prints[symbol] = (time, price)

    def _is_due(self, record_time: int | None) -> bool:
        """Whether the step closes with a tick that was merged into it."""
        if self.symbols and len(self.prints) == self.symbols:
            return True
        after, step = self.close_after, self.position.last
        return after is not None and step is not None and record_time is not None and record_time >= step + after

    def adjust(self, adjustment: Adjustment) -> None:
        """Bring the prints of the open step to the prices or the name that their symbol has from now on."""
        if (held := self.prints.pop(adjustment.symbol, None)) is not None:
            self.prints[adjustment.name] = (held[0], held[1] * adjustment.ratio)

    def _close(self, close: Close[T]) -> T:
        """Symbols are sorted: a step's vector does not depend on the order its parts came in."""
        prints, self.prints = self.prints, {}
        return close(self.position, {symbol: price for symbol, (_, price) in sorted(prints.items())})


def following(grid: Grid, taken: Position, step: Position) -> Placement:
    """The accepted `step`, seen from the last that was `taken` in: one that failed may lie between them."""
    assert step.last is not None
    if step.restarts > taken.restarts:
        position = Position(step.last, restarts=step.restarts)
        return Placement(Verdict.ACCEPTED, step.last, position, is_break=True)
    return grid.place(taken, step.last, None)


def usable(engine: ForecastEngine, tick: Tick) -> dict[str, float]:
    """The prices of `tick` that `engine` can use, by symbol, those of new symbols too."""
    prices = engine.by_name(tick)
    if engine.settings.symbols:
        prices = {symbol: price for symbol, price in prices.items() if symbol in engine.index}
    changes = engine.settings.changes(prices)
    return {s: p for (s, p), change in zip(prices.items(), changes, strict=True) if is_price(p, change)}


class Assembly:
    """Takes the ticks of one stream for `engine`, which gets a vector for each step. `step` is the one that is open."""

    def __init__(self, engine: ForecastEngine) -> None:
        self.engine = engine
        self.step = OpenStep.under(engine.settings, engine.grid)
        self.step.position = engine.position

    @classmethod
    def before(cls, engine: ForecastEngine) -> "Assembly | None":
        """What stands before `engine` by its settings: nothing where each tick is a whole vector."""
        return cls(engine) if engine.settings.assemble == "last" else None

    def process(self, tick: Tick) -> Step:
        """Take in one tick and say what became of it; a forecast is that of the step which it has closed.

        Where the engine fails on the step that the tick closes, it is as before, the step is lost but for its place in
        time, and the tick has not been taken in.
        """
        prices = usable(self.engine, tick)
        if not prices:
            return Step(no_price(tick.prices))
        if (refused := self._beyond_limit(prices)) is not None:
            return Step(refused)
        outcome = self.step.take(tick, prices, self._close)
        match outcome:
            case Verdict.AHEAD:
                return Step(AHEAD)
            case Verdict.ACCEPTED:
                return Step(Dropped("merged"))
            case Verdict.LATE | Verdict.DUPLICATE:
                return Step(Dropped(outcome.value, outcome is Verdict.DUPLICATE and self._conflicts(prices)))
        return outcome

    def adjust(self, adjustment: Adjustment) -> Step:
        """Adjust the engine, and with it the step that is open, of which the engine may not know the symbol yet."""
        step = self.engine.adjust(adjustment, {symbol: price for symbol, (_, price) in self.step.prints.items()})
        if step.adjustment is not None:
            self.step.adjust(adjustment)
        return step

    def _close(self, at: Position, prices: Mapping[str, float]) -> Step:
        return self.engine.take(following(self.engine.grid, self.engine.position, at), prices)

    def _beyond_limit(self, prices: Mapping[str, float]) -> Rejected | None:
        """Why the tick is refused if its new symbols, with those of the open step, are too many."""
        known = self.engine.index
        if all(symbol in known for symbol in prices):
            return None
        count = len(known) + len({symbol for symbol in (*prices, *self.step.prints) if symbol not in known})
        return too_many_symbols(count) if count > self.engine.settings.max_symbols else None

    def _conflicts(self, prices: Mapping[str, float]) -> bool:
        """Whether a tick of the step that has closed has other prices; with a step that failed nothing is compared."""
        ring, index = self.engine.ring, self.engine.index
        if not len(ring) or ring.times[-1] != self.step.position.last:
            return False
        _, _, held = ring[len(ring) - 1]
        return any(symbol not in index or price != held[index[symbol]] for symbol, price in prices.items())
