"""The live page in a real Chromium, of a real daemon on a real Kafka."""

import json
import math
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.e2e.browser import Heard, MissingBrowserError, chromium
from tests.e2e.conftest import Topics
from tests.e2e.feeding import Feed, Message, sawtooth, tick
from tests.e2e.harness import Service

HOSTILE = "<img src=x onerror=alert(1)>"
PATIENCE = 30_000  # ms


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    try:
        async with chromium() as started:
            yield started
    except MissingBrowserError as error:
        pytest.skip(str(error))


async def opened(browser: Browser, service: Service, fragment: str = "", **options: Any) -> tuple[Page, Heard]:
    """The page as it opens, and what is heard of it."""
    page, heard = await browser.new_page(**options), Heard()
    page.set_default_timeout(PATIENCE)
    heard.listen(page)
    await page.goto(f"{service.url}/{fragment}")
    await expect(page.locator("#link")).to_have_text("● live", timeout=PATIENCE)
    return page, heard


async def symbols(page: Page) -> list[str]:
    """Those of the table, in order."""
    return [text.split("\n")[0] for text in await page.locator("#rows .pick").all_inner_texts()]


def many(count: int) -> Message:
    """A tick of so many symbols."""
    return tick(0, {f"S{number:03}": 100.0 + number for number in range(count)}, key=b"many")


async def published(service: Service, stream: str) -> dict[str, Any]:
    """The newest forecast of a stream in its topic."""
    values = [value for value in (await service.published()).values() if value["stream"] == stream]
    return values[-1]


async def test_the_page_shows_the_forecast_that_is_in_the_topic_and_follows(
    bootstrap: str, topics: Topics, tmp_path: Path, browser: Browser
) -> None:
    """Also again after a restart, by itself; without a complaint of the browser's, or a word to anybody else."""
    prices = await topics.create("prices")
    feed, messages = Feed(bootstrap, prices), sawtooth(40)
    async with Service(bootstrap, tmp_path, prices) as service:
        await feed.send(messages[:30])
        await service.ready()
        await service.caught_up(30)
        page, heard = await opened(browser, service)
        await shows_the_newest(page, service, f"{prices}-0", "b")
        await feed.send(messages[30:35])
        await service.caught_up(35)
        await shows_the_newest(page, service, f"{prices}-0", "a")
        assert (heard.complaints, heard.origins) == ([], {service.url})

        assert await service.terminate() == 0
        await expect(page.locator("#link")).to_have_text("▲ no connection", timeout=PATIENCE)
        await expect(page.locator("#notice")).to_contain_text("No connection to the daemon since")
        await expect(page.locator("#announcer")).to_contain_text("no connection")
        service.start()
        await service.ready()
        await feed.send(messages[35:])
        await service.caught_up(40)
        await expect(page.locator("#link")).to_have_text("● live", timeout=PATIENCE)
        await shows_the_newest(page, service, f"{prices}-0", "a")
        assert heard.origins == {service.url}
        assert all("net::ERR_" in each for each in heard.complaints), "but for the line nothing is wrong"


async def test_an_axis_has_an_end_and_a_number_a_length_whatever_is_drawn(
    bootstrap: str, topics: Topics, tmp_path: Path, browser: Browser
) -> None:
    """Of a price that stands still but for rounding, and of the smallest and the largest."""
    async with Service(bootstrap, tmp_path, await topics.create("prices")) as service:
        await service.ready()
        page, heard = await opened(browser, service)
        ranges = [[0.3, 0.1 + 0.2], [1e17, 1e17 + 16], [-0.5, 2.0], [1e-310, 2e-310], [1e299, 2e299], [7.0, 7.0]]
        found = await page.evaluate(
            """async (ranges) => {
                const { ticks } = await import("/page/chart.js");
                return ranges.map(([low, high]) => ticks(low, high, 5));
            }""",
            ranges,
        )
        texts = await page.evaluate(
            """async (values) => {
                const { number } = await import("/page/text.js");
                return values.map((value) => number(value)).concat(number(2e-120, 121));
            }""",
            [0, 1.5, 1e-9, -1e300],
        )
        assert heard.complaints == []
    assert all(1 <= len(marks) <= 12 for marks in found), found
    assert found[2] == [-0.5, 0.0, 0.5, 1.0, 1.5, 2.0]
    assert all(math.copysign(1.0, mark) > 0 for mark in found[2][1:]), "no -0"
    assert texts == ["0.00", "1.50000", "1.00000e-9", "-1.00000e+300", "2.00000e-120"]


