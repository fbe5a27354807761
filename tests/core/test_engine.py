"""The engine against an oracle: the outcome of each tick, what is forecast, and what is scored."""

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import buffer, catchup, checkpoint, serving
from streamer.core import engine as core_engine
from streamer.core.engine import ForecastEngine
from streamer.core.forecaster import FORECASTERS, LINEAR, LSTM, PERSISTENCE, SERVED
from streamer.core.grid import is_whole
from streamer.core.levels import Change
from streamer.core.outcome import Dropped, Forecast, Outcome, Rejected, Step
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from tests.core.fakes import FailingForecaster, fake
from tests.core.helpers import (
    FEW,
    MODERATE,
    SMALL,
    START,
    STEP,
    bits,
    forecast_of,
    lasting,
    put_into_service,
    run,
    tick_sequences,
    walk,
)
from tests.core.oracle import Expected, Oracle

CONFIGURATIONS = [
    SMALL,
    replace(SMALL, symbols=("B", "A"), max_gap=0),
    replace(SMALL, targets=("B",), late_reset=2),
    replace(SMALL, change=Change.DIFFERENCE, symbols=("A", "B", "C"), targets=("A", "C")),
    replace(SMALL, change=Change.AUTO),
    replace(SMALL, inputs=("B", "D")),
    replace(SMALL, change=Change.DIFFERENCE, change_of={"A": Change.LOG_RETURN}),
]


def kind(outcome: Outcome) -> str:
    return "forecast" if isinstance(outcome, Forecast) else outcome.reason


