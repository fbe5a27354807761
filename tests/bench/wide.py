"""Wide vectors: from a tick of 2 to 2,000 symbols to its forecast, through the daemon, beside bare aiokafka.

    scripts/bench wide [--ticks N] [--rounds N] [--rate R] [--most N]

Exactly once, default settings, a model of the store for as many symbols; aiokafka alone passes the same ticks on, by
turns. From just before a tick is sent until a `read_committed` subscriber has the answer.
"""

import argparse
import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

from tests.bench import _models
from tests.bench._drive import (
    WARM,
    WINDOW,
    Answers,
    burst,
    caught_up,
    daemon,
    make_topic,
    messages,
    producing,
    rival,
    send,
)
from tests.bench._models import Profile
from tests.bench._parts import running_broker
from tests.bench._result import Curve, Figure, Plot, Result
from tests.e2e.feeding import START

SIZES = (2, 10, 50, 200, 1_000, 2_000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--ticks", type=int, default=50, metavar="N", help="in each round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="(%(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, metavar="R", help="ticks a second (%(default)s)")
    parser.add_argument("--most", type=int, default=SIZES[-1], metavar="N", help="symbols at most (%(default)s)")


def run(arguments: argparse.Namespace) -> Result:
    """All widths, one after the other."""
    sizes = [size for size in SIZES if size <= arguments.most]
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as name:
        found = asyncio.run(measure(Path(name), sizes, arguments))
    figures = []
    for size, (ours, theirs) in zip(sizes, found, strict=True):
        bare = Figure.of(f"bare aiokafka, {size:,} symbols", "ms", theirs)
        figures += [bare, Figure.of(f"streamer, {size:,} symbols", "ms", ours, bare)]
    curves = tuple(
        Curve(who, tuple(map(float, sizes)), tuple(figure.value for figure in figures[first::2]))
        for who, first in (("streamer", 1), ("bare aiokafka", 0))
    )
    return Result("wide", tuple(figures), (Plot("Tick to forecast", "symbols", "milliseconds", curves),))


Medians = tuple[list[float], list[float]]
"""Milliseconds of each round: ours and theirs."""


async def measure(folder: Path, sizes: list[int], arguments: argparse.Namespace) -> list[Medians]:
    """Medians by width."""
    profile = Profile.of("default")
    (network,) = _models.exported([(profile, sizes[0])])  # one network for any number of symbols
    with running_broker(folder) as bootstrap:
        return [await _width(bootstrap, folder, profile, network, size, arguments) for size in sizes]


async def _width(
    bootstrap: str, folder: Path, profile: Profile, network: bytes, size: int, arguments: argparse.Namespace
) -> Medians:
    topic, source, target = [await make_topic(bootstrap, role) for role in ("prices", "prices", "rival")]
    model = _models.artifact(profile, size, network)
    schedule = _models.store(folder / f"models-{size}", {f"{topic}-0": model}, START, WINDOW)
    await send(bootstrap, topic, messages(size, WARM))
    found: Medians = ([], [])
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(await daemon(bootstrap, folder, topic, schedule))
        stack.enter_context(rival("-m", "tests.bench._bare", bootstrap, source, target, "exactly_once"))
        producer = await stack.enter_async_context(producing(bootstrap))
        await service.ready()
        await caught_up(bootstrap, service.settings["kafka"]["group_id"], WARM)
        answers = [
            await stack.enter_async_context(Answers.of(bootstrap, name))
            for name in (service.topic("forecasts"), target)
        ]
        await burst(producer, source, messages(size, 1), answers[1], arguments.rate)  # while it starts
        for number in range(arguments.rounds):
            work = messages(size, arguments.ticks, WARM + number * arguments.ticks)
            for medians, name, seen in zip(found, (topic, source), answers, strict=True):
                medians.append(1e3 * median(await burst(producer, name, work, seen, arguments.rate)))
    return found
