"""What a long life costs the daemon, on a real Kafka: memory, open files, threads, child processes.

    scripts/bench leaks [--ticks N] [--trainings K] [--rate R] [--data CSV]

The ticks are fed to `streamer run` in K equal parts; after each, the training that it makes due is waited for, and the
swap, if its model is promoted. Fits are short, and of a small network, since a fit is another process.
`retrain.history` is one part, so that the history is full at the first look: what is more afterwards has no end to grow
to. (A row of history is 9 bytes and 8 for each symbol: the default of 20,000 rows of 7 symbols takes 2 MB at most. The
store keeps 8 models at hand, of 0.06 MB each here.)

Looked at whenever another tenth of the ticks is through, with no training under way:

- `anonymous_mb`: memory of its own (RssAnon); `resident_mb`: with pages of files that are mapped (VmRSS);
- `files`: open descriptors; `threads`; `children`: processes of which it is the parent.

The ratios are of the last look to the first; the slope is what 10,000 ticks add to `anonymous_mb`, by least squares
over the second half of the looks. Every offset's outcome is checked; a training that fails ends the run with an error.
"""

import argparse
import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from streamer.core.tick import Tick
from streamer.feeding import Publisher, Route
from tests.bench._parts import Figures, Prices, check_outcomes, default_service, make_input, running_broker
from tests.bench._result import Figure, Result
from tests.e2e.harness import Service
from tests.support import eventually

LOOKS = 10
FIT = {"steps": 60, "refit": False}
NETWORK = {"layers": [{"units": 8}], "embedding": 0, "members": 1}
GATE = {"tolerance": 0.02}  # most trainings are to end in a swap
MEASURED = ("anonymous_mb", "resident_mb", "files", "threads", "children")
OUTCOMES = ("promoted", "rejected", "failed", "skipped")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--ticks", type=int, default=100_000, metavar="N", help="ticks to feed (%(default)s)")
    parser.add_argument("--trainings", type=int, default=50, metavar="K", help="(%(default)s)")
    parser.add_argument("--rate", type=float, default=1_000.0, metavar="R", help="a second (%(default)s)")
    parser.add_argument("--data", type=Path, metavar="CSV", help="prices by the minute (real ones, or a random walk)")


def run(arguments: argparse.Namespace) -> Result:
    """Feed, train, look."""
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as name:
        prices = Prices.given_or_real(arguments.data, Path(name))
        ticks = list(prices.there_and_back(arguments.ticks))
        found = asyncio.run(measure(Path(name), ticks, arguments.trainings, arguments.rate))
    looks, figures = found["looks"], []
    for name in MEASURED:
        first = Figure.of(f"{name} at the first look", _unit(name), [looks[0][name]])
        figures += [first, Figure.of(f"{name} at the last", _unit(name), [looks[-1][name]], first)]
    if found["slope_mb"] is not None:
        figures.append(Figure.of("memory of 10,000 ticks more", "MB", [found["slope_mb"]]))
    return Result("leaks", tuple(figures), details=found)


def _unit(name: str) -> str:
    return "MB" if name.endswith("_mb") else ""


async def measure(folder: Path, ticks: list[Tick], trainings: int, rate: float) -> Figures:
    """Feed `ticks`, `rate` a second, with so many trainings; AssertionError where an outcome is wrong."""
    part, tenth = len(ticks) // trainings, len(ticks) // LOOKS
    retrain = {"first": part, "every": part, "drift": 0, "history": part}
    looks: list[Figures] = []
    with running_broker(folder) as bootstrap:
        service = await default_service(bootstrap, folder, retrain=retrain, network=NETWORK, fit=FIT, gate=GATE)
        await make_input(service)
        async with service, Publisher(bootstrap, Route(service.topic("prices")), timeout=60.0) as publisher:
            await service.ready()
            for fed in range(part, part * trainings + 1, part):
                await publisher.publish(ticks[fed - part : fed], rate, asyncio.Event())
                await _settled(service, fed, fed // part)
                if fed >= (len(looks) + 1) * tenth:
                    looks.append({"ticks": fed} | _look(service))
            outcomes = await _outcomes(service)
            assert await service.terminate() == 0
        await _check(service, ticks[: part * trainings])
    return {
        "ticks": part * trainings,
        "trainings": outcomes,
        "looks": looks,
        "slope_mb": _slope(looks[(len(looks) - 1) // 2 :]),
    }


async def _settled(service: Service, fed: int, trainings: int) -> None:
    """Wait for the outcomes of all that was fed, for the training that it made due, and for its swap."""
    await service.caught_up(fed)

    async def over() -> bool:
        counts = await _outcomes(service)
        assert not counts["failed"], service.events("training failed, serving goes on as it was")
        ended = counts["promoted"] + counts["rejected"] == trainings
        return ended and len(service.events("model serves")) == counts["promoted"]

    await eventually(over, timeout=600, interval=0.2)


async def _outcomes(service: Service) -> dict[str, int]:
    scrape = await service.metrics()
    return {outcome: int(scrape.total("streamer_retrains_total", outcome=outcome)) for outcome in OUTCOMES}


def _look(service: Service) -> dict[str, float]:
    """What the process holds now, by the names of `MEASURED`."""
    process = Path(f"/proc/{service.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    anonymous, resident = (round(int(status[name].split()[0]) * 1024 / 1e6, 2) for name in ("RssAnon", "VmRSS"))
    files, threads = len(list((process / "fd").iterdir())), int(status["Threads"])
    return dict(zip(MEASURED, (anonymous, resident, files, threads, len(service.children())), strict=True))


async def _check(service: Service, ticks: list[Tick]) -> None:
    published = await service.published()
    check_outcomes(published.values(), [datetime.fromtimestamp(tick.time / 1000, UTC) for tick in ticks], service)
    assert not published.dead_letters


def _slope(looks: list[Figures]) -> float | None:
    if len(looks) < 2:
        return None
    ticks, memory = ([look[name] for look in looks] for name in ("ticks", "anonymous_mb"))
    return round(1e4 * float(np.polyfit(ticks, memory, 1)[0]), 3)
