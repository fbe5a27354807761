"""A model in service: the forecaster, its state, and where its symbols stand in the engine's rows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streamer.core.features import State
from streamer.core.forecaster import Forecaster
from streamer.core.grid import Floats, Row, rows_between


@dataclass(frozen=True, slots=True, eq=False)
class Serving:
    """One model at one row: a value, which `after` replaces.

    columns: the engine's column of each of the model's symbols, -1 where the engine has none. targets: the
    engine's column of each target.
    """

    model: Forecaster
    state: State
    columns: npt.NDArray[np.intp]
    targets: npt.NDArray[np.intp]

    @classmethod
    def start(cls, model: Forecaster, state: State, index: Mapping[str, int]) -> "Serving":
        """Put `model` in service on an engine whose symbols have the columns `index`."""
        columns = np.array([index.get(symbol, -1) for symbol in model.symbols], np.intp)
        targets = np.array([index.get(symbol, -1) for symbol in model.targets], np.intp)
        return cls(model, state, columns, targets)

    def after(self, previous: int | None, row: Row, step: int) -> tuple["Serving", Floats]:
        """Step over the blank rows since the time `previous` and over `row`, both in the engine's columns.

        Returns the model in service after it, and the predicted changes `(2, len(model.targets))`.
        """
        prices = row.prices[self.columns] if len(row.prices) else np.full(len(self.columns), np.nan)
        prices[self.columns < 0] = np.nan
        own = Row(row.time, prices, row.is_break)
        *missing, last = [own] if previous is None else rows_between(previous, own, step)
        state = self.state
        for each in missing:
            state, _ = self.model.step(state, each)
        state, changes = self.model.step(state, last)
        return replace(self, state=state), changes
