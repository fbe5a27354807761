"""Price tables: files of prices as data frames, and frames as ticks on the grid."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from streamer.core.buffer import TickBuffer
from streamer.core.grid import Floats, Grid, Position, Verdict
from streamer.core.levels import Change, Levels
from streamer.errors import UsageError
from streamer.model.dataset import TrainingSet


def read_prices(path: Path) -> pd.DataFrame:
    """Prices by symbol, indexed by UTC time, blanks NaN. UsageError where the file is no such table.

    CSV or Parquet: first column the time (ISO-8601; without a zone it is UTC), then one column per symbol.
    """
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if table.shape[1] < 2:
        raise UsageError(f"{path}: expected a time column and at least one column of prices")
    times, prices = table.iloc[:, 0], table.iloc[:, 1:]
    if not len(table):
        raise UsageError(f"{path} has no rows")
    foreign = [name for name in prices.columns if not pd.api.types.is_numeric_dtype(prices[name])]
    if foreign:
        raise UsageError(f"{path}: column {foreign[0]!r} is not numeric")
    try:
        index = pd.DatetimeIndex(pd.to_datetime(times, utc=True, format="ISO8601"))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path}: column {table.columns[0]!r} holds no ISO-8601 times: {error}") from error
    return prices.astype(float).set_axis(index, axis=0).rename(columns=str)


def milliseconds(index: pd.DatetimeIndex) -> npt.NDArray[np.int64]:
    """Times as milliseconds since the Unix epoch."""
    return index.as_unit("ms").asi8


def found_step(times: npt.NDArray[np.int64]) -> int:
    """The spacing that most rows keep, ms."""
    spacings, counts = np.unique(np.diff(times), return_counts=True)
    kept = spacings > 0
    if not kept.any():
        raise UsageError("the rows have no step: at least two rising times are needed")
    return int(spacings[kept][counts[kept].argmax()])


def training_set(
    prices: pd.DataFrame, grid: Grid, changes: Sequence[Change], targets: tuple[str, ...], history: int
) -> TrainingSet:
    """The last `history` ticks of a frame, placed on the grid as the engine would place them.

    changes: what the change of each column is to be; `auto` is decided by these ticks.
    """
    symbols = tuple(prices.columns)
    unknown = [target for target in targets if target not in symbols]
    if unknown:
        raise UsageError(f"target {unknown[0]!r} is none of the columns: {', '.join(symbols)}")
    buffer, readable = TickBuffer(history, len(symbols)), Levels.reading(changes)
    position = Position()
    rows: Floats = prices.to_numpy(np.float64)
    for time, row in zip(milliseconds(pd.DatetimeIndex(prices.index)).tolist(), rows, strict=True):
        usable = readable.usable(row)
        if np.isnan(usable).all():
            continue
        placement = grid.place(position, time, None)
        position = placement.position
        if placement.verdict is Verdict.ACCEPTED:
            buffer.append(placement.time, placement.is_break, usable)
    levels = Levels.starting(changes).seeing(buffer.prices)
    return TrainingSet(symbols, targets or symbols, levels, grid.step, buffer.times, buffer.breaks, buffer.prices)
