"""Drift: silent while nothing changes, awake soon after what was predictable is not."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from streamer.core import checkpoint
from streamer.core.drift import CAP, Drift
from streamer.core.engine import ForecastEngine
from streamer.core.features import LEVEL, State
from streamer.core.forecaster import MODELLED
from streamer.core.grid import Floats, Row
from streamer.core.levels import Change, Levels
from streamer.core.outcome import Step
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from tests.core.fakes import FakeForecaster, shelf
from tests.core.helpers import SMALL, START, STEP, put_into_service, run, walk

THRESHOLD = 50.0


def alarms(served: Floats, persistence: Floats, cooldown: int = 500) -> list[int]:
    """Rows at which drift is acted on, at most one in `cooldown`; squared errors `(T, c)`."""
    drift, found = Drift(THRESHOLD), list[int]()
    for row, losses in enumerate(zip(served, persistence, strict=True)):
        drift = drift.after(*losses)
        if drift.detected and (not found or row - found[-1] >= cooldown):
            found.append(row)
            drift = drift.acted_on()
    return found


def losses(changes: Floats, predicted: Floats) -> tuple[Floats, Floats]:
    """Squared errors of a forecast and of persistence, in variances."""
    variance = changes.var(axis=0)
    return (changes - predicted) ** 2 / variance, changes**2 / variance


def autoregressive(noise: Floats, coefficients: npt.NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Changes `(T, n)`, each `coefficients[t]` of the one before and noise; and what the first coefficient predicts."""
    changes, predicted = np.zeros_like(noise), np.zeros_like(noise)
    for row in range(1, len(noise)):
        changes[row] = coefficients[row] * changes[row - 1] + noise[row]
        predicted[row] = coefficients[0] * changes[row - 1]
    return changes, predicted


