"""Partial vectors: what becomes of each, and that the engine gets the vectors that they are parts of."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import checkpoint
from streamer.core.adjustment import Adjustment
from streamer.core.assembly import Assembly
from streamer.core.engine import ForecastEngine
from streamer.core.grid import Position
from streamer.core.levels import Change
from streamer.core.outcome import Dropped, Forecast, Outcome, Rejected, Step
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from tests.core.assembly_oracle import AssemblyOracle
from tests.core.fakes import FailingForecaster, FakeForecaster, fake, shelf
from tests.core.helpers import (
    FEW,
    MODERATE,
    SMALL,
    START,
    STEP,
    bits,
    forecast_of,
    put_into_service,
    vectors,
    walk,
)
from tests.core.oracle import Expected

LAST = replace(SMALL, assemble="last")
COMPLETE = replace(LAST, symbols=("B", "A"), close="complete")
CONFIGURATIONS = [
    LAST,
    COMPLETE,
    replace(LAST, close_after=1_500, max_gap=0),
    replace(COMPLETE, close_after=2_000, late_reset=2),
    replace(LAST, change=Change.DIFFERENCE, symbols=("A", "B", "C"), targets=("A", "C")),
]


def kind(outcome: Outcome) -> str:
    return "forecast" if isinstance(outcome, Forecast) else outcome.reason


def assembly(settings: EngineSettings = LAST) -> Assembly:
    return Assembly(ForecastEngine(settings))


def at(step: float, **prices: float) -> Tick:
    """A tick so many steps after START."""
    return Tick(START + round(step * STEP), prices)


def fed(found: Assembly, ticks: list[Tick]) -> list[str]:
    """What became of each tick."""
    return [kind(found.process(tick).outcome) for tick in ticks]


def held(found: Assembly) -> list[list[float]]:
    """The rows of the ring, by the symbols' names, -1 for a blank."""
    order = [found.engine.symbols.index(symbol) for symbol in sorted(found.engine.symbols)]
    return [
        [-1.0 if math.isnan(price) else price for price in row] for row in found.engine.ring.prices[:, order].tolist()
    ]


@st.composite
def print_sequences(draw: st.DrawFn, max_size: int = 60) -> list[Tick]:
    """Ticks of a raw feed, made for `SMALL`: several a step, most of one symbol, on both sides of every limit.

    Event times jump back within a step and over its edge; records come in time, late, and far behind.
    """
    moves = st.sampled_from([0] * 24 + [1] * 12 + [2, 4, 5, -1, -1, -2, -6, -30])
    one = st.sampled_from("AB").flatmap(lambda s: st.fixed_dictionaries({s: st.floats(1.0, 200.0)}))
    prices = st.one_of(one, one, one, vectors())
    now, ticks = START, []
    for move in draw(st.lists(moves, min_size=1, max_size=max_size)):
        now += move * STEP
        time = now + draw(st.sampled_from([0, 1, 500, 500, 999]))
        behind = draw(st.sampled_from([None, 0, 0, 500, 1_500, 3_000, -5_000, -6_000]))
        ticks.append(Tick(time, draw(prices), None if behind is None else now + behind))
    return ticks


def check(step: Step, expected: Expected) -> None:
    outcome = step.outcome
    assert kind(outcome) == expected.outcome
    if isinstance(outcome, Dropped):
        assert outcome.conflict == expected.conflict
    if not isinstance(outcome, Forecast):
        assert (step.scored, step.blanks, step.missing, step.is_break, step.training) == (0, 0, 0, False, None)
        return
    assert (step.missing, step.is_break) == (expected.missing, expected.is_break)
    assert (step.scored, step.blanks) == (len(expected.scored), expected.blanks)
    assert (outcome.as_of, outcome.target) == (expected.as_of, expected.as_of + STEP)
    assert dict(zip(outcome.symbols, outcome.last.tolist(), strict=True)) == expected.last


@MODERATE
@given(ticks=print_sequences(), settings=st.sampled_from(CONFIGURATIONS))
def test_each_tick_has_the_outcome_that_the_oracle_gives(ticks: list[Tick], settings: EngineSettings) -> None:
    found, oracle = assembly(settings), AssemblyOracle(settings)
    for tick in ticks:
        step, expected = found.process(tick), oracle.tick(tick)
        check(step, expected)
        if isinstance(step.outcome, Forecast):
            assert found.engine.ring.times.tolist() == expected.ring
            assert list(found.engine.symbols) == oracle.vectors.known


