"""`feed.change` by symbol, `feed.inputs` and `feed.calendar`: what they come to, and one line for what they cannot."""

from pathlib import Path
from typing import Any

import pytest

from streamer.config import Settings, SettingsError, load
from streamer.core.levels import Change
from streamer.service import wiring
from streamer.settings import Calendar

BROKER = {"kafka.bootstrap_servers": "127.0.0.1:9092"}


def settings(**values: Any) -> Settings:
    return load(None, {}, BROKER | {f"feed.{key}": value for key, value in values.items()})


def problem(**values: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(**values)
    (found,) = caught.value.problems
    return found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("auto", ["auto", "auto"]),
        ("difference", ["difference", "difference"]),
        ({"VIX": "difference"}, ["auto", "difference"]),
        ({"default": "log_return", "VIX": "auto", "X.Y": "difference"}, ["log_return", "auto"]),
    ],
)
def test_each_symbol_has_its_own_change_or_the_default(change: Any, expected: list[str]) -> None:
    assert wiring.engine_settings(settings(change=change)).changes(["SPY", "VIX"]) == list(map(Change, expected))


def test_inputs_are_the_complement_of_targets_also_of_symbols_that_come_later() -> None:
    engine = wiring.engine_settings(settings(inputs=["VOL"]))
    assert list(filter(engine.is_target, ["SPY", "VOL", "NEW"])) == ["SPY", "NEW"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"change": "log"}, "feed.change: found 'log', expected auto, log_return or difference, or a map of symbols"),
        ({"change": {}}, "expected auto, log_return or difference, or a map of sym"),
        ({"change": {"VIX": "diff"}}, "feed.change.VIX: found 'diff', expected auto, log_return or difference"),
        ({"change": {"VIX": ["auto"]}}, "feed.change.VIX: found a list of 1, expected auto, log_return or difference"),
        ({"change": {"V\n": "auto"}}, "expected symbols as the keys"),
        (
            {"symbols": ["SPY"], "change": {"VIX": "auto"}},
            "feed.change: found 'VIX', expected only symbols that feed.symbols lists, and default",
        ),
        ({"symbols": ["SPY"], "inputs": ["VOL"]}, "feed.inputs: found 'VOL', expected only symbols that feed.symbols"),
        ({"targets": ["SPY"], "inputs": ["SPY"]}, "feed.inputs: found 'SPY', expected no symbol that feed.targets"),
        ({"symbols": ["A"], "inputs": ["A"]}, "feed.inputs: found all of feed.symbols, expected that one is left"),
        ({"calendar": "XNYZ"}, "feed.calendar.name: found 'XNYZ', expected a calendar of exchange_calendars, such as"),
        ({"calendar": "nyse"}, "did you mean NYSE"),
        ({"calendar": ["XNYS"]}, "feed.calendar: found a list of 1, expected a value such as XNYS or {timezone: Amer"),
        ({"calendar": {"zone": "UTC"}}, "unknown key 'feed.calendar.zone': did you mean 'feed.calendar.timezone'?"),
        (
            {"calendar": {"exchange": "XNYS"}},
            "unknown key 'feed.calendar.exchange': did you mean 'feed.calendar.name'? feed.calendar may be XNYS or {t",
        ),
        (
            {"calendar": {"timezone": "UTC", "hours": "Mon-Fri 09:30-16:00"}},
            "feed.calendar.hours: found 'Mon-Fri 09:30-16:00', expected a list, such as [Mon-Fri 09:30-16:00]",
        ),
        (
            {"calendar": {"timezone": "New York", "hours": ["Mon 09:00-10:00"]}},
            "feed.calendar.timezone: found 'New York', expected a time zone of IANA's, such as America/New_York",
        ),
        (
            {"calendar": {"hours": ["Mon 09:00-10:00"]}},
            "feed.calendar.timezone: found none, expected the zone of feed.",
        ),
        (
            {"calendar": {"timezone": "UTC"}},
            "feed.calendar.hours: found none, expected weekly hours, or a name, beside",
        ),
        ({"calendar": {"closed": ["2026-12-25"]}}, "feed.calendar.hours: found none, expected weekly hours"),
        (
            {"calendar": {"name": "XNYS", "timezone": "UTC", "hours": ["Mon 09:00-10:00"]}},
            "feed.calendar.timezone: found one beside a name, expected either a name, or timezone and hours",
        ),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_key(values: dict[str, Any], expected: str) -> None:
    assert expected in problem(**values)