@dataclass
class Ledger:
    """Every scored forecast of each symbol, kept as plain lists."""

    errors: defaultdict[str, list[dict[str, float]]] = field(default_factory=lambda: defaultdict(list))
    covered: defaultdict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    published: Forecast | None = None

    def settle(self, scored: dict[str, float], settings: EngineSettings) -> None:
        """Score the forecast last published against the prices in `scored`."""
        for symbol, price in scored.items():
            (change,) = settings.changes([symbol])
            assert self.published is not None
            at = self.published.symbols.index(symbol)
            yhat, last = float(self.published.yhat[at]), float(self.published.last[at])
            # The fake model, as served, predicts half of the change that its network does, its linear expert a quarter.
            bare = yhat * yhat / last if change is Change.LOG_RETURN else 2 * yhat - last
            half = math.sqrt(yhat * last) if change is Change.LOG_RETURN else (yhat + last) / 2
            guesses = {SERVED: yhat, LSTM: bare, LINEAR: half, PERSISTENCE: last}
            self.errors[symbol].append({name: (guess - price) ** 2 for name, guess in guesses.items()})
            self.covered[symbol].append(bool(self.published.lower[at] <= price <= self.published.upper[at]))

    def compare(self, engine: ForecastEngine) -> None:
        """The scoreboard's figures are those of the lists."""
        board = engine.scoreboard
        for column, symbol in enumerate(engine.symbols):
            scored = self.errors[symbol]
            assert board.scored[column] == board.scored_total[column] == len(scored)
            if not scored:
                assert np.isnan(board.rmse[column]).all()
                continue
            errors = np.array([[each[name] for name in FORECASTERS] for each in scored])
            np.testing.assert_allclose(board.rmse[column], np.sqrt(errors.mean(axis=0)), rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(board.squared_error_total[column], errors.sum(axis=0), rtol=1e-6, atol=1e-9)
            assert board.coverage[column] == pytest.approx(np.mean(self.covered[symbol]))


def check(step: Step, expected: Expected) -> None:
    outcome = step.outcome
    assert kind(outcome) == expected.outcome
    if isinstance(outcome, Dropped):
        assert outcome.conflict == expected.conflict
    if not isinstance(outcome, Forecast):
        assert (step.scored, step.blanks, step.missing, step.is_break, step.training) == (
            0,
            0,
            0,
            False,
            None,
        )
        return
    assert (step.missing, step.is_break) == (expected.missing, expected.is_break)
    assert (step.scored, step.blanks) == (len(expected.scored), expected.blanks)
    assert (outcome.as_of, outcome.target) == (expected.as_of, expected.as_of + STEP)
    assert dict(zip(outcome.symbols, outcome.last.tolist(), strict=True)) == expected.last
    assert np.isfinite(outcome.yhat).all()
    assert (outcome.lower <= outcome.yhat).all()
    assert (outcome.yhat <= outcome.upper).all()


def follow(engine: ForecastEngine, oracle: Oracle, ticks: list[Tick]) -> list[Forecast]:
    """Run both over `ticks` and compare them tick by tick; the forecasts."""
    ledger, forecasts = Ledger(), []
    for tick in ticks:
        step, expected = engine.process(tick), oracle.tick(tick)
        check(step, expected)
        ledger.settle(expected.scored, engine.settings)
        ledger.compare(engine)
        if isinstance(step.outcome, Forecast):
            ledger.published = step.outcome
            forecasts.append(step.outcome)
            assert engine.ring.times.tolist() == expected.ring
            assert list(engine.symbols) == oracle.known
    return forecasts


@MODERATE
@given(ticks=tick_sequences(), settings=st.sampled_from(CONFIGURATIONS))
def test_each_tick_has_the_outcome_and_the_scores_that_the_oracle_gives(
    ticks: list[Tick], settings: EngineSettings
) -> None:
    forecasts = follow(ForecastEngine(settings), Oracle(settings), ticks)

    for forecast in forecasts:
        assert forecast.model == "persistence"
        assert forecast.yhat.tolist() == forecast.last.tolist()


def test_each_symbol_has_its_own_change() -> None:
    settings = replace(SMALL, change=Change.DIFFERENCE, change_of={"A": Change.LOG_RETURN, "B": Change.AUTO})
    engine = ForecastEngine(settings)

    (step,) = run(engine, [Tick(START, {"A": -1.0, "B": -1.0, "C": -1.0})])

    assert forecast_of(step).symbols == ("B", "C")
    assert engine.switched == ("B",), "by its prices; that of C was asked for"
    assert engine.market.levels.is_log.tolist() == [True, False, False]


@FEW
@given(ticks=tick_sequences(), targets=st.sampled_from([("A", "B"), ("B",)]))
def test_outcomes_and_scored_cells_do_not_depend_on_the_model(ticks: list[Tick], targets: tuple[str, ...]) -> None:
    engine, oracle = ForecastEngine(SMALL), Oracle(SMALL)
    follow(engine, oracle, walk(8, start=START - 9 * STEP))
    model = fake(engine, targets=targets)
    put_into_service(engine, model)
    # The forecast that was open at the swap is scored as well: it is settled with the first tick of the sequence.
    engine.pending, oracle.promised = None, {}
    engine.scoreboard.restored(ForecastEngine(replace(SMALL, symbols=("A", "B"))).scoreboard.arrays())

    for forecast in follow(engine, oracle, ticks):
        assert forecast.model == model.id
        for symbol, yhat, last in zip(forecast.symbols, forecast.yhat, forecast.last, strict=True):
            assert (yhat != last) == (symbol in targets), "what the model does not forecast is persistence"


def test_a_tick_is_forecast_one_step_ahead_from_the_first_on() -> None:
    forecast = forecast_of(ForecastEngine(SMALL).process(Tick(START + 999, {"A": 5.0, "B": math.nan})))

    assert (forecast.as_of, forecast.target) == (START, START + STEP)
    assert forecast.symbols == ("A",)
    assert (forecast.yhat.tolist(), forecast.last.tolist(), forecast.model) == ([5.0], [5.0], "persistence")


def test_a_forecast_is_scored_only_against_a_price_seen_at_exactly_its_target() -> None:
    engine = ForecastEngine(SMALL)
    steps = run(
        engine,
        [
            Tick(START, {"A": 1.0, "B": 1.0}),
            Tick(START + STEP, {"A": 2.0, "B": math.nan}),  # A is scored, B is blank
            Tick(START + 3 * STEP, {"A": 3.0, "B": 3.0}),  # the target was the step before
            Tick(START + 4 * STEP, {"A": 3.0, "B": 4.0}),
        ],
    )

    assert [step.scored for step in steps] == [0, 1, 0, 2]
    assert engine.scoreboard.squared_error_total[:, 2].tolist() == [1.0, 1.0]


@MODERATE
@given(
    prices=st.lists(st.fixed_dictionaries({"A": st.floats(), "B": st.floats(min_value=0.0)}), min_size=2, max_size=12),
    change=st.sampled_from(Change),
    with_model=st.booleans(),
)
def test_no_price_however_large_or_small_makes_a_figure_that_is_no_number(
    prices: list[dict[str, float]], change: Change, with_model: bool
) -> None:
    settings = replace(SMALL, change=change)
    engine = ForecastEngine(settings)
    run(engine, walk(3))
    if with_model:
        put_into_service(engine, fake(engine))

    for i, vector in enumerate(prices):
        outcome = engine.process(Tick(START + (3 + i) * STEP, vector)).outcome
        if isinstance(outcome, Forecast):
            for figures in (outcome.yhat, outcome.lower, outcome.upper, outcome.last):
                assert np.isfinite(figures).all()
    assert np.isfinite(engine.scoreboard.squared_error_total).all()
    assert np.isfinite(engine.market.sigma).all()


@FEW
@given(
    ticks=tick_sequences(extra=()),
    future=st.lists(st.floats(1.0, 200.0), min_size=40, max_size=40),
    at=st.integers(0, 39),
)
def test_nothing_up_to_a_tick_depends_on_prices_after_it(ticks: list[Tick], future: list[float], at: int) -> None:
    perturbed = [
        tick if i <= at else replace(tick, prices=dict.fromkeys(("A", "B"), price))
        for i, (tick, price) in enumerate(zip(ticks, future, strict=False))
    ]
    outcomes = []
    for sequence in (ticks, perturbed):
        engine = ForecastEngine(SMALL)
        run(engine, walk(8, start=START - 9 * STEP))
        put_into_service(engine, fake(engine))
        outcomes.append([lasting(step) for step in run(engine, sequence[: at + 1])])
        rest = run(engine, sequence[at + 1 :])  # must not reach back into what was handed out
        assert len(rest) == len(sequence[at + 1 :])

    assert outcomes[0] == outcomes[1]


def test_what_was_handed_out_stays_as_it_was() -> None:
    """A forecast is a value: later ticks do not write into its arrays."""
    engine = ForecastEngine(SMALL)
    run(engine, walk(10))
    put_into_service(engine, fake(engine))
    step = engine.process(walk(11)[10])
    before = bits(step.outcome)

    run(engine, walk(80)[11:])

    assert bits(step.outcome) == before


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({}, id="the usual symbols"),
        pytest.param({"C": 7.0}, id="a new symbol joins with it"),
    ],
)
@pytest.mark.parametrize("skipped", [0, 2], ids=["next tick", "after a gap"])
def test_a_tick_on_which_the_model_fails_leaves_the_engine_as_it_was(extra: dict[str, float], skipped: int) -> None:
    ticks = walk(20)
    engine = ForecastEngine(SMALL)
    run(engine, ticks[:10])
    bad = replace(ticks[10 + skipped], prices={**ticks[10 + skipped].prices, **extra})
    healthy = fake(engine)
    put_into_service(
        engine,
        FailingForecaster(
            healthy.id,
            healthy.symbols,
            healthy.targets,
            healthy.change,
            healthy.as_of,
            healthy.trained,
            bad.time,
        ),
    )
    before = checkpoint.save(engine, {})

    with pytest.raises(ArithmeticError, match="the network gave up"):
        engine.process(bad)

    assert checkpoint.save(engine, {}) == before


