"""Adjustments: from some input offset on, a symbol is priced in other units (a split), or has another name.

What an engine holds of its past is brought to the new units and names. A model is not: it goes on in those it was
trained in, and `Adjusted` translates, so that its state, and one that is replayed later, need no change.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from streamer.core.features import State
from streamer.core.forecaster import Forecaster, OneByOne
from streamer.core.grid import Floats, Row
from streamer.core.levels import Change, Levels, is_price

if TYPE_CHECKING:
    from streamer.core.engine import ForecastEngine

Price = TypeVar("Price", float, Floats)

NEVER = -1
"""Number of the last adjustment where there was none."""

INVALID = "invalid_control"
"""Reason of the dead letter of one that cannot be heeded."""

KEPT = 1_024
"""In the snapshot, for models and rows of before them: years of a large universe of shares, some dozen kB."""

_LEAST, _LARGEST = 1e-6, 1e6  # beyond what was ever split or redenominated
_LARGEST_UNIT = 1e100  # as for prices: what many ratios come to still divides, and is no infinity
_SHOWN = 5  # names in an error's text


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What happened to one symbol.

    number: of the input offset that says so; what came before it is in old prices and names. ratio: what old prices are
    multiplied by to be in the new ones' units (4 for 1: 0.25). renamed: its name from now on, None: as it was.
    """

    number: int
    symbol: str
    ratio: float = 1.0
    renamed: str | None = None

    @property
    def name(self) -> str:
        """The symbol's name after it."""
        return self.symbol if self.renamed is None else self.renamed

    def of(self, prices: Mapping[str, Price]) -> Mapping[str, Price]:
        """`prices` of before, as they are now. What had the new name then is another symbol, and is left out."""
        after = {symbol: price for symbol, price in prices.items() if symbol not in (self.symbol, self.name)}
        if self.symbol in prices:
            after[self.name] = prices[self.symbol] * self.ratio
        return after

    def of_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """`names` of before, as they are now. What had the new name then gets one that no symbol can have."""
        gone = {self.name: f"\0{self.name}"} if self.renamed is not None else {}
        return tuple([self.name if name == self.symbol else gone.get(name, name) for name in names])


@dataclass(frozen=True, eq=False)
class Adjusted(OneByOne):
    """A model of before some adjustments, in the names and prices of after them. Implements `Forecaster`.

    base: the model itself, whose state this has, in its own units. units: what one of its own prices is now,
    `(len(symbols),)`.
    """

    base: Forecaster
    symbols: tuple[str, ...]
    targets: tuple[str, ...]
    units: Floats
    _scale: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        columns = [self.symbols.index(target) for target in self.targets]
        # A log return is the same in all units.
        scale = np.where(self.base.change.is_log[columns], 1.0, self.units[columns])
        object.__setattr__(self, "_scale", scale)

    @classmethod
    def of(cls, base: Forecaster, adjustments: Iterable[Adjustment]) -> "Adjusted":
        """`base` after `adjustments`, in the order in which they came."""
        names, units = base.symbols, np.ones(len(base.symbols))
        for each in adjustments:
            if each.symbol in names:
                unit = units[names.index(each.symbol)] * each.ratio
                units[names.index(each.symbol)] = min(max(unit, 1.0 / _LARGEST_UNIT), _LARGEST_UNIT)
            names = each.of_names(names)
        targets = tuple([names[base.symbols.index(target)] for target in base.targets])
        return cls(base, names, targets, units)

    @property
    def id(self) -> str:
        """Name under which the store holds it."""
        return self.base.id

    @property
    def change(self) -> Levels:
        """What a change is of each of its `symbols`."""
        return self.base.change

    @property
    def as_of(self) -> int:
        """Grid time (ms) of the last row of its history."""
        return self.base.as_of

    @property
    def trained_to(self) -> int:
        """Grid time (ms) of the last row that it has learned from."""
        return self.base.trained_to

    @property
    def adjusted(self) -> int:
        """Number of the last adjustment that its history had."""
        return self.base.adjusted

    def initial_state(self) -> State:
        """State before any row."""
        return self.base.initial_state()

    def trained_state(self) -> State:
        """State as it stood after the row at `as_of`."""
        return self.base.trained_state()

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        """Take in one row of prices as they are now; returns the new state and changes in the same units."""
        after, changes = self.base.step(state, Row(row.time, row.prices / self.units, row.is_break, row.whole))
        return after, changes * self._scale

    def shares(self, state: State) -> Mapping[str, Floats]:
        """Share of each expert in what is served next, by name, each `(len(targets),)`."""
        return self.base.shares(state)


def adjusted(model: Forecaster, adjustments: Sequence[Adjustment]) -> Forecaster:
    """`model` as it serves after `adjustments`, all that are kept: itself where it was trained after them.

    LookupError where some of those since may not be kept any more.
    """
    base = model.base if isinstance(model, Adjusted) else model
    later = since(adjustments, base.adjusted)
    if len(later) >= KEPT:
        raise LookupError(f"model {base.id} was trained {KEPT} adjustments of symbols ago, or more")
    known = Adjusted.of(base, later)
    is_same = known.symbols == base.symbols and bool((known.units == 1.0).all())
    return base if is_same else known


def since(adjustments: Sequence[Adjustment], number: int) -> list[Adjustment]:
    """Those that came after the offset `number`, in order."""
    return [each for each in adjustments if each.number > number]


def brought_up(prices: Mapping[str, Price], adjustments: Iterable[Adjustment]) -> Mapping[str, Price]:
    """Prices of before `adjustments` by symbol, one or many of each, as they are after them."""
    for each in adjustments:
        prices = each.of(prices)
    return prices


def is_ratio(value: float) -> bool:
    """Whether prices can be multiplied by `value`; false for NaN."""
    return _LEAST <= value <= _LARGEST


RATIO = f"a number from {_LEAST:f} to {_LARGEST:.0f}"
"""What `is_ratio` accepts, in words."""


def obstacle(engine: "ForecastEngine", adjustment: Adjustment, opened: Mapping[str, float]) -> str | None:
    """Why the engine cannot take `adjustment`, in one line; None where it can.

    opened: prices of the step that is open before it, by symbol, also of symbols that the engine does not know yet.
    """
    symbol, ratio, renamed = adjustment.symbol, adjustment.ratio, adjustment.renamed
    if symbol not in engine.index and symbol not in opened:
        more = ", ..." if len(engine.symbols) > _SHOWN else ""
        return f"symbol: found {symbol!r}, the stream has {', '.join(engine.symbols[:_SHOWN])}{more}"
    if not is_ratio(ratio):
        return f"ratio: found {ratio:g}, expected {RATIO}"
    if renamed is not None and (renamed in engine.index or renamed in opened):
        return f"rename: the stream has a symbol {renamed!r} already"
    last = engine.market.last[engine.index[symbol]] if symbol in engine.index else np.nan
    for price in (float(last), opened.get(symbol, np.nan)):
        if not np.isnan(price) and not _is_still_a_price(price, price * ratio):
            return f"ratio: {ratio:g} of its last price {price:g} is no price"
    serving = engine.serving
    if serving is not None and len(since(engine.adjustments, serving.model.adjusted)) >= KEPT - 1:
        return f"the stream was adjusted {KEPT - 1} times since its model was trained: train a new one first"
    return None


def _is_still_a_price(before: float, after: float) -> bool:
    """Whether the price can be used as the one of before: there is no logarithm of one that has become zero."""
    return is_price(after, Change.LOG_RETURN if before > 0.0 else Change.DIFFERENCE)
