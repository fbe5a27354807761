"""What the engine asks of a model."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Protocol

from streamer.core.features import State
from streamer.core.grid import Floats, Row
from streamer.core.levels import Levels

SERVED, LSTM, LINEAR, PERSISTENCE = "served", "lstm", "linear", "persistence"
FORECASTERS = (SERVED, LSTM, LINEAR, PERSISTENCE)
"""What is scored, always on the same cells: what was published, the bare network, a linear expert, the baseline."""

MODELLED = FORECASTERS[:-1]
"""Those that a model gives, in the order of the rows of its predictions."""

MIX = "mix."
"""Prefix of what a state has learned of its experts from forecasts and what came of them, and of nothing else."""


class Forecaster(Protocol):
    """A trained model: immutable and complete; all that changes from row to row is in its `State`."""

    @property
    def id(self) -> str:
        """Name under which the store holds it, and which its forecasts carry."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols whose prices it reads, in the order of the rows that it is given."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Symbols that it forecasts, a subset of `symbols`."""

    @property
    def change(self) -> Levels:
        """What a change is of each of its `symbols`: a price that is not positive is no price to a log return."""

    @property
    def as_of(self) -> int:
        """Grid time (ms) of the last row of the history that it was trained and replayed on."""

    @property
    def trained_to(self) -> int:
        """Grid time (ms) of the last row that it has learned from: `as_of`, but for one that was another stream's."""

    @property
    def adjusted(self) -> int:
        """Number of the last adjustment (`core.adjustment`) that this history had, -1 for none."""

    def initial_state(self) -> State:
        """State before any row."""

    def trained_state(self) -> State:
        """State as it stood after the row at `as_of`."""

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        """Take in one row, prices `(len(symbols),)`, all of them usable to its `change` or NaN.

        Returns the new state and the predicted change of level to the next row, shape
        `(len(MODELLED), len(targets))`, zero where the model has no such forecaster. Pure: neither `state` nor `row` is
        changed.
        """

    @property
    def alike(self) -> Hashable:
        """Models in which it is equal take the same step, from any state of one of them."""

    def step_all(self, states: Sequence[State], rows: Sequence[Row]) -> list[tuple[State, Floats]]:
        """`step` of each of `rows` from its state, bit for bit: those of many streams, as one batch if that is less."""

    def shares(self, state: State) -> Mapping[str, Floats]:
        """Share of each expert in what is served next, by name, each `(len(targets),)`; they add up to 1 at least."""


class OneByOne:
    """What a forecaster inherits that was always one stream's: its states take their steps one by one."""

    @property
    def alike(self) -> Hashable:
        """Itself."""
        return self

    @property
    def trained_to(self: Forecaster) -> int:
        """Grid time (ms) of the last row of its history."""
        return self.as_of

    def step_all(self: Forecaster, states: Sequence[State], rows: Sequence[Row]) -> list[tuple[State, Floats]]:
        """`step` of each state and row."""
        return [self.step(state, row) for state, row in zip(states, rows, strict=True)]
