"""Open hours: which steps are open, where sessions begin, and what the engine makes of both."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.core import checkpoint
from streamer.core.engine import ForecastEngine
from streamer.core.grid import Grid, Position
from streamer.core.outcome import Forecast
from streamer.core.sessions import ALWAYS, Sessions, Spans
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from tests.core.fakes import fake, shelf
from tests.core.helpers import FEW, MODERATE, SMALL, START, STEP, lasting, put_into_service, run, tick_sequences, walk
from tests.core.oracle import Oracle
from tests.core.test_engine import check

Pairs = list[tuple[int, int]]

_DAY = 86_400_000


def given_spans(spans: Pairs) -> Sessions:
    array = np.array(spans, np.int64).reshape(-1, 2)
    return Sessions(lambda start, end: array)


def open_steps(spans: Pairs, step: int) -> Callable[[int], bool]:
    """Whether any millisecond of the step at a time is in one of the spans."""
    return lambda time: any(begin < end and begin < time + step and time < end for begin, end in spans)


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda span: (span[0], sum(span))), max_size=6)


@MODERATE
@example(spans=[(0, 20), (5, 10)], time=15)
@example(spans=[(0, 20), (5, 10), (15, 18)], time=19)
@given(spans=spans, time=st.integers(-5, 90))
def test_a_time_is_open_where_a_span_holds_it_whether_they_touch_overlap_or_are_empty(spans: Pairs, time: int) -> None:
    assert given_spans(spans).is_open(time) == any(begin <= time < end for begin, end in spans)


@MODERATE
@given(
    spans=spans,
    step=st.sampled_from([1, 3, 10]),
    last=st.integers(-2, 30),
    missing=st.integers(0, 6),
    max_gap=st.sampled_from([3, 100]),
)
def test_a_session_begins_after_a_closed_step_and_with_open_hours(
    spans: Pairs, step: int, last: int, missing: int, max_gap: int
) -> None:
    grid = Grid(step, max_gap=max_gap, sessions=given_spans(spans))
    first, time = last * step, (last + missing + 1) * step
    is_open = open_steps(spans, step)
    between = range(first + step, time, step)

    begins = any(is_open(each) and not is_open(each - step) for each in (*between, time))
    expected = missing > max_gap or begins or not all(map(is_open, between))

    assert grid.place(Position(first), time, None).is_break == expected


@MODERATE
@given(spans=spans, ticks=tick_sequences(), settings=st.sampled_from([SMALL, replace(SMALL, max_gap=30)]))
def test_each_tick_has_the_outcome_that_the_oracle_gives(
    spans: Pairs, ticks: list[Tick], settings: EngineSettings
) -> None:
    """Closed hours around the ticks, which come all the same."""
    hours = [(START + (begin - 20) * STEP, START + (end - 20) * STEP) for begin, end in spans]
    engine = ForecastEngine(replace(settings, sessions=given_spans(hours)))
    oracle = Oracle(settings, open_steps(hours, STEP))

    for tick in ticks:
        check(engine.process(tick), oracle.tick(tick))


@FEW
@given(spans=spans, ticks=tick_sequences(), cut=st.integers(0, 40))
def test_restored_equals_never_stopped(spans: Pairs, ticks: list[Tick], cut: int) -> None:
    hours = [(START + (begin - 20) * STEP, START + (end - 20) * STEP) for begin, end in spans]
    settings = replace(SMALL, sessions=given_spans(hours))
    engine = ForecastEngine(settings)
    run(engine, walk(12, start=START - 20 * STEP))
    model = fake(engine)
    put_into_service(engine, model)
    run(engine, ticks[:cut])
    restored = checkpoint.restore(settings, checkpoint.save(engine, {}), shelf(model).load).engine

    for tick in ticks[cut:]:
        assert lasting(restored.process(tick)) == lasting(engine.process(tick))
    assert checkpoint.save(restored, {}) == checkpoint.save(engine, {})


def test_closed_hours_are_not_stepped_over_and_their_end_is_not_scored() -> None:
    """Twenty steps, a night of two closed ones, twenty steps: shorter than a gap that is stepped over without hours."""
    ticks = walk(42)
    night = (START + 20 * STEP, START + 22 * STEP)
    open_hours = given_spans([(START, night[0]), (night[1], START + _DAY)])
    awake = [tick for tick in ticks if not night[0] <= tick.time < night[1]]
    closes, never_closes = ForecastEngine(replace(SMALL, sessions=open_hours)), ForecastEngine(SMALL)

    steps, others = run(closes, awake), run(never_closes, awake)

    assert [(step.missing, step.is_break, step.scored) for step in steps[19:22]] == [
        (0, False, 2),
        (0, True, 0),
        (0, False, 2),
    ]
    assert others[20].missing == 2
    assert not others[20].is_break
    assert sum(step.missing for step in steps) == 0


def test_the_change_across_a_night_is_fed_to_no_model() -> None:
    """Whatever the first price of the day is, if only all others have moved with it."""
    night = START + 20 * STEP
    settings = replace(SMALL, sessions=given_spans([(START, night), (night + STEP, START + _DAY)]))
    published = []
    for factor in (1.0, 3.0):
        engine = ForecastEngine(settings)
        run(engine, walk(20))
        put_into_service(engine, fake(engine))
        later = [
            replace(tick, prices={symbol: price * factor for symbol, price in tick.prices.items()})
            for tick in walk(30)[21:]
        ]
        outcomes = [step.outcome for step in run(engine, later)]
        published.append([each.yhat / factor for each in outcomes if isinstance(each, Forecast)])

    np.testing.assert_allclose(published[0], published[1], rtol=1e-12)


def test_the_first_open_step_is_not_scored_though_the_feed_never_slept() -> None:
    """It repeats the last price all night long: the jump of the morning is no change of one step."""
    night = (START + 20 * STEP, START + 30 * STEP)
    hours = given_spans([(START, night[0]), (night[1], START + _DAY)])
    steps = run(ForecastEngine(replace(SMALL, sessions=hours)), walk(40))

    breaks = [place for place, step in enumerate(steps) if step.is_break]
    assert breaks == [30]
    assert [place for place, step in enumerate(steps) if not step.scored] == [0, 30]


def test_a_price_stamped_at_the_close_is_scored() -> None:
    close = START + 20 * STEP
    hours = given_spans([(START, close), (close + 100 * STEP, close + 200 * STEP)])
    steps = run(ForecastEngine(replace(SMALL, sessions=hours)), walk(21))

    assert (steps[20].scored, steps[20].is_break) == (2, False)


def test_days_of_a_week_follow_each_other_and_a_weekend_is_a_break() -> None:
    """Of daily prices a night is no closed step: a step is open where any part of it is."""
    days = [day for day in range(4, 40) if (day + 3) % 7 < 5]  # day 0 was a Thursday
    hours = given_spans([(day * _DAY + 34_200_000, day * _DAY + 57_600_000) for day in days])
    grid = Grid(_DAY, sessions=hours)

    breaks = [grid.is_break(last * _DAY, day * _DAY) for last, day in pairwise(days)]

    assert breaks == [day - last > 1 for last, day in pairwise(days)]
    assert sum(breaks) == 5


def test_hours_are_asked_for_once_and_shared() -> None:
    asked = []

    def hours(start: int, end: int) -> Spans:
        asked.append((start, end))
        return ALWAYS

    sessions = Sessions(hours)
    engines = [ForecastEngine(replace(SMALL, sessions=sessions, step=step)) for step in (STEP, STEP, 2 * STEP)]
    for engine in (*engines, deepcopy(engines[0])):
        run(engine, walk(30))

    assert len(asked) == 1


def test_of_many_years_the_oldest_are_forgotten_and_asked_for_again() -> None:
    asked = []

    def hours(start: int, end: int) -> Spans:
        asked.append(start)
        return ALWAYS

    sessions = Sessions(hours)
    for year in (*range(200), 199, 0):
        sessions.is_open(year * 366 * _DAY)

    assert asked == [*[(year - 1) * 366 * _DAY for year in range(200)], -366 * _DAY]


@MODERATE
@given(times=st.lists(st.integers(-(10**13), 10**13), min_size=1, max_size=200))
def test_what_a_time_is_does_not_depend_on_what_was_asked_before(times: list[int]) -> None:
    """Hours by the week, far beyond what is kept."""

    def weekly(start: int, end: int) -> Spans:
        weeks = np.arange(start // (7 * _DAY) - 1, end // (7 * _DAY) + 2)[:, None] * 7 * _DAY
        return np.hstack([weeks, weeks + 3 * _DAY])

    kept = Sessions(weekly)
    for time in times:
        assert kept.stretch(time, STEP) == Sessions(weekly).stretch(time, STEP)
        assert kept.is_open(time) == (time % (7 * _DAY) < 3 * _DAY)


@pytest.mark.parametrize("time", [0, 10**12])
def test_a_market_that_has_not_opened_for_a_year_is_closed(time: int) -> None:
    sessions = given_spans([])
    assert not sessions.is_open(time)
    assert not Grid(STEP, sessions=sessions).is_break(time, time + STEP), "ticks on successive steps are one session"
    assert Grid(STEP, sessions=sessions).is_break(time, time + 2 * STEP)
