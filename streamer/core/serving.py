"""A model in service: the forecaster, its state, and where its symbols stand in the engine's rows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streamer.core.features import State
from streamer.core.forecaster import Forecaster
from streamer.core.grid import Floats, Row, blanks_between, is_whole
from streamer.core.levels import Levels


@dataclass(frozen=True, slots=True, eq=False)
class Ahead:
    """A step that was worked out before it was asked for: over `row`, to `state`, with the changes `predicted`."""

    row: Row
    state: State
    predicted: Floats

    def is_over(self, row: Row) -> bool:
        """Whether it is the step over `row`, bit for bit."""
        own = self.row
        is_alike = (own.time, own.is_break, own.whole) == (row.time, row.is_break, row.whole)
        return is_alike and own.prices.tobytes() == row.prices.tobytes()


@dataclass(frozen=True, slots=True, eq=False)
class Serving:
    """One model at one row: a value, which `after` replaces.

    columns: the engine's column of each of the model's symbols, -1 where the engine has none. targets: the
    engine's column of each target. levels: those of its changes, in the engine's columns; with the engine's own where
    it has none. foreign: whether they differ from the engine's. aligned: whether the model's symbols and targets are
    the engine's columns, one by one. ahead: its next step, if that is known already.
    """

    model: Forecaster
    state: State
    columns: npt.NDArray[np.intp]
    targets: npt.NDArray[np.intp]
    levels: Levels
    foreign: bool
    aligned: bool
    ahead: Ahead | None = None

    @classmethod
    def start(cls, model: Forecaster, state: State, index: Mapping[str, int], levels: Levels) -> "Serving":
        """Put `model` in service on an engine whose symbols have the columns `index` and the `levels`."""
        columns = np.array([index.get(symbol, -1) for symbol in model.symbols], np.intp)
        targets = np.array([index.get(symbol, -1) for symbol in model.targets], np.intp)
        held = columns >= 0
        own = levels.replaced(columns[held], model.change.take(held))
        every = np.arange(len(index))
        aligned = np.array_equal(columns, every) and np.array_equal(targets, every)
        return cls(model, state, columns, targets, own, not np.array_equal(own.is_log, levels.is_log), aligned)

    def after(self, previous: int | None, row: Row, step: int) -> tuple["Serving", Floats]:
        """Step over the blank rows since the time `previous` and over `row`, both in the engine's columns.

        Returns the model in service after it, and the predicted changes `(len(MODELLED), n)` in the engine's columns,
        zero where it has none.
        """
        state, own = self.state, self._own(row)
        if previous is not None:
            for blank in blanks_between(previous, own, step):
                state, _ = self.model.step(state, blank)
        if self.ahead is not None and self.ahead.is_over(own):
            state, predicted = self.ahead.state, self.ahead.predicted
        else:
            state, predicted = self.model.step(state, own)
        after = Serving(self.model, state, self.columns, self.targets, self.levels, self.foreign, self.aligned)
        if self.aligned:
            return after, predicted
        changes, held = np.zeros((len(predicted), len(row.prices))), self.targets >= 0
        changes[:, self.targets[held]] = predicted[:, held]
        return after, changes

    def next_row(self, previous: int | None, row: Row, step: int) -> Row | None:
        """What `after` steps over; None where that is more than one row."""
        own = self._own(row)
        return own if previous is None or not blanks_between(previous, own, step) else None

    def knowing(self, ahead: Ahead) -> "Serving":
        """The same that knows its next step."""
        return replace(self, ahead=ahead)

    def _own(self, row: Row) -> Row:
        """`row` in the model's columns, with what its changes can use."""
        if self.aligned and row.whole:
            return row
        prices = row.prices[self.columns] if len(row.prices) else np.full(len(self.columns), np.nan)
        prices[self.columns < 0] = np.nan
        if np.count_nonzero(prices <= 0.0):
            prices = self.model.change.usable(prices)
        return Row(row.time, prices, row.is_break, is_whole(prices))
