"""Price tables: files of prices as data frames, and frames as ticks on the grid."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from streamer.core.buffer import TickBuffer
from streamer.core.grid import Floats, Position, Verdict
from streamer.core.levels import Levels
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.errors import UsageError
from streamer.model.dataset import TrainingSet


def read_prices(path: Path, symbols: Sequence[str] = ()) -> pd.DataFrame:
    """Prices by symbol, indexed by UTC time, blanks NaN. UsageError where the file is no such table.

    CSV or Parquet: first column (or Parquet index) the time, then one column per symbol. symbols: columns to take,
    in this order; empty: all.
    """
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except UnicodeDecodeError:
        raise UsageError(f"{path} cannot be read: it is not a CSV in UTF-8") from None
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(f"{path} cannot be read: {_first_line(error)}") from error
    return price_table(table, symbols, str(path))


def price_table(table: pd.DataFrame, symbols: Sequence[str], name: str) -> pd.DataFrame:
    """The prices of a frame whose index or first column is the time; `name` stands for it in errors (UsageError).

    Times: ISO-8601 (UTC without a zone), whole milliseconds since the epoch, or dates and times of pandas.
    """
    if not isinstance(table.index, pd.DatetimeIndex):
        if table.shape[1] < 2:
            raise UsageError(f"{name}: expected a time column and at least one column of prices")
        table = table.set_index(table.columns[0])
    if not len(table):
        raise UsageError(f"{name} has no rows")
    times = _times(table.index, name)
    prices = table.rename(columns=str)
    missing = [symbol for symbol in symbols if symbol not in prices.columns]
    if missing:
        raise UsageError(f"{name} has no column {missing[0]!r}, which feed.symbols names")
    prices = prices[list(symbols)] if symbols else prices
    _require_numbers(prices, name)
    return prices.astype(float).set_axis(times, axis=0)


def _require_numbers(prices: pd.DataFrame, name: str) -> None:
    foreign = [column for column in prices.columns if not pd.api.types.is_numeric_dtype(prices[column])]
    if len(foreign) == prices.shape[1]:
        raise UsageError(f"{name}: no column of prices: none but the first is numeric")
    if foreign:
        raise UsageError(
            f"{name}: column {foreign[0]!r} is not numeric: take it out, or list the others as feed.symbols"
        )
    twice = prices.columns[prices.columns.duplicated()]
    if len(twice):
        raise UsageError(f"{name}: the column {twice[0]!r} stands twice: rename one")


def _times(values: pd.Index, name: str) -> pd.DatetimeIndex:
    try:
        if pd.api.types.is_integer_dtype(values):
            times = pd.DatetimeIndex(pd.to_datetime(values, utc=True, unit="ms"))
        else:
            times = pd.DatetimeIndex(pd.to_datetime(values, utc=True, format="ISO8601"))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{name}: column {values.name!r} holds no ISO-8601 times: {_first_line(error)}") from error
    blank = np.flatnonzero(times.isna())
    if len(blank):
        raise UsageError(f"{name}: row {blank[0] + 1} has no time: take it out")
    return times


def _first_line(error: Exception) -> str:
    """What pandas says; what it advises is for programmers."""
    said = error.strerror if isinstance(error, OSError) else None
    return (said or str(error)).partition("\n")[0]


def milliseconds(index: pd.Index) -> npt.NDArray[np.int64]:
    """Times, as `read_prices` gives them, as milliseconds since the Unix epoch."""
    return pd.DatetimeIndex(index).as_unit("ms").asi8


def ticks(prices: pd.DataFrame) -> Iterator[Tick]:
    """The rows of a table, as `price_table` gives it, a tick each."""
    symbols = list(prices.columns)
    for time, row in zip(milliseconds(prices.index).tolist(), prices.to_numpy(np.float64), strict=True):
        yield Tick(time, dict(zip(symbols, row.tolist(), strict=True)))


def found_step(times: npt.NDArray[np.int64], name: str) -> int:
    """The spacing that most rows keep, ms; UsageError, with the file's `name`, where there is none."""
    spacings, counts = np.unique(np.diff(times), return_counts=True)
    kept = spacings > 0
    if not kept.any():
        raise UsageError(f"{name}: the rows have no step: at least two rising times are needed")
    return int(spacings[kept][counts[kept].argmax()])


def training_set(prices: pd.DataFrame, settings: EngineSettings) -> TrainingSet:
    """The last ticks of a frame, as many as `history`, placed on the grid as an engine would place them.

    What the changes of each column are to be stands in the settings; `auto` is decided by these ticks.
    """
    symbols = tuple(prices.columns)
    unknown = [target for target in settings.targets if target not in symbols]
    if unknown:
        raise UsageError(f"target {unknown[0]!r} is none of the columns: {', '.join(symbols)}")
    targets = tuple(filter(settings.is_target, settings.targets or symbols))
    if not targets:
        raise UsageError(f"all columns are feed.inputs, none is left to forecast: {', '.join(symbols)}")
    changes, grid = settings.changes(symbols), settings.grid
    buffer, readable = TickBuffer(settings.history, len(symbols)), Levels.reading(changes)
    position = Position()
    rows: Floats = prices.to_numpy(np.float64)
    for time, row in zip(milliseconds(prices.index).tolist(), rows, strict=True):
        usable = readable.usable(row)
        if np.isnan(usable).all():
            continue
        placement = grid.place(position, time, None)
        position = placement.position
        if placement.verdict is Verdict.ACCEPTED:
            buffer.append(placement.time, placement.is_break, usable)
    levels = Levels.starting(changes).seeing(buffer.prices)
    return TrainingSet(symbols, targets, levels, grid.step, buffer.times, buffer.breaks, buffer.prices)
