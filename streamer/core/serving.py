"""A model in service: the forecaster, its state, and where its symbols stand in the engine's rows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streamer.core.buffer import TickBuffer
from streamer.core.features import State
from streamer.core.forecaster import Forecaster
from streamer.core.grid import Floats, Row, rows_between

TRAINED, RING = "trained", "ring"
"""Where a model's state begins: at the last row of its own history, or at zero on the ring."""


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


class CatchUp:
    """A new model on its way into service: it replays the ticks that it has not seen, in slices.

    The stream goes on meanwhile; `advance` also takes up what was appended to the history since.
    """

    def __init__(
        self,
        model: Forecaster,
        history: TickBuffer,
        index: Mapping[str, int],
        step: int,
        ring: int,
        start: str | None = None,
    ) -> None:
        """`start`: as recorded in an earlier run; None: from the trained state where its last row is still held."""
        at = history.index_after(model.as_of) if start != RING else None
        if start == TRAINED and at is None:
            raise LookupError(f"model {model.id} was trained up to a tick that is not in the history any more")
        self.start = RING if at is None else TRAINED
        state = model.initial_state() if at is None else model.trained_state()
        self.serving = Serving.start(model, state, index)
        self._history = history
        self._step = step
        self._first = max(0, len(history) - ring) if at is None else at
        self._previous = int(history.times[self._first - 1]) if self._first else None
        self._seen = history.appended - len(history) + self._first

    def advance(self, max_ticks: int) -> bool:
        """Replay at most `max_ticks` ticks; True once it has seen every tick that the history holds.

        LookupError where the stream has run away: the next tick that it needs is not held any more.
        """
        oldest = self._history.appended - len(self._history)
        if self._seen < oldest:
            raise LookupError(f"model {self.serving.model.id} is further behind than the history reaches")
        for _ in range(max_ticks):
            if self._seen == self._history.appended:
                return True
            time, is_break, prices = self._history[self._seen - oldest]
            self.serving, _ = self.serving.after(self._previous, Row(time, prices, is_break), self._step)
            self._previous = time
            self._seen += 1
        return self._seen == self._history.appended
