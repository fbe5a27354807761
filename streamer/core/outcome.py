"""What comes out of the engine: exactly one outcome for each tick, and what is worth measuring."""

from collections.abc import Sized
from dataclasses import dataclass

from streamer.core.adjustment import NEVER, Adjustment
from streamer.core.grid import Floats

PERSISTENCE_MODEL = "persistence"
"""What a forecast carries as its model while none serves."""


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """A forecast of the prices one step ahead.

    as_of, target: grid times, ms. symbols: those forecast. yhat, lower, upper, last: prices, `(len(symbols),)`,
    `last` being the last price seen of each. model: id of the model that served, or "persistence".
    """

    as_of: int
    target: int
    symbols: tuple[str, ...]
    yhat: Floats
    lower: Floats
    upper: Floats
    last: Floats
    model: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """An input that asks for no forecast of its own. conflict: a duplicate with other prices.

    reason: a tick is a "duplicate", "late", or "merged" where it has become a part of the step that is open;
    "adjusted": an adjustment, which was taken.
    """

    reason: str
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """A tick that belongs to the dead letters.

    reason: one of a small, fixed set. detail: one line. stacktrace: of the exception nobody expected, if it was one.
    """

    reason: str
    detail: str
    stacktrace: str = ""


AHEAD = Rejected("ahead", "its time is more than feed.max_ahead after its record's timestamp")


def no_price(prices: Sized) -> Rejected:
    """None of `prices` is one."""
    return Rejected("no_price", f"none of its {len(prices)} prices can be used")


def too_many_symbols(count: int) -> Rejected:
    """With the tick the stream would have `count` symbols."""
    return Rejected("too_many_symbols", f"the stream would have {count} symbols, more than limits.symbols")


Outcome = Forecast | Dropped | Rejected


@dataclass(frozen=True, slots=True)
class Step:
    """All that one tick brought about.

    scored: forecasts compared with prices. blanks: known symbols without a price. missing: steps before it that
    had no tick. is_break: a session began. restarted: with it, time. training: why a training is due now, if one is.
    spacing: the spacing that the feed seems to keep instead of the step (ms), said once. switched: symbols whose
    changes are differences from now on, since a price was not positive. left: symbols that the engine has let go.
    adjustment: that was taken.
    """

    outcome: Outcome
    scored: int = 0
    blanks: int = 0
    missing: int = 0
    is_break: bool = False
    restarted: bool = False
    training: str | None = None
    spacing: int | None = None
    switched: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    adjustment: Adjustment | None = None


@dataclass(frozen=True, slots=True)
class Swap:
    """The recorded event that a model, or "persistence", began to serve.

    after: grid time (ms) of the last tick that the earlier model served. restarts: how often time had restarted by
    then. start: whether the model's state began as "trained" (its state at the last row of its history) or at zero on
    the "ring"; persistence has "none". ticks: how many it had replayed since, up to `after`. adjusted: number of the
    last adjustment then, which may have come after the same tick.
    """

    model: str
    after: int
    restarts: int
    start: str
    ticks: int
    adjusted: int = NEVER

    @property
    def moment(self) -> tuple[int, int, int]:
        """When it happened: times repeat where time restarts, and an adjustment may come between two ticks."""
        return self.restarts, self.after, self.adjusted