# --- the same as whole vectors ----------------------------------------------------------------------------------------


@st.composite
def parted(draw: st.DrawFn, whole: list[Tick]) -> list[Tick]:
    """The vectors in parts, those of a step in any order, among prints of the same step that are older or blank."""
    ticks = []
    for vector in whole:
        left, parts = list(vector.prices.items()), []
        while left:
            size = draw(st.integers(1, len(left)))
            parts.append(Tick(vector.time + 500, dict(left[:size])))
            left = left[size:]
        for symbol in draw(st.lists(st.sampled_from(sorted(vector.prices)), max_size=3)):
            earlier = draw(st.integers(0, 499))
            parts.append(Tick(vector.time + earlier, {symbol: draw(st.sampled_from([1.5, math.nan, -1.0]))}))
        ticks += draw(st.permutations(parts))
    return ticks


@FEW
@given(data=st.data(), change=st.sampled_from([Change.LOG_RETURN, Change.AUTO]))
def test_vectors_in_parts_in_any_order_give_the_forecasts_of_the_vectors_bit_for_bit(
    data: st.DataObject, change: Change
) -> None:
    """With a model in service, with missing steps and breaks."""
    settings = replace(LAST, change=change)
    missing = data.draw(st.sets(st.integers(9, 30), max_size=12))
    whole = [tick for row, tick in enumerate(walk(32)) if row not in missing]
    engine, found = ForecastEngine(settings), assembly(settings)
    expected = [engine.process(tick) for tick in whole[:8]]
    put_into_service(engine, fake(engine))
    expected += [engine.process(tick) for tick in whole[8:]]

    steps = [found.process(tick) for tick in whole[:9]]  # the ninth closes the eighth, and is open
    put_into_service(found.engine, fake(found.engine))
    steps += [found.process(tick) for tick in [*data.draw(parted(whole[9:])), at(99, A=1.0)]]

    forecasts = [step.outcome for step in steps if isinstance(step.outcome, Forecast)]
    assert bits_of(forecasts) == bits_of([forecast_of(step) for step in expected])


def bits_of(forecasts: list[Forecast]) -> list[object]:
    return [bits(forecast) for forecast in forecasts]


@pytest.mark.parametrize("order", ["AB", "BA"])
def test_steps_that_close_when_complete_give_the_forecasts_of_the_vectors_and_at_once(order: str) -> None:
    engine, found = ForecastEngine(COMPLETE), assembly(COMPLETE)
    for tick in walk(20):
        expected = forecast_of(engine.process(tick))
        first, second = (found.process(Tick(tick.time, {symbol: tick.prices[symbol]})) for symbol in order)
        assert first.outcome == Dropped("merged")
        assert bits(second.outcome) == bits(expected)


def test_swaps_while_a_step_is_open_are_repeated_by_their_schedule() -> None:
    ticks = [Tick(tick.time, {symbol: price}) for tick in walk(40) for symbol, price in tick.prices.items()]
    live, models, expected = assembly(), [], []
    for number, tick in enumerate(ticks):
        expected.append(bits(live.process(tick).outcome))
        if number in (24, 37, 60):
            models.append(fake(live.engine, f"m{number}"))
            put_into_service(live.engine, models[-1])

    again = Assembly(ForecastEngine(LAST, live.engine.swaps, shelf(*models).load))

    assert [bits(again.process(tick).outcome) for tick in ticks] == expected
    assert again.engine.swaps == live.engine.swaps


@FEW
@given(data=st.data())
def test_columns_do_not_depend_on_the_order_in_which_new_symbols_of_a_step_come(data: st.DataObject) -> None:
    symbols = ("D", "B", "A", "C")
    orders = [data.draw(st.permutations(symbols)) for _ in range(2)]
    settings = replace(LAST, max_symbols=9)
    snapshots = []
    for order in orders:
        found = assembly(settings)
        fed(found, [at(row, **{s: 1.0 + row + symbols.index(s)}) for row in range(3) for s in order])
        snapshots.append(checkpoint.save(found.engine, {}))
    assert snapshots[0] == snapshots[1]


# --- within a step ----------------------------------------------------------------------------------------------------


def test_the_later_price_of_a_symbol_wins_by_event_time_and_then_by_order() -> None:
    found = assembly()
    ticks = [
        at(0.5, A=1.0),
        at(0.2, A=2.0),
        at(0.1, B=3.0),
        at(0.1, B=4.0),
        at(0.9, A=5.0),
        at(0.3, A=6.0),
        at(1, A=9.0),
    ]
    assert fed(found, ticks) == ["merged"] * 6 + ["forecast"]
    assert held(found) == [[5.0, 4.0]]


