"""A feed is missed in open hours and at no other time: metrics of whole weeks, read every minute as an alert would."""

import csv
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prometheus_client import CollectorRegistry, Gauge

from streamer.calendars import sessions
from streamer.codec import DecodeLimits
from streamer.core.engine import ForecastEngine
from streamer.core.outcome import Step
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.service.metrics import Metrics
from streamer.service.partition import Batch, Partition, PartitionSettings, Stream
from streamer.service.telemetry import Telemetry
from streamer.settings import Calendar
from tests.support import shared_data

MINUTE = 60_000
WEEK = 7 * 24 * 60 * MINUTE
NEW_YORK = ZoneInfo("America/New_York")
SETTINGS = EngineSettings(every=0)

STOCKS = ("SPY", "IBM", "BAC", "AIG")
FUTURES = ("ESZ13", "GCZ13")


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def regular(time: int) -> bool:
    """New York's trading hours, but for holidays."""
    wall = datetime.fromtimestamp(time / 1000, NEW_YORK)
    return wall.weekday() < 5 and 9 * 60 + 30 <= wall.hour * 60 + wall.minute < 16 * 60


def around_the_clock(time: int) -> bool:
    """Futures and stocks together: from Sunday evening to Friday evening."""
    wall = datetime.fromtimestamp(time / 1000, NEW_YORK)
    hours = {6: (18, 24), 4: (0, 20), 5: (0, 0)}.get(wall.weekday(), (0, 24))
    return hours[0] <= wall.hour < hours[1]


def futures(time: int) -> bool:
    """From 18:00 to 17:15 of the next day."""
    wall = datetime.fromtimestamp(time / 1000, NEW_YORK)
    minute, weekday = wall.hour * 60 + wall.minute, wall.weekday()
    return (minute < 17 * 60 + 15 and weekday < 5) or (minute >= 18 * 60 and weekday in (6, 0, 1, 2, 3))


REGULAR = Calendar(name="XNYS")
AROUND_THE_CLOCK = Calendar(
    timezone="America/New_York", hours=("Sun 18:00-24:00", "Mon-Thu 00:00-24:00", "Fri 00:00-20:00")
)
OVERNIGHT = Calendar(timezone="America/New_York", hours=("Sun-Thu 18:00-17:15",))


def week(symbols: Sequence[str], is_open: Callable[[int], bool]) -> list[Tick]:
    """Those of the whole week in open hours with a price."""
    found = [(each.time, {s: each.prices[s] for s in symbols if s in each.prices}) for each in whole_week()]
    return [Tick(time, prices) for time, prices in found if prices and is_open(time)]


