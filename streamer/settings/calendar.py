"""When the market is open: the name of a calendar, or weekly hours."""

import difflib
import re
import warnings
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from streamer.settings.types import Section, conflict, expected

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES = 24 * 60
_TIMES = r"(\d{2}):(\d{2})-(\d{2}):(\d{2})"
_WEEKLY = re.compile(rf"([a-z]{{3}})(?:-([a-z]{{3}}))? +{_TIMES}", re.IGNORECASE | re.ASCII)
_CLOSED = re.compile(rf"(\d{{4}}-\d{{2}}-\d{{2}})(?: +{_TIMES})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class WeeklyHours:
    """Hours of some days of the week (0: Monday). begin, end: minutes after midnight, `end` after `begin`.

    An end beyond 24:00 is one of the next day.
    """

    days: frozenset[int]
    begin: int
    end: int

    @classmethod
    def parse(cls, text: str) -> "WeeklyHours":
        """`Mon-Fri 09:30-16:00`; ValueError for anything else."""
        match = _WEEKLY.fullmatch(text.strip())
        if match is None:
            raise ValueError(text)
        first = _DAYS.index(match[1].lower())
        last = _DAYS.index((match[2] or match[1]).lower())
        begin, end = _minutes(match[3], match[4]), _minutes(match[5], match[6])
        if begin == _DAY_MINUTES:
            raise ValueError(text)
        days = frozenset((first + day) % 7 for day in range((last - first) % 7 + 1))
        return cls(days, begin, end if end > begin else end + _DAY_MINUTES)


@dataclass(frozen=True, slots=True)
class ClosedHours:
    """Hours of one day in which nothing is open; minutes after midnight, `begin` before `end`."""

    day: date
    begin: int
    end: int

    @classmethod
    def parse(cls, text: str) -> "ClosedHours":
        """`2026-12-25` or `2026-12-24 13:00-24:00`; ValueError for anything else."""
        match = _CLOSED.fullmatch(text.strip())
        if match is None:
            raise ValueError(text)
        day = date.fromisoformat(match[1])
        if match[2] is None:
            return cls(day, 0, _DAY_MINUTES)
        begin, end = _minutes(match[2], match[3]), _minutes(match[4], match[5])
        if end <= begin:
            raise ValueError(text)
        return cls(day, begin, end)


def _minutes(hours: str, minutes: str) -> int:
    total = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or total > _DAY_MINUTES:
        raise ValueError(f"{hours}:{minutes}")
    return total


def _weekly(text: str) -> str:
    try:
        WeeklyHours.parse(text)
    except ValueError:
        raise expected("hours such as Mon-Fri 09:30-16:00, each from 00:00 to 24:00") from None
    return text


def _closed(text: str) -> str:
    try:
        ClosedHours.parse(text)
    except ValueError:
        raise expected("a day such as 2026-12-25, or part of one: 2026-12-24 13:00-24:00") from None
    return text


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise expected("a time zone of IANA's, such as America/New_York") from None
    return name


def library_calendar(name: str, first: date | None = None, last: date | None = None) -> "ExchangeCalendar":
    """A calendar of exchange_calendars, by default of twenty years; ValueError where the library cannot work it out."""
    # With pandas behind it, the library takes a second and 80 MB: only where it is asked for.
    from exchange_calendars import get_calendar

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what pandas will drop; the versions of both are ours to choose
        return get_calendar(name, start=first, end=last)


def one_line(error: Exception) -> str:
    """The beginning of what an error says."""
    return " ".join(str(error).split())[:100]


def _calendar(name: str) -> str:
    from exchange_calendars import get_calendar_names

    known = get_calendar_names()
    if name not in known:
        near = difflib.get_close_matches(name.upper(), known, n=3)
        remedy = f"did you mean {', '.join(near)}?" if near else "or weekly hours as timezone and hours"
        raise expected(f"a calendar of exchange_calendars, such as XNYS: {remedy}")
    try:
        library_calendar(name)
    except ValueError as error:
        raise expected(
            f"a calendar that exchange_calendars can work out ({one_line(error)}): give timezone and hours instead"
        ) from None
    return name


class Calendar(Section):
    """The open hours. Empty: the market never closes."""

    EXAMPLE = "XNYS or {timezone: America/New_York, hours: [Mon-Fri 09:30-16:00]}"
    SYNONYMS: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("calendar", "exchange", "market", "mic"), "name"),
        **dict.fromkeys(("tz", "zone"), "timezone"),
        **dict.fromkeys(("days", "open", "sessions"), "hours"),
        "holidays": "closed",
    }

    name: Annotated[str, AfterValidator(_calendar)] | None = Field(
        default=None, description="A calendar of exchange_calendars, such as XNYS."
    )
    timezone: Annotated[str, AfterValidator(_zone)] | None = Field(
        default=None, description="Zone of the hours, such as America/New_York."
    )
    hours: Annotated[tuple[Annotated[str, AfterValidator(_weekly)], ...], Field(strict=False)] = Field(
        default=(), description="Weekly hours, such as Mon-Fri 09:30-16:00; an end before the begin is the next day's."
    )
    closed: Annotated[tuple[Annotated[str, AfterValidator(_closed)], ...], Field(strict=False)] = Field(
        default=(), description="Days, or hours of a day, in which nothing is open all the same."
    )

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, data: Any) -> Any:
        """`calendar: XNYS` is short for its name."""
        return {"name": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name is not None:
            for key in ("timezone", "hours"):
                if getattr(self, key):
                    conflict(key, "one beside a name", "either a name, or timezone and hours")
        elif self.hours and self.timezone is None:
            conflict("timezone", "none", "the zone of feed.calendar.hours")
        elif not self.hours and (self.timezone or self.closed):
            conflict("hours", "none", "weekly hours, or a name, beside timezone and closed")
        return self