def test_a_later_blank_takes_no_price_away() -> None:
    found = assembly()
    fed(found, [at(0.1, A=1.0, B=2.0), at(0.5, A=math.nan, B=-1.0), at(0.6, A=0.0, B=3.0), at(1, A=9.0)])
    assert held(found) == [[1.0, 3.0]]


def test_a_forecast_carries_the_step_that_was_closed_and_not_what_closed_it() -> None:
    found = assembly()
    found.process(at(0, A=1.0))
    forecast = forecast_of(found.process(at(1, A=2.0)))
    assert (forecast.as_of, forecast.last.tolist()) == (START, [1.0])
    forecast = forecast_of(found.process(at(2, A=3.0)))
    assert (forecast.as_of, forecast.last.tolist()) == (START + STEP, [2.0])


@pytest.mark.parametrize(
    ("last", "outcomes"),
    [({"C": 3.0}, ["merged", "forecast"]), ({"C": 3.0, "D": 4.0}, ["too_many_symbols", "forecast"])],
)
def test_symbols_of_the_open_step_count_for_the_limit(last: dict[str, float], outcomes: list[str]) -> None:
    found = assembly()
    found.process(at(0, A=1.0, B=1.0))
    assert fed(found, [at(0, **last), at(1, A=1.0)]) == outcomes


def test_a_tick_that_is_refused_closes_nothing() -> None:
    found = assembly()
    ticks = [
        at(0, A=1.0),
        at(1, A=math.nan),
        at(1, A=1.0, B=1.0, C=1.0, D=1.0),
        Tick(START + 9 * STEP, {"A": 1.0}, START),
    ]
    assert fed(found, ticks) == ["merged", "no_price", "too_many_symbols", "ahead"]
    assert len(found.engine.ring) == 0


def test_prices_that_only_vectors_of_other_symbols_have_are_not_read() -> None:
    found = assembly(replace(LAST, symbols=("B",)))
    assert fed(found, [at(0, A=1.0), at(0, A=1.0, B=2.0), at(1, B=3.0)]) == ["no_price", "merged", "forecast"]
    assert held(found) == [[2.0]]


def test_many_prints_a_step_are_no_feed_of_another_spacing_and_bars_of_two_steps_are() -> None:
    found = assembly()
    assert {found.process(at(row / 10, A=1.0)).spacing for row in range(600)} == {None}
    found = assembly()
    said = [found.process(at(row - row % 4, A=1.0)).spacing for row in range(200)]
    assert [spacing for spacing in said if spacing] == [4 * STEP]


# --- when it closes ---------------------------------------------------------------------------------------------------


def test_a_step_closes_with_the_tick_that_completes_it_and_the_rest_are_duplicates() -> None:
    found = assembly(COMPLETE)
    ticks = [at(0, A=1.0), at(0.1, A=2.0), at(0.2, B=3.0), at(0.3, B=3.0), at(0.4, B=4.0), at(1, B=5.0), at(1.1, A=6.0)]
    assert fed(found, ticks) == ["merged", "merged", "forecast", "duplicate", "duplicate", "merged", "forecast"]
    assert held(found) == [[2.0, 3.0], [6.0, 5.0]]


@pytest.mark.parametrize(
    ("prices", "conflict"), [({"B": 3.0}, False), ({"A": 1.0}, True), ({"A": 2.0, "B": 3.5}, True)]
)
def test_of_a_duplicate_those_prices_are_compared_that_it_has(prices: dict[str, float], conflict: bool) -> None:
    found = assembly(COMPLETE)
    fed(found, [at(0, A=2.0), at(0, B=3.0)])
    assert found.process(at(0.5, **prices)).outcome == Dropped("duplicate", conflict)


def test_a_symbol_that_comes_after_its_step_has_closed_is_a_conflict_and_does_not_join() -> None:
    found = assembly(replace(LAST, close_after=1_000))
    assert fed(found, [Tick(START, {"A": 1.0}, START + 1_000)]) == ["forecast"]
    assert found.process(at(0, B=1.0)).outcome == Dropped("duplicate", conflict=True)
    assert found.engine.symbols == ("A",)


