"""What the last training learned from, put before what the log still has: each tick once, in its place."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.engine import ForecastEngine
from streamer.core.levels import Levels
from streamer.core.sessions import Sessions
from streamer.core.settings import EngineSettings
from streamer.model.dataset import TrainingSet
from streamer.service.history import prepend
from tests.core.helpers import MODERATE

STEP = 60_000
SETTINGS = EngineSettings(symbols=("a", "b"), history=100, max_gap=5)


def ticks(start: int, end: int, symbols: tuple[str, ...] = ("a", "b")) -> TrainingSet:
    """Those of the minutes from `start` to before `end`; a price says which minute and symbol it is of."""
    minutes = np.arange(start, end)
    prices = 1.0 + minutes[:, None] + 1000.0 * np.array([ord(symbol) for symbol in symbols])
    levels = Levels(np.ones(len(symbols), np.bool_))
    return TrainingSet(symbols, symbols, levels, STEP, minutes * STEP, np.zeros(len(minutes), np.bool_), prices)


def engine_with(held: TrainingSet, settings: EngineSettings = SETTINGS) -> ForecastEngine:
    engine = ForecastEngine(settings)
    engine.history.prepend(held.times, held.breaks, held.prices)
    return engine


@MODERATE
@given(ends=st.lists(st.integers(0, 60), min_size=4, max_size=4))
def test_the_history_is_what_both_have_up_to_its_capacity(ends: list[int]) -> None:
    a, b, c, d = sorted(ends)
    engine, stored = engine_with(ticks(b, d + 1)), ticks(a, c)

    added = prepend(engine, stored)

    assert added == b - a if len(stored) else added == 0
    expected = ticks(b - added, d + 1)
    assert engine.history.times.tolist() == expected.times.tolist()
    assert engine.history.prices.tolist() == expected.prices.tolist()


@pytest.mark.parametrize(("missing", "is_break"), [(0, False), (5, False), (6, True)])
def test_more_than_max_gap_missing_between_them_are_a_session_break(missing: int, is_break: bool) -> None:
    engine = engine_with(ticks(50, 60))
    assert prepend(engine, ticks(10, 50 - missing)) == 40 - missing
    assert engine.history.breaks.tolist() == [False] * (40 - missing) + [is_break] + [False] * 9


@pytest.mark.parametrize(("closed", "is_break"), [((47, 50), True), ((48, 49), True), ((30, 40), False)])
def test_closed_hours_between_them_are_a_session_break(closed: tuple[int, int], is_break: bool) -> None:
    hours = np.array([(0, closed[0]), (closed[1], 100)]) * STEP
    engine = engine_with(ticks(50, 60), replace(SETTINGS, sessions=Sessions(lambda start, end: hours)))
    assert prepend(engine, ticks(10, 47)) == 37
    assert engine.history.breaks[37] == is_break


def test_symbols_find_their_columns_and_those_that_were_not_there_are_blank() -> None:
    engine = engine_with(ticks(5, 10))
    prepend(engine, ticks(0, 5, ("c", "b")))
    assert np.isnan(engine.history.prices[:5, 0]).all()
    assert engine.history.prices[:5, 1].tolist() == ticks(0, 5).prices[:, 1].tolist()


def test_only_the_newest_are_taken_where_there_is_no_room_for_all() -> None:
    engine = engine_with(ticks(150, 160))
    assert prepend(engine, ticks(0, 150)) == 90
    assert engine.history.times[0] == 60 * STEP


@pytest.mark.parametrize(
    "stored",
    [ticks(20, 40), replace(ticks(0, 10), step=1), ticks(0, 0)],
    ids=["of a time that the log restarted from", "of another step", "of nothing"],
)
def test_what_does_not_fit_before_it_is_left(stored: TrainingSet) -> None:
    engine = engine_with(ticks(10, 15))
    before = engine.history.times.tolist()
    assert prepend(engine, stored) == 0
    assert engine.history.times.tolist() == before


def test_with_nothing_held_there_is_no_telling_what_comes_before_it() -> None:
    assert prepend(ForecastEngine(SETTINGS), ticks(0, 10)) == 0