def whole_week() -> list[Tick]:
    """All ticks of a real week, in which stocks are blank for half of each day, as they came."""
    with shared_data("dev/us_equity_futures_1m_2013-10.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    symbols = [*STOCKS, *FUTURES]
    return [
        Tick(
            int(datetime.fromisoformat(row["timestamp"]).timestamp() * 1000),
            {symbol: float(row[symbol]) for symbol in symbols if row[symbol]},
        )
        for row in rows
    ]


def later(ticks: Iterable[Tick], weeks: int = 1) -> list[Tick]:
    return [replace(tick, time=tick.time + weeks * WEEK) for tick in ticks]


@dataclass
class Scrape:
    """What an alert reads at a time of the wall clock, ms; lag in seconds."""

    time: int
    is_open: bool
    lag: float


class Watched:
    """A stream whose ticks come a minute after the time that they are stamped with, and its metrics every minute."""

    def __init__(self, settings: EngineSettings) -> None:
        self.now = 0
        self.stream = Stream("s", ForecastEngine(settings))
        self.metrics = Metrics(CollectorRegistry(), clock=lambda: self.now / 1000)
        self.telemetry = Telemetry(self.metrics)
        limits = DecodeLimits(1, 1, 1)
        partition = PartitionSettings(settings, limits, 1, 1, 1, "forecasts", "dead-letters", "state", "me")
        load: Any = None
        self.partition = Partition("prices", 0, partition, load, streams={"s": self.stream})
        self.steps: list[Step] = []
        self.scrapes: list[Scrape] = []

    def live(self, ticks: Sequence[Tick], until: int) -> "Watched":
        """Go on from the first of the ticks to the time `until`, ms."""
        self.now, waiting = ticks[0].time + MINUTE, deque(ticks)
        while self.now < until:
            while waiting and waiting[0].time + MINUTE <= self.now:
                self._take(waiting.popleft())
            is_open, lag = (_value(gauge) for gauge in (self.metrics.feed_open, self.metrics.feed_lag))
            self.scrapes.append(Scrape(self.now, is_open == 1.0, lag))
            self.now += MINUTE
        return self

    def _take(self, tick: Tick) -> None:
        step = self.stream.engine.process(tick)
        self.steps.append(step)
        self.telemetry.committed(self.partition, Batch(1, steps=[(self.stream, step)]), [], 0.0, None)

    def alerts(self, since: int) -> list[int]:
        """When the rule of README.md was true: `lag > 600 and min_over_time(open[10m]) == 1`.

        A range takes the samples that there are, however few, and none of just ten minutes ago.
        """
        found, window = [], deque[Scrape]()
        for scrape in self.scrapes:
            window.append(scrape)
            while window[0].time <= scrape.time - 10 * MINUTE:
                window.popleft()
            if scrape.time >= since and scrape.lag > 600 and all(each.is_open for each in window):
                found.append(scrape.time)
        return found


def _value(gauge: Gauge) -> float:
    (metric,) = gauge.collect()
    return metric.samples[0].value


KINDS = [
    pytest.param(STOCKS, regular, REGULAR, id="stocks in New York's hours"),
    pytest.param((*STOCKS, *FUTURES), around_the_clock, AROUND_THE_CLOCK, id="stocks and futures"),
    pytest.param(FUTURES, futures, OVERNIGHT, id="futures over night"),
]


@pytest.mark.parametrize(("symbols", "is_open", "calendar"), KINDS)
def test_a_week_under_a_calendar_has_no_false_alarm_and_no_scored_break(
    symbols: Sequence[str], is_open: Callable[[int], bool], calendar: Calendar
) -> None:
    ticks = week(symbols, is_open)
    watched = Watched(replace(SETTINGS, sessions=sessions(calendar))).live(ticks, ticks[0].time + WEEK)

    assert watched.alerts(0) == []
    assert all(scrape.is_open == is_open(scrape.time) for scrape in watched.scrapes)
    first = [is_open(tick.time) and not is_open(tick.time - MINUTE) for tick in ticks]
    slept = [False] + [not all(map(is_open, range(last.time, tick.time, MINUTE))) for last, tick in pairwise(ticks)]
    assert [step.is_break for step in watched.steps] == slept
    assert all(step.scored == 0 for step, slept_before in zip(watched.steps, slept, strict=True) if slept_before)
    assert sum(first) <= 5
    minutes = range(ticks[0].time, ticks[-1].time + MINUTE, MINUTE)
    in_sessions = sum(map(is_open, minutes)) - len(ticks)
    assert 0 <= in_sessions - sum(step.missing for step in watched.steps) <= 10, "but for those next to a night"


@pytest.mark.parametrize(("symbols", "is_open", "calendar"), KINDS)
def test_without_a_calendar_there_is_none_from_the_second_week_on(
    symbols: Sequence[str], is_open: Callable[[int], bool], calendar: Calendar
) -> None:
    ticks = week(symbols, is_open)
    again = ticks[0].time + WEEK + MINUTE  # of the weekend before, and each night, nothing was known yet
    watched = Watched(SETTINGS).live([*ticks, *later(ticks)], again + WEEK)

    assert watched.alerts(again) == []
    second = [scrape for scrape in watched.scrapes if scrape.time >= again]
    assert all(scrape.is_open for scrape in second if is_open(scrape.time))
    assert not any(scrape.is_open for scrape in second if not is_open(scrape.time))


@pytest.mark.parametrize(("is_open", "calendar"), [pytest.param(*each.values[1:], id=each.id) for each in KINDS])
def test_nor_has_the_week_as_it_came_with_ticks_in_closed_hours(
    is_open: Callable[[int], bool], calendar: Calendar
) -> None:
    """A session begins with the first tick of open hours, and after a closed minute without one."""
    ticks = whole_week()
    watched = Watched(replace(SETTINGS, sessions=sessions(calendar))).live(ticks, ticks[0].time + WEEK)

    assert watched.alerts(0) == []
    begins = [False]
    for last, tick in pairwise(ticks):
        is_first = is_open(tick.time) and not is_open(last.time)
        begins.append(is_first or not all(map(is_open, range(last.time + MINUTE, tick.time, MINUTE))))
    assert [step.is_break for step in watched.steps] == begins
    assert all(step.scored == 0 for step, is_first in zip(watched.steps, begins, strict=True) if is_first)
    assert sum(step.scored > 0 for step in watched.steps) > 7_000


def test_nor_has_its_second_week_without_a_calendar() -> None:
    ticks = whole_week()
    again = ticks[0].time + WEEK + MINUTE
    assert Watched(SETTINGS).live([*ticks, *later(ticks)], again + WEEK).alerts(again) == []


@pytest.mark.parametrize("calendar", [REGULAR, None], ids=["with a calendar", "without"])
def test_a_feed_that_stops_at_eleven_is_missed_from_then_to_the_close_and_the_next_day(
    calendar: Calendar | None,
) -> None:
    settings = SETTINGS if calendar is None else replace(SETTINGS, sessions=sessions(calendar))
    first = ms("2026-01-05T00:00")
    minutes = [time for time in range(first, first + WEEK, MINUTE) if regular(time)]
    stops = ms("2026-01-14T16:00")
    ticks = [Tick(time, {"A": 1.0}) for time in (*minutes, *(time + WEEK for time in minutes)) if time < stops]
    watched = Watched(settings).live(ticks, ms("2026-01-15T22:00"))

    alerts = watched.alerts(minutes[0] + WEEK + MINUTE)

    assert [alerts[0], alerts[-1]] == [ms("2026-01-14T16:10"), ms("2026-01-15T20:59")]
    night = range(ms("2026-01-14T21:00"), ms("2026-01-15T14:39"))
    assert not any(time in night for time in alerts)
    assert ms("2026-01-15T14:39") in alerts, "ten minutes after the opening"


def test_a_stream_that_is_put_back_or_goes_is_shown_so() -> None:
    watched = Watched(SETTINGS)
    watched.stream.engine.process(Tick(0, {"A": 1.0}))
    registry = watched.metrics.registry
    watched.telemetry.restored(watched.partition, 0.1)
    assert registry.get_sample_value("streamer_feed_open", {"stream": "s"}) == 1.0
    watched.telemetry.gone(watched.partition)
    assert registry.get_sample_value("streamer_feed_open", {"stream": "s"}) is None
