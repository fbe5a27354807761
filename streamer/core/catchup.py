"""A new model on its way into service: it replays, in slices beside the path, the ticks that it has not seen."""

from typing import TYPE_CHECKING

from streamer.core.adjustment import adjusted
from streamer.core.forecaster import Forecaster
from streamer.core.grid import Row
from streamer.core.outcome import Swap
from streamer.core.serving import Serving

if TYPE_CHECKING:
    from streamer.core.engine import ForecastEngine

TRAINED, RING, STATELESS = "trained", "ring", "none"
"""Where a model's state begins: at the last row of its own history, or at zero on the ring; persistence has none."""


class CatchUp:
    """The stream goes on meanwhile; `advance` also takes up what was appended to its history since.

    start: TRAINED or RING. Every tick is named by its place in the sequence of all that were ever appended, since
    times repeat where time restarts.
    """

    def __init__(
        self, engine: "ForecastEngine", model: Forecaster, start: str | None = None, ticks: int | None = None
    ) -> None:
        """`start` and `ticks` as recorded in an earlier run; without: from the trained state where it is held."""
        self._engine = engine
        history = engine.history
        if ticks is None:
            after = history.index_after(model.as_of) if start != RING else None
            if after is None and start == TRAINED:
                raise LookupError(f"model {model.id} was trained up to a tick that the history does not hold")
            start = RING if after is None else TRAINED
            ticks = len(engine.ring) if after is None else len(history) - after
        self.start = start or TRAINED
        self._first = history.appended - ticks
        self._check_held(model.id)
        self._begin(model)

    @classmethod
    def at_once(cls, engine: "ForecastEngine", model: Forecaster, event: Swap) -> "CatchUp":
        """`model` caught up as it was when it was swapped in."""
        ready = cls(engine, model, event.start, event.ticks)
        ready.advance(len(engine.history))
        return ready

    def _begin(self, model: Forecaster) -> None:
        engine, self._seen = self._engine, self._first
        self._adjusted, model = engine.adjusted, adjusted(model, engine.adjustments)
        state = model.initial_state() if self.start == RING else model.trained_state()
        self.serving = Serving.start(model, state, engine.index, engine.market.levels)
        # A start at zero takes no notice of what lies before it: a restored engine may not hold it.
        self._previous = None if self.start == RING else model.as_of

    @property
    def ticks(self) -> int:
        """How many it has replayed."""
        return self._seen - self._first

    @property
    def left(self) -> int:
        """How many ticks of the stream it has not seen yet."""
        return self._engine.history.appended - self._seen

    @property
    def done(self) -> bool:
        """Whether it has seen every tick of the stream."""
        return not self.left

    def advance(self, max_ticks: int) -> bool:
        """Replay at most `max_ticks` ticks; returns `done`.

        LookupError where the stream has run away, so that the first of them is not held any more: the swap could
        not be repeated from its record.
        """
        self._check_held(self.serving.model.id)
        engine, history = self._engine, self._engine.history
        oldest = history.appended - len(history)
        if self._adjusted != engine.adjusted:
            # A schedule replays the ticks of before it as they are after it, and rounding may tell them apart.
            self._begin(self.serving.model)
        # Symbols that joined since were blank in the ticks before.
        self.serving = Serving.start(self.serving.model, self.serving.state, engine.index, engine.market.levels)
        for sequence in range(self._seen, min(self._seen + max_ticks, history.appended)):
            time, is_break, prices = history[sequence - oldest]
            self.serving, _ = self.serving.after(self._previous, Row(time, prices, is_break), engine.settings.step)
            self._previous, self._seen = time, sequence + 1
        return self.done

    def _check_held(self, model_id: str) -> None:
        if self._first < self._engine.history.appended - len(self._engine.history):
            raise LookupError(f"model {model_id} has to catch up with ticks that the history does not hold any more")
