"""Screenshots of the live page in its states, wide and on a phone: `python -m tests.e2e.screenshots FOLDER`.

The daemon is the real one on the embedded broker; the prices are made up, one tick a second.
"""

import argparse
import asyncio
import contextlib
import json
import math
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page

from streamer.codec import format_time
from streamer.demonstration import embedded_broker
from tests.e2e.browser import chromium
from tests.e2e.feeding import Feed, Message
from tests.e2e.harness import Service, until

STEP = 1_000
STREAMS = {
    b"metals": {"COPPER": 9412.0, "GOLD": 2038.5, "SILVER": 23.14, "ZINC": 2554.0},
    b"energy": {"BRENT": 81.72, "GAS": 2.871, "POWER": 94.3, "WTI": 77.05},
}
NOISE = {"GOLD": 3.0, "WTI": 3.0, "GAS": 0.15}
"""Of a symbol, beside what can be learned of it; 0.6 of the others."""

WIDE, PHONE, SCREEN = (1600, 1000), (360, 800), (1240, 900)


def messages(count: int, last: int, seed: int) -> Iterator[list[Message]]:
    """Ticks of all streams, the last at the time `last`, ms: waves that can be learned, and noise that cannot."""
    noise = random.Random(seed)
    for back in range(count - 1, -1, -1):
        at = last - back * STEP
        tick = []
        for key, symbols in STREAMS.items():
            prices = {}
            for place, (symbol, level) in enumerate(symbols.items()):
                turn = 2 * math.pi * at / STEP / (14 + 5 * place)
                wave = math.sin(turn) + 0.4 * math.sin(2 * turn + place)
                prices[symbol] = round(level * (1 + 1e-3 * (wave + NOISE.get(symbol, 0.6) * noise.gauss(0, 0.3))), 4)
            body = json.dumps({"ts": format_time(at), "prices": prices}).encode()
            tick.append(Message(body, key))
        yield tick


class Scene:
    """A daemon and its feed."""

    def __init__(self, service: Service, feed: Feed) -> None:
        self.service = service
        self.feed = feed
        self.sent = 0

    async def send(self, count: int, last: int) -> None:
        """Send ticks, and wait for what becomes of them."""
        for number, tick in enumerate(messages(count, last, self.sent)):
            await self.feed.send(tick)
            self.sent += len(tick)
            if number % 50 == 49:
                await self.caught_up()
        await self.caught_up()

    async def caught_up(self) -> None:
        """All that was sent has its outcome."""

        async def done() -> bool:
            return (await self.service.metrics()).total("streamer_ticks_total") >= self.sent

        await until(done)

    async def live(self, last: int) -> None:
        """The ticks after `last`, one a second, until cancelled."""
        while True:
            last += STEP
            await self.send(1, last)
            await asyncio.sleep(1.0 - time.time() % 1.0)


def now() -> int:
    """The second that has just begun, ms."""
    return int(time.time()) * STEP


@contextlib.asynccontextmanager
async def scene(folder: Path, **sections: Any) -> AsyncIterator[Scene]:
    """A daemon on a broker in this process, ready."""
    topics = {role: f"shots-{role.replace('_', '-')}" for role in ("prices", "forecasts", "state", "dead_letters")}
    with embedded_broker(list(topics.values())) as address:
        kafka = {"topics": topics, "delivery": "at_least_once", "create_topics": False}
        service = Service(address, folder, topics["prices"], kafka=kafka, **sections)
        async with service:
            await service.ready()
            yield Scene(service, Feed(address, topics["prices"]))


VIEWS = {
    "wide": (WIDE, False),
    "wide-dark": (WIDE, True),
    "phone": (PHONE, False),
    "phone-dark": (PHONE, True),
    "screen": (SCREEN, False),
}
"""Size, and whether it is dark. `screen` is what a screen shows, for the README; the others are the whole page."""


async def opened(browser: Browser, url: str, view: str) -> Page:
    """The page as it is seen so."""
    (width, height), is_dark = VIEWS[view]
    page = await browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme="dark" if is_dark else "light",
        reduced_motion="reduce",
    )
    await page.goto(f"{url}/#stream=metals&symbol=SILVER&sort=best")
    await page.wait_for_selector("#tiles data")
    await page.wait_for_function("document.querySelectorAll('#rows tr').length > 0")
    return page


async def shoot(browser: Browser, url: str, folder: Path, state: str) -> None:
    """In all views."""
    for view in VIEWS:
        page = await opened(browser, url, view)
        await page.screenshot(path=folder / f"{state}-{view}.png", full_page=view != "screen")
        await page.close()


async def shoot_gone(browser: Browser, service: Service, folder: Path) -> None:
    """A page that is open when the daemon stops."""
    pages = [(view, await opened(browser, service.url, view)) for view in ("screen", "phone-dark")]
    await service.terminate()
    for view, page in pages:
        await page.wait_for_selector("body.offline")
        await page.screenshot(path=folder / f"gone-{view}.png")


async def take(folder: Path) -> None:
    """All screenshots, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    feed = {"step": "1s", "window": 100}
    network = {"layers": [{"units": 16}]}
    fit = {"steps": 400, "learning_rate": 0.01}
    async with chromium() as browser:
        with tempfile.TemporaryDirectory(prefix="streamer-shots-") as temporary:
            async with scene(Path(temporary), feed=feed, retrain={"first": 500}) as warming:
                await warming.send(70, now())
                await shoot(browser, warming.service.url, folder, "warming")
            retrain = {"first": 600, "every": 400, "history": 2000}
            async with scene(Path(temporary), feed=feed, retrain=retrain, network=network, fit=fit) as serving:
                end = now()
                await serving.send(600, end - 900 * STEP)
                await until(lambda: _served(serving.service))
                await serving.send(900, end)
                running = asyncio.create_task(serving.live(end))
                try:
                    await asyncio.sleep(8)
                    await shoot(browser, serving.service.url, folder, "serving")
                finally:
                    running.cancel()
                    await asyncio.gather(running, return_exceptions=True)
                await asyncio.sleep(15)  # longer than a feed may be silent
                await shoot(browser, serving.service.url, folder, "broken")
                await shoot_gone(browser, serving.service, folder)


async def _served(service: Service) -> bool:
    metrics = await service.metrics()
    return metrics.total("streamer_retrains_total") >= len(STREAMS) and len(
        metrics.each("streamer_model_trained_timestamp_seconds")
    ) == len(STREAMS)


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    asyncio.run(take(parser.parse_args().folder))


if __name__ == "__main__":
    main()
