"""The article's data: triangles out of phase, which a recurrent network can learn without error."""

import random

from streamer.core.tick import Tick

SYMBOLS = ("a", "b", "c", "d", "e")
PERIOD = 18  # 1, 2, ... 9, 10, 9, ... 2
DROPPED = 10  # rows that the article leaves out at the beginning, where its `b` has no value yet

_TOP = 9  # steps from the lowest level to the highest
_LAGS = (0, 9, 3, 12, 6)  # rows by which each follows a; b's is the article's, the others spread over the period


def price_step(seed: int = 0) -> float:
    """What all levels are multiplied by, in (0.1, 1): by so much a price moves from row to row."""
    return random.Random(seed).uniform(0.1, 1.0)


def sawtooth(rows: int, step: int, *, columns: int = 2, seed: int = 0, first: int = 0) -> list[Tick]:
    """Ticks of the first `columns` of SYMBOLS, a `step` (ms) apart; row 0, with a at its lowest, is at the Unix epoch.

    Triangles 1, 2, ... 10, 9, ... 2, b nine rows after a, all times `price_step(seed)`. first: row to begin with.
    """
    factor = price_step(seed)
    lags = dict(zip(SYMBOLS[:columns], _LAGS, strict=False))

    def level(row: int) -> float:
        return factor * (1 + _TOP - abs(row % PERIOD - _TOP))

    return [
        Tick(row * step, {symbol: level(row - lag) for symbol, lag in lags.items()})
        for row in range(first, first + rows)
    ]
