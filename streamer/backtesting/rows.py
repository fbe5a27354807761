"""What a backtest runs over: a checked table of prices, and what was found odd in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from streamer.codec import format_time
from streamer.core.grid import Floats
from streamer.core.levels import Change, Levels
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.errors import UsageError
from streamer.frames import found_step, milliseconds

_NAMED = 3  # columns that a notice names; the rest is a number


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Ticks in order of time, each on a step of its own.

    times: as in the data, ms, `(n,)`. step: ms. prices: `(n, n_symbols)`, NaN where blank. notices: what was found
    odd and what is done about it, a line each.
    """

    name: str
    times: npt.NDArray[np.int64]
    step: int
    symbols: tuple[str, ...]
    targets: tuple[str, ...]
    prices: Floats
    notices: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.times)

    def ticks(self) -> Iterator[Tick]:
        """The rows as the engine takes them."""
        for time, prices in zip(self.times.tolist(), self.prices.tolist(), strict=True):
            yield Tick(time, dict(zip(self.symbols, prices, strict=True)))

    def grid_time(self, row: int) -> int:
        """Time of the step that `row` lies in, ms."""
        time = int(self.times[row])
        return time - time % self.step


def check(prices: pd.DataFrame, engine: EngineSettings, name: str) -> Rows:
    """The rows of a table as `frames.price_table` gives it; `name` stands for it in notices and errors (UsageError)."""
    symbols = tuple(prices.columns)
    targets = _targets(symbols, engine, name)
    times = milliseconds(prices.index)
    values = prices.to_numpy(np.float64)
    notices = []
    if (np.diff(times) < 0).any():
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order]
        notices.append(f"{name}: the rows are not in order of time: sorted")
    step = found_step(times, name)
    if step != engine.step:
        notices.append(f"{name}: the rows keep a step of {step / 1000:g} s, which is used")
    first = np.append(True, np.diff(times // step) > 0)
    if not first.all():
        left_out = np.flatnonzero(~first)
        notices.append(
            f"{name}: {len(left_out)} rows fall on the step of the row before them, the first at "
            f"{format_time(int(times[left_out[0]]))}: left out, as the daemon does"
        )
    notices += _odd_columns(symbols, values, engine, name)
    rows = Rows(name, times[first], step, symbols, targets, values[first], tuple(notices))
    _require_prices(rows, engine)
    return rows


def readable(prices: Floats, symbols: Sequence[str], engine: EngineSettings) -> Floats:
    """`prices`, `(n, n_symbols)`, with NaN where the engine reads none."""
    return Levels.reading(engine.changes(symbols)).usable(prices)


def _targets(symbols: tuple[str, ...], engine: EngineSettings, name: str) -> tuple[str, ...]:
    if len(symbols) > engine.max_symbols:
        raise UsageError(
            f"{name} has {len(symbols)} columns, limits.symbols allows {engine.max_symbols}: raise it, or list those "
            "to be read as feed.symbols"
        )
    unknown = [target for target in engine.targets if target not in symbols]
    if unknown:
        raise UsageError(f"{name} has no column {unknown[0]!r}, which is to be forecast")
    targets = tuple(filter(engine.is_target, symbols))
    if not targets:
        raise UsageError(f"{name} has no column that is to be forecast: all of them are feed.inputs")
    return targets


def _odd_columns(symbols: Sequence[str], prices: Floats, engine: EngineSettings, name: str) -> Iterator[str]:
    """A notice for each kind of column that gives no figures, or other ones than its owner may think."""
    given = np.isfinite(prices)
    usable = np.isfinite(readable(prices, symbols, engine))
    empty = ~given.any(axis=0)
    lost = (given & ~usable).any(axis=0)
    auto = np.array([change is Change.AUTO for change in engine.changes(symbols)])
    low = np.where(usable, prices, np.inf).min(axis=0)
    high = np.where(usable, prices, -np.inf).max(axis=0)
    kinds = (
        (empty, "no price at all: it is carried along and not forecast"),
        (lost, "prices that log returns cannot take (zero or below), blank here: feed.change: auto takes them"),
        (auto & (low <= 0.0), "prices of zero or below: its changes are differences from the first of them on"),
        (usable.any(axis=0) & (low == high), "one and the same price throughout: it has no skill to show"),
    )
    for columns, what in kinds:
        found = [repr(symbols[column]) for column in np.flatnonzero(columns).tolist()]
        if found:
            more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            yield f"{name}: {', '.join(found[:_NAMED])}{more}: {what}"


def _require_prices(rows: Rows, engine: EngineSettings) -> None:
    columns = [rows.symbols.index(target) for target in rows.targets]
    if not np.isfinite(readable(rows.prices, rows.symbols, engine)[:, columns]).any():
        raise UsageError(
            f"{rows.name}: no price in {', '.join(map(repr, rows.targets[:_NAMED]))} that can be used: "
            "name other columns, or set feed.change: auto for prices of zero or below"
        )
