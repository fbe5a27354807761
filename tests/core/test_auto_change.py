"""`change: auto`: log returns of a symbol while its prices are positive, differences from its first other price on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import checkpoint
from streamer.core.engine import ForecastEngine
from streamer.core.levels import Change, Levels
from streamer.core.outcome import Step
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from tests.core.fakes import FailingForecaster, FakeForecaster, fake, shelf
from tests.core.helpers import FEW, SMALL, STEP, bits, forecast_of, lasting, put_into_service, run, tick_sequences, walk

AUTO = replace(SMALL, change=Change.AUTO, max_stale=60)


def falling(ticks: list[Tick], at: int, price: float = -3.0) -> list[Tick]:
    """`ticks` with B moved down, so that its price at index `at` is `price`."""
    down = ticks[at].prices["B"] - price
    lower = [replace(tick, prices={**tick.prices, "B": tick.prices["B"] - down}) for tick in ticks[at:]]
    return [*ticks[:at], *lower]


def glitch(ticks: list[Tick], at: int, price: float = 0.0) -> list[Tick]:
    """`ticks` with the one price of B at index `at` replaced."""
    bad = replace(ticks[at], prices={**ticks[at].prices, "B": price})
    return [*ticks[:at], bad, *ticks[at + 1 :]]


def served(settings: EngineSettings, ticks: list[Tick], at: int = 10) -> tuple[ForecastEngine, list[Step]]:
    """An engine after `ticks`, with a model in service that was trained on those before index `at`."""
    engine = ForecastEngine(settings)
    steps = run(engine, ticks[:at])
    put_into_service(engine, fake(engine))
    return engine, steps + run(engine, ticks[at:])


@FEW
@given(ticks=tick_sequences(), with_model=st.booleans())
def test_while_prices_are_positive_auto_is_log_returns(ticks: list[Tick], with_model: bool) -> None:
    positive = [replace(tick, prices={s: p for s, p in tick.prices.items() if not p <= 0.0}) for tick in ticks]
    steps = {}
    for change in (Change.AUTO, Change.LOG_RETURN):
        engine = ForecastEngine(replace(SMALL, change=change))
        run(engine, walk(8))
        if with_model:
            put_into_service(engine, fake(engine))
        steps[change] = [lasting(step) for step in run(engine, positive)]

    assert steps[Change.AUTO] == steps[Change.LOG_RETURN]


def test_the_first_price_that_is_not_positive_counts_and_its_symbol_is_named_once() -> None:
    engine = ForecastEngine(AUTO)

    steps = run(engine, falling(walk(30), 20))

    assert [i for i, step in enumerate(steps) if step.switched] == [20]
    assert steps[20].switched == engine.switched == ("B",)
    assert {step.blanks for step in steps} == {0}
    assert [step.scored for step in steps[1:]] == [2] * 29
    assert forecast_of(steps[20]).yhat[1] == pytest.approx(-3.0)


def test_under_log_returns_such_a_price_is_blank() -> None:
    steps = run(ForecastEngine(SMALL), falling(walk(30), 20))

    assert [step.blanks for step in steps[19:22]] == [0, 1, 1]
    assert not any(step.switched for step in steps)


def test_the_interval_goes_on_in_the_new_units() -> None:
    """The scale of 1 % of 100 is that of a difference of 1, and one bad print does not blow it up."""
    steps = run(ForecastEngine(AUTO), glitch(walk(200), 100))

    def width(step: Step) -> float:
        return float(forecast_of(step).upper[1] - forecast_of(step).lower[1])

    assert 0.5 < width(steps[102]) / width(steps[99]) < 2.0


def test_the_other_symbols_notice_nothing() -> None:
    plain = run(ForecastEngine(AUTO), walk(40))
    for step, expected in zip(run(ForecastEngine(AUTO), falling(walk(40), 20)), plain, strict=True):
        one, other = forecast_of(step), forecast_of(expected)
        for name in ("yhat", "lower", "upper", "last"):
            assert getattr(one, name)[0] == getattr(other, name)[0]


@pytest.mark.parametrize("price", [0.0, -3.0])
def test_a_model_of_log_returns_sees_such_a_price_blank(price: float) -> None:
    """What it forecasts of the other symbol is what it forecasts where there was no price at all."""
    _, steps = served(AUTO, glitch(walk(40), 20, price))
    _, blank = served(AUTO, glitch(walk(40), 20, np.nan))

    forecast = forecast_of(steps[20])
    assert (forecast.yhat[1], forecast.last[1]) == (price, price), "persistence"
    for step, expected in zip(steps[20:], blank[20:], strict=True):
        assert forecast_of(step).yhat[0] == forecast_of(expected).yhat[0]
    for step, expected in zip(steps[21:], blank[21:], strict=True):
        assert forecast_of(step).yhat[1] == pytest.approx(forecast_of(expected).yhat[1], rel=1e-12)
        assert forecast_of(step).yhat[1] != forecast_of(step).last[1], "its log return, as a price"


def test_a_training_is_asked_for_where_a_model_of_log_returns_serves() -> None:
    ticks = glitch(falling(walk(40), 20), 30, price=-9.0)
    engine, steps = served(replace(AUTO, every=1_000), ticks)

    assert [(i, step.training) for i, step in enumerate(steps) if step.training] == [
        (SMALL.first - 1, "schedule"),
        (20, "switched_to_differences"),
    ]
    assert engine.policy.wanted == "switched_to_differences"


def test_none_is_asked_for_without_a_model_or_where_trainings_are_on_request_only() -> None:
    steps = run(ForecastEngine(replace(AUTO, every=1_000)), falling(walk(40), 20))
    steps += served(replace(AUTO, every=0, first=1_000), falling(walk(40), 20))[1]

    assert {step.training for step in steps} == {None, "schedule"}


def test_the_model_of_the_next_training_takes_differences() -> None:
    ticks = falling(walk(40), 20, price=-30.0)
    engine, _ = served(AUTO, ticks[:30])
    successor = fake(engine, "m2")
    put_into_service(engine, successor)

    assert successor.change.changes == ("log_return", "difference")
    for tick in ticks[30:]:
        forecast = forecast_of(engine.process(tick))
        assert forecast.last[1] < 0.0
        assert forecast.yhat[1] != forecast.last[1]


def test_a_model_of_differences_serves_where_the_stream_still_has_log_returns() -> None:
    """Trained where prices were seen that this engine has not seen."""
    ticks = walk(30)
    engine = ForecastEngine(AUTO)
    run(engine, ticks[:10])
    model = replace(fake(engine), change=Levels.starting([Change.LOG_RETURN, Change.DIFFERENCE]))
    put_into_service(engine, model.trained_on(engine.history, (0, 1), STEP))
    alike = ForecastEngine(replace(AUTO, change=Change.DIFFERENCE))
    run(alike, ticks[:10])
    put_into_service(alike, engine.serving.model if engine.serving else model)

    for tick in ticks[10:]:
        one, other = forecast_of(engine.process(tick)), forecast_of(alike.process(tick))
        np.testing.assert_allclose(one.yhat, other.yhat, rtol=1e-12)
        assert (one.yhat != one.last).all()


@FEW
@given(ticks=tick_sequences(), cut=st.integers(0, 30))
def test_restored_equals_never_stopped(ticks: list[Tick], cut: int) -> None:
    """Whether the switch came before the snapshot or comes after it, under a model of log returns."""
    engine, _ = served(AUTO, walk(12, start=10_000))
    assert engine.serving is not None
    model = engine.serving.model
    assert isinstance(model, FakeForecaster)
    run(engine, ticks[:cut])
    restored = checkpoint.restore(AUTO, checkpoint.save(engine, {}), shelf(model).load).engine

    for tick in ticks[cut:]:
        assert lasting(restored.process(tick)) == lasting(engine.process(tick))
    assert checkpoint.save(restored, {}) == checkpoint.save(engine, {})


@FEW
@given(before=tick_sequences(max_size=20, extra=()), after=tick_sequences(max_size=20, extra=()))
def test_a_schedule_repeats_the_run_that_recorded_it(before: list[Tick], after: list[Tick]) -> None:
    live, first = ForecastEngine(replace(AUTO, every=0)), walk(8, start=10_000)
    steps = run(live, [*first, *before])
    model = fake(live)
    put_into_service(live, model)
    steps += run(live, after)

    again = run(ForecastEngine(AUTO, live.swaps, shelf(model).load), [*first, *before, *after])

    assert [lasting(replace(step, training=None)) for step in again] == [
        lasting(replace(step, training=None)) for step in steps
    ]


def test_a_tick_that_fails_switches_nothing() -> None:
    ticks = falling(walk(20), 12)
    engine, _ = served(AUTO, ticks[:12])
    assert engine.serving is not None
    good = fake(engine)
    failing = FailingForecaster(
        good.id, good.symbols, good.targets, good.change, good.as_of, good.trained, ticks[12].time
    )
    engine.serving = replace(engine.serving, model=failing)
    before = checkpoint.save(engine, {})

    with pytest.raises(ArithmeticError):
        engine.process(ticks[12])

    assert checkpoint.save(engine, {}) == before
    assert engine.switched == ()


def test_a_symbol_that_joins_with_such_a_price_is_read() -> None:
    engine = ForecastEngine(AUTO)
    run(engine, walk(10))

    step = engine.process(Tick(walk(11)[10].time, {"A": 1.0, "C": -7.0}))

    assert step.switched == engine.switched == ("C",)
    forecast = forecast_of(step)
    assert forecast.last[forecast.symbols.index("C")] == -7.0


def test_a_ring_of_other_settings_is_read_anew() -> None:
    """Negative prices that were differences before switch their symbol again."""
    engine = ForecastEngine(replace(AUTO, change=Change.DIFFERENCE))
    run(engine, falling(walk(20), 12))

    restored = checkpoint.restore(AUTO, checkpoint.save(engine, {}), shelf().load).engine

    assert restored.switched == ("B",)
    assert bits(restored.ring.prices) == bits(engine.ring.prices)
