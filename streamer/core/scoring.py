"""Prequential scoring: every forecast against the price that was then really seen.

A.P. Dawid, "Present position and potential developments: the prequential approach", JRSS A 147 (1984).
"""

import math
from collections.abc import Iterable, Mapping
from copy import copy
from typing import Self

import numpy as np
import numpy.typing as npt

from streamer.core.features import State
from streamer.core.grid import Floats

_PERFECT = 1e-6  # a ratio's lower bound: log 0 of one perfect symbol would decide for all others
_ONE = np.array(1)  # beside a Python int, adding to a short vector takes twice as long
_BLOCKS = 24  # the window is kept as sums of so many blocks: constant memory, and a snapshot of a few kB


def mean_ratio(pairs: Iterable[tuple[float, float]]) -> float:
    """Geometric mean of the ratios of errors whose denominator is not zero; NaN where there is none."""
    logs = [math.log(max(above / below, _PERFECT)) for above, below in pairs if below > 0.0]
    return math.exp(math.fsum(logs) / len(logs)) if logs else math.nan


class Scoreboard:
    """Squared errors and coverage per symbol, over the last `window` scored forecasts and since the beginning.

    All forecasters are scored on the same cells. The window is kept in up to 24 blocks of equal size, together at most
    `window`, the oldest dropped whole: once full it covers between all of them but one and all.
    """

    def __init__(self, n_symbols: int, n_forecasters: int, window: int) -> None:
        self._size = -(-window // min(_BLOCKS, window))
        blocks = window // self._size
        # The last column counts the prices inside their interval.
        self._sums = np.zeros((n_symbols, blocks, n_forecasters + 1))
        self._counts = np.zeros((n_symbols, blocks), np.int64)
        self._block = np.zeros(n_symbols, np.int64)
        self.squared_error_total = np.zeros((n_symbols, n_forecasters))
        self.scored_total = np.zeros(n_symbols, np.int64)
        self._abreast = 0

    def add(self, cells: npt.NDArray[np.intp], squared_errors: Floats, covered: npt.NDArray[np.bool_]) -> None:
        """Take in scored cells: symbol indices `(c,)`, squared errors `(c, n_forecasters)`, covered `(c,)`."""
        everything = len(cells) == len(self._block)
        if everything and self._abreast:
            self._add_abreast(squared_errors, covered)
            return
        self._abreast = 0
        block = self._block[cells]
        full = self._counts[cells, block] == self._size
        if full.any():
            block = np.where(full, (block + 1) % self._counts.shape[1], block)
            self._block[cells] = block
            self._sums[cells[full], block[full]] = 0.0
            self._counts[cells[full], block[full]] = 0
        self._counts[cells, block] += 1
        self._sums[cells, block, :-1] += squared_errors
        self._sums[cells, block, -1] += covered
        self.squared_error_total[cells] += squared_errors
        self.scored_total[cells] += 1
        if everything and full.all() and (self._block == self._block[0]).all():
            self._abreast = self._size - 1

    def _add_abreast(self, squared_errors: Floats, covered: npt.NDArray[np.bool_]) -> None:
        """As `add`, where the block of each symbol is the same one, with room for `_abreast` more."""
        self._abreast -= 1
        block = self._block[0]
        counts, sums = self._counts[:, block], self._sums[:, block]
        counts += _ONE
        errors, hits = sums[:, :-1], sums[:, -1]
        errors += squared_errors
        hits += covered
        self.squared_error_total += squared_errors
        self.scored_total += _ONE

    @property
    def scored(self) -> npt.NDArray[np.int64]:
        """Forecasts in the window, `(n_symbols,)`."""
        count: npt.NDArray[np.int64] = self._counts.sum(axis=1)
        return count

    @property
    def rmse(self) -> Floats:
        """Root mean squared error over the window, price units, `(n_symbols, n_forecasters)`; NaN where unscored."""
        return np.sqrt(self._mean()[:, :-1])

    @property
    def coverage(self) -> Floats:
        """Share of prices inside their interval over the window, `(n_symbols,)`; NaN where unscored."""
        return self._mean()[:, -1]

    def _mean(self) -> Floats:
        count = self.scored[:, None]
        mean: Floats = np.divide(
            self._sums.sum(axis=1), count, out=np.full((len(count), self._sums.shape[2]), np.nan), where=count > 0
        )
        return mean

    def widened(self, n_symbols: int) -> Self:
        """A copy with further symbols on the right, unscored so far."""
        wide = copy(self)
        wide._abreast = 0
        for name, array in self._state().items():
            padding = [(0, n_symbols - len(array))] + [(0, 0)] * (array.ndim - 1)
            setattr(wide, name, np.pad(array, padding))
        return wide

    def take(self, columns: npt.NDArray[np.intp]) -> Self:
        """A copy of these symbols alone, in that order."""
        narrow = copy(self)
        narrow._abreast = 0
        for name, array in self._state().items():
            setattr(narrow, name, array[columns])
        return narrow

    def adjusted(self, column: int, ratio: float) -> Self:
        """A copy with the window's errors of one symbol in prices `ratio` times as large.

        The totals stay: a counter that falls reads as a restart.
        """
        other = copy(self)
        other._sums = self._sums.copy()
        other._sums[column, :, :-1] *= ratio * ratio
        return other

    def _state(self) -> dict[str, np.ndarray]:
        names = ("_sums", "_counts", "_block", "squared_error_total", "scored_total")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> State:
        """Everything it knows, for a snapshot."""
        return {name.lstrip("_"): array for name, array in self._state().items()}

    def restored(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take over the `arrays()` of a scoreboard of the same shape; ValueError where the shapes differ."""
        for name, array in self._state().items():
            stored = arrays[name.lstrip("_")]
            if stored.shape != array.shape:
                raise ValueError(f"scoreboard {name}: shape {stored.shape}, expected {array.shape}")
            array[...] = stored
        self._abreast = 0
        return self
