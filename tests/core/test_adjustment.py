"""A symbol that is split or renamed: as if it had always been so; and symbols that have vanished leave."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import checkpoint
from streamer.core.adjustment import KEPT, Adjusted, Adjustment, adjusted, brought_up
from streamer.core.catchup import RING, TRAINED
from streamer.core.engine import ForecastEngine
from streamer.core.levels import Change
from streamer.core.outcome import Dropped, Forecast, Rejected, Step
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from tests.core.fakes import fake, shelf
from tests.core.helpers import (
    FEW,
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

SETTINGS = replace(SMALL, max_symbols=10, scoring_window=24)
CHANGES = st.sampled_from([Change.LOG_RETURN, Change.DIFFERENCE])
RATIOS = st.sampled_from([0.25, 1 / 3, 0.1, 7.0, 1e-6, 1e6])

Input = Tick | Adjustment


def take(engine: ForecastEngine, item: Input) -> Step:
    """Process a tick, or adjust."""
    return engine.adjust(item) if isinstance(item, Adjustment) else engine.process(item)


def take_all(engine: ForecastEngine, items: Sequence[Input]) -> list[Step]:
    return [take(engine, item) for item in items]


def scaled(ticks: Sequence[Tick], ratio: float, symbol: str = "A") -> list[Tick]:
    """The same with the prices of `symbol` `ratio` times as large."""
    return [replace(t, prices={s: p * ratio if s == symbol else p for s, p in t.prices.items()}) for t in ticks]


def renamed(ticks: Sequence[Tick], symbol: str, name: str) -> list[Tick]:
    return [replace(t, prices={name if s == symbol else s: p for s, p in t.prices.items()}) for t in ticks]


def assert_same_forecast(found: Step, expected: Step) -> None:
    """To 1e-9, and all that is counted exactly."""
    assert (found.scored, found.blanks, found.missing, found.is_break) == (
        expected.scored,
        expected.blanks,
        expected.missing,
        expected.is_break,
    )
    if not isinstance(expected.outcome, Forecast):
        assert found.outcome == expected.outcome
        return
    one, other = forecast_of(found), expected.outcome
    assert (one.symbols, one.as_of, one.target, one.model) == (other.symbols, other.as_of, other.target, other.model)
    for name in ("yhat", "lower", "upper", "last"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, err_msg=name)


# --- a split ----------------------------------------------------------------------------------------------------------


@FEW
@given(before=tick_sequences(max_size=25), after=tick_sequences(max_size=15), ratio=RATIOS, change=CHANGES)
def test_after_a_split_all_is_as_if_prices_had_always_been_in_its_units(
    before: list[Tick], after: list[Tick], ratio: float, change: Change
) -> None:
    """With a model in service that was trained on the old ones; forecasts, scores, intervals and the window of both."""
    settings, start = replace(SETTINGS, change=change), walk(12, start=START - 40 * STEP)
    engine, always = ForecastEngine(settings), ForecastEngine(settings)
    run(engine, start)
    run(always, scaled(start, ratio))
    put_into_service(engine, fake(engine))
    put_into_service(always, fake(always))
    run(engine, before)
    run(always, scaled(before, ratio))

    step = engine.adjust(Adjustment(7, "A", ratio))

    assert step.outcome == Dropped("adjusted")
    assert step.adjustment == Adjustment(7, "A", ratio)
    for tick in scaled([*after, *walk(10, start=START + 100 * STEP)], ratio):
        assert_same_forecast(engine.process(tick), always.process(tick))
    np.testing.assert_allclose(engine.scoreboard.rmse, always.scoreboard.rmse, rtol=1e-7)
    np.testing.assert_allclose(engine.history.prices, always.history.prices, rtol=1e-12)
    np.testing.assert_allclose(engine.market.sigma, always.market.sigma, rtol=1e-9)
    assert engine.drift.seen == always.drift.seen


def test_the_totals_of_squared_errors_stay_as_a_counter_must() -> None:
    engine = ForecastEngine(SETTINGS)
    run(engine, walk(20))
    before = engine.scoreboard.squared_error_total.copy()
    engine.adjust(Adjustment(1, "A", 0.25))
    assert bits(engine.scoreboard.squared_error_total) == bits(before)


def test_a_forecast_in_old_prices_is_scored_in_new_ones() -> None:
    engine = ForecastEngine(SETTINGS)
    forecast = forecast_of(run(engine, walk(20))[-1])
    engine.adjust(Adjustment(1, "A", 0.25))
    assert engine.pending is not None
    np.testing.assert_array_equal(engine.pending.yhat[0], forecast.yhat * [0.25, 1.0])
    np.testing.assert_array_equal(engine.pending.lower, forecast.lower * [0.25, 1.0])


def test_without_it_the_split_would_be_a_crash() -> None:
    """The control: the same feed without the message is scored as one change by a quarter."""
    ticks, split = walk(30)[:29], scaled(walk(30), 0.25)[29:]
    told, untold = ForecastEngine(SETTINGS), ForecastEngine(SETTINGS)
    run(told, ticks)
    run(untold, ticks)
    told.adjust(Adjustment(1, "A", 0.25))
    run(told, split)
    run(untold, split)
    assert untold.scoreboard.rmse[0, 0] > 10 * told.scoreboard.rmse[0, 0]


# --- another name -----------------------------------------------------------------------------------------------------


@FEW
@given(before=tick_sequences(max_size=25), after=tick_sequences(max_size=15))
def test_under_another_name_all_goes_on_bit_for_bit(before: list[Tick], after: list[Tick]) -> None:
    engine, same = ForecastEngine(SETTINGS), ForecastEngine(SETTINGS)
    start = walk(12, start=START - 40 * STEP)
    for each in (engine, same):
        run(each, start)
        put_into_service(each, fake(each))
        run(each, before)

    engine.adjust(Adjustment(7, "A", renamed="NEW"))

    for tick, other in zip(renamed(after, "A", "NEW"), after, strict=True):
        found, expected = engine.process(tick), same.process(other)
        if isinstance(expected.outcome, Forecast):
            names = tuple("NEW" if symbol == "A" else symbol for symbol in expected.outcome.symbols)
            expected = replace(expected, outcome=replace(expected.outcome, symbols=names))
        assert lasting(found) == lasting(expected)


@pytest.mark.parametrize("feed", ["by the new name", "as a list, by the name of the configuration"])
def test_a_symbol_of_the_configuration_goes_on_under_its_new_name(feed: str) -> None:
    settings = replace(SETTINGS, symbols=("A", "B"), targets=("A",))
    engine, ticks = ForecastEngine(settings), walk(30)
    run(engine, ticks[:20])
    engine.adjust(Adjustment(7, "A", renamed="NEW"))
    listed = [replace(tick, listed=True) for tick in ticks[20:]]
    sent = renamed(ticks[20:], "A", "NEW") if feed == "by the new name" else listed
    for step in run(engine, sent):
        assert forecast_of(step).symbols == ("NEW",)
        assert step.scored == 1


@pytest.mark.parametrize("names", [("A", "B"), ("NEW", "B")], ids=["the old name", "the new name"])
def test_a_restart_keeps_all_whichever_name_the_configuration_has(names: tuple[str, str]) -> None:
    settings = replace(SETTINGS, symbols=("A", "B"), targets=("A",))
    engine = ForecastEngine(settings)
    run(engine, walk(20))
    model = fake(engine)
    put_into_service(engine, model)
    engine.adjust(Adjustment(7, "A", renamed="NEW"))

    configured = replace(settings, symbols=names, targets=names[:1])
    restored = checkpoint.restore(configured, checkpoint.save(engine, {}), shelf(model).load)

    assert restored.notices == ()
    for tick in renamed(walk(30)[20:], "A", "NEW"):
        assert lasting(restored.engine.process(tick)) == lasting(engine.process(tick))
    if names[0] == "A":
        listed = Tick(START + 30 * STEP, {"A": 100.0, "B": 100.0}, listed=True)
        assert forecast_of(restored.engine.process(listed)).last.tolist() == [100.0]


def test_a_name_that_is_given_on_means_one_symbol_only() -> None:
    """A has become T, and B has become A: a price of A is none of T; the places of a list are as they were."""
    engine = ForecastEngine(replace(SETTINGS, symbols=("A", "B")))
    run(engine, walk(20))
    engine.adjust(Adjustment(7, "A", renamed="T"))
    engine.adjust(Adjustment(8, "B", renamed="A"))
    assert engine.prices(Tick(0, {"A": 7.0})).tolist() == pytest.approx([math.nan, 7.0], nan_ok=True)
    assert engine.prices(Tick(0, {"A": 7.0, "B": 8.0}, listed=True)).tolist() == [7.0, 8.0]


def test_a_symbol_is_read_by_its_new_names_change_whoever_takes_over() -> None:
    settings = replace(SETTINGS, change_of={"META": Change.LOG_RETURN})
    engine = ForecastEngine(settings)
    run(engine, renamed(walk(20), "A", "FB"))
    engine.adjust(Adjustment(7, "FB", renamed="META"))
    owner = checkpoint.restore(settings, checkpoint.save(engine, {}), shelf().load).engine
    below = Tick(START + 20 * STEP, {"META": -1.0, "B": 100.0})
    assert lasting(engine.process(below)) == lasting(owner.process(below))


def test_a_name_that_is_free_again_is_that_of_another_symbol() -> None:
    """After A has become B, a new A joins, and the model does not take it for its own."""
    engine, without = ForecastEngine(SETTINGS), ForecastEngine(SETTINGS)
    ticks = renamed(walk(30), "B", "C")
    for each in (engine, without):
        run(each, ticks[:20])
        put_into_service(each, fake(each, symbols=("A", "C")))
        each.adjust(Adjustment(7, "A", renamed="B"))
    for tick in renamed(ticks[20:], "A", "B"):
        more = replace(tick, prices={**tick.prices, "A": 5.0})
        found, expected = forecast_of(engine.process(more)), forecast_of(without.process(tick))
        assert found.yhat[:2].tolist() == expected.yhat.tolist()
        assert (found.symbols[2], found.yhat[2]) == ("A", 5.0)


# --- what cannot be done ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("adjustment", "detail"),
    [
        (Adjustment(1, "C", 0.5), "symbol: found 'C', the stream has A, B"),
        (Adjustment(1, "A", 0.0), "ratio: found 0, expected a number from 0.000001 to 1000000"),
        (Adjustment(1, "A", math.nan), "ratio: found nan, expected a number from 0.000001 to 1000000"),
        (Adjustment(1, "A", renamed="B"), "rename: the stream has a symbol 'B' already"),
        (Adjustment(1, "A", renamed="A"), "rename: the stream has a symbol 'A' already"),
    ],
)
def test_an_adjustment_that_cannot_be_changes_nothing_and_says_why(adjustment: Adjustment, detail: str) -> None:
    engine = ForecastEngine(SETTINGS)
    run(engine, walk(20))
    before = checkpoint.save(engine, {})
    assert engine.adjust(adjustment).outcome == Rejected("invalid_control", detail)
    assert checkpoint.save(engine, {}) == before


def test_a_price_that_would_be_none_any_more_is_refused() -> None:
    engine = ForecastEngine(SETTINGS)
    engine.process(Tick(START, {"A": 1e99, "B": 1e-320}))
    for symbol, ratio in (("A", 1e6), ("B", 1e-6)):
        outcome = engine.adjust(Adjustment(1, symbol, ratio)).outcome
        assert isinstance(outcome, Rejected)
        assert "is no price" in outcome.detail


def test_what_the_model_in_service_needs_is_never_forgotten() -> None:
    engine = ForecastEngine(SETTINGS)
    run(engine, walk(20))
    put_into_service(engine, fake(engine))
    found = [engine.adjust(Adjustment(number, "A", 2.0 if number % 2 else 0.5)) for number in range(KEPT)]
    assert [step.outcome for step in found[:-1]] == [Dropped("adjusted")] * (KEPT - 1)
    assert isinstance(found[-1].outcome, Rejected)
    assert "train a new one first" in found[-1].outcome.detail

    put_into_service(engine, replace(fake(engine, "m2"), adjusted=engine.adjusted))
    assert engine.adjust(Adjustment(KEPT, "A", 0.5)).outcome == Dropped("adjusted")


def test_a_model_of_before_more_adjustments_than_are_kept_is_none_to_catch_up() -> None:
    engine = ForecastEngine(SETTINGS)
    run(engine, walk(20))
    model = fake(engine)
    for number in range(KEPT):
        engine.adjust(Adjustment(number, "A", 2.0 if number % 2 else 0.5))
    assert len(engine.adjustments) == KEPT
    with pytest.raises(LookupError, match="adjustments"):
        engine.catch_up(model)


# --- whoever takes over -----------------------------------------------------------------------------------------------


@st.composite
def inputs(draw: st.DrawFn) -> list[Input]:
    """Ticks of a bad feed, among them adjustments, some of which cannot be."""
    items: list[Input] = []
    for number, tick in enumerate(draw(tick_sequences(max_size=35))):
        items.append(tick)
        if draw(st.integers(0, 7)) == 0:
            symbol, name = draw(st.sampled_from("ABCX")), draw(st.sampled_from([None, "X", "A"]))
            items.append(Adjustment(number, symbol, draw(st.one_of(st.just(1.0), RATIOS)), name))
    return items


@FEW
@given(items=inputs(), cut=st.integers(0, 35), change=st.sampled_from(Change))
def test_restored_equals_never_stopped_among_adjustments(items: list[Input], cut: int, change: Change) -> None:
    engine = ForecastEngine(replace(SETTINGS, change=change))
    run(engine, walk(12, start=START - 20 * STEP))
    model = fake(engine)
    put_into_service(engine, model)
    take_all(engine, items[:cut])
    restored = checkpoint.restore(
        replace(SETTINGS, change=change), checkpoint.save(engine, {}), shelf(model).load
    ).engine

    for item in items[cut:]:
        assert lasting(take(restored, item)) == lasting(take(engine, item))
    assert checkpoint.save(restored, {}) == checkpoint.save(engine, {})


@FEW
@given(
    first=st.integers(0, 30),
    second=st.integers(0, 30),
    trained=st.integers(8, 25),
    start=st.sampled_from([TRAINED, RING]),
    slice_size=st.sampled_from([2, 3]),
    ratios=st.tuples(RATIOS, RATIOS),
    change=CHANGES,
)
def test_a_schedule_repeats_a_swap_among_adjustments_bit_for_bit(
    first: int, second: int, trained: int, start: str, slice_size: int, ratios: tuple[float, float], change: Change
) -> None:
    """Before the training, while the model catches up, and while it serves; and directly before and after the swap."""
    settings = replace(SETTINGS, change=change)
    ratios = (min(max(ratios[0], 0.1), 10.0), min(max(ratios[1], 0.1), 10.0))
    items: list[Input] = list(walk(40))
    items.insert(first, Adjustment(100, "A", ratios[0]))
    items.insert(second, Adjustment(200 if second > first else 50, "B", ratios[1], "NEW"))
    live, steps, ready, model = ForecastEngine(settings), [], None, None
    for number, item in enumerate(items):
        steps.append(take(live, item))
        if number == trained:
            names = live.symbols[:2]
            model = replace(fake(live, symbols=names), adjusted=live.adjusted)
            ready = live.catch_up(model, start)
        elif ready is not None and ready.advance(slice_size):
            live.swap(ready)
            ready = None
    assert model is not None
    again = ForecastEngine(settings, live.swaps, shelf(model).load)
    repeated = take_all(again, items)
    assert [lasting(replace(step, training=None)) for step in repeated] == [
        lasting(replace(step, training=None)) for step in steps
    ]
    assert again.swaps == live.swaps


def test_a_swap_before_and_one_after_an_adjustment_between_two_ticks_are_told_apart() -> None:
    """Thirds: whether a price was divided and multiplied back shows in its last bit."""
    for swap_first in (True, False):
        settings, ticks = replace(SETTINGS, change=Change.DIFFERENCE), walk(40)
        live = ForecastEngine(settings)
        steps = run(live, ticks[:20])
        model = fake(live)
        steps += run(live, ticks[20:30])
        if swap_first:
            put_into_service(live, model)
        steps.append(live.adjust(Adjustment(5, "A", 1 / 3)))
        if not swap_first:
            put_into_service(live, model)
        steps += run(live, ticks[30:])
        again = ForecastEngine(settings, live.swaps, shelf(model).load)
        repeated = [*run(again, ticks[:30]), again.adjust(Adjustment(5, "A", 1 / 3)), *run(again, ticks[30:])]
        assert [lasting(replace(step, training=None)) for step in repeated] == [
            lasting(replace(step, training=None)) for step in steps
        ]


@FEW
@given(ratio=RATIOS, change=CHANGES, after=st.integers(0, 10))
def test_a_model_of_before_a_split_catches_up_as_one_that_served_through_it(
    ratio: float, change: Change, after: int
) -> None:
    settings, ticks = replace(SETTINGS, change=change), walk(40)
    served, later = ForecastEngine(settings), ForecastEngine(settings)
    for each in (served, later):
        run(each, ticks[:20])
    model = fake(served)
    put_into_service(served, model)
    for each in (served, later):
        run(each, ticks[20:25])
        each.adjust(Adjustment(3, "A", ratio, "NEW"))
        run(each, renamed(scaled(ticks[25 : 25 + after], ratio), "A", "NEW"))
    put_into_service(later, model)
    assert served.serving is not None
    assert later.serving is not None
    assert later.serving.model.symbols == ("NEW", "B")
    for tick in renamed(scaled(ticks[35:], ratio), "A", "NEW"):
        one, other = forecast_of(later.process(tick)), forecast_of(served.process(tick))
        np.testing.assert_allclose(one.yhat, other.yhat, rtol=1e-9)  # the intervals know what served until then
        assert bits(one.last) == bits(other.last)


def test_a_model_that_no_adjustment_concerns_serves_as_it_is() -> None:
    engine = ForecastEngine(SETTINGS)
    run(engine, walk(20))
    model = fake(engine, symbols=("B",))
    assert adjusted(model, [Adjustment(1, "A", 0.5, "NEW")]) is model
    assert adjusted(replace(model, adjusted=3), [Adjustment(3, "B", 0.5)]).symbols == ("B",)
    assert isinstance(adjusted(model, [Adjustment(3, "B", 0.5)]), Adjusted)


def test_a_name_of_a_symbol_that_is_gone_can_be_given_to_another() -> None:
    """The model has both, and the one that is gone stays blank to it."""
    engine, named = ForecastEngine(replace(ROLLING, window=3)), ForecastEngine(replace(ROLLING, window=3))
    for each in (engine, named):
        run(each, walk(10, ("A", "GONE")))
        put_into_service(each, fake(each, symbols=("A", "GONE")))
        run(each, walk(10, ("A",), start=START + 10 * STEP))
    assert engine.symbols == ("A",)
    assert engine.adjust(Adjustment(1, "A", renamed="GONE")).outcome == Dropped("adjusted")
    for tick in walk(20, ("A",), start=START + 20 * STEP):
        found, expected = forecast_of(engine.process(renamed([tick], "A", "GONE")[0])), forecast_of(named.process(tick))
        assert found.symbols == ("GONE",)
        assert bits(found.yhat) == bits(expected.yhat)


def test_prices_of_before_are_brought_up_in_the_order_of_the_adjustments() -> None:
    steps = [Adjustment(1, "A", 0.5, "B"), Adjustment(2, "B", 10.0), Adjustment(3, "C", renamed="A")]
    assert brought_up({"A": 8.0, "B": 1.0, "C": 3.0}, steps) == {"B": 40.0, "A": 3.0}
    assert brought_up({"C": 3.0}, steps) == {"A": 3.0}


# --- symbols that have vanished ---------------------------------------------------------------------------------------

ROLLING = EngineSettings(
    step=STEP, window=5, max_gap=3, max_stale=4, max_symbols=4, first=7, every=0, history=8, change=Change.AUTO
)


def rolling(contracts: int, life: int = 12, overlap: int = 2) -> list[Tick]:
    """Futures F0, F1, ... of which each is quoted for `life` ticks, the last few beside its successor; and a spot."""
    ticks = []
    for tick, spot in enumerate(walk((life - overlap) * contracts + overlap, ("SPOT",))):
        price = spot.prices["SPOT"]
        alive = [c for c in range(contracts) if 0 <= tick - c * (life - overlap) < life]
        ticks.append(replace(spot, prices={"SPOT": price, **{f"F{c}": price + c for c in alive}}))
    return ticks


def test_a_stream_of_rolling_futures_never_runs_into_the_limit_of_symbols() -> None:
    engine = ForecastEngine(ROLLING)
    steps = run(engine, rolling(30))
    assert all(isinstance(step.outcome, Forecast) for step in steps)
    assert len(engine.symbols) <= 4
    left = [symbol for step in steps for symbol in step.left]
    assert left == [f"F{contract}" for contract in range(len(left))], "each once, in the order of their ends"
    assert len(left) >= 28


@pytest.mark.parametrize(("history", "max_stale", "leaves_with"), [(8, 4, 10), (8, 12, 14), (20, 4, 22)])
def test_a_symbol_leaves_once_it_is_stale_and_the_history_has_no_price_of_it(
    history: int, max_stale: int, leaves_with: int
) -> None:
    engine = ForecastEngine(replace(ROLLING, history=history, max_stale=max_stale))
    run(engine, walk(10))
    steps = run(engine, walk(40, ("B",), start=START + 10 * STEP))
    assert [number for number, step in enumerate(steps, 1) if step.left] == [leaves_with]
    assert engine.symbols == ("B",)
    assert engine.history.prices.shape == (history, 1)


def test_ticks_count_and_not_steps_that_had_none() -> None:
    """Gaps are rows of age, and none of the history."""
    engine = ForecastEngine(ROLLING)
    run(engine, walk(10))
    for number, tick in enumerate(walk(8, ("B",), start=START + 12 * STEP, step=3 * STEP)):
        assert engine.process(tick).left == (), f"tick {number}"
    assert np.isfinite(engine.history.prices[:, 0]).any() or len(engine.symbols) == 2


def test_a_symbol_that_the_feed_still_names_stays_though_it_is_blank() -> None:
    engine = ForecastEngine(ROLLING)
    blank = [replace(tick, prices={**tick.prices, "A": math.nan}) for tick in walk(40, ("B",), start=START + 10 * STEP)]
    assert not any(step.left for step in run(engine, [*walk(10), *blank]))
    assert engine.symbols == ("A", "B")
    assert engine.process(Tick(START + 50 * STEP, {"B": 1.0})).left == ("A",)


def test_a_symbol_of_the_configuration_stays() -> None:
    engine = ForecastEngine(replace(ROLLING, symbols=("A", "B")))
    run(engine, [*walk(10), *walk(40, ("B",), start=START + 10 * STEP)])
    assert engine.symbols == ("A", "B")


def test_one_that_comes_back_joins_anew() -> None:
    engine = ForecastEngine(ROLLING)
    run(engine, [*walk(10), *walk(40, ("B",), start=START + 10 * STEP)])
    back = Tick(START + 50 * STEP, {"A": 7.0, "B": 100.0})
    step = engine.process(back)
    assert forecast_of(step).symbols == ("B", "A")
    assert engine.scoreboard.scored_total.tolist()[1] == 0
    assert engine.market.weight[1] == 0.0


@FEW
@given(ticks=tick_sequences(max_size=30, symbols=("A", "B"), extra=("C",)), change=st.sampled_from(Change))
def test_that_one_leaves_changes_no_forecast_of_the_others(ticks: list[Tick], change: Change) -> None:
    """GONE is in the columns, and in the model, and quoted no more; beside an engine that never lets go."""
    settings = replace(ROLLING, change=change, max_symbols=9)
    engine, keeping = ForecastEngine(settings), Keeping(settings)
    for each in (engine, keeping):
        run(each, walk(10, ("A", "GONE", "B"), start=START - 60 * STEP))
        put_into_service(each, fake(each, symbols=("A", "GONE", "B")))
        run(each, walk(8, start=START - 50 * STEP))
    left: set[str] = set()
    for tick in [*walk(2, start=START - 42 * STEP), *ticks]:
        found, expected = engine.process(tick), keeping.process(tick)
        left |= set(found.left)
        if not isinstance(expected.outcome, Forecast):
            assert bits(found.outcome) == bits(expected.outcome)
            continue
        one, other = _of(forecast_of(found), left), _of(expected.outcome, left)
        assert one == other
        assert found.training == expected.training
    assert "GONE" in left


class Keeping(ForecastEngine):
    """Lets no symbol go."""

    def _vanished(self, named: Mapping[str, float]) -> tuple[str, ...]:
        return ()


def _of(forecast: Forecast, without: set[str]) -> object:
    """All of `forecast`, bit by bit, but for the symbols `without`: those may have joined anew."""
    kept = [place for place, symbol in enumerate(forecast.symbols) if symbol not in without]
    figures = [bits(getattr(forecast, name)[kept]) for name in ("yhat", "lower", "upper", "last")]
    names = [forecast.symbols[place] for place in kept]
    return names, forecast.as_of, forecast.target, forecast.model, figures


@FEW
@given(cut=st.integers(0, 60))
def test_restored_equals_never_stopped_while_symbols_come_and_go(cut: int) -> None:
    ticks = rolling(6)
    engine = ForecastEngine(ROLLING)
    run(engine, ticks[:cut])
    restored = checkpoint.restore(ROLLING, checkpoint.save(engine, {}), shelf().load).engine
    for tick in ticks[cut:]:
        assert lasting(restored.process(tick)) == lasting(engine.process(tick))
    assert checkpoint.save(restored, {}) == checkpoint.save(engine, {})


@pytest.mark.parametrize("slice_size", [1, 2, 100])
def test_a_schedule_repeats_swaps_while_symbols_come_and_go(slice_size: int) -> None:
    settings, ticks = replace(ROLLING, window=3), rolling(8)
    live, models, steps, ready = ForecastEngine(settings), [], [], None
    for number, tick in enumerate(ticks):
        steps.append(live.process(tick))
        if number % 13 == 9:
            models.append(fake(live, f"m{number}", live.symbols))
            ready = live.catch_up(models[-1])
        elif ready is not None and ready.advance(slice_size):
            live.swap(ready)
            ready = None
    assert len(live.swaps) > 3
    assert sum(bool(step.left) for step in steps) > 3
    again = run(ForecastEngine(settings, live.swaps, shelf(*models).load), ticks)
    assert [lasting(replace(step, training=None)) for step in again] == [
        lasting(replace(s, training=None)) for s in steps
    ]