def test_after_a_failed_tick_the_next_one_goes_on_as_if_it_had_not_been_sent() -> None:
    """The time of the failed tick is stepped over as a missing one."""
    ticks = walk(20)
    steps = {}
    for failing in (True, False):
        engine = ForecastEngine(SMALL)
        run(engine, ticks[:10])
        model = fake(engine)
        put_into_service(engine, model)
        if failing:
            assert engine.serving is not None
            healthy = engine.serving
            broken = FailingForecaster(model.id, model.symbols, model.targets, model.change, fails_at=ticks[10].time)
            engine.serving = replace(healthy, model=broken)
            with pytest.raises(ArithmeticError):
                engine.process(ticks[10])
            engine.serving = replace(engine.serving, model=model)
        steps[failing] = [lasting(step) for step in run(engine, ticks[11:])]

    assert steps[True] == steps[False]
    assert steps[True][0] != steps[True][1]


def test_a_symbol_that_joins_while_a_model_serves_is_forecast_by_persistence() -> None:
    """And the model's own symbols are forecast as if it had not joined."""
    ticks = walk(30)
    plain, joined = ForecastEngine(SMALL), ForecastEngine(SMALL)
    for engine in (plain, joined):
        run(engine, ticks[:10])
        put_into_service(engine, fake(engine))

    for i, tick in enumerate(ticks[10:]):
        expected = forecast_of(plain.process(tick))
        forecast = forecast_of(joined.process(replace(tick, prices={**tick.prices, "C": 7.0 + i})))
        assert forecast.symbols == ("A", "B", "C")
        assert forecast.yhat[:2].tobytes() == expected.yhat.tobytes()
        assert (forecast.yhat[2], forecast.last[2]) == (7.0 + i, 7.0 + i)


def test_a_model_that_lacks_a_symbol_leaves_it_to_persistence() -> None:
    ticks = walk(30, ("A", "B", "C"))
    engine = ForecastEngine(SMALL)
    run(engine, ticks[:10])
    put_into_service(engine, fake(engine, symbols=("C", "A"), targets=("A",)))

    forecast = forecast_of(engine.process(ticks[10]))

    assert (forecast.yhat != forecast.last).tolist() == [True, False, False]


