"""What goes into the engine: one vector of prices at one time."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tick:
    """One price vector.

    time: event time, milliseconds since the Unix epoch, as sent (the grid floors it).
    prices: price by symbol; a blank is absent or NaN.
    record_time: timestamp of the record that carried it (ms), the only clock that a tick is compared with.
    listed: whether the prices came as a list, so that their names are those of the configuration.
    """

    time: int
    prices: Mapping[str, float]
    record_time: int | None = None
    listed: bool = False

    def price(self, symbol: str) -> float:
        """Price of `symbol`, NaN where blank."""
        return self.prices.get(symbol, math.nan)