@pytest.mark.parametrize(
    "hours",
    [
        *("", "09:00-10:00", "Mon", "Mon 9:00-10:00", "Mon 09:00", "Mon-Fry 09:00-10:00", "Mon 09:60-10:00"),
        *("Mon 09:00-24:01", "Mon 24:00-09:00", "Mon-Tue-Wed 09:00-10:00", "Mon 09:00-10:00-11:00"),
    ],
)
def test_what_is_no_hours_is_refused(hours: str) -> None:
    found = problem(calendar={"timezone": "UTC", "hours": ["Sat 10:00-12:00", hours]})
    assert f"feed.calendar.hours[1]: found {hours!r}, expected hours such as Mon-Fri 09:30-16:00" in found


@pytest.mark.parametrize("day", ["12-25", "2026-02-29", "2026-12-25 13:00", "2026-12-24 13:00-12:00", "Christmas"])
def test_what_is_no_day_is_refused(day: str) -> None:
    found = problem(calendar={"name": "XNYS", "closed": [day]})
    assert f"feed.calendar.closed[0]: found {day!r}, expected a day such as 2026-12-25" in found


def test_a_calendar_that_the_library_cannot_work_out_is_one_line_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("dates [\n1]\nare not sessions")

    monkeypatch.setattr("streamer.settings.calendar.library_calendar", broken)
    assert problem(calendar="XMAD").endswith(
        "feed.calendar.name: found 'XMAD', expected a calendar that exchange_calendars can work out "
        "(dates [ 1] are not sessions): give timezone and hours instead"
    )


def test_a_name_alone_is_a_calendar_in_the_file_and_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "streamer.yaml"
    file.write_text("kafka: {bootstrap_servers: 'a:1'}\nfeed:\n  calendar: XNYS\n")
    assert load(file, {}).feed.calendar == Calendar(name="XNYS")
    assert load(None, {"STREAMER_FEED__CALENDAR": "XNYS"}, BROKER).feed.calendar == Calendar(name="XNYS")
    file.write_text("kafka: {bootstrap_servers: 'a:1'}\nfeed:\n  calendar: null\n")
    assert load(file, {}).feed.calendar == Calendar()


def test_what_is_shown_loads_again_to_the_same(tmp_path: Path) -> None:
    """Days and hours are text there, whatever YAML of old would read."""
    file = tmp_path / "streamer.yaml"
    given = settings(
        inputs=["VOL"],
        change={"default": "log_return", "1e3": "difference"},
        calendar={"timezone": "America/New_York", "hours": ["Mon-Fri 09:30-16:00"], "closed": ["2026-12-25"]},
    )
    file.write_text(given.effective())
    assert load(file, {}) == given


def test_days_and_hours_need_no_quotes(tmp_path: Path) -> None:
    file = tmp_path / "streamer.yaml"
    file.write_text(
        "kafka: {bootstrap_servers: 'a:1'}\n"
        "feed:\n  change: {default: auto, VIX: difference}\n  calendar:\n    timezone: America/New_York\n"
        "    hours: [Sun-Thu 18:00-17:00]\n    closed: [2026-12-25, 2026-12-24 13:00-24:00]\n"
    )
    feed = load(file, {}).feed
    assert feed.calendar.closed == ("2026-12-25", "2026-12-24 13:00-24:00")
    assert feed.change == {"default": "auto", "VIX": "difference"}
