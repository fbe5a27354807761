"""Open hours of exchanges and of weeks in a time zone, in UTC: against clocks on the wall, and against known days."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streamer.calendars import sessions, without
from streamer.core.sessions import Sessions
from streamer.settings import Calendar
from tests.core.helpers import MODERATE

ZONES = ["America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Kolkata", "America/Santiago", "UTC"]
DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
YEAR = 365 * 24 * 60


def hours(timezone: str, *weekly: str, closed: tuple[str, ...] = ()) -> Sessions:
    found = sessions(Calendar(timezone=timezone, hours=weekly, closed=closed))
    assert found is not None
    return found


def named(name: str, *closed: str) -> Sessions:
    found = sessions(Calendar(name=name, closed=closed))
    assert found is not None
    return found


def ms(text: str) -> int:
    """A time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


@MODERATE
@given(
    zone=st.sampled_from(ZONES),
    first=st.integers(0, 6),
    length=st.integers(0, 6),
    begin=st.integers(0, 1439),
    end=st.integers(1, 1440),
    minutes=st.lists(st.integers(0, 3 * YEAR), min_size=50, max_size=50),
    year=st.sampled_from([1971, 2013, 2026, 2100]),
)
def test_weekly_hours_are_what_the_clock_on_the_wall_shows(
    zone: str, first: int, length: int, begin: int, end: int, minutes: list[int], year: int
) -> None:
    """In winter and summer alike. About a change of the clocks the longer reading counts, so that more may be open."""
    last = (first + length) % 7
    weekly = hours(zone, f"{DAYS[first]}-{DAYS[last]} {clock(begin)}-{clock(end)}")
    days = {(first + day) % 7 for day in range(length + 1)}
    for minute in minutes:
        now = datetime(year, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
        wall = now.astimezone(ZoneInfo(zone))
        offsets = {(now + timedelta(hours=hour)).astimezone(ZoneInfo(zone)).utcoffset() for hour in range(-26, 27)}
        at, day = wall.hour * 60 + wall.minute, wall.weekday()
        today = day in days and begin <= at < (end if end > begin else 1440)
        since_yesterday = end <= begin and (day - 1) % 7 in days and at < end
        expected = today or since_yesterday
        if len(offsets) == 1 or expected:
            assert weekly.is_open(int(now.timestamp() * 1000)) == expected, wall


def test_of_an_hour_that_clocks_repeat_both_count_and_one_that_they_skip_is_the_one_beside_it() -> None:
    for day, begin, end, opened, closed in (
        ("2026-11-01", "01:00", "01:30", "05:00", "06:30"),
        ("2026-03-08", "02:30", "03:30", "06:30", "07:30"),
        ("2026-03-08", "01:00", "02:30", "06:00", "07:30"),
    ):
        weekly = hours("America/New_York", f"Sun {begin}-{end}")
        assert weekly.stretch(ms(f"{day}T23:00"), 1) == (ms(f"{day}T{opened}"), ms(f"{day}T{closed}"))


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
@pytest.mark.parametrize(("begin", "end"), [("00:00", "01:00"), ("23:00", "24:00"), ("22:00", "02:00")])
def test_days_that_begin_in_another_year_there_are_complete(zone: str, begin: str, end: str) -> None:
    """Hours are worked out in blocks of 366 days in UTC, which end in the midst of days there."""
    weekly = hours(zone, f"Mon-Sun {begin}-{end}")
    first, last = int(begin[:2]), int(end[:2])
    for block in range(30, 60):
        for hour in range(-30, 30):
            time = block * 366 * 86_400_000 + hour * 3_600_000
            at = datetime.fromtimestamp(time / 1000, ZoneInfo(zone)).hour
            assert weekly.is_open(time) == (first <= at < last if first < last else at >= first or at < last)


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [
        pytest.param("2026-03-06", "14:30", "21:00", id="the last Friday of winter"),
        pytest.param("2026-03-09", "13:30", "20:00", id="the first Monday of summer"),
        pytest.param("2026-10-30", "13:30", "20:00", id="the last Friday of summer"),
        pytest.param("2026-11-02", "14:30", "21:00", id="the first Monday of winter"),
        pytest.param("2026-11-27", "14:30", "18:00", id="the half day after Thanksgiving"),
    ],
)
def test_new_york_opens_by_its_own_clocks(day: str, opens: str, closes: str) -> None:
    weekly = hours("America/New_York", "Mon-Fri 09:30-16:00", closed=("2026-11-27 13:00-24:00",))
    for calendar in (named("XNYS"), named("NYSE"), weekly):
        assert calendar.stretch(ms(f"{day}T23:59"), 60_000) == (ms(f"{day}T{opens}"), ms(f"{day}T{closes}"))
        assert [calendar.is_open(ms(f"{day}T{opens}") + after) for after in (-1, 0)] == [False, True]
        assert [calendar.is_open(ms(f"{day}T{closes}") + after) for after in (-1, 0)] == [True, False]


