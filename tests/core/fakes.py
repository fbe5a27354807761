"""A real, small forecaster without TensorFlow, and ways for it to go wrong."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from streamer.core.buffer import TickBuffer
from streamer.core.engine import ForecastEngine
from streamer.core.features import Features, State
from streamer.core.forecaster import OneByOne
from streamer.core.grid import Floats, Row
from streamer.core.levels import Levels
from streamer.errors import ArtifactError

UNITS = 4


@dataclass(frozen=True, eq=False)
class FakeForecaster(OneByOne):
    """A recurrent network of `UNITS` hidden units with random weights, which its id seeds.

    Its bias moves the state in blank rows too, and it forgets slowly: a row that is left out, or fed twice,
    shows in every later forecast. As served it predicts half of what the bare network does.
    """

    id: str
    symbols: tuple[str, ...]
    targets: tuple[str, ...]
    change: Levels
    as_of: int = -1
    trained: State = field(default_factory=dict)
    adjusted: int = field(default=-1, kw_only=True)

    @cached_property
    def _weights(self) -> tuple[Floats, Floats, Floats, Floats]:
        seed = int.from_bytes(hashlib.sha256(self.id.encode()).digest()[:8], "big")
        rng = np.random.default_rng(seed)
        inputs = len(self.symbols) * len(Features.NAMES)
        into, bias, out = rng.normal(size=(inputs, UNITS)), rng.normal(size=UNITS), rng.normal(size=UNITS)
        return into * 0.3, 0.95 * np.eye(UNITS), bias * 0.1, np.outer(out, np.ones(len(self.targets)))

    def initial_state(self) -> State:
        """Nothing seen: zeros, in single precision as a real network's."""
        return {**Features(self.change).initial(len(self.symbols)), "h0": np.zeros(UNITS, np.float32)}

    def trained_state(self) -> State:
        """State after the history that `trained_on` replayed."""
        return self.trained

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        """Take in one row; returns the new state and changes `(3, len(targets))`."""
        features = Features(self.change)
        seen, x = features.step(state, row)
        into, recurrent, bias, out = self._weights
        hidden = np.tanh(x.reshape(-1) @ into + state["h0"] @ recurrent + bias).astype(np.float32)
        columns = [self.symbols.index(target) for target in self.targets]
        bare = (hidden @ out) * features.scale(seen)[columns]
        return {**seen, "h0": hidden}, np.stack([0.5 * bare, bare, 0.25 * bare])

    def shares(self, state: State) -> Mapping[str, Floats]:
        """Half of it is the network, half persistence."""
        half = np.full(len(self.targets), 0.5)
        return {"network": half, "persistence": half}

    def trained_on(self, history: TickBuffer, columns: Sequence[int], step: int) -> "FakeForecaster":
        """The same weights with the state that replaying all of `history` leaves, as a trainer makes it."""
        state = self.initial_state()
        for row in history.rows(step):
            state, _ = self.step(state, Row(row.time, row.prices[list(columns)], row.is_break))
        return replace(self, as_of=int(history.times[-1]), trained=state)


def fake(
    engine: ForecastEngine,
    model_id: str = "m1",
    symbols: Sequence[str] = ("A", "B"),
    targets: Sequence[str] | None = None,
) -> FakeForecaster:
    """A forecaster trained on all that `engine` holds now."""
    columns = [engine.symbols.index(symbol) for symbol in symbols]
    change = engine.market.levels.take(columns)
    untrained = FakeForecaster(model_id, tuple(symbols), tuple(symbols if targets is None else targets), change)
    return untrained.trained_on(engine.history, columns, engine.settings.step)


@dataclass(frozen=True, eq=False)
class FailingForecaster(FakeForecaster):
    """Raises at the row of grid time `fails_at` (ms)."""

    fails_at: int = -1

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        """Take in one row; ArithmeticError at `fails_at`."""
        if row.time == self.fails_at:
            raise ArithmeticError("the network gave up")
        return super().step(state, row)


@dataclass
class Shelf:
    """A model store in memory."""

    models: Mapping[str, FakeForecaster]

    def load(self, model_id: str) -> FakeForecaster:
        """The model of that id; ArtifactError where there is none."""
        if model_id not in self.models:
            raise ArtifactError(f"model {model_id} is gone: train it anew")
        return self.models[model_id]


def shelf(*models: FakeForecaster) -> Shelf:
    """A store that holds `models`."""
    return Shelf({model.id: model for model in models})
