"""The last so many values of each of a stream's symbols, in single precision: for charts, not for the forecast."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]
Floats32 = npt.NDArray[np.float32]

_SPARE = 64  # columns that may be left over before those of symbols that have gone are let go


class Series:
    """A ring of rows: a time in ms, and `parts` values of each symbol; NaN where a symbol had none.

    It holds `capacity * (8 + 4 * parts * n_symbols)` bytes, and is allocated with the first row.
    """

    def __init__(self, capacity: int, parts: int) -> None:
        self._capacity = capacity
        self._symbols: tuple[str, ...] = ()
        self._times: Times = np.zeros(0, np.int64)
        self._values: Floats32 = np.zeros((0, parts, 0), np.float32)
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, self._capacity)

    def add(self, time: int, symbols: tuple[str, ...], parts: Sequence[npt.NDArray[np.floating]]) -> None:
        """Add a row: of each part the values of `symbols`, `(n,)`; the oldest goes when the ring is full."""
        if not symbols:
            return
        columns = None if symbols == self._symbols else self._columns(symbols)
        if not len(self._times):
            self._times = np.zeros(self._capacity, np.int64)
        slot = self._added % self._capacity
        self._times[slot] = time
        row = self._values[slot]
        if columns is None:
            for part, values in enumerate(parts):
                row[part] = values
        else:
            row[:] = np.nan
            for part, values in enumerate(parts):
                row[part, columns] = values
        self._added += 1

    def of(self, symbol: str) -> tuple[Times, Floats32]:
        """Times `(rows,)` and values `(rows, parts)` of a symbol, oldest first; no rows where it had none."""
        if symbol not in self._symbols:
            return self._times[:0], self._values[:0, :, :0].reshape(0, self._values.shape[1])
        values = self._values[:, :, self._symbols.index(symbol)]
        order = np.arange(self._added - len(self), self._added) % self._capacity
        rows = order[np.isfinite(values[order]).any(axis=1)]
        return self._times[rows], values[rows]

    def thin(self) -> None:
        """Keep every other row of a ring that has just become full."""
        half = self._capacity // 2
        self._times[:half] = self._times[1 : 2 * half : 2].copy()
        self._values[:half] = self._values[1 : 2 * half : 2].copy()
        self._added = half

    def adjust(self, symbol: str, ratio: float, name: str) -> None:
        """Bring a symbol's values to prices `ratio` times as large, and to its new name."""
        if name != symbol and name in self._symbols:  # of a symbol that has left
            self._lay_out(tuple([each for each in self._symbols if each != name]))
        if symbol in self._symbols:
            column = self._symbols.index(symbol)
            self._values[:, :, column] *= np.float32(ratio)
            self._symbols = (*self._symbols[:column], name, *self._symbols[column + 1 :])

    def _columns(self, symbols: tuple[str, ...]) -> list[int] | None:
        """Columns of `symbols`, made where there are none; None: all of them, in order."""
        if not set(symbols) <= set(self._symbols):
            both = tuple(dict.fromkeys((*self._symbols, *symbols)))
            self._lay_out(both if len(both) <= 2 * len(symbols) + _SPARE else symbols)
        if symbols == self._symbols:
            return None
        known = {symbol: column for column, symbol in enumerate(self._symbols)}
        return [known[symbol] for symbol in symbols]

    def _lay_out(self, symbols: tuple[str, ...]) -> None:
        """Have columns for `symbols` alone, in that order, with what is held of them."""
        known = {symbol: column for column, symbol in enumerate(self._symbols)}
        kept = [(column, known[symbol]) for column, symbol in enumerate(symbols) if symbol in known]
        values = np.full((self._capacity, self._values.shape[1], len(symbols)), np.nan, np.float32)
        for new, old in kept:
            values[: len(self._values), :, new] = self._values[:, :, old]
        self._values, self._symbols = values, symbols
