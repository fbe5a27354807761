"""The checks that every forecaster passes, and that they find what they should."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from streamer.core.engine import ForecastEngine
from streamer.core.features import LEVEL, State
from streamer.core.grid import Floats, Row
from streamer.core.levels import Change
from tests.core.conformance import check_forecaster
from tests.core.fakes import UNITS, FakeForecaster, fake
from tests.core.helpers import SMALL, run, walk


def trained(change: Change = Change.LOG_RETURN, targets: tuple[str, ...] = ("B",)) -> FakeForecaster:
    engine = ForecastEngine(replace(SMALL, change=change))
    run(engine, walk(30))
    return fake(engine, targets=targets)


@pytest.mark.parametrize("change", Change)
@pytest.mark.parametrize("targets", [("A", "B"), ("B",)])
def test_the_fake_forecaster_conforms(change: Change, targets: tuple[str, ...]) -> None:
    check_forecaster(trained(change, targets))


@dataclass(frozen=True, eq=False)
class WritesIntoItsState(FakeForecaster):
    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        state[LEVEL][:] = 1.0
        return super().step(state, row)


@dataclass(frozen=True, eq=False)
class ReusesItsBuffer(FakeForecaster):
    buffer: np.ndarray = field(default_factory=lambda: np.zeros(UNITS, np.float32))

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        after, changes = super().step(state, row)
        self.buffer[:] = after["h0"]
        return {**after, "h0": self.buffer}, changes


@dataclass(frozen=True, eq=False)
class CarriesBlanks(FakeForecaster):
    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        after, changes = super().step(state, row)
        return after, changes + 0.0 * row.prices.sum()


@dataclass(frozen=True, eq=False)
class OneRowOnly(FakeForecaster):
    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        after, changes = super().step(state, row)
        return after, changes[:1]


@dataclass(frozen=True, eq=False)
class CountsItsCalls(FakeForecaster):
    calls: list[int] = field(default_factory=list)

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        self.calls.append(1)
        after, changes = super().step(state, row)
        return after, changes + len(self.calls)


@dataclass(frozen=True, eq=False)
class GrowsItsState(FakeForecaster):
    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        after, changes = super().step(state, row)
        return {**after, "extra": np.zeros(1)}, changes


@pytest.mark.parametrize(
    "broken",
    [WritesIntoItsState, ReusesItsBuffer, CarriesBlanks, OneRowOnly, CountsItsCalls, GrowsItsState],
)
def test_a_forecaster_that_breaks_a_rule_is_found(broken: type[FakeForecaster]) -> None:
    good = trained()
    model = broken(good.id, good.symbols, good.targets, good.change, good.as_of, good.trained)

    with pytest.raises(AssertionError):
        check_forecaster(model)


def test_a_target_that_is_no_symbol_is_found() -> None:
    with pytest.raises(AssertionError, match="targets are symbols"):
        check_forecaster(replace(trained(), targets=("C",)))
