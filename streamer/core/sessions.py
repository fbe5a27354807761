"""Open hours of a market: which steps of the grid are open, and where a session begins."""

from collections.abc import Callable
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

Spans = npt.NDArray[np.int64]
"""Open hours: [open, close) in ms since the Unix epoch, `(n, 2)`, in any order; they may touch or overlap."""

ALWAYS = np.array([[-(2**62), 2**62]], np.int64)
"""The spans of a time of which nothing is known: all of it counts as open, and then only gaps break a session."""

_BLOCK = 366 * 86_400_000  # ms; no market is closed for longer, so that a block and the one before it have an answer
_AHEAD = 31 * 86_400_000  # ms; the last step of a block may reach into the next one
_KEPT = 64  # blocks

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Sessions:
    """Open hours, asked for in blocks of about a year and kept; what it says of a time is always the same.

    hours: gives the spans that touch [start, end), ms; the same ones whenever it is asked.
    """

    def __init__(self, hours: Callable[[int, int], Spans]) -> None:
        self._hours = hours
        self._asked: dict[int, Spans] = {}
        self._blocks: dict[tuple[int, int], tuple[Spans, Spans]] = {}

    def __deepcopy__(self, memo: object) -> Self:
        return self  # nothing in it ever changes but what it remembers

    def is_open(self, time: int) -> bool:
        """Whether the market is open at `time`, ms."""
        opened, closed = self.stretch(time, 1)
        return opened <= time < closed

    def stretch(self, time: int, step: int) -> tuple[int, int]:
        """The newest stretch of open steps that has begun at `time`: its first step, and the first closed one after.

        A step is open where any part of it is. Far in the past, both of them, where none has begun for a year.
        """
        opens, closes = self._block(time // _BLOCK, step)
        at = int(np.searchsorted(opens, time, "right")) - 1
        return (int(opens[at]), int(closes[at])) if at >= 0 else (int(ALWAYS[0, 0]), int(ALWAYS[0, 0]))

    def _block(self, number: int, step: int) -> tuple[Spans, Spans]:
        """First and first closed step of the stretches that have begun by the end of a block, oldest first."""
        return _remembered(self._blocks, (number, step), lambda: _stretches(self._spans(number), step))

    def _spans(self, number: int) -> Spans:
        start, end = (number - 1) * _BLOCK, (number + 1) * _BLOCK + _AHEAD
        return _remembered(self._asked, number, lambda: self._hours(start, end))


def _remembered(known: dict[_Key, _Value], key: _Key, find: Callable[[], _Value]) -> _Value:
    """What is known under `key`, else what is found; of what is known, the oldest is forgotten."""
    value = known.get(key)
    if value is None:
        value = find()
        if len(known) >= _KEPT:
            known.pop(next(iter(known)), None)  # another thread, that of the scrapes, may have done so just now
        known[key] = value
    return value


def _stretches(spans: Spans, step: int) -> tuple[Spans, Spans]:
    """`spans` in whole steps, sorted, those that touch or overlap made one; each of the two `(stretches,)`."""
    spans = spans[spans[:, 0] < spans[:, 1]]
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    opens = spans[:, 0] // step * step
    closes = np.maximum.accumulate(-(-spans[:, 1] // step) * step)
    first = np.append(True, opens[1:] > closes[:-1])[: len(opens)]
    last = np.append(first[1:], True)[: len(opens)]
    return opens[first], closes[last]
