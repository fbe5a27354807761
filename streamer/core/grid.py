"""Time: where a tick falls on the grid of equal steps, and what lies between two ticks.

Ticks lie on multiples of `step` milliseconds since the Unix epoch; a time off the grid is floored to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isfinite

import numpy as np
import numpy.typing as npt

from streamer.core.sessions import Sessions

Floats = npt.NDArray[np.float64]


def constant(value: float) -> Floats:
    """`value` for arithmetic with float64 arrays: beside a Python float, that of a short vector takes twice as long."""
    array = np.array(value, np.float64)
    array.flags.writeable = False
    return array


_FEW = 4_096  # numbers: for a product of 10,000 BLAS wakes a thread on each processor, which then spins

ZERO, ONE = constant(0.0), constant(1.0)


class Verdict(StrEnum):
    """What becomes of a tick because of its time alone."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    LATE = "late"
    AHEAD = "ahead"


@dataclass(frozen=True, slots=True)
class Position:
    """Where the grid stands.

    last: time of the last accepted tick. late_*: the run of rising late ticks. restarts: how often time has restarted.
    """

    last: int | None = None
    late_run: int = 0
    late_last: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """Verdict on one tick: its `time` on the grid, the position after it, and whether a session begins with it."""

    verdict: Verdict
    time: int
    position: Position
    is_break: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """Places ticks in time. Pure: the position goes in and comes out.

    step: ms between ticks. max_gap: missing ticks that are still stepped over; more is a session break.
    late_reset: so many late ticks in a row that rise among themselves mean that time has restarted.
    max_ahead: ms that an event may be ahead of its record's timestamp. It is never compared with the wall
    clock, so that a replay decides alike; without the limit one bad clock would silence the stream for ever.
    sessions: open hours of the market; None: it never closes.
    """

    step: int
    max_gap: int = 60
    late_reset: int = 10
    max_ahead: int = 3_600_000
    sessions: Sessions | None = None

    def place(self, position: Position, time: int, record_time: int | None) -> Placement:
        """Decide on a tick of event time `time` (ms)."""
        time -= time % self.step
        last = position.last
        if record_time is not None and time > record_time + self.max_ahead:
            return Placement(Verdict.AHEAD, time, position)
        if last is None:
            return Placement(Verdict.ACCEPTED, time, Position(time), is_break=True)
        if time > last:
            after = Position(time, restarts=position.restarts)
            return Placement(Verdict.ACCEPTED, time, after, self.is_break(last, time))
        if time == last:
            return Placement(Verdict.DUPLICATE, time, replace(position, late_run=0))
        return self._late(position, time)

    def is_break(self, last: int, time: int) -> bool:
        """Whether a session begins with the step at `time` when the tick before it is that of the step `last`.

        So it does after a long gap, after a closed step in between, and with the first step of open hours. Ticks that
        come in closed hours all the same are taken, those on successive steps as one session.
        """
        if time - last > (self.max_gap + 1) * self.step:
            return True
        if self.sessions is None:
            return False
        opened, closed = self.sessions.stretch(time, self.step)
        return last < opened or time - self.step >= max(closed, last + self.step)

    def _late(self, position: Position, time: int) -> Placement:
        rises = position.late_run > 0 and time > position.late_last
        run = position.late_run + 1 if rises else 1
        if run >= self.late_reset:
            return Placement(Verdict.ACCEPTED, time, Position(time, restarts=position.restarts + 1), is_break=True)
        return Placement(Verdict.LATE, time, replace(position, late_run=run, late_last=time))


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One step of the grid as a forecaster sees it.

    prices: shape `(n_symbols,)`, NaN where blank. is_break: the first row of a session, whose change from the
    row before is not a one-step change. whole: whether it is known that no price is blank, and each is positive: most
    rows are such, and then much need not be looked at again.
    """

    time: int
    prices: Floats
    is_break: bool = False
    whole: bool = False


def is_blank(prices: Floats) -> bool:
    """Whether there is no price."""
    # The first alone mostly says so.
    return not len(prices) or bool(np.isnan(prices[0]) and np.isnan(prices).all())


def is_whole(prices: Floats) -> bool:
    """Whether no price is blank, and each is positive."""
    return 0 < prices.size == np.count_nonzero(prices > ZERO)  # a minimum takes half as long again


def is_finite(values: npt.NDArray[np.floating]) -> bool:
    """Whether all `values` are numbers; it may say no where their squares are none."""
    if values.size > _FEW:
        return bool(np.isfinite(values).all())
    return isfinite(np.vdot(values, values))  # a sum takes twice as long


def blanks_between(previous: int, row: Row, step: int) -> list[Row]:
    """A blank row for each step missing between the time `previous` and `row`."""
    if row.is_break or row.time - previous <= step:
        return []
    return [Row(time, np.full(row.prices.shape, np.nan)) for time in range(previous + step, row.time, step)]


def rows_between(previous: int, row: Row, step: int) -> Iterator[Row]:
    """Yield a blank row for each step missing between the time `previous` and `row`, then `row` itself."""
    yield from blanks_between(previous, row, step)
    yield row
