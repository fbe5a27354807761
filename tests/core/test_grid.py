"""Where ticks fall in time: one table, and the warning for a feed of another spacing."""

import numpy as np
import pytest

from streamer.core.grid import Grid, Placement, Position, Row, Verdict, rows_between
from streamer.core.spacing import SpacingWatch

GRID = Grid(step=60, max_gap=3, late_reset=3, max_ahead=300)
ACCEPTED, DUPLICATE, LATE, AHEAD = Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.LATE, Verdict.AHEAD
AT_600 = Position(600)


@pytest.mark.parametrize(
    ("position", "time", "verdict", "grid_time", "is_break"),
    [
        pytest.param(Position(), 600, ACCEPTED, 600, True, id="the first tick begins a session"),
        pytest.param(AT_600, 660, ACCEPTED, 660, False, id="the next step"),
        pytest.param(AT_600, 719, ACCEPTED, 660, False, id="a time off the grid is floored"),
        pytest.param(AT_600, 659, DUPLICATE, 600, False, id="off the grid, but on the same step"),
        pytest.param(AT_600, 600, DUPLICATE, 600, False, id="the same time again"),
        pytest.param(AT_600, 840, ACCEPTED, 840, False, id="three missing are stepped over"),
        pytest.param(AT_600, 900, ACCEPTED, 900, True, id="four missing are a session break"),
        pytest.param(AT_600, 599, LATE, 540, False, id="an earlier time"),
        pytest.param(Position(0), -1, LATE, -60, False, id="a time before 1970 is floored, not cut"),
        pytest.param(Position(-120), -60, ACCEPTED, -60, False, id="steps go on across 1970"),
        pytest.param(Position(600, 2, 480), 540, ACCEPTED, 540, True, id="the third of a late run restarts time"),
        pytest.param(Position(600, 2, 480), 480, LATE, 480, False, id="a late run that does not rise is none"),
        pytest.param(Position(600, 2, 480), 600, DUPLICATE, 600, False, id="a duplicate ends a late run"),
    ],
)
def test_a_tick_is_placed(position: Position, time: int, verdict: Verdict, grid_time: int, is_break: bool) -> None:
    placement = GRID.place(position, time, None)

    assert (placement.verdict, placement.time, placement.is_break) == (verdict, grid_time, is_break)


@pytest.mark.parametrize(
    ("times", "verdicts"),
    [
        pytest.param([600, 60, 120, 180, 240], [ACCEPTED, LATE, LATE, ACCEPTED, ACCEPTED], id="time restarts"),
        pytest.param([600, 60, 120, 60, 120, 180], [ACCEPTED] + [LATE] * 4 + [ACCEPTED], id="a run begins anew"),
        pytest.param([600, 60, 120, 120, 180], [ACCEPTED] + [LATE] * 4, id="a repeated late tick does not rise"),
        pytest.param(
            [600, 60, 120, 660, 180, 240],
            [ACCEPTED, LATE, LATE, ACCEPTED, LATE, LATE],
            id="stragglers among ticks",
        ),
        pytest.param(
            [600, 60, 120, 600, 180, 240],
            [ACCEPTED, LATE, LATE, DUPLICATE, LATE, LATE],
            id="duplicates between",
        ),
        pytest.param([600, 240, 180, 120, 60, 0], [ACCEPTED] + [LATE] * 5, id="time runs backwards"),
    ],
)
def test_late_ticks_that_rise_among_themselves_restart_time(times: list[int], verdicts: list[Verdict]) -> None:
    position, placed = Position(), []
    for time in times:
        placement = GRID.place(position, time, None)
        position = placement.position
        placed.append(placement.verdict)

    assert placed == verdicts


@pytest.mark.parametrize(
    ("time", "record_time", "verdict"),
    [
        pytest.param(960, 660, ACCEPTED, id="as far ahead as is allowed"),
        pytest.param(1_020, 719, AHEAD, id="further ahead"),
        pytest.param(1_020, None, ACCEPTED, id="nothing to compare with"),
        pytest.param(540, 10**9, LATE, id="a record may come as late as it will"),
    ],
)
def test_a_time_far_ahead_of_its_record_is_no_time(time: int, record_time: int | None, verdict: Verdict) -> None:
    assert GRID.place(AT_600, time, record_time).verdict == verdict


def test_a_time_far_ahead_does_not_move_the_grid() -> None:
    late = Position(600, 2, 480)

    assert GRID.place(late, 10**12, 600) == Placement(AHEAD, 10**12 - 10**12 % 60, late)
    assert GRID.place(Position(), 10**12, 600).position == Position()


def test_missing_steps_are_blank_rows() -> None:
    row = Row(240, np.array([1.0, 2.0]))

    rows = list(rows_between(60, row, 60))

    assert [each.time for each in rows] == [120, 180, 240]
    assert all(np.isnan(each.prices).all() and not each.is_break for each in rows[:-1])
    assert rows[-1] is row


@pytest.mark.parametrize("previous", [-10_000, 180, 240, 10_000])
def test_across_a_break_nothing_is_stepped_over(previous: int) -> None:
    row = Row(240, np.array([1.0]), is_break=True)

    assert list(rows_between(previous, row, 60)) == [row]


def said(times: list[int], step: int = 60) -> list[int | None]:
    watch = SpacingWatch(step)
    return [watch.observe(time) for time in times]


@pytest.mark.parametrize("spacing", [1, 59, 61, 300])
def test_another_spacing_is_said_once_after_30_equal_ones(spacing: int) -> None:
    answers = said([7 + spacing * i for i in range(100)])

    assert answers == [None] * 30 + [spacing] + [None] * 69


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(list(range(0, 6_000, 60)), id="the step itself"),
        pytest.param(list(range(30, 6_030, 60)), id="the step, off the grid"),
        pytest.param([time for i in range(50) for time in (300 * i, 300 * i + 60)], id="no two spacings alike"),
        pytest.param([0] * 100, id="duplicates"),
        pytest.param(list(range(10_000, 0, -61)), id="time runs backwards"),
        pytest.param([61 * i + (i // 29) for i in range(200)], id="never 30 in a row"),
    ],
)
def test_no_spacing_is_said_of(times: list[int]) -> None:
    assert said(times) == [None] * len(times)
