"""Changes of price: what is learned, predicted and measured in units of volatility."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from streamer.core.grid import ZERO, Floats, constant

_MAX_LOG_RETURN = 50.0  # e^50: beyond any price that a market printed; keeps exp finite whatever a network says
_LARGEST = 1e100  # beyond any price; its square is still a number
_MOST = constant(_LARGEST)

Bools = npt.NDArray[np.bool_]
Columns = npt.NDArray[np.intp] | Bools | Sequence[int]


class Change(StrEnum):
    """What a change is: of the log price, or of the price; `auto`: of the log while all prices are positive."""

    AUTO = "auto"
    LOG_RETURN = "log_return"
    DIFFERENCE = "difference"


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """What a change is of each symbol: a value, which `seeing` and the like replace.

    is_log: `(n_symbols,)`, true where changes are log returns, false where they are differences. The last axis of all
    prices and changes is that of the symbols.
    """

    is_log: Bools
    # One numpy call for all symbols where they agree, as they mostly do.
    _all_log: bool = field(init=False, repr=False)
    _any_log: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_all_log", bool(self.is_log.all()))
        object.__setattr__(self, "_any_log", bool(self.is_log.any()))

    @classmethod
    def starting(cls, changes: Iterable[Change]) -> "Levels":
        """Levels before any price: `auto` begins with log returns."""
        return cls(np.array([change is not Change.DIFFERENCE for change in changes], np.bool_))

    @classmethod
    def reading(cls, changes: Iterable[Change]) -> "Levels":
        """Levels whose `usable` says what counts as a price at all: under `auto` every number does."""
        return cls(np.array([change is Change.LOG_RETURN for change in changes], np.bool_))

    @property
    def changes(self) -> tuple[Change, ...]:
        """The same by name, in the order of the symbols; `starting` takes them back."""
        return tuple([Change.LOG_RETURN if is_log else Change.DIFFERENCE for is_log in self.is_log.tolist()])

    def seeing(self, prices: Floats) -> "Levels":
        """Levels after `prices`, `(..., n_symbols)`: differences for each symbol of which one is not positive."""
        below = prices <= 0.0
        if not np.count_nonzero(below):
            return self
        switched: Bools = self.is_log & below.reshape(-1, len(self.is_log)).any(axis=0)
        return Levels(self.is_log & ~switched) if switched.any() else self

    def switched(self, after: "Levels") -> list[int]:
        """Symbols whose changes were log returns, and are differences in `after`."""
        columns: list[int] = [] if after is self else np.flatnonzero(self.is_log & ~after.is_log).tolist()
        return columns

    def take(self, columns: Columns) -> "Levels":
        """Levels of the symbols `columns` (indices or mask), in that order."""
        return Levels(self.is_log[columns])

    def replaced(self, columns: Columns, other: "Levels") -> "Levels":
        """The same with the `columns` as `other` has them, in that order."""
        is_log = self.is_log.copy()
        is_log[columns] = other.is_log
        return Levels(is_log)

    def widened(self, more: "Levels") -> "Levels":
        """The same with further symbols on the right."""
        return Levels(np.concatenate([self.is_log, more.is_log]))

    def usable(self, prices: Floats) -> Floats:
        """`prices` with NaN (blank) wherever a price cannot be used: not finite; not positive for log returns."""
        if np.count_nonzero((prices > ZERO) & (prices <= _MOST)) == prices.size:
            return prices  # most are so, and it takes half as long to see
        good = np.abs(prices) <= _LARGEST
        if self._any_log:
            good &= (prices > 0.0) if self._all_log else (prices > 0.0) | ~self.is_log
        return prices if good.all() else np.where(good, prices, np.nan)

    def level(self, prices: Floats) -> Floats:
        """The scale on which changes are differences: log price, or price. NaN stays NaN."""
        if self._all_log:
            return np.log(prices)
        return np.where(self.is_log, np.log(np.where(self.is_log, prices, 1.0)), prices) if self._any_log else prices

    def between(self, before: Floats, after: Floats) -> Floats:
        """Change from the prices `before` to the prices `after`."""
        return self.level(after) - self.level(before)

    def apply(self, before: Floats, change: Floats) -> Floats:
        """Prices after `change`: exactly `before` where it is zero, and finite for every change."""
        if self._all_log:
            after = before * np.exp(bounded(change, _MAX_LOG_RETURN))
        elif self._any_log:
            grown = before * np.exp(bounded(change, _MAX_LOG_RETURN))
            after = np.where(self.is_log, grown, before + bounded(change, _LARGEST))
        else:
            after = before + bounded(change, _LARGEST)
        return bounded(after, _LARGEST)

    def in_prices(self, change: Floats, at: Floats) -> Floats:
        """How far a small `change` moves the prices `at`."""
        if self._all_log:
            return at * change
        return np.where(self.is_log, at * change, change) if self._any_log else change

    def into(self, other: "Levels", before: Floats, change: Floats) -> Floats:
        """`change` from the prices `before`, as a change of the levels `other`.

        Zero, as persistence has it, where it cannot be told: a log return from a price that is not positive, or a
        difference that leaves none of which there is a logarithm.
        """
        foreign = self.is_log != other.is_log
        after = self.apply(before, change)
        positive = (before > 0.0) & (after > 0.0)
        known = np.where(positive, other.between(np.where(positive, before, 1.0), np.where(positive, after, 1.0)), 0.0)
        return np.where(foreign, known, change)


def is_price(price: float, change: Change) -> bool:
    """What `Levels.reading(...).usable` says of one: a vector of one costs ten times as much there."""
    return abs(price) <= _LARGEST and (price > 0.0 or change is not Change.LOG_RETURN)


def bounded(values: Floats, bound: Floats | float) -> Floats:
    """`values` within `bound` of zero (`np.clip` takes three times as long on a short vector)."""
    low, high = _limits(bound) if isinstance(bound, float) else (-bound, bound)
    return np.minimum(np.maximum(values, low), high)


@lru_cache(64)
def _limits(bound: float) -> tuple[Floats, Floats]:
    return constant(-bound), constant(bound)
