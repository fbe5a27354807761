"""Volatility of each symbol: exponentially weighted root mean square of its one-print changes."""

import numpy as np

from streamer.core.grid import ONE, ZERO, Floats, constant

HALF_LIFE = 200.0  # prints: about half a session of minute prices
WINSOR = 6.0  # sigmas: one bad print (1.06 between two 120s happened) must not blow up the scale
FLOOR = 1e-12  # level units: a symbol that never moved still divides

_DECAY = constant(0.5 ** (1.0 / HALF_LIFE))
_MOST, _FLOOR = constant(WINSOR * WINSOR), constant(FLOOR)


def update(variance: Floats, weight: Floats, change: Floats, seen: Floats | None) -> tuple[Floats, Floats]:
    """One step of the weighted mean of squares; returns the new `(variance, weight)`, each `(n_symbols,)`.

    variance: weighted mean square so far. weight: sum of weights, which makes the mean right from the first print
    (as Adam's bias correction does). change: level change of this print. seen: 1.0 where there was one, else 0.0; None:
    there was one of each.
    """
    square, most = change * change, _MOST * variance
    # Before the first change there is nothing to say how large one may be.
    bounded = np.minimum(square, most)
    square = bounded if np.count_nonzero(most) == most.size else np.where(most > ZERO, bounded, square)
    total = _DECAY * weight + ONE
    if seen is None:
        gain = ONE / total
    else:
        total = np.where(seen > 0.0, total, weight)
        gain = seen / np.maximum(total, 1.0)
    return variance + gain * (square - variance), total


def sigma(variance: Floats) -> Floats:
    """Standard deviation in level units, never below `FLOOR`."""
    result: Floats = np.maximum(np.sqrt(variance), _FLOOR)
    return result
