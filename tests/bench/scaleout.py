"""More instances in the group: throughput, fairness, failover, with 1, 2 and 4 of them on one broker.

    scripts/bench scaleout [--ticks N] [--rounds N] [--session-timeout S]

12 partitions with a stream of 10 symbols each, default settings and a model of the store for each. Once the instances
share the partitions they get a backlog:

- ticks a second of the whole group, beside one instance. All of it, broker and sender too, shares this machine's
  processors: on few of them more instances cannot be faster;
- fairness: ticks of the instance that had the fewest, beside the mean of all;
- failover: seconds from SIGKILL of one instance until each partition has answered a tick that was sent just then. The
  session timeout is in it.
"""

import argparse
import asyncio
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from tests.bench import _models
from tests.bench._drive import (
    WARM,
    WINDOW,
    Answers,
    caught_up,
    daemon,
    make_topic,
    messages,
    producing,
    send,
    volley,
    worked_off,
)
from tests.bench._models import Profile
from tests.bench._parts import running_broker
from tests.bench._result import Figure, Result
from tests.e2e.feeding import START
from tests.e2e.harness import Service
from tests.support import eventually

PARTITIONS, SYMBOLS = 12, 10
INSTANCES = (1, 2, 4)
KEYS = tuple(b"k%d" % number for number in range(PARTITIONS))


@dataclass(frozen=True, slots=True)
class Seen:
    """Ticks a second, ticks of each instance, seconds of a failover (of one instance there is none)."""

    rate: float
    shares: list[float]
    failover: float | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--ticks", type=int, default=24_000, metavar="N", help="of a backlog (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="(%(default)s)")
    parser.add_argument("--session-timeout", type=float, default=6.0, metavar="S", help="seconds (%(default)s)")


def run(arguments: argparse.Namespace) -> Result:
    """All numbers of instances by turns."""
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as name:
        found = asyncio.run(measure(Path(name), arguments.ticks, arguments.rounds, arguments.session_timeout))
    one = Figure.of("1 instance", "ticks/s", [seen.rate for seen in found[1]])
    figures = [one]
    for count in INSTANCES[1:]:
        own = found[count]
        average = Figure.of(f"ticks of {count} instances, mean", "ticks", [mean(seen.shares) for seen in own])
        fewest = [min(seen.shares) for seen in own]
        failovers = [seen.failover for seen in own if seen.failover is not None]
        figures += [
            Figure.of(f"{count} instances", "ticks/s", [seen.rate for seen in own], one),
            average,
            Figure.of(f"ticks of {count} instances, fewest", "ticks", fewest, average),
            Figure.of(f"failover, {count} instances", "s", failovers),
        ]
    return Result("scaleout", tuple(figures), details={"session_timeout": arguments.session_timeout})


async def measure(folder: Path, ticks: int, rounds: int, timeout: float) -> dict[int, list[Seen]]:
    """What was seen by the number of instances, for each round."""
    profile = Profile.of("default")
    (network,) = _models.exported([(profile, SYMBOLS)])
    names = [key.decode() for key in KEYS]
    model = _models.artifact(profile, SYMBOLS, network)
    schedule = _models.store(folder / "models", dict.fromkeys(names, model), START, WINDOW)
    found: dict[int, list[Seen]] = {count: [] for count in INSTANCES}
    with running_broker(folder) as bootstrap:
        for _ in range(rounds):
            for count in INSTANCES:
                found[count].append(await _shared(bootstrap, folder, schedule, count, ticks, timeout))
    return found


async def _shared(bootstrap: str, folder: Path, schedule: str, count: int, ticks: int, timeout: float) -> Seen:
    topic = await make_topic(bootstrap, "prices", PARTITIONS)
    kafka = {"session_timeout": timeout, "transaction_timeout": timeout / 2}
    first = await daemon(bootstrap, folder, topic, schedule, kafka=kafka)
    services = [first, *(first.sibling() for _ in range(count - 1))]
    group, rows = first.settings["kafka"]["group_id"], ticks // PARTITIONS
    async with AsyncExitStack() as stack:
        for service in services:
            await (await stack.enter_async_context(service)).ready()
        await eventually(lambda: _is_shared(services), timeout=60)
        await send(bootstrap, topic, messages(SYMBOLS, WARM, 0, KEYS, PARTITIONS))
        await caught_up(bootstrap, group, WARM * PARTITIONS)
        pids = [service.pid for service in services]
        work = messages(SYMBOLS, rows, WARM, KEYS, PARTITIONS)
        sending = asyncio.create_task(send(bootstrap, topic, work))
        rate = await worked_off(bootstrap, group, len(work), pids, WARM * PARTITIONS)
        await sending
        shares = [(await service.metrics()).total("streamer_ticks_total") for service in services]
        failover = None if count == 1 else await _failover(bootstrap, services, WARM + rows)
    return Seen(rate.per_second, shares, failover)


async def _failover(bootstrap: str, services: list[Service], row: int) -> float:
    topic, forecasts = services[0].topic("prices"), services[0].topic("forecasts")
    async with producing(bootstrap) as producer, Answers.of(bootstrap, forecasts, PARTITIONS) as answers:
        await services[-1].kill()
        return await volley(producer, topic, messages(SYMBOLS, 1, row, KEYS, PARTITIONS), answers)


def _is_shared(services: list[Service]) -> bool:
    """Whether each has its part of the partitions."""
    found = [service.events("partitions assigned") for service in services]
    return all(own and len(own[-1]["partitions"]) == PARTITIONS // len(services) for own in found)
