"""At which times of the week a feed sleeps, learned of its ticks, against plain lists of weeks."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import checkpoint
from streamer.core.engine import ForecastEngine
from streamer.core.rhythm import Rhythm
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from tests.core.fakes import shelf
from tests.core.helpers import MODERATE, SMALL

MINUTE = 60_000
QUARTER = 15 * MINUTE
DAY = 24 * 60 * MINUTE
WEEK = 7 * DAY


def learned(times: Iterable[int], step: int = MINUTE) -> Rhythm:
    rhythm = Rhythm.initial()
    for last, time in pairwise(times):
        rhythm = rhythm.after(last, time, step)
    return rhythm


def trading(week: int, days: Iterable[int] = range(5), opens: float = 9.5, closes: float = 16.0) -> list[int]:
    """Minutes from the opening to the close, that of the close too, of some days of one week."""
    hours = [(day * DAY + int(opens * 60) * MINUTE, day * DAY + int(closes * 60) * MINUTE) for day in days]
    return [week * WEEK + time for begin, end in hours for time in range(begin, end + MINUTE, MINUTE)]


def awake(rhythm: Rhythm) -> set[int]:
    """Quarters of the week in which ticks are expected."""
    return {time // QUARTER for time in range(0, WEEK, QUARTER) if rhythm.is_awake(time)}


def quarters(days: Iterable[int], opens: float = 9.5, closes: float = 16.0) -> set[int]:
    return {day * 96 + quarter for day in days for quarter in range(int(opens * 4), int(closes * 4))}


def test_while_nothing_is_known_ticks_are_expected() -> None:
    assert len(awake(Rhythm.initial())) == 672


def test_after_one_week_the_hours_are_known_to_the_quarter() -> None:
    """The tick that is stamped at the close wakes nothing, and neither does the first of the day what is before it."""
    assert awake(learned([*trading(0), *trading(1, [0])])) == quarters(range(5))


def test_a_holiday_is_no_habit_and_four_of_them_are_one() -> None:
    for holidays in range(1, 6):
        weeks = [trading(0), *[trading(week, [0, 1, 2, 3]) for week in range(1, 1 + holidays)]]
        rhythm = learned([time for week in weeks for time in week] + trading(1 + holidays, [0]))
        assert awake(rhythm) == quarters(range(4) if holidays >= 4 else range(5)), holidays


def test_new_hours_are_known_at_once() -> None:
    rhythm = learned([*trading(0), *trading(1, [0], closes=20.0), *trading(1, [1])])
    assert awake(rhythm) == quarters(range(5)) | quarters([0], closes=20.0)


def test_an_outage_of_months_counts_as_one_week() -> None:
    always = range(0, 2 * WEEK, MINUTE)
    assert len(awake(learned([*always, 30 * WEEK, 30 * WEEK + MINUTE]))) == 672


def test_a_single_print_wakes_nothing() -> None:
    ticks = sorted([*trading(0), 3 * DAY + 2 * 60 * MINUTE + 7 * MINUTE, *trading(1, [0])])
    assert awake(learned(ticks)) == quarters(range(5))


def test_ticks_that_keep_their_step_are_awake_however_long_that_is() -> None:
    days = [7 * week + day for week in range(3) for day in range(5)]  # stamped at midnight of a day that trades
    rhythm = learned([day * DAY for day in days], DAY)
    assert awake(rhythm) == set(range(4 * 96)), "after the fifth day none comes for three"


def test_a_clock_that_was_years_ahead_does_not_end_the_learning() -> None:
    ticks = [*trading(0), *trading(2_000, [0]), *trading(2, closes=20.0), *trading(3, [0])]
    assert awake(learned(ticks)) == quarters(range(5), closes=20.0)


@MODERATE
@given(
    gaps=st.lists(
        st.one_of(
            st.integers(1, 20).map(lambda minutes: minutes * MINUTE),
            st.integers(1, 400).map(lambda quarters: quarters * QUARTER),
            st.integers(1, 3 * 672).map(lambda quarters: quarters * QUARTER + MINUTE),
        ),
        max_size=60,
    )
)
def test_a_quarter_sleeps_after_four_silent_weeks_or_if_it_never_woke(gaps: list[int]) -> None:
    """The oracle knows of each quarter since the epoch whether it was awake, and looks back."""
    times = np.cumsum([100 * WEEK + 7 * MINUTE, *gaps]).tolist()
    is_awake: set[int] = set()
    silent: set[int] = set()
    for last, time in pairwise(times):
        if time - last <= QUARTER:
            is_awake |= set(range(last // QUARTER, (time - 1) // QUARTER + 1))
        else:  # all that lie behind are settled; of an outage, the last week
            between = set(range(last // QUARTER, time // QUARTER))
            silent |= {quarter for quarter in between if quarter >= time // QUARTER - 672}

    rhythm = learned(times)

    for quarter in range(672):
        history = [each in is_awake for each in sorted(is_awake | silent) if each % 672 == quarter]
        expected = any(history[-4:]) if history else True
        assert rhythm.is_awake(quarter * QUARTER) == expected, quarter


@pytest.mark.parametrize("settings", [SMALL, replace(SMALL, coverage=0.5)], ids=["the same", "other settings"])
def test_it_is_kept_over_a_restart(settings: EngineSettings) -> None:
    small = replace(SMALL, step=MINUTE)
    engine = ForecastEngine(small)
    for time in [*trading(0), *trading(1, [0])]:
        engine.process(Tick(time, {"A": 1.0}))
    restored = checkpoint.restore(replace(settings, step=MINUTE), checkpoint.save(engine, {}), shelf().load).engine

    for day, hour in ((0, 9), (0, 12), (5, 12), (2, 20)):
        time = day * DAY + hour * 60 * MINUTE
        assert restored.is_expected(time) == engine.is_expected(time) == (day < 5 and hour == 12)