async def shows_the_newest(page: Page, service: Service, stream: str, symbol: str) -> None:
    """The symbol, once chosen, has the newest forecast of the topic in its tile, to the last digit."""
    expected = await published(service, stream)
    await page.locator("#rows .pick", has_text=re.compile(f"^{symbol}")).click()
    await expect(page.locator("#title")).to_contain_text(symbol)
    tile = page.locator("#tiles > div").nth(1)
    target = await page.evaluate("Date.parse", expected["target"])
    await expect(tile).to_have_attribute("data-target", str(target), timeout=PATIENCE)
    assert float(await tile.locator("data").get_attribute("value") or "nan") == expected["yhat"][symbol]
    await expect(page.locator("#chart svg .whisker").first).to_be_attached()


async def test_hundreds_of_symbols_are_searched_sorted_and_turned_over(
    bootstrap: str, topics: Topics, tmp_path: Path, browser: Browser
) -> None:
    """A name that is markup is text; on a phone nothing is wider than the screen; keys alone reach a symbol."""
    prices = await topics.create("prices")
    feed = Feed(bootstrap, prices)
    waves = [tick(at, {"flat": 5.0, HOSTILE: 5.0 + at % 2}, key=HOSTILE.encode()) for at in range(12)]
    async with Service(bootstrap, tmp_path, prices, retrain={"every": 0}) as service:
        await feed.send([many(300), *waves])
        await service.ready()
        await service.caught_up(13)
        phone = {"viewport": {"width": 360, "height": 760}, "color_scheme": "dark"}
        page, heard = await opened(browser, service, "#sort=name", **phone)
        await expect(page.locator("#place")).to_have_text("302 symbols, page 1 of 13")
        assert await symbols(page) == [HOSTILE, *[f"S{number:03}" for number in range(24)]]
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360

        await page.locator("#next").press("Enter")
        await expect(page.locator("#rows .pick").first).to_contain_text("S024")
        await page.locator("#search").fill("s29")
        await expect(page.locator("#place")).to_have_text("10 symbols, page 1 of 1")
        await page.locator("#rows .pick").last.press("Enter")
        await expect(page.locator("#title")).to_have_text("S299 stream many")
        assert "symbol=S299" in page.url, "for a reload, or a colleague"

        await page.locator("#search").fill("<IMG")
        await page.locator("#sort").select_option("worst")
        await expect(page.locator("#place")).to_have_text("2 symbols, page 1 of 1")
        assert await symbols(page) == [HOSTILE, "flat"], "what is not scored comes last"
        await page.locator("#rows .pick").first.click()
        await expect(page.locator("#title")).to_have_text(f"{HOSTILE} stream {HOSTILE}")
        assert await page.locator("img").count() == 0
        await expect(page.locator("#states")).to_contain_text("warming up")
        await expect(page.locator("#warm")).to_contain_text("12 of 20")
        assert (heard.complaints, heard.origins) == ([], {service.url})


async def test_a_page_beyond_the_limit_of_events_asks_instead_and_says_so(
    bootstrap: str, topics: Topics, tmp_path: Path, browser: Browser
) -> None:
    prices = await topics.create("prices")
    feed, messages = Feed(bootstrap, prices), sawtooth(12)
    async with Service(bootstrap, tmp_path, prices) as service:
        await feed.send(messages[:10])
        await service.ready()
        await service.caught_up(10)
        page = await browser.new_page()
        full = json.dumps({"error": "32 clients follow already"})
        await page.route("**/api/v1/events*", lambda route: route.fulfill(status=503, body=full))
        await page.goto(f"{service.url}/")
        await expect(page.locator("#link")).to_have_text("◐ asking every 3 s", timeout=PATIENCE)
        await feed.send(messages[10:])
        await service.caught_up(12)
        await shows_the_newest(page, service, f"{prices}-0", "a")
