"""What shapes an engine, and what stands before it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from streamer.core.grid import Grid
from streamer.core.levels import Change
from streamer.core.sessions import Sessions


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What shapes an engine. Times in ms, `max_gap` and `max_stale` in steps, the rest counted in ticks.

    symbols: those read, in this order; empty: every symbol that comes. targets: those forecast; empty: all. inputs:
    those never forecast. change, change_of: see `changes`. drift: threshold of `core.drift`, 0: off. sessions: open
    hours of the market; None: it never closes. assemble, close, close_after (ms): of `core.assembly`, which stands
    before the engine.
    """

    step: int = 60_000
    symbols: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    change: Change = Change.AUTO
    change_of: Mapping[str, Change] = field(default_factory=dict)
    window: int = 100
    max_gap: int = 60
    max_stale: int = 1_500
    late_reset: int = 10
    max_ahead: int = 3_600_000
    max_symbols: int = 2_048
    scoring_window: int = 1_440
    coverage: float = 0.9
    first: int = 500
    every: int = 1_440
    history: int = 20_000
    drift: float = 50.0
    cooldown: int = 500
    sessions: Sessions | None = None
    assemble: Literal["vector", "last"] = "vector"
    close: Literal["later", "complete"] = "later"
    close_after: int | None = None

    @property
    def grid(self) -> Grid:
        """What places ticks in time."""
        return Grid(self.step, self.max_gap, self.late_reset, self.max_ahead, self.sessions)

    def changes(self, symbols: Iterable[str]) -> list[Change]:
        """What the change of each of `symbols` is to be: its own in `change_of`, else `change`."""
        return [self.change_of.get(symbol, self.change) for symbol in symbols]

    def is_target(self, symbol: str) -> bool:
        """Whether `symbol` is forecast."""
        return (not self.targets or symbol in self.targets) and symbol not in self.inputs

    def renamed(self, symbol: str, name: str) -> "EngineSettings":
        """The same where `symbol` is called `name`; as they are where they know that name already."""

        def after(names: tuple[str, ...]) -> tuple[str, ...]:
            return names if name in names else tuple([name if each == symbol else each for each in names])

        own = {name if each == symbol and name not in self.change_of else each: c for each, c in self.change_of.items()}
        symbols, targets, inputs = map(after, (self.symbols, self.targets, self.inputs))
        return replace(self, symbols=symbols, targets=targets, inputs=inputs, change_of=own)
