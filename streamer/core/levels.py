"""Changes of price: what is learned, predicted and measured in units of volatility."""

from enum import StrEnum

import numpy as np

from streamer.core.grid import Floats

_MAX_LOG_RETURN = 50.0  # e^50: beyond any price that a market printed; keeps exp finite whatever a network says
_LARGEST = 1e100  # beyond any price; its square is still a number


class Change(StrEnum):
    """What a change is: of the log price, or of the price."""

    LOG_RETURN = "log_return"
    DIFFERENCE = "difference"

    def usable(self, prices: Floats) -> Floats:
        """`prices` with NaN (blank) wherever a price cannot be used: not finite; not positive for log returns."""
        good = np.abs(prices) <= _LARGEST
        if self is Change.LOG_RETURN:
            good &= prices > 0.0
        return prices if good.all() else np.where(good, prices, np.nan)

    def level(self, prices: Floats) -> Floats:
        """The scale on which changes are differences: log price, or price. NaN stays NaN."""
        return np.log(prices) if self is Change.LOG_RETURN else prices

    def between(self, before: Floats, after: Floats) -> Floats:
        """Change from the prices `before` to the prices `after`."""
        return self.level(after) - self.level(before)

    def apply(self, before: Floats, change: Floats) -> Floats:
        """Prices after `change`: exactly `before` where it is zero, and finite for every change."""
        if self is Change.LOG_RETURN:
            after = before * np.exp(bounded(change, _MAX_LOG_RETURN))
        else:
            after = before + bounded(change, _LARGEST)
        return bounded(after, _LARGEST)


def bounded(values: Floats, bound: float) -> Floats:
    """`values` within `bound` of zero (`np.clip` takes three times as long on a short vector)."""
    return np.minimum(np.maximum(values, -bound), bound)
