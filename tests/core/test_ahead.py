"""Steps of models worked out ahead: nothing that comes out is another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import checkpoint
from streamer.core.ahead import step_ahead
from streamer.core.engine import ForecastEngine
from streamer.core.features import State
from streamer.core.grid import Floats, Row
from streamer.core.tick import Tick
from tests.core.fakes import FailingForecaster, FakeForecaster, fake
from tests.core.helpers import FEW, SMALL, STEP, bits, lasting, put_into_service, run, tick_sequences, walk

SHAPED = replace(SMALL, symbols=("A", "B"))


@dataclass(frozen=True, eq=False)
class Counting(FakeForecaster):
    """Notes how many streams each of its steps was for."""

    steps: list[int] = field(default_factory=list)

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        self.steps.append(1)
        return super().step(state, row)

    def step_all(self, states: Sequence[State], rows: Sequence[Row]) -> list[tuple[State, Floats]]:
        self.steps.append(len(rows))
        return [super(Counting, self).step(state, row) for state, row in zip(states, rows, strict=True)]


def serving(model: FakeForecaster, seed: int = 0) -> ForecastEngine:
    """A stream of its own prices that `model` serves."""
    engine = ForecastEngine(SHAPED)
    run(engine, walk(9, seed=seed))
    put_into_service(engine, model, "ring")
    return engine


def trained() -> FakeForecaster:
    engine = ForecastEngine(SHAPED)
    run(engine, walk(9))
    return fake(engine)


def counting() -> Counting:
    model = trained()
    return Counting(model.id, model.symbols, model.targets, model.change, model.as_of, model.trained)


def following(seed: int, count: int = 1) -> list[Tick]:
    """Ticks after those of `serving`."""
    return walk(9 + count, seed=seed)[9:]


def test_streams_of_one_model_take_their_next_step_at_once() -> None:
    model = counting()
    engines = [serving(model, seed) for seed in range(5)]
    ticks = [following(seed)[0] for seed in range(5)]
    model.steps.clear()

    step_ahead(zip(engines, ticks, strict=True))
    for engine, tick in zip(engines, ticks, strict=True):
        engine.process(tick)

    assert model.steps == [5]


def test_streams_of_different_models_and_one_alone_step_when_their_turn_comes() -> None:
    model, other = counting(), counting()
    engines = [serving(model), serving(other, 1), ForecastEngine(SHAPED)]
    model.steps.clear()
    other.steps.clear()

    step_ahead((engine, following(seed)[0]) for seed, engine in enumerate(engines))

    assert (model.steps, other.steps) == ([], [])


@pytest.mark.parametrize("which", ["other prices", "a later step", "a gap before it", "none"])
def test_another_tick_than_the_one_foreseen_takes_its_own_step(which: str) -> None:
    model = counting()
    engines, twin = [serving(model, seed) for seed in range(2)], serving(model)
    foreseen, *later = following(0, 5)
    came = {
        "other prices": Tick(foreseen.time, {"A": 1.0, "B": 2.0}),
        "a later step": later[0],
        "a gap before it": later[2],
        "none": Tick(foreseen.time, {"A": math.nan, "B": math.nan}),
    }[which]

    step_ahead([(engines[0], foreseen), (engines[1], following(1)[0])])

    for tick in (came, *later[3:]):
        assert lasting(engines[0].process(tick)) == lasting(twin.process(tick))
    assert checkpoint.save(engines[0], {}) == checkpoint.save(twin, {})


def test_a_step_of_before_a_swap_is_not_taken() -> None:
    model, other = trained(), replace(trained(), id="m2")
    engines, twin = [serving(model, seed) for seed in range(2)], serving(model)
    tick = following(0)[0]

    step_ahead([(engines[0], tick), (engines[1], following(1)[0])])
    put_into_service(engines[0], other)
    put_into_service(twin, other)

    assert lasting(engines[0].process(tick)) == lasting(twin.process(tick))


def test_where_one_of_them_fails_it_fails_alone() -> None:
    model = trained()
    good, bad = following(0, 2)
    failing = FailingForecaster(model.id, model.symbols, model.targets, model.change, fails_at=bad.time)
    engines, twins = [[serving(failing, seed) for seed in range(3)] for _ in range(2)]
    engines[0].process(good)
    ticks = [bad, *(following(seed)[0] for seed in (1, 2))]
    before = checkpoint.save(engines[0], {})

    step_ahead(zip(engines, ticks, strict=True))

    with pytest.raises(ArithmeticError, match="gave up"):
        engines[0].process(bad)
    assert checkpoint.save(engines[0], {}) == before, "the engine is as it was"
    for engine, twin, tick in zip(engines[1:], twins[1:], ticks[1:], strict=True):
        assert lasting(engine.process(tick)) == lasting(twin.process(tick))


@FEW
@given(sequences=st.lists(tick_sequences(max_size=30), min_size=2, max_size=4), data=st.data())
def test_any_ticks_of_any_streams_have_the_outcomes_that_they_have_alone(
    sequences: list[list[Tick]], data: st.DataObject
) -> None:
    """Symbols that join and vanish, gaps, restarts, and now and then a tick that was not foreseen."""
    model = trained()
    engines, twins = [[ForecastEngine(SMALL) for _ in sequences] for _ in range(2)]
    for engine in (*engines, *twins):
        run(engine, walk(9, start=sequences[0][0].time - 20 * STEP))
        put_into_service(engine, model, "ring")
    for at in range(max(map(len, sequences))):
        some = [number for number, ticks in enumerate(sequences) if at < len(ticks) and data.draw(st.booleans())]
        step_ahead((engines[number], data.draw(st.sampled_from(sequences[number][at : at + 2]))) for number in some)
        for number in some:
            tick = sequences[number][at]
            assert lasting(engines[number].process(tick)) == lasting(twins[number].process(tick))
    for engine, twin in zip(engines, twins, strict=True):
        assert bits(engine.market) == bits(twin.market)
        assert checkpoint.save(engine, {}) == checkpoint.save(twin, {})
