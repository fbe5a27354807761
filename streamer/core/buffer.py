"""The last so many accepted ticks: the ring of 100 and the history that a training learns from."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from streamer.core.grid import Floats, Row, is_whole, rows_between

_FIRST_ALLOCATION = 256  # rows: a thousand idle streams must not hold a thousand full histories


class TickBuffer:
    """Rolling buffer of the last `capacity` accepted ticks, oldest first, readable as contiguous views.

    Rows are appended behind the oldest ones until the allocation (at most 1.5 x capacity) is full, then the live
    ones move to the front: amortised O(1), and no view ever wraps around.
    """

    def __init__(self, capacity: int, n_symbols: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be positive, got {capacity}")
        self.capacity = capacity
        self.appended = 0  # ticks ever appended: names a tick for good, wherever it moves to
        self._start = self._end = 0
        self._allocate(min(_FIRST_ALLOCATION, capacity), n_symbols)

    def _allocate(self, rows: int, n_symbols: int) -> None:
        self._times = np.empty(rows, np.int64)
        self._breaks = np.empty(rows, np.bool_)
        self._prices = np.empty((rows, n_symbols))

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def times(self) -> npt.NDArray[np.int64]:
        """Grid times in ms, shape `(rows,)`."""
        return self._times[self._start : self._end]

    @property
    def breaks(self) -> npt.NDArray[np.bool_]:
        """True where a session begins, shape `(rows,)`."""
        return self._breaks[self._start : self._end]

    @property
    def prices(self) -> Floats:
        """Prices, NaN where blank, shape `(rows, n_symbols)`."""
        return self._prices[self._start : self._end]

    def __getitem__(self, index: int) -> tuple[int, bool, Floats]:
        """The tick at `index`, 0 being the oldest held: its time, whether a session begins with it, its prices.

        The prices are a copy: whoever keeps them does not see `scale`.
        """
        at = self._start + index
        return int(self._times[at]), bool(self._breaks[at]), self._prices[at].copy()

    def conflicts(self, prices: Floats) -> bool:
        """Whether the newest row has other prices; `prices` may have further symbols, unknown so far, on the right."""
        _, _, known = self[len(self) - 1]
        shared = np.append(known, np.full(len(prices) - len(known), np.nan))
        return not np.array_equal(prices, shared, equal_nan=True)

    def append(self, time: int, is_break: bool, prices: Floats) -> None:
        """Add a tick of shape `(n_symbols,)`; the oldest goes when the buffer is full."""
        if self._end == len(self._times):
            self._make_room()
        self._times[self._end] = time
        self._breaks[self._end] = is_break
        self._prices[self._end] = prices
        self._end += 1
        self.appended += 1
        if len(self) > self.capacity:
            self._start += 1

    def _make_room(self) -> None:
        rows = min(2 * len(self._times), self.capacity + self.capacity // 2 + 1)
        self._rebuild(max(rows, len(self) + 1), self._prices.shape[1])

    def _rebuild(self, rows: int, n_symbols: int) -> None:
        times, breaks, prices = self.times, self.breaks, self.prices
        self._allocate(rows, n_symbols)
        count, width = prices.shape
        self._times[:count], self._breaks[:count] = times, breaks
        self._prices[:count, :width] = prices
        self._prices[:count, width:] = np.nan
        self._start, self._end = 0, count

    def widened(self, n_symbols: int) -> "TickBuffer":
        """A copy with further columns on the right, blank so far."""
        copy = TickBuffer(self.capacity, n_symbols)
        copy.appended = self.appended
        copy._times, copy._breaks, copy._prices = self._times, self._breaks, self._prices
        copy._start, copy._end = self._start, self._end
        copy._rebuild(len(self._times), n_symbols)
        return copy

    def take(self, columns: npt.NDArray[np.intp]) -> "TickBuffer":
        """A copy with these columns alone, in that order; -1 is one that is blank."""
        copy = TickBuffer(self.capacity, 0)
        copy.appended = self.appended
        copy._times, copy._breaks = self._times.copy(), self._breaks.copy()
        copy._prices = self._prices[:, columns] if self._prices.shape[1] else np.empty((len(self._times), len(columns)))
        copy._prices[:, columns < 0] = np.nan
        copy._start, copy._end = self._start, self._end
        return copy

    def scale(self, column: int, ratio: float) -> None:
        """Multiply the prices of one column, in place: a copy of a long history for each split would be a pause."""
        self.prices[:, column] *= ratio

    def prepend(self, times: npt.NDArray[np.int64], breaks: npt.NDArray[np.bool_], prices: Floats) -> None:
        """Put older ticks (shapes as the properties') before the present ones, as many as there is room for."""
        room = self.capacity - len(self)
        kept = slice(max(0, len(times) - room), None)
        times = np.concatenate([times[kept], self.times])
        breaks = np.concatenate([breaks[kept], self.breaks])
        prices = np.concatenate([prices[kept], self.prices])
        self._times, self._breaks, self._prices = times, breaks, prices
        self._start, self._end = 0, len(times)

    def index_after(self, time: int) -> int | None:
        """Index of the tick after the newest one at grid time `time` (ms), or None where that one is not held."""
        found = np.flatnonzero(self.times == time)
        return int(found[-1]) + 1 if len(found) else None

    def rows(self, step: int, start: int = 0) -> Iterator[Row]:
        """Yield the rows of the ticks from index `start` on, with blank rows where steps (ms) are missing.

        The step from the tick before `start` is filled as well, where that tick is held.
        """
        previous = int(self.times[start - 1]) if start else None
        for index in range(start, len(self)):
            time, is_break, row = self[index]
            if previous is None:
                yield Row(time, row, is_break, is_whole(row))
            else:
                yield from rows_between(previous, Row(time, row, is_break, is_whole(row)), step)
            previous = time
