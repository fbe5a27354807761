"""Backtests and trainings under a calendar, with inputs and with changes by symbol: as the daemon would."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.backtesting import Options, Result
from streamer.backtesting.run import Schedule
from streamer.core.engine import ForecastEngine
from streamer.core.forecaster import FORECASTERS
from streamer.core.grid import Floats
from streamer.core.levels import Change
from streamer.core.sessions import Sessions
from streamer.core.tick import Tick
from streamer.errors import UsageError
from streamer.frames import milliseconds, price_table, training_set
from streamer.model.dataset import TrainingSet
from tests.backtesting.helpers import SMALL, Learner, bits, checked, frame, run, walk
from tests.core.helpers import FEW

MINUTE = 60_000
START = int(pd.Timestamp("2026-01-05", tz="UTC").timestamp() * 1000)


def open_minutes(spans: list[tuple[int, int]]) -> Sessions:
    """Spans of minutes since the first row."""
    hours = START + MINUTE * np.array(spans, np.int64).reshape(-1, 2)
    return Sessions(lambda start, end: hours)


BREAKS = (30, 62, 90)
HOURS = open_minutes([(0, 30), (32, 64), (65, 200)])
"""Of the rows of `with_nights`, three begin sessions: two after a night, one after a gap."""


def with_nights() -> pd.DataFrame:
    """120 rows in minutes, without two of the first night and one of the second, and with a gap."""
    table = walk(130)
    return table.drop(table.index[[30, 31, 64, *range(93, 100)]])


def test_no_row_that_begins_a_session_is_scored() -> None:
    result = Result(run(with_nights(), engine=replace(SMALL, sessions=HOURS), options=Options(train_fraction=0.4)))
    first = len(with_nights()) * 4 // 10
    blank = [first + at for at in np.flatnonzero(result.predicted.isna().all(axis=1))]
    assert blank == [place for place in BREAKS if place >= first]
    for name in FORECASTERS:
        assert result.forecasters[name].isna().all(axis=1).sum() == len(blank)


def test_a_feed_that_goes_on_through_the_night_is_not_scored_at_the_opening() -> None:
    table = walk(120)
    engine = replace(SMALL, sessions=open_minutes([(0, 70), (80, 200)]))
    backtest = run(table, engine=engine, options=Options(train_fraction=0.5))
    result = Result(backtest)
    assert np.flatnonzero(result.predicted.isna().all(axis=1)).tolist() == [80 - 60]
    assert result.predicted.iloc[81 - 60].notna().all()


def test_a_schedule_repeats_it_bit_for_bit() -> None:
    engine, learner = replace(SMALL, sessions=HOURS), Learner()
    options = Options(train_fraction=0.5, retrain_every=20)
    live = run(with_nights(), learner, engine=engine, options=options)
    schedule = Schedule([service.swap for service in live.services], learner.models.__getitem__)
    assert bits(Result(run(with_nights(), engine=engine, options=options, schedule=schedule))) == bits(Result(live))


@FEW
@given(
    spans=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40)).map(lambda s: (s[0], sum(s))), max_size=4),
    left_out=st.sets(st.integers(0, 79), max_size=40),
)
def test_a_file_to_train_on_is_the_history_of_an_engine_that_saw_it(
    spans: list[tuple[int, int]], left_out: set[int]
) -> None:
    table = walk(80).drop(walk(80).index[sorted(left_out)])
    settings = replace(SMALL, sessions=open_minutes(spans), history=200, inputs=("B",), change_of={"A": Change.AUTO})
    engine = ForecastEngine(settings)
    for time, row in zip(milliseconds(pd.DatetimeIndex(table.index)).tolist(), table.to_numpy(), strict=True):
        engine.process(Tick(time, dict(zip(table.columns, row.tolist(), strict=True))))

    found, expected = training_set(price_table(table, (), "file"), settings), TrainingSet.of(engine)

    assert found.pack() == expected.pack()
    assert found.targets == ("A",)


def falling(prices: Floats) -> Floats:
    return np.column_stack([prices[:, 0], prices[:, 1] - 2 * prices[:, 1].max()])


def test_inputs_are_read_and_not_forecast() -> None:
    learner = Learner()
    engine = replace(SMALL, inputs=("B",), change_of={"B": Change.DIFFERENCE})
    table = frame(falling(walk(100).to_numpy()))
    result = Result(run(table, learner, engine=engine, options=Options(train_fraction=0.5)))
    [*histories] = learner.histories
    assert all(history.symbols == ("A", "B") and history.targets == ("A",) for history in histories)
    assert all(history.change.is_log.tolist() == [True, False] for history in histories)
    assert list(result.predicted.columns) == ["A"]


@pytest.mark.parametrize("change", [{}, {"B": Change.DIFFERENCE}])
def test_prices_below_zero_are_blank_but_for_a_symbol_of_differences(change: dict[str, Change]) -> None:
    engine = replace(SMALL, change=Change.LOG_RETURN, change_of=change)
    rows = checked(frame(falling(walk(100).to_numpy())), engine)
    assert any("log returns cannot take" in notice for notice in rows.notices) == (not change)


def test_a_file_of_inputs_alone_is_refused_in_one_line() -> None:
    engine = replace(SMALL, inputs=("A", "B"))
    with pytest.raises(UsageError, match=r"has no column that is to be forecast: all of them are feed\.inputs"):
        checked(walk(50), engine)
    with pytest.raises(UsageError, match=r"^all columns are feed\.inputs, none is left to forecast: A, B$"):
        training_set(walk(50), engine)