def test_a_tick_is_merged_before_its_records_timestamp_closes_its_step() -> None:
    found = assembly(replace(LAST, close_after=1_500))
    in_time, due = Tick(START, {"A": 1.0}, START + 1_499), Tick(START + 999, {"A": 2.0}, START + 1_500)
    assert fed(found, [in_time, due, in_time]) == ["merged", "forecast", "duplicate"]
    assert held(found) == [[2.0]]


def test_a_record_without_a_timestamp_closes_nothing_before_a_later_step_does() -> None:
    found = assembly(replace(LAST, close_after=1))
    assert fed(found, [at(0, A=1.0), at(0.9, A=1.0), at(1, A=1.0)]) == ["merged", "merged", "forecast"]


def test_a_tick_that_is_late_closes_no_step_however_late_its_record_is() -> None:
    found = assembly(replace(LAST, close_after=1_500))
    assert fed(found, [at(5, A=1.0), Tick(START, {"A": 1.0}, START + 99_000)]) == ["merged", "late"]


def test_a_tick_that_closes_the_step_before_leaves_its_own_open_to_the_next() -> None:
    """One outcome for each tick: one forecast at most."""
    found = assembly(COMPLETE)
    ticks = [at(0, A=1.0), at(1, A=2.0, B=3.0), at(1.5, B=4.0), at(2, A=5.0)]
    assert fed(found, ticks) == ["merged", "forecast", "forecast", "merged"]
    assert held(found) == [[1.0, -1.0], [2.0, 4.0]]


# --- adjustments ------------------------------------------------------------------------------------------------------


def test_a_symbol_that_stands_in_the_open_step_alone_can_be_split_and_renamed() -> None:
    found = assembly()
    fed(found, [at(0, A=1.0), at(1, B=8.0)])
    for adjustment in (Adjustment(0, "B", 0.25), Adjustment(1, "B", renamed="C"), Adjustment(2, "C", 3.0, "D")):
        assert found.adjust(adjustment).outcome == Dropped("adjusted")
    assert fed(found, [at(1.5, A=2.0), at(2, D=7.0)]) == ["merged", "forecast"]
    assert found.engine.symbols == ("A", "D")
    assert held(found) == [[1.0, -1.0], [2.0, 6.0]]


def test_a_symbol_of_the_first_step_can_be_adjusted_before_it_has_closed() -> None:
    found = assembly()
    fed(found, [at(0, A=8.0)])
    assert found.adjust(Adjustment(1, "A", 0.25)).outcome == Dropped("adjusted")
    forecast = forecast_of(found.process(at(1, A=2.5)))
    assert (forecast.symbols, forecast.last.tolist()) == (("A",), [2.0])


@pytest.mark.parametrize(
    ("adjustment", "detail"),
    [
        (Adjustment(1, "X", 2.0), "symbol: found 'X', the stream has A"),
        (Adjustment(1, "B", renamed="A"), "rename: the stream has a symbol 'A' already"),
        (Adjustment(1, "B", renamed="B"), "rename: the stream has a symbol 'B' already"),
        (Adjustment(1, "A", renamed="B"), "rename: the stream has a symbol 'B' already"),
        (Adjustment(1, "B", 1e-6), "ratio: 1e-06 of its last price 9.99989e-321 is no price"),
        (Adjustment(1, "A", 1e6), "ratio: 1e+06 of its last price 1e+99 is no price"),
    ],
)
def test_an_adjustment_of_the_open_step_that_cannot_be_changes_nothing(adjustment: Adjustment, detail: str) -> None:
    found = assembly()
    fed(found, [at(0, A=1.0), at(1, B=1e-320), at(1, A=1e99)])
    before = checkpoint.save(found.engine, {}, found)
    assert found.adjust(adjustment).outcome == Rejected("invalid_control", detail)
    assert checkpoint.save(found.engine, {}, found) == before


def test_a_price_below_zero_can_be_adjusted_before_the_engine_knows_of_it() -> None:
    found = assembly(replace(LAST, change=Change.AUTO))
    fed(found, [at(0, A=1.0), at(1, A=-4.0)])
    assert found.adjust(Adjustment(1, "A", 0.5)).outcome == Dropped("adjusted")
    fed(found, [at(2, A=3.0)])
    assert held(found) == [[0.5], [-2.0]]


# --- time that goes back ----------------------------------------------------------------------------------------------


