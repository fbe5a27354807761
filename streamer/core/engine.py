"""The engine of one stream: ticks in, forecasts and measurements out. Pure, synchronous, without I/O or clock."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

import numpy as np
import numpy.typing as npt

from streamer.core.adjustment import INVALID, KEPT, NEVER, Adjustment, adjusted, obstacle
from streamer.core.buffer import TickBuffer
from streamer.core.calibration import Calibration
from streamer.core.catchup import STATELESS, CatchUp
from streamer.core.drift import Drift
from streamer.core.forecaster import FORECASTERS, MODELLED, Forecaster
from streamer.core.grid import Floats, Placement, Position, Row, Verdict, is_blank, is_whole
from streamer.core.levels import Change, Levels
from streamer.core.market import Market
from streamer.core.outcome import AHEAD, PERSISTENCE_MODEL, Dropped, Rejected, Step, Swap, no_price, too_many_symbols
from streamer.core.pending import Pending, Scores
from streamer.core.policy import Reason, RetrainPolicy
from streamer.core.rhythm import Rhythm
from streamer.core.scoring import Scoreboard
from streamer.core.serving import Serving
from streamer.core.settings import EngineSettings
from streamer.core.spacing import SpacingWatch
from streamer.core.tick import Tick

_SWAPS_KEPT = 32  # in the snapshot, until the store has recorded them
_REVERTED_KEPT = 64  # in the snapshot: trained again on the same ticks to the same weights, one would be promoted anew


class ForecastEngine:
    """One stream: places each tick in time, scores what was pending, and forecasts the next.

    A tick is worked out in full before anything is changed, so an exception leaves the engine as it was.
    A `schedule` gives the swaps of an earlier run: they happen at the same ticks and replace training; `load`
    gives the model of an id.
    """

    def __init__(
        self,
        settings: EngineSettings,
        schedule: Iterable[Swap] | None = None,
        load: Callable[[str], Forecaster] | None = None,
    ) -> None:
        self.settings = settings
        self.grid = settings.grid
        self.position = Position()
        self.symbols: tuple[str, ...] = ()
        self.ring = TickBuffer(settings.window, 0)
        self.history = TickBuffer(settings.history, 0)
        self._readable = Levels.reading(())
        self.market = Market.initial(Levels.starting(()))
        self.scoreboard = Scoreboard(0, len(FORECASTERS), settings.scoring_window)
        self.calibration = Calibration.initial(0, settings.coverage)
        self.policy = RetrainPolicy(settings.first, settings.every if schedule is None else 0, settings.cooldown)
        self.drift = Drift(settings.drift)
        self.rhythm = Rhythm.initial()
        self.pending: Pending | None = None
        self.serving: Serving | None = None
        self.swaps: list[Swap] = []
        self.reverted: tuple[str, ...] = ()
        self.adjustments: tuple[Adjustment, ...] = ()
        self.configured = settings.symbols
        self._spacing = SpacingWatch(settings.step)
        self._schedule = list(schedule or ())
        self._load = load
        self.widen(settings.symbols)

    @property
    def model_id(self) -> str:
        """Id of the model in service, "persistence" while there is none."""
        return self.serving.model.id if self.serving else PERSISTENCE_MODEL

    @property
    def switched(self) -> tuple[str, ...]:
        """Symbols of `auto` whose changes are differences, since a price was not positive."""
        pairs = zip(self.symbols, self.settings.changes(self.symbols), self.market.levels.is_log.tolist(), strict=True)
        return tuple([symbol for symbol, change, is_log in pairs if change is Change.AUTO and not is_log])

    @property
    def is_scheduled(self) -> bool:
        """Whether swaps of an earlier run are still to come."""
        return bool(self._schedule)

    def is_expected(self, time: int) -> bool:
        """Whether ticks are expected at `time`, ms: in open hours, or without a calendar where they came before."""
        return self.rhythm.is_awake(time) if self.grid.sessions is None else self.grid.sessions.is_open(time)

    @property
    def adjusted(self) -> int:
        """Number of the last adjustment, -1 before the first."""
        return self.adjustments[-1].number if self.adjustments else NEVER

    def process(self, tick: Tick) -> Step:
        """Take in one tick, a whole vector, and say what became of it."""
        return self._letting_go(tick.prices, lambda: self._process(tick))

    def _process(self, tick: Tick) -> Step:
        prices, new = self._read(tick)
        if is_blank(prices):
            return Step(no_price(tick.prices))
        if len(prices) > self.settings.max_symbols:
            return Step(too_many_symbols(len(prices)))
        placement = self.grid.place(self.position, tick.time, tick.record_time)
        if placement.verdict is Verdict.AHEAD:
            return Step(AHEAD)
        spacing = self._spacing.observe(tick.time)
        if placement.verdict is not Verdict.ACCEPTED:
            self.position = placement.position
            return Step(self._dropped(placement.verdict, prices), spacing=spacing)
        return self._accept_wider(placement, prices, new, spacing) if new else self.accept(placement, prices, spacing)

    def take(self, placement: Placement, vector: Mapping[str, float]) -> Step:
        """Take in the prices, `usable` ones, of an accepted step; new symbols in the order they stand in."""
        return self._letting_go(vector, lambda: self._take(placement, vector))

    def _take(self, placement: Placement, vector: Mapping[str, float]) -> Step:
        prices, new = self._read(Tick(placement.time, vector))
        spacing = self._spacing.observe(placement.time)
        return self._accept_wider(placement, prices, new, spacing) if new else self.accept(placement, prices, spacing)

    def _accept_wider(self, placement: Placement, prices: Floats, new: Sequence[str], spacing: int | None) -> Step:
        """Accept a tick with new symbols; where that fails, the engine has not heard of them."""
        self._follow_schedule()  # which changes what no rollback would bring back
        before = dict(self.__dict__)  # `widen` replaces the parts that it widens
        try:
            self.widen(new)
            return self.accept(placement, prices, spacing)
        except BaseException:
            self.__dict__.update(before)
            raise

    def _read(self, tick: Tick) -> tuple[Floats, Sequence[str]]:
        """Prices in the engine's columns, NaN where none, symbols not known so far behind them; and those symbols."""
        new = () if self.settings.symbols else [symbol for symbol in tick.prices if symbol not in self.index]
        get, nan = self.by_name(tick).get, np.nan
        prices = np.array([get(symbol, nan) for symbol in (*self.symbols, *new)], np.float64)
        readable = self._readable.widened(Levels.reading(self.settings.changes(new))) if new else self._readable
        return readable.usable(prices), new

    def prices(self, tick: Tick) -> Floats:
        """Prices of the symbols known so far, NaN where blank, `(n_symbols,)`."""
        get = self.by_name(tick).get
        return self.readable(np.array([get(symbol, np.nan) for symbol in self.symbols], np.float64))

    def by_name(self, tick: Tick) -> Mapping[str, float]:
        """Prices by present names: a list is read by those of the configuration, which may be of before a rename."""
        if not tick.listed or self.configured == self.settings.symbols:
            return tick.prices
        return {name: tick.price(old) for old, name in zip(self.configured, self.settings.symbols, strict=True)}

    def readable(self, prices: Floats) -> Floats:
        """`prices`, `(n_symbols,)`, with NaN where there is no number, or none that the settings let pass."""
        return self._readable.usable(prices)

    def _dropped(self, verdict: Verdict, prices: Floats) -> Dropped:
        return Dropped(verdict.value, verdict is Verdict.DUPLICATE and self.ring.conflicts(prices))

    def accept(self, placement: Placement, prices: Floats, spacing: int | None = None) -> Step:
        """Take in the readable prices `(n_symbols,)` of an accepted tick.

        Work out all that the tick changes, then change it: nothing below the line can fail half-way.
        """
        self._follow_schedule()
        previous, restarts = self.position.last, self.position.restarts
        row = Row(placement.time, prices, placement.is_break, is_whole(prices))
        missing = 0 if previous is None or row.is_break else (row.time - previous) // self.settings.step - 1
        before = self.market if row.whole else self.market.seeing(prices)
        scores, calibration, drift = self._score(row, before)
        market = before.after(row, missing)
        serving, changes = self._run_model(previous, row, market)
        pending = self._predict(row, market, calibration, changes)
        forecast = pending.forecast(row.time, self.symbols, market.last, self.model_id)
        switched = self._switched_by(market)
        rhythm = self.rhythm.after(previous, row.time, self.settings.step)
        # ---------------------------------------------------------------------------------------------------
        self.position, self.rhythm = placement.position, rhythm
        self.ring.append(row.time, row.is_break, prices)
        self.history.append(row.time, row.is_break, prices)
        if scores is not None:
            self.scoreboard.add(scores.cells, scores.squared_errors, scores.covered)
        self.market, self.calibration, self.drift = market, calibration, drift
        self.serving, self.pending = serving, pending
        training = self._ask_for_training(switched)
        return Step(
            forecast,
            scored=0 if scores is None else len(scores.cells),
            blanks=0 if row.whole else int(np.isnan(prices).sum()),
            missing=missing,
            is_break=row.is_break and previous is not None,
            restarted=placement.position.restarts > restarts,
            training=training,
            spacing=spacing,
            switched=switched,
        )

    def _switched_by(self, market: Market) -> tuple[str, ...]:
        """Symbols whose changes were log returns and are differences in `market`."""
        return tuple([self.symbols[column] for column in self.market.levels.switched(market.levels)])

    def _ask_for_training(self, switched: tuple[str, ...]) -> str | None:
        """Count the tick; the reason if a training is due with it.

        A model of log returns reads what it cannot take the log of as blank, so it is to be replaced.
        """
        training = self.policy.tick(self.drift.detected)
        if training == Reason.DRIFT:
            self.drift = self.drift.acted_on()
        if switched and self.policy.every and self.serving is not None and self.serving.foreign:
            training = self.policy.request(Reason.SWITCHED_TO_DIFFERENCES)
        return training

    def _score(self, row: Row, market: Market) -> tuple[Scores | None, Calibration, Drift]:
        """Compare what was pending with the prices really seen at its target time, and learn the widths from it.

        market: before `row`, in units in which its prices can be measured.
        """
        pending, drift = self.pending, self.drift
        if pending is None or pending.target != row.time or row.is_break:
            return None, self.calibration, drift
        scores = pending.scores(row)
        if self.serving is not None:
            drift = scores.drifted(drift, market)
        return scores, scores.learned(self.calibration), drift

    def _run_model(self, previous: int | None, row: Row, market: Market) -> tuple[Serving | None, Floats]:
        """Predicted changes of every symbol by each of MODELLED, `(3, n)`; zero is persistence.

        They are of the levels of `market`, whatever the model's own are.
        """
        if self.serving is None:
            return None, np.zeros((len(MODELLED), len(row.prices)))
        serving, changes = self.serving.after(previous, row, self.settings.step)
        if market.levels is not self.market.levels:
            serving = Serving.start(serving.model, serving.state, self.index, market.levels)
        if serving.foreign:
            changes = serving.levels.into(market.levels, market.last, changes)
        return serving, changes

    def _predict(self, row: Row, market: Market, calibration: Calibration, changes: Floats) -> Pending:
        """The forecast of the step after `row`, its interval frozen before its target."""
        mask, whole = self._is_target, self._are_all_targets
        if not row.whole:
            mask = mask & np.isfinite(market.last) & (market.age <= self.settings.max_stale)
            whole = bool(mask.all())
        half = calibration.width * market.sigma
        return Pending.of(row.time + self.settings.step, mask, market, half, changes, whole=whole)

    def widen(self, symbols: Sequence[str]) -> None:
        """Add symbols, unknown so far, on the right of every row."""
        self._name((*self.symbols, *symbols))
        n = len(self.symbols)
        self.ring = self.ring.widened(n)
        self.history = self.history.widened(n)
        changes = self.settings.changes(symbols)
        self._readable = self._readable.widened(Levels.reading(changes))
        self.market = self.market.widened(Levels.starting(changes))
        self.scoreboard = self.scoreboard.widened(n)
        self.calibration = self.calibration.widened(n)
        if self.pending is not None:
            self.pending = self.pending.widened(n)
        if self.serving is not None:
            self.serving = Serving.start(self.serving.model, self.serving.state, self.index, self.market.levels)

    def _name(self, symbols: tuple[str, ...]) -> None:
        self.symbols = symbols
        self.index = {symbol: column for column, symbol in enumerate(symbols)}
        self._is_target = np.array([self.settings.is_target(symbol) for symbol in symbols], np.bool_)
        self._are_all_targets = bool(self._is_target.all())

    def _letting_go(self, named: Mapping[str, float], step: Callable[[], Step]) -> Step:
        """`step`, after the columns of symbols that have vanished are dropped; where it fails, they are still there."""
        left = self._vanished(named)
        if not left:
            return step()
        self._follow_schedule()
        before = dict(self.__dict__)  # `narrow` replaces the parts that it narrows
        try:
            self.narrow(np.array([c for c, symbol in enumerate(self.symbols) if symbol not in left], np.intp))
            return replace(step(), left=left)
        except BaseException:
            self.__dict__.update(before)
            raise

    def _vanished(self, named: Mapping[str, float]) -> tuple[str, ...]:
        """Symbols whose columns can go: not those that are configured, or named in the tick, though blank.

        It is a matter of the ticks alone, the same in a replay, and the history has no price of them any more.
        """
        if self.settings.symbols:
            return ()
        columns = self.market.vanished(self.history.capacity, self.settings.max_stale)
        return tuple([self.symbols[column] for column in columns if self.symbols[column] not in named])

    def narrow(self, columns: npt.NDArray[np.intp]) -> None:
        """Keep the symbols `columns` alone, in that order; one that comes back joins anew."""
        ring, history = self.ring.take(columns), self.history.take(columns)
        self._name(tuple([self.symbols[column] for column in columns]))
        self.ring, self.history = ring, history
        self._readable = self._readable.take(columns)
        self.market = self.market.take(columns)
        self.scoreboard = self.scoreboard.take(columns)
        self.calibration = self.calibration.take(columns)
        if self.pending is not None:
            self.pending = self.pending.take(columns)
        if self.serving is not None:
            self.serving = Serving.start(self.serving.model, self.serving.state, self.index, self.market.levels)

    def adjust(self, adjustment: Adjustment, opened: Mapping[str, float] = {}) -> Step:
        """Bring what is held of a symbol's past to the prices or the name that it has from now on.

        The model in service goes on, translated. All of it is worked out before anything is changed. opened: prices of
        the step that is open before the engine; one that it knows by them alone gets its column now.
        """
        self._follow_schedule()
        if (reason := obstacle(self, adjustment, opened)) is not None:
            return Step(Rejected(INVALID, reason))
        if adjustment.symbol not in self.index:
            self.widen((adjustment.symbol,))
        column, ratio, name = self.index[adjustment.symbol], adjustment.ratio, adjustment.name
        adjustments = (*self.adjustments, adjustment)[-KEPT:]
        market = self.market.adjusted(column, ratio)
        scoreboard = self.scoreboard.adjusted(column, ratio)
        pending = self.pending.adjusted(column, ratio) if self.pending else None
        model = adjusted(self.serving.model, adjustments) if self.serving else None
        # ---------------------------------------------------------------------------------------------------
        self.ring.scale(column, ratio)
        self.history.scale(column, ratio)
        self.market, self.scoreboard, self.pending, self.adjustments = market, scoreboard, pending, adjustments
        self.settings = self.settings.renamed(adjustment.symbol, name)
        self._name((*self.symbols[:column], name, *self.symbols[column + 1 :]))
        self._readable = Levels.reading(self.settings.changes(self.symbols))
        if self.serving is not None and model is not None:
            self.serving = Serving.start(model, self.serving.state, self.index, market.levels)
        return Step(Dropped("adjusted"), adjustment=adjustment)

    def catch_up(self, model: Forecaster, start: str | None = None, ticks: int | None = None) -> CatchUp:
        """Begin to bring `model` up to the present; `swap` takes it once it is `done`.

        start, ticks: as in the `Swap` of an earlier run. LookupError where the history does not reach back so far.
        """
        return CatchUp(self, model, start, ticks)

    def swap(self, ready: CatchUp | None) -> Swap:
        """Put a model that has caught up, or None: persistence, into service from the next tick on.

        Returns the event to record. It takes the place of one after the same tick, which never forecast anything.
        """
        last, restarts = self.position.last, self.position.restarts
        model_id = ready.serving.model.id if ready else PERSISTENCE_MODEL
        if last is None or (ready and not ready.advance(0)):
            raise ValueError(f"model {model_id} has not seen every tick yet")
        if model_id in self.reverted:
            raise ValueError(f"model {model_id} was reverted")
        if ready:
            self.serving = Serving.start(ready.serving.model, ready.serving.state, self.index, self.market.levels)
            event = Swap(model_id, last, restarts, ready.start, ready.ticks, self.adjusted)
        else:
            self.serving, self.drift = None, Drift(self.settings.drift)
            event = Swap(model_id, last, restarts, STATELESS, 0, self.adjusted)
        earlier = [swap for swap in self.swaps[-1:] if (swap.after, swap.restarts) != (last, restarts)]
        self.swaps = [*self.swaps[:-1], *earlier, event][-_SWAPS_KEPT:]
        self.policy.settle()
        return event

    def revert(self, model_id: str, ready: CatchUp | None) -> Swap:
        """Put the model of before, or None: persistence, in the place of `model_id`, which never serves again."""
        if model_id != self.model_id:
            raise ValueError(f"model {model_id} does not serve")
        self.reverted = (*self.reverted, model_id)[-_REVERTED_KEPT:]
        return self.swap(ready)

    def earlier_models(self) -> tuple[str, ...]:
        """Ids of the models to go back to, the nearest first; where none can be had, it is persistence."""
        served = takewhile(lambda model: model != PERSISTENCE_MODEL, (swap.model for swap in reversed(self.swaps)))
        return tuple(model for model in dict.fromkeys(served) if model not in (self.model_id, *self.reverted))

    @property
    def lost_model(self) -> str | None:
        """Id of the model that ought to serve, and could not be loaded; None where all is well."""
        expected = self.swaps[-1].model if self.swaps else PERSISTENCE_MODEL
        return expected if self.serving is None and expected != PERSISTENCE_MODEL else None

    def _follow_schedule(self) -> None:
        if self.position.last is None:
            return
        here = (self.position.restarts, self.position.last, self.adjusted)
        while self._schedule and self._schedule[0].moment <= here:
            event = self._schedule[0]
            if event.moment == here:  # else it is of an earlier life of the stream, before that expired
                ready = self._scheduled(event) if event.model != PERSISTENCE_MODEL else None
                self.swap(ready)
            self._schedule.pop(0)

    def _scheduled(self, event: Swap) -> CatchUp:
        if self._load is None:
            raise ValueError("a schedule needs `load`, which gives the model of an id")
        return CatchUp.at_once(self, self._load(event.model), event)
