"""A real daemon under a calendar: nights are no gap, also across a kill, and it says when ticks are expected."""

import time
from pathlib import Path
from typing import Any

import pytest

from streamer.calendars import sessions
from streamer.settings import Calendar
from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, Message, tick
from tests.e2e.harness import Service

WEEKLY = {"timezone": "America/New_York", "hours": ["Mon-Fri 09:30-16:00"]}
EVENING = range(1346, 1367)
"""Minutes of 15 November 2023 in New York from 15:40 to the close, whose price is stamped with it."""

MORNING = range(2416, 2436)
"""Those of the next day from 09:30 on."""


def quote(at: int) -> Message:
    return tick(at, {"SPY": 450.0 + at % 7, "SPREAD": at % 3 - 1.0, "VOLUME": 1e6 + at})


@pytest.mark.parametrize("calendar", [WEEKLY, "XNYS"], ids=["weekly hours", "an exchange"])
async def test_a_night_is_no_gap_and_the_first_price_of_the_day_is_not_scored(
    bootstrap: str, topics: Topics, tmp_path: Path, calendar: Any
) -> None:
    prices = await topics.create("prices")
    feed = Feed(bootstrap, prices)
    section = {
        "calendar": calendar,
        "max_gap": 5_000,  # so that it is the calendar that begins a session
        "inputs": ["VOLUME"],
        "change": {"default": "log_return", "SPREAD": "difference"},
    }
    await feed.send([quote(at) for at in EVENING])
    async with Service(bootstrap, tmp_path, prices, feed=section, retrain={"every": 0}) as service:
        await service.caught_up(len(EVENING))
        await service.kill()
        service.start()
        await feed.send([quote(at) for at in MORNING])
        await service.caught_up(len(EVENING) + len(MORNING))
        published, scrape = await service.published(), await service.metrics()
        assert await service.terminate() == 0

    assert sorted(published.forecast_values()) == feed.sent
    assert {tuple(each["yhat"]) for each in published.values()} == {("SPY", "SPREAD")}
    # Those before the kill were counted by the process that is gone; scores are the stream's own.
    counted = {name: scrape.total(f"streamer_{name}_total") for name in ("session_breaks", "missing_ticks")}
    assert counted == {"session_breaks": 1, "missing_ticks": 0}
    for symbol in ("SPY", "SPREAD"):
        scored = scrape.total("streamer_scored_forecasts_total", symbol=symbol)
        assert scored == len(EVENING) - 1 + len(MORNING) - 1
    open_hours = sessions(Calendar.model_validate(calendar))
    assert open_hours is not None
    expected = {float(open_hours.is_open(int(time.time() * 1000) - ago)) for ago in (0, 60_000)}
    assert set(scrape.each("streamer_feed_open")) <= expected
    assert scrape.each("streamer_feed_open")
