"""SIGKILL in the middle of a feed, on a real Kafka: nothing is lost or repeated, and the run can be repeated.

    scripts/bench recovery [--ticks N] [--rate R] [--kills K] [--data CSV]

`streamer feed` sends the ticks to `streamer run`, default settings but for `retrain`. When a third of them is
through and the last training has ended, the rest follows, in which the daemon is killed K times at even distances and
started again at once. Then an undisturbed daemon is given the same topic, and the swaps that the first one recorded in
place of trainings. The run ends with an error unless every offset has exactly one forecast, in order, both daemons have
published the same bytes for each, and a network has made some of them.

`silent`: seconds without a forecast around each kill, as a `read_committed` subscriber sees them; start-up, restore and
the rejoining of the group are in it.
"""

import argparse
import asyncio
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

from tests.bench._latency import Watch
from tests.bench._parts import Figures, Prices, check_outcomes, default_service, feed, make_input, running_broker
from tests.bench._result import Figure, Result
from tests.e2e.feeding import Published
from tests.e2e.harness import Service
from tests.support import eventually

RETRAIN = {"first": 6_000, "every": 2_000}  # on fewer of the real prices a network is commonly rejected
KAFKA = {"instance_id": "bench", "start": "earliest"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--ticks", type=int, default=30_000, metavar="N", help="ticks to feed (%(default)s)")
    parser.add_argument("--rate", type=float, default=500.0, metavar="R", help="a second (%(default)s)")
    parser.add_argument("--kills", type=int, default=3, metavar="K", help="(%(default)s)")
    parser.add_argument("--data", type=Path, metavar="CSV", help="prices by the minute (real ones, or a random walk)")


def run(arguments: argparse.Namespace) -> Result:
    """Feed, kill, repeat."""
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as name:
        prices = Prices.given_or_real(arguments.data, Path(name))
        found = asyncio.run(measure(Path(name), prices, arguments.ticks, arguments.rate, arguments.kills))
    figures = (Figure.of("silent around a kill", "s", found["silent"]),)
    return Result("recovery", figures, details=found)


async def measure(folder: Path, prices: Prices, ticks: int, rate: float, kills: int) -> Figures:
    """Feed, kill, and repeat; AssertionError where an outcome is wrong or the two runs differ."""
    calm = ticks // 3
    with running_broker(folder) as bootstrap:
        service = await default_service(bootstrap, folder, kafka=KAFKA, retrain=RETRAIN)
        await make_input(service)
        watch = Watch(service)
        async with service:
            await service.ready()
            async with watch.watching():
                await feed(service, prices.part(folder / "calm.csv", 0, calm), rate)
                await watch.over(calm)
                feeding = asyncio.create_task(feed(service, prices.part(folder / "rest.csv", calm, ticks), rate))
                distance = (ticks - calm) // (kills + 1)
                silent = [await _kill(watch, calm + distance * number) for number in range(1, kills + 1)]
                await feeding
                await watch.over(ticks)
            assert await service.terminate() == 0
        disturbed = await service.published()
        check_outcomes(disturbed.values(), prices.part(folder / "all.csv", 0, ticks).times(), service)
        assert not disturbed.dead_letters
        await _repeat(service, disturbed, folder)
    return {
        "forecasts": Counter(value["model"] for value in disturbed.values()),
        "kills": kills,
        "silent": [round(seconds, 2) for seconds in silent],
        "swaps": service.swaps(f"{service.topic('prices')}-0"),
    }


async def _kill(watch: Watch, forecasts: int) -> float:
    """SIGKILL once so many forecasts are seen, start again; seconds from the last of before to the first of after."""
    await eventually(lambda: len(watch.forecasts) >= forecasts, timeout=600)
    await watch.service.kill()
    watch.service.start()
    await watch.service.ready()
    killed = len(watch.forecasts)
    await eventually(lambda: len(watch.forecasts) > killed + 1, timeout=60)
    return max(after - before for (before, _), (after, _) in pairwise(watch.forecasts[forecasts - 1 :]))


async def _repeat(disturbed: Service, published: Published, folder: Path) -> None:
    """The same topic through an undisturbed daemon, its swaps given: each forecast must have the same bytes."""
    service = await default_service(disturbed.bootstrap, folder, kafka={"start": "earliest"}, retrain=RETRAIN)
    service.settings["kafka"]["topics"]["prices"] = disturbed.topic("prices")
    service.arguments = ["--schedule", disturbed.settings["models"]["url"]]
    async with service:
        await service.caught_up(len(published.forecasts))
        scrape = await service.metrics()
        assert await service.terminate() == 0
    assert scrape.total("streamer_retrains_total") == 0
    assert (await service.published()).forecast_values() == published.forecast_values()
    assert len(published.models()) > 1, "no model was promoted in time, so that its restoring was not seen"