def volatile(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Noise with heavy tails whose volatility wanders by half its logarithm."""
    log_volatility = np.zeros(shape)
    for row in range(1, len(log_volatility)):
        log_volatility[row] = 0.98 * log_volatility[row - 1] + 0.1 * rng.normal(size=shape[1])
    return np.exp(log_volatility) * rng.standard_t(5, size=shape)


@pytest.mark.parametrize("kind", ["normal", "volatile"])
@pytest.mark.parametrize("coefficient", [0.0, 0.1, 0.3])
def test_less_than_one_false_alarm_in_20_000_ticks(kind: str, coefficient: float) -> None:
    """With the best forecast of an autoregressive market, and with one that sees a pattern in a random walk."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(40_000, 3)) if kind == "normal" else volatile(rng, (40_000, 3))
    changes, predicted = autoregressive(noise, np.full(len(noise), coefficient))
    if coefficient == 0.0:
        predicted[1:] = 0.2 * changes[:-1]

    assert len(alarms(*losses(changes, predicted))) < 2


@pytest.mark.parametrize(("coefficient", "soon"), [(0.2, 300), (0.3, 200), (0.5, 100)])
def test_a_pattern_that_turns_round_is_seen_within_some_hundred_ticks(coefficient: float, soon: int) -> None:
    for seed in range(5):
        noise = np.random.default_rng(seed).normal(size=(4_000, 3))
        coefficients = np.where(np.arange(4_000) < 3_000, coefficient, -coefficient)

        first, *_ = alarms(*losses(*autoregressive(noise, coefficients)))

        assert 3_000 < first < 3_000 + soon


def test_a_skill_that_is_gone_is_drift_though_nothing_is_worse_than_persistence() -> None:
    """As behind a guard, which falls back to persistence by itself."""
    changes, predicted = autoregressive(np.random.default_rng(0).normal(size=(5_000, 3)), np.full(5_000, 0.4))
    predicted[3_000:] = 0.0

    first, *_ = alarms(*losses(changes, predicted))

    assert 3_000 < first < 3_500


def test_a_volatile_hour_alone_is_no_drift() -> None:
    """Both losses rise alike."""
    noise = np.random.default_rng(0).normal(size=(6_000, 3))
    noise[3_000:3_060] *= 5.0
    changes, predicted = autoregressive(noise, np.full(len(noise), 0.2))

    assert alarms(*losses(changes, predicted)) == []


def test_an_alarm_comes_again_until_the_loss_is_what_is_usual() -> None:
    served = np.r_[np.full(1_000, 0.8), np.full(12_000, 1.4)][:, None]
    served += np.random.default_rng(0).normal(scale=0.3, size=served.shape)

    found = alarms(served, np.ones_like(served))

    assert 2 < len(found) < 15
    assert np.diff(found).min() >= 500
    assert found[-1] < 9_000


def test_a_single_loss_beyond_all_measure_is_capped() -> None:
    drift = Drift(THRESHOLD)
    for _ in range(400):
        drift = drift.after(np.array([0.9]), np.array([1.0]))

    once = drift.after(np.array([1e300]), np.array([1.0]))

    assert not once.detected
    assert once.mean <= drift.mean + CAP / 400


def test_nothing_is_drift_before_there_is_a_usual_loss_to_rise_from() -> None:
    served = np.r_[np.full(50, 0.8), np.full(250, 5.0)][:, None]
    served += np.random.default_rng(0).normal(scale=0.3, size=served.shape)

    assert alarms(served, np.ones_like(served)) == []


def test_a_threshold_of_0_turns_it_off() -> None:
    drift = Drift(0.0)
    for row in range(2_000):
        drift = drift.after(np.array([0.1 if row < 1_000 else 9.0]), np.array([1.0]))
        assert not drift.detected


class _Reverting(FakeForecaster):
    """Forecasts that half of each change is taken back."""

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        """Take in one row; half of the last change is to be taken back."""
        level = self.change.level(row.prices)
        moved = np.nan_to_num(level - state[LEVEL])
        after, _ = super().step(state, row)
        return after, np.stack([-0.5 * moved] * len(MODELLED))


def reverting(model_id: str) -> _Reverting:
    """A model of A and B, of log returns."""
    return _Reverting(model_id, ("A", "B"), ("A", "B"), Levels.starting([Change.AUTO] * 2))


def market(rows: int, turn: int) -> list[Tick]:
    """Prices whose changes alternate, and go on instead from the row `turn`."""
    coefficients = np.where(np.arange(rows) < turn, -0.5, 0.5)
    changes, _ = autoregressive(np.random.default_rng(0).normal(scale=0.001, size=(rows, 2)), coefficients)
    prices = 100.0 * np.exp(np.cumsum(changes, axis=0))
    return [Tick(START + i * STEP, {"A": a, "B": b}) for i, (a, b) in enumerate(prices.tolist())]


LIVE = replace(SMALL, every=100_000, history=100, cooldown=400)


def drifting(ticks: list[Tick], settings: EngineSettings = LIVE) -> ForecastEngine:
    """An engine that has seen `ticks`, with a model of the market's first part in service."""
    engine = ForecastEngine(settings)
    run(engine, ticks)
    put_into_service(engine, reverting("m1"))
    return engine


def test_the_engine_asks_for_a_training_when_the_market_turns_and_again_after_the_cool_down() -> None:
    ticks = market(2_500, 1_000)
    engine = drifting(ticks[:20])

    due = [(i, step.training) for i, step in enumerate(run(engine, ticks[20:]), 20) if step.training]

    assert {reason for _, reason in due} == {"drift"}
    assert 1_000 < due[0][0] < 1_200
    assert np.diff([i for i, _ in due]).min() > 400
    assert engine.policy.wanted == "drift"


def test_drift_is_seen_at_the_same_tick_after_a_restart() -> None:
    ticks = market(1_500, 1_000)
    engine = drifting(ticks[:20])
    run(engine, ticks[20:1_010])
    model = engine.serving.model if engine.serving else None
    assert isinstance(model, FakeForecaster)
    restored = checkpoint.restore(LIVE, checkpoint.save(engine, {}), shelf(model).load).engine

    reasons = [[step.training for step in run(each, ticks[1_010:])] for each in (engine, restored)]

    assert reasons[0] == reasons[1]
    assert "drift" in reasons[0]


def test_persistence_does_not_drift() -> None:
    engine = ForecastEngine(LIVE)
    run(engine, walk(1_000))

    assert engine.drift == Drift(LIVE.drift)


@pytest.mark.parametrize("settings", [replace(LIVE, drift=0.0), replace(LIVE, every=0)], ids=["off", "on request only"])
def test_no_training_comes_due_on_drift_where_that_is_off(settings: EngineSettings) -> None:
    ticks = market(2_000, 1_000)
    engine = drifting(ticks[:20], settings)

    assert {step.training for step in run(engine, ticks[20:])} == {None}


def test_drift_begins_anew_once_it_is_acted_on_and_with_persistence() -> None:
    ticks = market(1_500, 1_000)
    engine = drifting(ticks[:20])
    alarmed = next(i for i, step in enumerate(run_until_training(engine, ticks[20:]), 20) if step.training)

    assert engine.drift.excess == 0.0
    assert engine.drift.seen == alarmed - 19
    engine.swap(None)
    assert engine.drift == Drift(LIVE.drift)


def run_until_training(engine: ForecastEngine, ticks: list[Tick]) -> Iterator[Step]:
    """Process `ticks` up to the one with which a training is due."""
    for tick in ticks:
        step = engine.process(tick)
        yield step
        if step.training:
            return


def test_a_model_that_has_just_begun_to_serve_is_given_the_cool_down() -> None:
    ticks = market(2_000, 1_000)
    engine = drifting(ticks[:20])
    run(engine, ticks[20:1_005])
    put_into_service(engine, reverting("m2"))

    due = [i for i, step in enumerate(run(engine, ticks[1_005:]), 1_005) if step.training]

    assert due[0] == 1_005 + LIVE.cooldown, "it drifts all the while"


def test_a_price_below_zero_leaves_a_number_of_the_drift() -> None:
    """From it on, that symbol's errors are measured as differences; the forecast of it was made of a log return."""
    ticks = market(500, 1_000)
    engine = ForecastEngine(replace(LIVE, change=Change.AUTO))
    run(engine, ticks[:20])
    put_into_service(engine, reverting("m1"))
    run(engine, ticks[20:400])

    for blank in ({}, {"B": math.nan}):
        run(engine, [Tick(ticks[400].time + len(blank) * STEP, {"A": -1.0, "B": 100.0, **blank})])
        assert all(map(math.isfinite, engine.drift))
    assert engine.drift.seen == 382