@pytest.mark.parametrize("start", ["trained", "ring"])
def test_what_a_model_forecasts_of_a_symbol_that_the_stream_lacks_touches_no_other(start: str) -> None:
    ticks = walk(30, ("A", "B", "C"))
    full = ForecastEngine(SMALL)
    run(full, ticks[:10])
    model = fake(full, symbols=("C", "A", "B"), targets=("A", "C"))
    engine = ForecastEngine(replace(SMALL, symbols=("A", "B")))
    run(engine, ticks[:10])
    put_into_service(engine, model, start)

    forecast = forecast_of(engine.process(ticks[10]))

    assert forecast.symbols == ("A", "B")
    assert forecast.yhat[0] != forecast.last[0]
    assert forecast.yhat[1] == forecast.last[1], "B is no target of the model"


@FEW
@given(ticks=tick_sequences(max_size=40))
def test_a_tick_without_blanks_is_taken_in_as_if_each_symbol_were_asked(ticks: list[Tick]) -> None:
    made = []
    for known in (is_whole, lambda _: False):
        with pytest.MonkeyPatch.context() as patch:
            for module in (core_engine, serving, catchup, buffer):
                patch.setattr(module, "is_whole", known)
            engine = ForecastEngine(SMALL)
            steps = run(engine, walk(30))
            put_into_service(engine, fake(engine))
            steps += run(engine, [*walk(60)[30:], *ticks])
        made.append(([lasting(step) for step in steps], checkpoint.save(engine, {})))
    assert made[0] == made[1]


@pytest.mark.parametrize("change", [Change.LOG_RETURN, Change.DIFFERENCE])
def test_what_a_model_remembers_is_its_own(change: Change) -> None:
    """A split rewrites the history in place; the model is translated instead."""
    engine = ForecastEngine(replace(SMALL, change=change))
    run(engine, walk(30))
    put_into_service(engine, fake(engine), "ring")
    assert engine.serving is not None
    for name, array in engine.serving.state.items():
        for buffer_ in (engine.history, engine.ring):
            assert not np.shares_memory(array, buffer_.prices), name


def test_the_interval_of_a_forecast_is_frozen_before_its_target() -> None:
    ticks = walk(30)
    engine = ForecastEngine(SMALL)
    run(engine, ticks[:-1])
    published = forecast_of(engine.process(replace(ticks[-1], prices={"A": 100.0, "B": 100.0})))
    assert engine.pending is not None
    promised = bits(engine.pending)

    for target_price in (100.0, 1.0):
        other = checkpoint.restore(SMALL, checkpoint.save(engine, {}), fail_to_load).engine
        assert bits(other.pending) == promised
        inside = bool(published.lower[0] <= target_price <= published.upper[0])
        before = covered(other)
        other.process(Tick(published.target, {"A": target_price}))
        assert covered(other) - before == inside
        assert bits(published.lower[0:1]) == bits(engine.pending.lower[0:1])


def covered(engine: ForecastEngine) -> int:
    """Prices of the first symbol that fell in their interval."""
    return round(float(engine.scoreboard.coverage[0] * engine.scoreboard.scored[0]))


def fail_to_load(model_id: str) -> FailingForecaster:
    raise AssertionError(f"no model is in service, and {model_id} was asked for")


@pytest.mark.parametrize(
    ("prices", "reason"),
    [
        ({}, "no_price"),
        ({"A": math.nan, "B": -1.0}, "no_price"),
        ({"A": 1.0, "B": 1.0, "C": 1.0, "D": 1.0}, "too_many_symbols"),
    ],
)
def test_a_rejected_tick_changes_nothing_and_says_why_on_one_line(prices: dict[str, float], reason: str) -> None:
    engine = ForecastEngine(SMALL)
    run(engine, walk(3))
    before = checkpoint.save(engine, {})

    outcome = engine.process(Tick(START + 3 * STEP, prices)).outcome

    assert isinstance(outcome, Rejected)
    assert outcome.reason == reason
    assert len(outcome.detail.splitlines()) == 1
    assert checkpoint.save(engine, {}) == before


def test_symbols_that_are_not_configured_are_not_read() -> None:
    engine = ForecastEngine(replace(SMALL, symbols=("B",)))

    assert forecast_of(engine.process(Tick(START, {"A": 1.0, "B": 2.0}))).symbols == ("B",)
    assert kind(engine.process(Tick(START + STEP, {"A": 1.0})).outcome) == "no_price"


def test_a_feed_of_another_spacing_is_noticed_once() -> None:
    engine = ForecastEngine(SMALL)

    said = [step.spacing for step in run(engine, walk(60, step=2 * STEP))]

    assert [spacing for spacing in said if spacing] == [2 * STEP]
