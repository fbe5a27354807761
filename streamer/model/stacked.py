"""States of many streams side by side: as one, whose arrays have one more axis before all others, and apart again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
import numpy.typing as npt

from streamer.core.features import State

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an array lies in a row of bytes."""

    begin: int
    end: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def of(self, rows: Bytes) -> np.ndarray:
        """The array in `rows`, `(..., size)`, as a view."""
        return rows[..., self.begin : self.end].view(self.dtype).reshape(*rows.shape[:-1], *self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where the arrays of a state lie in a row of bytes: rows are copied at once, arrays one by one."""

    places: Mapping[str, _Place]
    size: int

    @classmethod
    def of(cls, state: State) -> "Layout":
        """Layout of states whose arrays are like those of `state`: one for all of them."""
        return _layout(tuple([(name, array.shape, array.dtype) for name, array in state.items()]))

    def stacked(self, states: Sequence[State]) -> dict[str, np.ndarray]:
        """Arrays `(streams, ...)` of all `states`, in their order."""
        rows = [self._row(state) for state in states]
        block = np.concatenate(rows).reshape(len(rows), self.size)
        return {name: place.of(block) for name, place in self.places.items()}

    def apart(self, stacked: State, streams: int) -> list[State]:
        """The state of each of so many. Copies: a view would keep those of all for one's sake."""
        block = np.empty((streams, self.size), np.uint8)
        for name, place in self.places.items():
            place.of(block)[...] = stacked[name]
        return [Packed(self, row.copy()) for row in block]

    def _row(self, state: State) -> Bytes:
        if isinstance(state, Packed) and state.layout is self:
            return state.row
        row = np.empty(self.size, np.uint8)
        for name, place in self.places.items():
            place.of(row)[...] = state[name]
        return row


@dataclass(frozen=True, slots=True, eq=False)
class Packed(Mapping[str, np.ndarray]):
    """A state in a row of bytes, `(layout.size,)`."""

    layout: Layout
    row: Bytes

    def __getitem__(self, name: str) -> np.ndarray:
        """An array, as a view."""
        return self.layout.places[name].of(self.row)

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.places)

    def __len__(self) -> int:
        return len(self.layout.places)


@lru_cache(64)
def _layout(arrays: tuple[tuple[str, tuple[int, ...], np.dtype], ...]) -> Layout:
    places, begin = {}, 0
    # The largest numbers first, or some would not be aligned.
    for name, shape, dtype in sorted(arrays, key=lambda each: -each[2].itemsize):
        end = begin + dtype.itemsize * prod(shape)
        places[name], begin = _Place(begin, end, shape, dtype), end
    return Layout({name: places[name] for name, _, _ in arrays}, begin + -begin % 8)