def test_time_restarts_after_a_run_of_late_steps_however_many_prints_each_has() -> None:
    """Stragglers of the step before do not end it either."""
    found = assembly()  # late_reset is 3
    fed(found, [at(100, A=1.0)])
    run = [at(1, A=1.0), at(1, B=1.0), at(1.5, A=2.0), at(2, A=3.0), at(1.9, B=1.0)]
    assert fed(found, run) == ["late"] * 5
    assert fed(found, [at(3, A=7.0), at(3.5, B=8.0)]) == ["forecast", "merged"]
    forecast, step = found.engine.position, found.process(at(4, A=9.0))
    assert (forecast.last, forecast.restarts) == (START + 100 * STEP, 0)
    assert (step.is_break, step.restarted, step.missing) == (True, True, 0)
    assert (found.engine.position.last, found.engine.position.restarts) == (START + 3 * STEP, 1)
    assert held(found) == [[1.0, -1.0], [7.0, 8.0]]


def test_a_straggler_from_long_before_does_not_keep_time_from_restarting() -> None:
    found = assembly()
    fed(found, [at(100, A=1.0)])
    assert fed(found, [at(step, A=1.0) for step in (90, 1, 2, 3)]) == ["late", "late", "late", "forecast"]


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([1, 1.2, 1.4, 1.6, 1.8], id="prints of one step"),
        pytest.param([9, 8, 7, 6, 5, 4], id="time runs backwards"),
        pytest.param([1, 2, 100, 3, 4, 100, 5, 6], id="stragglers among prints of the open step"),
        pytest.param([5, 6, 1, 7 - 5, 1], id="a run that begins anew"),
    ],
)
def test_time_does_not_restart_with(steps: list[float]) -> None:
    found = assembly()
    fed(found, [at(100, A=1.0)])
    assert "forecast" not in fed(found, [at(step, A=1.0) for step in steps])


# --- when the engine fails --------------------------------------------------------------------------------------------


def failing(found: Assembly, step: int) -> FakeForecaster:
    """Put a model into service that raises at `step`; returns the same without that fault."""
    healthy = fake(found.engine)
    broken = FailingForecaster(
        healthy.id,
        healthy.symbols,
        healthy.targets,
        healthy.change,
        healthy.as_of,
        healthy.trained,
        START + step * STEP,
    )
    put_into_service(found.engine, broken)
    return healthy


def test_a_step_on_which_the_engine_fails_is_lost_and_the_tick_that_closed_it_is_not_taken_in() -> None:
    found = assembly()
    fed(found, walk(10))
    healthy = failing(found, 9)
    before = checkpoint.save(found.engine, {})
    with pytest.raises(ArithmeticError, match="the network gave up"):
        found.process(at(10, A=1.0))
    assert checkpoint.save(found.engine, {}) == before
    # Its place in time is kept: what comes for it now is no step of its own.
    assert found.process(at(9, A=1.0)).outcome == Dropped("duplicate", conflict=False)
    assert fed(found, [at(8, A=1.0), at(10.5, B=2.0)]) == ["late", "merged"]
    assert found.engine.serving is not None
    found.engine.serving = replace(found.engine.serving, model=healthy)
    step = found.process(at(11, A=1.0))
    assert (forecast_of(step).as_of, step.missing, step.blanks) == (START + 10 * STEP, 1, 1)


@pytest.mark.parametrize(("lost", "back"), [(50, 0), (1, 1)], ids=["after a gap", "after a restart of time"])
def test_a_break_before_a_step_that_was_lost_is_one_before_the_next(lost: int, back: int) -> None:
    found = assembly()
    fed(found, [*walk(10, start=START + 20 * STEP), at(30, A=1.0)])
    failing(found, lost)
    fed(found, [at(lost - 2 + row, A=1.0) for row in range(2)] if back else [])
    fed(found, [at(lost, A=1.0)])
    with pytest.raises(ArithmeticError):
        found.process(at(lost + 1, A=1.0))
    fed(found, [at(lost + 1, A=1.0)])
    step = found.process(at(lost + 2, A=1.0))
    assert (forecast_of(step).as_of, step.is_break, step.missing) == (START + (lost + 1) * STEP, True, 0)
    assert found.engine.position.restarts == back


def test_a_first_step_on_which_the_engine_fails_leaves_nothing_to_compare_with() -> None:
    found = assembly(replace(LAST, close_after=1))
    found.step.position = Position(START)
    assert found.process(at(0, A=1.0)).outcome == Dropped("duplicate", conflict=False)


def test_what_is_refused_is_told_on_one_line() -> None:
    outcome = assembly().process(at(0, A=math.nan)).outcome
    assert outcome == Rejected("no_price", "none of its 1 prices can be used")
