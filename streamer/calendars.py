"""Open hours in UTC: of an exchange, by the library exchange_calendars, or of a week in a time zone."""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import structlog

from streamer.core.sessions import ALWAYS, Sessions, Spans
from streamer.settings.calendar import Calendar, ClosedHours, WeeklyHours, library_calendar, one_line

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

log = structlog.get_logger(__name__)

_FIRST, _LAST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000) for year in (1900, 2200))
"""Before and after, nothing is known (ms): a wrong clock is not worth working out a calendar for."""

_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Span = tuple[int, int]


@lru_cache(maxsize=8)
def sessions(calendar: Calendar) -> Sessions | None:
    """The open hours that the settings name, None where there are none; one and the same for equal settings."""
    closed = tuple(map(ClosedHours.parse, calendar.closed))
    if calendar.name is not None:
        return Sessions(_Exchange(calendar.name, closed).spans)
    if calendar.timezone is None:
        return None
    return Sessions(_Week(ZoneInfo(calendar.timezone), tuple(map(WeeklyHours.parse, calendar.hours)), closed).spans)


def _is_known(start: int, end: int) -> bool:
    return start >= _FIRST and end <= _LAST


class _Week:
    """The same hours every week, by the clocks of a zone, but for those that are closed."""

    def __init__(self, zone: tzinfo, hours: tuple[WeeklyHours, ...], closed: tuple[ClosedHours, ...]) -> None:
        self._zone, self._hours = zone, hours
        self._closed = [_span(zone, each.day, each.begin, each.end) for each in closed]

    def spans(self, start: int, end: int) -> Spans:
        """Those that touch [start, end), ms."""
        if not _is_known(start, end):
            return ALWAYS
        first, last = ((_EPOCH + timedelta(milliseconds=ms)).date() for ms in (start, end))
        return _array(without(self._weekly(first - 2 * _DAY, last + 2 * _DAY), self._closed))

    def _weekly(self, day: date, last: date) -> Iterator[Span]:
        while day <= last:
            for hours in self._hours:
                if day.weekday() in hours.days:
                    yield _span(self._zone, day, hours.begin, hours.end)
            day += _DAY


class _Exchange:
    """The sessions of a calendar of exchange_calendars, midday breaks closed too."""

    def __init__(self, name: str, closed: tuple[ClosedHours, ...]) -> None:
        self.name = name
        calendar = library_calendar(name)
        self._closed = [_span(calendar.tz, each.day, each.begin, each.end) for each in closed]
        self._first = calendar.bound_min()  # of what its holidays are known for
        self._last = calendar.bound_max()

    def spans(self, start: int, end: int) -> Spans:
        """Those that touch [start, end), ms; what the library does not know counts as open."""
        if not _is_known(start, end):
            return ALWAYS
        first, last = ((_EPOCH + timedelta(milliseconds=ms)).date() for ms in (start, end))
        try:
            return _array(without(self._between(first - 2 * _DAY, last + 2 * _DAY), self._closed))
        except ValueError as error:
            log.warning(
                "the calendar cannot be worked out, all of this time counts as open",
                calendar=self.name,
                first=first.isoformat(),
                last=last.isoformat(),
                reason=one_line(error),
            )
            return ALWAYS

    def _between(self, first: date, last: date) -> list[Span]:
        """The sessions of some days, and all the time for which there is no calendar."""
        spans = []
        if self._first is not None:
            spans.append((int(ALWAYS[0, 0]), _utc(UTC, self._first.date(), 0)[0]))
            first = max(first, self._first.date())
        if self._last is not None:
            spans.append((_utc(UTC, self._last.date() + _DAY, 0)[0], int(ALWAYS[0, 1])))
            last = min(last, self._last.date())
        return [*spans, *_parts(library_calendar(self.name, first, last))] if first < last else spans


def _parts(calendar: "ExchangeCalendar") -> list[Span]:
    """Opening to close; opening to break and break to close where there is a break."""
    import pandas as pd

    columns = (calendar.opens, calendar.break_starts, calendar.break_ends, calendar.closes)
    times = [pd.DatetimeIndex(column).as_unit("ms") for column in columns]
    rows = zip(*[each.asi8.tolist() for each in times], times[1].notna().tolist(), strict=True)
    return [
        part
        for opens, pauses, resumes, closes, is_parted in rows
        for part in (((opens, pauses), (resumes, closes)) if is_parted else ((opens, closes),))
    ]


def _array(spans: Iterable[Span]) -> Spans:
    return np.array(list(spans), np.int64).reshape(-1, 2)


def _span(zone: tzinfo, day: date, begin: int, end: int) -> Span:
    """Minutes after midnight of a local day, in UTC. Where clocks skip or repeat one, the longer reading counts."""
    return min(_utc(zone, day, begin)), max(_utc(zone, day, end))


def _utc(zone: tzinfo, day: date, minutes: int) -> list[int]:
    """Both readings of a time on the wall, ms; they differ where clocks skip or repeat it."""
    wall = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)
    readings = (wall.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    return [(reading - _EPOCH) // timedelta(milliseconds=1) for reading in readings]


def without(spans: Iterable[Span], closed: Iterable[Span]) -> Iterator[Span]:
    """What is left of `spans` outside of the `closed` ones."""
    for out in closed:
        spans = [part for begin, end in spans for part in ((begin, min(end, out[0])), (max(begin, out[1]), end))]
        spans = [(begin, end) for begin, end in spans if begin < end]
    yield from spans