@pytest.mark.parametrize("day", ["2026-12-25", "2026-07-03", "2026-11-26", "2026-11-28", "2001-09-12"])
def test_on_holidays_and_at_weekends_an_exchange_is_closed(day: str) -> None:
    assert not any(named("XNYS").is_open(ms(f"{day}T{hour:02}:45")) for hour in range(24))


def test_a_calendar_and_the_same_hours_written_out_agree_all_year() -> None:
    """But for the exchange's holidays and half days, which are closed there."""
    exchange, weekly = named("XNYS"), hours("America/New_York", "Mon-Fri 09:30-16:00")
    quarters = range(ms("2026-01-01T00:00"), ms("2027-01-01T00:00"), 900_000)
    apart = {
        datetime.fromtimestamp(time / 1000, UTC).date().isoformat()
        for time in quarters
        if exchange.is_open(time) != weekly.is_open(time)
    }
    holidays = {"01-01", "01-19", "02-16", "04-03", "05-25", "06-19", "07-03", "09-07", "11-26", "12-25"}
    assert apart == {f"2026-{day}" for day in holidays | {"11-27", "12-24"}}


def test_the_midday_break_is_closed() -> None:
    hong_kong = named("XHKG")
    found = [hong_kong.is_open(ms(f"2026-03-04T{time}")) for time in ("01:29", "01:30", "03:59", "04:00", "05:00")]
    assert found == [False, True, True, False, True]


def test_what_a_calendar_does_not_know_counts_as_open() -> None:
    """The holidays of Hong Kong are worked out up to 2049; and no calendar is for a wrong clock."""
    hong_kong = named("XHKG")
    assert not hong_kong.is_open(ms("2049-12-26T00:00"))
    assert all(hong_kong.is_open(ms(time)) for time in ("1959-12-27T00:00", "2050-01-02T00:00", "2051-06-04T20:00"))
    for calendar in (hong_kong, named("XNYS"), hours("UTC", "Mon 09:00-10:00")):
        assert all(calendar.is_open(ms(time)) for time in ("0001-01-01T00:00", "1850-06-04T20:00", "9999-12-31T23:59"))


def test_closed_days_are_days_of_the_zone() -> None:
    """A session over midnight ends with the day before them, and begins anew after them."""
    overnight = hours("America/Chicago", "Sun-Thu 17:00-16:00", closed=("2026-12-25",))
    stretch = overnight.stretch(ms("2026-12-25T05:59"), 60_000)
    assert stretch == (ms("2026-12-24T23:00"), ms("2026-12-25T06:00")), "24 December, 17:00 to midnight"
    assert not any(overnight.is_open(ms(f"2026-12-25T{hour:02}:00")) for hour in range(6, 24))


def test_more_days_can_be_closed_than_the_calendar_knows() -> None:
    assert named("XNYS").is_open(ms("2026-06-10T15:00"))
    assert not named("XNYS", "2026-06-10").is_open(ms("2026-06-10T15:00"))


def test_hours_that_meet_are_one_stretch() -> None:
    """As those of currencies, from Sunday evening to Friday evening."""
    week = hours("America/New_York", "Sun-Thu 17:00-17:00")
    assert week.stretch(ms("2026-01-09T12:00"), 60_000) == (ms("2026-01-04T22:00"), ms("2026-01-09T22:00"))


def test_equal_settings_share_their_hours() -> None:
    assert named("XNYS") is named("XNYS")
    assert sessions(Calendar()) is None


def test_of_years_that_the_library_cannot_work_out_all_time_counts_as_open_which_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lisbon = named("XLIS")

    def broken(*_: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr("streamer.calendars.library_calendar", broken)
    with capture_logs() as logs:
        assert all(lisbon.is_open(ms(f"2026-01-04T{hour:02}:00")) for hour in range(24))
    assert [entry["calendar"] for entry in logs] == ["XLIS"]


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)).map(lambda span: (span[0], sum(span))), max_size=5)


@MODERATE
@given(kept=spans, closed=spans)
def test_what_is_closed_is_taken_out(kept: list[tuple[int, int]], closed: list[tuple[int, int]]) -> None:
    left = list(without(kept, closed))
    for time in range(45):
        is_in = any(begin <= time < end for begin, end in kept)
        is_out = any(begin <= time < end for begin, end in closed)
        assert any(begin <= time < end for begin, end in left) == (is_in and not is_out)


def test_a_daemon_without_a_calendar_does_not_load_the_library() -> None:
    code = (
        "import sys, streamer.service.daemon; from streamer.config import load; from streamer.service import wiring; "
        "hours = {'timezone': 'Asia/Tokyo', 'hours': ['Mon-Fri 09:00-15:30']}\n"
        "for calendar in (None, hours):\n"
        "    wiring.engine_settings(load(None, {}, {'kafka.bootstrap_servers': 'a:1', 'feed.calendar': calendar}))\n"
        "print('exchange_calendars' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "False False"), done.stderr
